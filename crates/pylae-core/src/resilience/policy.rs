// SPDX-License-Identifier: Apache-2.0
//! What does a row of the plugin `resilience` ask for? `python/pylae/plugins/resilience/config.py` declares what may stand in it.

use crate::balancer::policy::{Outlier, SlowStart};
use serde::Deserialize;
use std::time::Duration;

/// The plugin whose configuration is read here; it has no phases.
pub const PLUGIN: &str = "resilience";

/// What is to be done; all of it is off by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// Bounds retries.
    pub retry_budget: Option<BudgetRules>,
    /// Bounds an attempt.
    pub per_try_timeout: Option<PerTryTimeout>,
    /// Leaves a failing host alone.
    pub breaker: Option<BreakerRules>,
    /// Makes a second attempt beside a slow one.
    pub hedge: Option<HedgeRules>,
    /// Bounds the requests in flight.
    pub queue: Option<QueueRules>,
    /// Gives what comes into rotation its share little by little; the balancer does so.
    pub slow_start: Option<SlowStart>,
    /// Passes over what fails more often than it may; the balancer does so.
    pub outlier: Option<Outlier>,
}

/// How many requests may be sent again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetRules {
    /// Share of the window's requests, percent.
    pub percent: f64,
    /// Retries a second that are allowed in any case.
    pub least_per_s: f64,
    /// How far back is counted.
    pub window: Duration,
}

/// How long one attempt may take; the Service's timeouts bound it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerTryTimeout {
    /// To connect, TLS included.
    pub connect: Option<Duration>,
    /// From the request's last byte to the head of the answer.
    pub first_byte: Option<Duration>,
}

/// When a circuit opens, and how it closes.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerRules {
    /// Opens after so many failures in a row.
    pub failures: Option<u32>,
    /// Opens when so large a share of the window's attempts failed, percent.
    pub failure_percent: Option<f64>,
    /// Fewer attempts say nothing.
    pub least_requests: u32,
    /// How far back is counted.
    pub window: Duration,
    /// How long it stays open.
    pub open: Duration,
    /// Requests that try after that.
    pub half_open_requests: u32,
    /// Statuses that count as failures.
    pub statuses: Box<[u16]>,
}

/// When a second attempt is made beside the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HedgeRules {
    /// How long no head came.
    pub after: Duration,
    /// Attempts besides the first.
    pub most: usize,
    /// Methods of requests that may be asked twice.
    pub methods: Box<[String]>,
}

/// How many requests are in flight, and who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRules {
    /// Requests in flight.
    pub most_connections: usize,
    /// Requests that wait.
    pub most_waiting: usize,
    /// How long one waits.
    pub deadline: Duration,
}

impl Policy {
    /// Reads a plugin row's `config`; none when every part of it is off.
    ///
    /// # Errors
    /// It is not what the plugin's schema lets through.
    pub fn read(config: &[u8]) -> Result<Option<Policy>, String> {
        let config: Config = rmp_serde::from_slice(config).map_err(|error| error.to_string())?;
        let policy = Policy {
            retry_budget: config.retry_budget.map(|part| BudgetRules {
                percent: part.percent,
                least_per_s: part.least_per_s,
                window: seconds(part.window_s),
            }),
            per_try_timeout: config
                .per_try_timeout
                .map(|part| PerTryTimeout { connect: part.connect_ms.map(millis), first_byte: part.first_byte_ms.map(millis) }),
            breaker: config.circuit_breaker.map(|part| BreakerRules {
                failures: part.failures.map(|failures| failures as u32),
                failure_percent: part.failure_percent,
                least_requests: part.least_requests as u32,
                window: seconds(part.window_s),
                open: seconds(part.open_s),
                half_open_requests: part.half_open_requests as u32,
                statuses: part.statuses.iter().map(|status| *status as u16).collect(),
            }),
            hedge: config.hedge.map(|part| HedgeRules {
                after: millis(part.after_ms),
                most: part.most as usize,
                methods: part.methods.into(),
            }),
            queue: config.queue.map(|part| QueueRules {
                most_connections: part.most_connections as usize,
                most_waiting: part.most_waiting as usize,
                deadline: millis(part.deadline_ms),
            }),
            slow_start: config.slow_start.map(|part| SlowStart { window: seconds(part.window_s), least_percent: part.least_percent as u8 }),
            outlier: config.outlier_ejection.map(|part| Outlier {
                success_rate_percent: part.success_rate_percent as u8,
                least_requests: part.least_requests as u32,
                interval: seconds(part.interval_s),
                ejection_time: seconds(part.ejection_time_s),
                most_ejected_percent: part.most_ejected_percent as u8,
            }),
        };
        Ok((policy != Policy::default()).then_some(policy))
    }
}

