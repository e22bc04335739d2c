// SPDX-License-Identifier: Apache-2.0
//! What does the router cost? Nanoseconds a match with 1, 10,000 and 100,000 Routes, and milliseconds to take in a configuration and a
//! change.
//!
//! `cargo bench -p pylae-core --bench router`. Others use the machine too: matches are timed in many short turns, of which the least
//! counts; what takes long is told in processor time, which Linux counts in steps of up to 4 ms. Two figures for each number of Routes:
//! `hot`, the same 64 Routes, scattered over the set, again and again; `cold`, other 64 Routes each turn, whose memory nobody touched
//! lately (median turn).
//!
//! `… --bench router -- once "host" 10000` makes each match once, for `valgrind --tool=callgrind --toggle-collect='*match_request*'`,
//! whose instructions do not depend on who else uses the machine.
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use pylae_core::http::headers::Headers;
use pylae_core::router::{Flavour, Ranking, RequestView, Router, RouterOptions, path};
use pylae_core::snapshot::{PluginInfo, PluginRegistry, Store};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const COUNTS: [usize; 3] = [1, 10_000, 100_000];
const TURNS: usize = 300;
/// Requests of a turn.
const BATCH: usize = 64;
/// How often a hot turn makes each of them.
const ROUNDS: usize = 20;

/// Shapes of Routes; those that begin with `expressions` are of that flavour.
const SHAPES: [&str; 18] = [
    "prefix",
    "prefix, many lengths",
    "prefix, open end",
    "host",
    "host, wildcard",
    "host and prefix",
    "regex",
    "regex, same start",
    "header",
    "second header",
    "method and header of two",
    "expressions: prefix",
    "expressions: prefix, many lengths",
    "expressions: host and prefix",
    "expressions: segment",
    "expressions: header",
    "expressions: argument",
    "expressions: host",
];

