// SPDX-License-Identifier: Apache-2.0
//! What does the client see? Bodies the gateway makes, and the head of every answer, written anew.

pub mod body;

use crate::config::AddedHeaders;
use crate::exchange::{Exchange, Source, Version};
use crate::fault::{Fault, FaultKind};
use crate::http::head::Framing;
use crate::http::headers::write_field;
use std::time::Instant;

/// Most characters of what was found that go into `Proxy-Status`.
const DETAILS_LIMIT_CHARACTERS: usize = 200;

/// How the answer's body is framed towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFraming {
    /// No body, and no length to state.
    None,
    /// A length stated, no body follows (HEAD, 304).
    Stated(u64),
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the connection closes.
    UntilClose,
}

/// Chooses the framing for an answer whose body is framed so upstream.
pub fn client_framing(
    version: Version,
    is_head: bool,
    status: u16,
    upstream: Framing,
    length_field: Option<u64>,
    is_filtered: bool,
) -> ClientFraming {
    if status == 204 || status < 200 {
        return ClientFraming::None;
    }
    if is_head || status == 304 {
        return match (upstream, length_field) {
            (Framing::Length(length), _) => ClientFraming::Stated(length),
            (_, Some(length)) => ClientFraming::Stated(length),
            _ => ClientFraming::None,
        };
    }
    match upstream {
        Framing::None => ClientFraming::Length(0),
        Framing::Length(length) if !is_filtered => ClientFraming::Length(length),
        _ if version == Version::Http11 => ClientFraming::Chunked,
        _ => ClientFraming::UntilClose,
    }
}

/// nginx's reason phrases.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Time-out",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        415 => "Unsupported Media Type",
        416 => "Requested Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

/// What the writer of a head needs to know beside the exchange.
pub struct HeadFacts<'a> {
    /// Headers the gateway adds.
    pub added: AddedHeaders,
    /// `pylae/<version>`.
    pub token: &'a str,
    /// Framing of the body.
    pub framing: ClientFraming,
    /// Does the connection carry another request?
    pub keep_alive: bool,
    /// May Kong-Debug be answered?
    pub allow_debug: bool,
    /// Is the client told of a fault?
    pub tells_fault: bool,
}

