// SPDX-License-Identifier: Apache-2.0
//! Everything known about one request and its answer: what the rooms and the plugins share.
//!
//! Facts of the connection stand apart ([`ConnectionFacts`]): one socket carries many exchanges.

use crate::balancer::{Tried, Turn};
use crate::fault::Fault;
use crate::http::headers::Headers;
use crate::observe::authors::Author;
use crate::observe::masking;
use crate::router::Match;
use crate::snapshot::{Id, PluginInstance, Snapshot};
use crate::upstream::dns::DnsFacts;
use crate::upstream::handshake::UpstreamTlsFacts;
use rustls_pki_types::CertificateDer;
use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The journey and the plugin host share the exchange; neither holds a borrow across the other's call.
pub type ExchangeRef = Rc<RefCell<Exchange>>;

/// What is known of a client's connection.
#[derive(Debug)]
pub struct ConnectionFacts {
    /// Number of the connection in this worker, from 1; `*N` in `error.log`.
    pub serial: u64,
    /// Who is at the other end of the socket.
    pub peer: SocketAddr,
    /// The address the connection came in on.
    pub local: SocketAddr,
    /// The configured port, after `port_maps`.
    pub listen_port: u16,
    /// TLS facts, when the listener terminates TLS.
    pub tls: Option<TlsFacts>,
    /// Requests begun on this connection.
    pub requests: Cell<u64>,
    /// Names (DER) of the authorities a client is told to choose its certificate by; the certificate phase sets them.
    pub authorities: RefCell<Vec<Vec<u8>>>,
}

/// What was agreed in a TLS handshake.
#[derive(Debug, Clone)]
pub struct TlsFacts {
    /// `TLSv1.3`.
    pub version: String,
    /// Cipher suite, OpenSSL's name.
    pub cipher: String,
    /// The name the client asked for.
    pub sni: Option<String>,
    /// What the client presented, if it was asked and did.
    pub client: Option<Rc<ClientCertificate>>,
}

/// A certificate whose private key the client has; whether anybody vouches for it is for plugins to say.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The chain as the client sent it (DER), its own certificate first; never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// SHA-256 over the lengths (32 bits, big-endian) and bytes of all of them.
    pub digest: [u8; 32],
}

/// HTTP version of a request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A bare `GET /path`: the answer is a body without a head.
    Http09,
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    /// `1.1`, as `Via` and plugins spell it.
    pub fn number(self) -> &'static str {
        match self {
            Version::Http09 => "0.9",
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
        }
    }
}

/// What the client asked.
#[derive(Debug)]
pub struct Request {
    /// The request line as it came, for the logs; empty while none was read.
    pub line: Vec<u8>,
    /// Method, as sent.
    pub method: String,
    /// Path as sent, without query, undecoded.
    pub raw_path: Vec<u8>,
    /// Path normalised once, for router, plugins and upstream.
    pub path: Vec<u8>,
    /// What follows `?`, undecoded; `None` when there is no `?`.
    pub query: Option<Vec<u8>>,
    /// HTTP version.
    pub version: Version,
    /// Header fields as they came.
    pub headers: Headers,
    /// Host without port, case as sent; empty when a 1.0 request named none.
    pub host: String,
    /// Port in the Host header or target, if any.
    pub host_port: Option<u16>,
    /// The Host header (or authority of an absolute target) as sent.
    pub authority: Vec<u8>,
    /// Bytes of head and body read for this request.
    pub received_bytes: u64,
    /// Bytes of its head, empty line included; of one that was refused, those that had come.
    pub head_bytes: usize,
    /// Bytes of its body that were read, decoded.
    pub body_bytes: u64,
    /// The longest line of a head that was too large, as far as it had come.
    pub oversized: Option<Box<LargestHeader>>,
    /// The body, when it was buffered; shared with retries.
    pub body: BodyStore,
}

/// Where a buffered request body lies.
#[derive(Debug, Default)]
pub enum BodyStore {
    /// The request has no body.
    #[default]
    Empty,
    /// A body follows, and was not read (or is being streamed).
    Unread,
    /// The whole body, within `client_body_buffer_size`.
    Memory(Vec<u8>),
    /// The whole body in an unlinked file under PREFIX/spool; its length in bytes.
    File(Rc<std::fs::File>, u64),
}

