// SPDX-License-Identifier: Apache-2.0
//! Does each algorithm share as it says, and does health decide who takes part?

use super::policy::Outlier;
use super::*;
use crate::fault::FaultKind;
use crate::healthcheck::{Ejection, Observer, Outcome};
use crate::snapshot::model::{HealthChecks, Raw, Reference};
use crate::upstream::dns::{Answer, Kind};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

const UPSTREAM: Id = Id([7; 16]);

fn id(number: u32) -> Id {
    let mut bytes = [0; 16];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    Id(bytes)
}

fn target(number: u32, text: &str, weight: u32) -> Target {
    Target {
        id: id(number),
        created_at: 0.0,
        updated_at: 0.0,
        upstream: Reference { id: UPSTREAM },
        target: text.into(),
        weight: Some(weight),
        tags: None,
        raw: Raw::default(),
    }
}

/// Targets 10.0.0.1, 10.0.0.2 … with these weights; ids from 1.
fn targets(weights: &[u32]) -> Vec<Target> {
    (1..).zip(weights).map(|(number, &weight)| target(number, &format!("10.0.{}.{}:80", number / 256, number % 256), weight)).collect()
}

/// What names have, as a test says.
#[derive(Default)]
struct Table {
    generation: Cell<u64>,
    found: RefCell<HashMap<String, Found>>,
    asked: Cell<u32>,
}

impl Table {
    fn tell(&self, host: &str, found: Found) {
        self.found.borrow_mut().insert(host.to_owned(), found);
        self.generation.set(self.generation.get() + 1);
    }
}

impl Names for Table {
    fn generation(&self) -> u64 {
        self.generation.get()
    }

    fn known(&self, host: &str) -> Option<Found> {
        self.asked.set(self.asked.get() + 1);
        self.found.borrow().get(host).cloned()
    }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 9, 0, last])
}

fn answer(records: Vec<Record>) -> Arc<Answer> {
    Arc::new(Answer::new(Kind::A, records.into()))
}

/// A records for 10.9.0.x.
fn of_addresses(last: &[u8]) -> Arc<Answer> {
    answer(last.iter().map(|&last| Record { address: ip(last), port: None, weight: None, name: None }).collect())
}

fn srv(last: u8, port: u16, weight: u32) -> Record {
    Record { address: ip(last), port: Some(port), weight: Some(weight), name: Some(format!("host-{last}.test").into()) }
}

struct Rig {
    balancer: Balancer,
    rules: Arc<Rules>,
    watch: Watch,
    names: Table,
    now: Duration,
    slow_start: Option<SlowStart>,
}

impl Rig {
    fn new(algorithm: Algorithm, targets: &[Target]) -> Self {
        Rig::with_rules(algorithm, targets, Rules::off())
    }

    fn with_rules(algorithm: Algorithm, targets: &[Target], rules: Rules) -> Self {
        let (balancer, refused) = Balancer::new(algorithm, targets, None);
        assert!(refused.is_empty());
        let (names, now) = (Table::default(), Duration::from_secs(100));
        Rig { balancer, rules: Arc::new(rules), watch: Watch::alone().expect("memory"), names, now, slow_start: None }
    }

    /// A Target `a.test:80` of weight 10 with these addresses, and more Targets.
    fn named(algorithm: Algorithm, found: Arc<Answer>, others: &[Target]) -> Self {
        let rig = Rig::new(algorithm, &[&[target(1000, "a.test:80", 10)], others].concat());
        rig.names.tell("a.test", Ok(found));
        rig
    }

    fn ask(&self, hash: u64, tried: &[Tried]) -> Result<Turn, NoTarget> {
        // As who looks after names does.
        let pending: Vec<_> = self.balancer.roster().pending().cloned().collect();
        for peer in pending {
            if let Some(found) = self.names.found.borrow().get(&*peer.host) {
                self.balancer.learn(peer.target, found, self.now);
            }
        }
        let ask = Ask { hash, tried, waited_for: 0, barred: &[], slow_start: self.slow_start.as_ref(), now: self.now };
        self.balancer.choose(&ask, &self.rules, &self.watch, &self.names)
    }

    fn choose(&self, hash: u64, tried: &[Id]) -> Result<Turn, NoTarget> {
        let roster = self.balancer.roster();
        let tried: Vec<Tried> = roster.addresses().map(|address| tried_of(address)).filter(|one| tried.contains(&one.target)).collect();
        self.ask(hash, &tried)
    }

    /// The address chosen.
    fn where_to(&self, hash: u64) -> SocketAddr {
        match &self.ask(hash, &[]).expect("an address").seat {
            Seat::Known(address) => address.place.address(),
            Seat::Once(..) => panic!("it is asked for each time"),
        }
    }

    /// How often each address was chosen, most of them first.
    fn counts(&self, requests: u64) -> HashMap<SocketAddr, u64> {
        let mut counts = HashMap::new();
        for request in 0..requests {
            *counts.entry(self.where_to(key::hash(&request.to_le_bytes()))).or_default() += 1;
        }
        counts
    }

    fn chosen(&self, hash: u64) -> u32 {
        number(&self.choose(hash, &[]).expect("a Target"))
    }

    fn place(&self, number: u32) -> Arc<Place> {
        let roster = self.balancer.roster();
        let address = roster.addresses().find(|address| address.peer.target == id(number)).expect("a Target");
        Arc::clone(&address.place)
    }

    /// How often each was chosen, from Target 1 on.
    fn shares(&self, requests: u64, count: usize) -> Vec<f64> {
        let mut counts = vec![0u32; count];
        for request in 0..requests {
            counts[self.chosen(key::hash(&request.to_le_bytes())) as usize - 1] += 1;
        }
        counts.iter().map(|&count| f64::from(count) / requests as f64).collect()
    }
}

fn tried_of(address: &Address) -> Tried {
    Tried { target: address.peer.target, address: address.place.address() }
}

fn number(turn: &Turn) -> u32 {
    u32::from_be_bytes(*turn.seat.peer().target.0.last_chunk().expect("16 bytes"))
}

