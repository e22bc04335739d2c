// SPDX-License-Identifier: Apache-2.0
//! What happened to this request? One JSON object with the facts: who asked what, the way it took, and where and how it ended.
//!
//! Bounded whatever a client, a plugin or an upstream sends: each text has a limit, and a record that would still be too large
//! loses its headers first, then the steps of plugins, then the attempts between the first and the last.

mod attempts;
mod client;
mod configuration;
#[cfg(test)]
pub(crate) mod examples;
mod sample;
#[cfg(test)]
mod tests;
mod walk;

pub(super) use client::largest_of;

use super::masking::{text, words};
use crate::clock::rfc3339_ms;
use crate::exchange::{Attempt, Exchange, Source, StepOutcome};
use crate::fault::{Fault, FaultKind, Side};
use crate::gateway::Gateway;
use crate::http::head::{RESPONSE_HEAD_LIMIT_BYTES, parse_length};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// Longest record.
pub const LIMIT_BYTES: usize = 16 * 1024;
/// Longest record of a request that went well.
pub const SAMPLE_LIMIT_BYTES: usize = 1024;
/// Longest text of ours in it.
const WORDS_LIMIT: usize = 512;

/// Why a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It failed: by us, by a plugin, by the upstream, or the client left.
    Failed,
    /// The client was refused what it asked.
    Refused,
    /// It went well, after an attempt that failed.
    Recovered,
    /// It is a marked probe.
    Probe,
    /// It went well; one of many.
    Sample,
}

impl Kind {
    /// As records spell it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Failed => "failed",
            Kind::Refused => "refused",
            Kind::Recovered => "recovered",
            Kind::Probe => "probe",
            Kind::Sample => "sample",
        }
    }

    /// As stream items spell it.
    pub fn letter(self) -> char {
        match self {
            Kind::Failed => 'F',
            Kind::Refused => 'R',
            Kind::Recovered => 'V',
            Kind::Probe => 'P',
            Kind::Sample => 'S',
        }
    }

    /// Why this exchange is kept, unless it is just one that went well.
    pub fn of(exchange: &Exchange, status: u16) -> Option<Kind> {
        if exchange.probe.is_some() {
            return Some(Kind::Probe);
        }
        match exchange.told_fault() {
            Some(fault) if fault.kind == FaultKind::PluginRefused => Some(if status >= 500 { Kind::Failed } else { Kind::Refused }),
            Some(fault) if fault.kind.facts().side == Side::Client && fault.kind != FaultKind::ClientGone => Some(Kind::Refused),
            Some(_) => Some(Kind::Failed),
            None if status >= 500 => Some(Kind::Failed),
            None if exchange.attempts.iter().any(|attempt| attempt.fault.is_some()) => Some(Kind::Recovered),
            None => None,
        }
    }
}

/// The record as JSON on one line, without the newline.
pub fn of(gateway: &Gateway, exchange: &Exchange, status: u16, kind: Kind) -> Vec<u8> {
    if kind == Kind::Sample {
        return sample::of(exchange, status);
    }
    let mut record = whole(gateway, exchange, status, kind);
    fit(&mut record, LIMIT_BYTES, &[leave_out_headers, leave_out_steps, leave_out_attempts, leave_out_all_but_the_fault])
}

type Shrink = fn(&mut Map<String, Value>);

/// The record within a limit: what is dropped first stands first.
fn fit(record: &mut Map<String, Value>, limit: usize, shrinks: &[Shrink]) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).unwrap_or_default();
    for shrink in shrinks {
        if line.len() <= limit {
            break;
        }
        shrink(record);
        line = serde_json::to_vec(record).unwrap_or_default();
    }
    line
}

fn leave_out_headers(record: &mut Map<String, Value>) {
    if let Some(Value::Object(request)) = record.get_mut("request") {
        let count = request.remove("headers").and_then(|headers| headers.as_array().map(Vec::len)).unwrap_or(0);
        let before = request.get("headers_left_out").and_then(Value::as_u64).unwrap_or(0);
        request.insert("headers_left_out".into(), (before + count as u64).into());
    }
}

