// SPDX-License-Identifier: Apache-2.0
//! What does the router cost? Nanoseconds a match with 1, 10,000 and 100,000 Routes, and milliseconds to take in a configuration and a
//! change.
//!
//! `cargo bench -p pylae-core --bench router`. Others use the machine too: matches are timed in many short turns, of which the least
//! counts; what takes long is told in processor time, which Linux counts in steps of up to 4 ms.
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use pylae_core::http::headers::Headers;
use pylae_core::router::{Flavour, Ranking, RequestView, Router, RouterOptions, path};
use pylae_core::snapshot::{PluginInfo, PluginRegistry, Store};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const COUNTS: [usize; 3] = [1, 10_000, 100_000];
const TURNS: usize = 300;
const ROUNDS: usize = 1_280;

/// Shapes of Routes; those that begin with `expressions` are of that flavour.
const SHAPES: [&str; 10] = [
    "prefix",
    "host",
    "host and prefix",
    "regex",
    "regex, same start",
    "header",
    "expressions: prefix",
    "expressions: host and prefix",
    "expressions: segment",
    "expressions: header",
];

/// Processor time of this thread since some moment.
struct Started(u64);

impl Started {
    fn now() -> Self {
        Started(processor_ns())
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(processor_ns() - self.0)
    }
}

fn processor_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|field| field.parse().ok()).expect("nanoseconds come first")
}

fn id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn service() -> serde_json::Value {
    serde_json::json!({
        "id": id(1), "created_at": 1, "updated_at": 1, "name": "s", "retries": 5, "protocol": "http", "host": "127.0.0.1", "port": 80,
        "path": null, "connect_timeout": 60000, "write_timeout": 60000, "read_timeout": 60000, "tags": null, "client_certificate": null,
        "tls_verify": null, "tls_verify_depth": null, "ca_certificates": null, "enabled": true
    })
}

fn plugin() -> serde_json::Value {
    serde_json::json!({
        "id": id(2), "name": "key-auth", "instance_name": null, "created_at": 1, "updated_at": 1, "route": null, "service": null,
        "consumer": null, "config": {"key_names": ["apikey"]}, "protocols": ["http", "https"], "enabled": true, "tags": null
    })
}

fn route(number: usize, shape: &str) -> serde_json::Value {
    let mut row = serde_json::json!({
        "id": id(100 + number), "created_at": 1, "updated_at": 1, "name": format!("r{number}"), "protocols": ["http", "https"],
        "https_redirect_status_code": 426, "strip_path": true, "preserve_host": false, "request_buffering": true,
        "response_buffering": true, "tags": null, "service": {"id": id(1)}, "snis": null, "sources": null, "destinations": null,
        "methods": null, "hosts": null, "paths": null, "headers": null, "regex_priority": 0, "path_handling": "v0"
    });
    match shape {
        "prefix" => row["paths"] = vec![format!("/service-{number}/v1")].into(),
        "host" => row["hosts"] = vec![format!("tenant-{number}.example")].into(),
        "host and prefix" => {
            row["hosts"] = vec![format!("tenant-{}.example", number % 100)].into();
            row["paths"] = vec![format!("/service-{number}/v1")].into();
        }
        "regex" => row["paths"] = vec![format!("~/service-{number}/v(?<version>[0-9]+)")].into(),
        "regex, same start" => row["paths"] = vec![format!("~/api/[^/]+/service-{number}$")].into(),
        "header" => {
            row["paths"] = vec!["/service"].into();
            row["headers"] = serde_json::json!({"x-tenant": [format!("t{number}")]});
        }
        expressions => {
            row["priority"] = 0.into();
            row["expression"] = match expressions {
                "expressions: prefix" => format!("http.path ^= \"/service-{number}/v1\""),
                "expressions: host and prefix" => {
                    format!("http.host == \"tenant-{}.example\" && http.path ^= \"/service-{number}/v1\"", number % 100)
                }
                "expressions: segment" => format!("http.path.segments.0 == \"service-{number}\" && http.method == \"GET\""),
                "expressions: header" => format!("http.path ^= \"/service\" && http.headers.x_tenant == \"t{number}\""),
                other => panic!("no shape {other}"),
            }
            .into();
        }
    }
    row
}

fn body(count: usize, shape: &str) -> Vec<u8> {
    let routes: Vec<_> = (0..count).map(|number| route(number, shape)).collect();
    let entities = serde_json::json!({"services": [service()], "routes": routes, "plugins": [plugin()], "upstreams": [], "targets": []});
    rmp_serde::to_vec(&serde_json::json!({"version": ["db", 1], "entities": entities})).expect("JSON becomes MessagePack")
}

fn options(shape: &str) -> RouterOptions {
    let flavour = if shape.starts_with("expressions") { Flavour::Expressions } else { Flavour::TraditionalCompatible };
    RouterOptions { flavour, ranking: Ranking::Kong }
}