fn passive(threshold: f64) -> Rules {
    let checks: HealthChecks = serde_json::from_value(json!({
        "active": {"unhealthy": {"tcp_failures": 0, "timeouts": 0, "http_failures": 0, "interval": 0, "http_statuses": []},
                   "timeout": 1, "type": "http", "concurrency": 10, "http_path": "/", "https_sni": null, "https_verify_certificate": true,
                   "healthy": {"http_statuses": [], "interval": 0, "successes": 0}, "headers": null},
        "passive": {"unhealthy": {"tcp_failures": 1, "timeouts": 0, "http_failures": 0, "http_statuses": []},
                    "type": "http", "healthy": {"http_statuses": [], "successes": 0}},
        "threshold": threshold
    }))
    .expect("health checks");
    Rules::new(&checks, None)
}

fn fail(rig: &Rig, number: u32) {
    rig.watch.report(&rig.place(number), &rig.rules.passive, Observer::Passive, Outcome::TcpFailure, String::new).expect("it turned");
}

fn assert_near(shares: &[f64], expected: &[f64], tolerance: f64) {
    for (share, expected) in shares.iter().zip(expected) {
        assert!((share - expected).abs() <= tolerance * expected, "{shares:?} is not {expected} within {tolerance}");
    }
}

const ALL: [Algorithm; 4] = [Algorithm::RoundRobin, Algorithm::LeastConnections, Algorithm::Latency, Algorithm::ConsistentHashing];

// === what all have in common ===

#[test]
fn test_weight_zero_gets_nothing_by_any_algorithm() {
    for algorithm in ALL {
        let rig = Rig::new(algorithm, &targets(&[1, 0, 1]));
        assert!((0..100).all(|hash| rig.chosen(mix(hash)) != 2), "{algorithm:?}");
        assert!(Rig::new(algorithm, &targets(&[0])).choose(0, &[]).is_err(), "{algorithm:?}");
        assert!(Rig::new(algorithm, &[]).choose(0, &[]).is_err(), "{algorithm:?}");
    }
}

#[test]
fn test_a_retry_goes_to_a_target_that_was_not_tried() {
    for algorithm in ALL {
        let rig = Rig::new(algorithm, &targets(&[100, 1, 1]));
        for hash in 0..50 {
            let mut tried = Vec::new();
            for _ in 0..3 {
                let turn = rig.choose(mix(hash), &tried).expect("a Target");
                assert!(!tried.contains(&turn.seat.peer().target), "{algorithm:?}");
                tried.push(turn.seat.peer().target);
            }
            assert!(rig.choose(mix(hash), &tried).is_ok(), "{algorithm:?}: when all were tried, one is tried again");
        }
    }
}

#[test]
fn test_an_unhealthy_target_gets_nothing_and_comes_back() {
    for algorithm in ALL {
        let rig = Rig::with_rules(algorithm, &targets(&[1, 1]), passive(0.0));
        assert!((0..20).any(|hash| rig.chosen(mix(hash)) == 1), "{algorithm:?}");
        fail(&rig, 1);
        assert!((0..20).all(|hash| rig.chosen(mix(hash)) == 2), "{algorithm:?}");
        rig.watch.mark(&rig.place(1), true);
        assert!((0..20).any(|hash| rig.chosen(mix(hash)) == 1), "{algorithm:?}");
    }
}

#[test]
fn test_all_targets_unhealthy_is_no_target_and_never_all_of_them() {
    for algorithm in ALL {
        let rig = Rig::with_rules(algorithm, &targets(&[1, 1]), passive(0.0));
        fail(&rig, 1);
        fail(&rig, 2);
        assert_eq!(rig.choose(0, &[]).map(|turn| number(&turn)), Err(NoTarget), "{algorithm:?}");
    }
}

#[test]
fn test_at_the_threshold_the_whole_upstream_is_unhealthy() {
    // 60 of 100 healthy.
    for (threshold, is_enough) in [(59.9, true), (60.0, false), (75.0, false)] {
        let rig = Rig::with_rules(Algorithm::RoundRobin, &targets(&[40, 30, 30]), passive(threshold));
        assert!(rig.choose(0, &[]).is_ok());
        fail(&rig, 1);
        assert_eq!(rig.choose(0, &[]).is_ok(), is_enough, "{threshold}");
    }
}

#[test]
fn test_health_that_is_not_looked_at_does_not_count() {
    let rig = Rig::new(Algorithm::RoundRobin, &targets(&[1, 1]));
    rig.watch.mark(&rig.place(1), false);
    assert!((0..4).any(|hash| rig.chosen(hash) == 1));
}

#[test]
fn test_a_name_counts_with_the_addresses_it_has() {
    let rig = Rig::with_rules(Algorithm::RoundRobin, &[target(1, "a.test:80", 1), target(2, "10.0.0.9:80", 1)], passive(50.0));
    rig.names.tell("a.test", Ok(of_addresses(&[1, 2])));
    assert_eq!(rig.counts(3).len(), 3, "each in turn");
    fail(&rig, 1);
    assert_eq!(rig.counts(4).len(), 2, "66 % of the weight is healthy");
    rig.watch.mark(&rig.place(2), false);
    assert!(rig.ask(0, &[]).is_err(), "33 % is not");
    rig.names.tell("a.test", Ok(of_addresses(&[1, 2, 3])));
    assert!(rig.ask(0, &[]).is_err(), "50 % is at the threshold");
    rig.names.tell("a.test", Ok(of_addresses(&[1, 2, 3, 4])));
    assert_eq!(rig.counts(6).len(), 3);
}

#[test]
fn test_what_is_known_of_a_target_outlives_a_change_of_others() {
    for algorithm in ALL {
        let rig = Rig::new(algorithm, &targets(&[1, 1]));
        let held = rig.choose(0, &[]).expect("a Target");
        let (after, _) = Balancer::new(algorithm, &targets(&[1, 1, 1]), Some(&rig.balancer));
        let roster = after.roster();
        let same = roster.addresses().find(|address| address.peer.target == held.seat.peer().target).expect("it stayed");
        assert_eq!(same.load.in_flight(), 1);
        drop(held);
        assert_eq!(same.load.in_flight(), 0);
    }
}

