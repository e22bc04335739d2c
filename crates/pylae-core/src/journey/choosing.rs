// SPDX-License-Identifier: Apache-2.0
//! Where does this attempt go? A Target of an Upstream, or the Service's own host; an address of it; what is told of it after.

use super::decided;
use crate::balancer::{self, Address, Ask, Found, Peer, Seat, Tried, Turn};
use crate::exchange::{Attempt, Exchange, ExchangeRef};
use crate::fault::{Fault, FaultKind, Side};
use crate::gateway::Gateway;
use crate::healthcheck::{Observer, Outcome as Seen};
use crate::observe::Level;
use crate::proxy::{Departure, Failure};
use crate::resilience::Policy;
use crate::snapshot::CompiledUpstream;
use crate::upstream::PoolKey;
use crate::upstream::dns::{DnsFacts, DnsState, is_address};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

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
    pub upstream: Arc<CompiledUpstream>,
    pub address: Arc<Address>,
    /// What the plugin `resilience` asks for.
    policy: Option<Arc<Policy>>,
}

impl Choice {
    /// What a retry keeps away from.
    pub fn tried(&self) -> Tried {
        Tried { target: self.address.peer.target, address: self.address.place.address() }
    }

    /// The host that the upstream is called by: what an SRV record names, where the Upstream says so.
    fn host(&self) -> &str {
        let by_record = self.address.name.as_deref().filter(|_| self.upstream.upstream.use_srv_name == Some(true));
        by_record.unwrap_or(&self.address.peer.host)
    }
}

/// A request tells how its Target does.
pub(super) fn observed(gateway: &Rc<Gateway>, exchange: &ExchangeRef, choice: &Choice, seen: Seen, what: impl FnOnce() -> String) {
    let (rules, place) = (&choice.upstream.rules, &choice.address.place);
    let name = &choice.upstream.upstream.name;
    if rules.is_on {
        let evidence = || format!("request {}: {}", exchange.borrow().id.as_str(), what());
        if let Some(turned) = gateway.watch.report(place, &rules.passive, Observer::Passive, seen, evidence) {
            gateway.logs.log(Level::Warn, &crate::healthcheck::active::turned_text(name, place, &turned.health));
        }
    }
    let outlier = choice.policy.as_ref().and_then(|policy| policy.outlier.as_ref());
    if let Some(outlier) = outlier {
        let is_success = matches!(seen, Seen::Status(status) if status < 500);
        let now = pylae_shared::monotonic();
        if let Some(ejection) = choice.upstream.balancer.count(&choice.address, is_success, outlier, rules, &gateway.watch, now) {
            let (target, address, why) = (place.target(), place.address(), ejection.why());
            let for_s = (ejection.until_monotonic_ms / 1000).saturating_sub(now.as_secs());
            gateway.logs.log(
                Level::Warn,
                &format!(
                    "target.ejected upstream={name} target={target} address={address} for_s={for_s} times={} why={why:?}",
                    ejection.times
                ),
            );
        }
    }
}

