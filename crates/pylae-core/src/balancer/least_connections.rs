// SPDX-License-Identifier: Apache-2.0
//! Who has least to do? The lowest (requests in flight + 1) / weight, as this worker knows it; of equals, in turn.

use super::{Candidates, Peer};
use std::sync::Arc;

pub(super) fn choose<'a>(candidates: &Candidates<'a>, turn: u64) -> Option<&'a Arc<Peer>> {
    let count = candidates.eligible.len();
    let start = (turn % count.max(1) as u64) as usize;
    let mut best: Option<(&Arc<Peer>, u64, u64)> = None;
    for peer in candidates.iter_from(start) {
        let (requests, weight) = (u64::from(peer.load.in_flight()) + 1, u64::from(peer.weight));
        if best.is_none_or(|(_, least, of)| requests * of < least * weight) {
            best = Some((peer, requests, weight));
        }
    }
    best.map(|(peer, ..)| peer)
}
