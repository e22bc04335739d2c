// SPDX-License-Identifier: Apache-2.0
//! Which Target takes this attempt? Fault born here: `no_healthy_target`.
//!
//! One file for each algorithm. Who may be chosen is worked out when a state of health turns or an address comes, not for
//! each request.

mod consistent_hashing;
pub mod key;
mod latency;
mod least_connections;
mod peer;
pub mod policy;
mod round_robin;
#[cfg(test)]
mod tests;

pub use peer::{Load, LoadRef, Peer, Turn};

use crate::healthcheck::{Place, Rules, Watch};
use crate::snapshot::Id;
use crate::snapshot::model::{Algorithm, Target};
use arc_swap::ArcSwap;
use peer::Hot;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The port of a Target that names none.
const DEFAULT_PORT: u16 = 8000;

/// What an explicit null of a Target's weight means, as in Kong's schema.
const WEIGHT_WHEN_NULL: u32 = 100;

/// No Target in rotation with a weight above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoTarget;

impl fmt::Display for NoTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failure to get a peer from the ring-balancer")
    }
}

impl std::error::Error for NoTarget {}

/// What is asked of a balancer.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The hash of the request's key, for consistent hashing.
    pub hash: u64,
    /// Targets that were tried for this request: again only when there is no other.
    pub tried: &'a [Id],
    /// Targets that are not to be chosen.
    pub barred: &'a [Id],
    /// The monotonic clock.
    pub now: Duration,
}

/// Those of whom one is chosen.
struct Candidates<'a> {
    peers: &'a [Arc<Peer>],
    hot: &'a [Hot],
    /// Indices of those that may be chosen by their health; none: all of them.
    eligible: Option<&'a [u32]>,
    /// Of these, none.
    without: [&'a [Id]; 2],
}

impl<'a> Candidates<'a> {
    fn len(&self) -> usize {
        self.eligible.map_or(self.hot.len(), <[u32]>::len)
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &'a Hot)> {
        self.iter_from(0)
    }

    /// Index and facts of each, from the `start`th on and round.
    fn iter_from(&self, start: usize) -> impl Iterator<Item = (usize, &'a Hot)> {
        let (peers, hot, eligible, without) = (self.peers, self.hot, self.eligible, self.without);
        let count = self.len();
        let nth = move |step: usize| eligible.map_or(step, |eligible| eligible[step] as usize);
        let may_be = move |at: &usize| without.iter().all(|ids| ids.is_empty() || !ids.contains(&peers[*at].target));
        (start..count).chain(0..start.min(count)).map(nth).filter(may_be).map(move |at| (at, &hot[at]))
    }
}

/// Who may be chosen, as long as health and addresses are what they were.
#[derive(Debug)]
struct View {
    epoch: u64,
    learned: u64,
    rules: Option<Arc<Rules>>,
    /// Indices; none: all of them.
    eligible: Option<Box<[u32]>>,
    /// Is so much of the weight healthy as the threshold asks?
    is_enough: bool,
}

/// Chooses among the Targets of one Upstream.
#[derive(Debug)]
pub struct Balancer {
    algorithm: Algorithm,
    peers: Vec<Arc<Peer>>,
    /// In the order of `peers`.
    hot: Box<[Hot]>,
    /// Have all the same weight?
    is_even: bool,
    view: ArcSwap<View>,
    /// Turns when the addresses of a name change.
    learned: AtomicU64,
    turn: AtomicU64,
}

