// SPDX-License-Identifier: Apache-2.0
//! Did the exchange finish? One attempt at an upstream: the request out, the head of the answer back.

pub mod relay;
pub mod repeating;
pub mod spool;

use crate::exchange::{BodyStore, Exchange, ExchangeRef, Fired, LargestHeader};
use crate::fault::{Fault, FaultKind};
use crate::gateway::Gateway;
use crate::http::body::write_chunk_line;
use crate::http::head::{self, RESPONSE_HEAD_LIMIT_BYTES, ResponseHead};
use crate::http::headers::write_field;
use crate::http::hop::is_dropped;
use crate::http::wire::{Ended, READ_BYTES};
use crate::listener::connection::{BodyError, ClientConnection};
use crate::upstream::handshake::wants_certificate;
use crate::upstream::{Account, UpstreamConnection};
use pylae_shared::tcp::TcpFacts;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A pooled connection on which nothing is acknowledged for this long carries nothing any more: a firewall has forgotten it.
const DEAD_AFTER: Duration = Duration::from_secs(2);
/// Interim answers (1xx) that are taken before the final one; curl takes 50, and nobody means to send more.
const INTERIM_LIMIT: usize = 64;

/// A head of so many bytes has its largest field told: proxies with buffers of 4 KiB (nginx) are near their limit.
const LARGE_HEAD_BYTES: usize = 3 * 1024;

/// What nginx says it was doing.
pub mod doing {
    /// Connecting.
    pub const CONNECTING: &str = "while connecting to upstream";
    /// Shaking hands.
    pub const HANDSHAKING: &str = "while SSL handshaking to upstream";
    /// Sending the request.
    pub const SENDING: &str = "while sending request to upstream";
    /// Waiting for the head.
    pub const READING_HEAD: &str = "while reading response header from upstream";
    /// Reading the body.
    pub const READING_BODY: &str = "while reading upstream";
}

/// Why an attempt ended without a head.
#[derive(Debug)]
pub enum Failure {
    /// The upstream's or our fault, and what was being done.
    Fault(Fault, &'static str),
    /// The client's body was at fault: it ends the exchange, not the attempt.
    Client(Fault),
    /// The client went away.
    Gone,
}

/// Whoever may leave while an upstream is waited for.
pub trait Departure {
    /// Ready once it has left.
    fn poll_departed(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// The client, where its body is passed on as it comes.
    fn client(&mut self) -> Option<&mut ClientConnection>;

    /// Bytes of its body that were read.
    fn body_bytes(&self) -> u64;
}

impl Departure for ClientConnection {
    fn poll_departed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ClientConnection::poll_departed(self, cx)
    }

    fn client(&mut self) -> Option<&mut ClientConnection> {
        Some(self)
    }