// === names: each address is a candidate ===

/// Requests one after the other, each answered at once and in the same time.
fn shares_of_addresses(rig: &mut Rig, requests: u64) -> HashMap<SocketAddr, f64> {
    let mut counts: HashMap<SocketAddr, f64> = HashMap::new();
    for request in 0..requests {
        let turn = rig.ask(key::hash(&request.to_le_bytes()), &[]).expect("an address");
        let Seat::Known(address) = &turn.seat else { panic!("it is asked for each time") };
        rig.now += Duration::from_millis(1);
        address.load.observe(Duration::from_millis(1), rig.now);
        *counts.entry(address.place.address()).or_default() += 1.0 / requests as f64;
    }
    counts
}

fn assert_shares(shares: &HashMap<SocketAddr, f64>, expected: &[(SocketAddr, f64)], tolerance: f64) {
    assert_eq!(shares.len(), expected.len(), "{shares:?}");
    for (address, share) in expected {
        assert!((shares[address] - share).abs() <= tolerance * share, "{address} of {shares:?} is not {share} within {tolerance}");
    }
}

/// Of the shares of requests that come one after the other.
fn tolerance(algorithm: Algorithm) -> f64 {
    match algorithm {
        Algorithm::RoundRobin => 0.001,
        Algorithm::ConsistentHashing => 0.05,
        Algorithm::Latency => 0.15,
        // Whoever is idle is as good as another: weights count among busy ones.
        Algorithm::LeastConnections => f64::INFINITY,
    }
}

#[test]
fn test_each_address_of_a_name_has_the_weight_of_its_target() {
    for algorithm in ALL {
        let mut rig = Rig::named(algorithm, of_addresses(&[1, 2, 3]), &[target(1, "10.0.0.1:80", 10)]);
        let shares = shares_of_addresses(&mut rig, 20_000);
        let addresses = [ip(1), ip(2), ip(3), IpAddr::from([10, 0, 0, 1])].map(|ip| (SocketAddr::new(ip, 80), 0.25));
        if algorithm == Algorithm::LeastConnections {
            let held: Vec<_> = (0..40).map(|_| rig.ask(0, &[]).expect("an address")).collect();
            assert!(rig.balancer.roster().addresses().all(|address| address.load.in_flight() == 10));
            drop(held);
        } else {
            assert_shares(&shares, &addresses, tolerance(algorithm));
        }
    }
}

#[test]
fn test_srv_records_have_their_own_weights_and_ports_and_not_the_targets() {
    for algorithm in ALL {
        let mut rig = Rig::named(algorithm, answer(vec![srv(1, 81, 30), srv(1, 82, 50), srv(2, 81, 0)]), &[target(1, "10.0.0.1:80", 19)]);
        let at = |last, port| SocketAddr::new(ip(last), port);
        let expected = [(at(1, 81), 0.3), (at(1, 82), 0.5), (at(2, 81), 0.01), (SocketAddr::from(([10, 0, 0, 1], 80)), 0.19)];
        if algorithm == Algorithm::LeastConnections {
            let held: Vec<_> = (0..100).map(|_| rig.ask(0, &[]).expect("an address")).collect();
            for (address, share) in expected {
                let roster = rig.balancer.roster();
                let of = roster.addresses().find(|one| one.place.address() == address).expect("it is there");
                assert!((f64::from(of.load.in_flight()) - share * 100.0).abs() <= 1.0, "{address}: {}", of.load.in_flight());
            }
            drop(held);
        } else {
            let mut shares = shares_of_addresses(&mut rig, 20_000);
            // The smallest share needs more requests than a test should send.
            let smallest = shares.remove(&at(2, 81)).unwrap_or_default();
            assert!(smallest > 0.005 && smallest < 0.02, "{algorithm:?}: {smallest}");
            let rest = [expected[0], expected[1], expected[3]];
            assert_shares(&shares, &rest, tolerance(algorithm));
        }
    }
}

#[test]
fn test_two_srv_records_with_one_address_are_one_candidate_of_both_weights() {
    let rig = Rig::named(Algorithm::RoundRobin, answer(vec![srv(1, 81, 2), srv(1, 81, 4), srv(2, 81, 6)]), &[]);
    assert_eq!(rig.counts(12).values().copied().collect::<Vec<_>>(), [6, 6]);
}

#[test]
fn test_a_retry_goes_to_another_address_of_the_same_name() {
    for algorithm in ALL {
        let rig = Rig::named(algorithm, of_addresses(&[1, 2, 3]), &[target(1, "10.9.0.3:80", 1)]);
        for hash in 0..50 {
            let mut tried = Vec::new();
            for _ in 0..3 {
                let turn = rig.ask(mix(hash), &tried).expect("an address");
                let Seat::Known(address) = &turn.seat else { panic!("it is known") };
                let one = tried_of(address);
                assert!(tried.iter().all(|before| before.address != one.address), "{algorithm:?}: two Targets with one address");
                tried.push(one);
            }
            assert!(rig.ask(mix(hash), &tried).is_ok(), "{algorithm:?}: when all were tried, one is tried again");
        }
    }
}

#[test]
fn test_a_name_that_failed_gets_nothing_and_comes_back() {
    for algorithm in ALL {
        let rig = Rig::named(algorithm, of_addresses(&[1]), &[target(1, "10.0.0.1:80", 10)]);
        assert_eq!(rig.counts(50).len(), 2, "{algorithm:?}");
        rig.names.tell("a.test", Err(FaultKind::NameNotFound.into()));
        assert_eq!(rig.counts(50).into_keys().collect::<Vec<_>>(), [SocketAddr::from(([10, 0, 0, 1], 80))], "{algorithm:?}");
        rig.names.tell("a.test", Ok(of_addresses(&[1])));
        assert_eq!(rig.counts(50).len(), 2, "{algorithm:?}");
    }
}

