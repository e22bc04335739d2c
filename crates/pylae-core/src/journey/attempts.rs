// SPDX-License-Identifier: Apache-2.0
//! Which upstream answers? Attempts, one after the other, until a head has come or nothing more may be tried.

use super::choosing::{Choice, choose, observed, seen_of};
use super::guarding::Guard;
use super::{decided, hedging};
use crate::exchange::{Exchange, ExchangeRef, Fired, Reused};
use crate::fault::{Fault, FaultKind, Retry};
use crate::gateway::Gateway;
use crate::healthcheck::Outcome as Seen;
use crate::http::head::{ResponseHead, may_be_response, printable};
use crate::http::wire::telling_bytes;
use crate::listener::connection::ClientConnection;
use crate::observe::{Level, authors};
use crate::proxy::repeating::{has_body_still, is_repeatable, may_repeat, may_resend};
use crate::proxy::{self, Departure, Failure, Timeouts, doing};
use crate::resilience::Policy;
use crate::upstream::handshake::{Evidence, UpstreamTlsFacts};
use crate::upstream::{PoolKey, UpstreamConnection, connect, habits};
use pylae_shared::tcp::{self, TcpFacts};
use serde_json::json;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Certificates of upstreams that end so soon are warned of.
const EXPIRY_NOTICE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What came of a try.
pub(super) struct Tried {
    pub key: PoolKey,
    pub choice: Option<Choice>,
    pub started: Instant,
    pub outcome: Result<(ResponseHead, UpstreamConnection), Missed>,
}

/// Tries upstreams until one answers with a head, by Kong's rules of what may be tried again, and by those of the plugin
/// `resilience` where there is a policy.
pub(super) async fn proxy_heads(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    policy: Option<&Arc<Policy>>,
) -> Result<(ResponseHead, UpstreamConnection, PoolKey), Failure> {
    let (timeouts, tries, verify) = {
        let borrowed = exchange.borrow();
        match borrowed.matched.as_ref().and_then(|m| m.service.as_ref()) {
            Some(service) => (
                Timeouts { connect: service.connect_timeout(), write: service.write_timeout(), read: service.read_timeout() },
                service.retries() + 1,
                service.tls_verify.unwrap_or(gateway.settings.verify_upstream),
            ),
            None => {
                let minute = Duration::from_secs(60);
                (Timeouts { connect: minute, write: minute, read: minute }, 6, gateway.settings.verify_upstream)
            }
        }
    };
    let mut guard = match policy {
        Some(policy) => Some(Box::pin(Guard::enter(gateway, client, exchange, policy)).await?),
        None => None,
    };
    let mut tried = 0;
    let mut wants_fresh = false;
    loop {
        let Tried { key, choice, started, outcome } = match &mut guard {
            None => one_try(gateway, client, exchange, timeouts, verify, wants_fresh).await?,
            Some(guard) => Box::pin(guarded_try(gateway, client, exchange, guard, timeouts, verify, wants_fresh)).await?,
        };
        let missed = match outcome {
            Ok((head, mut connection)) => {
                if let Some(guard) = &mut guard {
                    connection.place = guard.answered(gateway, head.status);
                }
                if let Some(choice) = &choice {
                    choice.address.load.observe(started.elapsed(), pylae_shared::monotonic());
                    observed(gateway, exchange, choice, Seen::of_answer(head.status), || format!("status {}", head.status));
                }
                if authors::is_telling(head.status) {
                    authors::head_came(&mut exchange.borrow_mut(), &head, connection.wire.buffered());
                }
                return Ok((head, connection, key));
            }
            Err(missed) => missed,
        };
        let Failure::Fault(mut fault, what) = missed.failure else { return Err(missed.failure) };
        let is_stale = missed.is_stale && !wants_fresh;
        let again = if is_stale { again_on_fresh(&exchange.borrow(), client, &fault) } else { None };
        if let Some(again) = again {
            // Its server closed the pooled connection as we took it: not the server's fault, and not counted as a try.
            wants_fresh = true;
            note_fault(exchange, &fault, again);
            exchange.borrow_mut().balancing.turn = None;
            // That one came late enough for somebody to look.
            let level = if fault.kind == FaultKind::ConnectionDead { Level::Warn } else { Level::Info };
            gateway.logs.log_exchange(level, &exchange.borrow(), &format!("{}; {again}", fault.phrase()), what);
            decided(gateway, exchange, || "retry.made reason=stale_connection".to_owned());
            continue;
        }
        if !missed.is_told {
            if let Some(guard) = guard.as_ref().filter(|_| !missed.is_idle_close) {
                guard.failed(gateway, &mut fault, timeouts, exchange.borrow_mut().attempts.last_mut());
            }
            blame(gateway, exchange, choice.as_ref().filter(|_| !missed.is_idle_close), &fault, what);
        }
        let may_repeat = match fault.kind.facts().retry {
            Retry::Never => false,
            // A late alert of TLS comes when a part of the body may be gone.
            Retry::NothingSent => has_body_still(&exchange.borrow(), client),
            Retry::Idempotent => may_repeat(&exchange.borrow(), client),
        };
        if let Some(choice) = &choice {
            let balancing = &mut exchange.borrow_mut().balancing;
            balancing.turn = None;
            balancing.tried.push(choice.tried());
        }
        tried += 1;
        let refused = if !may_repeat {
            Some(("may_have_acted", why_not_repeated(&exchange.borrow(), &fault)))
        } else if tried >= tries {
            Some(("no_try_left", "not sent again: no try is left"))
        } else if client.is_gone() {
            Some(("client_gone", "not sent again: the client is gone"))
        } else {
            guard.as_mut().and_then(Guard::refuses_retry)
        };
        note_fault(exchange, &fault, refused.map_or("sent again: another try", |(_, text)| text));
        if let Some((reason, _)) = refused {
            decided(gateway, exchange, || format!("retry.refused reason={reason} fault={} tried={tried}", fault.kind.facts().name));
            return Err(Failure::Fault(fault, what));
        }
    }
}

