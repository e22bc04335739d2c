// SPDX-License-Identifier: Apache-2.0
//! What of this is worth telling control? Records of requests, and warnings, each within bounds.

use super::head_sizes;
use super::record::{self, Kind};
use super::warnings::Gate;
use crate::config::ExplainSettings;
use crate::exchange::Exchange;
use crate::fault::{FaultKind, Side};
use crate::gateway::Gateway;
use serde_json::{Value, json};
use std::cell::{Cell, OnceCell};
use std::time::{Duration, Instant};

/// Takes an item for a channel of control; `false`: it was dropped.
pub type Sink = Box<dyn Fn(&'static str, Vec<u8>) -> bool>;

/// Where records go.
const EXPLAIN: &str = "explain";
/// Where warnings go.
const WARNINGS: &str = "warnings";
/// Records of plugins' refusals in a second: they are no failure, and may be many.
const PLUGIN_REFUSALS_A_SECOND: u32 = 100;
/// Records of other requests that were refused, in a second, for control; a flood of bad requests must not become one of records.
const REFUSALS_A_SECOND: u32 = 1000;
/// Records of marked probes in a second: whoever is behind us sees their mark and could send it again.
const PROBES_A_SECOND: u32 = 100;

/// One worker's.
pub struct Recorder {
    sink: OnceCell<Sink>,
    gate: Gate,
    sample_ratio: f64,
    /// Good requests until the next sample.
    until_sample: Cell<u32>,
    random: Cell<u64>,
    plugin_refusals: Allowance,
    refusals: Allowance,
    probes: Allowance,
    /// Heads of this size and more are looked at.
    large_head_bytes: usize,
}

/// So many in a second.
#[derive(Default)]
struct Allowance {
    since: Cell<Option<Instant>>,
    count: Cell<u32>,
}

impl Allowance {
    fn takes(&self, most: u32, now: Instant) -> bool {
        if self.since.get().is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            self.since.set(Some(now));
            self.count.set(0);
        }
        self.count.set(self.count.get().saturating_add(1));
        self.count.get() <= most
    }
}

/// The exchange is over: it is recorded if it is worth it.
pub fn finish(gateway: &Gateway, exchange: &Exchange, status: u16) {
    let recorder = &gateway.recorder;
    let is_large = exchange.request.head_bytes >= recorder.large_head_bytes
        || exchange.attempts.last().is_some_and(|attempt| attempt.head_bytes >= head_sizes::SMALLEST_OF_ANSWERS);
    if is_large {
        head_sizes::look(gateway, exchange);
    }
    let kind = match Kind::of(exchange, status) {
        Some(kind) => kind,
        None if recorder.takes_sample() => Kind::Sample,
        None => return,
    };
    let told = exchange.told_fault().map(|fault| (fault.kind, fault.kind.facts().side));
    let is_plugins = matches!(told, Some((FaultKind::PluginRefused, _)));
    // What came broken from behind is kept like a failure of ours.
    let is_failure = exchange.fault.is_some() || matches!(told, Some((_, Side::Upstream)));
    let now = Instant::now();
    let is_allowed = match kind {
        Kind::Probe => recorder.probes.takes(PROBES_A_SECOND, now),
        _ if is_plugins => recorder.plugin_refusals.takes(PLUGIN_REFUSALS_A_SECOND, now),
        Kind::Refused => recorder.refusals.takes(REFUSALS_A_SECOND, now),
        _ => true,
    };
    // A flood of what clients do wrong fills no disk.
    let to_file = is_failure && gateway.logs.keeps_failures() && (kind != Kind::Refused || is_allowed);
    let to_control = recorder.sink.get().filter(|_| is_allowed);
    if !to_file && to_control.is_none() {
        return;
    }
    let mut line = record::of(gateway, exchange, status, kind);
    if let Some(sink) = to_control {
        let mut item = format!("{} {} ", exchange.id.as_str(), kind.letter()).into_bytes();
        item.extend_from_slice(&line);
        sink(EXPLAIN, item);
    }
    if to_file {
        line.push(b'\n');
        gateway.logs.failure(&line);
    }
}

