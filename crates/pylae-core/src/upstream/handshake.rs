// SPDX-License-Identifier: Apache-2.0
//! What was learned while a connection was made, be it that it failed? The handshake, its facts, and what its failures mean.

use super::alert::{Alert, INSUFFICIENT_SECURITY, PROTOCOL_VERSION, UNRECOGNIZED_NAME};
use super::certificate::{CertificateFacts, name_text};
use super::errno_text;
use crate::fault::{Fault, FaultKind};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, PeerIncompatible, ProtocolVersion, SignatureScheme};
use rustls_pki_types::ServerName;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{Connect, TlsConnector};

/// Bytes kept of what came in the place of TLS.
const FIRST_BYTES: usize = 64;
/// Most names of issuers kept, of those whose certificates a server accepts.
const MOST_ISSUERS: usize = 4;

/// What was learned in a handshake with an upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamTlsFacts {
    /// `TLSv1.3`; `None`: it was not agreed on.
    pub version: Option<&'static str>,
    /// The protocol that was agreed on.
    pub alpn: Option<String>,
    /// The name that was asked for; `None` where the host is an address.
    pub sni: Option<String>,
    /// The certificate was checked, and is good.
    pub is_verified: bool,
    /// What the server's certificate says, if it was seen.
    pub certificate: Option<CertificateFacts>,
    /// The server asked for a client certificate; none was shown.
    pub is_certificate_wanted: bool,
    /// Issuers of the client certificates it accepts, at most 4, as it named them.
    pub wanted_issuers: Vec<String>,
}

/// What was learned while a connection was made; kept also when it failed, or was given up.
#[derive(Debug, Default)]
pub struct Evidence {
    /// TCP connected.
    pub connected_at: Option<Instant>,
    /// The handshake was done.
    pub secured_at: Option<Instant>,
    /// What the handshake told.
    pub tls: Option<Rc<UpstreamTlsFacts>>,
    /// The alert that ended it: `received: certificate_required`, `sent: unknown_ca`.
    pub alert: Option<String>,
    /// What came in the place of TLS, at most 64 bytes.
    pub first_bytes: Vec<u8>,
    /// How the socket ended, where that is known.
    pub ended: Option<&'static str>,
    /// When it was given up: how long ago the peer had acknowledged something, if it owed it.
    pub unacknowledged: Option<Duration>,
}

/// OpenSSL's number and words for why a certificate is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotTrusted(pub u32, pub &'static str);

impl std::fmt::Display for NotTrusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

/// What the callbacks of one handshake saw.
#[derive(Debug, Default)]
struct Seen {
    certificate: Option<Vec<u8>>,
    not_trusted: Option<NotTrusted>,
    is_certificate_wanted: bool,
    wanted_issuers: Vec<String>,
}

thread_local! {
    /// Of the handshake that is being polled: verifiers are shared, as sessions are resumed only under the same one.
    static SEEN: RefCell<Seen> = RefCell::default();
}

/// The verifier saw this certificate (DER), and may have found fault with it.
pub(super) fn saw_certificate(certificate: &[u8], not_trusted: Option<NotTrusted>) {
    SEEN.with_borrow_mut(|seen| (seen.certificate, seen.not_trusted) = (Some(certificate.to_vec()), not_trusted));
}

/// Shows no client certificate, and keeps in mind that one was asked for.
#[derive(Debug)]
pub(super) struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, issuers: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        SEEN.with_borrow_mut(|seen| {
            seen.is_certificate_wanted = true;
            seen.wanted_issuers = issuers.iter().take(MOST_ISSUERS).map(|issuer| name_text(issuer)).collect();
        });
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A handshake, of which the first bytes of the peer are kept.
struct Watched {
    connect: Connect<TcpStream>,
    seen: Seen,
    first: Vec<u8>,
}

