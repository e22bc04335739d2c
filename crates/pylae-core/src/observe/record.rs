// SPDX-License-Identifier: Apache-2.0
//! What happened to this failed request? One JSON line with the hop, the phase, the cause, the evidence and the cure.

use crate::clock::rfc3339_ms;
use crate::exchange::{Attempt, Exchange};
use crate::fault::Fault;
use crate::http::head::printable;
use serde_json::{Map, Value, json};

/// The record as a line of JSON, newline included.
pub fn of(exchange: &Exchange, status: u16) -> Vec<u8> {
    let mut record = Map::new();
    record.insert("time".into(), rfc3339_ms(exchange.started_at_ms).into());
    record.insert("request_id".into(), exchange.id.as_str().into());
    record.insert("status".into(), status.into());
    if let Some(fault) = &exchange.fault {
        insert_fault(&mut record, fault);
        record.insert("hop".into(), hop(exchange, fault).into());
    }
    record.insert(
        "request".into(),
        json!({
            "line": printable(&exchange.request.line, 2048),
            "host": printable(&exchange.request.authority, 256),
            "scheme": exchange.scheme(),
            "received_bytes": exchange.request.received_bytes,
        }),
    );
    record.insert(
        "client".into(),
        json!({
            "ip": exchange.client_ip.to_string(),
            "peer": exchange.connection.peer.to_string(),
            "connection": exchange.connection.serial,
            "requests_on_connection": exchange.connection.requests.get(),
        }),
    );
    if let Some(matched) = &exchange.matched {
        record.insert("route".into(), json!({"id": matched.route.id.to_string(), "name": matched.route.name}));
        if let Some(service) = &matched.service {
            record.insert("service".into(), json!({"id": service.id.to_string(), "name": service.name, "host": service.host}));
        }
    }
    record.insert("attempts".into(), exchange.attempts.iter().map(|attempt| of_attempt(exchange, attempt)).collect());
    record.insert("sent_bytes".into(), exchange.sent_bytes.into());
    record.insert("sent_body_bytes".into(), exchange.sent_body_bytes.into());
    record.insert("duration_ms".into(), rounded_ms(exchange.started.elapsed().as_secs_f64() * 1000.0).into());
    let mut line = serde_json::to_vec(&Value::Object(record)).unwrap_or_default();
    line.push(b'\n');
    line
}

fn rounded_ms(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

fn insert_fault(map: &mut Map<String, Value>, fault: &Fault) {
    let facts = fault.kind.facts();
    map.insert("fault".into(), facts.name.into());
    map.insert("side".into(), facts.side.name().into());
    map.insert("room".into(), facts.room.into());
    map.insert("phrase".into(), fault.phrase().into());
    if !fault.detail.is_empty() {
        map.insert("detail".into(), fault.detail.as_ref().into());
    }
    map.insert("may_have_acted".into(), facts.may_have_acted.into());
    map.insert("response_flag".into(), facts.response_flag.into());
    map.insert("proxy_status".into(), facts.proxy_status.into());
    map.insert("cure".into(), facts.cure.into());
}

/// Between whom it happened.
fn hop(exchange: &Exchange, fault: &Fault) -> String {
    use crate::fault::Side;
    match fault.kind.facts().side {
        Side::Client => format!("{} -> gateway", exchange.connection.peer),
        Side::Gateway => "gateway".to_owned(),
        Side::Upstream => match exchange.attempts.last() {
            Some(Attempt { address: Some(address), .. }) => format!("gateway -> {address}"),
            Some(attempt) => format!("gateway -> {}", attempt.host),
            None => format!("gateway -> {}", exchange.upstream.target_host),
        },
    }
}

fn of_attempt(exchange: &Exchange, attempt: &Attempt) -> Value {
    let mut map = Map::new();
    map.insert("host".into(), attempt.host.as_str().into());
    map.insert("address".into(), attempt.address.map(|a| a.to_string()).into());
    map.insert("offset_ms".into(), rounded_ms(attempt.started.saturating_duration_since(exchange.started).as_secs_f64() * 1000.0).into());
    map.insert("connect_ms".into(), attempt.connect_ms.map(rounded_ms).into());
    map.insert("reused".into(), attempt.reused.map(|reused| reused.requests).into());
    if let Some(reused) = attempt.reused {
        map.insert("idle_ms".into(), rounded_ms(reused.idle.as_secs_f64() * 1000.0).into());
        map.insert("age_ms".into(), rounded_ms(reused.age.as_secs_f64() * 1000.0).into());
    }
    if let Some(again) = attempt.again {
        map.insert("again".into(), again.into());
    }
    map.insert("sent_bytes".into(), attempt.sent_bytes.into());
    map.insert("received_bytes".into(), attempt.received_bytes.into());
    map.insert("ended".into(), attempt.ended.into());
    map.insert("status".into(), attempt.status.into());
    map.insert("head_ms".into(), attempt.head_ms.map(rounded_ms).into());
    if let Some(fault) = &attempt.fault {
        map.insert("fault".into(), fault.kind.facts().name.into());
        map.insert("phrase".into(), fault.phrase().into());
        if !fault.detail.is_empty() {
            map.insert("detail".into(), fault.detail.as_ref().into());
        }
        // What an upstream said is evidence only when it failed; a good answer is its own.
        if !attempt.first_bytes.is_empty() {
            map.insert("first_bytes".into(), printable(&attempt.first_bytes, 64).into());
        }
    }
    Value::Object(map)
}