/// One try of a request that nothing guards: somewhere to go, and the attempt.
async fn one_try(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    timeouts: Timeouts,
    verify: bool,
    wants_fresh: bool,
) -> Result<Tried, Failure> {
    let started = Instant::now();
    let (key, choice) = choose(gateway, client, exchange, verify, started).await?;
    let at = exchange.borrow().attempts.len() - 1;
    let outcome = attempt(gateway, client, exchange, at, &key, timeouts, wants_fresh).await;
    Ok(Tried { key, choice, started, outcome })
}

/// The same within the bounds of the plugin `resilience`; of several attempts at once, if it is hedged.
async fn guarded_try(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    guard: &mut Guard,
    timeouts: Timeouts,
    verify: bool,
    wants_fresh: bool,
) -> Result<Tried, Failure> {
    let after = guard.hedging(&exchange.borrow()).map(|rules| rules.after);
    match after {
        Some(after) => hedging::race(gateway, client, exchange, guard, after, (timeouts, verify, wants_fresh)).await,
        None => one_try(gateway, client, exchange, guard.bounded(timeouts), verify, wants_fresh).await,
    }
}

/// An attempt failed: the log hears of it, and who keeps an eye on its Target.
pub(super) fn blame(gateway: &Rc<Gateway>, exchange: &ExchangeRef, choice: Option<&Choice>, fault: &Fault, what: &str) {
    gateway.logs.log_exchange(Level::Error, &exchange.borrow(), fault.phrase(), what);
    if let (Some(choice), Some(seen)) = (choice, seen_of(fault)) {
        observed(gateway, exchange, choice, seen, || fault.phrase().to_owned());
    }
}

/// Why a request is not sent once more, in words.
fn why_not_repeated(exchange: &Exchange, fault: &Fault) -> &'static str {
    if fault.kind.facts().retry == Retry::Never {
        "not sent again: the upstream has it, and would say the same"
    } else if fault.kind.facts().retry == Retry::NothingSent || is_repeatable(exchange) {
        "not sent again: its body was passed on as it came, and is gone"
    } else {
        "not sent again: the upstream may have acted on it, and the method is none that may be repeated"
    }
}

/// Keeps what went wrong with the last attempt, and what came of it.
fn note_fault(exchange: &ExchangeRef, fault: &Fault, again: &'static str) {
    if let Some(attempt) = exchange.borrow_mut().attempts.last_mut() {
        attempt.fault = Some(fault.clone());
        attempt.again = Some(again);
    }
}

/// An attempt without an answer.
pub(super) struct Missed {
    pub failure: Failure,
    /// It was a pooled connection, and nothing of an answer came.
    pub is_stale: bool,
    /// And that was for its idleness: nothing is told of how the server does.
    pub is_idle_close: bool,
    /// It was told of as it came, while others went on.
    pub is_told: bool,
}

