// SPDX-License-Identifier: Apache-2.0
//! Was this very field value judged before, and how? One look-up in place of taking the value apart, hashing it and comparing.
//!
//! What is kept of a value is a keyed digest (HMAC-SHA-256, the key drawn when the memory is made, never shown): who reads a
//! worker's memory learns no password from it by guessing elsewhere.

use pyo3::prelude::*;
use ring::hmac::{HMAC_SHA256, Key, sign};
use ring::rand::SystemRandom;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

type Digest = [u8; 32];

struct Entry {
    decision: Py<PyAny>,
    /// Milliseconds since the epoch; 0 for as long as it is kept.
    expires_at_ms: u64,
    /// Asked for since it was last passed over.
    was_used: bool,
}

/// What `request.remember` kept; read by nobody but `request.recognize`.
#[pyclass(frozen, module = "pylae._core")]
pub struct Recognition {
    key: Key,
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<Digest, Entry>,
    /// In the order in which they go, unless they were used since.
    order: VecDeque<Digest>,
}

impl Recognition {
    /// The memory behind a `Remembered`, made when it is first asked for.
    pub fn of<'py>(remembered: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Recognition>> {
        let py = remembered.py();
        let slot = pyo3::intern!(py, "native");
        if let Ok(known) = remembered.getattr(slot)?.cast_into::<Recognition>() {
            return Ok(known);
        }
        let limit: usize = remembered.getattr(pyo3::intern!(py, "max_decisions"))?.extract()?;
        let key = Key::generate(HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| pyo3::exceptions::PyRuntimeError::new_err("the system has no random numbers"))?;
        let made = Bound::new(py, Recognition { key, limit: limit.max(1), kept: Mutex::default() })?;
        remembered.setattr(slot, &made)?;
        Ok(made)
    }

    fn digest(&self, value: &[u8]) -> Digest {
        let mut digest = Digest::default();
        digest.copy_from_slice(sign(&self.key, value).as_ref());
        digest
    }

    /// One thread serves, so nobody ever waits.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The decision about a value, unless it is over.
    pub fn find(&self, py: Python<'_>, value: &[u8], now_ms: u64) -> Option<Py<PyAny>> {
        let digest = self.digest(value);
        let mut kept = self.kept();
        let entry = kept.entries.get_mut(&digest)?;
        if entry.expires_at_ms != 0 && entry.expires_at_ms <= now_ms {
            let gone = kept.entries.remove(&digest);
            // Dropped outside of the lock: a decision may run code of its own when it goes.
            drop(kept);
            drop(gone);
            return None;
        }
        entry.was_used = true;
        Some(entry.decision.clone_ref(py))
    }

    /// Keeps a decision in the place of what was known of the value.
    pub fn keep(&self, value: &[u8], decision: Py<PyAny>, expires_at_ms: u64) {
        let digest = self.digest(value);
        let mut kept = self.kept();
        let before = kept.entries.insert(digest, Entry { decision, expires_at_ms, was_used: false });
        let mut gone = Vec::new();
        if before.is_none() {
            kept.order.push_back(digest);
        }
        // Each is passed over once for having been used: twice the length ends it, whatever was.
        let mut patience = 2 * kept.order.len();
        while (kept.entries.len() > self.limit || kept.order.len() > 2 * self.limit) && patience > 0 {
            patience -= 1;
            let Some(oldest) = kept.order.pop_front() else { break };
            match kept.entries.get_mut(&oldest) {
                Some(entry) if entry.was_used && oldest != digest => {
                    entry.was_used = false;
                    kept.order.push_back(oldest);
                }
                Some(_) if oldest == digest => kept.order.push_back(oldest),
                Some(_) => gone.extend(kept.entries.remove(&oldest)),
                // It was over, and is gone.
                None => {}
            }
        }
        drop(kept);
        drop((before, gone));
    }
}
