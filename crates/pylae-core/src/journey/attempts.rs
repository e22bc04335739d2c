// SPDX-License-Identifier: Apache-2.0
//! Which upstream answers? Attempts, one after the other, until a head has come or nothing more may be tried.

use super::choosing::{choose, observed, seen_of};
use super::decided;
use crate::exchange::{BodyStore, Exchange, ExchangeRef};
use crate::fault::{FaultKind, Retry};
use crate::gateway::Gateway;
use crate::healthcheck::Outcome as Seen;
use crate::http::head::ResponseHead;
use crate::listener::connection::ClientConnection;
use crate::observe::Level;
use crate::proxy::{self, Failure, Timeouts, doing};
use crate::upstream::{PoolKey, UpstreamConnection, connect};
use std::future::Future;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Tries upstreams until one answers with a head, by Kong's rules of what may be tried again.
pub(super) async fn proxy_heads(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
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
    let mut tried = 0;
    let mut stale = 0;
    loop {
        let started = Instant::now();
        let (key, choice) = choose(gateway, client, exchange, verify, started).await?;
        let outcome = attempt(gateway, client, exchange, &key, timeouts).await;
        let (fault, what) = match outcome {
            Ok((head, connection)) => {
                if let Some(choice) = &choice {
                    choice.peer.load.observe(started.elapsed(), pylae_shared::monotonic());
                    observed(gateway, exchange, choice, Seen::of_answer(head.status), || format!("status {}", head.status));
                }
                return Ok((head, connection, key));
            }
            Err(Failure::Fault(fault, what)) => (fault, what),
            Err(other) => return Err(other),
        };
        gateway.logs.log_exchange(Level::Error, &exchange.borrow(), fault.phrase(), what);
        let is_stale = {
            let mut borrowed = exchange.borrow_mut();
            let Some(attempt) = borrowed.attempts.last_mut() else { return Err(Failure::Fault(fault, what)) };
            attempt.fault = Some(fault.clone());
            // A pooled connection that its server closed as we took it: not the server's fault, and not counted as a try.
            attempt.reused.is_some()
                && attempt.received_bytes == 0
                && matches!(fault.kind, FaultKind::ClosedBeforeHeaders | FaultKind::ResetBeforeHeaders | FaultKind::WriteFailed)
        };
        let may_repeat = match fault.kind.facts().retry {
            Retry::Never => false,
            Retry::NothingSent => true,
            Retry::Idempotent => may_repeat(&exchange.borrow(), client),
        };
        if is_stale && may_repeat && stale < 3 {
            stale += 1;
            exchange.borrow_mut().balancing.turn = None;
            decided(gateway, exchange, || "retry.made reason=stale_connection".to_owned());
            continue;
        }
        if let Some(choice) = &choice {
            if let Some(seen) = seen_of(&fault) {
                observed(gateway, exchange, choice, seen, || fault.phrase().to_owned());
            }
            let balancing = &mut exchange.borrow_mut().balancing;
            balancing.turn = None;
            balancing.tried.push(choice.peer.target);
        }
        tried += 1;
        if !may_repeat || tried >= tries || client.is_gone() {
            decided(gateway, exchange, || {
                let reason = if !may_repeat {
                    "may_have_acted"
                } else if tried >= tries {
                    "no_try_left"
                } else {
                    "client_gone"
                };
                format!("retry.refused reason={reason} fault={} tried={tried}", fault.kind.facts().name)
            });
            return Err(Failure::Fault(fault, what));
        }
    }
}

/// May the request be sent once more? nginx's rule: not POST, LOCK, PATCH; and the body must still be there.
fn may_repeat(exchange: &Exchange, client: &ClientConnection) -> bool {
    let method = exchange.upstream.method.as_deref().unwrap_or(&exchange.request.method);
    if matches!(method, "POST" | "LOCK" | "PATCH") {
        return false;
    }
    !matches!(exchange.request.body, BodyStore::Unread) || exchange.upstream.body.is_some() || client.body_bytes == 0
}
/// One attempt: a connection, the request out, the head back.
async fn attempt(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    key: &PoolKey,
    timeouts: Timeouts,
) -> Result<(ResponseHead, UpstreamConnection), Failure> {
    let begun = Instant::now();
    decided(gateway, exchange, || format!("target.chosen address={}", key.address));
    let mut connection = match gateway.pool.take(key) {
        Some(connection) => {
            decided(gateway, exchange, || format!("connection.reused requests={}", connection.requests));
            if let Some(attempt) = exchange.borrow_mut().attempts.last_mut() {
                attempt.reused = Some(connection.requests);
            }
            connection
        }
        None => {
            let connected = {
                let mut connecting = std::pin::pin!(connect(key, &gateway.upstream_tls, timeouts.connect));
                std::future::poll_fn(|cx| match connecting.as_mut().poll(cx) {
                    Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                    Poll::Pending => client.poll_departed(cx).map(|()| None),
                })
                .await
            };
            match connected {
                None => return Err(Failure::Gone),
                Some(Ok(connection)) => {
                    decided(gateway, exchange, || format!("connection.made ms={:.3}", begun.elapsed().as_secs_f64() * 1000.0));
                    if let Some(attempt) = exchange.borrow_mut().attempts.last_mut() {
                        attempt.connect_ms = Some(begun.elapsed().as_secs_f64() * 1000.0);
                    }
                    connection
                }
                Some(Err(fault)) => {
                    let what = match fault.kind {
                        FaultKind::UpstreamTlsFailed | FaultKind::UpstreamCertificateRejected => doing::HANDSHAKING,
                        _ => doing::CONNECTING,
                    };
                    if let Some(attempt) = exchange.borrow_mut().attempts.last_mut() {
                        attempt.ended = match fault.kind {
                            FaultKind::ConnectTimeout => "timeout: connect",
                            FaultKind::ConnectRefused => "refused",
                            _ => "failed",
                        };
                    }
                    return Err(Failure::Fault(fault, what));
                }
            }
        }
    };
    connection.requests += 1;
    let (sent_before, received_before) = (connection.wire.sent_bytes, connection.wire.received_bytes);
    connection.received_before = received_before;
    let outcome = proxy::exchange_heads(gateway, client, &mut connection, exchange, timeouts).await;
    let mut borrowed = exchange.borrow_mut();
    if let Some(attempt) = borrowed.attempts.last_mut() {
        attempt.sent_bytes = connection.wire.sent_bytes - sent_before;
        attempt.received_bytes = connection.wire.received_bytes - received_before;
        match &outcome {
            Ok(head) => {
                attempt.status = Some(head.status);
                attempt.head_ms = Some(attempt.started.elapsed().as_secs_f64() * 1000.0);
            }
            Err(failure) => {
                attempt.first_bytes = connection.wire.first_bytes().to_vec();
                attempt.ended = match (failure, connection.wire.ended()) {
                    (_, Some(ended)) => ended.name(),
                    (Failure::Fault(fault, _), None) => match fault.kind {
                        FaultKind::ReadTimeout => "timeout: read",
                        FaultKind::WriteTimeout => "timeout: write",
                        _ => "closed by us",
                    },
                    (_, None) => "closed: client gone",
                };
            }
        }
    }
    drop(borrowed);
    outcome.map(|head| (head, connection))
}
