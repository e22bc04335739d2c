// SPDX-License-Identifier: Apache-2.0
//! Which idle connections lie ready? A pool hands out leases: a connection is with one exchange or in here, never both.

use super::{PoolKey, UpstreamConnection};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Idle connections kept over all keys: a name in the key may be the client's choice (`preserve_host` over TLS).
const TOTAL_LIMIT: usize = 8192;

struct Idle {
    connection: UpstreamConnection,
    since: Instant,
}

/// Idle upstream connections of one worker.
pub struct Pool {
    idle: RefCell<HashMap<PoolKey, VecDeque<Idle>>>,
    size: usize,
    max_requests: u32,
    idle_timeout: Option<Duration>,
    count: Cell<usize>,
}

impl Pool {
    /// `size` idle connections per key; 0 keeps none. `max_requests` 0 and `idle_timeout_ms` 0: no limit.
    pub fn new(size: usize, max_requests: u32, idle_timeout_ms: u64) -> Self {
        Pool {
            idle: RefCell::default(),
            size,
            max_requests,
            idle_timeout: (idle_timeout_ms > 0).then(|| Duration::from_millis(idle_timeout_ms)),
            count: Cell::new(0),
        }
    }

    /// The connection that idled last, if one is still alive.
    pub fn take(&self, key: &PoolKey) -> Option<UpstreamConnection> {
        let mut idle = self.idle.borrow_mut();
        let queue = idle.get_mut(key)?;
        while let Some(mut entry) = queue.pop_back() {
            self.count.set(self.count.get() - 1);
            if self.idle_timeout.is_some_and(|limit| entry.since.elapsed() >= limit) || entry.connection.wire.is_stale() {
                continue;
            }
            return Some(entry.connection);
        }
        None
    }

    /// Takes a connection back whose exchange ended cleanly.
    pub fn give(&self, key: &PoolKey, mut connection: UpstreamConnection) -> bool {
        if self.size == 0 || self.count.get() >= TOTAL_LIMIT || (self.max_requests > 0 && connection.requests >= self.max_requests) {
            return false;
        }
        connection.wire.rest();
        let entry = Idle { connection, since: Instant::now() };
        let mut idle = self.idle.borrow_mut();
        match idle.get_mut(key) {
            Some(queue) => {
                if queue.len() >= self.size {
                    queue.pop_front();
                    self.count.set(self.count.get() - 1);
                }
                queue.push_back(entry);
            }
            None => {
                idle.insert(key.clone(), VecDeque::from([entry]));
            }
        }
        self.count.set(self.count.get() + 1);
        true
    }

    /// Drops what idled too long or was closed by its peer; called once a second.
    pub fn sweep(&self) {
        let mut idle = self.idle.borrow_mut();
        let mut left = 0;
        idle.retain(|_, queue| {
            queue.retain_mut(|entry| {
                self.idle_timeout.is_none_or(|limit| entry.since.elapsed() < limit) && !entry.connection.wire.is_stale()
            });
            left += queue.len();
            !queue.is_empty()
        });
        self.count.set(left);
    }

    /// Drops all of them.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
        self.count.set(0);
    }

    /// Idle connections.
    pub fn len(&self) -> usize {
        self.count.get()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
