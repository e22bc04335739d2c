// SPDX-License-Identifier: Apache-2.0
//! How does an answer's body get from the upstream to the client? Both ends at once, in constant memory.

use super::spool::Spool;
use crate::exchange::{Attempt, ExchangeRef, Fired};
use crate::fault::{Fault, FaultKind};
use crate::gateway::Gateway;
use crate::http::body::{Decoder, Step, write_chunk_line};
use crate::http::wire::{Ended, READ_BYTES};
use crate::listener::connection::ClientConnection;
use crate::observe::authors;
use crate::phases::{Phase, PluginFailure, corridor};
use crate::response::ClientFraming;
use crate::snapshot::PluginInstance;
use crate::upstream::UpstreamConnection;
use pylae_shared::tcp;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Bytes that may wait in memory for the client before they go to a file (or the upstream waits).
const MEMORY_BYTES: usize = 64 * 1024;

/// What the relay is to do.
pub struct Plan {
    /// Framing towards the client.
    pub framing: ClientFraming,
    /// May the upstream run ahead of a slow client?
    pub is_buffered: bool,
    /// Longest silence of the upstream.
    pub read_timeout: Duration,
    /// Longest time without the client taking a byte.
    pub send_timeout: Duration,
    /// Plugins with a `body_filter`, in order.
    pub filters: Vec<Arc<PluginInstance>>,
}

/// How the relay ended.
#[derive(Debug)]
pub enum End {
    /// All is with the client; the upstream connection is clean when its framing said where the body ends.
    Whole,
    /// The body broke off; what came before it is with the client, unless the whole answer was withheld.
    Broken(Fault),
    /// The client went away.
    Gone,
}

/// Bytes on their way to the client and what is still to come.
pub struct Relay<'a> {
    gateway: &'a Rc<Gateway>,
    exchange: &'a ExchangeRef,
    plan: Plan,
    decoder: Decoder,
    out: Vec<u8>,
    out_start: usize,
    spool: Option<Spool>,
    /// What the disk did not take; it follows what the file holds.
    overflow: Vec<u8>,
    is_over: bool,
    broken: Option<Fault>,
    has_sent: bool,
    is_spool_refused: bool,
    /// Who wrote the answer is told by its body.
    wants_author: bool,
}

impl<'a> Relay<'a> {
    /// A relay of a body decoded by `decoder`; `head` is the client's head, sent together with the first bytes.
    pub fn new(gateway: &'a Rc<Gateway>, exchange: &'a ExchangeRef, plan: Plan, decoder: Decoder, head: Vec<u8>) -> Self {
        let wants_author = authors::is_body_wanted(&exchange.borrow());
        Relay {
            gateway,
            exchange,
            plan,
            decoder,
            out: head,
            out_start: 0,
            spool: None,
            overflow: Vec::new(),
            is_over: false,
            broken: None,
            has_sent: false,
            is_spool_refused: false,
            wants_author,
        }
    }

