// SPDX-License-Identifier: Apache-2.0
//! Who is quicker of two? Two addresses are drawn by weight; the one with the lower latency × (requests in flight + 1) / weight
//! takes the request, of two idle ones the quicker, and the first drawn when neither is by a tenth: so equals share by weight.
//! The latency is a peak EWMA: it rises at once and falls with a decay of 10 s, also while nobody asks.
//!
//! Two are compared and not all, so that the herd does not run to the one that was quickest last (Mitzenmacher, "The Power of
//! Two Choices in Randomized Load Balancing", 2001).

use super::peer::Candidate;
use super::{Candidates, mix};
use std::time::Duration;

pub(super) fn choose(candidates: &Candidates<'_>, turn: u64, now: Duration) -> Option<usize> {
    let total: u64 = candidates.iter().map(|(_, peer)| peer.weight).sum();
    let (first_at, first) = draw(candidates, mix(turn), total, None)?;
    let rest = total - first.weight;
    let Some((second_at, second)) = draw(candidates, mix(turn ^ 0x9e37_79b9_7f4a_7c15), rest, Some(first_at)) else {
        return Some(first_at);
    };
    let (one, two) = (first.load.expected_ns(now), second.load.expected_ns(now));
    // Of whom nothing is known the best is not thought: it is taken to be as the other.
    let (one, two) = (one.or(two).unwrap_or(1.0), two.or(one).unwrap_or(1.0));
    let cost = |peer: Candidate<'_>, latency: f64| latency.max(1.0) * f64::from(peer.load.in_flight() + 1) * peer.weight_inverse;
    let is_idle = first.load.in_flight() == 0 && second.load.in_flight() == 0;
    // Both were drawn by weight already.
    let is_first = if is_idle { one <= two * 1.1 } else { cost(first, one) <= cost(second, two) };
    Some(if is_first { first_at } else { second_at })
}

/// One by weight; `total` is the weight of all but `without`.
fn draw<'a>(candidates: &Candidates<'a>, random: u64, total: u64, without: Option<usize>) -> Option<(usize, Candidate<'a>)> {
    let mut left = ((u128::from(random) * u128::from(total)) >> 64) as u64;
    candidates.iter().filter(|(at, _)| Some(*at) != without).find(|(_, peer)| {
        let weight = peer.weight;
        let is_here = left < weight;
        left = left.saturating_sub(weight);
        is_here
    })
}
