// SPDX-License-Identifier: Apache-2.0
//! Does each algorithm share as it says, and does health decide who takes part?

use super::*;
use crate::healthcheck::{Observer, Outcome};
use crate::snapshot::model::{HealthChecks, Raw, Reference};
use serde_json::json;
use std::collections::HashSet;

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

struct Rig {
    balancer: Balancer,
    rules: Arc<Rules>,
    watch: Watch,
    now: Duration,
}

impl Rig {
    fn new(algorithm: Algorithm, targets: &[Target]) -> Self {
        Rig::with_rules(algorithm, targets, Rules::off())
    }

    fn with_rules(algorithm: Algorithm, targets: &[Target], rules: Rules) -> Self {
        let (balancer, refused) = Balancer::new(algorithm, targets, None);
        assert!(refused.is_empty());
        Rig { balancer, rules: Arc::new(rules), watch: Watch::alone().expect("memory"), now: Duration::from_secs(100) }
    }

    fn choose(&self, hash: u64, tried: &[Id]) -> Result<Turn, NoTarget> {
        self.balancer.choose(&Ask { hash, tried, barred: &[], now: self.now }, &self.rules, &self.watch)
    }

    fn chosen(&self, hash: u64) -> u32 {
        number(&self.choose(hash, &[]).expect("a Target"))
    }

    fn place(&self, number: u32) -> Arc<Place> {
        let peer = self.balancer.peers().iter().find(|peer| peer.target == id(number)).expect("a Target");
        Arc::clone(&peer.places()[0])
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

fn number(turn: &Turn) -> u32 {
    u32::from_be_bytes(*turn.peer.target.0.last_chunk().expect("16 bytes"))
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
                assert!(!tried.contains(&turn.peer.target), "{algorithm:?}");
                tried.push(turn.peer.target);
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
    let rig = Rig::with_rules(Algorithm::RoundRobin, &[target(1, "a.example:80", 1), target(2, "10.0.0.9:80", 1)], passive(50.0));
    let addresses: Vec<IpAddr> = (1..=2).map(|last| IpAddr::from([10, 0, 0, last])).collect();
    let peer = Arc::clone(&rig.balancer.peers()[0]);
    rig.balancer.learn(&peer, &addresses);
    let ask = Ask { hash: 0, tried: &[], barred: &[], now: rig.now };
    let found: HashSet<_> = (0..4)
        .filter_map(|hash| {
            rig.chosen(hash);
            rig.balancer.place(&peer, &addresses, &ask, &rig.rules, &rig.watch).map(|place| place.address().ip())
        })
        .collect();
    assert_eq!(found.len(), 2, "both in turn");
    fail(&rig, 1);
    let place = rig.balancer.place(&peer, &addresses, &ask, &rig.rules, &rig.watch).expect("the other");
    assert_eq!(place.address().ip(), addresses[1]);
    assert!((0..4).any(|hash| rig.chosen(hash) == 1), "66 % of the weight is healthy");
    rig.watch.mark(&peer.places()[1], false);
    assert!(rig.choose(0, &[]).is_err(), "33 % is not");
    rig.balancer.learn(&peer, &[addresses[0], addresses[1], IpAddr::from([10, 0, 0, 3])]);
    assert!(rig.choose(0, &[]).is_err(), "50 % is at the threshold");
}

#[test]
fn test_what_is_known_of_a_target_outlives_a_change_of_others() {
    for algorithm in ALL {
        let rig = Rig::new(algorithm, &targets(&[1, 1]));
        let held = rig.choose(0, &[]).expect("a Target");
        let (after, _) = Balancer::new(algorithm, &targets(&[1, 1, 1]), Some(&rig.balancer));
        let same = after.peers().iter().find(|peer| peer.target == held.peer.target).expect("it stayed");
        assert_eq!(same.load.in_flight(), 1);
        drop(held);
        assert_eq!(same.load.in_flight(), 0);
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
    for (peer, expected) in rig.balancer.peers().iter().zip([10i64, 20, 30]) {
        assert!((i64::from(peer.load.in_flight()) - expected).abs() <= 1, "{} of {expected}", peer.load.in_flight());
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
        turn.peer.load.observe(took, rig.now);
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

// === reading Targets ===

#[test]
fn test_targets_are_read_in_every_form() {
    assert_eq!(split_target("a.example"), Some(("a.example", 8000)));
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