fn leave_out_steps(record: &mut Map<String, Value>) {
    if let Some(Value::Array(steps)) = record.get_mut("plugins") {
        let count = steps.len();
        // Those that did more than to let it pass are few, and why the record is read.
        steps.retain(|step| step["outcome"] != "continue");
        steps.truncate(4);
        let left_out = count - steps.len();
        record.insert("plugins_left_out".into(), left_out.into());
    }
}

fn leave_out_attempts(record: &mut Map<String, Value>) {
    if let Some(Value::Array(attempts)) = record.get_mut("attempts")
        && attempts.len() > 2
    {
        let count = attempts.len() - 2;
        attempts.drain(1..=count);
        record.insert("attempts_left_out".into(), count.into());
    }
}

fn leave_out_all_but_the_fault(record: &mut Map<String, Value>) {
    record.retain(|key, value| !value.is_object() && !value.is_array() || matches!(key.as_str(), "client" | "milestones"));
}

fn whole(gateway: &Gateway, exchange: &Exchange, status: u16, kind: Kind) -> Map<String, Value> {
    let mut record = beginning(exchange, status, kind);
    if let Some(fault) = exchange.told_fault() {
        insert_fault(&mut record, fault);
        record.insert("between".into(), between(exchange, fault).into());
        record.insert("phase".into(), walk::phase_of(exchange, fault).into());
    }
    put(&mut record, "probe", exchange.probe.as_deref());
    record.insert("request".into(), client::request(gateway, exchange));
    record.insert("client".into(), client::client(exchange));
    put(&mut record, "route", configuration::route(exchange));
    put(&mut record, "service", configuration::service(gateway, exchange));
    put(&mut record, "upstream", configuration::upstream(gateway, exchange));
    record.insert("plugins".into(), configuration::steps(exchange).into());
    let (answered_by, plugin) = who_answered(exchange);
    record.insert("answered_by".into(), answered_by.into());
    put(&mut record, "plugin", plugin);
    record.insert("attempts".into(), exchange.attempts.iter().map(|attempt| attempts::of(exchange, attempt)).collect());
    put(&mut record, "answer", answer(exchange));
    insert_end(&mut record, exchange);
    record
}

fn beginning(exchange: &Exchange, status: u16, kind: Kind) -> Map<String, Value> {
    let version = &exchange.snapshot.version;
    let mut record = Map::new();
    record.insert("time".into(), rfc3339_ms(exchange.started_at_ms).into());
    record.insert("request_id".into(), exchange.id.as_str().into());
    record.insert("kind".into(), kind.name().into());
    record.insert("status".into(), status.into());
    record.insert("config".into(), format!("{}:{}", words(&version.database_id, 64), version.sequence).into());
    record
}

fn insert_end(record: &mut Map<String, Value>, exchange: &Exchange) {
    let moments = &exchange.moments;
    let since = |moment: Option<Instant>| moment.map(|moment| ms(moment.saturating_duration_since(exchange.started)));
    let mut milestones = Map::new();
    put(&mut milestones, "queued_ms", since(moments.queued));
    put(&mut milestones, "attempt_ms", since(moments.attempt_started));
    put(&mut milestones, "head_ms", since(moments.head_received));
    put(&mut milestones, "answer_ms", since(moments.answer_started));
    record.insert("milestones".into(), milestones.into());
    record.insert("sent_bytes".into(), exchange.sent_bytes.into());
    record.insert("sent_body_bytes".into(), exchange.sent_body_bytes.into());
    record.insert("duration_ms".into(), ms(exchange.started.elapsed()));
}

