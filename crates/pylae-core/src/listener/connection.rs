// SPDX-License-Identifier: Apache-2.0
//! The life of a client's connection: heads are read, a journey walks for each, then the next or the end.

use crate::exchange::{
    BodyStore, ConnectionFacts, Exchange, ExchangeRef, Forwarded, LargestHeader, Moments, Request, Station, TlsFacts, UpstreamRequest,
    Version,
};
use crate::fault::{Fault, FaultKind};
use crate::gateway::{Gateway, bump, drop_one};
use crate::http::body::{BadChunk, Decoder, Step};
use crate::http::head::{self, Framing, RequestFields};
use crate::http::headers::{Headers, is_token};
use crate::http::hop::is_spelled;
use crate::http::wire::{READ_BYTES, Wire};
use crate::journey;
use crate::phases::{HostCall, Phase, Verdict};
use crate::router::path::normalise;
use crate::snapshot::PluginInstance;
use pylae_shared::tcp::TcpFacts;
use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How long an idle connection may still send a request once a drain has begun.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Bytes of a body nobody read that are read and dropped so that the connection can be kept.
const DISCARD_LIMIT_BYTES: u64 = 64 * 1024;
/// How long a connection that ends is read on, so that the answer is not thrown away with a reset.
const LINGER: Duration = Duration::from_secs(2);
/// How long such bytes are waited for, all together.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// A client's connection, held by one task.
pub struct ClientConnection {
    /// The socket.
    pub wire: Wire,
    /// What is known of it.
    pub facts: Rc<ConnectionFacts>,
    /// Decodes the body of the request being served.
    pub body: Decoder,
    /// `100 Continue` is owed before the body is read.
    pub owes_continue: bool,
    /// Plain HTTP came in on a TLS port.
    pub is_plain_on_tls_port: bool,
    /// Bytes of body decoded for this request.
    pub body_bytes: u64,
    gone: bool,
    knows_drain: bool,
}

/// What came of reading body bytes.
#[derive(Debug)]
pub enum BodyError {
    /// The client went away.
    Gone,
    /// Silence for too long.
    TimedOut,
    /// The chunked coding is malformed.
    Malformed(&'static str),
}

impl From<BadChunk> for BodyError {
    fn from(bad: BadChunk) -> Self {
        BodyError::Malformed(bad.0)
    }
}

impl ClientConnection {
    /// A connection that has entered.
    pub fn new(wire: Wire, facts: Rc<ConnectionFacts>) -> Self {
        ClientConnection {
            wire,
            facts,
            body: Decoder::new(Framing::None),
            owes_continue: false,
            is_plain_on_tls_port: false,
            body_bytes: 0,
            gone: false,
            knows_drain: false,
        }
    }

