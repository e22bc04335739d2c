// SPDX-License-Identifier: Apache-2.0
//! Which addresses of Targets may be chosen? What is known of them lies in shared memory, where all workers see it.

pub mod active;
mod rules;

pub use pylae_shared::health::{Ejection, Health, Observer, Why};
pub use rules::{Limits, Outcome, Probe, Rules};

use crate::clock::now_ms;
use crate::snapshot::Id;
use pylae_shared::Segment;
use pylae_shared::health::{Entry, Identity, LocalHealth};
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Means in `Place::entry` that the table had no room.
const NO_ROOM: u64 = u64::MAX;

/// One address of a Target.
#[derive(Debug)]
pub struct Place {
    identity: Identity,
    /// Where it stands in the table, as a word; 0: not looked for yet.
    entry: AtomicU64,
    local: OnceLock<LocalHealth>,
}

impl Place {
    /// An address of a Target of an Upstream.
    pub fn new(upstream: Id, target: Id, address: IpAddr, port: u16) -> Self {
        let identity = Identity { upstream: upstream.0, target: target.0, address, port };
        Place { identity, entry: AtomicU64::new(0), local: OnceLock::new() }
    }

    /// Address and port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.identity.address, self.identity.port)
    }

    /// The Target's row.
    pub fn target(&self) -> Id {
        Id(self.identity.target)
    }

    fn local(&self) -> &LocalHealth {
        self.local.get_or_init(|| LocalHealth::new(now_ms()))
    }
}

/// An address became healthy or unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turned {
    /// As it is now.
    pub health: Health,
}

/// The health of Targets as one worker sees it and says it.
pub struct Watch {
    segment: Arc<Segment>,
    /// Our number for the lease.
    holder: u16,
    /// Addresses the table had no room for.
    homeless: Cell<u64>,
}

impl Watch {
    /// The watch of a worker; slot and generation tell it from others.
    pub fn new(segment: Arc<Segment>, slot: usize, generation: u64) -> Self {
        let holder = ((slot as u16 + 1) << 6) | (generation as u16 & 63);
        Watch { segment, holder, homeless: Cell::new(0) }
    }

    /// A watch that shares with nobody.
    ///
    /// # Errors
    /// No memory.
    pub fn alone() -> std::io::Result<Self> {
        use std::os::fd::AsRawFd;
        let descriptor = pylae_shared::create(1, 1, 1024)?;
        Ok(Watch::new(Arc::new(Segment::open(descriptor.as_raw_fd())?), 0, 0))
    }

    /// While it stays the same, no address became healthy or unhealthy.
    pub fn epoch(&self) -> u64 {
        self.segment.health_epoch()
    }

    /// Addresses this worker alone keeps the health of, for lack of room.
    pub fn homeless(&self) -> u64 {
        self.homeless.get()
    }

    fn entry(&self, place: &Place) -> Option<Entry> {
        match place.entry.load(Ordering::Relaxed) {
            NO_ROOM => None,
            word => Entry::of_word(word).or_else(|| self.find(place)),
        }
    }

    fn find(&self, place: &Place) -> Option<Entry> {
        let entry = self.segment.health_entry(&place.identity, now_ms());
        if entry.is_none() {
            self.homeless.set(self.homeless.get() + 1);
        }
        place.entry.store(entry.map_or(NO_ROOM, Entry::word), Ordering::Relaxed);
        entry
    }

    /// What is known of an address.
    pub fn health(&self, place: &Place) -> Health {
        let known = self.entry(place).and_then(|entry| match self.segment.health_of(entry) {
            Some(health) => Some(health),
            // It passed to another while nobody used it.
            None => self.find(place).and_then(|entry| self.segment.health_of(entry)),
        });
        known.unwrap_or_else(|| place.local().load())
    }

    /// What is known of an address, if anything is; nothing is made for it.
    pub fn health_so_far(&self, place: &Place) -> Option<Health> {
        self.segment.health_of(self.segment.find_health(&place.identity)?)
    }

