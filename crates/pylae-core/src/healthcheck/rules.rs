// SPDX-License-Identifier: Apache-2.0
//! What counts for or against a Target, and how often must it happen? An Upstream's `healthchecks`, ready for use.

use crate::snapshot::model::{ActiveChecks, CheckType, HealthChecks};
use pylae_shared::health::Report;
use std::time::Duration;

/// What was observed of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status.
    Status(u16),
    /// It answered, and not in HTTP.
    NoStatus,
    /// It took a connection, which is all that was asked.
    Connected,
    /// No connection, or one that broke before an answer.
    TcpFailure,
    /// No answer in time.
    Timeout,
}

impl Outcome {
    /// What a request's answer tells: as in Kong a 504 is a timeout, for whoever sent it waited in vain.
    pub fn of_answer(status: u16) -> Self {
        if status == 504 { Outcome::Timeout } else { Outcome::Status(status) }
    }
}

/// Counts and statuses of one kind of check.
#[derive(Debug, Default)]
pub struct Limits {
    /// How many reports in a row change the state, in the order of [`Report`]; 0 switches that report off.
    counts: [u8; 4],
    healthy: Box<[u16]>,
    unhealthy: Box<[u16]>,
}

fn count(value: Option<u32>) -> u8 {
    value.unwrap_or(0).min(255) as u8
}

fn sorted(statuses: Option<&Vec<u16>>) -> Box<[u16]> {
    let mut statuses = statuses.cloned().unwrap_or_default();
    statuses.sort_unstable();
    statuses.into()
}

impl Limits {
    /// What an observation counts as, and how often it must come; `None`: it counts for nothing.
    pub fn judge(&self, outcome: Outcome) -> Option<(Report, u8)> {
        let report = match outcome {
            Outcome::Connected => Report::Success,
            Outcome::TcpFailure => Report::TcpFailure,
            Outcome::Timeout => Report::Timeout,
            Outcome::Status(status) if self.healthy.binary_search(&status).is_ok() => Report::Success,
            Outcome::Status(status) if self.unhealthy.binary_search(&status).is_ok() => Report::HttpFailure,
            Outcome::NoStatus => Report::HttpFailure,
            _ => return None,
        };
        let limit = self.counts[report as usize];
        (limit > 0).then_some((report, limit))
    }
}

/// How an Upstream's Targets are probed.
#[derive(Debug)]
pub struct Probe {
    /// What is spoken.
    pub kind: CheckType,
    /// Path asked for.
    pub path: String,
    /// Name in the TLS handshake; none: the host.
    pub server_name: Option<String>,
    /// Is the certificate verified?
    pub verify: bool,
    /// Lines beside Host and Connection.
    pub headers: Vec<(String, String)>,
    /// The Host; none: the Target's.
    pub host_header: Option<String>,
    /// Longest time for all of it.
    pub timeout: Duration,
    /// Probes of this Upstream at once.
    pub concurrency: usize,
    /// Time between probes of the healthy; none: they are not probed.
    pub healthy_every: Option<Duration>,
    /// Time between probes of the unhealthy; none: they are not probed.
    pub unhealthy_every: Option<Duration>,
    /// What counts.
    pub limits: Limits,
}

impl Probe {
    fn new(checks: &ActiveChecks, host_header: Option<&str>) -> Option<Self> {
        let every = |seconds: Option<f64>| seconds.filter(|&s| s > 0.0).and_then(|s| Duration::try_from_secs_f64(s).ok());
        let (healthy_every, unhealthy_every) = (every(checks.healthy.interval), every(checks.unhealthy.interval));
        if healthy_every.is_none() && unhealthy_every.is_none() {
            return None;
        }
        let headers = checks.headers.iter().flatten();
        Some(Probe {
            kind: checks.check_type.unwrap_or(CheckType::Http),
            path: checks.http_path.clone().unwrap_or_else(|| "/".to_owned()),
            server_name: checks.https_sni.clone(),
            verify: checks.https_verify_certificate,
            headers: headers.flat_map(|(name, values)| values.iter().map(|value| (name.clone(), value.clone()))).collect(),
            host_header: host_header.map(str::to_owned),
            timeout: checks.timeout.and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or(Duration::from_secs(1)),
            concurrency: usize::try_from(checks.concurrency.unwrap_or(10)).unwrap_or(usize::MAX).max(1),
            healthy_every,
            unhealthy_every,
            limits: Limits {
                counts: [
                    count(checks.healthy.successes),
                    count(checks.unhealthy.tcp_failures),
                    count(checks.unhealthy.timeouts),
                    count(checks.unhealthy.http_failures),
                ],
                healthy: sorted(checks.healthy.http_statuses.as_ref()),
                unhealthy: sorted(checks.unhealthy.http_statuses.as_ref()),
            },
        })
    }
}

/// The rules of one Upstream.
#[derive(Debug)]
pub struct Rules {
    /// Is health looked at? By Kong's rule: an interval of active checks, or a passive count of failures, is above 0.
    pub is_on: bool,
    /// Percent of the weight that must be healthy, and more than that.
    pub threshold_percent: f64,
    /// What requests tell.
    pub passive: Limits,
    /// Probes; none when both intervals are 0.
    pub probe: Option<Probe>,
}

impl Rules {
    /// The rules of an Upstream with this `host_header`.
    pub fn new(checks: &HealthChecks, host_header: Option<&str>) -> Self {
        let (healthy, unhealthy) = (&checks.passive.healthy, &checks.passive.unhealthy);
        let passive = Limits {
            counts: [count(healthy.successes), count(unhealthy.tcp_failures), count(unhealthy.timeouts), count(unhealthy.http_failures)],
            healthy: sorted(healthy.http_statuses.as_ref()),
            unhealthy: sorted(unhealthy.http_statuses.as_ref()),
        };
        let probe = Probe::new(&checks.active, host_header);
        let is_on = probe.is_some() || passive.counts[1..].iter().any(|&count| count > 0);
        Rules { is_on, threshold_percent: checks.threshold.unwrap_or(0.0), passive, probe }
    }

    /// Rules that look at nothing.
    pub fn off() -> Self {
        Rules { is_on: false, threshold_percent: 0.0, passive: Limits::default(), probe: None }
    }
}
