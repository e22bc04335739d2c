// SPDX-License-Identifier: Apache-2.0
//! Which address of which Target takes this attempt? Fault born here: `no_healthy_target`.
//!
//! One file for each algorithm. The candidates are addresses (`roster.rs`): who may be chosen of them is worked out when a state
//! of health turns or an answer for a name changes, not for each request.

mod consistent_hashing;
pub mod key;
mod latency;
mod least_connections;
pub mod names;
mod outlier;
mod peer;
pub mod policy;
mod roster;
mod round_robin;
#[cfg(test)]
mod tests;

pub use peer::{Address, Load, LoadRef, Peer, Seat, Tried, Turn};
pub use roster::{Found, Names, Roster};

use crate::fault::Fault;
use crate::healthcheck::{Health, Place, Rules, Watch, Why};
use crate::snapshot::Id;
use crate::snapshot::model::{Algorithm, Target};
use crate::upstream::dns::Record;
use arc_swap::ArcSwap;
use peer::{Candidate, Hot, Pace};
use policy::SlowStart;
use roster::{Known, Named};
use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

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
    /// Where this request was sent already: again only when there is no other.
    pub tried: &'a [Tried],
    /// So many of these, the last ones, are waited for now: the first are rather asked again than they.
    pub waited_for: usize,
    /// Targets that are not to be chosen.
    pub barred: &'a [Id],
    /// How young addresses are treated.
    pub slow_start: Option<&'a SlowStart>,
    /// The monotonic clock.
    pub now: Duration,
}

impl<'a> Ask<'a> {
    /// Whom to keep away from, if somebody is left then; if not, the next of these.
    fn avoided(&self) -> impl Iterator<Item = &'a [Tried]> {
        let others = self.tried.len().saturating_sub(self.waited_for);
        let waited_for = (self.waited_for > 0 && others > 0).then(|| &self.tried[others..]);
        let nobody = (!self.tried.is_empty()).then_some(&[] as &[Tried]);
        std::iter::once(self.tried).chain(waited_for).chain(nobody)
    }
}

/// Those of whom one is chosen.
struct Candidates<'a> {
    hot: &'a [Hot],
    seats: &'a [Seat],
    /// Indices of those that may be chosen by their health; none: all of them.
    eligible: Option<&'a [u32]>,
    /// Of these, none.
    tried: &'a [Tried],
    barred: &'a [Id],
    /// Is anybody young?
    pace: Option<Pace>,
}

impl<'a> Candidates<'a> {
    fn len(&self) -> usize {
        self.eligible.map_or(self.hot.len(), <[u32]>::len)
    }

    fn iter(&self) -> impl Iterator<Item = (usize, Candidate<'a>)> {
        self.iter_from(0)
    }

    /// Index and facts of each, from the `start`th on and round.
    fn iter_from(&self, start: usize) -> impl Iterator<Item = (usize, Candidate<'a>)> {
        let (hot, seats, eligible, tried, barred, pace) = (self.hot, self.seats, self.eligible, self.tried, self.barred, self.pace);
        let count = self.len();
        let nth = move |step: usize| eligible.map_or(step, |eligible| eligible[step] as usize);
        let may_be = move |at: &usize| {
            (tried.is_empty() || !seats[*at].is_among(tried)) && (barred.is_empty() || !barred.contains(&seats[*at].peer().target))
        };
        let seen = move |at: usize| (at, Candidate::new(&hot[at], pace));
        (start..count).chain(0..start.min(count)).map(nth).filter(may_be).map(seen)
    }
}

/// Who may be chosen, as long as health and addresses are what they were.
#[derive(Debug)]
struct View {
    epoch: u64,
    learned: u64,
    rules: Option<Arc<Rules>>,
    /// Those of the roster: not the roster, which would be one more line of memory for each choice.
    hot: Arc<[Hot]>,
    seats: Arc<[Seat]>,
    is_even: bool,
    /// Indices; none: all of them.
    eligible: Option<Box<[u32]>>,
    /// Is so much of the weight healthy as the threshold asks?
    is_enough: bool,
    /// When the youngest came or turned healthy, monotonic.
    youngest: Duration,
    /// Somebody's ejection ends then, monotonic.
    until: Duration,
}