#[test]
fn test_the_only_name_that_failed_says_why() {
    let rig = Rig::new(Algorithm::RoundRobin, &[target(1, "a.test:80", 1)]);
    assert!(rig.ask(0, &[]).is_err());
    assert_eq!((rig.balancer.roster().pending().count(), rig.balancer.failure_of_all().map(|fault| fault.kind)), (1, None));
    rig.balancer.learn(id(1), &Err(FaultKind::NameNotFound.into()), rig.now);
    assert!(rig.ask(0, &[]).is_err());
    let failure = rig.balancer.failure_of_all().map(|fault| fault.kind);
    assert_eq!((rig.balancer.roster().pending().count(), failure), (0, Some(FaultKind::NameNotFound)));
}

#[test]
fn test_names_are_asked_for_only_when_an_answer_changed() {
    let rig = Rig::named(Algorithm::RoundRobin, of_addresses(&[1, 2]), &[target(1, "10.0.0.1:80", 10)]);
    rig.counts(10);
    let before = rig.names.asked.get();
    rig.counts(10);
    assert_eq!(rig.names.asked.get(), before);
    let roster = rig.balancer.roster();
    rig.names.tell("a.test", Ok(of_addresses(&[1, 2])));
    rig.names.tell("b.test", Ok(of_addresses(&[3])));
    rig.counts(10);
    assert_eq!(rig.names.asked.get(), before + 1);
    assert!(Arc::ptr_eq(&roster, &rig.balancer.roster()), "the same records are the same candidates");
}

#[test]
fn test_a_choice_does_not_ask_for_names_of_which_nothing_is_known() {
    let rig = Rig::new(Algorithm::RoundRobin, &[target(1, "a.test:80", 1), target(2, "10.0.0.9:80", 1)]);
    rig.names.generation.set(7);
    assert!(rig.ask(0, &[]).is_ok());
    assert_eq!((rig.names.asked.get(), rig.balancer.roster().pending().count()), (0, 1));
}

#[test]
fn test_what_is_known_of_an_address_outlives_a_change_of_others() {
    let rig = Rig::named(Algorithm::LeastConnections, of_addresses(&[1, 2]), &[]);
    let held = rig.ask(0, &[]).expect("an address");
    let Seat::Known(before) = &held.seat else { panic!("it is known") };
    rig.names.tell("a.test", Ok(of_addresses(&[9, 1, 2])));
    assert_eq!(rig.counts(9).len(), 2, "the busy one is left alone");
    let (after, _) = Balancer::new(Algorithm::LeastConnections, &[target(1000, "a.test:80", 5)], Some(&rig.balancer));
    for roster in [rig.balancer.roster(), after.roster()] {
        let same = roster.addresses().find(|one| one.place.address() == before.place.address()).expect("it stayed");
        assert_eq!(same.load.in_flight(), 1);
        assert!(Arc::ptr_eq(&same.place, &before.place));
    }
}

#[test]
fn test_keys_of_addresses_that_stay_stay() {
    let rig = Rig::named(Algorithm::ConsistentHashing, of_addresses(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), &[]);
    let keys: Vec<u64> = (0..50_000u32).map(|key| key::hash(&key.to_le_bytes())).collect();
    let before: Vec<SocketAddr> = keys.iter().map(|&key| rig.where_to(key)).collect();
    rig.names.tell("a.test", Ok(of_addresses(&[10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 11])));
    let mut moved = 0;
    for (&key, &was) in keys.iter().zip(&before) {
        let now = rig.where_to(key);
        assert!(now == was || now.ip() == ip(11), "a key may move to the new address only");
        moved += u32::from(now != was);
    }
    assert!(f64::from(moved) / 50_000.0 <= 1.0 / 11.0 * 1.1, "{moved}");
}

#[test]
fn test_what_was_owed_under_great_weights_is_not_paid_under_small_ones() {
    let rig = Rig::new(Algorithm::RoundRobin, &targets(&[65_535, 1]));
    assert!((0..20_000).all(|_| rig.chosen(0) == 1));
    let (after, _) = Balancer::new(Algorithm::RoundRobin, &targets(&[1, 1]), Some(&rig.balancer));
    let rig = Rig { balancer: after, ..Rig::new(Algorithm::RoundRobin, &[]) };
    let order = turns(&rig, 20);
    assert!(order.matches('a').count() >= 8 && order.matches('b').count() >= 8, "{order}");
}

#[test]
fn test_weights_of_many_addresses_do_not_overflow() {
    let last: Vec<u8> = (0..=255).collect();
    for algorithm in ALL {
        let names: Vec<Target> = (0..40).map(|number| target(number, &format!("{number}.test:80"), 65_535)).collect();
        let rig = Rig::new(algorithm, &names);
        for number in 0..40 {
            let records = last.iter().map(|&last| Record { weight: Some(u32::MAX), ..srv(last, 80 + number, 1) }).collect();
            rig.names.tell(&format!("{number}.test"), Ok(answer(records)));
        }
        for hash in 0..50 {
            assert!(rig.ask(mix(hash), &[]).is_ok(), "{algorithm:?}");
        }
        assert_eq!(rig.balancer.roster().addresses().count(), 40 * 256);
    }
}

#[test]
fn test_a_flood_of_records_is_cut() {
    let records = (0..5000u32).map(|number| Record { address: IpAddr::from(number.to_be_bytes()), ..srv(1, 80, 1) }).collect();
    let rig = Rig::named(Algorithm::RoundRobin, answer(records), &[]);
    assert!(rig.ask(0, &[]).is_ok());
    assert_eq!(rig.balancer.roster().addresses().count(), 256);
}

// === names with a TTL of 0 ===

#[test]
fn test_a_name_with_ttl_0_is_one_candidate_with_the_weight_of_its_target() {
    let once = Arc::new(Answer { is_once: true, ..(*answer(vec![srv(1, 81, 7), srv(2, 82, 1)])).clone() });
    let rig = Rig::named(Algorithm::RoundRobin, Arc::clone(&once), &[target(1, "10.0.0.1:80", 30)]);
    let names = (0..40).filter(|_| matches!(rig.ask(0, &[]).expect("one").seat, Seat::Once(..))).count();
    assert_eq!(names, 10);
}