impl Recorder {
    /// Tells nobody until there is a sink. `line_bytes`: the largest header of a request that we take; `seed`: random bits.
    pub fn new(settings: &ExplainSettings, line_bytes: usize, seed: u128) -> Self {
        let recorder = Recorder {
            sink: OnceCell::new(),
            gate: Gate::default(),
            sample_ratio: settings.sample_ratio,
            until_sample: Cell::new(0),
            random: Cell::new((seed >> 64) as u64 | 1),
            plugin_refusals: Allowance::default(),
            refusals: Allowance::default(),
            probes: Allowance::default(),
            large_head_bytes: head_sizes::smallest_of_requests(line_bytes),
        };
        recorder.until_sample.set(recorder.next_gap());
        recorder
    }

    /// Who takes what is told. The first call counts.
    pub fn set_sink(&self, sink: Sink) {
        let _ = self.sink.set(sink);
    }

    /// Warns once a minute for each kind and key.
    pub fn warn(&self, kind: &'static str, key: &str, now: Instant, facts: impl FnOnce() -> Value) {
        if let Some(sink) = self.sink.get()
            && self.gate.is_due(kind, key, now)
        {
            sink(WARNINGS, json!({"kind": kind, "key": key, "facts": facts()}).to_string().into_bytes());
        }
    }

    /// Is this good request one that is recorded? One of `1 / sample_ratio`, at random, so that nothing regular hides from it.
    pub fn takes_sample(&self) -> bool {
        match self.until_sample.get() {
            0 => {
                self.until_sample.set(self.next_gap());
                self.sample_ratio > 0.0
            }
            left => {
                self.until_sample.set(left - 1);
                false
            }
        }
    }

    /// How many requests are passed over before the next sample: the mean is `1 / sample_ratio - 1`.
    fn next_gap(&self) -> u32 {
        if self.sample_ratio >= 1.0 {
            return 0;
        }
        if self.sample_ratio <= 0.0 {
            return u32::MAX;
        }
        // xorshift64 (Marsaglia, "Xorshift RNGs").
        let mut bits = self.random.get();
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        self.random.set(bits);
        // Uniform over 0 < u <= 1, then geometric.
        let uniform = ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64;
        (uniform.ln() / (1.0 - self.sample_ratio).ln()).min(f64::from(u32::MAX)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ExplainHeaders;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn recorder(sample_ratio: f64) -> Recorder {
        Recorder::new(&ExplainSettings { sample_ratio, headers: ExplainHeaders::Off, probe_key: String::new() }, 8192, 0x0123_4567 << 70)
    }

    #[test]
    fn test_samples_come_at_the_ratio_that_was_set() {
        let count = |ratio: f64| {
            let recorder = recorder(ratio);
            (0..1_000_000).filter(|_| recorder.takes_sample()).count()
        };
        assert_eq!(count(0.0), 0);
        assert_eq!(count(1.0), 1_000_000);
        for (ratio, expected) in [(0.001, 1000), (0.1, 100_000), (0.5, 500_000)] {
            let counted = count(ratio);
            assert!(counted.abs_diff(expected) < expected / 8, "{counted} of {expected}");
        }
    }

    #[test]
    fn test_a_warning_says_kind_key_and_facts_and_is_made_only_when_it_is_due() {
        let (recorder, start) = (recorder(0.0), Instant::now());
        let said: Rc<RefCell<Vec<String>>> = Rc::default();
        recorder.warn("idle_timeout", "10.0.0.1:80", start, || unreachable!("nobody hears it"));
        let sink = Rc::clone(&said);
        recorder.set_sink(Box::new(move |channel, item| {
            assert_eq!(channel, "warnings");
            sink.borrow_mut().push(String::from_utf8(item).expect("JSON"));
            true
        }));
        recorder.warn("idle_timeout", "10.0.0.1:80", start, || json!({"idle_limit_ms": 5000}));
        recorder.warn("idle_timeout", "10.0.0.1:80", start, || unreachable!("it was said just now"));
        assert_eq!(*said.borrow(), [r#"{"kind":"idle_timeout","key":"10.0.0.1:80","facts":{"idle_limit_ms":5000}}"#]);
    }
}