/// The schema bounds what comes here: no overflow, nothing negative.
fn seconds(count: f64) -> Duration {
    millis(count * 1000.0)
}

fn millis(count: f64) -> Duration {
    Duration::from_millis(count as u64)
}

// As MessagePack has it: every number may come as an integer or as a float.

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    retry_budget: Option<RetryBudget>,
    per_try_timeout: Option<PerTry>,
    circuit_breaker: Option<CircuitBreaker>,
    hedge: Option<Hedge>,
    queue: Option<Queue>,
    slow_start: Option<SlowStartPart>,
    outlier_ejection: Option<OutlierEjection>,
}

#[derive(Deserialize)]
struct RetryBudget {
    percent: f64,
    least_per_s: f64,
    window_s: f64,
}

#[derive(Deserialize)]
struct PerTry {
    connect_ms: Option<f64>,
    first_byte_ms: Option<f64>,
}

#[derive(Deserialize)]
struct CircuitBreaker {
    failures: Option<f64>,
    failure_percent: Option<f64>,
    least_requests: f64,
    window_s: f64,
    open_s: f64,
    half_open_requests: f64,
    statuses: Vec<f64>,
}

#[derive(Deserialize)]
struct Hedge {
    after_ms: f64,
    most: f64,
    methods: Vec<String>,
}

#[derive(Deserialize)]
struct Queue {
    most_connections: f64,
    most_waiting: f64,
    deadline_ms: f64,
}

#[derive(Deserialize)]
struct SlowStartPart {
    window_s: f64,
    least_percent: f64,
}

#[derive(Deserialize)]
struct OutlierEjection {
    success_rate_percent: f64,
    least_requests: f64,
    interval_s: f64,
    ejection_time_s: f64,
    most_ejected_percent: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: &serde_json::Value) -> Result<Option<Policy>, String> {
        Policy::read(&rmp_serde::to_vec_named(config).expect("JSON is MessagePack too"))
    }

    #[test]
    fn test_nothing_configured_is_no_policy() {
        assert_eq!(read(&json!({})), Ok(None));
        assert_eq!(read(&json!({"retry_budget": null, "queue": null, "outlier_ejection": null})), Ok(None));
    }

    #[test]
    fn test_every_part_is_read_with_its_units() {
        let config = json!({
            "retry_budget": {"percent": 20, "least_per_s": 0.5, "window_s": 10},
            "per_try_timeout": {"connect_ms": null, "first_byte_ms": 250},
            "circuit_breaker": {"failures": 5, "failure_percent": null, "least_requests": 20, "window_s": 10, "open_s": 7,
                "half_open_requests": 2, "statuses": [503]},
            "hedge": {"after_ms": 100, "most": 1, "methods": ["GET"]},
            "queue": {"most_connections": 3, "most_waiting": 4, "deadline_ms": 500.0},
            "slow_start": {"window_s": 30, "least_percent": 10},
            "outlier_ejection": {"success_rate_percent": 90, "least_requests": 20, "interval_s": 1, "ejection_time_s": 5,
                "most_ejected_percent": 50},
        });
        let policy = read(&config).expect("it is well formed").expect("something is on");
        let expected = Policy {
            retry_budget: Some(BudgetRules { percent: 20.0, least_per_s: 0.5, window: Duration::from_secs(10) }),
            per_try_timeout: Some(PerTryTimeout { connect: None, first_byte: Some(Duration::from_millis(250)) }),
            breaker: Some(BreakerRules {
                failures: Some(5),
                failure_percent: None,
                least_requests: 20,
                window: Duration::from_secs(10),
                open: Duration::from_secs(7),
                half_open_requests: 2,
                statuses: [503].into(),
            }),
            hedge: Some(HedgeRules { after: Duration::from_millis(100), most: 1, methods: ["GET".to_owned()].into() }),
            queue: Some(QueueRules { most_connections: 3, most_waiting: 4, deadline: Duration::from_millis(500) }),
            slow_start: Some(SlowStart { window: Duration::from_secs(30), least_percent: 10 }),
            outlier: Some(Outlier {
                success_rate_percent: 90,
                least_requests: 20,
                interval: Duration::from_secs(1),
                ejection_time: Duration::from_secs(5),
                most_ejected_percent: 50,
            }),
        };
        assert_eq!(policy, expected);
    }

    #[test]
    fn test_what_the_schema_does_not_know_is_refused() {
        assert!(read(&json!({"breaker": {}})).is_err());
        assert!(read(&json!({"hedge": {"after_ms": "soon"}})).is_err());
    }
}