/// May a request that met a closed connection be sent once more, on a fresh one? Then why; nothing of an answer has come.
fn again_on_fresh(exchange: &Exchange, client: &ClientConnection, fault: &Fault) -> Option<&'static str> {
    if fault.kind.facts().retry == Retry::Never || client.is_gone() || !may_resend(exchange, client) {
        None
    } else if is_repeatable(exchange) {
        Some("sent again on a fresh connection: the method may be repeated")
    } else {
        Some("sent again on a fresh connection: it has an idempotency key")
    }
}

/// A pooled connection, or a new one.
async fn connection_for(
    gateway: &Rc<Gateway>,
    client: &mut impl Departure,
    exchange: &ExchangeRef,
    at: usize,
    key: &PoolKey,
    timeouts: Timeouts,
    wants_fresh: bool,
) -> Result<UpstreamConnection, Failure> {
    let begun = Instant::now();
    decided(gateway, exchange, || format!("target.chosen address={}", key.address));
    let may_resend = may_resend(&exchange.borrow(), client);
    if !wants_fresh && let Some(connection) = gateway.pool.take(key, may_resend) {
        let (requests, idle, age) = (connection.requests, connection.idle.unwrap_or_default(), begun - connection.made);
        decided(gateway, exchange, || format!("connection.reused requests={requests} idle_ms={}", idle.as_millis()));
        if let Some(attempt) = exchange.borrow_mut().attempts.get_mut(at) {
            attempt.reused = Some(Reused { requests, idle, age });
            attempt.tls.clone_from(&connection.tls);
        }
        return Ok(connection);
    }
    let mut evidence = Evidence::default();
    let connected = {
        let mut connecting = std::pin::pin!(connect(key, &gateway.upstream_tls, timeouts.connect, &mut evidence));
        std::future::poll_fn(|cx| match connecting.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => client.poll_departed(cx).map(|()| None),
        })
        .await
    };
    let mut borrowed = exchange.borrow_mut();
    if let Some(attempt) = borrowed.attempts.get_mut(at) {
        let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1000.0;
        attempt.connect_ms = evidence.connected_at.map(|connected| ms(begun, connected));
        attempt.tls_ms = evidence.connected_at.zip(evidence.secured_at).map(|(connected, secured)| ms(connected, secured));
        attempt.tls = evidence.tls;
        attempt.alert = evidence.alert;
        attempt.unacknowledged = evidence.unacknowledged;
        if matches!(connected, Some(Err(_))) {
            attempt.first_bytes = evidence.first_bytes;
            attempt.ended = evidence.ended.unwrap_or("failed");
        }
    }
    match connected {
        None => Err(Failure::Gone),
        Some(Ok(connection)) => {
            drop(borrowed);
            if let Some(tls) = &connection.tls {
                warn_of_expiry(gateway, key, tls);
            }
            decided(gateway, exchange, || format!("connection.made ms={:.3}", begun.elapsed().as_secs_f64() * 1000.0));
            Ok(connection)
        }
        Some(Err(fault)) => {
            let has_connected = evidence.connected_at.is_some();
            if let Some(attempt) = borrowed.attempts.get_mut(at)
                && fault.kind == FaultKind::ConnectTimeout
            {
                attempt.timer = Some(Fired { name: "connect_timeout", length: timeouts.connect });
            }
            Err(Failure::Fault(fault, if has_connected { doing::HANDSHAKING } else { doing::CONNECTING }))
        }
    }
}

/// A certificate that ends before long, or has ended and nobody looks at it, is told of.
fn warn_of_expiry(gateway: &Gateway, key: &PoolKey, tls: &UpstreamTlsFacts) {
    let Some(certificate) = &tls.certificate else { return };
    let Some(not_after_ms) = certificate.not_after_s.and_then(|seconds| u64::try_from(seconds).ok()).map(|s| s.saturating_mul(1000)) else {
        return;
    };
    if not_after_ms > crate::clock::now_ms() + EXPIRY_NOTICE.as_millis() as u64 {
        return;
    }
    let address = key.address.to_string();
    let name = tls.sni.as_deref().map_or_else(|| address.clone(), |sni| format!("{sni} at {address}"));
    let name = printable(name.as_bytes(), 160);
    gateway.warn("upstream_certificate", &name, || {
        let not_after = crate::clock::rfc3339_ms(not_after_ms);
        json!({"address": address, "sni": tls.sni, "subject": certificate.subject, "issuer": certificate.issuer, "not_after": not_after})
    });
}

