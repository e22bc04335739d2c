// SPDX-License-Identifier: Apache-2.0
//! Who asked what? Without the values of parameters, without bodies, and of headers only those values that tell nothing secret.

use super::super::masking::{self, NAME_LIMIT, text, words};
use super::attempts::largest_header;
use super::{ms, put};
use crate::exchange::{Exchange, LargestHeader};
use crate::gateway::Gateway;
use crate::http::headers::Headers;
use serde_json::{Map, Value, json};

/// Parameters that are named.
const PARAMETERS: usize = 32;
/// Fields that are named.
const FIELDS: usize = 100;
/// All values of fields together.
const VALUES_LIMIT_BYTES: usize = 4096;

/// What the client asked.
pub fn request(gateway: &Gateway, exchange: &Exchange) -> Value {
    let request = &exchange.request;
    let (buffers, buffer_bytes) = gateway.settings.large_client_header_buffers;
    let mut map = Map::new();
    map.insert("line".into(), masking::line(&request.line, !request.method.is_empty(), 2048).into());
    map.insert("method".into(), words(&request.method, 32).into());
    map.insert("scheme".into(), exchange.scheme().into());
    map.insert("host".into(), text(&masking::authority(&request.authority), 256).into());
    map.insert("path".into(), text(&request.raw_path, 1024).into());
    if let Some(query) = &request.query {
        let (names, left_out) = masking::query_names(query, PARAMETERS);
        map.insert("query".into(), names.into());
        put(&mut map, "query_left_out", (left_out > 0).then_some(left_out));
    }
    map.insert("version".into(), request.version.number().into());
    map.insert("received_bytes".into(), request.received_bytes.into());
    map.insert("body_bytes".into(), request.body_bytes.into());
    put(&mut map, "head_bytes", (request.head_bytes > 0).then_some(request.head_bytes));
    let largest = request.oversized.as_deref().cloned().or_else(|| largest_of(&request.headers));
    put(&mut map, "largest_header", largest_header(largest.as_ref()));
    map.insert("header_limit_bytes".into(), buffer_bytes.into());
    map.insert("head_limit_bytes".into(), (buffers * buffer_bytes).into());
    let left_out = request.headers.len().saturating_sub(FIELDS);
    map.insert("headers".into(), headers(&request.headers));
    put(&mut map, "headers_left_out", (left_out > 0).then_some(left_out));
    map.into()
}

fn headers(headers: &Headers) -> Value {
    let mut room = VALUES_LIMIT_BYTES;
    let pairs = headers.iter().take(FIELDS).map(|(name, value)| {
        let shown = masking::value(name, value).filter(|shown| shown.len() <= room);
        room -= shown.as_ref().map_or(0, String::len);
        json!([text(name, NAME_LIMIT), shown])
    });
    pairs.collect()
}

/// The largest line of a head.
pub fn largest_of(headers: &Headers) -> Option<LargestHeader> {
    let (name, value) = headers.iter().max_by_key(|(name, value)| name.len() + value.len())?;
    Some(LargestHeader { name: text(name, NAME_LIMIT), bytes: name.len() + 2 + value.len() })
}

/// Who asked.
pub fn client(exchange: &Exchange) -> Value {
    let (facts, headers) = (&exchange.connection, &exchange.request.headers);
    let mut map = Map::new();
    map.insert("ip".into(), exchange.client_ip.to_string().into());
    map.insert("peer".into(), facts.peer.to_string().into());
    map.insert("connection".into(), facts.serial.into());
    map.insert("requests_on_connection".into(), facts.requests.get().into());
    map.insert("is_trusted".into(), exchange.peer_is_trusted.into());
    put(&mut map, "consumer_id", exchange.consumer_id.map(|id| id.to_string()));
    put(&mut map, "credential_id", exchange.credential_id.map(|id| id.to_string()));
    put(
        &mut map,
        "tls",
        facts.tls.as_ref().map(|tls| {
            let sni = tls.sni.as_deref().map(|name| words(name, 256));
            json!({"version": words(&tls.version, 32), "cipher": words(&tls.cipher, 64), "sni": sni})
        }),
    );
    put(&mut map, "via", headers.get("via").map(|via| text(via, 256)));
    let forwarded = headers.get_all("x-forwarded-for").map(|value| value.split(|&b| b == b',').count()).sum::<usize>();
    put(&mut map, "forwarded_for_count", (forwarded > 0).then_some(forwarded));
    put(&mut map, "departed_after_ms", exchange.moments.departed.map(|departed| ms(departed.saturating_duration_since(exchange.started))));
    map.into()
}
