// SPDX-License-Identifier: Apache-2.0
//! Where does this attempt go? A Target of an Upstream, or the Service's own host; an address of it; what is told of it after.

use super::decided;
use crate::balancer::{self, Ask, Peer};
use crate::exchange::{Attempt, Exchange, ExchangeRef};
use crate::fault::{Fault, FaultKind, Side};
use crate::gateway::Gateway;
use crate::healthcheck::{Observer, Outcome as Seen, Place};
use crate::listener::connection::ClientConnection;
use crate::observe::Level;
use crate::proxy::Failure;
use crate::snapshot::CompiledUpstream;
use crate::upstream::PoolKey;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// What a failed attempt tells of its Target; nothing when it was not the Target's fault.
pub(super) fn seen_of(fault: &Fault) -> Option<Seen> {
    let facts = fault.kind.facts();
    match (facts.side, facts.status) {
        (Side::Upstream, 504) => Some(Seen::Timeout),
        (Side::Upstream, 502) => Some(Seen::TcpFailure),
        _ => None,
    }
}

/// Where an attempt goes, when an Upstream's Targets are chosen from.
pub(super) struct Choice {
    pub upstream: CompiledUpstream,
    pub peer: Arc<Peer>,
    pub place: Arc<Place>,
}

/// A request tells how its Target does.
pub(super) fn observed(gateway: &Rc<Gateway>, exchange: &ExchangeRef, choice: &Choice, seen: Seen, what: impl FnOnce() -> String) {
    let rules = &choice.upstream.rules;
    if !rules.is_on {
        return;
    }
    let evidence = || format!("request {}: {}", exchange.borrow().id.as_str(), what());
    if let Some(turned) = gateway.watch.report(&choice.place, &rules.passive, Observer::Passive, seen, evidence) {
        gateway
            .logs
            .log(Level::Warn, &crate::healthcheck::active::turned_text(&choice.upstream.upstream.name, &choice.place, &turned.health));
    }
}

/// The hash of the request's key; a cookie that is missing is made.
fn hash_of(gateway: &Rc<Gateway>, exchange: &mut Exchange, upstream: &CompiledUpstream) -> u64 {
    if !upstream.balancer.is_hashing() {
        return 0;
    }
    if let Some(hash) = exchange.balancing.hash {
        return hash;
    }
    let hash = match balancer::key::of(&upstream.upstream, exchange) {
        balancer::key::Key::Found(key) => balancer::key::hash(&key),
        balancer::key::Key::Nothing => balancer::key::hash(b""),
        balancer::key::Key::NewCookie => {
            let value = gateway.next_uuid().to_string();
            let hash = balancer::key::hash(value.as_bytes());
            exchange.balancing.new_cookie = Some(value);
            hash
        }
    };
    exchange.balancing.hash = Some(hash);
    hash
}

/// Chooses among the Targets of an Upstream, and an address of the one chosen. A Target whose name has no address that may be
/// chosen is passed over.
async fn choose_target(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    upstream: CompiledUpstream,
) -> Result<Choice, Failure> {
    let hash = hash_of(gateway, &mut exchange.borrow_mut(), &upstream);
    let mut passed_over = Vec::new();
    loop {
        let now = pylae_shared::monotonic();
        let turn = {
            let borrowed = exchange.borrow();
            let ask = Ask { hash, tried: &borrowed.balancing.tried, barred: &passed_over, now };
            upstream.balancer.choose(&ask, &upstream.rules, &gateway.watch)
        };
        let Ok(turn) = turn else { return Err(Failure::Fault(FaultKind::NoHealthyTarget.into(), "")) };
        let peer = Arc::clone(&turn.peer);
        let is_alone = upstream.balancer.peers().len() == 1;
        let found = if peer.address.is_some() {
            Ok(Vec::new())
        } else if peer.load.is_nameless(now) && !is_alone {
            Err(FaultKind::NameNotFound.into())
        } else {
            addresses_of(gateway, client, &peer, now).await?
        };
        let ask = Ask { hash, tried: &[], barred: &[], now: Duration::ZERO };
        let place = found.and_then(|addresses| {
            let place = upstream.balancer.place(&peer, &addresses, &ask, &upstream.rules, &gateway.watch);
            place.ok_or_else(|| FaultKind::NoHealthyTarget.into())
        });
        match place {
            Ok(place) => {
                exchange.borrow_mut().balancing.turn = Some(turn);
                return Ok(Choice { upstream, peer, place });
            }
            Err(fault) if is_alone => return Err(Failure::Fault(fault, "")),
            Err(fault) => {
                decided(gateway, exchange, || format!("target.passed_over host={} reason={}", peer.host, fault.kind.facts().name));
                passed_over.push(peer.target);
            }
        }
    }
}

