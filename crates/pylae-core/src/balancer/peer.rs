// SPDX-License-Identifier: Apache-2.0
//! Where may an attempt go, and what is known of that place?

use crate::healthcheck::Place;
use crate::snapshot::Id;
use arc_swap::ArcSwap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Time in which an observed latency loses all but 1/e of its weight, as in Kong.
const DECAY: Duration = Duration::from_secs(10);

/// What a worker knows of its own dealings with a Target. Outlives the balancer when the Target stays the same.
///
/// Atomic only because a snapshot is shared with the helper thread; the data-plane thread alone writes.
#[derive(Debug, Default)]
pub struct Load {
    /// Requests that are with it now.
    in_flight: AtomicU32,
    /// What round robin owes it. Over all Targets the sum is 0 between two turns.
    pub(super) owed: AtomicI64,
    /// Smoothed time to the head of an answer, nanoseconds.
    latency_ns: AtomicU64,
    /// When that was observed last, monotonic nanoseconds; 0: never.
    observed_ns: AtomicU64,
    /// Its name is not asked for again before, monotonic milliseconds.
    nameless_until_ms: AtomicU64,
}

/// How long a Target whose name had no address is passed over (Kong's `dns_error_ttl`).
const NAMELESS: Duration = Duration::from_secs(1);

impl Load {
    /// Requests that are with it now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Its name has no address now.
    pub fn miss_name(&self, now: Duration) {
        self.nameless_until_ms.store((now + NAMELESS).as_millis() as u64, Ordering::Relaxed);
    }

    /// Had its name no address a moment ago?
    pub fn is_nameless(&self, now: Duration) -> bool {
        (now.as_millis() as u64) < self.nameless_until_ms.load(Ordering::Relaxed)
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

/// The [`Load`] of one Target: those of a balancer lie side by side, for they are read together.
#[derive(Debug, Clone)]
pub struct LoadRef {
    block: Arc<[Load]>,
    at: usize,
}

impl LoadRef {
    /// So many, side by side.
    pub(super) fn block(count: usize) -> Vec<LoadRef> {
        let block: Arc<[Load]> = (0..count).map(|_| Load::default()).collect();
        (0..count).map(|at| LoadRef { block: Arc::clone(&block), at }).collect()
    }
}

impl std::ops::Deref for LoadRef {
    type Target = Load;

    fn deref(&self) -> &Load {
        &self.block[self.at]
    }
}

/// What is read of every Target for each choice, side by side.
#[derive(Debug)]
pub(super) struct Hot {
    pub weight: u32,
    pub weight_inverse: f64,
    /// What it is told by in hashing: made of host and port, so that a Target made anew keeps its keys.
    pub seed: u64,
    pub load: LoadRef,
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
    /// TCP port.
    pub port: u16,
    /// Share of the requests; never 0.
    pub weight: u32,
    pub(super) upstream: Id,
    /// The one it has, when the host is an address.
    pub(super) fixed: Option<Arc<Place>>,
    /// Its addresses: that one, else those that its name last had.
    pub(super) places: ArcSwap<Vec<Arc<Place>>>,
    /// What this worker knows of it.
    pub load: LoadRef,
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.target == other.target && self.host == other.host && self.port == other.port && self.weight == other.weight
    }
}

impl Peer {
    /// Its addresses as far as they are known.
    pub fn places(&self) -> Arc<Vec<Arc<Place>>> {
        self.places.load_full()
    }

    /// Takes in what its name has now; `true`: something is different.
    pub(super) fn learn(&self, addresses: &[IpAddr]) -> bool {
        let known = self.places.load();
        let is_same = known.len() == addresses.len() && addresses.iter().all(|&address| known.iter().any(|p| p.address().ip() == address));
        if is_same {
            return false;
        }
        let places = addresses.iter().map(|&address| {
            let place = known.iter().find(|place| place.address().ip() == address);
            place.map_or_else(|| Arc::new(Place::new(self.upstream, self.target, address, self.port)), Arc::clone)
        });
        let places = places.collect();
        drop(known);
        self.places.store(Arc::new(places));
        true
    }
}

/// A request that is with a Target: counted for as long as this lives.
#[derive(Debug)]
pub struct Turn {
    /// The Target.
    pub peer: Arc<Peer>,
}

impl Turn {
    /// Begins to count.
    pub(super) fn new(peer: &Arc<Peer>) -> Self {
        peer.load.in_flight.fetch_add(1, Ordering::Relaxed);
        Turn { peer: Arc::clone(peer) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.peer.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