/// What goes upstream; set from the request and the Route, then edited by plugins.
#[derive(Debug)]
pub struct UpstreamRequest {
    /// Method to send; `None`: the client's.
    pub method: Option<String>,
    /// Path to send, undecoded.
    pub path: Vec<u8>,
    /// Query to send.
    pub query: Option<Vec<u8>>,
    /// `http` or `https`.
    pub is_tls: bool,
    /// Fields to send instead of the client's, once a plugin has touched one. Holds no hop-by-hop and no gateway field.
    pub headers: Option<Headers>,
    /// Host to send, chosen anew for each attempt.
    pub host_header: Option<Vec<u8>>,
    /// Host a plugin asked for; outlives retries.
    pub host_by_plugin: Option<Vec<u8>>,
    /// Body to send instead of the client's.
    pub body: Option<Vec<u8>>,
    /// Host (name or address) to connect to, or an Upstream's name.
    pub target_host: String,
    /// Port to connect to.
    pub target_port: u16,
    /// What was sent by the last attempt, `scheme://address:port/path`, for logs.
    pub uri: String,
}

/// Who made the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The upstream.
    Service,
    /// A plugin, body as given.
    Exit,
    /// The gateway or a plugin's error, body negotiated.
    Error,
}

impl Source {
    /// As `kong.response.get_source` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Source::Service => "service",
            Source::Exit => "exit",
            Source::Error => "error",
        }
    }
}

/// The answer on its way to the client.
#[derive(Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Reason phrase to send; `None`: the usual one.
    pub reason: Option<Vec<u8>>,
    /// End-to-end fields; framing and hop-by-hop fields are written anew.
    pub headers: Headers,
    /// Who made it.
    pub source: Source,
    /// The whole body: always for `exit` and `error`, for `service` only when a plugin has a `response` phase.
    pub body: Option<Vec<u8>>,
    /// Status the upstream answered with; `None` when it did not.
    pub status_of_upstream: Option<u16>,
}

/// What a pooled connection had behind it.
#[derive(Debug, Clone, Copy)]
pub struct Reused {
    /// Requests it had carried.
    pub requests: u32,
    /// How long it had lain idle.
    pub idle: Duration,
    /// How old it was.
    pub age: Duration,
}

/// A timer that fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fired {
    /// The setting that set it, or what it stands for: `connect_timeout`, `write_timeout`, `read_timeout`, `acknowledgement`,
    /// `per_try_timeout.connect`, `per_try_timeout.first_byte`.
    pub name: &'static str,
    /// How long it was.
    pub length: Duration,
}

/// A header field whose size is worth telling; never its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargestHeader {
    /// Its name as sent.
    pub name: String,
    /// Bytes of its line.
    pub bytes: usize,
}

/// One try at an upstream.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Address tried; `None` when no address was found.
    pub address: Option<SocketAddr>,
    /// The Target's or Service's host name.
    pub host: String,
    /// Milliseconds since the epoch when a Target was chosen.
    pub started_at_ms: u64,
    /// When it began.
    pub started: Instant,
    /// What was known of the name its address came from; `None`: no name was asked for yet.
    pub dns: Option<DnsFacts>,
    /// Time to connect, if it came so far; the handshake is apart.
    pub connect_ms: Option<f64>,
    /// Time to shake hands, if it came so far.
    pub tls_ms: Option<f64>,
    /// What was learned in the handshake, of a pooled connection in its own; also in one that failed.
    pub tls: Option<Rc<UpstreamTlsFacts>>,
    /// The TLS alert that ended it: `received: certificate_required`, `sent: bad_certificate`.
    pub alert: Option<String>,
    /// Was it a pooled connection, and how was it used before?
    pub reused: Option<Reused>,
    /// How long this server keeps a connection that lies idle, as it says or as was learned; told of attempts that failed.
    pub idle_limit: Option<Duration>,
    /// How long we keep them at most; `None`: without a limit. Told with `idle_limit`.
    pub our_idle_limit: Option<Duration>,
    /// Why it was followed by another, or was not.
    pub again: Option<&'static str>,
    /// Bytes sent to the upstream on this attempt.
    pub sent_bytes: u64,
    /// Bytes there were to send, head and body; `None`: the client did not say how long its body is.
    pub request_bytes: Option<u64>,
    /// The last byte of the request was handed to the socket.
    pub sent_at: Option<Instant>,
    /// Bytes received from the upstream on this attempt.
    pub received_bytes: u64,
    /// The first byte of the answer came.
    pub first_byte_at: Option<Instant>,
    /// The first bytes received (at most 64), evidence for what spoke; of a failed handshake what came in the place of TLS.
    pub first_bytes: Vec<u8>,
    /// How the socket ended: `fin`, `rst`, `timeout: read` …, `kept`, `open`.
    pub ended: &'static str,
    /// Status of the answer, if a head came.
    pub status: Option<u16>,
    /// Time from its begin to the head, if it came.
    pub head_ms: Option<f64>,
    /// Bytes of the head of the answer, or of what came of it; see [`crate::http::head::RESPONSE_HEAD_LIMIT_BYTES`].
    pub head_bytes: usize,
    /// The largest field of a head that is large, or too large.
    pub largest_header: Option<LargestHeader>,
    /// The timer that ended it.
    pub timer: Option<Fired>,
    /// When the timer fired, something that was sent was not acknowledged, not even by the kernel at the other end: time since
    /// its last acknowledgement. `Some` of zero: all was.
    pub unacknowledged: Option<Duration>,
    /// What went wrong, if it did.
    pub fault: Option<Fault>,
}