/// What the plugin `resilience` asks for this request.
fn policy_of(exchange: &Exchange) -> Option<Arc<Policy>> {
    let matched = exchange.matched.as_ref()?;
    let service = matched.service.as_ref().map(|service| service.id);
    exchange.snapshot.plan.for_route(matched.route.id, service).policy().cloned()
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

/// Names that a request asks for at once when nothing is known of any.
const LOOK_UPS: usize = 32;

/// Chooses among the addresses of an Upstream's Targets, as far as they are known; waits only as long as nobody is.
async fn choose_target(
    gateway: &Rc<Gateway>,
    client: &mut impl Departure,
    exchange: &ExchangeRef,
    upstream: Arc<CompiledUpstream>,
) -> Result<Choice, Failure> {
    let hash = hash_of(gateway, &mut exchange.borrow_mut(), &upstream);
    let policy = policy_of(&exchange.borrow());
    let CompiledUpstream { balancer, rules, .. } = &*upstream;
    let mut barred = Vec::new();
    loop {
        let now = pylae_shared::monotonic();
        let turn = {
            let borrowed = exchange.borrow();
            let slow_start = policy.as_ref().and_then(|policy| policy.slow_start.as_ref());
            let ask =
                Ask { hash, tried: &borrowed.balancing.tried, waited_for: borrowed.balancing.racing, barred: &barred, slow_start, now };
            balancer.choose(&ask, rules, &gateway.watch, &*gateway.resolver)
        };
        let turn = match turn {
            Ok(turn) => turn,
            // Each time at least one name is known more.
            Err(_) if balancer.roster().pending().next().is_some() => {
                first_answer(gateway, client, &upstream).await?;
                continue;
            }
            Err(_) => {
                let fault = balancer.failure_of_all().unwrap_or_else(|| FaultKind::NoHealthyTarget.into());
                return Err(Failure::Fault(fault, ""));
            }
        };
        let address = match &turn.seat {
            Seat::Known(address) => Ok(Arc::clone(address)),
            Seat::Once(peer, _) => asked_once(gateway, client, exchange, &upstream, &turn, peer, hash).await?,
        };
        match address {
            Ok(address) => {
                exchange.borrow_mut().balancing.turn = Some(turn);
                return Ok(Choice { upstream, address, policy });
            }
            Err(fault) if balancer.peers().len() == 1 => return Err(Failure::Fault(fault, "")),
            Err(fault) => {
                let peer = turn.seat.peer();
                decided(gateway, exchange, || format!("target.passed_over host={} reason={}", peer.host, fault.kind.facts().name));
                barred.push(peer.target);
            }
        }
    }
}

/// Waits for the first answer for any of the names of which nothing is known, or for the last failure.
async fn first_answer(gateway: &Rc<Gateway>, client: &mut impl Departure, upstream: &CompiledUpstream) -> Result<(), Failure> {
    let pending: Vec<Arc<Peer>> = upstream.balancer.roster().pending().take(LOOK_UPS).cloned().collect();
    let mut look_ups: Vec<_> = pending.iter().map(|peer| (peer, Box::pin(gateway.resolver.look_up(&peer.host)))).collect();
    // Others may be answered for meanwhile, by who looks after names.
    let mut turned = Box::pin(upstream.balancer.turned());
    std::future::poll_fn(|cx| {
        let mut has_answer = false;
        look_ups.retain_mut(|(peer, look_up)| match look_up.as_mut().poll(cx) {
            Poll::Ready(found) => {
                has_answer |= found.is_ok();
                upstream.balancer.learn(peer.target, &found, pylae_shared::monotonic());
                false
            }
            Poll::Pending => true,
        });
        while turned.as_mut().poll(cx).is_ready() {
            has_answer |= !upstream.balancer.roster().is_empty();
            turned.set(upstream.balancer.turned());
        }
        if has_answer || look_ups.is_empty() {
            return Poll::Ready(Ok(()));
        }
        client.poll_departed(cx).map(|()| Err(Failure::Gone))
    })
    .await
}

/// The address of a Target whose name is asked for at each request.
async fn asked_once(
    gateway: &Rc<Gateway>,
    client: &mut impl Departure,
    exchange: &ExchangeRef,
    upstream: &CompiledUpstream,
    turn: &Turn,
    peer: &Peer,
    hash: u64,
) -> Result<Result<Arc<Address>, Fault>, Failure> {
    let found = look_up(gateway, client, &peer.host).await?;
    let now = pylae_shared::monotonic();
    if found.as_ref().map_or(true, |answer| !answer.is_once) {
        upstream.balancer.learn(peer.target, &found, now);
    }
    Ok(found.and_then(|answer| {
        let borrowed = exchange.borrow();
        let ask = Ask { hash, tried: &borrowed.balancing.tried, waited_for: borrowed.balancing.racing, barred: &[], slow_start: None, now };
        let address = upstream.balancer.once(turn, &answer.records, &ask, &upstream.rules, &gateway.watch);
        address.ok_or_else(|| FaultKind::NoHealthyTarget.into())
    }))
}

/// What a host has; gives up when the client does.
async fn look_up(gateway: &Rc<Gateway>, client: &mut impl Departure, host: &str) -> Result<Found, Failure> {
    let mut look_up = std::pin::pin!(gateway.resolver.look_up(host));
    std::future::poll_fn(|cx| match look_up.as_mut().poll(cx) {
        Poll::Ready(found) => Poll::Ready(Ok(found)),
        Poll::Pending => client.poll_departed(cx).map(|()| Err(Failure::Gone)),
    })
    .await
}

/// Chooses a Target and finds its address; begins the record of the attempt.
pub(super) async fn choose(
    gateway: &Rc<Gateway>,
    client: &mut impl Departure,
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
            Some(choice) => (choice.host().to_owned(), choice.address.place.address().port(), choice.upstream.upstream.host_header.clone()),
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
    // What is an address already costs no look-up.
    let own = if choice.is_none() { is_address(&host) } else { None };
    let address = match (&choice, own) {
        (Some(choice), _) => choice.address.place.address(),
        (None, Some(address)) => SocketAddr::new(address, port),
        (None, None) => match look_up(gateway, client, &host).await? {
            Err(fault) => return Err(Failure::Fault(fault, "")),
            Ok(answer) => {
                let record = gateway.resolver.turn(&answer);
                SocketAddr::new(record.address, record.port.unwrap_or(port))
            }
        },
    };
    let dns = match (&choice, own) {
        (Some(choice), _) if choice.address.peer.address.is_none() => gateway.resolver.facts(&choice.address.peer.host, started),
        (None, None) => gateway.resolver.facts(&host, started),
        _ => Some(DnsFacts::of(DnsState::Literal)),
    };
    if gateway.logs.is_enabled(Level::Debug) {
        let name = choice.as_ref().map_or(host.as_str(), |choice| &choice.address.peer.host);
        if !gateway.resolver.is_address(name) {
            decided(gateway, exchange, || format!("name.known host={name} {}", gateway.resolver.describe(name)));
        }
    }
    let mut borrowed = exchange.borrow_mut();
    borrowed.moments.attempt_started = Some(started);
    let scheme = if is_tls { "https" } else { "http" };
    let mut uri = format!("{scheme}://{address}{}", String::from_utf8_lossy(&borrowed.upstream.path));
    if let Some(query) = &borrowed.upstream.query {
        uri.push('?');
        uri.push_str(&String::from_utf8_lossy(&borrowed.shown_query(query)));
    }
    borrowed.upstream.uri = uri;
    let server_name = is_tls.then(|| {
        let header = borrowed.upstream.host_header.as_deref().unwrap_or_default();
        let name = crate::http::head::parse_authority(header).map_or_else(|| host.clone(), |(name, _)| name);
        (name, verify)
    });
    borrowed.attempts.reserve_exact(1);
    borrowed.attempts.push(Attempt::new(Some(address), host, dns, started));
    Ok((PoolKey { address, tls: server_name }, choice))
}