impl Balancer {
    /// A balancer over these Targets, in the order of their ids, without those of weight 0. Those that can't be read are named in the
    /// second part. What was known of a Target that `before` has too is kept.
    pub fn new<'a>(algorithm: Algorithm, targets: impl IntoIterator<Item = &'a Target>, before: Option<&Balancer>) -> (Self, Vec<String>) {
        let mut read = Vec::new();
        let mut refused = Vec::new();
        for target in targets {
            let weight = target.weight.unwrap_or(WEIGHT_WHEN_NULL);
            match split_target(&target.target) {
                Some((host, port)) if weight > 0 => read.push((target, host, port, weight)),
                Some(_) => {}
                None => refused.push(format!("targets {}: `{}` is not `host:port`", target.id, target.target)),
            }
        }
        read.sort_by_key(|(target, ..)| target.id);
        let mut peers = Vec::with_capacity(read.len());
        let mut hot = Vec::with_capacity(read.len());
        for ((target, host, port, weight), fresh) in read.iter().zip(LoadRef::block(read.len())) {
            let (port, weight) = (*port, *weight);
            let address: Option<IpAddr> = host.parse().ok();
            let same = |peer: &&Arc<Peer>| peer.target == target.id && *peer.host == **host && peer.port == port;
            let known = before.and_then(|before| before.peers.iter().find(same));
            let of_known = known.and_then(|known| known.fixed.clone());
            let fixed =
                address.map(|address| of_known.unwrap_or_else(|| Arc::new(Place::new(target.upstream.id, target.id, address, port))));
            let places = known.map_or_else(|| Arc::new(fixed.iter().map(Arc::clone).collect()), |known| known.places());
            let load = known.map_or(fresh, |known| known.load.clone());
            let seed = key::hash(format!("{host}:{port}").as_bytes());
            hot.push(Hot { weight, weight_inverse: f64::from(weight).recip(), seed, load: load.clone() });
            peers.push(Arc::new(Peer {
                target: target.id,
                host: (*host).into(),
                address,
                port,
                weight,
                upstream: target.upstream.id,
                fixed,
                places: ArcSwap::new(places),
                load,
            }));
        }
        let is_even = peers.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let turn = before.map_or(0, |before| before.turn.load(Ordering::Relaxed));
        let view = View { epoch: 0, learned: 0, rules: None, eligible: None, is_enough: false };
        let balancer = Balancer {
            algorithm,
            peers,
            hot: hot.into(),
            is_even,
            view: ArcSwap::from_pointee(view),
            learned: AtomicU64::new(0),
            turn: AtomicU64::new(turn),
        };
        (balancer, refused)
    }

    /// Does it choose by the hash of a key?
    pub fn is_hashing(&self) -> bool {
        self.algorithm == Algorithm::ConsistentHashing
    }

    /// The Target that takes an attempt; one that was not tried, as long as there is one.
    ///
    /// # Errors
    /// Nobody is healthy and in rotation, or not so much of the weight as the threshold asks.
    pub fn choose(&self, ask: &Ask<'_>, rules: &Arc<Rules>, watch: &Watch) -> Result<Turn, NoTarget> {
        let view = self.view(rules, watch);
        if !view.is_enough {
            return Err(NoTarget);
        }
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        let choose = |tried| {
            let candidates =
                Candidates { peers: &self.peers, hot: &self.hot, eligible: view.eligible.as_deref(), without: [tried, ask.barred] };
            match self.algorithm {
                Algorithm::RoundRobin => round_robin::choose(&candidates),
                Algorithm::LeastConnections => least_connections::choose(&candidates, turn),
                Algorithm::Latency => latency::choose(&candidates, turn, ask.now),
                Algorithm::ConsistentHashing => consistent_hashing::choose(&candidates, ask.hash, self.is_even),
            }
        };
        choose(ask.tried).or_else(|| choose(&[])).map(|at| Turn::new(&self.peers[at])).ok_or(NoTarget)
    }

    /// One address of a Target whose name has these now; none when none of them may be chosen.
    pub fn place(&self, peer: &Peer, addresses: &[IpAddr], ask: &Ask<'_>, rules: &Rules, watch: &Watch) -> Option<Arc<Place>> {
        if peer.address.is_none() && peer.learn(addresses) {
            self.learned.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(place) = &peer.fixed {
            // Whoever was chosen may be: that was looked at for the choice.
            return Some(Arc::clone(place));
        }
        let places = peer.places.load();
        let fit: Vec<&Arc<Place>> = places.iter().filter(|place| may_be_chosen(place, rules, watch)).collect();
        let at = if self.is_hashing() { mix(ask.hash ^ 1) } else { self.turn.load(Ordering::Relaxed) };
        fit.get((at % fit.len().max(1) as u64) as usize).map(|place| Arc::clone(place))
    }

    fn view(&self, rules: &Arc<Rules>, watch: &Watch) -> arc_swap::Guard<Arc<View>> {
        let view = self.view.load();
        // Read before the states are: what turns meanwhile is seen the next time.
        let (epoch, learned) = (watch.epoch(), self.learned.load(Ordering::Relaxed));
        let is_current = |known: &Arc<Rules>| Arc::ptr_eq(known, rules) && view.epoch == epoch && view.learned == learned;
        if view.rules.as_ref().is_some_and(is_current) {
            return view;
        }
        drop(view);
        let mut eligible = Vec::with_capacity(self.peers.len());
        let (mut total, mut available) = (0u64, 0u64);
        for (at, peer) in self.peers.iter().enumerate() {
            let places = peer.places.load();
            let weight = u64::from(peer.weight);
            // A name that was never asked for may have one address at least.
            total += weight * places.len().max(1) as u64;
            let fit = if places.is_empty() { 1 } else { places.iter().filter(|place| may_be_chosen(place, rules, watch)).count() as u64 };
            available += weight * fit;
            if fit > 0 {
                eligible.push(at as u32);
            }
        }
        let is_enough = available > 0 && (!rules.is_on || available as f64 * 100.0 > rules.threshold_percent * total as f64);
        let eligible = (eligible.len() < self.peers.len()).then(|| eligible.into());
        self.view.store(Arc::new(View { epoch, learned, rules: Some(Arc::clone(rules)), eligible, is_enough }));
        self.view.load()
    }

    /// Every Target with a weight above 0.
    pub fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }

    /// Takes in what a Target's name has now.
    pub fn learn(&self, peer: &Peer, addresses: &[IpAddr]) {
        if peer.address.is_none() && peer.learn(addresses) {
            self.learned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn may_be_chosen(place: &Place, rules: &Rules, watch: &Watch) -> bool {
    !rules.is_on || watch.health(place).is_healthy
}

/// Spreads a number over 64 bits (the finaliser of splitmix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`; also takes a bare IPv6 address.
fn split_target(text: &str) -> Option<(&str, u16)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
    } else if text.parse::<Ipv6Addr>().is_ok() {
        (text, None)
    } else if let Some((host, port)) = text.split_once(':') {
        (host, Some(port))
    } else {
        (text, None)
    };
    if host.is_empty() {
        return None;
    }
    match port {
        None => Some((host, DEFAULT_PORT)),
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => Some((host, digits.parse().ok()?)),
        Some(_) => None,
    }
}