    fn change(&self, place: &Place, change: impl Fn(Health) -> Health) -> (Health, Health) {
        let changed = self.entry(place).and_then(|entry| match self.segment.change_health(entry, &change) {
            Some(changed) => Some(changed),
            None => self.find(place).and_then(|entry| self.segment.change_health(entry, &change)),
        });
        changed.unwrap_or_else(|| {
            let (before, after) = place.local().update(change);
            if before.is_healthy != after.is_healthy {
                self.segment.turn_health_epoch();
            }
            (before, after)
        })
    }

    /// Counts what was observed, as the limits say. Answers when the state turned; `evidence` is asked for only then.
    pub fn report(
        &self,
        place: &Place,
        limits: &Limits,
        observer: Observer,
        outcome: Outcome,
        evidence: impl FnOnce() -> String,
    ) -> Option<Turned> {
        let (report, limit) = limits.judge(outcome)?;
        // Nearly always nothing would change: then nothing is written.
        let at_ms = now_ms();
        let now = self.health(place);
        if now.after(observer, report, limit, at_ms) == now {
            return None;
        }
        let (before, health) = self.change(place, |health| health.after(observer, report, limit, at_ms));
        if before.is_healthy == health.is_healthy {
            return None;
        }
        if observer == Observer::Passive
            && let Some(entry) = self.entry(place)
        {
            self.segment.note_health(entry, &evidence(), None);
        }
        Some(Turned { health })
    }

    /// Keeps what a probe found.
    pub fn note(&self, place: &Place, evidence: &str) {
        if let Some(entry) = self.entry(place) {
            self.segment.note_health(entry, evidence, Some(now_ms()));
        }
    }

    /// An operator says how an address does; what was counted is forgotten.
    pub fn mark(&self, place: &Place, is_healthy: bool) {
        let at_ms = now_ms();
        if self.entry(place).is_some_and(|entry| self.segment.mark_health(entry, is_healthy, at_ms)) {
            return;
        }
        self.change(place, |_| Health::marked(is_healthy, at_ms));
    }

    /// The last ejection of an address, over or not; nothing is made for it.
    pub fn ejection(&self, place: &Place) -> Option<Ejection> {
        if self.segment.ejections() == 0 {
            return None;
        }
        let known = Entry::of_word(place.entry.load(Ordering::Relaxed)).filter(|entry| entry.word() != NO_ROOM);
        let entry = known.filter(|&entry| self.segment.health_of(entry).is_some()).or_else(|| self.segment.find_health(&place.identity))?;
        self.segment.ejection_of(entry)
    }

    /// Leaves an outlier out for a while, in every worker; `false`: there is no room to say so.
    pub fn eject(&self, place: &Place, ejection: &Ejection) -> bool {
        self.entry(place).is_some_and(|entry| {
            self.segment.eject_health(entry, ejection) || self.find(place).is_some_and(|entry| self.segment.eject_health(entry, ejection))
        })
    }

    /// An address did well for an interval: its next ejection is shorter.
    pub fn relax_ejection(&self, place: &Place) {
        if self.segment.ejections() > 0
            && let Some(entry) = self.segment.find_health(&place.identity)
        {
            self.segment.relax_ejection(entry);
        }
    }

    /// Says that the address is still used, also when nobody was sent there yet: others may have marked it.
    pub fn touch(&self, place: &Place) {
        if place.entry.load(Ordering::Relaxed) == NO_ROOM {
            return self.move_in(place);
        }
        if self.entry(place).is_some_and(|entry| !self.segment.touch_health(entry)) {
            self.find(place);
        }
    }

    /// Says so of an address of which something is known; nothing is made for it.
    pub fn touch_so_far(&self, place: &Place) {
        if let Some(entry) = self.segment.find_health(&place.identity) {
            self.segment.touch_health(entry);
        }
    }

    /// Looks whether there is room by now; what was met meanwhile goes along.
    fn move_in(&self, place: &Place) {
        let Some(entry) = self.segment.health_entry(&place.identity, now_ms()) else { return };
        let local = place.local().load();
        let is_news = |shared: Health| shared.why == Why::Initial && shared.counts == [0; 4];
        let moved = self.segment.change_health(entry, |shared| if is_news(shared) { local } else { shared });
        place.entry.store(entry.word(), Ordering::Relaxed);
        if moved.is_some_and(|(_, shared)| shared.is_healthy != local.is_healthy) {
            self.segment.turn_health_epoch();
        }
    }

