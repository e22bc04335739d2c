// SPDX-License-Identifier: Apache-2.0
//! Do messages become the state they describe, whole or not at all?
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use super::*;
use crate::snapshot::PluginInfo;
use serde_json::{Value, json};

fn uuid(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn id(number: u32) -> Id {
    Id::parse(&uuid(number)).unwrap()
}

fn pack(value: &Value) -> Vec<u8> {
    rmp_serde::to_vec(value).unwrap()
}

fn service(number: u32, host: &str) -> Value {
    json!({
        "id": uuid(number), "created_at": 1, "updated_at": 1, "name": format!("s{number}"), "retries": 5, "protocol": "http", "host": host,
        "port": 80, "path": null, "connect_timeout": 60000, "write_timeout": 60000, "read_timeout": 1000, "tags": null,
        "client_certificate": null, "tls_verify": null, "tls_verify_depth": null, "ca_certificates": null, "enabled": true
    })
}

fn route(number: u32, service: u32, path: &str) -> Value {
    json!({
        "id": uuid(number), "created_at": 1, "updated_at": 1, "name": null, "protocols": ["http", "https"],
        "https_redirect_status_code": 426, "strip_path": true, "preserve_host": false, "request_buffering": true,
        "response_buffering": true, "tags": ["a"], "service": {"id": uuid(service)}, "snis": null, "sources": null, "destinations": null,
        "methods": null, "hosts": null, "paths": [path], "headers": {"x-a": ["1"]}, "regex_priority": 0, "path_handling": "v0"
    })
}

fn plugin(number: u32, name: &str, config: &Value) -> Value {
    json!({
        "id": uuid(number), "name": name, "instance_name": null, "created_at": 1, "updated_at": 1, "route": null, "service": null,
        "consumer": null, "config": config, "protocols": ["http", "https"], "enabled": true, "tags": null
    })
}

fn upstream(number: u32, name: &str) -> Value {
    let statuses = json!([200]);
    json!({
        "id": uuid(number), "created_at": 1, "updated_at": 1, "name": name, "algorithm": "round-robin", "hash_on": "none",
        "hash_fallback": "none", "hash_on_header": null, "hash_fallback_header": null, "hash_on_cookie": null, "hash_on_cookie_path": "/",
        "hash_on_query_arg": null, "hash_fallback_query_arg": null, "hash_on_uri_capture": null, "hash_fallback_uri_capture": null,
        "slots": 10000, "tags": null, "host_header": null, "client_certificate": null, "use_srv_name": false,
        "healthchecks": {
            "active": {
                "unhealthy": {"tcp_failures": 0, "timeouts": 0, "http_failures": 0, "interval": 0, "http_statuses": statuses},
                "timeout": 1, "type": "http", "concurrency": 10, "http_path": "/", "https_sni": null, "https_verify_certificate": true,
                "healthy": {"http_statuses": statuses, "interval": 0.5, "successes": 0}, "headers": null
            },
            "passive": {
                "unhealthy": {"tcp_failures": 0, "timeouts": 0, "http_failures": 0, "http_statuses": statuses}, "type": "http",
                "healthy": {"http_statuses": statuses, "successes": 0}
            },
            "threshold": 0
        }
    })
}

fn target(number: u32, upstream: u32, target: &str, weight: u32) -> Value {
    json!({
        "id": uuid(number), "created_at": 1.5, "updated_at": 1.5, "upstream": {"id": uuid(upstream)}, "target": target, "weight": weight,
        "tags": null
    })
}

fn whole(sequence: u64) -> Value {
    json!({"version": ["db", sequence], "entities": {
        "services": [service(1, "up"), service(2, "plain.example")],
        "routes": [route(11, 1, "/a"), route(12, 2, "/b")],
        "plugins": [plugin(21, "key-auth", &json!({"key_names": ["apikey"]})), plugin(22, "absent", &json!({}))],
        "upstreams": [upstream(31, "up")],
        "targets": [target(41, 31, "127.0.0.1:81", 1), target(42, 31, "127.0.0.1:82", 1)]
    }})
}

fn store() -> Store {
    let info =
        |name: &str| PluginInfo { name: name.into(), priority: 1, phases: 4, reads_body_limit_bytes: 0, wants_client_certificate: false };
    Store::new(Arc::new(PluginRegistry::new(vec![info("key-auth"), info("http-log")])))
}

fn filled() -> Store {
    let mut store = store();
    store.apply_snapshot(&pack(&whole(7))).unwrap();
    store
}

fn delta(from: u64, changes: &Value) -> Vec<u8> {
    pack(&json!({"from": from, "to": from + 1, "database_id": "db", "changes": changes, "invalidations": [["consumers", "id", "x"]]}))
}

#[test]
fn a_snapshot_is_compiled_with_what_has_no_effect_named() {
    let Compiled { snapshot, warnings } = filled().compile();
    assert_eq!(snapshot.version, Version { database_id: "db".into(), sequence: 7 });
    assert_eq!(snapshot.router.len(), 2);
    assert_eq!(snapshot.service(id(1)).unwrap().read_timeout().as_millis(), 1000);
    assert_eq!(snapshot.upstream("up").unwrap().balancer.peers().len(), 2);
    assert!(snapshot.upstream("plain.example").is_none());
    assert_eq!(warnings, [format!("plugins {}: `absent` is not loaded, so this row has no effect", uuid(22))]);
    let instance = snapshot.plan.global().candidates()[0].instance(None).unwrap();
    assert_eq!(instance.name.as_ref(), "key-auth");
    assert_eq!(&*instance.config, pack(&json!({"key_names": ["apikey"]})));
}

#[test]
fn a_row_of_resilience_that_cannot_be_read_leaves_its_place_to_a_broader_one() {
    let native = PluginInfo {
        name: crate::resilience::PLUGIN.into(),
        priority: 1,
        phases: 0,
        reads_body_limit_bytes: 0,
        wants_client_certificate: false,
    };
    let mut store = Store::new(Arc::new(PluginRegistry::new(vec![native])));
    let config = json!({"hedge": {"after_ms": 1, "most": 1, "methods": ["GET"]}});
    let mut narrow = plugin(52, crate::resilience::PLUGIN, &json!({"of_a_later_version": 1}));
    narrow["service"] = json!({"id": uuid(1)});
    let mut content = whole(7);
    content["entities"]["plugins"] = json!([plugin(51, crate::resilience::PLUGIN, &config), narrow]);
    store.apply_snapshot(&pack(&content)).unwrap();
    let Compiled { snapshot, warnings } = store.compile();
    assert!(snapshot.plan.for_route(id(11), Some(id(1))).policy().is_some_and(|policy| policy.hedge.is_some()));
    let [warning] = &*warnings else { panic!("{warnings:?}") };
    assert!(warning.starts_with(&format!("plugins {}: `resilience` has no effect", uuid(52))), "{warning}");
}

#[test]
fn a_delta_changes_what_it_names_and_shares_the_rest() {
    let mut store = filled();
    let before = store.compile().snapshot;
    let changes = json!([
        ["routes", "delete", uuid(12), null],
        ["routes", "upsert", uuid(13), route(13, 2, "~/c/(x)")],
        ["services", "upsert", uuid(2), service(2, "other.example")],
        ["plugins", "upsert", uuid(23), plugin(23, "http-log", &json!({}))]
    ]);
    let invalidations = store.apply_delta(&delta(7, &changes)).unwrap();
    assert_eq!(invalidations, [Invalidation { table: "consumers".into(), field: "id".into(), value: "x".into() }]);
    let after = store.compile().snapshot;
    assert_eq!(after.version.sequence, 8);
    assert_eq!(after.router.len(), 2);
    assert_eq!(after.service(id(2)).unwrap().host.as_ref(), "other.example");
    assert!(Arc::ptr_eq(before.service(id(1)).unwrap(), after.service(id(1)).unwrap()));
    assert!(Arc::ptr_eq(&before.upstream("up").unwrap().balancer, &after.upstream("up").unwrap().balancer));
    let key_auth = |snapshot: &Snapshot| {
        let index = store.registry().find("key-auth").unwrap();
        snapshot.plan.lookup(index, None, None, None).unwrap().clone()
    };
    assert!(Arc::ptr_eq(&key_auth(&before), &key_auth(&after)));
    assert_eq!(after.plan.plugins().len(), 2);
    assert_eq!(before.router.len(), 2);
}

#[test]
fn turns_begin_anew_only_when_targets_change() {
    let mut store = filled();
    let before = store.compile().snapshot.upstream("up").unwrap().balancer.clone();
    let mut row = upstream(31, "up");
    row["tags"] = json!(["x"]);
    let mut same_target = target(41, 31, "127.0.0.1:81", 1);
    same_target["updated_at"] = json!(9.0);
    let changes = json!([["upstreams", "upsert", uuid(31), row], ["targets", "upsert", uuid(41), same_target]]);
    store.apply_delta(&delta(7, &changes)).unwrap();
    assert!(Arc::ptr_eq(&before, &store.compile().snapshot.upstream("up").unwrap().balancer));
    store.apply_delta(&delta(8, &json!([["targets", "upsert", uuid(41), target(41, 31, "127.0.0.1:81", 2)]]))).unwrap();
    let after = store.compile().snapshot.upstream("up").unwrap().balancer.clone();
    assert_eq!(after.peers().iter().map(|peer| peer.weight).collect::<Vec<_>>(), [2, 1]);
    store.apply_delta(&delta(9, &json!([["targets", "delete", uuid(41), null]]))).unwrap();
    assert_eq!(store.compile().snapshot.upstream("up").unwrap().balancer.peers().len(), 1);
}

#[test]
fn the_same_snapshot_again_shares_what_was_compiled() {
    let mut store = filled();
    let before = store.compile().snapshot;
    store.apply_snapshot(&pack(&whole(9))).unwrap();
    let after = store.compile().snapshot;
    assert_eq!(after.version.sequence, 9);
    assert!(Arc::ptr_eq(&before.upstream("up").unwrap().balancer, &after.upstream("up").unwrap().balancer));
    let index = store.registry().find("key-auth").unwrap();
    let instance = |snapshot: &Snapshot| snapshot.plan.lookup(index, None, None, None).unwrap().clone();
    assert!(Arc::ptr_eq(&instance(&before), &instance(&after)));
    store.apply_snapshot(&pack(&json!({"version": ["db", 10], "entities": {}}))).unwrap();
    let empty = store.compile().snapshot;
    assert!(empty.router.is_empty() && empty.upstream("up").is_none() && empty.plan.plugins().is_empty());
}

/// Which parts of two snapshots are the same objects: router, what was made of its conditions, plan, Services, Upstreams watched.
fn shared(before: &Snapshot, after: &Snapshot) -> [bool; 5] {
    [
        Arc::ptr_eq(&before.router, &after.router),
        before.router.shares_with(&after.router),
        Arc::ptr_eq(&before.plan, &after.plan),
        Arc::ptr_eq(&before.services, &after.services),
        Arc::ptr_eq(&before.upstreams, &after.upstreams)
            && Arc::ptr_eq(before.watched(), after.watched())
            && Arc::ptr_eq(before.named(), after.named()),
    ]
}

#[test]
fn what_no_change_touches_is_the_same_object_in_the_next_snapshot() {
    let changed = |mut row: Value, field: &str, value: Value| {
        row[field] = value;
        row
    };
    let upsert = |table: &str, row: Value| json!([[table, "upsert", row["id"], row]]);
    let (yes, no) = (true, false);
    let cases = [
        ("Consumers", json!([]), [yes, yes, yes, yes, yes]),
        ("the same rows", upsert("routes", route(11, 1, "/a")), [yes, yes, yes, yes, yes]),
        ("a Route's path", upsert("routes", route(11, 1, "/c")), [no, no, yes, yes, yes]),
        ("a Route's tags", upsert("routes", changed(route(11, 1, "/a"), "tags", json!(["b"]))), [no, yes, yes, yes, yes]),
        ("a Route's Service", upsert("routes", route(11, 2, "/a")), [no, yes, no, yes, yes]),
        ("a Route's end", json!([["routes", "delete", uuid(12), null]]), [no, no, no, yes, yes]),
        ("a new Route", upsert("routes", route(13, 1, "/c")), [no, no, no, yes, yes]),
        ("a Route that no longer compiles", upsert("routes", route(11, 1, "~(")), [no, no, no, yes, yes]),
        ("a Service's host", upsert("services", service(1, "other")), [no, yes, yes, no, yes]),
        ("a Service turned off", upsert("services", changed(service(1, "up"), "enabled", json!(false))), [no, no, no, no, yes]),
        ("a Service's end", json!([["services", "delete", uuid(1), null]]), [no, no, no, no, yes]),
        ("a plugin", upsert("plugins", plugin(21, "key-auth", &json!({"key_names": ["k"]}))), [yes, yes, no, yes, yes]),
        ("a plugin's end", json!([["plugins", "delete", uuid(21), null]]), [yes, yes, no, yes, yes]),
        ("an Upstream", upsert("upstreams", changed(upstream(31, "up"), "slots", json!(20))), [yes, yes, yes, yes, no]),
        ("a Target's weight", upsert("targets", target(41, 31, "127.0.0.1:81", 7)), [yes, yes, yes, yes, no]),
        ("a Target's end", json!([["targets", "delete", uuid(41), null]]), [yes, yes, yes, yes, no]),
        ("nothing that is there", json!([["routes", "delete", uuid(99), null]]), [yes, yes, yes, yes, yes]),
    ];
    for (what, changes, expected) in cases {
        let mut store = filled();
        let before = store.compile();
        store.apply_delta(&delta(7, &changes)).unwrap();
        let after = store.compile();
        assert_eq!(shared(&before.snapshot, &after.snapshot), expected, "{what}");
        // A store that never shares comes to the same.
        let mut fresh = self::store();
        fresh.apply_snapshot(&store.encode()).unwrap();
        let fresh = fresh.compile();
        assert_eq!(after.warnings, fresh.warnings, "{what}");
        let rows = |snapshot: &Snapshot| {
            let mut rows: Vec<_> = snapshot.router.routes().map(|route| (route.id, route.raw.clone())).collect();
            rows.sort_by_key(|(id, _)| *id);
            rows
        };
        assert_eq!(rows(&after.snapshot), rows(&fresh.snapshot), "{what}");
    }
    let mut store = filled();
    let before = store.compile().snapshot;
    store.apply_snapshot(&pack(&whole(9))).unwrap();
    assert_eq!(shared(&before, &store.compile().snapshot), [true; 5]);
}

#[test]
fn a_plan_follows_the_routes_its_plugins_name() {
    let mut row = plugin(21, "key-auth", &json!({}));
    row["service"] = json!({"id": uuid(2)});
    let mut store = filled();
    store.apply_delta(&delta(7, &json!([["plugins", "upsert", uuid(21), row]]))).unwrap();
    let count = |store: &mut Store, route: u32, service: u32| {
        store.compile().snapshot.plan.for_route(id(route), Some(id(service))).candidates().len()
    };
    assert_eq!((count(&mut store, 11, 1), count(&mut store, 12, 2)), (0, 1));
    let moved = route(11, 2, "/a");
    store.apply_delta(&delta(8, &json!([["routes", "upsert", uuid(11), moved], ["routes", "delete", uuid(12), null]]))).unwrap();
    assert_eq!(count(&mut store, 11, 2), 1);
}

#[test]
fn a_delta_for_another_state_is_refused() {
    let mut store = filled();
    let error = store.apply_delta(&delta(6, &json!([]))).unwrap_err();
    assert_eq!(error.to_string(), "the delta continues db@6, but db@7 is held");
    let other = pack(&json!({"from": 7, "to": 8, "database_id": "other", "changes": [], "invalidations": []}));
    assert!(matches!(store.apply_delta(&other), Err(ApplyError::VersionMismatch { .. })));
    assert_eq!(store.version().sequence, 7);
}

#[test]
fn a_message_with_one_bad_row_changes_nothing() {
    let mut store = filled();
    let before = store.encode();
    let mut bad = route(14, 1, "/d");
    bad.as_object_mut().unwrap().remove("snis");
    let changes = json!([["routes", "delete", uuid(11), null], ["routes", "upsert", uuid(14), bad]]);
    let error = store.apply_delta(&delta(7, &changes)).unwrap_err();
    assert_eq!(error.to_string(), "a row of `routes` can't be read: missing field `snis`");
    assert_eq!(store.encode(), before);
    let error = store.apply_snapshot(&pack(&json!({"version": ["db", 8], "entities": {"services": [{"id": 1}]}}))).unwrap_err();
    assert!(matches!(error, ApplyError::Row { .. }), "{error}");
    assert_eq!(store.encode(), before);
}

#[test]
fn every_field_is_asked_for_and_no_other_accepted() {
    let rows = [
        ("services", service(1, "a")),
        ("routes", route(1, 1, "/")),
        ("plugins", plugin(1, "p", &json!({}))),
        ("upstreams", upstream(1, "u")),
        ("targets", target(1, 1, "a:1", 1)),
    ];
    for (table, row) in rows {
        let apply = |row: &Value| store().apply_snapshot(&pack(&json!({"version": ["db", 1], "entities": {table: [row]}})));
        apply(&row).unwrap();
        for field in row.as_object().unwrap().keys() {
            let mut without = row.clone();
            without.as_object_mut().unwrap().remove(field);
            let error = apply(&without).unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}`")), "{table}.{field}: {error}");
        }
        let mut with = row.clone();
        with["surplus"] = Value::Null;
        let error = apply(&with).unwrap_err().to_string();
        assert!(error.contains("surplus"), "{table}: {error}");
    }
    let mut row = upstream(1, "u");
    row["healthchecks"]["active"]["healthy"].as_object_mut().unwrap().remove("successes");
    let error = store().apply_snapshot(&pack(&json!({"version": ["db", 1], "entities": {"upstreams": [row]}}))).unwrap_err();
    assert!(error.to_string().contains("`successes`"), "{error}");
}

#[test]
fn a_store_written_and_read_is_the_same() {
    let original = filled();
    let frame = original.encode_frame();
    let (name, body) = frame_of(&frame).unwrap();
    assert_eq!(name, "snapshot");
    let mut copy = store();
    copy.apply_snapshot(body).unwrap();
    assert_eq!(copy.encode(), original.encode());
    assert_eq!(copy.version(), original.version());
}

#[test]
fn truncated_messages_are_refused() {
    let body = pack(&whole(1));
    for cut in (0..body.len()).step_by(7) {
        assert!(store().apply_snapshot(&body[..cut]).is_err());
    }
    assert!(frame_of(&pack(&json!(["snapshot"]))).is_err());
    assert!(frame_of(&pack(&json!("x"))).is_err());
}

#[test]
fn routes_of_a_disabled_service_are_not_there() {
    let mut store = filled();
    let mut row = service(1, "up");
    row["enabled"] = json!(false);
    store.apply_delta(&delta(7, &json!([["services", "upsert", uuid(1), row]]))).unwrap();
    assert_eq!(store.compile().snapshot.router.len(), 1);
}

#[test]
fn one_bad_expression_leaves_the_others_alone() {
    let mut store = filled();
    store.apply_delta(&delta(7, &json!([["routes", "upsert", uuid(15), route(15, 1, "~/(?=x)")]]))).unwrap();
    let Compiled { snapshot, warnings } = store.compile();
    assert_eq!(snapshot.router.len(), 2);
    assert!(warnings.iter().any(|warning| warning.contains("~/(?=x)")), "{warnings:?}");
}

#[test]
fn rows_that_are_disabled_or_for_streams_do_not_count() {
    let mut store = store();
    let mut disabled = plugin(1, "key-auth", &json!({}));
    disabled["enabled"] = json!(false);
    let mut stream = plugin(2, "http-log", &json!({}));
    stream["protocols"] = json!(["tcp", "tls"]);
    store.apply_snapshot(&pack(&json!({"version": ["db", 1], "entities": {"plugins": [disabled, stream]}}))).unwrap();
    assert!(store.compile().snapshot.plan.plugins().is_empty());
}