#[test]
fn test_when_all_were_tried_who_is_waited_for_now_is_not_asked_again() {
    for algorithm in ALL {
        let rig = Rig::new(algorithm, &targets(&[1, 100, 1]));
        let addresses: Vec<_> = rig.balancer.roster().addresses().cloned().collect();
        let tried: Vec<Tried> = [0, 2, 1].map(|at: usize| tried_of(&addresses[at])).into();
        for hash in 0..50 {
            let ask = Ask { hash: mix(hash), tried: &tried, waited_for: 1, barred: &[], slow_start: None, now: rig.now };
            let turn = rig.balancer.choose(&ask, &rig.rules, &rig.watch, &rig.names).expect("a Target");
            assert_ne!(turn.seat.peer().target, tried[2].target, "{algorithm:?}");
        }
        let ask = Ask { hash: 0, tried: &tried, waited_for: 3, barred: &[], slow_start: None, now: rig.now };
        assert!(rig.balancer.choose(&ask, &rig.rules, &rig.watch, &rig.names).is_ok(), "{algorithm:?}: there is no other");
    }
}

#[test]
fn test_an_address_of_a_name_with_ttl_0_is_healthy_and_new_to_the_request() {
    let once = Arc::new(Answer { is_once: true, ..(*answer(vec![srv(1, 81, 6), srv(2, 82, 2)])).clone() });
    let rig = Rig::with_rules(Algorithm::RoundRobin, &[target(1, "a.test:80", 1)], passive(0.0));
    rig.names.tell("a.test", Ok(Arc::clone(&once)));
    let chosen = |tried: &[Tried]| {
        let turn = rig.ask(0, tried).expect("the name");
        let ask = Ask { hash: 0, tried, waited_for: 0, barred: &[], slow_start: None, now: rig.now };
        rig.balancer.once(&turn, &once.records, &ask, &rig.rules, &rig.watch)
    };
    let mut counts = HashMap::new();
    for _ in 0..8_000 {
        *counts.entry(chosen(&[]).expect("one of them").place.address().port()).or_insert(0.0) += 1.0 / 8_000.0;
    }
    assert_near(&[counts[&81], counts[&82]], &[0.75, 0.25], 0.05);
    let first = chosen(&[]).expect("one of them");
    assert_ne!(chosen(&[tried_of(&first)]).expect("the other").place.address(), first.place.address());
    let segment_rows =
        || (1..=2).filter(|&last| rig.watch.health_so_far(&Place::new(UPSTREAM, id(1), ip(last), 80 + u16::from(last))).is_some()).count();
    assert_eq!(segment_rows(), 0, "what is only looked at takes no room");
    for port in [81, 82] {
        let address = chosen(&[]).expect("one of them");
        rig.watch.mark(&address.place, false);
        assert_eq!(chosen(&[]).is_none(), port == 82);
    }
}

// === round robin: exact over a whole turn of the wheel ===

fn turns(rig: &Rig, count: usize) -> String {
    (0..count).map(|_| char::from(b'a' - 1 + rig.chosen(0) as u8)).collect()
}

#[test]
fn test_the_turns_of_a_heavy_target_are_spread() {
    assert_eq!(turns(&Rig::new(Algorithm::RoundRobin, &targets(&[5, 1, 1])), 14), "aabacaaaabacaa");
}

#[test]
fn test_round_robin_shares_are_exactly_the_weights() {
    for weights in [[1, 1, 1], [100, 100, 1], [3, 7, 0], [65_535, 1, 13]] {
        let total: u32 = weights.iter().sum();
        let order = turns(&Rig::new(Algorithm::RoundRobin, &targets(&weights)), total as usize);
        for (name, weight) in ["a", "b", "c"].into_iter().zip(weights) {
            assert_eq!(order.matches(name).count(), weight as usize, "{weights:?}");
        }
    }
}

// === least connections ===

#[test]
fn test_least_connections_in_flight_follow_the_weights_within_one() {
    let rig = Rig::new(Algorithm::LeastConnections, &targets(&[10, 20, 30]));
    let held: Vec<Turn> = (0..60).map(|_| rig.choose(0, &[]).expect("a Target")).collect();
    for (address, expected) in rig.balancer.roster().addresses().zip([10i64, 20, 30]) {
        assert!((i64::from(address.load.in_flight()) - expected).abs() <= 1, "{} of {expected}", address.load.in_flight());
    }
    drop(held);
}

#[test]
fn test_least_connections_avoids_who_is_busy() {
    let rig = Rig::new(Algorithm::LeastConnections, &targets(&[1, 1, 1]));
    let busy = [rig.choose(0, &[id(2), id(3)]), rig.choose(0, &[id(2), id(3)])];
    assert!((0..20).all(|hash| rig.chosen(hash) != 1));
    drop(busy);
    assert_near(&rig.shares(300, 3), &[1.0 / 3.0; 3], 0.01);
}

// === latency ===

/// Requests one after the other, each taking what its Target takes, nanoseconds apart by that.
fn run_latencies(rig: &mut Rig, latencies_ms: &[u64], requests: u32) -> Vec<f64> {
    let mut counts = vec![0u32; latencies_ms.len()];
    for _ in 0..requests {
        let turn = rig.choose(0, &[]).expect("a Target");
        let at = number(&turn) as usize - 1;
        counts[at] += 1;
        let took = Duration::from_millis(latencies_ms[at]);
        rig.now += took;
        turn.seat.load().observe(took, rig.now);
    }
    counts.iter().map(|&count| f64::from(count) / f64::from(requests)).collect()
}

#[test]
fn test_latency_shares_evenly_among_equals_within_15_percent() {
    let mut rig = Rig::new(Algorithm::Latency, &targets(&[1; 5]));
    assert_near(&run_latencies(&mut rig, &[10; 5], 20_000), &[0.2; 5], 0.15);
}

