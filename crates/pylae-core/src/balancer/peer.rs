// SPDX-License-Identifier: Apache-2.0
//! Where may an attempt go, and what is known of that place?

use super::policy::SlowStart;
use crate::healthcheck::Place;
use crate::snapshot::Id;
use crate::upstream::dns::Record;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Time in which an observed latency loses all but 1/e of its weight, as in Kong.
const DECAY: Duration = Duration::from_secs(10);

/// Weights are counted in these parts, so that a part of a weight of 1 can be told from the whole of it.
const PARTS: u64 = 1024;

/// What a worker knows of its own dealings with an address. Outlives the balancer as long as the address stays.
///
/// Atomic only because a snapshot is shared with the helper thread; the data-plane thread alone writes.
#[derive(Debug, Default)]
pub struct Load {
    /// Requests that are with it now.
    in_flight: AtomicU32,
    /// What round robin owes it. What one is given the others owe, so the sum stays.
    pub(super) owed: AtomicI64,
    /// Smoothed time to the head of an answer, nanoseconds.
    latency_ns: AtomicU64,
    /// When that was observed last, monotonic nanoseconds; 0: never.
    observed_ns: AtomicU64,
    /// When it came new or turned healthy, monotonic nanoseconds; 0: it was there from the start.
    since_ns: AtomicU64,
}

impl Load {
    /// Requests that are with it now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// It came new or turned healthy then.
    pub(super) fn begin(&self, at: Duration) {
        self.since_ns.store(at.as_nanos() as u64, Ordering::Relaxed);
    }

    /// When that was; zero: it was there from the start.
    pub(super) fn since(&self) -> Duration {
        Duration::from_nanos(self.since_ns.load(Ordering::Relaxed))
    }

    /// Takes in the time to the head of an answer: a slower one counts at once, a faster one little by little.
    pub fn observe(&self, took: Duration, now: Duration) {
        let sample = took.as_nanos() as u64;
        let next = match self.latency() {
            Some(smoothed) if smoothed > sample => {
                let kept = self.kept(now);
                (smoothed as f64 * kept + sample as f64 * (1.0 - kept)) as u64
            }
            _ => sample,
        };
        self.latency_ns.store(next, Ordering::Relaxed);
        self.observed_ns.store((now.as_nanos() as u64).max(1), Ordering::Relaxed);
    }

    /// It took longer than this, nobody knows how long: that may raise what is expected, if anything is.
    pub fn observe_at_least(&self, took: Duration, now: Duration) {
        if self.expected_ns(now).is_some_and(|expected| expected < took.as_nanos() as f64) {
            self.observe(took, now);
        }
    }

    /// The share of an old observation that still counts.
    fn kept(&self, now: Duration) -> f64 {
        let age_ns = (now.as_nanos() as u64).saturating_sub(self.observed_ns.load(Ordering::Relaxed));
        (-(age_ns as f64) / DECAY.as_nanos() as f64).exp()
    }

    fn latency(&self) -> Option<u64> {
        (self.observed_ns.load(Ordering::Relaxed) > 0).then(|| self.latency_ns.load(Ordering::Relaxed))
    }

    /// What it is expected to take, nanoseconds; fades while nobody asks it, so that who was slow once is tried again.
    pub fn expected_ns(&self, now: Duration) -> Option<f64> {
        self.latency().map(|latency| latency as f64 * self.kept(now))
    }
}

/// The [`Load`] of one address: those that came together lie side by side, for they are read together.
#[derive(Debug, Clone)]
pub struct LoadRef {
    block: Arc<[Load]>,
    at: usize,
}

impl LoadRef {
    /// So many, side by side.
    pub(super) fn block(count: usize) -> impl Iterator<Item = LoadRef> {
        let block: Arc<[Load]> = (0..count).map(|_| Load::default()).collect();
        (0..count).map(move |at| LoadRef { block: Arc::clone(&block), at })
    }
}

impl std::ops::Deref for LoadRef {
    type Target = Load;

    fn deref(&self) -> &Load {
        &self.block[self.at]
    }
}

/// What is read of every candidate for each choice, side by side.
#[derive(Debug)]
pub(super) struct Hot {
    /// In [`PARTS`]: below 2^42, so that the sum of two million of them is far from an overflow.
    weight: u64,
    weight_inverse: f64,
    /// What it is told by in hashing: made of host, port and address, so that a Target made anew keeps its keys.
    seed: u64,
    pub load: LoadRef,
}

impl Hot {
    pub(super) fn new(weight: u32, seed: u64, load: LoadRef) -> Self {
        let weight = u64::from(weight.max(1)) * PARTS;
        Hot { weight, weight_inverse: (weight as f64).recip(), seed, load }
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }
}

/// A candidate as one choice sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// Its share, never 0.
    pub weight: u64,
    pub weight_inverse: f64,
    pub seed: u64,
    pub load: &'a Load,
}

/// How much of its weight a young address has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub slow_start: SlowStart,
    pub now: Duration,
}

