// SPDX-License-Identifier: Apache-2.0
//! Who has least to do? The lowest (requests in flight + 1) / weight, as this worker knows it; of equals, in turn.

use super::Candidates;

pub(super) fn choose(candidates: &Candidates<'_>, turn: u64) -> Option<usize> {
    let count = candidates.len();
    let start = (turn % count.max(1) as u64) as usize;
    let mut best: Option<(usize, u64, u64)> = None;
    for (at, peer) in candidates.iter_from(start) {
        let (requests, weight) = (u64::from(peer.load.in_flight()) + 1, peer.weight);
        if best.is_none_or(|(_, least, of)| requests.saturating_mul(of) < least.saturating_mul(weight)) {
            best = Some((at, requests, weight));
        }
    }
    best.map(|(at, ..)| at)
}
