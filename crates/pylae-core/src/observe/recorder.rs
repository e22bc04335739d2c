// SPDX-License-Identifier: Apache-2.0
//! What of this is worth telling control? Records of requests, and warnings, each within bounds.

use super::warnings::Gate;
use crate::config::ExplainSettings;
use serde_json::{Value, json};
use std::cell::{Cell, OnceCell};
use std::time::Instant;

/// Takes an item for a channel of control; `false`: it was dropped.
pub type Sink = Box<dyn Fn(&'static str, Vec<u8>) -> bool>;

/// Where warnings go.
const WARNINGS: &str = "warnings";

/// One worker's.
pub struct Recorder {
    sink: OnceCell<Sink>,
    gate: Gate,
    sample_ratio: f64,
    /// Good requests until the next sample.
    until_sample: Cell<u32>,
    random: Cell<u64>,
}

impl Recorder {
    /// Tells nobody until there is a sink. `seed`: random bits.
    pub fn new(settings: &ExplainSettings, seed: u128) -> Self {
        let recorder = Recorder {
            sink: OnceCell::new(),
            gate: Gate::default(),
            sample_ratio: settings.sample_ratio,
            until_sample: Cell::new(0),
            random: Cell::new((seed >> 64) as u64 | 1),
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
        Recorder::new(&ExplainSettings { sample_ratio, headers: ExplainHeaders::Off, probe_key: String::new() }, 0x0123_4567 << 70)
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
