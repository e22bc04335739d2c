// SPDX-License-Identifier: Apache-2.0
//! Who drops a configuration that is no longer served? The helper thread: the last request that holds one would stall for as long as it
//! takes to free 100,000 Routes.

use crate::balancer::Balancer;
use crate::snapshot::{CompiledUpstream, Snapshot};
use std::sync::Arc;

/// Snapshots no longer served, and the parts of them that the data plane holds for longer than a request, each kept until nobody else
/// has it.
#[derive(Default)]
pub(super) struct Retired {
    snapshots: Vec<Arc<Snapshot>>,
    watched: Vec<Arc<[Arc<CompiledUpstream>]>>,
    named: Vec<Arc<[Arc<Balancer>]>>,
}

impl Retired {
    /// Takes the snapshot that `next` replaced; a part that `next` shares stays in service.
    pub(super) fn take(&mut self, old: Arc<Snapshot>, next: &Snapshot) {
        if !Arc::ptr_eq(old.watched(), next.watched()) {
            self.watched.push(Arc::clone(old.watched()));
        }
        if !Arc::ptr_eq(old.named(), next.named()) {
            self.named.push(Arc::clone(old.named()));
        }
        self.snapshots.push(old);
    }

    /// Drops what nobody else has; was there any?
    pub(super) fn sweep(&mut self) -> bool {
        let before = self.count();
        self.snapshots.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        self.watched.retain(|watched| Arc::strong_count(watched) > 1);
        self.named.retain(|named| Arc::strong_count(named) > 1);
        self.count() < before
    }

    fn count(&self) -> usize {
        self.snapshots.len() + self.watched.len() + self.named.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }
}