    /// Ready once the client has gone. Bytes that come meanwhile (the next request) are kept, up to one buffer.
    pub fn poll_departed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.gone {
            return Poll::Ready(());
        }
        while self.wire.buffered().len() < READ_BYTES {
            match self.wire.poll_fill(cx, READ_BYTES) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.gone = true;
                    return Poll::Ready(());
                }
                Poll::Ready(Ok(_)) => {}
            }
        }
        Poll::Pending
    }

    /// Has the client ended its side, as the kernel knows it, although what it sent before was not read yet?
    pub fn has_left_unread(&mut self) -> bool {
        self.gone |= TcpFacts::of(self.wire.socket()).is_some_and(|facts| facts.has_peer_ended);
        self.gone
    }

    /// The client has gone.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Notes that writing to the client failed.
    pub fn note_gone(&mut self) {
        self.gone = true;
    }

    /// Ready with the next piece of the body appended to `out` (`Ok(false)`: the body is over).
    pub fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, BodyError>> {
        loop {
            match self.body.step(self.wire.buffered()) {
                Err(bad) => return Poll::Ready(Err(bad.into())),
                Ok(Step::End { skip }) => {
                    self.wire.consume(skip);
                    return Poll::Ready(Ok(false));
                }
                Ok(Step::Data { skip, data }) => {
                    out.extend_from_slice(&self.wire.buffered()[skip..skip + data]);
                    self.wire.consume(skip + data);
                    self.body_bytes += data as u64;
                    return Poll::Ready(Ok(true));
                }
                Ok(Step::More { skip }) => self.wire.consume(skip),
            }
            match self.wire.poll_fill(cx, READ_BYTES) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.gone = true;
                    return Poll::Ready(Err(BodyError::Gone));
                }
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// The next piece of the body (`false`: it is over), waiting at most `patience` for it.
    pub async fn read_body(&mut self, out: &mut Vec<u8>, patience: Duration) -> Result<bool, BodyError> {
        if self.owes_continue {
            self.owes_continue = false;
            // Also when the body is here already: nginx does, and a client may wait for it.
            if self.wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", patience).await.is_err() {
                self.gone = true;
                return Err(BodyError::Gone);
            }
        }
        self.wire.arm(patience);
        std::future::poll_fn(|cx| match self.poll_body(cx, out) {
            Poll::Pending => self.wire.poll_timeout::<()>(cx).map(|_| Err(BodyError::TimedOut)),
            ready => ready,
        })
        .await
    }

    /// Reads and drops what is left of a body, if that is little; `false`: the connection must end.
    async fn discard_body(&mut self) -> bool {
        if self.body.is_done() {
            return true;
        }
        if self.owes_continue || self.body.remaining().is_some_and(|left| left > DISCARD_LIMIT_BYTES) {
            return false;
        }
        let mut dropped = Vec::new();
        let mut total = 0;
        let until = Instant::now() + DISCARD_TIMEOUT;
        loop {
            match self.read_body(&mut dropped, until.saturating_duration_since(Instant::now())).await {
                Ok(false) => return true,
                Ok(true) => {
                    total += dropped.len() as u64;
                    dropped.clear();
                    if total > DISCARD_LIMIT_BYTES {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
    }

    /// Ends the connection so that the client can still read the answer: our side first, then what it still sends is
    /// dropped for a moment (else its kernel throws the answer away with a reset).
    async fn linger(&mut self) {
        if self.gone || !matches!(tokio::time::timeout(LINGER, self.wire.shutdown()).await, Ok(Ok(()))) {
            return;
        }
        let until = Instant::now() + LINGER;
        let mut total = 0;
        while total < DISCARD_LIMIT_BYTES as usize * 16 {
            let left = until.saturating_duration_since(Instant::now());
            match self.wire.fill(left).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    total += count;
                    let held = self.wire.buffered().len();
                    self.wire.consume(held);
                }
            }
        }
    }
}

/// Runs the certificate phase of global plugins; `false`: one of them refused the handshake, or failed.
pub async fn certificate_phase(
    gateway: &Rc<Gateway>,
    facts: &ConnectionFacts,
    sni: Option<String>,
    asked_by: &[Arc<PluginInstance>],
) -> Option<Vec<Vec<u8>>> {
    let snapshot = gateway.snapshot.load_full();
    let plan = snapshot.plan.global();
    let by_phase = |instance: &&Arc<PluginInstance>| instance.phases & Phase::Certificate.bit() != 0;
    let global = plan.candidates().iter().filter_map(|candidate| candidate.instance(None)).filter(by_phase);
    let is_global =
        |instance: &Arc<PluginInstance>| plan.candidates().iter().any(|c| c.instance(None).is_some_and(|g| g.id == instance.id));
    let scoped = asked_by.iter().filter(by_phase).filter(|instance| !is_global(instance));
    let mut instances = global.chain(scoped).peekable();
    if instances.peek().is_none() {
        return Some(Vec::new());
    }
    let facts = ConnectionFacts {
        serial: facts.serial,
        peer: facts.peer,
        local: facts.local,
        listen_port: facts.listen_port,
        tls: Some(TlsFacts { version: String::new(), cipher: String::new(), sni: sni.clone(), client: None }),
        requests: std::cell::Cell::new(0),
        authorities: RefCell::default(),
    };
    let mut request = empty_request();
    request.host = sni.unwrap_or_default();
    let exchange = blank_exchange(gateway, &Rc::new(facts), request, Instant::now());
    exchange.borrow_mut().phase = Phase::Certificate;
    let mut allowed = true;
    for instance in instances {
        let verdict = match gateway.host.run(Phase::Certificate, instance, &exchange) {
            HostCall::Ready(verdict) => verdict,
            HostCall::Suspended(future) => future.await,
        };
        match verdict {
            Verdict::Continue => continue,
            Verdict::Answer(_) => {}
            Verdict::Failed(failure) => {
                let text = format!("plugin {} failed in {}: {}", failure.plugin, failure.phase.name(), failure.detail);
                gateway.logs.log_exchange(crate::observe::Level::Error, &exchange.borrow(), &text, "while SSL handshaking");
            }
        }
        allowed = false;
        break;
    }
    gateway.host.release(&exchange);
    let authorities = exchange.borrow().connection.authorities.take();
    allowed.then_some(authorities)
}

/// What reading a head came to.
enum Head {
    Request(Box<Request>, Box<RequestFields>),
    /// What could be read, the fault, and the fields before it.
    Bad(Box<Request>, Fault, Box<RequestFields>),
    /// The connection ended between requests, or idled too long, or the worker drains.
    Nothing,
}

/// Serves a connection to its end.
pub async fn serve(gateway: Rc<Gateway>, mut connection: ClientConnection) {
    loop {
        bump(&gateway.statistics.waiting);
        let ready = wait_for_bytes(&gateway, &mut connection).await;
        drop_one(&gateway.statistics.waiting);
        if !ready {
            return;
        }
        if !Box::pin(serve_one(&gateway, &mut connection)).await {
            return;
        }
        connection.wire.rest();
    }
}

/// Serves one request; `false`: the connection has ended.
async fn serve_one(gateway: &Rc<Gateway>, connection: &mut ClientConnection) -> bool {
    let started = Instant::now();
    let received_before = connection.wire.received_bytes - connection.wire.buffered().len() as u64;
    bump(&gateway.statistics.reading);
    let head = read_head(gateway, connection).await;
    drop_one(&gateway.statistics.reading);
    let (request, fields, fault) = match head {
        Head::Nothing => return false,
        Head::Request(request, fields) => (request, fields, None),
        Head::Bad(request, fault, fields) => (request, fields, Some(fault)),
    };
    connection.facts.requests.set(connection.facts.requests.get() + 1);
    bump(&gateway.statistics.requests);
    let mut keep_alive = fault.is_none()
        && match request.version {
            Version::Http11 => !fields.connection_close,
            Version::Http10 => fields.connection_keep_alive,
            Version::Http09 => false,
        }
        && connection.facts.requests.get() < gateway.settings.client_keepalive_requests;
    let framing = match (fields.is_chunked, fields.content_length) {
        (true, _) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::None,
    };
    connection.body = Decoder::new(if fault.is_some() { Framing::None } else { framing });
    connection.body_bytes = 0;
    connection.owes_continue = fields.expects_continue && request.version == Version::Http11 && !connection.body.is_done();
    let exchange = new_exchange(gateway, connection, *request, *fields, started);
    bump(&gateway.statistics.writing);
    let outcome = journey::walk(gateway, connection, &exchange, fault, &mut keep_alive).await;
    let received = connection.wire.received_bytes - connection.wire.buffered().len() as u64;
    {
        let request = &mut exchange.borrow_mut().request;
        request.received_bytes = received.saturating_sub(received_before);
        request.body_bytes = connection.body_bytes;
    }
    journey::finish(gateway, &exchange, outcome);
    drop_one(&gateway.statistics.writing);
    drop(exchange);
    if connection.is_gone() || outcome.must_close {
        return false;
    }
    // A drain that began meanwhile breaks no promise: the next request is still taken, and its answer says `close`.
    if !keep_alive || !connection.discard_body().await {
        connection.linger().await;
        return false;
    }
    true
}

/// Waits until a request begins; costs no buffer while it waits. `false`: the connection is over.
async fn wait_for_bytes(gateway: &Rc<Gateway>, connection: &mut ClientConnection) -> bool {
    if !connection.wire.buffered().is_empty() {
        return true;
    }
    let is_first = connection.facts.requests.get() == 0;
    let patience = if is_first { gateway.settings.client_header_timeout_ms } else { gateway.settings.client_keepalive_timeout_ms };
    connection.wire.arm(Duration::from_millis(patience));
    let mut is_last_call = false;
    std::future::poll_fn(|cx| {
        match connection.wire.poll_fill(cx, READ_BYTES) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
            Poll::Ready(Ok(_)) => return Poll::Ready(true),
            Poll::Pending => connection.wire.rest(),
        }
        // The next request may be on its way already: closing at once would lose it. A drain leaves the client a moment, and
        // the answer then says `Connection: close`.
        if !is_last_call && gateway.drain.poll(connection.facts.serial, &mut connection.knows_drain, cx).is_ready() {
            is_last_call = true;
            connection.wire.arm(LAST_CALL);
        }
        connection.wire.poll_timeout::<()>(cx).map(|_| false)
    })
    .await
}