/// Chooses among the addresses of one Upstream's Targets.
#[derive(Debug)]
pub struct Balancer {
    algorithm: Algorithm,
    peers: Vec<Arc<Peer>>,
    /// Those of weight 0: they get nothing, but what is known of them is kept.
    idle: Vec<Arc<Peer>>,
    has_names: bool,
    roster: ArcSwap<Roster>,
    view: ArcSwap<View>,
    /// Turns when the candidates change.
    learned: AtomicU64,
    /// Says so to who waits for it.
    turned: Notify,
    /// What the names' generation was when they were asked for last.
    generation: AtomicU64,
    turn: AtomicU64,
}

impl Balancer {
    /// A balancer over these Targets, in the order of their ids, without those of weight 0. Those that can't be read are named in the
    /// second part. What was known of a Target that `before` has too is kept.
    pub fn new<'a>(algorithm: Algorithm, targets: impl IntoIterator<Item = &'a Target>, before: Option<&Balancer>) -> (Self, Vec<String>) {
        let mut read = Vec::new();
        let (mut refused, mut idle) = (Vec::new(), Vec::new());
        for target in targets {
            let weight = target.weight.unwrap_or(WEIGHT_WHEN_NULL);
            match split_target(&target.target) {
                Some((host, port)) if weight > 0 => read.push((target, host, port, weight)),
                Some(unused) => idle.push((target, unused)),
                None => refused.push(format!("targets {}: `{}` is not `host:port`", target.id, target.target)),
            }
        }
        read.sort_by_key(|(target, ..)| target.id);
        let before = before.filter(|before| !before.peers.is_empty());
        let peers: Vec<Arc<Peer>> = read.into_iter().map(|read| peer_of(read, before)).collect();
        let idle = idle.into_iter().map(|(target, (host, port))| peer_of((target, host, port, 0), None)).collect();
        let known_before = before.map(|before| before.roster.load_full());
        let names = peers.iter().filter(|peer| peer.address.is_none()).map(|peer| {
            let known = known_before.as_ref().and_then(|roster| {
                // Both are in the order of their ids.
                let at = roster.names.binary_search_by_key(&peer.target, |named| named.peer.target).ok()?;
                Some(&roster.names[at]).filter(|named| named.peer.host == peer.host)
            });
            Named { peer: Arc::clone(peer), known: known.map_or(Known::Nothing, |named| named.known.clone()) }
        });
        let names = names.collect();
        let roster = Arc::new(Roster::new(&peers, names, known_before.as_deref(), pylae_shared::monotonic()));
        let turn = before.map_or(0, |before| before.turn.load(Ordering::Relaxed));
        let view = View {
            epoch: 0,
            learned: 0,
            rules: None,
            hot: Arc::clone(&roster.hot),
            seats: Arc::clone(&roster.seats),
            is_even: roster.is_even,
            eligible: None,
            is_enough: false,
            youngest: Duration::ZERO,
            until: Duration::MAX,
        };
        let balancer = Balancer {
            algorithm,
            has_names: !roster.names.is_empty(),
            peers,
            idle,
            roster: ArcSwap::new(roster),
            view: ArcSwap::from_pointee(view),
            learned: AtomicU64::new(0),
            turned: Notify::new(),
            generation: AtomicU64::new(u64::MAX),
            turn: AtomicU64::new(turn),
        };
        (balancer, refused)
    }

    /// Does it choose by the hash of a key?
    pub fn is_hashing(&self) -> bool {
        self.algorithm == Algorithm::ConsistentHashing
    }

    /// Has a Target a name instead of an address?
    pub fn has_names(&self) -> bool {
        self.has_names
    }

    /// Who takes an attempt; an address that was not tried, as long as there is one.
    ///
    /// # Errors
    /// Nobody is known, healthy and in rotation, or not so much of the weight as the threshold asks.
    pub fn choose(&self, ask: &Ask<'_>, rules: &Arc<Rules>, watch: &Watch, names: &dyn Names) -> Result<Turn, NoTarget> {
        self.refresh(names, ask.now);
        let view = self.view(rules, watch, ask.now);
        if !view.is_enough {
            return Err(NoTarget);
        }
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        let is_young = |slow_start: &&SlowStart| !view.youngest.is_zero() && ask.now < view.youngest.saturating_add(slow_start.window);
        let pace = ask.slow_start.filter(is_young).map(|&slow_start| Pace { slow_start, now: ask.now });
        let choose = |tried| {
            let candidates =
                Candidates { hot: &view.hot, seats: &view.seats, eligible: view.eligible.as_deref(), tried, barred: ask.barred, pace };
            match self.algorithm {
                Algorithm::RoundRobin => round_robin::choose(&candidates),
                Algorithm::LeastConnections => least_connections::choose(&candidates, turn),
                Algorithm::Latency => latency::choose(&candidates, turn, ask.now),
                Algorithm::ConsistentHashing => consistent_hashing::choose(&candidates, ask.hash, view.is_even && pace.is_none()),
            }
        };
        ask.avoided().find_map(choose).map(|at| Turn::new(&view.seats[at])).ok_or(NoTarget)
    }

    /// One of the records that were just found for a Target whose name is asked for at each request, not tried as long as there is
    /// one; none when none of them may be chosen.
    pub fn once(&self, turn: &Turn, records: &[Record], ask: &Ask<'_>, rules: &Rules, watch: &Watch) -> Option<Arc<Address>> {
        let records = &records[..records.len().min(roster::MOST_ADDRESSES)];
        let weight = |record: &Record| u64::from(record.weight.unwrap_or(1).max(1));
        let number = if self.is_hashing() { ask.hash ^ 1 } else { self.turn.load(Ordering::Relaxed) };
        let mut left = mix(number) % records.iter().map(weight).sum::<u64>().max(1);
        let start = records.iter().position(|record| {
            let is_here = left < weight(record);
            left = left.saturating_sub(weight(record));
            is_here
        })?;
        let mut in_turn: Vec<Address> = Address::all_of(turn.seat.peer(), turn.seat.load(), records).collect();
        in_turn.rotate_left(start);
        in_turn.retain(|address| {
            // Who answers for the name says what it likes each time: that fills no table.
            let health = if rules.is_on { watch.health_so_far(&address.place) } else { None };
            let standing = Standing::of(&address.place, health, watch, ask.now);
            standing.is_healthy && !standing.is_ejected
        });
        let is_in = |tried: &[Tried], address: &Address| tried.iter().any(|one| one.address == address.place.address());
        let at = ask.avoided().find_map(|tried| in_turn.iter().position(|address| !is_in(tried, address))).unwrap_or(0);
        (at < in_turn.len()).then(|| Arc::new(in_turn.swap_remove(at)))
    }

    /// Takes in what names have, if any of them has something else. A name of which nothing is known is not asked for here: that is
    /// for who looks after names, few at a time, and for requests that have nobody else.
    pub fn refresh(&self, names: &dyn Names, now: Duration) {
        if !self.has_names {
            return;
        }
        // Read before they are asked for: what comes meanwhile is seen the next time.
        let generation = names.generation();
        if self.generation.load(Ordering::Relaxed) == generation {
            return;
        }
        self.generation.store(generation, Ordering::Relaxed);
        self.renew(now, |named| match named.known {
            Known::Nothing => None,
            _ => names.known(&named.peer.host).map(Known::of),
        });
    }

    /// Takes in what the look-up of one Target's name came to.
    pub fn learn(&self, target: Id, found: &Found, now: Duration) {
        self.renew(now, |named| (named.peer.target == target).then(|| Known::of(found.clone())));
    }

    fn renew(&self, now: Duration, told: impl Fn(&Named) -> Option<Known>) {
        let before = self.roster.load_full();
        let mut changed = None;
        for (at, named) in before.names.iter().enumerate() {
            if let Some(known) = told(named)
                && !known.is_same(&named.known)
            {
                changed.get_or_insert_with(|| before.names.clone())[at].known = known;
            }
        }
        if let Some(names) = changed {
            self.roster.store(Arc::new(Roster::new(&self.peers, names, Some(&before), now)));
            self.learned.fetch_add(1, Ordering::Relaxed);
            self.turned.notify_waiters();
        }
    }

    fn view(&self, rules: &Arc<Rules>, watch: &Watch, now: Duration) -> arc_swap::Guard<Arc<View>> {
        let view = self.view.load();
        // Read before the states are: what turns meanwhile is seen the next time.
        let (epoch, learned) = (watch.epoch(), self.learned.load(Ordering::Relaxed));
        let is_current =
            |known: &Arc<Rules>| Arc::ptr_eq(known, rules) && view.epoch == epoch && view.learned == learned && now < view.until;
        if view.rules.as_ref().is_some_and(is_current) {
            return view;
        }
        drop(view);
        let roster = self.roster.load_full();
        let (mut eligible, mut ejected) = (Vec::with_capacity(roster.seats.len()), Vec::new());
        let (mut total, mut available, mut youngest, mut until) = (0u64, 0u64, Duration::ZERO, Duration::MAX);
        for (at, (seat, hot)) in roster.seats.iter().zip(roster.hot.iter()).enumerate() {
            total += hot.weight();
            if let Seat::Known(address) = seat {
                let health = rules.is_on.then(|| watch.health(&address.place));
                let standing = Standing::of(&address.place, health, watch, now);
                until = until.min(standing.until);
                if !standing.is_healthy {
                    continue;
                }
                if standing.is_ejected {
                    // It would answer: the threshold is of those that would not.
                    available += hot.weight();
                    ejected.push(at as u32);
                    continue;
                }
                if standing.since > address.load.since() {
                    address.load.begin(standing.since);
                }
            }
            // The addresses of a name that is asked for at each request are looked at when they are known.
            available += hot.weight();
            eligible.push(at as u32);
            youngest = youngest.max(hot.load.since());
        }
        if eligible.is_empty() {
            // An outlier is better than nobody.
            eligible = ejected;
        }
        let is_enough = available > 0 && (!rules.is_on || available as f64 * 100.0 > rules.threshold_percent * total as f64);
        let eligible = (eligible.len() < roster.seats.len()).then(|| eligible.into());
        self.view.store(Arc::new(View {
            epoch,
            learned,
            rules: Some(Arc::clone(rules)),
            hot: Arc::clone(&roster.hot),
            seats: Arc::clone(&roster.seats),
            is_even: roster.is_even,
            eligible,
            is_enough,
            youngest,
            until,
        }));
        self.view.load()
    }

    /// Every Target with a weight above 0.
    pub fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }

    /// Every Target with a weight of 0.
    pub fn idle(&self) -> &[Arc<Peer>] {
        &self.idle
    }

    /// Waits until other candidates are known than now.
    pub fn turned(&self) -> Notified<'_> {
        self.turned.notified()
    }

    /// The candidates as they are now.
    pub fn roster(&self) -> Arc<Roster> {
        self.roster.load_full()
    }

    /// Why the only Target has no address, when it has a name that failed.
    pub fn failure_of_all(&self) -> Option<Fault> {
        let [peer] = &self.peers[..] else { return None };
        self.roster.load().failure(peer.target).cloned()
    }
}

