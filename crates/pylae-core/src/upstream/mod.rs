// SPDX-License-Identifier: Apache-2.0
//! Is there a connection? Names, the pool of idle connections, connecting, TLS.

pub mod alert;
pub mod certificate;
pub mod dns;
pub mod habits;
pub mod handshake;
pub mod pool;
pub mod tls;

use crate::exchange::{Fired, LargestHeader};
use crate::fault::{Fault, FaultKind};
use crate::http::wire::{Stream, Wire};
use crate::resilience::queue::Place;
use handshake::{Evidence, UpstreamTlsFacts};
use pylae_shared::tcp;
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Which connections may stand for one another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// Where.
    pub address: SocketAddr,
    /// Server name and whether its certificate was checked, for TLS.
    pub tls: Option<(String, bool)>,
}

/// A connection to an upstream, held by one exchange at a time.
pub struct UpstreamConnection {
    /// The socket.
    pub wire: Wire,
    /// Requests it has carried.
    pub requests: u32,
    /// Bytes received before the exchange that holds it.
    pub received_before: u64,
    /// When it was made.
    pub made: Instant,
    /// When the last byte of the last answer came, if that was seen.
    pub quiet_since: Option<Instant>,
    /// How long it may lie idle, as its server says (`Keep-Alive: timeout=5`), less a margin and the way there and back.
    pub said: Option<Duration>,
    /// The same as its server says it.
    pub stated: Option<Duration>,
    /// How long it lay idle before this exchange; `None`: it is fresh.
    pub idle: Option<Duration>,
    /// Its request's place among those in flight, where requests queue for the host.
    pub place: Option<Place>,
    /// Was the whole request sent? Else what is still owed would be read as the next request.
    pub is_request_whole: bool,
    /// What its handshake told.
    pub tls: Option<Rc<UpstreamTlsFacts>>,
    /// What the exchange that holds it, or held it last, saw of it.
    pub account: Account,
}

/// What one exchange sees of a connection besides the bytes.
#[derive(Debug, Default)]
pub struct Account {
    /// The last byte of the request was handed to the socket.
    pub sent_at: Option<Instant>,
    /// The first byte of an answer came.
    pub first_byte_at: Option<Instant>,
    /// Interim answers (1xx) that came.
    pub interim: usize,
    /// Bytes of the head of the answer, or of what came of it.
    pub head_bytes: usize,
    /// The largest field of a large head.
    pub largest_header: Option<LargestHeader>,
    /// The timer that ended it.
    pub timer: Option<Fired>,
}

impl UpstreamConnection {
    /// A fresh one.
    pub fn new(wire: Wire) -> Self {
        UpstreamConnection {
            wire,
            requests: 0,
            received_before: 0,
            made: Instant::now(),
            quiet_since: None,
            said: None,
            stated: None,
            idle: None,
            place: None,
            is_request_whole: true,
            tls: None,
            account: Account::default(),
        }
    }
}

/// Connects, and shakes hands when the key says TLS. `evidence` is kept whatever comes of it.
///
/// # Errors
/// A fault of room `upstream`, with nginx's phrase.
pub async fn connect(
    key: &PoolKey,
    tls: &tls::UpstreamTls,
    patience: Duration,
    evidence: &mut Evidence,
) -> Result<UpstreamConnection, Fault> {
    let socket = Cell::new(None);
    let mut unacknowledged = None;
    let outcome = {
        let work = async {
            let stream = TcpStream::connect(key.address).await.map_err(|error| {
                evidence.ended = Some(ended_in_connect(&error));
                connect_fault(&error)
            })?;
            evidence.connected_at = Some(Instant::now());
            socket.set(Some(stream.as_raw_fd()));
            let _ = stream.set_nodelay(true);
            let stream = match &key.tls {
                None => Stream::Plain(stream),
                Some((name, verify)) => Stream::Tls(Box::new(tls.handshake(stream, name, *verify, evidence).await?)),
            };
            Ok(UpstreamConnection { tls: evidence.tls.clone(), ..UpstreamConnection::new(Wire::new(stream)) })
        };
        let mut work = pin!(work);
        let mut deadline = crate::http::wire::Deadline::new();
        deadline.arm(patience);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => deadline.poll(cx).map(|()| {
                // The work still holds the socket.
                unacknowledged = socket.get().and_then(|socket| tcp::unacknowledged(&socket));
                None
            }),
        })
        .await
    };
    outcome.unwrap_or_else(|| {
        let ms = patience.as_millis();
        evidence.ended = Some("timeout: connect");
        evidence.unacknowledged = unacknowledged;
        let text = match evidence.connected_at {
            None => format!("no connection within {ms} ms"),
            Some(_) => format!("connected, and the TLS handshake was not done within {ms} ms of the begin"),
        };
        Err(Fault::new(FaultKind::ConnectTimeout, text))
    })
}

fn ended_in_connect(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::ConnectionReset => "rst",
        _ => "failed",
    }
}

fn connect_fault(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => FaultKind::ConnectRefused.into(),
        // It was accepted and reset before we asked how it went: the same as a reset a moment later.
        io::ErrorKind::ConnectionReset => {
            let text = errno_text(error);
            Fault::with_phrase(FaultKind::ResetBeforeHeaders, text.clone(), format!("connect() failed ({text})"))
        }
        _ => {
            let text = errno_text(error);
            Fault::with_phrase(FaultKind::ConnectFailed, text.clone(), format!("connect() failed ({text})"))
        }
    }
}

/// `111: Connection refused`, as nginx writes an errno.
pub fn errno_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            format!("{code}: {text}")
        }
        None => error.to_string(),
    }
}