#[test]
fn test_latency_gives_a_slow_target_less_than_2_percent() {
    let mut rig = Rig::new(Algorithm::Latency, &targets(&[1; 5]));
    let shares = run_latencies(&mut rig, &[10, 10, 10, 10, 200], 20_000);
    assert!(shares[4] < 0.02, "{shares:?}");
    assert!(shares[4] > 0.0, "it is tried again");
}

#[test]
fn test_latency_rises_at_once_and_falls_little_by_little() {
    let load = Load::default();
    let (ms, at) = (Duration::from_millis, Duration::from_secs);
    load.observe(ms(10), at(1));
    load.observe(ms(500), at(1) + ms(10));
    assert!(load.expected_ns(at(1) + ms(10)).expect("known") >= 499e6);
    load.observe(ms(10), at(1) + ms(20));
    let soon = load.expected_ns(at(1) + ms(20)).expect("known");
    assert!(soon > 450e6, "{soon}");
    load.observe(ms(10), at(61));
    let later = load.expected_ns(at(61)).expect("known");
    assert!(later < 15e6, "{later}");
}

#[test]
fn test_a_lower_bound_of_a_latency_raises_what_is_expected_and_never_lowers_it() {
    let load = Load::default();
    let (ms, at) = (Duration::from_millis, Duration::from_secs);
    load.observe_at_least(ms(50), at(1));
    assert_eq!(load.expected_ns(at(1)), None, "nobody knows how much longer it would have taken");
    load.observe(ms(100), at(1));
    load.observe_at_least(ms(50), at(1));
    assert!(load.expected_ns(at(1)).expect("known") >= 99e6);
    load.observe_at_least(ms(300), at(1));
    assert!(load.expected_ns(at(1)).expect("known") >= 299e6);
}

// === consistent hashing ===

#[test]
fn test_consistent_hashing_shares_follow_the_weights_within_3_percent() {
    let even = Rig::new(Algorithm::ConsistentHashing, &targets(&[100; 10]));
    assert_near(&even.shares(100_000, 10), &[0.1; 10], 0.03);
    let uneven = Rig::new(Algorithm::ConsistentHashing, &targets(&[10, 20, 30, 40]));
    assert_near(&uneven.shares(100_000, 4), &[0.1, 0.2, 0.3, 0.4], 0.03);
}

#[test]
fn test_the_same_key_goes_to_the_same_target_in_every_worker() {
    let (one, two) =
        (Rig::new(Algorithm::ConsistentHashing, &targets(&[1, 2, 3])), Rig::new(Algorithm::ConsistentHashing, &targets(&[1, 2, 3])));
    for key in 0..1000u32 {
        let hash = key::hash(&key.to_le_bytes());
        assert_eq!(one.chosen(hash), two.chosen(hash));
    }
}

#[test]
fn test_an_added_target_takes_its_share_of_the_keys_and_nothing_else_moves() {
    for (weights, share) in [(vec![100; 11], 1.0 / 11.0), ([vec![50; 10], vec![100]].concat(), 1.0 / 6.0)] {
        let all = targets(&weights);
        let (ten, eleven) = (Rig::new(Algorithm::ConsistentHashing, &all[..10]), Rig::new(Algorithm::ConsistentHashing, &all));
        let keys = 100_000u32;
        let mut moved = 0u32;
        for key in 0..keys {
            let hash = key::hash(&key.to_le_bytes());
            let (before, after) = (ten.chosen(hash), eleven.chosen(hash));
            assert!(after == before || after == 11, "a key may move to the new one only");
            moved += u32::from(after != before);
        }
        let moved = f64::from(moved) / f64::from(keys);
        assert!(moved <= share * 1.1, "{moved} of the keys moved, {share} is ideal");
    }
}

#[test]
fn test_keys_of_a_lost_target_spread_over_all_others() {
    let rig = Rig::with_rules(Algorithm::ConsistentHashing, &targets(&[1; 10]), passive(0.0));
    let keys: Vec<u64> = (0..50_000u32).map(|key| key::hash(&key.to_le_bytes())).collect();
    let before: Vec<u32> = keys.iter().map(|&hash| rig.chosen(hash)).collect();
    fail(&rig, 3);
    let mut heirs = [0u32; 10];
    for (&hash, &was) in keys.iter().zip(&before) {
        let now = rig.chosen(hash);
        if was == 3 {
            heirs[now as usize - 1] += 1;
        } else {
            assert_eq!(now, was);
        }
    }
    let each = heirs.iter().sum::<u32>() / 9;
    for (at, heir) in heirs.into_iter().enumerate() {
        assert!(at == 2 || heir.abs_diff(each) < each / 5, "{heirs:?}");
    }
}

#[test]
fn test_without_a_key_all_go_to_one_target() {
    let rig = Rig::new(Algorithm::ConsistentHashing, &targets(&[1; 5]));
    let chosen: HashSet<u32> = (0..20).map(|_| rig.chosen(key::hash(b""))).collect();
    assert_eq!(chosen.len(), 1);
}

// === slow start ===

fn assert_young_share(rig: &Rig, least: f64, most: f64) {
    let requests = 4_000u64;
    let count = (0..requests).filter(|request| rig.chosen(key::hash(&request.to_le_bytes())) == 3).count();
    let share = count as f64 / requests as f64;
    assert!(share >= least && share <= most, "{share} is not between {least} and {most}");
}

#[test]
fn test_a_new_address_gets_its_share_little_by_little() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::ConsistentHashing, Algorithm::Latency] {
        let before = Rig::new(algorithm, &targets(&[1, 1]));
        let (balancer, _) = Balancer::new(algorithm, &targets(&[1, 1, 1]), Some(&before.balancer));
        let came = pylae_shared::monotonic();
        let slow_start = SlowStart { window: Duration::from_secs(100), least_percent: 10 };
        let mut rig = Rig { balancer, now: came, slow_start: Some(slow_start), ..Rig::new(algorithm, &[]) };
        assert_young_share(&rig, 0.03, 0.07);
        rig.now = came + Duration::from_secs(50);
        assert_young_share(&rig, 0.16, 0.24);
        rig.now = came + Duration::from_secs(101);
        assert_young_share(&rig, 0.28, 0.38);
        rig.now = came;
        rig.slow_start = None;
        assert_young_share(&rig, 0.28, 0.38);
    }
}