fn empty_request() -> Request {
    Request {
        line: Vec::new(),
        method: String::new(),
        raw_path: Vec::new(),
        path: Vec::new(),
        query: None,
        version: Version::Http11,
        headers: Headers::new(),
        host: String::new(),
        host_port: None,
        authority: Vec::new(),
        received_bytes: 0,
        head_bytes: 0,
        body_bytes: 0,
        oversized: None,
        body: BodyStore::Empty,
    }
}

/// Reads and parses one head.
async fn read_head(gateway: &Rc<Gateway>, connection: &mut ClientConnection) -> Head {
    let patience = Duration::from_millis(gateway.settings.client_header_timeout_ms);
    let (count, size) = gateway.settings.large_client_header_buffers;
    let deadline = Instant::now() + patience;
    let mut searched = 0;
    let mut line: Option<(usize, head::RequestLine)> = None;
    loop {
        // Empty lines before a request line are dropped (RFC 9112 §2.2).
        if line.is_none() {
            let blank = connection.wire.buffered().iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            connection.wire.consume(blank);
        }
        let bytes = connection.wire.buffered();
        // No method begins so: a TLS hello or a PROXY header, whose line may never end. nginx refuses it at once, too.
        if line.is_none() && bytes.first().is_some_and(|&byte| !byte.is_ascii_graphic() && !byte.is_ascii_whitespace()) {
            let fault = Fault::new(FaultKind::BadFraming, "what came is no HTTP");
            return bad_line(&bytes[..bytes.len().min(64)], fault);
        }
        if line.is_none()
            && let Some(end) = memchr::memchr(b'\n', &bytes[searched.min(bytes.len())..]).map(|offset| searched + offset)
        {
            let text = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
            if end > size {
                return bad_line(&bytes[..size.min(bytes.len())], FaultKind::UriTooLong.into());
            }
            match head::parse_request_line(text) {
                Ok(parsed) => {
                    let is_whole = parsed.version == Version::Http09;
                    searched = end + 1;
                    line = Some((end + 1, parsed));
                    if is_whole {
                        return finish_head(connection, end + 1, end + 1, line, size);
                    }
                }
                Err(fault) => return bad_line(text, fault),
            }
        }
        if let Some((line_end, _)) = &line {
            let line_end = *line_end;
            let bytes = connection.wire.buffered();
            // The empty line may follow the request line at once.
            let end = match &bytes[line_end..] {
                [b'\n', ..] => Some(line_end + 1),
                [b'\r', b'\n', ..] => Some(line_end + 2),
                _ => head::find_end(bytes, searched.max(line_end)).filter(|&end| end > line_end),
            };
            if let Some(end) = end {
                return finish_head(connection, line_end, end, line, size);
            }
            searched = bytes.len();
            if bytes.len() > count * size || longest_open_line(bytes) > size {
                let (_, parsed) = line.unwrap_or((0, head::RequestLine { method: 0..0, target: 0..0, version: Version::Http11 }));
                let mut request = begin_request(&bytes[..line_end], &parsed);
                request.head_bytes = bytes.len();
                request.oversized = longest_line(&bytes[line_end..]);
                let whole = memchr::memrchr(b'\n', bytes).map_or(line_end, |at| at + 1);
                let fields = match head::parse_request_fields(&bytes[line_end..whole.max(line_end)], parsed.version, size) {
                    Ok(fields) | Err((_, fields)) => fields,
                };
                return Head::Bad(
                    Box::new(request),
                    Fault::new(
                        FaultKind::RequestHeaderTooLarge,
                        format!("the head is over {count} buffers of {size} bytes, or one line over one"),
                    ),
                    Box::new(fields),
                );
            }
        } else {
            searched = bytes.len();
            if bytes.len() > size {
                return bad_line(&bytes[..size], FaultKind::UriTooLong.into());
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match connection.wire.fill(left).await {
            Ok(0) => {
                connection.note_gone();
                return bad_line_of(
                    connection,
                    line.as_ref(),
                    Fault::new(FaultKind::ClientGone, "the client closed in the middle of a request's head"),
                );
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return bad_line_of(connection, line.as_ref(), FaultKind::RequestTimeout.into());
            }
            Err(_) => {
                connection.note_gone();
                return bad_line_of(
                    connection,
                    line.as_ref(),
                    Fault::new(FaultKind::ClientGone, "the client reset the connection in the middle of a request's head"),
                );
            }
        }
    }
}

/// The longest line of a head that is too large.
fn longest_line(fields: &[u8]) -> Option<Box<LargestHeader>> {
    let line = fields.split(|&b| b == b'\n').max_by_key(|line| line.len())?;
    let name = line.split(|&b| b == b':').next().filter(|name| name.len() < line.len() && is_token(name));
    Some(Box::new(LargestHeader { name: head::printable(name.unwrap_or_default(), 64), bytes: line.len() }))
}

fn longest_open_line(bytes: &[u8]) -> usize {
    bytes.len() - memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1)
}

fn bad_line(text: &[u8], fault: Fault) -> Head {
    let mut request = empty_request();
    request.line = text.to_vec();
    Head::Bad(Box::new(request), fault, Box::default())
}

fn bad_line_of(connection: &ClientConnection, line: Option<&(usize, head::RequestLine)>, fault: Fault) -> Head {
    let bytes = connection.wire.buffered();
    match line {
        Some((end, parsed)) => Head::Bad(Box::new(begin_request(&bytes[..*end], parsed)), fault, Box::default()),
        None => bad_line(&bytes[..bytes.len().min(2048)], fault),
    }
}

/// A request of which the line is known.
fn begin_request(line: &[u8], parsed: &head::RequestLine) -> Request {
    let text = line.strip_suffix(b"\n").map_or(line, |l| l.strip_suffix(b"\r").unwrap_or(l));
    let mut request = empty_request();
    request.method = String::from_utf8_lossy(&text[parsed.method.clone()]).into_owned();
    request.version = parsed.version;
    request.line = text.to_vec();
    request
}

/// The head is whole: its fields are parsed and checked, its bytes dropped from the buffer.
fn finish_head(
    connection: &mut ClientConnection,
    line_end: usize,
    end: usize,
    line: Option<(usize, head::RequestLine)>,
    size: usize,
) -> Head {
    let Some((_, parsed)) = line else { return Head::Nothing };
    let bytes = connection.wire.buffered();
    let mut request = begin_request(&bytes[..line_end], &parsed);
    let outcome = head::parse_request_fields(&bytes[line_end..end], parsed.version, size);
    let target = request.line[parsed.target.clone()].to_vec();
    request.head_bytes = end;
    if matches!(&outcome, Err((fault, _)) if fault.kind == FaultKind::RequestHeaderTooLarge) {
        request.oversized = longest_line(&bytes[line_end..end]);
    }
    connection.wire.consume(end);
    let fields = match outcome {
        Ok(fields) => fields,
        Err((fault, fields)) => return Head::Bad(Box::new(request), fault, Box::new(fields)),
    };
    match read_target(&mut request, &target, fields.host.as_deref()) {
        Ok(()) => Head::Request(Box::new(request), Box::new(fields)),
        Err(fault) => Head::Bad(Box::new(request), fault, Box::new(fields)),
    }
}

/// Splits the target into authority, path and query (RFC 9112 §3.2).
fn read_target(request: &mut Request, target: &[u8], host: Option<&[u8]>) -> Result<(), Fault> {
    let bad = |detail: &'static str| Fault::new(FaultKind::BadFraming, detail);
    let mut authority: Option<Vec<u8>> = host.map(<[u8]>::to_vec);
    let rest = if target.first() == Some(&b'/') {
        target
    } else {
        let scheme_end =
            target.windows(3).position(|w| w == b"://").ok_or_else(|| bad("the target is neither a path nor an absolute URI"))?;
        let scheme = &target[..scheme_end];
        if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
            return Err(bad("the target's scheme is neither http nor https"));
        }
        let after = &target[scheme_end + 3..];
        let slash = after.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(after.len());
        authority = Some(after[..slash].to_vec());
        if after.get(slash) == Some(&b'?') {
            return Err(bad("the target has a query and no path"));
        }
        if after[slash..].first() == Some(&b'/') { &after[slash..] } else { b"/" }
    };
    if rest.contains(&b'#') {
        return Err(bad("the target holds a fragment"));
    }
    let (path, query) = match memchr::memchr(b'?', rest) {
        Some(at) => (&rest[..at], Some(rest[at + 1..].to_vec())),
        None => (rest, None),
    };
    request.path =
        normalise(path).map_err(|error| Fault::new(FaultKind::BadFraming, format!("the path cannot be normalised: {error}")))?.into_owned();
    request.raw_path = path.to_vec();
    request.query = query;
    if let Some(authority) = authority {
        let (host, port) = head::parse_authority(&authority).ok_or_else(|| bad("Host is not a host"))?;
        request.host = host;
        request.host_port = port;
        request.authority = authority;
    } else {
        "pylae".clone_into(&mut request.host);
    }
    Ok(())
}

