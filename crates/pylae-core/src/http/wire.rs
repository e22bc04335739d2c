// SPDX-License-Identifier: Apache-2.0
//! What passed over a socket, and how did it end? Every socket, client's and upstream's, is wrapped here once.

use crate::upstream::alert::Alert;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Bytes asked of a socket in one read.
pub const READ_BYTES: usize = 16 * 1024;
/// Bytes kept as evidence of what spoke.
const FIRST_BYTES: usize = 64;

/// Plain TCP, or TLS on it.
pub enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<tokio_rustls::TlsStream<TcpStream>>),
}

impl Stream {
    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// A socket with its read buffer and what is known of it.
pub struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    /// Bytes read, after TLS.
    pub received_bytes: u64,
    /// Bytes written, before TLS.
    pub sent_bytes: u64,
    first: Vec<u8>,
    wants_first: bool,
    ended: Option<Ended>,
    /// Writing met a reset, of which reading tells nothing any more.
    was_reset: bool,
    /// The TLS alert that ended it.
    alert: Option<Alert>,
    deadline: Deadline,
}

/// How the peer ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// An orderly end (FIN).
    Fin,
    /// A reset (RST).
    Reset,
    /// Another error of the socket or of TLS.
    Error,
}

impl Ended {
    /// As records spell it.
    pub fn name(self) -> &'static str {
        match self {
            Ended::Fin => "fin",
            Ended::Reset => "rst",
            Ended::Error => "failed",
        }
    }
}

thread_local! {
    static BUFFERS: std::cell::RefCell<Vec<Vec<u8>>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// A buffer for reading, from those that idle connections gave back.
pub fn take_buffer() -> Vec<u8> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(READ_BYTES))
}

/// Gives a buffer back; large ones are freed.
pub fn give_buffer(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > 4 * READ_BYTES {
        return;
    }
    buffer.clear();
    BUFFERS.with_borrow_mut(|pool| {
        if pool.len() < 64 {
            pool.push(buffer);
        }
    });
}

impl Wire {
    /// Wraps a client's socket.
    pub fn new(stream: Stream) -> Self {
        Wire {
            stream,
            buffer: Vec::new(),
            start: 0,
            received_bytes: 0,
            sent_bytes: 0,
            first: Vec::new(),
            wants_first: false,
            ended: None,
            was_reset: false,
            alert: None,
            deadline: Deadline::new(),
        }
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// Begins a new account of first bytes (an upstream's, for each attempt).
    pub fn watch_first_bytes(&mut self) {
        self.first.clear();
        self.wants_first = true;
    }

    /// The first bytes that came since [`Wire::watch_first_bytes`], at most 64.
    pub fn first_bytes(&self) -> &[u8] {
        if self.wants_first && self.first.is_empty() { &self.buffered()[..self.buffered().len().min(FIRST_BYTES)] } else { &self.first }
    }

    /// How the peer ended, if it did.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// The TLS alert by which the peer ended it.
    pub fn alert(&self) -> Option<Alert> {
        self.alert
    }

    /// Bytes read and not yet consumed.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Drops `count` bytes from the front of the buffer.
    pub fn consume(&mut self, count: usize) {
        if self.wants_first && self.first.is_empty() && count > 0 {
            let take = count.min(FIRST_BYTES);
            self.first.extend_from_slice(&self.buffer[self.start..self.start + take]);
        }
        self.start += count;
        if self.start >= self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
    }

    /// Swaps the whole buffer for `out` when it holds nothing but the next `limit` bytes: a body passes without a copy.
    pub fn swap_buffer(&mut self, out: &mut Vec<u8>, limit: u64) -> bool {
        if self.start != 0 || !out.is_empty() || self.buffer.is_empty() || self.buffer.len() as u64 > limit {
            return false;
        }
        if self.wants_first && self.first.is_empty() {
            let take = self.buffer.len().min(FIRST_BYTES);
            self.first.extend_from_slice(&self.buffer[..take]);
        }
        std::mem::swap(&mut self.buffer, out);
        true
    }

    /// Gives the read buffer back while nothing is in it.
    pub fn rest(&mut self) {
        if self.buffer.is_empty() {
            give_buffer(std::mem::take(&mut self.buffer));
        }
    }

    /// Reads once, at most `most` bytes more; 0 bytes is the peer's orderly end.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        if let Some(ended) = self.ended {
            return Poll::Ready(if ended == Ended::Fin { Ok(0) } else { Err(io::ErrorKind::ConnectionReset.into()) });
        }
        if self.buffer.capacity() == 0 {
            self.buffer = take_buffer();
        }
        if self.start > 0 && self.buffer.len() == self.buffer.capacity() {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        if self.buffer.len() == self.buffer.capacity() {
            self.buffer.reserve(most.max(READ_BYTES));
        }
        let buffer = &mut self.buffer;
        let outcome = match &mut self.stream {
            Stream::Plain(stream) => ready!(pin!(stream.read_buf(buffer)).poll(cx)),
            Stream::Tls(stream) => ready!(pin!(stream.read_buf(buffer)).poll(cx)),
        };
        match outcome {
            Ok(0) => self.ended = Some(self.end_of_reading()),
            Ok(count) => self.received_bytes += count as u64,
            // A TLS peer that closes TCP without close_notify: the socket ended in order, whatever TLS makes of it.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.ended = Some(self.end_of_reading());
                return Poll::Ready(Ok(0));
            }
            Err(error) => {
                self.alert = Alert::in_error(&error);
                self.ended = Some(if is_reset(&error) { Ended::Reset } else { Ended::Error });
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(outcome)
    }

    /// How it ended, when there is nothing more to read: the kernel tells of a reset once, and may have told who wrote.
    fn end_of_reading(&self) -> Ended {
        if self.was_reset { Ended::Reset } else { Ended::Fin }
    }

    /// Reads once, or fails with `TimedOut` after `patience`.
    pub async fn fill(&mut self, patience: Duration) -> io::Result<usize> {
        self.arm(patience);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(outcome) = self.poll_fill(cx, READ_BYTES) {
                return Poll::Ready(outcome);
            }
            self.poll_timeout(cx)
        })
        .await
    }

    /// From now on [`Wire::poll_timeout`] is ready after `patience`.
    pub fn arm(&mut self, patience: Duration) {
        self.deadline.arm(patience);
    }

    /// The same, where the time is known.
    pub fn arm_at(&mut self, now: Instant, patience: Duration) {
        self.deadline.arm_at(now, patience);
    }

    /// Ready with `TimedOut` once the time armed is over.
    pub fn poll_timeout<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.deadline.poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Writes once.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = match &mut self.stream {
            Stream::Plain(stream) => ready!(Pin::new(stream).poll_write(cx, bytes)),
            Stream::Tls(stream) => ready!(Pin::new(stream).poll_write(cx, bytes)),
        };
        match &outcome {
            Ok(count) => self.sent_bytes += *count as u64,
            Err(error) => self.was_reset |= error.kind() == io::ErrorKind::ConnectionReset,
        }
        Poll::Ready(outcome)
    }

    /// Pushes what TLS holds back to the socket; plain sockets hold nothing.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Writes all, or fails with `TimedOut` when nothing moves for `patience`.
    pub async fn write_all(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            self.arm(patience);
            written += std::future::poll_fn(|cx| match self.poll_write(cx, &bytes[written..]) {
                Poll::Pending => self.poll_timeout(cx),
                ready @ Poll::Ready(_) => ready,
            })
            .await?;
        }
        std::future::poll_fn(|cx| match self.poll_flush(cx) {
            Poll::Pending => self.poll_timeout(cx),
            ready @ Poll::Ready(_) => ready,
        })
        .await
    }

    /// Ends our side in order.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.shutdown().await,
            Stream::Tls(stream) => stream.shutdown().await,
        }
    }

    /// Has the peer gone (or sent what nobody asked for) while the connection lay idle? Without news from the reactor it
    /// costs no system call.
    pub fn is_stale(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        if self.ended.is_some() || !self.buffered().is_empty() {
            return true;
        }
        // TLS may hold the peer's end already (a close_notify beside the last bytes), of which the socket has no news.
        if matches!(self.stream, Stream::Plain(_)) && self.stream.socket().poll_read_ready(&mut cx).is_pending() {
            return false;
        }
        // Readable: the end, unasked bytes, or (TLS) a session ticket, which reading swallows.
        let stale = self.poll_fill(&mut cx, READ_BYTES).is_ready();
        self.rest();
        stale
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        give_buffer(std::mem::take(&mut self.buffer));
    }
}