#[test]
fn test_an_address_that_turned_healthy_starts_slowly_and_none_does_when_a_worker_starts() {
    let mut rig = Rig::with_rules(Algorithm::RoundRobin, &targets(&[1, 1, 1]), passive(0.0));
    rig.slow_start = Some(SlowStart { window: Duration::from_secs(100), least_percent: 10 });
    rig.now = pylae_shared::monotonic();
    assert_young_share(&rig, 0.33, 0.34);
    fail(&rig, 3);
    assert_young_share(&rig, 0.0, 0.0);
    rig.watch.mark(&rig.place(3), true);
    rig.now = pylae_shared::monotonic();
    assert_young_share(&rig, 0.03, 0.07);
    rig.now += Duration::from_secs(101);
    assert_young_share(&rig, 0.33, 0.34);
}

#[test]
fn test_a_target_at_another_port_is_new() {
    let before = Rig::new(Algorithm::RoundRobin, &targets(&[1, 1, 1]));
    let mut moved = targets(&[1, 1, 1]);
    moved[2].target = "10.0.0.3:81".into();
    let (balancer, _) = Balancer::new(Algorithm::RoundRobin, &moved, Some(&before.balancer));
    let slow_start = SlowStart { window: Duration::from_secs(100), least_percent: 10 };
    let rig = Rig { balancer, now: pylae_shared::monotonic(), slow_start: Some(slow_start), ..Rig::new(Algorithm::RoundRobin, &[]) };
    assert_young_share(&rig, 0.03, 0.07);
}

#[test]
fn test_the_first_answer_for_a_name_is_not_new_and_what_comes_after_is() {
    let mut rig = Rig::named(Algorithm::RoundRobin, of_addresses(&[1, 2]), &[]);
    rig.slow_start = Some(SlowStart { window: Duration::from_secs(100), least_percent: 50 });
    assert_eq!(rig.counts(10).into_values().collect::<Vec<_>>(), [5, 5]);
    rig.names.tell("a.test", Ok(of_addresses(&[1, 2, 3])));
    let counts = rig.counts(1000);
    assert!((195..=205).contains(&counts[&SocketAddr::new(ip(3), 80)]), "{counts:?}");
}

// === outliers ===

const OUTLIER: Outlier = Outlier {
    success_rate_percent: 80,
    least_requests: 10,
    interval: Duration::from_secs(10),
    ejection_time: Duration::from_secs(30),
    most_ejected_percent: 50,
};

/// An interval of requests to a Target, of which some fail.
fn interval(rig: &mut Rig, number: u32, successes: u32, failures: u32, outlier: &Outlier) -> Option<Ejection> {
    let roster = rig.balancer.roster();
    let address = roster.addresses().find(|address| address.peer.target == id(number)).expect("a Target");
    let mut ejection = None;
    for request in 0..successes + failures {
        if request + 1 == successes + failures {
            rig.now += outlier.interval;
        }
        ejection = ejection.or(rig.balancer.count(address, request < successes, outlier, &rig.rules, &rig.watch, rig.now));
    }
    ejection
}

#[test]
fn test_an_outlier_is_left_out_for_longer_each_time_and_comes_back_by_itself() {
    let mut rig = Rig::new(Algorithm::RoundRobin, &targets(&[1, 1, 1, 1]));
    rig.now = pylae_shared::monotonic();
    assert_eq!(interval(&mut rig, 1, 8, 2, &OUTLIER), None, "80 % is enough");
    let ejection = interval(&mut rig, 1, 7, 3, &OUTLIER).expect("70 % is not");
    assert_eq!(ejection.why(), "ejected: success rate 70 % of 10 requests");
    assert!((0..8).all(|_| rig.chosen(0) != 1));
    rig.now += Duration::from_secs(29);
    assert!((0..8).all(|_| rig.chosen(0) != 1));
    rig.now += Duration::from_secs(2);
    assert!((0..8).any(|_| rig.chosen(0) == 1));
    let again = interval(&mut rig, 1, 0, 10, &OUTLIER).expect("it is no better");
    assert_eq!(again.times, 2);
    assert_eq!(Duration::from_millis(again.until_monotonic_ms).as_secs(), (rig.now + Duration::from_secs(60)).as_secs());
    assert_eq!(interval(&mut rig, 1, 0, 10, &OUTLIER), None, "who is out is not judged");
    for _ in 0..20 {
        rig.now += Duration::from_secs(1000);
        interval(&mut rig, 1, 0, 10, &OUTLIER);
    }
    let longest = rig.watch.ejection(&rig.place(1)).expect("known");
    assert_eq!(longest.times, policy::MOST_TIMES);
    rig.now += Duration::from_secs(1000);
    assert_eq!(interval(&mut rig, 1, 10, 0, &OUTLIER), None);
    assert_eq!(rig.watch.ejection(&rig.place(1)).expect("known").times, policy::MOST_TIMES - 1, "a good interval counts for it");
}

#[test]
fn test_few_requests_are_not_judged() {
    let mut rig = Rig::new(Algorithm::RoundRobin, &targets(&[1, 1, 1, 1]));
    for _ in 0..5 {
        assert_eq!(interval(&mut rig, 1, 0, 9, &OUTLIER), None);
    }
    assert!(interval(&mut rig, 1, 0, 10, &OUTLIER).is_some());
}

