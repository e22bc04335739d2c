// SPDX-License-Identifier: Apache-2.0
//! Where in the walk did it fail?

use crate::exchange::{Attempt, Exchange, Station, StepOutcome};
use crate::fault::Fault;
use crate::phases::Phase;
use crate::upstream::dns::is_address;

/// The phase of the walk in which a fault was born: where the kind does not say it, where the request was.
pub fn phase_of(exchange: &Exchange, fault: &Fault) -> &'static str {
    let facts = fault.kind.facts();
    match (facts.room, facts.name) {
        ("listener", _) => "accept",
        ("tls", _) => "client_tls",
        (_, "client_gone" | "panicked") => station(exchange),
        (_, "bad_request_body" | "request_body_too_large") => "read_body",
        (_, "request_timeout") if exchange.station != Station::ReadRequest => "read_body",
        ("http", _) => "read_request",
        ("router", _) => "route",
        ("phases", _) => of_plugin(exchange),
        (_, "queue_full" | "queue_timeout") => "queue",
        ("resilience" | "balancer", _) => "choose_target",
        (_, "dns_failed" | "resolver_failed") => "resolve",
        (_, "connect_refused" | "connect_failed" | "connect_timeout") => "connect",
        (_, "upstream_tls_failed" | "upstream_certificate_rejected" | "upstream_wants_certificate") => "tls_handshake",
        (_, "write_failed" | "write_timeout" | "connection_dead") => "send_request",
        (_, "closed_before_headers" | "reset" | "read_timeout") => {
            if exchange.attempts.last().is_some_and(|attempt| attempt.received_bytes > 0) { "read_answer" } else { "wait_for_answer" }
        }
        (_, "spool_failed") if exchange.station == Station::ReadBody => "read_body",
        ("response", _) => "filter",
        // Of the upstream's answer, whole or not.
        _ => "read_answer",
    }
}

fn of_plugin(exchange: &Exchange) -> &'static str {
    let step = exchange.steps.iter().rev().find(|step| matches!(step.outcome, StepOutcome::Answered(_) | StepOutcome::Failed(_)));
    match step.map(|step| step.phase) {
        Some(Phase::Rewrite) => "rewrite",
        Some(Phase::Response | Phase::HeaderFilter | Phase::BodyFilter) => "filter",
        _ => "access",
    }
}

fn station(exchange: &Exchange) -> &'static str {
    match exchange.station {
        Station::ReadRequest => "read_request",
        Station::Rewrite => "rewrite",
        Station::Route => "route",
        Station::Access => "access",
        Station::ReadBody => "read_body",
        Station::Attempts => at_upstreams(exchange),
        Station::ReadAnswer => "read_answer",
        Station::Filter => "filter",
        Station::SendAnswer => "send_answer",
    }
}

fn at_upstreams(exchange: &Exchange) -> &'static str {
    if exchange.moments.queued.is_some() {
        return "queue";
    }
    match exchange.attempts.last() {
        None if is_address(&exchange.upstream.target_host).is_none() => "resolve",
        None => "choose_target",
        // It failed, and another one was about to begin.
        Some(Attempt { fault: Some(_), .. }) => "choose_target",
        Some(attempt) if attempt.connect_ms.is_none() && attempt.reused.is_none() => "connect",
        Some(attempt) if attempt.received_bytes > 0 || attempt.first_byte_at.is_some() => "read_answer",
        Some(attempt) if attempt.request_bytes.is_some_and(|all| attempt.sent_bytes < all) => "send_request",
        Some(_) => "wait_for_answer",
    }
}
