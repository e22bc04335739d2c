// SPDX-License-Identifier: Apache-2.0
//! What does a probe send, and what does it make of each way a Target may answer?

use super::*;
use crate::balancer::Balancer;
use crate::snapshot::model::{Algorithm, HealthChecks, Raw, Reference, Target};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn probe_with(changes: &Value, host_header: Option<&str>) -> crate::healthcheck::Rules {
    let mut active = json!({
        "unhealthy": {"tcp_failures": 1, "timeouts": 1, "http_failures": 1, "interval": 1, "http_statuses": [500, 503]},
        "timeout": 5, "type": "http", "concurrency": 10, "http_path": "/health", "https_sni": null, "https_verify_certificate": true,
        "healthy": {"http_statuses": [200, 302], "interval": 1, "successes": 1}, "headers": null
    });
    for (name, value) in changes.as_object().expect("an object") {
        active[name] = value.clone();
    }
    let checks: HealthChecks = serde_json::from_value(json!({
        "active": active,
        "passive": {"unhealthy": {"tcp_failures": 0, "timeouts": 0, "http_failures": 0, "http_statuses": []}, "type": "http",
                    "healthy": {"http_statuses": [], "successes": 0}},
        "threshold": 0
    }))
    .expect("health checks");
    crate::healthcheck::Rules::new(&checks, host_header)
}

fn address_at(port: u16) -> Arc<Address> {
    let target = Target {
        id: Id([2; 16]),
        created_at: 0.0,
        updated_at: 0.0,
        upstream: Reference { id: Id([1; 16]) },
        target: format!("127.0.0.1:{port}").into(),
        weight: Some(1),
        tags: None,
        raw: Raw::default(),
    };
    let (balancer, _) = Balancer::new(Algorithm::RoundRobin, &[target], None);
    Arc::clone(balancer.roster().addresses().next().expect("it is one"))
}

fn run<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// Asks a Target that answers with these bytes and closes, once; none: it closes nothing and says nothing. Answers what came of
/// it and what was sent.
fn asked(changes: &Value, host_header: Option<&str>, reply: Option<&'static [u8]>) -> (Outcome, String, String) {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let served = tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.expect("the probe");
            let mut request = Vec::new();
            // The end of a head, or the first byte of a TLS handshake.
            let is_whole = |request: &[u8]| request.ends_with(b"\r\n\r\n") || request.first() == Some(&22);
            while !is_whole(&request) && stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {}
            match reply {
                Some(reply) => drop(stream.write_all(reply).await),
                None => drop(stream.read_buf(&mut request).await),
            }
            String::from_utf8_lossy(&request).into_owned()
        });
        let (rules, address) = (probe_with(changes, host_header), address_at(port));
        let (outcome, found) =
            ask(&UpstreamTls::new(Vec::new()), rules.probe.as_ref().expect("on"), &address.peer.host, &address.place).await;
        (outcome, found, served.await.expect("served"))
    })
}

#[test]
fn test_a_probe_asks_for_the_path_with_the_host_and_headers() {
    let (outcome, found, sent) = asked(&json!({"headers": {"X-Probe": ["a", "b"]}}), None, Some(b"HTTP/1.1 200 OK\r\n\r\n"));
    assert_eq!(outcome, Outcome::Status(200));
    assert_eq!(found, "GET /health: 200");
    assert_eq!(sent, "GET /health HTTP/1.0\r\nConnection: close\r\nX-Probe: a\r\nX-Probe: b\r\nHost: 127.0.0.1\r\n\r\n");
}

#[test]
fn test_the_host_of_a_probe_is_host_header_when_there_is_one() {
    let (_, _, sent) = asked(&json!({}), Some("shop.example"), Some(b"HTTP/1.0 200\n"));
    assert!(sent.contains("\r\nHost: shop.example\r\n"), "{sent}");
}

#[test]
fn test_answers_are_read_for_their_status_and_no_more() {
    for (reply, expected) in [
        (&b"HTTP/1.1 503 Service Unavailable\r\n"[..], Outcome::Status(503)),
        (b"HTTP/2.0  302\r\n", Outcome::Status(302)),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Outcome::NoStatus),
        (b"HTTP/1.1 none\r\n", Outcome::NoStatus),
        (b"", Outcome::TcpFailure),
        (b"HTTP/1.1 200", Outcome::TcpFailure),
    ] {
        assert_eq!(asked(&json!({}), None, Some(reply)).0, expected, "{}", String::from_utf8_lossy(reply));
    }
}

#[test]
fn test_a_target_that_does_not_answer_in_time_is_a_timeout() {
    assert_eq!(asked(&json!({"timeout": 0.05}), None, None).0, Outcome::Timeout);
}