impl Pace {
    fn share(self, load: &Load) -> f64 {
        let since = load.since();
        let age = self.now.saturating_sub(since);
        if since.is_zero() || age >= self.slow_start.window {
            return 1.0;
        }
        let least = f64::from(self.slow_start.least_percent.clamp(1, 100)) / 100.0;
        (age.as_secs_f64() / self.slow_start.window.as_secs_f64()).max(least)
    }
}

impl<'a> Candidate<'a> {
    pub(super) fn new(hot: &'a Hot, pace: Option<Pace>) -> Self {
        let mut seen = Candidate { weight: hot.weight, weight_inverse: hot.weight_inverse, seed: hot.seed, load: &hot.load };
        if let Some(pace) = pace {
            let share = pace.share(&hot.load);
            if share < 1.0 {
                seen.weight = ((hot.weight as f64 * share) as u64).max(1);
                seen.weight_inverse = (seen.weight as f64).recip();
            }
        }
        seen
    }
}

/// A Target of an Upstream.
#[derive(Debug)]
pub struct Peer {
    /// The Target's row.
    pub target: Id,
    /// Host name or IP address, without brackets.
    pub host: Arc<str>,
    /// The address, when the host is one.
    pub address: Option<IpAddr>,
    /// TCP port, where a record names none.
    pub port: u16,
    /// Share of the requests of each of its addresses; never 0 of a candidate.
    pub weight: u32,
    pub(super) upstream: Id,
    /// Did it come when others were there already?
    pub(super) is_new: bool,
}

impl Peer {
    /// Where its health is kept at this address; a record may name another port.
    pub(crate) fn place(&self, address: IpAddr, port: Option<u16>) -> Place {
        Place::new(self.upstream, self.target, address, port.unwrap_or(self.port))
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.target == other.target && self.host == other.host && self.port == other.port && self.weight == other.weight
    }
}

/// One address of a Target.
#[derive(Debug)]
pub struct Address {
    /// The Target.
    pub peer: Arc<Peer>,
    /// Where it is, and where its health is kept.
    pub place: Arc<Place>,
    /// The host that an SRV record named.
    pub name: Option<Arc<str>>,
    /// Its share of the requests.
    pub weight: u32,
    /// What this worker knows of it.
    pub load: LoadRef,
    /// For the ejection of outliers. Not in the load, which is read for each choice.
    pub(super) tally: Tally,
}

/// How requests went since counting began.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Monotonic nanoseconds.
    pub since_ns: AtomicU64,
    pub successes: AtomicU32,
    pub failures: AtomicU32,
}

impl Tally {
    /// Counts from now on; answers what was counted.
    pub fn begin(&self, now: Duration) -> (u32, u32) {
        self.since_ns.store(now.as_nanos() as u64, Ordering::Relaxed);
        (self.successes.swap(0, Ordering::Relaxed), self.failures.swap(0, Ordering::Relaxed))
    }
}

impl Address {
    /// The addresses that records give a Target, with one load for all of them.
    pub fn all_of<'a>(peer: &'a Arc<Peer>, load: &'a LoadRef, records: &'a [Record]) -> impl Iterator<Item = Address> + 'a {
        records.iter().map(|record| Address {
            peer: Arc::clone(peer),
            place: Arc::new(peer.place(record.address, record.port)),
            name: record.name.clone(),
            weight: record.weight.unwrap_or(peer.weight),
            load: load.clone(),
            tally: Tally::default(),
        })
    }
}

/// What is chosen: an address, or a Target whose name is to be asked for at each request (its answers have a TTL of 0).
#[derive(Debug, Clone)]
pub enum Seat {
    /// This address.
    Known(Arc<Address>),
    /// Whatever the name has when it is asked for.
    Once(Arc<Peer>, LoadRef),
}

impl Seat {
    /// Whose it is.
    pub fn peer(&self) -> &Arc<Peer> {
        match self {
            Seat::Known(address) => &address.peer,
            Seat::Once(peer, _) => peer,
        }
    }

    /// What this worker knows of it.
    pub fn load(&self) -> &LoadRef {
        match self {
            Seat::Known(address) => &address.load,
            Seat::Once(_, load) => load,
        }
    }

    /// Was it tried already?
    pub(super) fn is_among(&self, tried: &[Tried]) -> bool {
        match self {
            Seat::Known(address) => tried.iter().any(|one| one.address == address.place.address()),
            Seat::Once(peer, _) => tried.iter().any(|one| one.target == peer.target),
        }
    }
}

/// Where a request was sent already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// The Target's row.
    pub target: Id,
    /// Its address.
    pub address: SocketAddr,
}

/// A request that is with an address: counted for as long as this lives.
#[derive(Debug)]
pub struct Turn {
    /// Who was chosen.
    pub seat: Seat,
}

impl Turn {
    /// Begins to count.
    pub(super) fn new(seat: &Seat) -> Self {
        seat.load().in_flight.fetch_add(1, Ordering::Relaxed);
        Turn { seat: seat.clone() }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.seat.load().in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