impl Attempt {
    /// One that begins.
    pub fn new(address: Option<SocketAddr>, host: String, dns: Option<DnsFacts>, started: Instant) -> Self {
        Attempt {
            address,
            host,
            started_at_ms: crate::clock::now_ms(),
            started,
            dns,
            connect_ms: None,
            tls_ms: None,
            tls: None,
            alert: None,
            reused: None,
            idle_limit: None,
            our_idle_limit: None,
            again: None,
            sent_bytes: 0,
            request_bytes: None,
            sent_at: None,
            received_bytes: 0,
            first_byte_at: None,
            first_bytes: Vec::new(),
            ended: "open",
            status: None,
            head_ms: None,
            head_bytes: 0,
            largest_header: None,
            timer: None,
            unacknowledged: None,
            fault: None,
        }
    }
}

/// What came of one plugin's phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// The walk went on.
    Continue,
    /// It answered with this status.
    Answered(u16),
    /// It raised or returned rubbish: this, in one line.
    Failed(Box<str>),
    /// The client left while it waited for something.
    Cancelled,
}

/// One plugin's phase of one exchange.
#[derive(Debug, Clone)]
pub struct PluginStep {
    /// Which plugin, by which row.
    pub instance: Arc<PluginInstance>,
    /// Which phase.
    pub phase: crate::phases::Phase,
    /// How long it took, waiting included; all pieces of a body together.
    pub took: Duration,
    /// What came of it.
    pub outcome: StepOutcome,
    /// Did it wait for something?
    pub waited: bool,
}

/// What choosing a Target needs to remember between two attempts.
#[derive(Debug, Default)]
pub struct Balancing {
    /// The hash of the request's key, once it was asked for.
    pub hash: Option<u64>,
    /// Value of the cookie that is to be set, so that the client's next request goes the same way.
    pub new_cookie: Option<String>,
    /// Addresses that were tried.
    pub tried: Vec<Tried>,
    /// So many of them, the last ones, are of the attempts that are made at once.
    pub racing: usize,
    /// The request is with this address now.
    pub turn: Option<Turn>,
}

/// Where in the walk a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Station {
    /// Its head is read and checked.
    ReadRequest,
    /// The rewrite phase.
    Rewrite,
    /// Which Route?
    Route,
    /// The access phase.
    Access,
    /// Its body is read whole.
    ReadBody,
    /// At upstreams: see the last attempt.
    Attempts,
    /// The answer's body is read whole.
    ReadAnswer,
    /// Plugins see the answer.
    Filter,
    /// The answer goes to the client.
    SendAnswer,
}

/// Moments of the walk, each absent until reached.
#[derive(Debug, Default)]
pub struct Moments {
    /// It began to wait for its turn at the host.
    pub queued: Option<Instant>,
    /// The last attempt began.
    pub attempt_started: Option<Instant>,
    /// The upstream's head is in.
    pub head_received: Option<Instant>,
    /// The first byte of the answer was handed to the client's socket.
    pub answer_started: Option<Instant>,
    /// It was seen that the client had gone.
    pub departed: Option<Instant>,
}

