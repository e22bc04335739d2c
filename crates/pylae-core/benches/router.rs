// SPDX-License-Identifier: Apache-2.0
//! What does the router cost? Nanoseconds a match with 1 and 10,000 Routes, and milliseconds to take in a change.
//!
//! `cargo bench -p pylae-core --bench router`
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use pylae_core::http::headers::Headers;
use pylae_core::router::{RequestView, Router, path};
use pylae_core::snapshot::{PluginInfo, PluginRegistry, Store};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const MANY: usize = 10_000;
const ROUNDS: usize = 300_000;

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
        "expression" => row["paths"] = vec![format!("~/service-{number}/v(?<version>[0-9]+)")].into(),
        "expression, same start" => row["paths"] = vec![format!("~/api/[^/]+/service-{number}$")].into(),
        "header" => {
            row["paths"] = vec!["/service"].into();
            row["headers"] = serde_json::json!({"x-tenant": [format!("t{number}")]});
        }
        other => panic!("no shape {other}"),
    }
    row
}

fn body(count: usize, shape: &str) -> Vec<u8> {
    let routes: Vec<_> = (0..count).map(|number| route(number, shape)).collect();
    let entities = serde_json::json!({"services": [service()], "routes": routes, "plugins": [plugin()], "upstreams": [], "targets": []});
    rmp_serde::to_vec(&serde_json::json!({"version": ["db", 1], "entities": entities})).expect("JSON becomes MessagePack")
}

fn store() -> Store {
    let info = PluginInfo { name: "key-auth".into(), priority: 1250, phases: 4, reads_body_limit_bytes: 0 };
    Store::new(Arc::new(PluginRegistry::new(vec![info])))
}

/// Nanoseconds a match, over requests that reach Routes all over the set.
fn match_cost(router: &Router, count: usize, shape: &str) -> f64 {
    let requests: Vec<(String, String, Headers)> = (0..64)
        .map(|at| {
            let number = at * 7919 % count;
            let host = match shape {
                "host" => format!("tenant-{number}.example"),
                "host and prefix" => format!("tenant-{}.example", number % 100),
                _ => "localhost".into(),
            };
            let path = match shape {
                "expression, same start" => format!("/api/things/service-{number}"),
                "header" => "/service/orders".into(),
                _ => format!("/service-{number}/v1/orders/4711"),
            };
            let mut headers = Headers::new();
            headers.add("Host", &host);
            headers.add("User-Agent", "curl/8.0");
            headers.add("X-Tenant", format!("t{number}"));
            (host, path, headers)
        })
        .collect();
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
        };
        let found = router.match_request(black_box(&view));
        assert!(black_box(found).is_some(), "{shape}: {host} {target}");
    }
    started.elapsed().as_nanos() as f64 / ROUNDS as f64
}

fn main() {
    for shape in ["prefix", "host", "host and prefix", "expression", "expression, same start", "header"] {
        let mut costs = Vec::new();
        for count in [1, MANY] {
            let mut store = store();
            store.apply_snapshot(&body(count, shape)).expect("a snapshot");
            costs.push(match_cost(&store.compile().snapshot.router, count, shape));
        }
        println!("match, {shape}: {:.0} ns with 1 Route, {:.0} ns with {MANY}", costs[0], costs[1]);
    }
    for shape in ["prefix", "expression"] {
        let message = body(MANY, shape);
        let mut store = store();
        let started = Instant::now();
        store.apply_snapshot(&message).expect("a snapshot");
        let applied = started.elapsed();
        let started = Instant::now();
        let mut snapshot = store.compile().snapshot;
        let first = started.elapsed();
        let mut changes = Vec::new();
        for sequence in 1..20 {
            let row = route(sequence, shape);
            let change = serde_json::json!(["routes", "upsert", row["id"], row]);
            let delta = serde_json::json!(
                {"from": sequence, "to": sequence + 1, "database_id": "db", "changes": [change], "invalidations": []}
            );
            let delta = rmp_serde::to_vec(&delta).expect("JSON becomes MessagePack");
            let started = Instant::now();
            store.apply_delta(&delta).expect("a delta");
            let next = store.compile().snapshot;
            let compiled = started.elapsed();
            drop(std::mem::replace(&mut snapshot, next));
            changes.push((compiled, started.elapsed()));
        }
        changes.sort();
        let (compiled, dropped) = changes[changes.len() / 2];
        println!(
            "{MANY} Routes, {shape}: snapshot of {} KiB read in {applied:.1?}, compiled in {first:.1?}; one change in {compiled:.1?} \
             (median; {dropped:.1?} with the old snapshot dropped)",
            message.len() / 1024
        );
    }
}