/// A path whose length differs much from number to number.
fn long_path(number: usize) -> String {
    format!("/team-{}/{}item-{number}", number % 23, "part/".repeat(number * 31 % 11))
}

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
        "prefix, many lengths" => row["paths"] = vec![long_path(number)].into(),
        "prefix, open end" => row["paths"] = vec![format!("/service-{number}")].into(),
        "host, wildcard" => row["hosts"] = vec![format!("*.tenant-{number}.example")].into(),
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
        "second header" => {
            row["paths"] = vec!["/service"].into();
            row["headers"] = serde_json::json!({"x-all": ["same"], "x-tenant": [format!("t{number}")]});
        }
        "method and header of two" => {
            row["methods"] = vec!["GET"].into();
            row["headers"] = serde_json::json!({"x-group": [format!("g{}", number % 100)], "x-tenant": [format!("t{}", number / 100)]});
        }
        expressions => {
            row["priority"] = 0.into();
            row["expression"] = match expressions {
                "expressions: prefix" => format!("http.path ^= \"/service-{number}/v1\""),
                "expressions: prefix, many lengths" => format!("http.path ^= \"{}\"", long_path(number)),
                "expressions: host" => format!("http.host == \"tenant-{number}.example\" && http.method == \"GET\""),
                "expressions: argument" => format!("http.path ^= \"/service\" && http.queries.tenant == \"t{number}\""),
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
    let info =
        PluginInfo { name: "key-auth".into(), priority: 1250, phases: 4, reads_body_limit_bytes: 0, wants_client_certificate: false };
    Store::with_options(Arc::new(PluginRegistry::new(vec![info])), options(shape))
}

/// A request that reaches the Route of this number.
struct Request {
    host: String,
    path: String,
    query: String,
    headers: Headers,
}

impl Request {
    fn new(number: usize, shape: &str) -> Self {
        let host = match shape {
            "host" | "expressions: host" => format!("tenant-{number}.example"),
            "host, wildcard" => format!("www.tenant-{number}.example"),
            _ if shape.ends_with("host and prefix") => format!("tenant-{}.example", number % 100),
            _ => "localhost".into(),
        };
        let path = match shape {
            "regex, same start" => format!("/api/things/service-{number}"),
            _ if shape.ends_with("many lengths") => format!("{}/orders/4711", long_path(number)),
            _ if shape.ends_with("header") || shape.ends_with("argument") => "/service/orders".into(),
            _ => format!("/service-{number}/v1/orders/4711"),
        };
        let mut headers = Headers::new();
        headers.add("Host", &host);
        headers.add("User-Agent", "curl/8.0");
        headers.add("X-All", "same");
        headers.add("X-Group", format!("g{}", number % 100));
        headers.add("X-Tenant", format!("t{}", if shape.ends_with("of two") { number / 100 } else { number }));
        Request { host, path, query: format!("tenant=t{number}"), headers }
    }

    fn view(&self) -> RequestView<'_> {
        RequestView {
            is_https: false,
            method: b"GET",
            host: self.host.as_bytes(),
            host_port: None,
            listen_port: 8000,
            path: self.path.as_bytes(),
            headers: &self.headers,
            sni: None,
            query: Some(self.query.as_bytes()),
            source: std::net::SocketAddr::from(([192, 0, 2, 7], 4711)),
            local_address: std::net::Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// Requests that reach Routes all over the set, other ones for each turn.
fn requests(count: usize, shape: &str, turn: usize) -> Vec<Request> {
    (0..BATCH).map(|at| Request::new((turn * BATCH + at + 1) * 7919 % count, shape)).collect()
}

/// Nanoseconds a match.
fn match_cost(router: &Router, requests: &[Request], rounds: usize) -> f64 {
    let views: Vec<RequestView<'_>> = requests.iter().map(Request::view).collect();
    let started = Instant::now();
    for _ in 0..rounds {
        for view in &views {
            let found = router.match_request(black_box(view));
            assert!(black_box(found).is_some(), "{}", String::from_utf8_lossy(view.path));
        }
    }
    started.elapsed().as_nanos() as f64 / (rounds * views.len()) as f64
}

fn snapshot_of(shape: &str, count: usize) -> Arc<pylae_core::snapshot::Snapshot> {
    let mut store = store(shape);
    store.apply_snapshot(&body(count, shape)).expect("a snapshot");
    store.compile().snapshot
}

fn print_matches(shape: &str) {
    let sides: Vec<_> = COUNTS.iter().map(|count| (snapshot_of(shape, *count), requests(*count, shape, 0), *count)).collect();
    let mut hot = [f64::INFINITY; COUNTS.len()];
    let mut cold = [const { Vec::new() }; COUNTS.len()];
    for turn in 0..TURNS {
        for (side, (snapshot, requests, count)) in sides.iter().enumerate() {
            hot[side] = hot[side].min(match_cost(&snapshot.router, requests, ROUNDS));
            let others = self::requests(*count, shape, turn + 1);
            cold[side].push(match_cost(&snapshot.router, &others, 1));
        }
    }
    let cold = cold.map(|mut turns| {
        turns.sort_by(f64::total_cmp);
        turns[turns.len() / 2]
    });
    let text = |figures: [f64; COUNTS.len()]| {
        let [one, many, most] = figures;
        format!("{one:.0}, {many:.0} ({:.2}), {most:.0} ({:.2}) ns", many / one, most / one)
    };
    println!("match, {shape}: 1, {}, {} Routes: hot {}; cold {}", COUNTS[1], COUNTS[2], text(hot), text(cold));
}

/// What paths cost before they are matched.
fn print_normalise() {
    let mut least = f64::INFINITY;
    for _ in 0..TURNS {
        let started = Instant::now();
        for _ in 0..BATCH * ROUNDS {
            black_box(path::normalise(black_box(b"/service-4711/v1/orders/4711"))).expect("a path");
        }
        least = least.min(started.elapsed().as_nanos() as f64 / (BATCH * ROUNDS) as f64);
    }
    println!("normalise: {least:.0} ns a path");
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
        // Another path: the Route's, as if it were new.
        let mut row = route(count + sequence, shape);
        row["id"] = id(100 + sequence).into();
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
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let [once, shape, count] = arguments.as_slice()
        && once == "once"
    {
        let count = count.parse().expect("a number of Routes");
        let snapshot = snapshot_of(shape, count);
        // The first match of a regular expression compiles it.
        for _ in 0..2 {
            match_cost(&snapshot.router, &requests(count, shape, 0), 1);
        }
        return;
    }
    let is_wanted = |shape: &&&str| arguments.first().is_none_or(|wanted| shape.contains(wanted.as_str()));
    if arguments.is_empty() {
        print_normalise();
    }
    for shape in SHAPES.iter().filter(is_wanted) {
        print_matches(shape);
    }
    for shape in ["prefix", "regex", "expressions: prefix"].iter().filter(is_wanted) {
        for count in [10_000, 50_000] {
            print_changes(shape, count);
        }
    }
}
