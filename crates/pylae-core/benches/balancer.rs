// SPDX-License-Identifier: Apache-2.0
//! What does it cost to choose a Target? Nanoseconds a choice with 1 and 10,000 Upstreams of ten Targets, and memory.
//!
//! `cargo bench -p pylae-core --bench balancer`
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use pylae_core::balancer::{Ask, Found, Names, key};
use pylae_core::healthcheck::Watch;
use pylae_core::snapshot::{PluginRegistry, Store};
use pylae_shared::Segment;
use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MANY: usize = 10_000;
const TARGETS: usize = 10;
const BATCHES: usize = 100;
/// In a batch: few, so that some batches run undisturbed.
const CHOICES: usize = 3_000;

/// All Targets are addresses.
struct Nobody;

impl Names for Nobody {
    fn generation(&self) -> u64 {
        0
    }

    fn known(&self, _host: &str) -> Option<Found> {
        None
    }
}

fn id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn upstream(number: usize, algorithm: &str) -> serde_json::Value {
    let statuses = [500, 503];
    serde_json::json!({
        "id": id(number), "created_at": 1, "name": format!("up-{number}"), "updated_at": 1, "algorithm": algorithm, "hash_on": "header",
        "hash_fallback": "none", "hash_on_header": "x-key", "hash_fallback_header": null, "hash_on_cookie": null,
        "hash_on_cookie_path": "/", "hash_on_query_arg": null, "hash_fallback_query_arg": null, "hash_on_uri_capture": null,
        "hash_fallback_uri_capture": null, "slots": 10000, "tags": null, "host_header": null, "client_certificate": null,
        "use_srv_name": false,
        "healthchecks": {
            "active": {
                "unhealthy": {"tcp_failures": 0, "timeouts": 0, "http_failures": 0, "interval": 0, "http_statuses": statuses},
                "timeout": 1, "type": "http", "concurrency": 10, "http_path": "/", "https_sni": null, "https_verify_certificate": true,
                "healthy": {"http_statuses": [200], "interval": 5, "successes": 1}, "headers": null
            },
            "passive": {
                "unhealthy": {"tcp_failures": 2, "timeouts": 2, "http_failures": 2, "http_statuses": statuses}, "type": "http",
                "healthy": {"http_statuses": [200], "successes": 0}
            },
            "threshold": 0
        }
    })
}

fn target(number: usize, upstream: usize) -> serde_json::Value {
    serde_json::json!({
        "id": id(1_000_000 + number), "created_at": 1.5, "updated_at": 1.5, "upstream": {"id": id(upstream)},
        "target": format!("10.{}.{}.{}:80", number >> 16, number >> 8 & 255, number & 255), "weight": 50 + number % TARGETS * 10,
        "tags": null
    })
}

fn rss_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("it is there");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") / 1024
}

fn measure(algorithm: &str, count: usize) {
    let upstreams: Vec<_> = (0..count).map(|number| upstream(number, algorithm)).collect();
    let targets: Vec<_> = (0..count * TARGETS).map(|number| target(number, number / TARGETS)).collect();
    let entities = serde_json::json!({"services": [], "routes": [], "plugins": [], "upstreams": upstreams, "targets": targets});
    let body = rmp_serde::to_vec(&serde_json::json!({"version": ["db", 1], "entities": entities})).expect("JSON becomes MessagePack");
    drop((upstreams, targets, entities));
    let before = rss_mib();
    let mut store = Store::new(Arc::new(PluginRegistry::new(Vec::new())));
    store.apply_snapshot(&body).expect("it is whole");
    let snapshot = store.compile().snapshot;
    let descriptor = pylae_shared::create(1, 1, pylae_shared::health::HEALTH_SLOTS).expect("a segment");
    let watch = Watch::new(Arc::new(Segment::open(descriptor.as_raw_fd()).expect("the same")), 0, 1);
    let all: Vec<_> = (0..count).map(|number| snapshot.upstream(&format!("up-{number}")).expect("it is there")).collect();
    let choose = |turn: usize| {
        // Another Upstream each time, far from the last.
        let upstream = all[turn.wrapping_mul(0x9e37_79b9) % count];
        let ask = Ask {
            hash: key::hash(&turn.to_le_bytes()),
            tried: &[],
            waited_for: 0,
            barred: &[],
            slow_start: None,
            now: Duration::from_secs(1),
        };
        upstream.balancer.choose(&ask, &upstream.rules, &watch, &Nobody).expect("an address")
    };
    (0..count * 3).for_each(|turn| drop(black_box(choose(turn))));
    let mut batches: Vec<u128> = (0..BATCHES)
        .map(|batch| {
            let begun = Instant::now();
            (0..CHOICES).for_each(|turn| drop(black_box(choose(batch * CHOICES + turn))));
            begun.elapsed().as_nanos() / CHOICES as u128
        })
        .collect();
    batches.sort_unstable();
    let (best, median) = (batches[0], batches[BATCHES / 2]);
    println!(
        "{algorithm:20} {count:6} Upstreams: {median:5} ns a choice (best batch {best:5}), {:4} MiB",
        rss_mib().saturating_sub(before)
    );
}

fn main() {
    for algorithm in ["round-robin", "least-connections", "latency", "consistent-hashing"] {
        for count in [1, MANY] {
            measure(algorithm, count);
        }
    }
}