    fn body_bytes(&self) -> u64 {
        self.body_bytes
    }
}

/// Somebody else watches the client, and its request has no body.
pub struct Watched;

impl Departure for Watched {
    fn poll_departed(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn client(&mut self) -> Option<&mut ClientConnection> {
        None
    }

    fn body_bytes(&self) -> u64 {
        0
    }
}

/// Writes the head of the request that goes upstream.
pub fn write_request_head(out: &mut Vec<u8>, gateway: &Gateway, exchange: &Exchange, streamed_length: Option<Option<u64>>) {
    let mut digits = itoa::Buffer::new();
    let request = &exchange.request;
    let upstream = &exchange.upstream;
    let method = upstream.method.as_deref().unwrap_or(&request.method);
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(&upstream.path);
    if let Some(query) = &upstream.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if gateway.added.via {
        out.extend_from_slice(b"Via: ");
        for via in request.headers.get_all("via") {
            out.extend_from_slice(via);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(match request.version {
            // Kong spells HTTP/1.0 as `1`.
            crate::exchange::Version::Http10 => b"1",
            other => other.number().as_bytes(),
        });
        out.push(b' ');
        out.extend_from_slice(gateway.token.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"Host: ");
    out.extend_from_slice(upstream.host_header.as_deref().unwrap_or_default());
    out.extend_from_slice(b"\r\nConnection: keep-alive\r\nX-Forwarded-For: ");
    for value in request.headers.get_all("x-forwarded-for") {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    // nginx appends the peer; where there is nothing to append to, Kong tells the client's address.
    let has_one = request.headers.contains("x-forwarded-for");
    write_ip(out, if has_one { exchange.connection.peer.ip() } else { exchange.client_ip });
    out.extend_from_slice(b"\r\n");
    let forwarded = &exchange.forwarded;
    write_field(out, b"X-Forwarded-Proto", forwarded.proto.as_bytes());
    write_field(out, b"X-Forwarded-Host", forwarded.host.as_bytes());
    write_field(out, b"X-Forwarded-Port", forwarded.port.as_bytes());
    write_field(out, b"X-Forwarded-Path", &forwarded.path);
    if let Some(prefix) = &forwarded.prefix {
        write_field(out, b"X-Forwarded-Prefix", prefix);
    }
    out.extend_from_slice(b"X-Real-IP: ");
    write_ip(out, exchange.client_ip);
    out.extend_from_slice(b"\r\n");
    if gateway.settings.request_id_upstream {
        write_field(out, b"X-Kong-Request-Id", exchange.id.as_str().as_bytes());
    }
    match (streamed_length, &upstream.body, &request.body) {
        (Some(Some(length)), _, _) => write_field(out, b"Content-Length", digits.format(length).as_bytes()),
        (Some(None), _, _) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        (None, Some(body), _) => write_field(out, b"Content-Length", digits.format(body.len()).as_bytes()),
        (None, None, BodyStore::Memory(body)) => write_field(out, b"Content-Length", digits.format(body.len()).as_bytes()),
        (None, None, BodyStore::File(_, length)) => write_field(out, b"Content-Length", digits.format(*length).as_bytes()),
        (None, None, _) => {
            if request.headers.contains("content-length") || matches!(method, "POST" | "PUT" | "PATCH") {
                out.extend_from_slice(b"Content-Length: 0\r\n");
            }
        }
    }
    match &upstream.headers {
        Some(headers) => headers.write_to(out),
        None => {
            for (name, value) in request.headers.iter() {
                if !is_dropped(name, &exchange.nominated) {
                    write_field(out, name, value);
                }
            }
        }
    }
    if request.headers.get("te").is_some_and(|te| te.to_ascii_lowercase().windows(8).any(|w| w == b"trailers")) {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn write_ip(out: &mut Vec<u8>, address: std::net::IpAddr) {
    use std::io::Write;
    let _ = write!(out, "{address}");
}

/// Times of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To connect.
    pub connect: Duration,
    /// Between two writes.
    pub write: Duration,
    /// Between two reads.
    pub read: Duration,
}

/// A request as it goes upstream.
pub struct Written {
    /// Its head, and its body if that is in memory.
    bytes: Vec<u8>,
    /// Does its body follow as the client sends it?
    is_streamed: bool,
    /// Bytes of its body that follow; `None`: the client did not say how many.
    rest_bytes: Option<u64>,
}

impl Written {
    /// Bytes that are sent at once.
    pub fn length_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Bytes there are to send in all; `None`: the client did not say how long its body is.
    pub fn total_bytes(&self) -> Option<u64> {
        self.rest_bytes.map(|rest| self.length_bytes() + rest)
    }
}

/// Writes the request as the exchange has it now.
pub fn write_request(gateway: &Gateway, client: &mut impl Departure, exchange: &Exchange) -> Written {
    let mut bytes = crate::http::wire::take_buffer();
    let is_unread = exchange.upstream.body.is_none() && matches!(exchange.request.body, BodyStore::Unread);
    let streamed = client.client().filter(|_| is_unread).map(|client| client.body.remaining());
    write_request_head(&mut bytes, gateway, exchange, streamed);
    let mut rest_bytes = streamed.unwrap_or(Some(0));
    match (&exchange.upstream.body, &exchange.request.body) {
        (Some(body), _) | (None, BodyStore::Memory(body)) => bytes.extend_from_slice(body),
        (None, BodyStore::File(_, length)) => rest_bytes = Some(*length),
        _ => {}
    }
    Written { bytes, is_streamed: streamed.is_some(), rest_bytes }
}

/// Sends the request and waits for the head of the answer.
pub async fn exchange_heads(
    gateway: &Rc<Gateway>,
    client: &mut impl Departure,
    upstream: &mut UpstreamConnection,
    exchange: &ExchangeRef,
    request: Written,
    timeouts: Timeouts,
) -> Result<ResponseHead, Failure> {
    upstream.wire.watch_first_bytes();
    upstream.is_request_whole = false;
    upstream.account = Account::default();
    let Written { bytes, is_streamed, .. } = request;
    let mut answered = send(client, upstream, &bytes, timeouts.write).await;
    crate::http::wire::give_buffer(bytes);
    if matches!(answered, Ok(false)) {
        if let Some(client) = client.client().filter(|_| is_streamed) {
            answered = stream_body(gateway, client, upstream, timeouts.write).await;
        } else {
            let file = match (&exchange.borrow().upstream.body, &exchange.borrow().request.body) {
                (None, BodyStore::File(file, length)) => Some((Rc::clone(file), *length)),
                _ => None,
            };
            if let Some((file, length)) = file {
                answered = send_file(client, upstream, &file, length, timeouts.write).await;
            }
        }
    }
    upstream.is_request_whole = !answered?;
    read_head(client, upstream, exchange, timeouts.read).await
}

/// What came of one write.
enum Sent {
    Wrote(io::Result<usize>),
    /// The client went away.
    Gone,
    /// The upstream answers already (or has ended).
    Early,
}

/// Writes `bytes` upstream. `Ok(true)`: an answer came before all was sent, go and read it.
async fn send(client: &mut impl Departure, upstream: &mut UpstreamConnection, bytes: &[u8], patience: Duration) -> Result<bool, Failure> {
    let mut written = 0;
    while written < bytes.len() {
        upstream.wire.arm(patience);
        let outcome = std::future::poll_fn(|cx| match upstream.wire.poll_write(cx, &bytes[written..]) {
            Poll::Ready(outcome) => Poll::Ready(Sent::Wrote(outcome)),
            Poll::Pending => {
                // A server that refuses a body answers and stops reading: listen while we cannot write.
                while let Poll::Ready(outcome) = upstream.wire.poll_fill(cx, READ_BYTES) {
                    if !matches!(outcome, Ok(count) if count > 0) || is_final(upstream) {
                        return Poll::Ready(Sent::Early);
                    }
                }
                if client.poll_departed(cx).is_ready() {
                    return Poll::Ready(Sent::Gone);
                }
                upstream.wire.poll_timeout(cx).map(Sent::Wrote)
            }
        })
        .await;
        match outcome {
            Sent::Gone => return Err(Failure::Gone),
            Sent::Early => return Ok(true),
            Sent::Wrote(Ok(count)) => written += count,
            Sent::Wrote(Err(error)) => return unsent(upstream, &error, patience).await,
        }
    }
    let flushed = std::future::poll_fn(|cx| match upstream.wire.poll_flush(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if client.poll_departed(cx).is_ready() => Poll::Ready(None),
        Poll::Pending => upstream.wire.poll_timeout(cx).map(Some),
    })
    .await;
    match flushed {
        None => Err(Failure::Gone),
        Some(Ok(())) => Ok(false),
        Some(Err(error)) => unsent(upstream, &error, patience).await,
    }
}

/// Writing failed. A server that refuses a body answers first and closes then: what it said is worth more than our error.
async fn unsent(upstream: &mut UpstreamConnection, error: &io::Error, patience: Duration) -> Result<bool, Failure> {
    if error.kind() == io::ErrorKind::TimedOut {
        upstream.account.timer = Some(Fired { name: "write_timeout", length: patience });
        let fault = Fault::new(FaultKind::WriteTimeout, format!("the server took no byte for {} ms", patience.as_millis()));
        return Err(Failure::Fault(fault, doing::SENDING));
    }
    let _ = upstream.wire.fill(Duration::from_millis(1)).await;
    if !upstream.wire.buffered().is_empty() {
        return Ok(true);
    }
    if let Some(fault) = alerted(upstream) {
        return Err(Failure::Fault(fault, doing::SENDING));
    }
    let fault = match error.kind() {
        io::ErrorKind::BrokenPipe => Fault::from(FaultKind::WriteFailed),
        _ => {
            let text = crate::upstream::errno_text(error);
            Fault::with_phrase(FaultKind::WriteFailed, text.clone(), format!("send() failed ({text})"))
        }
    };
    Err(Failure::Fault(fault, doing::SENDING))
}

/// What it means that the server ended with a TLS alert before it answered, if it did. Whether a client certificate will do is
/// told by TLS 1.3 only after the handshake, to whoever reads then.
fn alerted(upstream: &UpstreamConnection) -> Option<Fault> {
    let alert = upstream.wire.alert()?;
    let facts = upstream.tls.as_ref()?;
    let is_first = upstream.requests <= 1 && upstream.wire.received_bytes == upstream.received_before;
    if is_first && alert.wants_certificate(facts.is_certificate_wanted) {
        return Some(wants_certificate(alert, facts, "SSL_read()"));
    }
    let phrase = format!("SSL_read() failed (SSL: {})", alert.openssl_text());
    Some(Fault::with_phrase(FaultKind::ResetBeforeHeaders, format!("the server ended with TLS alert {}", alert.name()), phrase))
}

/// Sends a spilled body.
async fn send_file(
    client: &mut impl Departure,
    upstream: &mut UpstreamConnection,
    file: &std::fs::File,
    length: u64,
    patience: Duration,
) -> Result<bool, Failure> {
    let mut piece = vec![0u8; 4 * READ_BYTES];
    let mut offset = 0;
    while offset < length {
        let want = piece.len().min(usize::try_from(length - offset).unwrap_or(usize::MAX));
        let count = file.read_at(&mut piece[..want], offset).unwrap_or(0);
        if count == 0 {
            return Err(Failure::Fault(Fault::new(FaultKind::SpoolFailed, "the spilled body could not be read back"), doing::SENDING));
        }
        offset += count as u64;
        if send(client, upstream, &piece[..count], patience).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Passes the client's body on as it comes.
async fn stream_body(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    upstream: &mut UpstreamConnection,
    patience: Duration,
) -> Result<bool, Failure> {
    let client_patience = Duration::from_millis(gateway.settings.client_body_timeout_ms);
    let limit = gateway.settings.client_max_body_size_bytes;
    let is_chunked = client.body.remaining().is_none();
    let mut piece = Vec::new();
    let mut framed = Vec::new();
    if client.owes_continue {
        client.owes_continue = false;
        if client.wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", client_patience).await.is_err() {
            client.note_gone();
            return Err(Failure::Gone);
        }
    }
    loop {
        piece.clear();
        client.wire.arm(client_patience);
        let outcome = std::future::poll_fn(|cx| match client.poll_body(cx, &mut piece) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => {
                if let Poll::Ready(outcome) = upstream.wire.poll_fill(cx, READ_BYTES) {
                    let has_ended = !matches!(outcome, Ok(count) if count > 0);
                    if has_ended || is_final(upstream) {
                        return Poll::Ready(None);
                    }
                    // An interim answer, or a part of a head: the body goes on, and we listen on.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                client.wire.poll_timeout::<()>(cx).map(|_| Some(Err(BodyError::TimedOut)))
            }
        })
        .await;
        let more = match outcome {
            // An early answer, or the upstream's end: reading the head tells which.
            None => return Ok(true),
            Some(Ok(more)) => more,
            Some(Err(error)) => return Err(body_failure(error)),
        };
        if limit > 0 && client.body_bytes > limit {
            return Err(Failure::Client(FaultKind::RequestBodyTooLarge.into()));
        }
        if !more {
            break;
        }
        let bytes = if is_chunked {
            framed.clear();
            write_chunk_line(&mut framed, piece.len());
            framed.extend_from_slice(&piece);
            framed.extend_from_slice(b"\r\n");
            &framed
        } else {
            &piece
        };
        if send(client, upstream, bytes, patience).await? {
            return Ok(true);
        }
    }
    if is_chunked { send(client, upstream, b"0\r\n\r\n", patience).await } else { Ok(false) }
}

/// Is what the upstream said the head of its final answer (or no head at all)? Interim ones are dropped.
fn is_final(upstream: &mut UpstreamConnection) -> bool {
    loop {
        let bytes = upstream.wire.buffered();
        let Some(end) = head::find_end(bytes, 0) else {
            return !head::may_be_response(bytes) || bytes.len() > RESPONSE_HEAD_LIMIT_BYTES;
        };
        match head::parse_response(&bytes[..end]) {
            Ok(parsed) if parsed.status < 200 && parsed.status != 101 && upstream.account.interim < INTERIM_LIMIT => {
                upstream.account.interim += 1;
                upstream.wire.consume(end);
            }
            _ => return true,
        }
    }
}

/// What a client's body error means for the exchange.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
pub fn body_failure(error: BodyError) -> Failure {
    match error {
        BodyError::Gone => Failure::Gone,
        BodyError::TimedOut => Failure::Client(Fault::new(FaultKind::RequestTimeout, "the client stopped sending its body")),
        BodyError::Malformed(detail) => Failure::Client(Fault::new(FaultKind::BadRequestBody, detail)),
    }
}

/// Waits for the head of the final answer; interim ones (1xx) are dropped.
async fn read_head(
    client: &mut impl Departure,
    upstream: &mut UpstreamConnection,
    exchange: &ExchangeRef,
    patience: Duration,
) -> Result<ResponseHead, Failure> {
    let mut is_first_look = upstream.idle.is_some() && patience > DEAD_AFTER && repeating::may_resend(&exchange.borrow(), client);
    let now = Instant::now();
    upstream.account.sent_at = upstream.is_request_whole.then_some(now);
    upstream.wire.arm_at(now, if is_first_look { DEAD_AFTER } else { patience });
    let mut searched = 0;
    loop {
        let bytes = upstream.wire.buffered();
        let mut looked_at = None;
        if !bytes.is_empty() && upstream.account.first_byte_at.is_none() {
            looked_at = Some(Instant::now());
            upstream.account.first_byte_at = looked_at;
        }
        if !head::may_be_response(bytes) {
            let whole = memchr::memchr(b'\n', bytes).map_or(bytes, |end| &bytes[..=end]);
            let fault = head::parse_response(whole).err().unwrap_or_else(|| FaultKind::ProtocolMismatch.into());
            return Err(Failure::Fault(fault, doing::READING_HEAD));
        }
        if let Some(end) = head::find_end(bytes, searched) {
            if end > RESPONSE_HEAD_LIMIT_BYTES {
                return Err(Failure::Fault(too_large(), doing::READING_HEAD));
            }
            let parsed = head::parse_response(&bytes[..end]).map_err(|fault| Failure::Fault(fault, doing::READING_HEAD))?;
            upstream.account.head_bytes = end;
            if end >= LARGE_HEAD_BYTES {
                upstream.account.largest_header = largest_header(&bytes[..end]);
            }
            upstream.wire.consume(end);
            if parsed.status == 101 {
                let fault = Fault::new(FaultKind::BadResponse, "101 Switching Protocols to a request that did not ask for it");
                return Err(Failure::Fault(fault, doing::READING_HEAD));
            }
            if parsed.status >= 200 {
                exchange.borrow_mut().moments.head_received = Some(looked_at.unwrap_or_else(Instant::now));
                return Ok(parsed);
            }
            upstream.account.interim += 1;
            if upstream.account.interim > INTERIM_LIMIT {
                let text = format!("more than {INTERIM_LIMIT} interim answers (1xx) and no final one");
                return Err(Failure::Fault(Fault::new(FaultKind::BadResponse, text), doing::READING_HEAD));
            }
            searched = 0;
            continue;
        }
        searched = bytes.len();
        if bytes.len() > RESPONSE_HEAD_LIMIT_BYTES {
            return Err(Failure::Fault(too_large(), doing::READING_HEAD));
        }
        let outcome = std::future::poll_fn(|cx| {
            if let Poll::Ready(outcome) = upstream.wire.poll_fill(cx, READ_BYTES) {
                return Poll::Ready(Some(outcome));
            }
            if client.poll_departed(cx).is_ready() {
                return Poll::Ready(None);
            }
            upstream.wire.poll_timeout(cx).map(Some)
        })
        .await;
        let fault = match outcome {
            None => return Err(Failure::Gone),
            Some(Ok(0)) if upstream.wire.ended() == Some(Ended::Reset) => {
                Fault::new(FaultKind::ResetBeforeHeaders, cut_at("reset", upstream))
            }
            Some(Ok(0)) => Fault::new(FaultKind::ClosedBeforeHeaders, cut_at("closed", upstream)),
            Some(Ok(_)) => {
                // The timeout is of the silence between two reads, as nginx has it.
                is_first_look = false;
                upstream.wire.arm(patience);
                continue;
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                let waited = if is_first_look { DEAD_AFTER } else { patience };
                let is_dead = |facts: TcpFacts| facts.owes_ack && facts.since_last_ack >= waited;
                if upstream.idle.is_some() && TcpFacts::of(upstream.wire.socket()).is_some_and(is_dead) {
                    upstream.account.timer = Some(Fired { name: "acknowledgement", length: waited });
                    let text = format!("nothing sent on a pooled connection was acknowledged within {} ms", waited.as_millis());
                    Fault::new(FaultKind::ConnectionDead, text)
                } else if is_first_look {
                    is_first_look = false;
                    upstream.wire.arm(patience.saturating_sub(DEAD_AFTER));
                    continue;
                } else {
                    upstream.account.timer = Some(Fired { name: "read_timeout", length: patience });
                    Fault::new(FaultKind::ReadTimeout, format!("no head within {} ms", patience.as_millis()))
                }
            }
            Some(Err(error)) => match (alerted(upstream), upstream.wire.ended()) {
                (Some(fault), _) => fault,
                (None, Some(Ended::Reset)) => Fault::new(FaultKind::ResetBeforeHeaders, cut_at("reset", upstream)),
                (None, _) => {
                    let text = crate::upstream::errno_text(&error);
                    Fault::with_phrase(FaultKind::ResetBeforeHeaders, text.clone(), format!("recv() failed ({text})"))
                }
            },
        };
        return Err(Failure::Fault(fault, doing::READING_HEAD));
    }
}

/// Where in the head of an answer it ended, and what was asked for in the handshake that was not given.
fn cut_at(word: &str, upstream: &UpstreamConnection) -> String {
    let mut text = match upstream.wire.buffered().len() {
        0 => format!("{word} without a byte of an answer"),
        count => format!("{word} after {count} bytes of a head"),
    };
    if upstream.requests <= 1 && upstream.tls.as_ref().is_some_and(|tls| tls.is_certificate_wanted) {
        text.push_str("; the server had asked for a client certificate, and got none");
    }
    text
}

/// The largest field of a head, or of as much of one as there is: its name, and the bytes of its line.
pub fn largest_header(head: &[u8]) -> Option<LargestHeader> {
    let mut largest: Option<&[u8]> = None;
    let mut rest = memchr::memchr(b'\n', head).map(|end| &head[end + 1..])?;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let (line, after) = rest.split_at(end);
        if largest.is_none_or(|known| line.len() > known.len()) {
            largest = Some(line);
        }
        rest = after;
    }
    let line = largest?;
    let name = &line[..memchr::memchr(b':', line)?];
    Some(LargestHeader { name: head::printable(name, 64), bytes: line.len() })
}

fn too_large() -> Fault {
    Fault::new(FaultKind::ResponseHeaderTooLarge, format!("the head is over {RESPONSE_HEAD_LIMIT_BYTES} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_the_largest_field_of_a_head_is_named_and_never_its_value() {
        let head = b"HTTP/1.1 200 OK\r\nServer: x\r\nSet-Cookie: 0123456789\r\nA: b\r\n\r\n";
        assert_eq!(largest_header(head), Some(LargestHeader { name: "Set-Cookie".to_owned(), bytes: 24 }));
        let cut = [&b"HTTP/1.1 200 OK\r\nA: b\r\nCookie: "[..], &[b'x'; 100]].concat();
        assert_eq!(largest_header(&cut), Some(LargestHeader { name: "Cookie".to_owned(), bytes: 108 }));
        for head in [&b""[..], b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\n\n\xff\xff\xff"] {
            assert_eq!(largest_header(head), None, "{head:?}");
        }
        let evil = [&b"HTTP/1.1 200 OK\r\n\x1b[31m"[..], &[b'n'; 500], b": v\r\n"].concat();
        let name = largest_header(&evil).expect("a field").name;
        assert!(name.starts_with("\\x1B[31m") && name.len() < 80, "{name}");
    }
}