/// Of what came first, what may be kept as evidence: of an HTTP answer its status line alone, as fields are not for records.
pub fn telling_bytes(first: &[u8]) -> &[u8] {
    let begin = first.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
    let is_answer =
        [&b"http/"[..], b"icy "].iter().any(|name| first[begin..].get(..name.len()).is_some_and(|b| b.eq_ignore_ascii_case(name)));
    let end = if is_answer { memchr::memchr(b'\n', &first[begin..]).map(|end| begin + end + 1) } else { None };
    &first[..end.unwrap_or(first.len()).min(FIRST_BYTES)]
}

/// Did the peer reset the connection?
pub fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted)
}

/// A deadline that costs a timer only when it is waited for longer than once a minute: the timer stays armed and is put
/// off when it fires early.
pub struct Deadline {
    due: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Default for Deadline {
    fn default() -> Self {
        Self::new()
    }
}

impl Deadline {
    /// No deadline yet.
    pub const fn new() -> Self {
        Deadline { due: None, sleep: None }
    }

    /// Due `patience` from now.
    pub fn arm(&mut self, patience: Duration) {
        self.arm_at(Instant::now(), patience);
    }

    /// Due `patience` from `now`.
    pub fn arm_at(&mut self, now: Instant, patience: Duration) {
        self.due = now.checked_add(patience);
    }

    /// Ready once due.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
        if sleep.deadline().into_std() > due {
            sleep.as_mut().reset(due.into());
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_of_an_http_answer_no_field_is_kept_as_evidence() {
        assert_eq!(telling_bytes(b"HTTP/1.1 200 OK\r\nSet-Cookie: secret"), b"HTTP/1.1 200 OK\r\n");
        assert_eq!(telling_bytes(b"\r\nHTTP/1.1 200 OK\r\nSet-Cookie: secret"), b"\r\nHTTP/1.1 200 OK\r\n");
        assert_eq!(telling_bytes(b"http/1.1 200 OK\r\nSet-Cookie: secret"), b"http/1.1 200 OK\r\n");
        assert_eq!(telling_bytes(b"ICY 200 OK\nSet-Cookie: secret"), b"ICY 200 OK\n");
        assert_eq!(telling_bytes(b"HTTP/1.1 2"), b"HTTP/1.1 2");
        assert_eq!(telling_bytes(b"SSH-2.0-x\r\nmore"), b"SSH-2.0-x\r\nmore");
        assert_eq!(telling_bytes(&[7; 100]).len(), FIRST_BYTES);
    }
}