fn insert_fault(map: &mut Map<String, Value>, fault: &Fault) {
    let facts = fault.kind.facts();
    map.insert("fault".into(), facts.name.into());
    map.insert("side".into(), facts.side.name().into());
    map.insert("room".into(), facts.room.into());
    insert_words(map, fault);
    map.insert("may_have_acted".into(), facts.may_have_acted.into());
    map.insert("response_flag".into(), facts.response_flag.into());
    map.insert("tyk_flag".into(), facts.tyk_flag.into());
    map.insert("proxy_status".into(), facts.proxy_status.into());
    map.insert("cure".into(), facts.cure.into());
}

fn insert_words(map: &mut Map<String, Value>, fault: &Fault) {
    map.insert("phrase".into(), words(fault.phrase(), WORDS_LIMIT).into());
    if !fault.detail.is_empty() {
        map.insert("detail".into(), words(&fault.detail, WORDS_LIMIT).into());
    }
}

/// Between whom it happened.
fn between(exchange: &Exchange, fault: &Fault) -> String {
    match fault.kind.facts().side {
        Side::Client => format!("{} -> gateway", exchange.connection.peer),
        Side::Gateway => "gateway".to_owned(),
        Side::Upstream => match exchange.attempts.last() {
            Some(Attempt { address: Some(address), .. }) => format!("gateway -> {address}"),
            Some(attempt) => format!("gateway -> {}", words(&attempt.host, 256)),
            None => format!("gateway -> {}", words(&exchange.upstream.target_host, 256)),
        },
    }
}

/// Who made the answer that the client got, and the plugin that answered or failed.
fn who_answered(exchange: &Exchange) -> (&'static str, Option<String>) {
    let step = exchange.steps.iter().rev().find(|step| matches!(step.outcome, StepOutcome::Answered(_) | StepOutcome::Failed(_)));
    let plugin = step.map(|step| words(&step.instance.name, 128));
    let has_answered = exchange.moments.answer_started.is_some();
    let by = match exchange.response.as_ref().filter(|_| has_answered) {
        None => "nobody",
        Some(response) if response.source == Source::Service => "upstream",
        Some(_) if exchange.fault.is_none() && step.is_some_and(|step| matches!(step.outcome, StepOutcome::Answered(_))) => "plugin",
        Some(_) => "gateway",
    };
    (by, plugin)
}

/// What the upstream's answer says of itself: a few fields, and who seems to have written it.
fn answer(exchange: &Exchange) -> Option<Value> {
    let response = exchange.response.as_ref().filter(|response| response.source == Source::Service)?;
    let mut answer = Map::new();
    let field = |name: &str| response.headers.get(name).map(|value| text(value, 256));
    put(&mut answer, "server", field("server"));
    put(&mut answer, "via", field("via"));
    put(&mut answer, "proxy_status", field("proxy-status"));
    put(&mut answer, "content_type", field("content-type"));
    put(&mut answer, "retry_after", field("retry-after"));
    put(&mut answer, "length", response.headers.get("content-length").and_then(parse_length));
    if let Some(author) = &exchange.author {
        answer.insert("written_by".into(), author.name.into());
        answer.insert("mark".into(), words(&author.mark, 160).into());
    }
    if let Some(attempt) = exchange.attempts.last().filter(|attempt| attempt.head_bytes > 0) {
        answer.insert("head_bytes".into(), attempt.head_bytes.into());
        put(&mut answer, "largest_header", attempts::largest_header(attempt.largest_header.as_ref()));
        answer.insert("head_limit_bytes".into(), RESPONSE_HEAD_LIMIT_BYTES.into());
    }
    Some(answer.into())
}

/// Puts down what is known.
fn put(map: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        map.insert(key.into(), value.into());
    }
}

/// Milliseconds with three decimals.
fn ms(duration: Duration) -> Value {
    rounded(duration.as_secs_f64() * 1000.0)
}

fn rounded(ms: f64) -> Value {
    json!((ms * 1000.0).round() / 1000.0)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
