// SPDX-License-Identifier: Apache-2.0
//! What is kept of a request that went well? Enough to ask what another configuration would have made of it.

use super::super::masking::{self, text, words};
use super::{Kind, SAMPLE_LIMIT_BYTES, beginning, fit, insert_end, put, rounded};
use crate::exchange::Exchange;
use serde_json::{Map, Value, json};

/// The record, within a kibibyte.
pub fn of(exchange: &Exchange, status: u16) -> Vec<u8> {
    let mut record = beginning(exchange, status, Kind::Sample);
    let mut request = Map::new();
    request.insert("method".into(), words(&exchange.request.method, 16).into());
    request.insert("scheme".into(), exchange.scheme().into());
    request.insert("host".into(), text(&masking::authority(&exchange.request.authority), 64).into());
    request.insert("path".into(), text(&exchange.request.raw_path, 128).into());
    if let Some(query) = &exchange.request.query {
        request.insert("query".into(), masking::query_names(query, 4).0.into());
    }
    request.insert("received_bytes".into(), exchange.request.received_bytes.into());
    record.insert("request".into(), request.into());
    record.insert("client".into(), json!({"ip": exchange.client_ip.to_string()}));
    if let Some(matched) = &exchange.matched {
        let name = |name: Option<&str>| name.map(|name| words(name, 40));
        record.insert("route".into(), json!({"id": matched.route.id.to_string(), "name": name(matched.route.name.as_deref())}));
        if let Some(service) = &matched.service {
            record.insert("service".into(), json!({"id": service.id.to_string(), "name": name(service.name.as_deref())}));
        }
    }
    let plugins =
        exchange.steps.iter().take(8).map(
            |step| json!({"name": words(&step.instance.name, 40), "phase": step.phase.name(), "took_us": step.took.as_micros() as u64}),
        );
    record.insert("plugins".into(), plugins.collect());
    put(
        &mut record,
        "attempts",
        exchange.attempts.last().map(|attempt| {
            json!([{
                "address": attempt.address.map(|address| address.to_string()),
                "connect_ms": attempt.connect_ms.map(rounded),
                "reused": attempt.reused.map(|reused| reused.requests),
                "head_ms": attempt.head_ms.map(rounded),
                "status": attempt.status,
                "ended": attempt.ended,
            }])
        }),
    );
    insert_end(&mut record, exchange);
    fit(&mut record, SAMPLE_LIMIT_BYTES, &[leave_out_plugins, leave_out_attempts, leave_out_names])
}

fn leave_out_plugins(record: &mut Map<String, Value>) {
    record.remove("plugins");
}

fn leave_out_attempts(record: &mut Map<String, Value>) {
    record.remove("attempts");
    record.remove("milestones");
}

fn leave_out_names(record: &mut Map<String, Value>) {
    if let Some(Value::Object(request)) = record.get_mut("request") {
        request.remove("query");
        request.remove("host");
        request.remove("path");
    }
}