/// Fields of an upstream's answer that are written anew or end here.
fn is_rewritten(name: &[u8], added: AddedHeaders, is_proxied: bool) -> bool {
    match name.len() {
        2 => name.eq_ignore_ascii_case(b"te"),
        3 => is_proxied && added.via && name.eq_ignore_ascii_case(b"via"),
        7 => name.eq_ignore_ascii_case(b"trailer"),
        10 => name.eq_ignore_ascii_case(b"connection") || name.eq_ignore_ascii_case(b"keep-alive"),
        14 => name.eq_ignore_ascii_case(b"content-length"),
        16 => name.eq_ignore_ascii_case(b"proxy-connection"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding") || (added.request_id && name.eq_ignore_ascii_case(b"x-kong-request-id")),
        20 => added.proxy_latency && name.eq_ignore_ascii_case(b"x-kong-proxy-latency"),
        22 => added.upstream_status && name.eq_ignore_ascii_case(b"x-kong-upstream-status"),
        23 => {
            added.upstream_latency && name.eq_ignore_ascii_case(b"x-kong-upstream-latency")
                || name.eq_ignore_ascii_case(b"x-kong-response-latency")
        }
        _ => name.len() > 8 && name[..8].eq_ignore_ascii_case(b"x-accel-"),
    }
}

/// Writes the head of the exchange's answer. An answer is "proxied" when an attempt was made: then `Via` and the two
/// latencies are added, else the response latency and `Date`.
pub fn write_head(out: &mut Vec<u8>, exchange: &Exchange, facts: &HeadFacts<'_>, clock: &crate::clock::Clock) {
    let Some(response) = &exchange.response else { return };
    let mut digits = itoa::Buffer::new();
    let is_proxied = exchange.moments.attempt_started.is_some();
    let is_service = response.source == Source::Service;
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(digits.format(response.status).as_bytes());
    out.push(b' ');
    match &response.reason {
        Some(reason) => out.extend_from_slice(reason),
        None => out.extend_from_slice(reason(response.status).as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
    if !is_service && !response.headers.contains("date") {
        clock.with_http_date(|date| write_field(out, b"Date", date.as_bytes()));
    }
    let told_fault = if facts.tells_fault { exchange.told_fault() } else { None };
    let mut has_server = false;
    let mut via: Vec<u8> = Vec::new();
    for (name, value) in response.headers.iter() {
        if is_rewritten(name, facts.added, is_proxied) {
            if name.len() == 3 {
                if !via.is_empty() {
                    via.extend_from_slice(b", ");
                }
                via.extend_from_slice(value);
            }
            continue;
        }
        if told_fault.is_some() && name.eq_ignore_ascii_case(b"x-pylae-fault") {
            // One of a gateway behind: ours is said in its place, as it is in the access line.
            continue;
        }
        has_server |= name.len() == 6 && name.eq_ignore_ascii_case(b"server");
        write_field(out, name, value);
    }
    match facts.framing {
        ClientFraming::Length(length) | ClientFraming::Stated(length) => {
            write_field(out, b"Content-Length", digits.format(length).as_bytes());
        }
        ClientFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        ClientFraming::None | ClientFraming::UntilClose => {}
    }
    out.extend_from_slice(if facts.keep_alive { b"Connection: keep-alive\r\n" } else { b"Connection: close\r\n" });
    if response.status == 426 {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
    }
    if is_proxied {
        let started = exchange.moments.attempt_started.unwrap_or(exchange.started);
        if facts.added.upstream_latency {
            let until = exchange.moments.head_received.unwrap_or_else(Instant::now);
            write_field(out, b"X-Kong-Upstream-Latency", digits.format(until.saturating_duration_since(started).as_millis()).as_bytes());
        }
        if facts.added.proxy_latency {
            write_field(
                out,
                b"X-Kong-Proxy-Latency",
                digits.format(started.saturating_duration_since(exchange.started).as_millis()).as_bytes(),
            );
        }
        if facts.added.via {
            if !via.is_empty() {
                via.extend_from_slice(b", ");
            }
            out.extend_from_slice(b"Via: ");
            out.extend_from_slice(&via);
            out.extend_from_slice(b"1.1 ");
            out.extend_from_slice(facts.token.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    } else if facts.added.response_latency {
        write_field(out, b"X-Kong-Response-Latency", digits.format(exchange.started.elapsed().as_millis()).as_bytes());
    }
    if facts.added.upstream_status
        && let Some(status) = response.status_of_upstream
    {
        write_field(out, b"X-Kong-Upstream-Status", digits.format(status).as_bytes());
    }
    if facts.added.server && !has_server {
        write_field(out, b"Server", facts.token.as_bytes());
    }
    if facts.added.request_id {
        write_field(out, b"X-Kong-Request-Id", exchange.id.as_str().as_bytes());
    }
    if let Some(fault) = told_fault {
        write_fault(out, response.status_of_upstream, fault);
    }
    if facts.allow_debug && exchange.request.headers.contains("kong-debug") {
        write_debug(out, exchange);
    }
    out.extend_from_slice(b"\r\n");
}

/// `Proxy-Status` (RFC 9209) and the fault's name. A list of a server behind stands before: ours is appended to it.
fn write_fault(out: &mut Vec<u8>, status_of_upstream: Option<u16>, fault: &Fault) {
    let kind = fault.kind.facts();
    let mut status = String::from("pylae");
    if kind.proxy_status != "-" {
        status.push_str("; error=");
        status.push_str(kind.proxy_status);
    }
    if let Some(received) = status_of_upstream {
        status.push_str("; received-status=");
        status.push_str(itoa::Buffer::new().format(received));
    }
    status.push_str("; details=\"");
    // What a plugin raised, or we did, may quote what no client should see.
    let details = match fault.kind {
        FaultKind::PluginFailed | FaultKind::IdentitySystemFailed | FaultKind::FilterFailed | FaultKind::Panicked => kind.phrase,
        _ if fault.detail.is_empty() => fault.phrase(),
        _ => &*fault.detail,
    };
    for character in details.chars().take(DETAILS_LIMIT_CHARACTERS) {
        match character {
            // RFC 8941 §3.3.3.
            '"' | '\\' => status.extend(['\\', character]),
            ' '..='~' => status.push(character),
            _ => status.push('?'),
        }
    }
    status.push('"');
    write_field(out, b"Proxy-Status", status.as_bytes());
    write_field(out, b"X-Pylae-Fault", kind.name.as_bytes());
}

fn write_debug(out: &mut Vec<u8>, exchange: &Exchange) {
    let Some(matched) = &exchange.matched else { return };
    write_field(out, b"Kong-Route-Id", matched.route.id.to_string().as_bytes());
    if let Some(name) = &matched.route.name {
        write_field(out, b"Kong-Route-Name", name.as_bytes());
    }
    if let Some(service) = &matched.service {
        write_field(out, b"Kong-Service-Id", service.id.to_string().as_bytes());
        if let Some(name) = &service.name {
            write_field(out, b"Kong-Service-Name", name.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;
    use crate::observe::record::examples;

    fn head(tells_fault: bool, arrange: impl FnOnce(&mut Exchange)) -> String {
        let gateway = examples::gateway();
        let mut exchange = examples::exchange(&gateway);
        exchange.response = Some(examples::answer(502, Source::Error));
        arrange(&mut exchange);
        let facts = HeadFacts {
            added: gateway.added,
            token: "pylae/1",
            framing: ClientFraming::Length(0),
            keep_alive: true,
            allow_debug: false,
            tells_fault,
        };
        let mut out = Vec::new();
        write_head(&mut out, &exchange, &facts, &gateway.logs.clock);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn test_a_fault_is_told_in_the_head_where_it_is_asked_for() {
        let failed = |exchange: &mut Exchange| exchange.fault = Some(FaultKind::ConnectRefused.into());
        let told = head(true, failed);
        assert!(told.contains(
            "\r\nProxy-Status: pylae; error=connection_refused; details=\"connect() failed (111: Connection refused)\"\r\n\
             X-Pylae-Fault: connect_refused\r\n"
        ));
        for quiet in [head(false, failed), head(true, |_| {})] {
            assert!(!quiet.contains("Proxy-Status") && !quiet.contains("X-Pylae-Fault"));
        }
    }

    #[test]
    fn test_what_was_found_cannot_break_out_of_the_head() {
        let told = head(true, |exchange| {
            exchange.fault =
                Some(Fault::new(FaultKind::BadResponse, format!("a \"line\" \\ \r\nSet-Cookie: x=y\u{e9}{}", "z".repeat(9000))));
        });
        assert!(told.contains(r#"details="a \"line\" \\ ??Set-Cookie: x=y?zzz"#));
        assert!(!told.contains("\nSet-Cookie"));
        assert!(told.len() < 1000);
    }

    #[test]
    fn test_the_status_list_of_a_server_behind_stands_before_ours_and_its_fault_is_replaced() {
        let told = head(true, |exchange| {
            let mut response = examples::answer(502, Source::Service);
            response.headers.add("Proxy-Status", "inner; error=dns_error");
            response.headers.add("x-pylae-fault", "dns_failed");
            exchange.response = Some(response);
            exchange.noticed = Some(FaultKind::BadGatewayBehind.into());
        });
        let lines: Vec<&str> =
            told.lines().filter(|line| line.starts_with("Proxy-Status") || line.to_lowercase().contains("pylae-fault")).collect();
        assert_eq!(
            lines,
            [
                "Proxy-Status: inner; error=dns_error",
                "Proxy-Status: pylae; received-status=502; details=\"upstream answered 502\"",
                "X-Pylae-Fault: bad_gateway_behind",
            ]
        );
    }
}
