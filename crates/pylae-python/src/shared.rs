// SPDX-License-Identifier: Apache-2.0
//! The shared segment as the supervisor and control see it.

use pylae_shared::{Segment, Statistic};
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::os::fd::IntoRawFd;

/// Makes the shared segment and answers its descriptor, which the caller owns.
#[pyfunction]
#[pyo3(signature = (worker_slots, counter_slots = 262_144, health_slots = HEALTH_SLOTS))]
pub fn create_shared(worker_slots: usize, counter_slots: usize, health_slots: usize) -> PyResult<i32> {
    Ok(pylae_shared::create(worker_slots, counter_slots, health_slots)?.into_raw_fd())
}

/// A view of the segment.
#[pyclass(frozen)]
pub struct Shared {
    segment: Segment,
}

#[pymethods]
impl Shared {
    #[new]
    fn new(fd: i32) -> PyResult<Self> {
        Ok(Shared { segment: Segment::open(fd)? })
    }

    fn __repr__(&self) -> String {
        format!("<shared segment, {} worker slots>", self.segment.worker_slots())
    }

    #[getter]
    fn worker_slots(&self) -> usize {
        self.segment.worker_slots()
    }

    fn heartbeat_age_ms(&self, slot: usize) -> Option<u64> {
        (slot < self.segment.worker_slots()).then(|| self.segment.heartbeat_age_ms(slot)).flatten()
    }

    fn pid(&self, slot: usize) -> u64 {
        self.segment.pid(slot)
    }

    fn generation(&self, slot: usize) -> u64 {
        self.segment.generation(slot)
    }

    fn running_plugin(&self, slot: usize) -> Option<(String, u64)> {
        self.segment.running(slot)
    }

    fn clear_slot(&self, slot: usize) {
        self.segment.clear(slot);
    }

    /// Counts summed over all workers, under the names `/status` uses.
    fn statistics(&self) -> BTreeMap<&'static str, u64> {
        let mut counts: BTreeMap<&'static str, u64> =
            Statistic::ALL.iter().map(|&(statistic, name)| (name, self.segment.total(statistic))).collect();
        let events = self.segment.counter_events();
        counts.insert("counters_evicted", events.evicted);
        counts.insert("counters_refused", events.refused);
        counts
    }
}