    /// Are we the one who probes for the node?
    pub fn holds_lease(&self) -> bool {
        self.segment.hold_lease(self.holder)
    }

    /// Another may probe.
    pub fn leave_lease(&self) {
        self.segment.leave_lease(self.holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::model::HealthChecks;
    use serde_json::json;
    use std::os::fd::AsRawFd;

    fn place(number: u8) -> Place {
        Place::new(Id([1; 16]), Id([2; 16]), IpAddr::from([10, 0, 0, number]), 80)
    }

    fn passive(tcp_failures: u8, timeouts: u8, http_failures: u8, successes: u8) -> Rules {
        let checks: HealthChecks = serde_json::from_value(json!({
            "active": {"unhealthy": {"tcp_failures": 0, "timeouts": 0, "http_failures": 0, "interval": 0, "http_statuses": [500]},
                       "timeout": 1, "type": "http", "concurrency": 10, "http_path": "/", "https_sni": null, "https_verify_certificate": true,
                       "healthy": {"http_statuses": [200], "interval": 0, "successes": 0}, "headers": null},
            "passive": {"unhealthy": {"tcp_failures": tcp_failures, "timeouts": timeouts, "http_failures": http_failures,
                                      "http_statuses": [429, 500, 503]},
                        "type": "http", "healthy": {"http_statuses": [200, 302], "successes": successes}},
            "threshold": 0
        }))
        .expect("health checks");
        Rules::new(&checks, None)
    }

    fn report(watch: &Watch, place: &Place, rules: &Rules, outcome: Outcome) -> bool {
        watch.report(place, &rules.passive, Observer::Passive, outcome, || "evidence".into());
        watch.health(place).is_healthy
    }

    #[test]
    fn test_health_checks_are_off_unless_an_interval_or_a_passive_unhealthy_count_is_set() {
        assert!(!passive(0, 0, 0, 5).is_on);
        assert!(passive(1, 0, 0, 0).is_on && passive(0, 1, 0, 0).is_on && passive(0, 0, 1, 0).is_on);
    }

    #[test]
    fn test_an_address_nobody_was_sent_to_is_kept_in_use() {
        let (watch, ours, marked) = (Watch::alone().expect("memory"), place(1), place(1));
        watch.mark(&marked, false);
        assert_eq!(Entry::of_word(ours.entry.load(Ordering::Relaxed)), None);
        watch.touch(&ours);
        assert_eq!(ours.entry.load(Ordering::Relaxed), marked.entry.load(Ordering::Relaxed));
        assert!(!watch.health(&ours).is_healthy);
    }

    #[test]
    fn test_passive_unhealthy_statuses_count_as_http_failures() {
        let (watch, place, rules) = (Watch::alone().expect("memory"), place(1), passive(0, 0, 2, 0));
        assert!(report(&watch, &place, &rules, Outcome::Status(500)));
        assert!(!report(&watch, &place, &rules, Outcome::Status(429)));
    }

    #[test]
    fn test_a_status_in_neither_list_changes_nothing() {
        let (watch, place, rules) = (Watch::alone().expect("memory"), place(1), passive(0, 0, 1, 1));
        for status in [404, 501, 502, 204] {
            assert!(report(&watch, &place, &rules, Outcome::Status(status)));
        }
        assert_eq!(watch.health(&place).counts, [0; 4]);
    }

    #[test]
    fn test_timeouts_and_504_count_as_timeouts() {
        let (watch, place, rules) = (Watch::alone().expect("memory"), place(1), passive(0, 2, 0, 0));
        assert!(report(&watch, &place, &rules, Outcome::Timeout));
        assert!(!report(&watch, &place, &rules, Outcome::of_answer(504)));
    }

    #[test]
    fn test_connect_errors_count_as_tcp_failures() {
        let (watch, place, rules) = (Watch::alone().expect("memory"), place(1), passive(1, 0, 0, 0));
        assert!(report(&watch, &place, &rules, Outcome::Timeout));
        assert!(!report(&watch, &place, &rules, Outcome::TcpFailure));
    }

    #[test]
    fn test_counts_of_zero_disable_their_check() {
        let (watch, place, rules) = (Watch::alone().expect("memory"), place(1), passive(0, 0, 0, 0));
        for outcome in [Outcome::TcpFailure, Outcome::Timeout, Outcome::Status(500), Outcome::NoStatus] {
            for _ in 0..300 {
                assert!(report(&watch, &place, &rules, outcome));
            }
        }
    }

    #[test]
    fn test_a_success_resets_failures_and_the_reverse() {
        let (watch, place, rules) = (Watch::alone().expect("memory"), place(1), passive(0, 0, 2, 2));
        for _ in 0..5 {
            assert!(report(&watch, &place, &rules, Outcome::Status(500)));
            assert!(report(&watch, &place, &rules, Outcome::Status(200)));
        }
        report(&watch, &place, &rules, Outcome::Status(500));
        assert!(!report(&watch, &place, &rules, Outcome::Status(500)));
        for _ in 0..5 {
            assert!(!report(&watch, &place, &rules, Outcome::Status(200)));
            assert!(!report(&watch, &place, &rules, Outcome::Status(500)));
        }
    }

    #[test]
    fn test_an_unhealthy_address_comes_back_when_an_operator_says_so() {
        let (watch, place, rules) = (Watch::alone().expect("memory"), place(1), passive(1, 0, 0, 0));
        assert!(!report(&watch, &place, &rules, Outcome::TcpFailure));
        assert!(!report(&watch, &place, &rules, Outcome::Status(200)), "never by itself");
        watch.mark(&place, true);
        assert!(watch.health(&place).is_healthy);
        assert_eq!(watch.health(&place).why.name(), "marked by an operator");
    }

    #[test]
    fn test_all_workers_see_what_one_reports_and_a_new_one_too() {
        let descriptor = pylae_shared::create(2, 1, 64).expect("a segment");
        let join = |slot| Watch::new(Arc::new(Segment::open(descriptor.as_raw_fd()).expect("the same")), slot, 1);
        let (one, two, rules) = (join(0), join(1), passive(1, 0, 0, 0));
        report(&one, &place(1), &rules, Outcome::TcpFailure);
        assert!(!two.health(&place(1)).is_healthy);
        assert!(two.health(&place(2)).is_healthy);
        drop((one, two));
        assert!(!join(0).health(&place(1)).is_healthy);
    }

    #[test]
    fn test_who_had_no_room_moves_in_when_there_is_some() {
        let watch = Watch::alone().expect("memory");
        let (ours, theirs, rules) = (place(1), place(1), passive(1, 0, 0, 0));
        ours.entry.store(NO_ROOM, Ordering::Relaxed);
        assert!(!report(&watch, &ours, &rules, Outcome::TcpFailure));
        assert!(watch.health(&theirs).is_healthy, "it is known to itself only");
        watch.touch(&ours);
        assert!(!watch.health(&theirs).is_healthy);
        ours.entry.store(NO_ROOM, Ordering::Relaxed);
        watch.mark(&theirs, true);
        watch.touch(&ours);
        assert!(watch.health(&ours).is_healthy, "what all know counts");
    }

    #[test]
    fn test_what_is_only_touched_so_far_takes_no_room() {
        let watch = Watch::alone().expect("memory");
        watch.touch_so_far(&place(1));
        assert!(watch.health_so_far(&place(1)).is_none());
    }

    #[test]
    fn test_without_room_a_worker_knows_what_it_met_itself() {
        let descriptor = pylae_shared::create(1, 1, 1).expect("a segment");
        let watch = Watch::new(Arc::new(Segment::open(descriptor.as_raw_fd()).expect("the same")), 0, 1);
        let (housed, homeless, rules) = (place(1), place(2), passive(1, 0, 0, 0));
        assert!(watch.health(&housed).is_healthy);
        let epoch = watch.epoch();
        assert!(!report(&watch, &homeless, &rules, Outcome::TcpFailure));
        assert!(watch.health(&housed).is_healthy);
        assert_eq!((watch.homeless(), watch.epoch()), (1, epoch + 1));
    }
}