#[test]
fn test_no_more_than_that_share_is_left_out_and_one_stays() {
    let mut rig = Rig::new(Algorithm::RoundRobin, &targets(&[1, 1, 1, 1]));
    let out = |rig: &mut Rig, outlier: &Outlier| (1..=4).filter(|&number| interval(rig, number, 0, 10, outlier).is_some()).count();
    rig.now = pylae_shared::monotonic();
    let long = Outlier { ejection_time: Duration::from_secs(3000), ..OUTLIER };
    assert_eq!(out(&mut rig, &Outlier { most_ejected_percent: 20, ..long }), 0);
    assert_eq!(out(&mut rig, &long), 2);
    assert_eq!(out(&mut rig, &Outlier { most_ejected_percent: 100, ..long }), 1, "one of the two that are left");
    assert!(rig.choose(0, &[]).is_ok());
}

#[test]
fn test_an_ejection_is_seen_by_every_worker_and_makes_no_room_for_those_not_ejected() {
    use std::os::fd::AsRawFd;
    let descriptor = pylae_shared::create(2, 1, 64).expect("a segment");
    let join = |slot| Watch::new(Arc::new(pylae_shared::Segment::open(descriptor.as_raw_fd()).expect("the same")), slot, 1);
    let mut rigs = [0, 1].map(|slot| Rig { watch: join(slot), ..Rig::new(Algorithm::RoundRobin, &targets(&[1, 1, 1, 1])) });
    assert!((0..4).any(|_| rigs[1].chosen(0) == 1));
    assert!(interval(&mut rigs[0], 1, 0, 10, &OUTLIER).is_some());
    rigs[1].now = rigs[0].now;
    assert!((0..8).all(|_| rigs[1].chosen(0) != 1));
    let segment = pylae_shared::Segment::open(descriptor.as_raw_fd()).expect("the same");
    assert_eq!(segment.health_rows(None).len(), 1);
}

#[test]
fn test_the_unhealthy_count_as_out_when_an_outlier_is_to_be_left_out() {
    let mut rig = Rig::with_rules(Algorithm::RoundRobin, &targets(&[1, 1, 1, 1]), passive(0.0));
    fail(&rig, 2);
    fail(&rig, 3);
    assert_eq!(interval(&mut rig, 1, 0, 10, &OUTLIER), None, "three of four would be out");
    let most = Outlier { most_ejected_percent: 100, ..OUTLIER };
    assert!(interval(&mut rig, 1, 0, 10, &most).is_some());
    assert_eq!(interval(&mut rig, 4, 0, 10, &most), None, "one stays");
}

#[test]
fn test_outliers_are_taken_back_when_nobody_else_is_left() {
    let mut rig = Rig::with_rules(Algorithm::RoundRobin, &targets(&[1, 1, 1]), passive(0.0));
    assert!(interval(&mut rig, 1, 0, 10, &OUTLIER).is_some());
    fail(&rig, 2);
    assert!((0..6).all(|_| rig.chosen(0) == 3));
    fail(&rig, 3);
    assert!((0..6).all(|_| rig.chosen(0) == 1), "the outlier, and none that is unhealthy");
    fail(&rig, 1);
    assert!(rig.choose(0, &[]).is_err());
}

#[test]
fn test_an_outlier_counts_for_the_threshold() {
    let mut rig = Rig::with_rules(Algorithm::RoundRobin, &targets(&[1, 1, 1, 1]), passive(70.0));
    assert!(interval(&mut rig, 1, 0, 10, &OUTLIER).is_some());
    fail(&rig, 2);
    assert!((0..8).all(|_| rig.chosen(0) > 2), "75 % is healthy");
    fail(&rig, 3);
    assert!(rig.choose(0, &[]).is_err(), "50 % is not enough");
}

#[test]
fn test_old_counts_do_not_leave_out_who_recovered() {
    let mut rig = Rig::new(Algorithm::RoundRobin, &targets(&[1, 1, 1, 1]));
    assert!(interval(&mut rig, 1, 0, 10, &OUTLIER).is_some());
    let roster = rig.balancer.roster();
    let address = roster.addresses().next().expect("a Target");
    let count = |rig: &Rig, is_success| rig.balancer.count(address, is_success, &OUTLIER, &rig.rules, &rig.watch, rig.now);
    // Those that were on their way when it was left out.
    assert!((0..50).all(|_| count(&rig, false).is_none()));
    rig.now += Duration::from_secs(31);
    for _ in 0..12 {
        assert_eq!(count(&rig, true), None);
        rig.now += Duration::from_secs(1);
    }
    // And those of long ago.
    assert!((0..50).all(|_| count(&rig, false).is_none()));
    rig.now += OUTLIER.interval * 2;
    for _ in 0..12 {
        assert_eq!(count(&rig, true), None);
        rig.now += Duration::from_secs(1);
    }
}

// === reading Targets ===

#[test]
fn test_the_default_port_is_8000() {
    assert_eq!(split_target("a.example"), Some(("a.example", 8000)));
    assert_eq!(split_target("10.0.0.1"), Some(("10.0.0.1", 8000)));
}

#[test]
fn test_targets_are_read_in_every_form() {
    assert_eq!(split_target("a.example:81"), Some(("a.example", 81)));
    assert_eq!(split_target("10.0.0.1:0"), Some(("10.0.0.1", 0)));
    assert_eq!(split_target("[::1]:80"), Some(("::1", 80)));
    assert_eq!(split_target("[0000:0000:0000:0000:0000:0000:0000:0001]"), Some(("0000:0000:0000:0000:0000:0000:0000:0001", 8000)));
    assert_eq!(split_target("::1"), Some(("::1", 8000)));
    for text in ["", ":80", "[::1", "[::1]80", "[x]:80", "a:b", "a:", "a:70000", "a:+1"] {
        assert_eq!(split_target(text), None, "{text}");
    }
}

#[test]
fn test_an_address_is_told_from_a_name() {
    let all = [target(1, "[::1]:80", 1), target(2, "a.example:80", 1), target(3, "[x]:1", 1)];
    let (balancer, refused) = Balancer::new(Algorithm::RoundRobin, &all, None);
    let addresses: Vec<_> = balancer.peers().iter().map(|peer| peer.address.is_some()).collect();
    assert_eq!(addresses, [true, false]);
    assert_eq!(refused.len(), 1);
}
