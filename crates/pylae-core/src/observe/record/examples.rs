// SPDX-License-Identifier: Apache-2.0
//! What do tests of records need? A gateway without plugins, and an exchange of which nothing is known but its request.

use crate::exchange::{
    Attempt, Balancing, BodyStore, ConnectionFacts, Exchange, ExchangeRef, Forwarded, Moments, PluginStep, Request, RequestId, Response,
    Source, Station, StepOutcome, UpstreamRequest, Version,
};
use crate::gateway::Gateway;
use crate::healthcheck::Watch;
use crate::http::headers::Headers;
use crate::phases::{HostCall, Phase, PluginFailure, PluginHost, Verdict};
use crate::snapshot::{Id, PluginIndex, PluginInstance, Store};
use arc_swap::ArcSwap;
use serde_json::{Value, json};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Runs no plugin.
struct NoPlugins;

impl PluginHost for NoPlugins {
    fn run(&self, _: Phase, _: &Arc<PluginInstance>, _: &ExchangeRef) -> HostCall {
        HostCall::Ready(Verdict::Continue)
    }

    fn filter_body(&self, _: &Arc<PluginInstance>, _: &ExchangeRef, _: &[u8], _: bool) -> Result<Option<Vec<u8>>, Box<PluginFailure>> {
        Ok(None)
    }

    fn reads_body_bytes(&self, _: &Arc<PluginInstance>) -> u64 {
        0
    }

    fn attached(&self, f: &mut dyn FnMut()) {
        f();
    }

    fn release(&self, _: &ExchangeRef) {}
}

/// Settings of a data plane that writes no logs; `explain` as given.
pub fn settings(explain: &Value) -> crate::config::DataPlaneSettings {
    let settings = json!({
        "version": "1", "prefix": "/nonexistent", "log_level": "notice", "access_log": null, "error_log": "/dev/null",
        "failures_log": null, "utc_offset_s": 0, "headers": ["x-kong-request-id"], "request_id_upstream": true, "trusted_ips": [],
        "real_ip_header": "x-real-ip", "real_ip_recursive": false, "port_maps": [], "client_max_body_size_bytes": 0,
        "client_body_buffer_size_bytes": 8192, "large_client_header_buffers": [4, 8192], "client_header_timeout_ms": 60000,
        "client_body_timeout_ms": 60000, "send_timeout_ms": 60000, "client_keepalive_timeout_ms": 75000,
        "client_keepalive_requests": 1000, "worker_connections": 1024, "upstream_keepalive_pool_size": 512,
        "upstream_keepalive_max_requests": 10000, "upstream_keepalive_idle_timeout_ms": 60000, "error_default_type": "text/plain",
        "ssl_certificates": [], "trusted_certificates": [], "verify_upstream": false,
        "dns": {
            "servers": ["127.0.0.1:1"], "hosts_file": "/dev/null", "resolv_conf": "/dev/null", "order": ["A"],
            "srv_of_services_only": false, "valid_ttl_ms": null, "stale_ttl_ms": 0, "not_found_ttl_ms": 0, "error_ttl_ms": 0,
            "cache_size": 10, "no_sync": false,
        },
        "allow_debug_header": false, "drain_timeout_ms": 1000, "router_flavor": "traditional_compatible", "router_ranking": "kong",
        "explain": explain,
    });
    serde_json::from_value(settings).expect("every setting of the data plane")
}

/// A gateway that serves an empty configuration and takes every sample.
pub fn gateway() -> Rc<Gateway> {
    let snapshot = Store::new(Arc::default()).compile().snapshot;
    let settings = settings(&json!({"sample_ratio": 1.0, "headers": "off", "probe_key": ""}));
    Gateway::new(settings, Arc::new(ArcSwap::new(snapshot)), Watch::alone().expect("memory"), Box::new(NoPlugins), 1)
}

/// `GET /` without a header.
pub fn request() -> Request {
    Request {
        line: b"GET / HTTP/1.1".to_vec(),
        method: "GET".to_owned(),
        raw_path: b"/".to_vec(),
        path: b"/".to_vec(),
        query: None,
        version: Version::Http11,
        headers: Headers::new(),
        host: "gateway.test".to_owned(),
        host_port: None,
        authority: b"gateway.test".to_vec(),
        received_bytes: 40,
        head_bytes: 40,
        body_bytes: 0,
        oversized: None,
        body: BodyStore::Empty,
    }
}

/// An exchange that has just begun.
pub fn exchange(gateway: &Gateway) -> Exchange {
    let connection = ConnectionFacts {
        serial: 7,
        peer: "127.0.0.9:4711".parse().expect("an address"),
        local: "127.0.0.1:8000".parse().expect("an address"),
        listen_port: 8000,
        tls: None,
        requests: Cell::new(1),
        authorities: std::cell::RefCell::default(),
    };
    Exchange {
        id: RequestId::from_bits(0xabc),
        connection: Rc::new(connection),
        started: Instant::now(),
        started_at_ms: 1_800_000_000_123,
        snapshot: gateway.snapshot.load_full(),
        request: request(),
        nominated: Vec::new(),
        client_ip: "127.0.0.9".parse().expect("an address"),
        client_port: 4711,
        peer_is_trusted: false,
        forwarded: Forwarded::default(),
        matched: None,
        consumer_id: None,
        credential_id: None,
        balancing: Balancing::default(),
        upstream: UpstreamRequest {
            method: None,
            path: b"/".to_vec(),
            query: None,
            is_tls: false,
            headers: None,
            host_header: None,
            host_by_plugin: None,
            body: None,
            target_host: "upstream.test".to_owned(),
            target_port: 80,
            uri: String::new(),
        },
        response: None,
        early_headers: Headers::new(),
        concealed: Vec::new(),
        attempts: Vec::new(),
        fault: None,
        noticed: None,
        author: None,
        steps: Vec::new(),
        probe: None,
        station: Station::ReadRequest,
        moments: Moments::default(),
        sent_bytes: 0,
        sent_body_bytes: 0,
        plugins: Vec::new(),
        phase: Phase::Rewrite,
        host_data: None,
    }
}

/// An attempt at 10.0.0.1:80.
pub fn attempt() -> Attempt {
    Attempt::new(Some("10.0.0.1:80".parse().expect("an address")), "upstream.test".to_owned(), None, Instant::now())
}

/// An answer of this status, from there.
pub fn answer(status: u16, source: Source) -> Response {
    let status_of_upstream = (source == Source::Service).then_some(status);
    Response { status, reason: None, headers: Headers::new(), source, body: None, status_of_upstream }
}

/// A phase of a plugin.
pub fn step(name: &str, phase: Phase, outcome: StepOutcome) -> PluginStep {
    let instance = PluginInstance {
        id: Id([5; 16]),
        name: name.into(),
        plugin: PluginIndex(0),
        phases: phase.bit(),
        config: Arc::from(&b""[..]),
        route: None,
        service: None,
        consumer: None,
        policy: None,
        host_data: OnceLock::new(),
    };
    PluginStep { instance: Arc::new(instance), phase, took: Duration::from_micros(1500), outcome, waited: false }
}