impl Watched {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TlsStream<TcpStream>>> {
        if self.first.is_empty()
            && let Some(stream) = self.connect.get_ref()
        {
            let mut bytes = [0; FIRST_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            match stream.poll_peek(cx, &mut buffer) {
                Poll::Ready(Ok(_)) => self.first.extend_from_slice(buffer.filled()),
                // The kernel tells of it once.
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        let others = SEEN.replace(std::mem::take(&mut self.seen));
        let outcome = Pin::new(&mut self.connect).poll(cx);
        self.seen = SEEN.replace(others);
        outcome
    }
}

/// Shakes hands; `name` is the host, in brackets or not.
///
/// # Errors
/// `UpstreamTlsFailed`, `UpstreamCertificateRejected`, `UpstreamWantsCertificate`, with OpenSSL's words.
pub(super) async fn shake_hands(
    config: Arc<ClientConfig>,
    stream: TcpStream,
    name: &str,
    is_checked: bool,
    evidence: &mut Evidence,
) -> Result<TlsStream<TcpStream>, Fault> {
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    let server = ServerName::try_from(bare.to_owned()).map_err(|_| {
        Fault::with_phrase(
            FaultKind::UpstreamTlsFailed,
            format!("`{name}` is no server name"),
            "SSL_do_handshake() failed (invalid server name)".into(),
        )
    })?;
    let sni = matches!(server, ServerName::DnsName(_)).then(|| bare.to_owned());
    let mut facts = UpstreamTlsFacts { sni, ..UpstreamTlsFacts::default() };
    // Told also if the handshake is given up.
    evidence.tls = Some(Rc::new(facts.clone()));
    let connect = TlsConnector::from(config).connect(server, stream);
    let mut watched = Watched { connect, seen: Seen::default(), first: Vec::new() };
    let outcome = std::future::poll_fn(|cx| watched.poll(cx)).await;
    let Watched { seen, first, .. } = watched;
    facts.is_certificate_wanted = seen.is_certificate_wanted;
    facts.wanted_issuers = seen.wanted_issuers;
    let outcome = match outcome {
        Ok(stream) => {
            let session = stream.get_ref().1;
            facts.version = match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => Some("TLSv1.2"),
                Some(ProtocolVersion::TLSv1_3) => Some("TLSv1.3"),
                _ => None,
            };
            facts.alpn = session.alpn_protocol().map(|name| crate::http::head::printable(name, 32));
            facts.certificate = session.peer_certificates().and_then(|chain| CertificateFacts::of(chain.first()?));
            facts.is_verified = is_checked;
            evidence.secured_at = Some(Instant::now());
            Ok(stream)
        }
        Err(error) => {
            facts.certificate = seen.certificate.as_deref().and_then(CertificateFacts::of);
            Err(failed(&error, seen.not_trusted, &facts, &first, evidence))
        }
    };
    evidence.tls = Some(Rc::new(facts));
    outcome
}

/// What a failed handshake means.
fn failed(error: &io::Error, not_trusted: Option<NotTrusted>, facts: &UpstreamTlsFacts, first: &[u8], evidence: &mut Evidence) -> Fault {
    let fault = |text: &str, detail: String| {
        Fault::with_phrase(FaultKind::UpstreamTlsFailed, detail, format!("SSL_do_handshake() failed (SSL: {text})"))
    };
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return broke_off(error, facts, first, evidence);
    };
    evidence.ended = Some("closed by us");
    match tls {
        rustls::Error::InvalidMessage(what) => {
            // 15 03, 16 03: records of TLS, though not good ones.
            if !matches!(first, [0x14..=0x17, 3, ..]) {
                evidence.first_bytes = crate::http::wire::telling_bytes(first).to_vec();
                return fault("error:0A00010B:SSL routines::wrong version number", format!("what answered does not speak TLS ({what:?})"));
            }
            fault("error:0A00010B:SSL routines::wrong version number", format!("a malformed TLS message came ({what:?})"))
        }
        rustls::Error::AlertReceived(alert) => {
            let alert = Alert::of(*alert);
            evidence.alert = Some(format!("received: {}", alert.name()));
            evidence.ended = Some("failed");
            if alert.wants_certificate(facts.is_certificate_wanted) {
                return wants_certificate(alert, facts, "SSL_do_handshake()");
            }
            fault(&alert.openssl_text(), alert_detail(alert, facts))
        }
        rustls::Error::PeerIncompatible(why) => {
            if matches!(why, PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig) {
                evidence.alert = Some("sent: protocol_version".into());
            }
            fault("error:0A000102:SSL routines::unsupported protocol", format!("no version or cipher in common ({why:?})"))
        }
        rustls::Error::InvalidCertificate(why) => match not_trusted {
            Some(not_trusted) => {
                evidence.alert = Some(format!("sent: {}", Alert::of(why.clone().into()).name()));
                let phrase = format!("upstream SSL certificate verify error: ({not_trusted})");
                Fault::with_phrase(FaultKind::UpstreamCertificateRejected, rejected_detail(not_trusted, facts), phrase)
            }
            None => fault(&tls.to_string(), tls.to_string()),
        },
        other => fault(&other.to_string(), other.to_string()),
    }
}

/// The peer broke off without a word of TLS.
fn broke_off(error: &io::Error, facts: &UpstreamTlsFacts, first: &[u8], evidence: &mut Evidence) -> Fault {
    let how = match error.kind() {
        io::ErrorKind::UnexpectedEof => "fin",
        _ if crate::http::wire::is_reset(error) => "rst",
        _ => "failed",
    };
    evidence.ended = Some(how);
    let word = if how == "fin" { "closed" } else { "broke off" };
    let place = if first.is_empty() { "at the hello, without a byte" } else { "in the middle of the handshake" };
    let asked = if facts.is_certificate_wanted { "; it had asked for a client certificate" } else { "" };
    let phrase = match how {
        "fin" => "peer closed connection in SSL handshake".to_owned(),
        _ => format!("peer closed connection in SSL handshake ({})", errno_text(error)),
    };
    Fault::with_phrase(FaultKind::UpstreamTlsFailed, format!("the peer {word} {place}{asked}"), phrase)
}

/// The fault of an alert that asks for a client certificate.
pub fn wants_certificate(alert: Alert, facts: &UpstreamTlsFacts, call: &str) -> Fault {
    let mut detail = format!("the server sent alert {}", alert.name());
    if facts.is_certificate_wanted {
        detail.push_str(" after it asked for a client certificate and got none");
    }
    if !facts.wanted_issuers.is_empty() {
        detail.push_str("; it accepts those of ");
        detail.push_str(&facts.wanted_issuers.join("; "));
    }
    let phrase = format!("{call} failed (SSL: {})", alert.openssl_text());
    Fault::with_phrase(FaultKind::UpstreamWantsCertificate, detail, phrase)
}

fn alert_detail(alert: Alert, facts: &UpstreamTlsFacts) -> String {
    let name = alert.name();
    match (alert, &facts.sni) {
        (PROTOCOL_VERSION, _) => format!("the server speaks neither TLS 1.2 nor 1.3 (alert {name})"),
        (INSUFFICIENT_SECURITY, _) => format!("the server wants stronger ciphers than were offered (alert {name})"),
        (UNRECOGNIZED_NAME, Some(sni)) => format!("the server serves nothing by the name `{sni}` (alert {name})"),
        (_, Some(sni)) => format!("the server sent alert {name}; the name asked for was `{sni}`"),
        (_, None) => format!("the server sent alert {name}; no name was asked for, as the host is an address"),
    }
}

/// Why, and of what: `10:certificate has expired; CN=api.test, until 2026-01-01`.
fn rejected_detail(why: NotTrusted, facts: &UpstreamTlsFacts) -> String {
    let Some(certificate) = &facts.certificate else { return why.to_string() };
    let names = if certificate.names.is_empty() { String::new() } else { format!(" for {}", certificate.names.join(", ")) };
    let date = |seconds: Option<i64>| match seconds.map(u64::try_from) {
        Some(Ok(seconds)) => crate::clock::rfc3339_ms(seconds.saturating_mul(1000)).split('T').next().unwrap_or_default().to_owned(),
        _ => "an unknown date".to_owned(),
    };
    let (from, until) = (date(certificate.not_before_s), date(certificate.not_after_s));
    format!("{why}: {}{names}, issued by {}, good from {from} until {until}", certificate.subject, certificate.issuer)
}