#[test]
fn test_a_refused_connection_is_a_tcp_failure() {
    let (outcome, found) = run(async {
        let port = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound").port();
        let (rules, address) = (probe_with(&json!({}), None), address_at(port));
        ask(&UpstreamTls::new(Vec::new()), rules.probe.as_ref().expect("on"), &address.peer.host, &address.place).await
    });
    assert_eq!(outcome, Outcome::TcpFailure);
    assert!(found.contains("refused"), "{found}");
}

#[test]
fn test_type_tcp_asks_for_a_connection_only() {
    let (outcome, _, sent) = asked(&json!({"type": "tcp"}), None, None);
    assert_eq!((outcome, sent.as_str()), (Outcome::Connected, ""));
}

#[test]
fn test_type_https_to_a_target_without_tls_is_a_tcp_failure() {
    let (outcome, found, _) = asked(&json!({"type": "https"}), None, Some(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    assert_eq!(outcome, Outcome::TcpFailure, "{found}");
}

#[test]
fn test_healthy_and_unhealthy_targets_have_rounds_of_their_own_and_zero_disables_them() {
    let at = |seconds: f64| Duration::from_secs_f64(seconds);
    let rules = probe_with(&json!({}), None).probe.expect("on");
    assert_eq!((rules.healthy_every, rules.unhealthy_every), (Some(at(1.0)), Some(at(1.0))));
    let off = json!({"healthy": {"http_statuses": [200], "interval": 0, "successes": 1}});
    let rules = probe_with(&off, None);
    assert!(rules.is_on);
    assert_eq!(rules.probe.expect("on").healthy_every, None);
    let unhealthy = json!({"http_statuses": [], "interval": 0, "tcp_failures": 1, "timeouts": 1, "http_failures": 1});
    let both = json!({"healthy": off["healthy"], "unhealthy": unhealthy});
    assert!(probe_with(&both, None).probe.is_none() && !probe_with(&both, None).is_on);
}

fn watched(number: u8, rules: crate::healthcheck::Rules) -> Arc<CompiledUpstream> {
    let statuses = json!([200]);
    let row = json!({
        "id": Id([number; 16]).to_string(), "created_at": 1, "name": "up", "updated_at": 1, "algorithm": null, "hash_on": null,
        "hash_fallback": null, "hash_on_header": null, "hash_fallback_header": null, "hash_on_cookie": null, "hash_on_cookie_path": null,
        "hash_on_query_arg": null, "hash_fallback_query_arg": null, "hash_on_uri_capture": null, "hash_fallback_uri_capture": null,
        "slots": null, "tags": null, "host_header": null, "client_certificate": null, "use_srv_name": null,
        "healthchecks": {
            "active": {"unhealthy": {"tcp_failures": 0, "timeouts": 0, "http_failures": 0, "interval": 0, "http_statuses": statuses},
                       "timeout": 1, "type": "http", "concurrency": 10, "http_path": "/", "https_sni": null, "https_verify_certificate": true,
                       "healthy": {"http_statuses": statuses, "interval": 0, "successes": 0}, "headers": null},
            "passive": {"unhealthy": {"tcp_failures": 0, "timeouts": 0, "http_failures": 0, "http_statuses": statuses}, "type": "http",
                        "healthy": {"http_statuses": statuses, "successes": 0}},
            "threshold": 0
        }
    });
    Arc::new(CompiledUpstream {
        upstream: Arc::new(serde_json::from_value(row).expect("an Upstream")),
        rules: Arc::new(rules),
        balancer: Arc::new(Balancer::new(Algorithm::RoundRobin, &[], None).0),
    })
}

#[test]
fn test_a_round_comes_every_interval_and_waits_for_the_one_before() {
    let begun = Instant::now();
    let mut schedule = Schedule::default();
    let unhealthy_off = json!({"unhealthy": {"http_statuses": [], "interval": 0, "tcp_failures": 1, "timeouts": 1, "http_failures": 1}});
    let all: Arc<[Arc<CompiledUpstream>]> = [watched(1, probe_with(&unhealthy_off, None))].into();
    schedule.adopt(&all, begun);
    let at = |ms: u64| begun + Duration::from_millis(ms);
    let (upstream, of_healthy, is_running) = schedule.next_due(at(600)).expect("the first, within half a second");
    assert!(of_healthy && upstream.upstream.id == Id([1; 16]));
    assert!(schedule.next_due(at(600)).is_none());
    assert!(schedule.next_due(at(1700)).is_none(), "the one before runs still");
    is_running.set(false);
    assert!(schedule.next_due(at(2700)).is_some());
    is_running.set(false);
    // The same Upstream, changed: its time stays. Another is dropped.
    let changed: Arc<[Arc<CompiledUpstream>]> =
        [watched(1, probe_with(&unhealthy_off, None)), watched(2, probe_with(&json!({}), None))].into();
    schedule.adopt(&changed, at(2800));
    assert_eq!(schedule.rounds.len(), 3);
    schedule.adopt(&all, at(2900));
    assert_eq!(schedule.rounds.len(), 1);
    assert!(schedule.next_due(at(3800)).is_some());
}
