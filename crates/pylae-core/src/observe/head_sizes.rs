// SPDX-License-Identifier: Apache-2.0
//! Does the head of a message come near a limit, ours or one of a load balancer or server that may stand before or behind us?

use super::record::largest_of;
use crate::exchange::{Exchange, LargestHeader, Source};
use crate::gateway::Gateway;
use crate::http::head::RESPONSE_HEAD_LIMIT_BYTES;
use serde_json::json;

/// A limit, and whose it is.
struct Limit {
    whose: &'static str,
    bytes: usize,
    /// Of one line, not of the whole head.
    is_of_line: bool,
}

const fn line(whose: &'static str, bytes: usize) -> Limit {
    Limit { whose, bytes, is_of_line: true }
}

const fn head(whose: &'static str, bytes: usize) -> Limit {
    Limit { whose, bytes, is_of_line: false }
}

/// Defaults for requests, the tightest first (nginx large_client_header_buffers, gunicorn limit_request_field_size, HAProxy
/// tune.bufsize, Node maxHeaderSize, the limits of AWS ELB).
const OF_REQUESTS: [Limit; 6] =
    [line("gunicorn", 8190), line("nginx", 8192), head("haproxy", 16_384), head("node", 16_384), line("elb", 16_384), head("elb", 65_536)];
/// Defaults for answers, met by what stands before us (nginx proxy_buffer_size).
const OF_ANSWERS: [Limit; 4] = [head("nginx", 4096), head("haproxy", 16_384), head("node", 16_384), head("elb", 65_536)];

/// A warning is due from this share of a limit on.
const fn is_near(bytes: usize, limit: usize) -> bool {
    bytes * 5 >= limit * 4
}

/// The smallest head that may be near a limit; a smaller one costs a comparison.
pub fn smallest_of_requests(our_line_bytes: usize) -> usize {
    let known = OF_REQUESTS[0].bytes;
    (if our_line_bytes < known { our_line_bytes } else { known }) / 5 * 4
}

/// The same of answers.
pub const SMALLEST_OF_ANSWERS: usize = OF_ANSWERS[0].bytes / 5 * 4;

/// Warns of a head that is near a limit.
pub fn look(gateway: &Gateway, exchange: &Exchange) {
    let Some(matched) = &exchange.matched else { return };
    let route = matched.route.id.to_string();
    let warn = |kind: &'static str, ours: &[Limit], others: &[Limit], head_bytes: usize, largest: Option<LargestHeader>| {
        let largest = largest.unwrap_or(LargestHeader { name: String::new(), bytes: 0 });
        let measured = |limit: &Limit| if limit.is_of_line { largest.bytes } else { head_bytes };
        let mut near = ours.iter().chain(others).filter(|limit| is_near(measured(limit), limit.bytes));
        let Some(first) = near.next() else { return };
        gateway.warn(kind, &route, || {
            let also: Vec<&str> = near.map(|limit| limit.whose).collect();
            json!({
                "route": route,
                "route_name": matched.route.name.as_deref().map(|name| super::masking::words(name, 128)),
                "header": largest.name,
                "header_bytes": largest.bytes,
                "bytes": measured(first),
                "limit_bytes": first.bytes,
                "is_of_line": first.is_of_line,
                "whose": first.whose,
                "also": also,
            })
        });
    };
    let (buffers, buffer_bytes) = gateway.settings.large_client_header_buffers;
    let head_bytes = exchange.request.head_bytes;
    if head_bytes >= smallest_of_requests(buffer_bytes) {
        let ours = [line("ours", buffer_bytes), head("ours", buffers * buffer_bytes)];
        warn("request_header_size", &ours, &OF_REQUESTS, head_bytes, largest_of(&exchange.request.headers));
    }
    let answer = exchange.response.as_ref().filter(|response| response.source == Source::Service);
    let head_bytes = exchange.attempts.last().map_or(0, |attempt| attempt.head_bytes);
    if let Some(answer) = answer.filter(|_| head_bytes >= SMALLEST_OF_ANSWERS) {
        // Limits of what stands before us matter only where something does.
        let headers = &exchange.request.headers;
        let is_proxied = headers.contains("x-forwarded-for") || headers.contains("via");
        let known = exchange.attempts.last().and_then(|attempt| attempt.largest_header.clone());
        warn(
            "response_header_size",
            &[head("ours", RESPONSE_HEAD_LIMIT_BYTES)],
            if is_proxied { &OF_ANSWERS } else { &[] },
            head_bytes,
            known.or_else(|| largest_of(&answer.headers)),
        );
    }
}
