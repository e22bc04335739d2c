// SPDX-License-Identifier: Apache-2.0
//! Which idle connections lie ready? A pool hands out leases: a connection is with one exchange or in here, never both.

use super::habits::{AT_ONCE, Habits, Lesson, usable};
use super::{PoolKey, UpstreamConnection};
use crate::http::wire::Ended;
use pylae_shared::tcp::{self, TcpFacts};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

/// Idle connections kept over all keys, and keys of which something is known: a name in the key may be the client's choice
/// (`preserve_host` over TLS).
const TOTAL_LIMIT: usize = 8192;
/// Times of servers below which a look once a second is too seldom.
const HASTY_BELOW: Duration = Duration::from_secs(9);
/// A connection that was put back so recently is not asked of the kernel: what the reactor says is enough.
const JUST_NOW: Duration = Duration::from_millis(1);

struct Idle {
    connection: UpstreamConnection,
    since: Instant,
    /// When it was looked at last, and had not ended.
    alive_at: Instant,
}

/// The connections of one key, and what is known of its server.
#[derive(Default)]
struct Lane {
    idle: VecDeque<Idle>,
    habits: Habits,
}

/// Something was learned of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// Which server.
    pub key: PoolKey,
    /// What.
    pub lesson: Lesson,
}

impl fmt::Display for Learned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keepalive.learned address={}", self.key.address)?;
        match self.lesson {
            Lesson::IdleTimeout(timeout) => write!(
                f,
                ": the server closes connections that lay idle for {:.3} s; ours are used for {:.3} s at most",
                timeout.as_secs_f64(),
                usable(timeout).as_secs_f64()
            ),
            Lesson::RequestCap(cap) => write!(f, ": the server closes connections after {cap} requests without saying so; so do we"),
        }
    }
}

/// Idle upstream connections of one worker.
pub struct Pool {
    lanes: RefCell<HashMap<PoolKey, Lane>>,
    learned: RefCell<Vec<Learned>>,
    /// A server's own time is so short that a look once a second comes too late.
    is_hasty: Cell<bool>,
    size: usize,
    max_requests: u32,
    idle_timeout: Option<Duration>,
    count: Cell<usize>,
}

/// A shorter of two times that may be unlimited.
fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    [one, other].into_iter().flatten().min()
}

impl Pool {
    /// `size` idle connections per key; 0 keeps none. `max_requests` 0 and `idle_timeout_ms` 0: no limit.
    pub fn new(size: usize, max_requests: u32, idle_timeout_ms: u64) -> Self {
        Pool {
            lanes: RefCell::default(),
            learned: RefCell::default(),
            is_hasty: Cell::new(false),
            size,
            max_requests,
            idle_timeout: (idle_timeout_ms > 0).then(|| Duration::from_millis(idle_timeout_ms)),
            count: Cell::new(0),
        }
    }

    /// The connection that idled last, if one may still be used. What may not be sent twice takes none that lay idle for a second
    /// as long as its server's time is not known: a new one costs less than a request that fails.
    pub fn take(&self, key: &PoolKey, may_repeat: bool) -> Option<UpstreamConnection> {
        let mut lanes = self.lanes.borrow_mut();
        let Lane { idle, habits } = lanes.get_mut(key)?;
        if idle.is_empty() {
            return None;
        }
        let now = Instant::now();
        let limit = shorter(self.idle_timeout, habits.idle_limit());
        while let Some(mut entry) = idle.pop_back() {
            let age = now.saturating_duration_since(entry.since);
            if !may_repeat && !habits.is_surely_open(age) {
                idle.push_back(entry);
                return None;
            }
            self.count.set(self.count.get() - 1);
            if limit.is_some_and(|limit| age >= limit) {
                continue;
            }
            if entry.has_ended(age) {
                self.note(key, habits, &entry);
                continue;
            }
            entry.connection.idle = Some(age);
            return Some(entry.connection);
        }
        None
    }

    /// Takes a connection back whose exchange ended cleanly.
    pub fn give(&self, key: &PoolKey, mut connection: UpstreamConnection) -> bool {
        if self.size == 0 || self.count.get() >= TOTAL_LIMIT || (self.max_requests > 0 && connection.requests >= self.max_requests) {
            return false;
        }
        let mut lanes = self.lanes.borrow_mut();
        if !lanes.contains_key(key) {
            lanes.insert(key.clone(), Lane::default());
        }
        let Some(Lane { idle, habits }) = lanes.get_mut(key) else { return false };
        if habits.request_cap().is_some_and(|cap| connection.requests >= cap) {
            return false;
        }
        connection.wire.rest();
        if idle.len() >= self.size {
            idle.pop_front();
            self.count.set(self.count.get() - 1);
        }
        let now = Instant::now();
        idle.push_back(Idle { connection, since: now, alive_at: now });
        self.count.set(self.count.get() + 1);
        true
    }