/// Headers that say who the client is; only a trusted peer may send them, however they are spelled.
pub fn is_identity(name: &[u8]) -> bool {
    const PREFIXES: [&[u8]; 4] = [b"x-consumer-", b"x-credential-", b"x-anonymous-consumer", b"x-authenticated-"];
    if name.len() < 11 || !name[0].eq_ignore_ascii_case(&b'x') {
        return false;
    }
    PREFIXES.iter().any(|prefix| name.get(..prefix.len()).is_some_and(|beginning| is_spelled(beginning, prefix)))
}

fn new_exchange(
    gateway: &Rc<Gateway>,
    connection: &ClientConnection,
    mut request: Request,
    fields: RequestFields,
    started: Instant,
) -> ExchangeRef {
    let facts = &connection.facts;
    let peer_is_trusted = !gateway.trusted.is_empty() && gateway.is_trusted(facts.peer.ip());
    request.headers = fields.headers;
    if !peer_is_trusted {
        request.headers.retain(|name, _| !is_identity(name));
    }
    request.body = if connection.body.is_done() { BodyStore::Empty } else { BodyStore::Unread };
    let exchange = blank_exchange(gateway, facts, request, started);
    {
        let mut borrowed = exchange.borrow_mut();
        borrowed.nominated = fields.nominated;
        borrowed.peer_is_trusted = peer_is_trusted;
        if peer_is_trusted {
            (borrowed.client_ip, borrowed.client_port) = real_ip(gateway, &borrowed.request.headers, facts);
        }
        if fields.may_be_probe
            && let Some(key) = &gateway.probe_key
        {
            borrowed.probe = key.nonce_of(&borrowed.request, borrowed.started_at_ms / 1000);
        }
        borrowed.forwarded = forwarded(&borrowed.request, facts, peer_is_trusted);
    }
    exchange
}