    /// Runs to the end. Answers how it ended and how many bytes the client's socket took.
    pub async fn run(mut self, client: &mut ClientConnection, mut upstream: Option<&mut UpstreamConnection>, whole: Option<&[u8]>) -> End {
        if let Some(body) = whole
            && let Err(fault) = self.take_in(body, true)
        {
            self.broken = Some(fault);
            self.is_over = true;
        }
        if upstream.is_none() {
            self.is_over = true;
        }
        if let Some(upstream) = upstream.as_deref_mut() {
            upstream.wire.arm(self.plan.read_timeout);
        }
        client.wire.arm(self.plan.send_timeout);
        let end = std::future::poll_fn(|cx| self.poll(cx, client, upstream.as_deref_mut())).await;
        crate::http::wire::give_buffer(std::mem::take(&mut self.out));
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>, client: &mut ClientConnection, mut upstream: Option<&mut UpstreamConnection>) -> Poll<End> {
        loop {
            let mut moved = false;
            let had_output = !self.out.is_empty();
            let mut wants_upstream = false;
            if let Some(upstream) = upstream.as_deref_mut().filter(|_| !self.is_over && self.has_room()) {
                match self.poll_upstream(cx, upstream) {
                    Poll::Ready(Ok(())) => moved = true,
                    Poll::Ready(Err(fault)) => {
                        if !self.has_sent && fault.kind == FaultKind::BadResponseBody {
                            // Nothing was sent, and what there is makes no sense: nginx closes without a word, so do we.
                            return Poll::Ready(End::Broken(fault));
                        }
                        self.broken = Some(fault);
                        self.is_over = true;
                        moved = true;
                    }
                    Poll::Pending => wants_upstream = true,
                }
            }
            // More may lie in the buffer: one write for head and body is better than two.
            if moved
                && self.out.len() - self.out_start < READ_BYTES
                && upstream.as_deref().is_some_and(|u| !u.wire.buffered().is_empty())
                && !self.is_over
            {
                continue;
            }
            if !had_output && !self.out.is_empty() {
                // The client owes nothing before there is something to take.
                client.wire.arm(self.plan.send_timeout);
            }
            if self.out_start < self.out.len() {
                match client.wire.poll_write(cx, &self.out[self.out_start..]) {
                    Poll::Ready(Ok(count)) => {
                        self.has_sent = true;
                        self.out_start += count;
                        if self.out_start == self.out.len() {
                            self.out.clear();
                            self.out_start = 0;
                        }
                        client.wire.arm(self.plan.send_timeout);
                        moved = true;
                    }
                    Poll::Ready(Err(_)) => {
                        client.note_gone();
                        return Poll::Ready(End::Gone);
                    }
                    Poll::Pending => {}
                }
            }
            if self.out.is_empty()
                && let Some(spool) = self.spool.as_mut().filter(|spool| !spool.is_empty())
            {
                if spool.pull(&mut self.out, MEMORY_BYTES).is_err() {
                    return Poll::Ready(End::Broken(Fault::new(FaultKind::SpoolFailed, "the spooled answer could not be read back")));
                }
                moved = true;
            }
            if self.out.is_empty() && !self.overflow.is_empty() && self.is_spool_empty() {
                std::mem::swap(&mut self.out, &mut self.overflow);
                moved = true;
            }
            if self.is_over && self.out.is_empty() {
                match client.wire.poll_flush(cx) {
                    Poll::Ready(Ok(())) => {
                        return Poll::Ready(match self.broken.take() {
                            None => End::Whole,
                            Some(fault) => End::Broken(fault),
                        });
                    }
                    Poll::Ready(Err(_)) => {
                        client.note_gone();
                        return Poll::Ready(End::Gone);
                    }
                    Poll::Pending => {}
                }
            }
            if moved {
                continue;
            }
            if wants_upstream {
                if let Some(upstream) = upstream.as_deref_mut()
                    && upstream.wire.poll_timeout::<()>(cx).is_ready()
                {
                    let ms = self.plan.read_timeout.as_millis();
                    let fired = Fired { name: "read_timeout", length: self.plan.read_timeout };
                    let unacknowledged = tcp::unacknowledged(upstream.wire.socket());
                    self.note_attempt(|attempt| (attempt.timer, attempt.unacknowledged) = (Some(fired), unacknowledged));
                    self.broken = Some(Fault::new(FaultKind::ReadTimeoutInBody, format!("no byte of the body for {ms} ms")));
                    self.is_over = true;
                    continue;
                }
                if self.out.is_empty() {
                    // The client owes nothing while we wait for the upstream: push out what TLS holds, watch for its leaving.
                    if let Poll::Ready(Err(_)) = client.wire.poll_flush(cx) {
                        client.note_gone();
                        return Poll::Ready(End::Gone);
                    }
                    if client.poll_departed(cx).is_ready() {
                        return Poll::Ready(End::Gone);
                    }
                    return Poll::Pending;
                }
            }
            if client.wire.poll_timeout::<()>(cx).is_ready() {
                client.note_gone();
                return Poll::Ready(End::Gone);
            }
            return Poll::Pending;
        }
    }

    fn is_spool_empty(&self) -> bool {
        self.spool.as_ref().is_none_or(Spool::is_empty)
    }

    fn has_room(&self) -> bool {
        let waiting = self.out.len() - self.out_start;
        if waiting < MEMORY_BYTES && self.is_spool_empty() && self.overflow.is_empty() {
            return true;
        }
        self.plan.is_buffered && !self.is_spool_refused && self.spool.as_ref().is_none_or(Spool::has_room)
    }