fn store(shape: &str) -> Store {
    let info = PluginInfo { name: "key-auth".into(), priority: 1250, phases: 4, reads_body_limit_bytes: 0 };
    Store::with_options(Arc::new(PluginRegistry::new(vec![info])), options(shape))
}

/// Host, path and headers.
type Request = (String, String, Headers);

/// Requests that reach Routes all over the set.
fn requests(count: usize, shape: &str) -> Vec<Request> {
    let request = |at: usize| {
        let number = at * 7919 % count;
        let host = match shape {
            "host" => format!("tenant-{number}.example"),
            _ if shape.ends_with("host and prefix") => format!("tenant-{}.example", number % 100),
            _ => "localhost".into(),
        };
        let path = match shape {
            "regex, same start" => format!("/api/things/service-{number}"),
            _ if shape.ends_with("header") => "/service/orders".into(),
            _ => format!("/service-{number}/v1/orders/4711"),
        };
        let mut headers = Headers::new();
        headers.add("Host", &host);
        headers.add("User-Agent", "curl/8.0");
        headers.add("X-Tenant", format!("t{number}"));
        (host, path, headers)
    };
    (0..64).map(request).collect()
}

/// Nanoseconds a match.
fn match_cost(router: &Router, requests: &[Request]) -> f64 {
    let started = Instant::now();
    for round in 0..ROUNDS {
        let (host, target, headers) = &requests[round % requests.len()];
        let normal = path::normalise(target.as_bytes()).expect("a path");
        let view = RequestView {
            is_https: false,
            method: b"GET",
            host: host.as_bytes(),
            host_port: None,
            listen_port: 8000,
            path: &normal,
            headers,
            sni: None,
            query: None,
            source: std::net::SocketAddr::from(([192, 0, 2, 7], 4711)),
            local_address: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let found = router.match_request(black_box(&view));
        assert!(black_box(found).is_some(), "{host} {target}");
    }
    started.elapsed().as_nanos() as f64 / ROUNDS as f64
}

fn print_matches(shape: &str) {
    let sides: Vec<_> = COUNTS
        .iter()
        .map(|count| {
            let mut store = store(shape);
            store.apply_snapshot(&body(*count, shape)).expect("a snapshot");
            (store.compile().snapshot, requests(*count, shape))
        })
        .collect();
    let mut least = [f64::INFINITY; COUNTS.len()];
    for _ in 0..TURNS {
        for ((snapshot, requests), least) in sides.iter().zip(&mut least) {
            *least = least.min(match_cost(&snapshot.router, requests));
        }
    }
    let [one, many, most] = least;
    println!(
        "match, {shape}: {one:.0} ns with 1 Route, {many:.0} ns ({:.2}) with {}, {most:.0} ns ({:.2}) with {}",
        many / one,
        COUNTS[1],
        most / one,
        COUNTS[2]
    );
}

fn print_changes(shape: &str, count: usize) {
    let message = body(count, shape);
    let mut store = store(shape);
    let started = Started::now();
    store.apply_snapshot(&message).expect("a snapshot");
    let applied = started.elapsed();
    let started = Started::now();
    let mut snapshot = store.compile().snapshot;
    let first = started.elapsed();
    let started = Started::now();
    let conflicts = snapshot.router.ranking_conflicts(20).len();
    let compared = started.elapsed();
    let mut changes = Vec::new();
    for sequence in 1..20 {
        let row = route(sequence, shape);
        let change = serde_json::json!(["routes", "upsert", row["id"], row]);
        let delta = serde_json::json!(
            {"from": sequence, "to": sequence + 1, "database_id": "db", "changes": [change], "invalidations": []}
        );
        let delta = rmp_serde::to_vec(&delta).expect("JSON becomes MessagePack");
        let started = Started::now();
        store.apply_delta(&delta).expect("a delta");
        let next = store.compile().snapshot;
        let compiled = started.elapsed();
        drop(std::mem::replace(&mut snapshot, next));
        changes.push((compiled, started.elapsed()));
    }
    changes.sort();
    let (compiled, dropped) = changes[changes.len() / 2];
    println!(
        "{count} Routes, {shape}: snapshot of {} KiB read in {applied:.1?}, compiled in {first:.1?}, {conflicts} conflicts found in \
         {compared:.1?}; one change in {compiled:.1?} (median; {dropped:.1?} with the old snapshot dropped)",
        message.len() / 1024
    );
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_wanted = |shape: &&&str| wanted.as_ref().is_none_or(|wanted| shape.contains(wanted.as_str()));
    for shape in SHAPES.iter().filter(is_wanted) {
        print_matches(shape);
    }
    for shape in ["prefix", "regex", "expressions: prefix"].iter().filter(is_wanted) {
        for count in [10_000, 50_000] {
            print_changes(shape, count);
        }
    }
}
