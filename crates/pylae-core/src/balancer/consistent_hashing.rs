// SPDX-License-Identifier: Apache-2.0
//! Whose key is this? Weighted rendezvous: each Target throws a die that the key and the Target alone decide; the best throw,
//! by weight, has the key (Thaler, Ravishankar 1998; weights: Schindelhauer, Schomaker 2005).
//!
//! Why not a ring (ketama, as Kong) or a table (Maglev): a key moves only when its own Target goes or a new one wins it, so
//! adding one to n moves 1/(n+1) of the keys and not one more, exactly by weight; a ring of 160 points a Target is off by
//! some 8 %. When a Target is out, its keys spread over all others by weight, where a ring gives them to a few
//! neighbours; and 10,000 Upstreams need no 10,000 rings of `slots` entries (Kong's default would be 800 MB), nor a rebuild
//! when a Target comes. The price is a throw for each Target: 10 cost less than a microsecond (`balancer/tests.rs` holds it to
//! that), 1,000 some 25 (dev profile). `slots` therefore has nothing to size and no effect. A key does not keep the Target a Kong ring gave it.

use super::peer::Candidate;
use super::{Candidates, mix};

/// The Target of a key's hash.
pub(super) fn choose(candidates: &Candidates<'_>, hash: u64, is_even: bool) -> Option<usize> {
    let throws = candidates.iter().map(|(at, peer)| (at, peer, mix(hash ^ peer.seed)));
    if is_even {
        return throws.max_by_key(|(.., throw)| *throw).map(|(at, ..)| at);
    }
    // The greatest weight / -log(unit) is the least -log(unit) / weight.
    let loss = |peer: Candidate<'_>, throw: u64| -log2(unit(throw)) * peer.weight_inverse;
    throws.map(|(at, peer, throw)| (at, loss(peer, throw))).min_by(|(_, one), (_, two)| one.total_cmp(two)).map(|(at, _)| at)
}

/// Between 0 and 1, neither of them.
fn unit(throw: u64) -> f64 {
    ((throw >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// The logarithm of a positive normal number, within 1e-9: a tenth of the library's cost, and the same on every machine, on
/// which it depends that nodes agree.
fn log2(number: f64) -> f64 {
    const TWO_OF_LN_2: f64 = 2.0 / std::f64::consts::LN_2;
    let bits = number.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as f64 - 1023.0;
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    // ln(m / √2) = 2 atanh((m - √2) / (m + √2)), of which the series converges fast: the argument is below 0.172.
    let s = (mantissa - std::f64::consts::SQRT_2) / (mantissa + std::f64::consts::SQRT_2);
    let square = s * s;
    let series = 1.0 + square * (1.0 / 3.0 + square * (1.0 / 5.0 + square * (1.0 / 7.0 + square * (1.0 / 9.0 + square / 11.0))));
    exponent + 0.5 + TWO_OF_LN_2 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_the_logarithm_is_near_enough() {
        for step in 1..10_000u64 {
            for number in [step as f64 / 10_000.0, unit(step), unit(u64::MAX - (step << 20)), step as f64] {
                assert!((log2(number) - number.log2()).abs() < 1e-9, "{number}");
            }
        }
        assert!(log2(unit(u64::MAX)) < 0.0 && log2(unit(0)) > -60.0);
    }
}