/// One request, its answer and all that happened between.
pub struct Exchange {
    /// 32 hex digits.
    pub id: RequestId,
    /// The connection it came on.
    pub connection: Rc<ConnectionFacts>,
    /// When its first byte was read.
    pub started: Instant,
    /// The same in milliseconds since the epoch.
    pub started_at_ms: u64,
    /// The configuration it is served with, first to last.
    pub snapshot: Arc<Snapshot>,
    /// What the client asked.
    pub request: Request,
    /// Names the client put into `Connection`, lower case: they end here.
    pub nominated: Vec<String>,
    /// The client's address after `real_ip_header`.
    pub client_ip: IpAddr,
    /// The client's port after `real_ip_header`.
    pub client_port: u16,
    /// Is the peer among `trusted_ips`?
    pub peer_is_trusted: bool,
    /// `X-Forwarded-Proto/Host/Port/Path/Prefix` as they are sent upstream.
    pub forwarded: Forwarded,
    /// The Route that matched, its Service and captures.
    pub matched: Option<Match>,
    /// Id of the Consumer a plugin authenticated, as 16 bytes; decides which plugin rows apply.
    pub consumer_id: Option<Id>,
    /// Id of the credential a plugin let it in by; hashed where there is no Consumer.
    pub credential_id: Option<Id>,
    /// What choosing a Target needs to remember.
    pub balancing: Balancing,
    /// What goes upstream.
    pub upstream: UpstreamRequest,
    /// The answer, once there is one.
    pub response: Option<Response>,
    /// Fields that plugins set before there was an answer; laid over whatever is answered, before its filters run.
    pub early_headers: Headers,
    /// Parameters of the query whose values are credentials: no log shows them.
    pub concealed: Vec<Box<[u8]>>,
    /// Tries at upstreams, in order.
    pub attempts: Vec<Attempt>,
    /// What went wrong for the client, if anything did.
    pub fault: Option<Fault>,
    /// What was seen of an answer that the client gets as it is: one that came broken from behind, or a plugin's refusal.
    pub noticed: Option<Fault>,
    /// What each plugin did in each phase, in order.
    pub steps: Vec<PluginStep>,
    /// The nonce of a probe of `pylae doctor`, once its signature was found good.
    pub probe: Option<Box<str>>,
    /// Who wrote an answer that came broken from behind.
    pub author: Option<Author>,
    /// Where in the walk it is.
    pub station: Station,
    /// Moments of the walk.
    pub moments: Moments,
    /// Bytes of head and body handed to the client's socket.
    pub sent_bytes: u64,
    /// Bytes of body handed to the client's socket.
    pub sent_body_bytes: u64,
    /// Plugins collected for this request, in order; later phases run over them.
    pub plugins: Vec<Arc<PluginInstance>>,
    /// The phase that runs now.
    pub phase: crate::phases::Phase,
    /// What the host keeps with the exchange (Python views, `ctx`).
    pub host_data: Option<Box<dyn Any>>,
}

/// What `X-Forwarded-*` say upstream.
#[derive(Debug, Default)]
pub struct Forwarded {
    /// `http` or `https`.
    pub proto: String,
    /// Host the client asked for.
    pub host: String,
    /// Port the client asked on.
    pub port: String,
    /// Path the client asked for, as sent.
    pub path: Vec<u8>,
    /// The matched prefix when it was stripped.
    pub prefix: Option<Vec<u8>>,
}

/// 128 random bits in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// From 128 bits.
    pub fn from_bits(bits: u128) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 32];
        for (i, slot) in text.iter_mut().enumerate() {
            *slot = HEX[((bits >> (124 - 4 * i)) & 15) as usize];
        }
        RequestId(text)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Exchange {
    /// Keeps the value of a parameter out of every log.
    pub fn conceal_argument(&mut self, name: &str) {
        if self.concealed.iter().any(|known| **known == *name.as_bytes()) {
            return;
        }
        self.concealed.push(name.as_bytes().into());
        // The line is for the logs only. What follows its last space is the version, or part of a target of HTTP/0.9.
        let line = &self.request.line;
        if let Some(begin) = memchr::memchr(b'?', line).map(|at| at + 1) {
            let end = line.iter().rposition(|&byte| byte == b' ').filter(|&at| at >= begin).unwrap_or(line.len());
            let shown = masking::without_values(&line[begin..end], &self.concealed);
            self.request.line.splice(begin..end, shown);
        }
    }

    /// A query as logs may show it.
    pub fn shown_query<'a>(&self, query: &'a [u8]) -> Cow<'a, [u8]> {
        if self.concealed.is_empty() { Cow::Borrowed(query) } else { Cow::Owned(masking::without_values(query, &self.concealed)) }
    }

    /// What there is to tell: what went wrong, or else what was noticed.
    pub fn told_fault(&self) -> Option<&Fault> {
        self.fault.as_ref().or(self.noticed.as_ref())
    }

    /// `http` or `https`, by the listener.
    pub fn scheme(&self) -> &'static str {
        if self.connection.tls.is_some() { "https" } else { "http" }
    }

    /// The client's fields as the upstream will see them, for reading; see [`Exchange::upstream_headers_mut`].
    pub fn upstream_headers(&self) -> &Headers {
        self.upstream.headers.as_ref().unwrap_or(&self.request.headers)
    }

    /// The fields that go upstream, for editing.
    pub fn upstream_headers_mut(&mut self) -> &mut Headers {
        self.upstream.headers.get_or_insert_with(|| {
            let mut headers = self.request.headers.clone();
            headers.retain(|name, _| !crate::http::hop::is_dropped(name, &self.nominated));
            headers
        })
    }
}
