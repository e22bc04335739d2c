// SPDX-License-Identifier: Apache-2.0
//! May a request be sent once more?

use super::Departure;
use crate::exchange::{BodyStore, Exchange};

/// nginx's rule of methods: not POST, LOCK, PATCH.
pub fn is_repeatable(exchange: &Exchange) -> bool {
    let method = exchange.upstream.method.as_deref().unwrap_or(&exchange.request.method);
    !matches!(method, "POST" | "LOCK" | "PATCH")
}

/// Did the client say that the request may be repeated (draft-ietf-httpapi-idempotency-key-header)?
pub fn has_idempotency_key(exchange: &Exchange) -> bool {
    let headers = exchange.upstream_headers();
    ["idempotency-key", "x-idempotency-key"].iter().any(|name| headers.get(name).is_some_and(|key| !key.trim_ascii().is_empty()))
}

/// Is the body there to be sent once more?
pub fn has_body_still(exchange: &Exchange, client: &impl Departure) -> bool {
    !matches!(exchange.request.body, BodyStore::Unread) || exchange.upstream.body.is_some() || client.body_bytes() == 0
}

/// May it be tried once more, elsewhere or there, after an attempt that may have had an effect?
pub fn may_repeat(exchange: &Exchange, client: &impl Departure) -> bool {
    is_repeatable(exchange) && has_body_still(exchange, client)
}

/// The same on a fresh connection, when nothing came back on a pooled one: an idempotency key is enough.
pub fn may_resend(exchange: &Exchange, client: &impl Departure) -> bool {
    (is_repeatable(exchange) || has_idempotency_key(exchange)) && has_body_still(exchange, client)
}