/// An exchange of which nothing is known but its connection and request.
fn blank_exchange(gateway: &Rc<Gateway>, facts: &Rc<ConnectionFacts>, request: Request, started: Instant) -> ExchangeRef {
    Rc::new(RefCell::new(Exchange {
        id: gateway.next_request_id(),
        connection: Rc::clone(facts),
        started,
        started_at_ms: crate::clock::now_ms(),
        snapshot: gateway.snapshot.load_full(),
        nominated: Vec::new(),
        client_ip: facts.peer.ip(),
        client_port: facts.peer.port(),
        peer_is_trusted: false,
        forwarded: Forwarded::default(),
        matched: None,
        consumer_id: None,
        credential_id: None,
        balancing: crate::exchange::Balancing::default(),
        upstream: UpstreamRequest {
            method: None,
            path: request.path.clone(),
            query: request.query.clone(),
            is_tls: false,
            headers: None,
            host_header: None,
            host_by_plugin: None,
            body: None,
            target_host: String::new(),
            target_port: 80,
            uri: String::new(),
        },
        request,
        response: None,
        attempts: Vec::new(),
        fault: None,
        noticed: None,
        steps: Vec::new(),
        probe: None,
        author: None,
        station: Station::ReadRequest,
        moments: Moments::default(),
        sent_bytes: 0,
        sent_body_bytes: 0,
        plugins: Vec::new(),
        phase: Phase::Rewrite,
        host_data: None,
        early_headers: Headers::new(),
        concealed: Vec::new(),
    }))
}