/// The Target of a row: the same as before when nothing of it changed.
fn peer_of((target, host, port, weight): (&Target, &str, u16, u32), before: Option<&Balancer>) -> Arc<Peer> {
    let known = before.and_then(|before| {
        let at = before.peers.binary_search_by_key(&target.id, |peer| peer.target).ok()?;
        Some(&before.peers[at])
    });
    if let Some(known) = known
        && *known.host == *host
        && known.port == port
        && known.weight == weight
    {
        return Arc::clone(known);
    }
    Arc::new(Peer {
        target: target.id,
        host: host.into(),
        address: host.parse().ok(),
        port,
        weight,
        upstream: target.upstream.id,
        // At another host or port it is another, whatever its row.
        is_new: before.is_some() && known.is_none_or(|known| *known.host != *host || known.port != port),
    })
}

/// How an address does.
struct Standing {
    /// Would it answer, as far as checks know?
    is_healthy: bool,
    /// Is it left out as an outlier?
    is_ejected: bool,
    /// When it turned so, monotonic; zero: it never was otherwise.
    since: Duration,
    /// This ends then, monotonic.
    until: Duration,
}

impl Standing {
    fn of(place: &Place, health: Option<Health>, watch: &Watch, now: Duration) -> Self {
        let mut standing = Standing { is_healthy: true, is_ejected: false, since: Duration::ZERO, until: Duration::MAX };
        if let Some(health) = health {
            standing.is_healthy = health.is_healthy;
            // Where the wall clock stepped back since, nobody knows when it was: long ago.
            let age_ms = crate::clock::now_ms().checked_sub(health.since_ms).filter(|_| health.why != Why::Initial);
            if let Some(age_ms) = age_ms {
                standing.since = now.saturating_sub(Duration::from_millis(age_ms));
            }
        }
        if let Some(ejection) = watch.ejection(place) {
            let ends = Duration::from_millis(ejection.until_monotonic_ms);
            if now < ends {
                (standing.is_ejected, standing.until) = (true, ends);
            } else {
                standing.since = standing.since.max(ends);
            }
        }
        standing
    }
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