    /// The server says how long it keeps an idle connection.
    pub fn hear(&self, key: &PoolKey, timeout: Duration) {
        let mut lanes = self.lanes.borrow_mut();
        if let Some(lane) = lanes.get_mut(key) {
            lane.habits.hear(timeout);
        } else if lanes.len() < TOTAL_LIMIT {
            lanes.entry(key.clone()).or_default().habits.hear(timeout);
        }
    }

    /// Drops the idle connections of a key: one of them was dead without a word, and so may the others be.
    pub fn forget(&self, key: &PoolKey) {
        if let Some(lane) = self.lanes.borrow_mut().get_mut(key) {
            self.count.set(self.count.get() - lane.idle.len());
            lane.idle.clear();
        }
    }

    /// A connection of ours was used when its server had closed it, or closed at that moment.
    pub fn met_closed(&self, key: &PoolKey, connection: &UpstreamConnection, taken: Instant) {
        let Some(idle) = connection.idle else { return };
        let Some(facts) = TcpFacts::of(connection.wire.socket()) else { return };
        // A server that ended after it had the request acknowledged it, and did not end for idleness; nor does a reset alone tell.
        if connection.wire.ended() != Some(Ended::Fin) || !(facts.owes_ack || facts.is_over) {
            return;
        }
        let now = Instant::now();
        let used_for = now.saturating_duration_since(taken);
        // It ended a little before the use of it, or a little after.
        let idle = (idle + used_for).saturating_sub(facts.since_last_ack.min(used_for + JUST_NOW));
        if let Some(lane) = self.lanes.borrow_mut().get_mut(key)
            && idle > AT_ONCE
        {
            self.tell(key, lane.habits.see_close(idle, connection.requests, now));
        }
    }

    fn tell(&self, key: &PoolKey, lesson: Option<Lesson>) {
        if let Some(lesson) = lesson {
            self.learned.borrow_mut().push(Learned { key: key.clone(), lesson });
        }
    }

    /// Learns from a connection that ended while it lay here.
    fn note(&self, key: &PoolKey, habits: &mut Habits, entry: &Idle) {
        if let Some((idle, at)) = entry.ended_after() {
            self.tell(key, habits.see_close(idle, entry.connection.requests, at));
        }
    }

    /// Should the next sweep come within a tenth of a second?
    pub fn is_hasty(&self) -> bool {
        self.is_hasty.get()
    }

    /// Drops what idled too long or was closed by its peer; called once a second, or more often while it is hasty. Answers what
    /// was learned since the last time.
    pub fn sweep(&self) -> Vec<Learned> {
        let mut lanes = self.lanes.borrow_mut();
        let (mut left, mut is_hasty) = (0, false);
        let now = Instant::now();
        lanes.retain(|key, Lane { idle, habits }| {
            habits.age(now);
            let limit = shorter(self.idle_timeout, habits.idle_limit());
            let mut ended = Vec::new();
            idle.retain_mut(|entry| {
                let age = now.saturating_duration_since(entry.since);
                if limit.is_some_and(|limit| age >= limit) {
                    return false;
                }
                if entry.connection.wire.is_stale() {
                    ended.extend(entry.ended_after().map(|(idle, at)| (idle, at, entry.connection.requests)));
                    return false;
                }
                entry.alive_at = now;
                true
            });
            for (idle, at, requests) in ended {
                self.tell(key, habits.see_close(idle, requests, at));
            }
            is_hasty |= !idle.is_empty() && habits.idle_limit().is_some_and(|limit| limit < HASTY_BELOW);
            left += idle.len();
            !idle.is_empty() || !habits.is_blank()
        });
        self.count.set(left);
        self.is_hasty.set(is_hasty);
        std::mem::take(&mut self.learned.borrow_mut())
    }

    /// Drops all of them.
    pub fn clear(&self) {
        self.lanes.borrow_mut().clear();
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

impl Idle {
    /// Has the server ended it, or said what nobody asked for?
    fn has_ended(&mut self, age: Duration) -> bool {
        let wire = &mut self.connection.wire;
        wire.is_stale() || (age >= JUST_NOW && tcp::has_ended(wire.socket()))
    }

    /// How long it had lain idle when the server ended it, and when that was; `None`: it was not ended but spoke.
    fn ended_after(&self) -> Option<(Duration, Instant)> {
        if self.connection.wire.ended().is_none() && !tcp::has_ended(self.connection.wire.socket()) {
            return None;
        }
        let now = Instant::now();
        let facts = TcpFacts::of(self.connection.wire.socket());
        let at = match facts {
            Some(facts) if !facts.is_over => now.checked_sub(facts.since_last_ack).unwrap_or(now).max(self.alive_at),
            // A reset leaves no trace of its time: it was after the last look, if there was one.
            _ if self.alive_at > self.since => self.alive_at,
            _ => return None,
        };
        Some((at.saturating_duration_since(self.since), at))
    }
}
