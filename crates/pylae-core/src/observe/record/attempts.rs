// SPDX-License-Identifier: Apache-2.0
//! What happened at each upstream that was tried?

use super::super::masking::{text, words};
use super::{hex, insert_words, ms, put, rounded};
use crate::clock::rfc3339_ms;
use crate::exchange::{Attempt, Exchange, LargestHeader};
use crate::http::head::RESPONSE_HEAD_LIMIT_BYTES;
use crate::upstream::dns::DnsFacts;
use crate::upstream::handshake::UpstreamTlsFacts;
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Longest name in a certificate.
const NAME_LIMIT: usize = 128;

/// One attempt.
pub fn of(exchange: &Exchange, attempt: &Attempt) -> Value {
    let mut map = Map::new();
    let since = |moment: Option<Instant>| moment.map(|moment| ms(moment.saturating_duration_since(attempt.started)));
    map.insert("host".into(), words(&attempt.host, 256).into());
    map.insert("address".into(), attempt.address.map(|address| address.to_string()).into());
    map.insert("offset_ms".into(), ms(attempt.started.saturating_duration_since(exchange.started)));
    put(&mut map, "dns", attempt.dns.as_ref().map(dns));
    map.insert("connect_ms".into(), attempt.connect_ms.map(rounded).into());
    put(&mut map, "tls_ms", attempt.tls_ms.map(rounded));
    map.insert("reused".into(), attempt.reused.map(|reused| reused.requests).into());
    if let Some(reused) = attempt.reused {
        map.insert("idle_ms".into(), ms(reused.idle));
        map.insert("age_ms".into(), ms(reused.age));
    }
    put(&mut map, "idle_limit_ms", attempt.idle_limit.map(ms));
    put(&mut map, "our_idle_limit_ms", attempt.our_idle_limit.map(ms));
    put(&mut map, "again", attempt.again);
    put(&mut map, "tls", tls(attempt));
    map.insert("sent_bytes".into(), attempt.sent_bytes.into());
    put(&mut map, "request_bytes", attempt.request_bytes);
    map.insert("received_bytes".into(), attempt.received_bytes.into());
    put(&mut map, "sent_ms", since(attempt.sent_at));
    put(&mut map, "first_byte_ms", since(attempt.first_byte_at));
    map.insert("head_ms".into(), attempt.head_ms.map(rounded).into());
    map.insert("status".into(), attempt.status.into());
    map.insert("ended".into(), attempt.ended.into());
    put(&mut map, "timer", attempt.timer.map(|timer| json!({"name": timer.name, "ms": ms(timer.length)})));
    put(&mut map, "unacknowledged_ms", attempt.unacknowledged.map(ms));
    if attempt.head_bytes > 0 {
        map.insert("head_bytes".into(), attempt.head_bytes.into());
        map.insert("head_limit_bytes".into(), RESPONSE_HEAD_LIMIT_BYTES.into());
        put(&mut map, "largest_header", largest_header(attempt.largest_header.as_ref()));
    }
    if let Some(fault) = &attempt.fault {
        map.insert("fault".into(), fault.kind.facts().name.into());
        insert_words(&mut map, fault);
        // What an upstream said is evidence only when it failed; a good answer is its own.
        if !attempt.first_bytes.is_empty() {
            let seen = &attempt.first_bytes[..attempt.first_bytes.len().min(64)];
            map.insert("first_bytes".into(), text(seen, 256).into());
            map.insert("first_bytes_hex".into(), hex(&seen[..seen.len().min(16)]).into());
        }
    }
    map.into()
}

/// Name and size of a field.
pub fn largest_header(header: Option<&LargestHeader>) -> Option<Value> {
    header.map(|header| json!({"name": words(&header.name, NAME_LIMIT), "bytes": header.bytes}))
}

fn dns(facts: &DnsFacts) -> Value {
    let mut map = Map::new();
    map.insert("state".into(), facts.state.name().into());
    put(&mut map, "age_ms", facts.age.map(ms));
    put(&mut map, "ttl_ms", facts.ttl.map(ms));
    put(&mut map, "server", facts.server.map(|server| server.to_string()));
    map.into()
}

fn tls(attempt: &Attempt) -> Option<Value> {
    if attempt.tls.is_none() && attempt.alert.is_none() {
        return None;
    }
    let mut map = Map::new();
    if let Some(facts) = attempt.tls.as_deref() {
        insert_handshake(&mut map, facts);
    }
    put(&mut map, "alert", attempt.alert.as_deref().map(|alert| words(alert, NAME_LIMIT)));
    Some(map.into())
}

fn insert_handshake(map: &mut Map<String, Value>, facts: &UpstreamTlsFacts) {
    put(map, "version", facts.version);
    put(map, "alpn", facts.alpn.as_deref().map(|alpn| words(alpn, 32)));
    put(map, "sni", facts.sni.as_deref().map(|name| words(name, 256)));
    map.insert("verified".into(), facts.is_verified.into());
    if facts.is_certificate_wanted {
        map.insert("wants_certificate".into(), true.into());
    }
    if let Some(certificate) = &facts.certificate {
        let names: Vec<String> = certificate.names.iter().take(8).map(|name| words(name, NAME_LIMIT)).collect();
        let date = |seconds: Option<i64>| {
            seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(|seconds| rfc3339_ms(seconds.min(LATEST_S) * 1000))
        };
        map.insert("subject".into(), words(&certificate.subject, 256).into());
        map.insert("issuer".into(), words(&certificate.issuer, 256).into());
        map.insert("names".into(), names.into());
        put(map, "not_before", date(certificate.not_before_s));
        put(map, "not_after", date(certificate.not_after_s));
    }
}

/// The last second of the year 9999: dates beyond have no form in RFC 3339.
const LATEST_S: u64 = 253_402_300_799;