/// One attempt, at this place in the exchange's list: a connection, the request out, the head back. Dropped, it closes its
/// connection. The request is what the exchange has when it is first polled.
pub(super) async fn attempt(
    gateway: &Rc<Gateway>,
    client: &mut impl Departure,
    exchange: &ExchangeRef,
    at: usize,
    key: &PoolKey,
    timeouts: Timeouts,
    wants_fresh: bool,
) -> Result<(ResponseHead, UpstreamConnection), Missed> {
    let request = proxy::write_request(gateway, client, &exchange.borrow());
    let connected = connection_for(gateway, client, exchange, at, key, timeouts, wants_fresh).await;
    let mut connection = connected.map_err(|failure| Missed { failure, is_stale: false, is_idle_close: false, is_told: false })?;
    let taken = Instant::now();
    if let Some(attempt) = exchange.borrow_mut().attempts.get_mut(at) {
        // Told exactly at its end, unless it is given up before.
        attempt.sent_bytes = request.length_bytes();
        attempt.request_bytes = request.total_bytes();
    }
    connection.requests += 1;
    let (sent_before, received_before) = (connection.wire.sent_bytes, connection.wire.received_bytes);
    connection.received_before = received_before;
    let outcome = proxy::exchange_heads(gateway, client, &mut connection, exchange, request, timeouts).await;
    let mut borrowed = exchange.borrow_mut();
    let head_received = borrowed.moments.head_received;
    let Some(attempt) = borrowed.attempts.get_mut(at) else { unreachable!("choose() began the attempt") };
    let account = &mut connection.account;
    (attempt.sent_at, attempt.first_byte_at, attempt.head_bytes) = (account.sent_at, account.first_byte_at, account.head_bytes);
    (attempt.largest_header, attempt.timer) = (account.largest_header.take(), account.timer);
    attempt.sent_bytes = connection.wire.sent_bytes - sent_before;
    attempt.received_bytes = connection.wire.received_bytes - received_before;
    let failure = match outcome {
        Ok(head) => {
            attempt.status = Some(head.status);
            let head_received = head_received.unwrap_or_else(Instant::now);
            attempt.head_ms = Some(head_received.saturating_duration_since(attempt.started).as_secs_f64() * 1000.0);
            drop(borrowed);
            if connection.said.is_none()
                && let Some(timeout) = head.headers.get("keep-alive").and_then(habits::timeout_said)
            {
                let rtt = TcpFacts::of(connection.wire.socket()).map_or(Duration::ZERO, |facts| facts.rtt);
                connection.stated = Some(timeout);
                connection.said = Some(habits::usable(timeout).saturating_sub(rtt));
            }
            return Ok((head, connection));
        }
        Err(failure) => failure,
    };
    attempt.first_bytes = telling_bytes(connection.wire.first_bytes()).to_vec();
    attempt.alert = connection.wire.alert().map(|alert| format!("received: {}", alert.name()));
    let come = connection.wire.buffered();
    if account.head_bytes == 0 && !come.is_empty() && may_be_response(come) {
        attempt.head_bytes = come.len();
    }
    if matches!(&failure, Failure::Fault(fault, _) if fault.kind == FaultKind::ResponseHeaderTooLarge) {
        attempt.largest_header = proxy::largest_header(come);
    }
    if attempt.timer.is_some() {
        attempt.unacknowledged = tcp::unacknowledged(connection.wire.socket());
    }
    (attempt.idle_limit, attempt.our_idle_limit) = gateway.pool.idle_limits(key, &connection);
    attempt.ended = match (&failure, connection.wire.ended()) {
        (_, Some(ended)) => ended.name(),
        (Failure::Fault(fault, _), None) => match fault.kind {
            FaultKind::ReadTimeout | FaultKind::ConnectionDead => "timeout: read",
            FaultKind::WriteTimeout => "timeout: write",
            _ => "closed by us",
        },
        (Failure::Client(_), None) => "closed by us",
        (Failure::Gone, None) => "closed: client gone",
    };
    let is_stale = connection.idle.is_some()
        && attempt.received_bytes == 0
        && matches!(&failure, Failure::Fault(fault, _) if matches!(fault.kind,
            FaultKind::ClosedBeforeHeaders | FaultKind::ResetBeforeHeaders | FaultKind::WriteFailed | FaultKind::ConnectionDead));
    drop(borrowed);
    let is_idle_close = if !is_stale {
        false
    } else if connection.wire.ended().is_some() {
        gateway.pool.met_closed(key, &connection, taken)
    } else {
        gateway.pool.met_dead(key, &connection);
        true
    };
    Err(Missed { failure, is_stale, is_idle_close, is_told: false })
}