/// The client's address as a trusted peer tells it (nginx's realip module).
fn real_ip(gateway: &Gateway, headers: &Headers, facts: &ConnectionFacts) -> (IpAddr, u16) {
    let name = &gateway.settings.real_ip_header;
    let mut address = (facts.peer.ip(), facts.peer.port());
    let joined: Vec<&[u8]> = headers.get_all(name).collect();
    let joined = joined.join(&b","[..]);
    for entry in joined.split(|&b| b == b',').rev() {
        let Ok(text) = std::str::from_utf8(entry.trim_ascii()) else { break };
        let parsed = text
            .parse::<IpAddr>()
            .map(|ip| (ip, 0))
            .ok()
            .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|a| (a.ip(), a.port())))
            .or_else(|| text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).and_then(|t| t.parse().ok()).map(|ip: IpAddr| (ip, 0)));
        let Some(parsed) = parsed else { break };
        address = parsed;
        if !gateway.settings.real_ip_recursive || !gateway.is_trusted(parsed.0) {
            break;
        }
    }
    address
}

fn forwarded(request: &Request, facts: &ConnectionFacts, trusted: bool) -> Forwarded {
    let from = |name: &str| if trusted { request.headers.get_str(name).map(str::to_owned) } else { None };
    Forwarded {
        proto: from("x-forwarded-proto").unwrap_or_else(|| if facts.tls.is_some() { "https".into() } else { "http".into() }),
        host: from("x-forwarded-host").unwrap_or_else(|| request.host.clone()),
        port: from("x-forwarded-port").unwrap_or_else(|| facts.listen_port.to_string()),
        path: if trusted { request.headers.get("x-forwarded-path").map(<[u8]>::to_vec) } else { None }
            .unwrap_or_else(|| request.raw_path.clone()),
        prefix: if trusted { request.headers.get("x-forwarded-prefix").map(<[u8]>::to_vec) } else { None },
    }
}

#[cfg(test)]
mod tests {
    use super::is_identity;

    #[test]
    fn test_identity_headers_are_known_however_they_are_spelled() {
        for name in [
            "X-Consumer-ID",
            "x_consumer_username",
            "X-Consumer_Custom-ID",
            "X-Credential-Identifier",
            "X_Anonymous_Consumer",
            "X.Consumer~ID",
            "X-Authenticated-Groups",
        ] {
            assert!(is_identity(name.as_bytes()), "{name}");
        }
        for name in ["X-Consume", "Y-Consumer-ID", "X-Custom"] {
            assert!(!is_identity(name.as_bytes()), "{name}");
        }
    }
}
