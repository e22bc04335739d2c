// SPDX-License-Identifier: Apache-2.0
//! What does an operator ask of a balancer beyond Kong? Slow start, and the ejection of outliers; both are off unless given.

use std::time::Duration;

/// An address that came new, or turned healthy, gets its share little by little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart {
    /// After this time it has its whole weight.
    pub window: Duration,
    /// What it has at first, percent of its weight; at least 1.
    pub least_percent: u8,
}

/// An address that answers worse than others is left out for a while. A failure is an answer of 500 or more, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlier {
    /// Fewer successes than this, in percent, make it an outlier.
    pub success_rate_percent: u8,
    /// In an interval with fewer requests it is not judged.
    pub least_requests: u32,
    /// How long successes and failures are counted before they are judged.
    pub interval: Duration,
    /// How long it is left out, times how often it was, up to [`MOST_TIMES`].
    pub ejection_time: Duration,
    /// No more than this share of an Upstream's addresses is left out; one stays in any case.
    pub most_ejected_percent: u8,
}

/// An ejection lasts no longer than so many times its first time.
pub const MOST_TIMES: u16 = 10;
