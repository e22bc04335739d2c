// SPDX-License-Identifier: Apache-2.0
//! Whose turn is it? Smooth weighted round robin: with weights 5, 1, 1 the heavy one's turns are spread (a a b a c a a), not
//! bunched. `slots` has no part in it: shares are exact.

use super::Candidates;
use super::peer::Candidate;
use std::sync::atomic::Ordering;

/// Each is owed its weight more; who is owed most goes, and owes the sum.
pub(super) fn choose(candidates: &Candidates<'_>) -> Option<usize> {
    let mut best: Option<(usize, Candidate<'_>, i64)> = None;
    let mut total = 0;
    for (at, peer) in candidates.iter() {
        let weight = peer.weight as i64;
        let owes = peer.load.owed.load(Ordering::Relaxed) + weight;
        peer.load.owed.store(owes, Ordering::Relaxed);
        total += weight;
        if best.is_none_or(|(.., most)| owes > most) {
            best = Some((at, peer, owes));
        }
    }
    let (at, peer, owes) = best?;
    peer.load.owed.store(owes - total, Ordering::Relaxed);
    Some(at)
}