/// The addresses of a Target's name; while nobody tells them, those it had last.
async fn addresses_of(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    peer: &Peer,
    now: Duration,
) -> Result<Result<Vec<std::net::IpAddr>, Fault>, Failure> {
    let mut lookup = std::pin::pin!(gateway.resolver.look_up(&peer.host));
    let found = std::future::poll_fn(|cx| match lookup.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
        Poll::Pending => client.poll_departed(cx).map(|()| Err(Failure::Gone)),
    })
    .await?;
    Ok(found.map(|answer| answer.records.iter().map(|record| record.address).collect()).or_else(|fault| {
        let known: Vec<_> = peer.places().iter().map(|place| place.address().ip()).collect();
        if known.is_empty() {
            peer.load.miss_name(now);
            return Err(fault);
        }
        Ok(known)
    }))
}

/// Chooses a Target and finds its address; begins the record of the attempt.
pub(super) async fn choose(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    verify: bool,
    started: Instant,
) -> Result<(PoolKey, Option<Choice>), Failure> {
    let (name, upstream) = {
        let mut borrowed = exchange.borrow_mut();
        borrowed.moments.head_received = None;
        (borrowed.upstream.target_host.clone(), borrowed.snapshot.upstream(&borrowed.upstream.target_host).cloned())
    };
    let choice = match upstream {
        Some(upstream) => Some(choose_target(gateway, client, exchange, upstream).await?),
        None => None,
    };
    let (host, port, is_tls) = {
        let mut borrowed = exchange.borrow_mut();
        let preserved = borrowed.matched.as_ref().is_some_and(|m| m.route.preserve_host).then(|| borrowed.request.authority.clone());
        let (host, port, host_header) = match &choice {
            Some(choice) => (choice.peer.host.to_string(), choice.peer.port, choice.upstream.upstream.host_header.clone()),
            None => (name, borrowed.upstream.target_port, None),
        };
        let is_tls = borrowed.upstream.is_tls;
        let bare_host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
        let default_port = if is_tls { 443 } else { 80 };
        let with_port = if port == default_port { bare_host } else { format!("{bare_host}:{port}") };
        if let Some(headers) = borrowed.upstream.headers.as_mut()
            && let Some(by_plugin) = headers.get("host").map(<[u8]>::to_vec)
        {
            headers.remove("host");
            borrowed.upstream.host_by_plugin = Some(by_plugin);
        }
        let kept = borrowed.upstream.host_by_plugin.clone().or(preserved.filter(|host| !host.is_empty()));
        let chosen = kept.or_else(|| host_header.map(String::into_bytes)).unwrap_or_else(|| with_port.into_bytes());
        borrowed.upstream.host_header = Some(chosen);
        (host, port, is_tls)
    };
    let address = if let Some(choice) = &choice {
        choice.place.address()
    } else {
        let resolved = {
            let mut lookup = std::pin::pin!(gateway.resolver.look_up(&host));
            std::future::poll_fn(|cx| match lookup.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending => client.poll_departed(cx).map(|()| None),
            })
            .await
        };
        match resolved {
            None => return Err(Failure::Gone),
            Some(Err(fault)) => return Err(Failure::Fault(fault, "")),
            Some(Ok(answer)) => {
                let record = gateway.resolver.turn(&answer);
                std::net::SocketAddr::new(record.address, record.port.unwrap_or(port))
            }
        }
    };
    let mut borrowed = exchange.borrow_mut();
    borrowed.moments.attempt_started = Some(started);
    let scheme = if is_tls { "https" } else { "http" };
    let mut uri = format!("{scheme}://{address}{}", String::from_utf8_lossy(&borrowed.upstream.path));
    if let Some(query) = &borrowed.upstream.query {
        uri.push('?');
        uri.push_str(&String::from_utf8_lossy(query));
    }
    borrowed.upstream.uri = uri;
    let server_name = is_tls.then(|| {
        let header = borrowed.upstream.host_header.as_deref().unwrap_or_default();
        let name = crate::http::head::parse_authority(header).map_or_else(|| host.clone(), |(name, _)| name);
        (name, verify)
    });
    borrowed.attempts.reserve_exact(1);
    borrowed.attempts.push(Attempt {
        address: Some(address),
        host,
        started_at_ms: crate::clock::now_ms(),
        started,
        connect_ms: None,
        reused: None,
        again: None,
        sent_bytes: 0,
        received_bytes: 0,
        first_bytes: Vec::new(),
        ended: "open",
        status: None,
        head_ms: None,
        fault: None,
    });
    Ok((PoolKey { address, tls: server_name }, choice))
}