    /// One step with the upstream: decode what is there, or read more.
    fn poll_upstream(&mut self, cx: &mut Context<'_>, upstream: &mut UpstreamConnection) -> Poll<Result<(), Fault>> {
        let step = self.decoder.step(upstream.wire.buffered()).map_err(|bad| Fault::new(FaultKind::BadResponseBody, bad.0));
        match step {
            Err(fault) => Poll::Ready(Err(fault)),
            Ok(Step::End { skip }) => {
                upstream.wire.consume(skip);
                self.show_author(&[], true);
                upstream.quiet_since = Some(Instant::now());
                // The client may take its time: the upstream is done.
                upstream.place = None;
                self.is_over = true;
                Poll::Ready(self.take_in(&[], true))
            }
            Ok(Step::Data { skip, data }) => {
                self.show_author(&upstream.wire.buffered()[skip..skip + data], false);
                let may_swap = skip == 0
                    && self.out.is_empty()
                    && self.plan.filters.is_empty()
                    && matches!(self.plan.framing, ClientFraming::Length(_) | ClientFraming::UntilClose)
                    && data == upstream.wire.buffered().len()
                    && self.is_spool_empty()
                    && self.overflow.is_empty();
                if may_swap && upstream.wire.swap_buffer(&mut self.out, u64::MAX) {
                    self.out_start = 0;
                } else {
                    let outcome = self.take_in(&upstream.wire.buffered()[skip..skip + data], false);
                    upstream.wire.consume(skip + data);
                    outcome?;
                }
                if self.decoder.is_done() {
                    self.show_author(&[], true);
                    upstream.quiet_since = Some(Instant::now());
                    upstream.place = None;
                    self.is_over = true;
                    self.take_in(&[], true)?;
                }
                Poll::Ready(Ok(()))
            }
            Ok(Step::More { skip }) => {
                upstream.wire.consume(skip);
                let filled = upstream.wire.poll_fill(cx, READ_BYTES);
                if upstream.wire.ended().is_some() {
                    upstream.place = None;
                }
                match filled {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Ok(0)) if self.decoder.ends_at_close() => {
                        self.show_author(&[], true);
                        self.is_over = true;
                        Poll::Ready(self.take_in(&[], true))
                    }
                    Poll::Ready(Ok(0)) => Poll::Ready(Err(Fault::new(
                        FaultKind::ClosedInBody,
                        match self.decoder.remaining() {
                            Some(left) => format!("closed with {left} bytes of the body missing"),
                            None => "closed before the last chunk".to_owned(),
                        },
                    ))),
                    Poll::Ready(Ok(_)) => {
                        upstream.wire.arm(self.plan.read_timeout);
                        Poll::Ready(Ok(()))
                    }
                    Poll::Ready(Err(error)) => {
                        if let Some(alert) = upstream.wire.alert() {
                            self.note_attempt(|attempt| attempt.alert = Some(format!("received: {}", alert.name())));
                        }
                        Poll::Ready(Err(broken_off(&error, upstream.wire.ended())))
                    }
                }
            }
        }
    }

    /// Lets the beginning of the body tell who wrote it, where that is asked.
    fn show_author(&mut self, piece: &[u8], is_last: bool) {
        if self.wants_author {
            self.wants_author = authors::body_came(&mut self.exchange.borrow_mut(), piece, is_last);
        }
    }

    /// The last attempt is told how it ended.
    fn note_attempt(&self, note: impl FnOnce(&mut Attempt)) {
        if let Some(attempt) = self.exchange.borrow_mut().attempts.last_mut() {
            note(attempt);
        }
    }

    /// Filters and frames a piece of the body.
    fn take_in(&mut self, piece: &[u8], is_last: bool) -> Result<(), Fault> {
        if self.plan.filters.is_empty() {
            self.frame(piece, is_last);
            return Ok(());
        }
        let mut current = std::borrow::Cow::Borrowed(piece);
        self.exchange.borrow_mut().phase = Phase::BodyFilter;
        for filter in &self.plan.filters {
            match corridor::filter_body(self.gateway, filter, self.exchange, &current, is_last) {
                Ok(None) => {}
                Ok(Some(changed)) => current = std::borrow::Cow::Owned(changed),
                Err(failure) => return Err(filter_fault(&failure)),
            }
        }
        let piece = current.into_owned();
        self.frame(&piece, is_last);
        Ok(())
    }

    fn frame(&mut self, piece: &[u8], is_last: bool) {
        let is_chunked = matches!(self.plan.framing, ClientFraming::Chunked);
        if matches!(self.plan.framing, ClientFraming::None | ClientFraming::Stated(_)) || (piece.is_empty() && !(is_last && is_chunked)) {
            return;
        }
        if !self.overflow.is_empty() {
            write_framed(&mut self.overflow, piece, is_chunked, is_last);
            return;
        }
        let to_file = self.plan.is_buffered
            && !self.is_spool_refused
            && (self.spool.as_ref().is_some_and(|s| !s.is_empty()) || self.out.len() - self.out_start >= MEMORY_BYTES);
        if !to_file {
            write_framed(&mut self.out, piece, is_chunked, is_last);
            return;
        }
        let mut framed = Vec::with_capacity(piece.len() + 32);
        write_framed(&mut framed, piece, is_chunked, is_last);
        if self.spool.is_none() {
            self.spool = Spool::new(&self.gateway.settings.prefix).ok();
        }
        let kept = self.spool.as_mut().is_some_and(|spool| spool.push(&framed).is_ok());
        if !kept {
            // The disk is full: what is in the file goes first, this piece follows it, and from now on the upstream waits.
            self.is_spool_refused = true;
            self.overflow = framed;
        }
    }
}

fn write_framed(out: &mut Vec<u8>, piece: &[u8], is_chunked: bool, is_last: bool) {
    if !is_chunked {
        out.extend_from_slice(piece);
        return;
    }
    if !piece.is_empty() {
        write_chunk_line(out, piece.len());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    if is_last {
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

/// A filter's failure as a fault of the exchange.
pub fn filter_fault(failure: &PluginFailure) -> Fault {
    let text = format!("plugin {} failed in {}: {}", failure.plugin, failure.phase.name(), failure.detail);
    Fault::with_phrase(FaultKind::FilterFailed, text.clone(), text)
}

fn broken_off(error: &io::Error, ended: Option<Ended>) -> Fault {
    if ended == Some(Ended::Reset) {
        return FaultKind::ResetInBody.into();
    }
    let text = crate::upstream::errno_text(error);
    Fault::with_phrase(FaultKind::ResetInBody, text.clone(), format!("recv() failed ({text})"))
}
