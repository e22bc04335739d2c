// SPDX-License-Identifier: Apache-2.0
//! The shared segment as the supervisor and control see it.

use pylae_core::clock::now_ms;
use pylae_core::snapshot::Id;
use pylae_shared::health::{HealthRow, Identity};
use pylae_shared::{Segment, Statistic};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::IntoRawFd;

/// Makes the shared segment and answers its descriptor, which the caller owns.
#[pyfunction]
#[pyo3(signature = (worker_slots, counter_slots = 262_144, health_slots = 131_072))]
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
        counts.insert("health_refused", self.segment.health_refused());
        counts
    }

    /// What is known of every address of a Target that is looked at, or was within the last minute; or of one Upstream's.
    #[pyo3(signature = (upstream = None))]
    fn health<'py>(&self, py: Python<'py>, upstream: Option<&str>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let upstream = upstream.map(id_of).transpose()?;
        let rows = py.detach(|| self.segment.health_rows(upstream));
        let (now_ms, now_monotonic_ms) = (now_ms(), pylae_shared::monotonic_ms());
        let row = |row: HealthRow| {
            let (identity, health) = (row.identity, row.health);
            let about = PyDict::new(py);
            about.set_item("upstream", Id(identity.upstream).to_string())?;
            about.set_item("target", Id(identity.target).to_string())?;
            about.set_item("address", identity.address.to_string())?;
            about.set_item("port", identity.port)?;
            match row.ejection {
                // What checks say beside it counts for nothing as long as it lasts.
                Some(ejection) if health.is_healthy => {
                    let left_ms = ejection.until_monotonic_ms.saturating_sub(now_monotonic_ms);
                    about.set_item("is_healthy", false)?;
                    about.set_item("state", "ejected")?;
                    about.set_item("why", ejection.why())?;
                    about.set_item("since_ms", ejection.since_ms)?;
                    about.set_item("until_ms", now_ms + left_ms)?;
                }
                _ => {
                    about.set_item("is_healthy", health.is_healthy)?;
                    about.set_item("state", health.name())?;
                    about.set_item("why", health.why.name())?;
                    about.set_item("since_ms", health.since_ms)?;
                    about.set_item("until_ms", py.None())?;
                }
            }
            for (name, count) in ["successes", "tcp_failures", "timeouts", "http_failures"].into_iter().zip(health.counts) {
                about.set_item(name, count)?;
            }
            about.set_item("probed_ms", row.probed_ms)?;
            about.set_item("evidence", row.evidence)?;
            Ok(about)
        };
        rows.into_iter().map(row).collect()
    }

    /// An operator says how an address of a Target does; what was counted is forgotten, and an ejection is over. `false`: there
    /// is no room for it.
    fn mark_health(&self, upstream: &str, target: &str, address: &str, port: u16, is_healthy: bool) -> PyResult<bool> {
        let identity = identity_of(upstream, target, address, port)?;
        let at_ms = now_ms();
        let entry = self.segment.health_entry(&identity, at_ms);
        Ok(entry.is_some_and(|entry| self.segment.mark_health(entry, is_healthy, at_ms)))
    }

    /// All that is known of an address of a Target is forgotten, as if it were new. `false`: nothing was known.
    fn forget_health(&self, upstream: &str, target: &str, address: &str, port: u16) -> PyResult<bool> {
        let entry = self.segment.find_health(&identity_of(upstream, target, address, port)?);
        Ok(entry.is_some_and(|entry| self.segment.forget_health(entry, now_ms())))
    }
}

fn id_of(text: &str) -> PyResult<[u8; 16]> {
    Id::parse(text).map(|id| id.0).ok_or_else(|| PyValueError::new_err(format!("`{text}` is not a UUID")))
}

fn identity_of(upstream: &str, target: &str, address: &str, port: u16) -> PyResult<Identity> {
    let address: IpAddr = address.parse().map_err(|_| PyValueError::new_err(format!("`{address}` is not an IP address")))?;
    Ok(Identity { upstream: id_of(upstream)?, target: id_of(target)?, address, port })
}
