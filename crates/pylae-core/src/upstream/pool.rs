// SPDX-License-Identifier: Apache-2.0
//! Which idle connections lie ready? A pool hands out leases: a connection is with one exchange or in here, never both.

use super::habits::{AT_ONCE, Habits, Lesson, usable};
use super::{PoolKey, UpstreamConnection};
use crate::http::wire::Ended;
use pylae_shared::tcp::{self, TcpFacts};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Idle connections kept over all keys: a name in the key may be the client's choice (`preserve_host` over TLS).
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

/// The idle connections of one key.
#[derive(Default)]
struct Lane {
    idle: VecDeque<Idle>,
    /// Some of them are to be closed so soon that a look once a second is too seldom.
    is_hasty: bool,
}

/// Something was learned of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    /// Which server.
    pub address: SocketAddr,
    /// What.
    pub lesson: Lesson,
}

impl fmt::Display for Learned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keepalive.learned address={}", self.address)?;
        match self.lesson {
            Lesson::IdleTimeout(timeout) => write!(
                f,
                ": the server closes connections that lay idle for {:.3} s; ours are used for {:.3} s at most",
                timeout.as_secs_f64(),
                usable(timeout).as_secs_f64()
            ),
            Lesson::RequestCap(cap) => write!(f, ": the server closes connections after {cap} requests without saying so; so do we"),
            Lesson::Forgotten(idle) => write!(
                f,
                ": a connection that lay idle for {:.3} s was dead without a word, as a firewall or NAT does it; ours are used for \
                 {:.3} s at most",
                idle.as_secs_f64(),
                (idle / 2).as_secs_f64()
            ),
        }
    }
}

/// Idle upstream connections of one worker, and what is known of their servers.
pub struct Pool {
    lanes: RefCell<HashMap<PoolKey, Lane>>,
    servers: RefCell<HashMap<SocketAddr, Habits>>,
    learned: RefCell<Vec<Learned>>,
    is_hasty: Cell<bool>,
    size: usize,
    max_requests: u32,
    idle_timeout: Option<Duration>,
    count: Cell<usize>,
}

/// The shortest of times of which each may be unlimited.
fn shortest<const N: usize>(times: [Option<Duration>; N]) -> Option<Duration> {
    times.into_iter().flatten().min()
}

impl Pool {
    /// `size` idle connections per key; 0 keeps none. `max_requests` 0 and `idle_timeout_ms` 0: no limit.
    pub fn new(size: usize, max_requests: u32, idle_timeout_ms: u64) -> Self {
        Pool {
            lanes: RefCell::default(),
            servers: RefCell::default(),
            learned: RefCell::default(),
            is_hasty: Cell::new(false),
            size,
            max_requests,
            idle_timeout: (idle_timeout_ms > 0).then(|| Duration::from_millis(idle_timeout_ms)),
            count: Cell::new(0),
        }
    }

    /// The connection that idled last, if one may still be used. What may not be sent twice takes none that lay idle for long
    /// while its server's time is not known: a new one costs less than a request that fails.
    pub fn take(&self, key: &PoolKey, may_repeat: bool) -> Option<UpstreamConnection> {
        let mut lanes = self.lanes.borrow_mut();
        let idle = &mut lanes.get_mut(key)?.idle;
        if idle.is_empty() {
            return None;
        }
        let mut servers = self.servers.borrow_mut();
        let habits = servers.entry(key.address).or_default();
        let limit = shortest([self.idle_timeout, habits.idle_limit()]);
        let now = Instant::now();
        while let Some(mut entry) = idle.pop_back() {
            self.count.set(self.count.get() - 1);
            let age = now.saturating_duration_since(entry.since);
            if shortest([limit, entry.connection.said]).is_some_and(|limit| age >= limit) {
                continue;
            }
            if entry.has_ended(age) {
                self.note(key.address, habits, entry.ended_after(now));
                continue;
            }
            if !may_repeat && entry.connection.said.is_none() && !habits.is_surely_open(age) {
                continue;
            }
            habits.see_carried(entry.connection.requests, now);
            entry.connection.idle = Some(age);
            return Some(entry.connection);
        }
        None
    }

    /// Takes a connection back whose exchange ended cleanly; it lies idle since the last byte came on it.
    pub fn give(&self, key: &PoolKey, mut connection: UpstreamConnection) -> bool {
        if self.size == 0 || (self.max_requests > 0 && connection.requests >= self.max_requests) {
            return false;
        }
        let mut servers = self.servers.borrow_mut();
        let habits = servers.entry(key.address).or_default();
        if habits.request_cap().is_some_and(|cap| connection.requests >= cap) {
            return false;
        }
        let now = Instant::now();
        let since = connection.quiet_since.take().unwrap_or(now);
        let mut entry = Idle { connection, since, alive_at: since };
        let age = now.saturating_duration_since(since);
        let limit = shortest([self.idle_timeout, habits.idle_limit(), entry.connection.said]);
        if limit.is_some_and(|limit| age >= limit) {
            return false;
        }
        if age >= JUST_NOW && entry.has_ended(age) {
            self.note(key.address, habits, entry.ended_after(now));
            return false;
        }
        entry.connection.wire.rest();
        entry.alive_at = now;
        let mut lanes = self.lanes.borrow_mut();
        if self.count.get() >= TOTAL_LIMIT {
            self.make_room(&mut lanes);
        }
        let lane = match lanes.get_mut(key) {
            Some(lane) => lane,
            None => lanes.entry(key.clone()).or_default(),
        };
        if lane.idle.len() >= self.size {
            lane.idle.pop_front();
            self.count.set(self.count.get() - 1);
        }
        lane.idle.push_back(entry);
        self.count.set(self.count.get() + 1);
        if limit.is_some_and(|limit| limit < HASTY_BELOW) {
            lane.is_hasty = true;
            self.is_hasty.set(true);
        }
        true
    }

    /// Drops the oldest connection of some key: a flood of keys takes no more than the others may spare.
    fn make_room(&self, lanes: &mut HashMap<PoolKey, Lane>) {
        let Some(key) = lanes.iter().find(|(_, lane)| !lane.idle.is_empty()).map(|(key, _)| key.clone()) else { return };
        if let Some(lane) = lanes.get_mut(&key) {
            lane.idle.pop_front();
            self.count.set(self.count.get() - 1);
            if lane.idle.is_empty() {
                lanes.remove(&key);
            }
        }
    }

    /// How long its server keeps a connection that lies idle, as it says or as was learned, and how long we keep it at most.
    pub fn idle_limits(&self, key: &PoolKey, connection: &UpstreamConnection) -> (Option<Duration>, Option<Duration>) {
        let learned = self.servers.borrow().get(&key.address).and_then(Habits::learned);
        (shortest([learned, connection.stated]), self.idle_timeout)
    }

    /// Servers that are known to close idle connections sooner than we give them up; and when they do, and we.
    pub fn hasty_servers(&self) -> Vec<(SocketAddr, Duration, Option<Duration>)> {
        let servers = self.servers.borrow();
        let of = |(address, habits): (&SocketAddr, &Habits)| {
            let learned = habits.learned().filter(|learned| self.idle_timeout.is_none_or(|ours| *learned < ours))?;
            Some((*address, learned, self.idle_timeout))
        };
        servers.iter().filter_map(of).collect()
    }

    /// A pooled connection was dead without a word: so may the others of its key be.
    pub fn met_dead(&self, key: &PoolKey, connection: &UpstreamConnection) {
        if let Some(lane) = self.lanes.borrow_mut().remove(key) {
            self.count.set(self.count.get() - lane.idle.len());
        }
        if let (Some(idle), Some(habits)) = (connection.idle, self.servers.borrow_mut().get_mut(&key.address)) {
            self.tell(key.address, habits.see_forgotten(idle, Instant::now()));
        }
    }

    /// A pooled connection was used when its server had closed it, or closed at that moment. Was it for its idleness?
    pub fn met_closed(&self, key: &PoolKey, connection: &UpstreamConnection, taken: Instant) -> bool {
        let Some(idle) = connection.idle else { return false };
        let Some(facts) = TcpFacts::of(connection.wire.socket()) else { return false };
        // A server that ended after it had the request acknowledged it, and did not end for idleness; nor does a reset alone tell.
        if connection.wire.ended() != Some(Ended::Fin) || !(facts.owes_ack || facts.is_over) {
            return false;
        }
        let now = Instant::now();
        let used_for = now.saturating_duration_since(taken);
        // It ended a little before the use of it, or a little after.
        let idle = (idle + used_for).saturating_sub(facts.since_last_ack.min(used_for + JUST_NOW)).saturating_sub(facts.rtt);
        if idle > AT_ONCE
            && let Some(habits) = self.servers.borrow_mut().get_mut(&key.address)
        {
            self.tell(key.address, habits.see_close(idle, connection.requests, now));
        }
        true
    }

    fn tell(&self, address: SocketAddr, lesson: Option<Lesson>) {
        self.learned.borrow_mut().extend(lesson.map(|lesson| Learned { address, lesson }));
    }

    /// Learns from a connection that ended while it lay here.
    fn note(&self, address: SocketAddr, habits: &mut Habits, ended: Option<(Duration, u32, Instant)>) {
        if let Some((idle, requests, at)) = ended {
            self.tell(address, habits.see_close(idle, requests, at));
        }
    }

    /// Should the next sweep come within a tenth of a second?
    pub fn is_hasty(&self) -> bool {
        self.is_hasty.get()
    }

    /// Drops what idled too long or was closed by its peer; called once a second, and in between for those in haste. Answers
    /// what was learned since the last time.
    ///
    /// To be called outside tokio's budget (`task::unconstrained`), which would show every 64th ended connection as open.
    pub fn sweep(&self, is_for_all: bool) -> Vec<Learned> {
        let mut lanes = self.lanes.borrow_mut();
        let mut servers = self.servers.borrow_mut();
        let now = Instant::now();
        lanes.retain(|key, lane| {
            if !is_for_all && !lane.is_hasty {
                return true;
            }
            let habits = servers.entry(key.address).or_default();
            let limit = shortest([self.idle_timeout, habits.idle_limit()]);
            let before = lane.idle.len();
            let mut ended = Vec::new();
            lane.is_hasty = false;
            lane.idle.retain_mut(|entry| {
                let age = now.saturating_duration_since(entry.since);
                let limit = shortest([limit, entry.connection.said]);
                if limit.is_some_and(|limit| age >= limit) {
                    return false;
                }
                if entry.connection.wire.is_stale() {
                    ended.extend(entry.ended_after(now));
                    return false;
                }
                habits.see_open(age, entry.connection.requests, now);
                lane.is_hasty |= limit.is_some_and(|limit| limit < HASTY_BELOW);
                entry.alive_at = now;
                true
            });
            for ended in ended {
                self.note(key.address, habits, Some(ended));
            }
            self.count.set(self.count.get() - (before - lane.idle.len()));
            !lane.idle.is_empty()
        });
        self.is_hasty.set(lanes.values().any(|lane| lane.is_hasty));
        if is_for_all {
            let connected: HashSet<SocketAddr> = lanes.keys().map(|key| key.address).collect();
            servers.retain(|address, habits| {
                habits.age(now);
                !habits.is_blank() || connected.contains(address)
            });
        }
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
        wire.is_stale() || (age >= JUST_NOW && tcp::has_news(wire.socket()))
    }

    /// How long it had lain idle when the server ended it, after how many requests, and when that was; `None`: it spoke, or
    /// was reset at a moment that nothing tells.
    fn ended_after(&self, now: Instant) -> Option<(Duration, u32, Instant)> {
        if self.connection.wire.ended().is_none() && !tcp::has_ended(self.connection.wire.socket()) {
            return None;
        }
        let facts = TcpFacts::of(self.connection.wire.socket())?;
        let requests = self.connection.requests;
        if !facts.is_over {
            let at = now.checked_sub(facts.since_last_ack).unwrap_or(now).max(self.alive_at.min(now));
            let idle = at.saturating_duration_since(self.since);
            return Some((if idle > AT_ONCE { idle.saturating_sub(facts.rtt).max(AT_ONCE) } else { idle }, requests, at));
        }
        // A reset leaves no trace of its time: it was after the last look.
        let idle = self.alive_at.saturating_duration_since(self.since);
        (idle > AT_ONCE).then_some((idle, requests, self.alive_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::wire::{Stream, Wire};
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};

    const HOUR: Duration = Duration::from_secs(3600);

    fn run(test: impl AsyncFnOnce()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test());
    }

    /// A connection that has carried so many requests, and the server's end of it.
    async fn connection(listener: &TcpListener, requests: u32) -> (UpstreamConnection, TcpStream) {
        let address = listener.local_addr().expect("an address");
        let ours = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let (theirs, _) = listener.accept().expect("the server's end");
        let wire = Wire::new(Stream::Plain(ours));
        (UpstreamConnection { requests, ..UpstreamConnection::new(wire) }, theirs)
    }

    fn listener() -> (TcpListener, PoolKey) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        (listener, PoolKey { address, tls: None })
    }

    fn named(key: &PoolKey, number: usize) -> PoolKey {
        PoolKey { tls: Some((format!("name-{number}"), false)), ..key.clone() }
    }

    #[test]
    fn test_the_connection_that_idled_last_is_taken_first() {
        run(async || {
            let ((listener, key), pool) = (listener(), Pool::new(8, 0, 0));
            let mut ends = Vec::new();
            for requests in 1..=3 {
                let (one, end) = connection(&listener, requests).await;
                ends.push(end);
                assert!(pool.give(&key, one));
            }
            let taken: Vec<u32> = (0..3).map(|_| pool.take(&key, true).expect("one").requests).collect();
            assert_eq!((taken, pool.len()), (vec![3, 2, 1], 0));
            assert!(pool.take(&key, true).is_none());
        });
    }

    #[test]
    fn test_one_that_its_server_ended_or_spoke_on_is_not_taken() {
        run(async || {
            let ((listener, key), pool) = (listener(), Pool::new(8, 0, 0));
            let (mut ended, end) = connection(&listener, 1).await;
            let (mut spoken, mut speaker) = connection(&listener, 1).await;
            ended.quiet_since = Instant::now().checked_sub(JUST_NOW);
            assert!(pool.give(&key, ended));
            spoken.quiet_since = Instant::now().checked_sub(JUST_NOW);
            assert!(pool.give(&key, spoken));
            end.shutdown(Shutdown::Both).expect("ended");
            speaker.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").expect("spoken");
            assert!(pool.take(&key, true).is_none());
            assert!(pool.is_empty());
        });
    }

    #[test]
    fn test_one_that_ended_while_its_client_was_slow_is_not_kept() {
        run(async || {
            let ((listener, key), pool) = (listener(), Pool::new(8, 0, 0));
            let (mut one, end) = connection(&listener, 1).await;
            one.quiet_since = Instant::now().checked_sub(Duration::from_secs(5));
            drop(end);
            assert!(!pool.give(&key, one));
            assert!(pool.is_empty());
        });
    }

    #[test]
    fn test_what_its_server_says_bounds_one_connection_and_no_other() {
        run(async || {
            let ((listener, key), pool) = (listener(), Pool::new(8, 0, 0));
            let (mut bound, _end) = connection(&listener, 1).await;
            let (mut free, _other) = connection(&listener, 2).await;
            bound.said = Some(Duration::from_secs(4));
            for one in [&mut bound, &mut free] {
                one.quiet_since = Instant::now().checked_sub(Duration::from_secs(5));
            }
            assert!(!pool.give(&key, bound));
            assert!(pool.give(&key, free));
            assert_eq!(pool.take(&key, true).expect("one").requests, 2);
        });
    }

    #[test]
    fn test_what_may_not_be_sent_twice_takes_what_is_surely_open() {
        run(async || {
            let ((listener, key), pool) = (listener(), Pool::new(8, 0, 0));
            let mut ends = Vec::new();
            for said in [None, Some(HOUR)] {
                let (mut one, end) = connection(&listener, 1).await;
                ends.push(end);
                (one.said, one.quiet_since) = (said, Instant::now().checked_sub(Duration::from_secs(2)));
                assert!(pool.give(&key, one));
                assert_eq!(pool.take(&key, false).is_some(), said.is_some());
            }
        });
    }

    #[test]
    fn test_a_flood_of_names_takes_no_more_than_there_is() {
        run(async || {
            let ((listener, key), pool) = (listener(), Pool::new(2, 0, 0));
            let mut ends = Vec::new();
            for number in 0..10 {
                for _ in 0..3 {
                    let (one, end) = connection(&listener, 1).await;
                    ends.push(end);
                    assert!(pool.give(&named(&key, number), one));
                }
            }
            assert_eq!(pool.len(), 20);
            pool.make_room(&mut pool.lanes.borrow_mut());
            assert_eq!(pool.len(), 19);
            pool.sweep(true);
            assert_eq!((pool.len(), pool.servers.borrow().len()), (19, 1));
        });
    }

    #[test]
    fn test_a_dead_connection_takes_the_others_of_its_key_with_it() {
        run(async || {
            let ((listener, key), pool) = (listener(), Pool::new(8, 0, 0));
            let mut ends = Vec::new();
            for number in [1, 1, 2] {
                let (one, end) = connection(&listener, 1).await;
                ends.push(end);
                pool.give(&named(&key, number), one);
            }
            let (mut dead, _end) = connection(&listener, 1).await;
            dead.idle = Some(Duration::from_secs(40));
            pool.met_dead(&named(&key, 1), &dead);
            assert_eq!(pool.len(), 1);
            assert_eq!(pool.sweep(true), [Learned { address: key.address, lesson: Lesson::Forgotten(Duration::from_secs(40)) }]);
            assert_eq!(pool.hasty_servers(), [(key.address, Duration::from_secs(40), None)]);
        });
    }

    #[test]
    fn test_a_server_without_connections_of_which_nothing_was_learned_is_forgotten() {
        run(async || {
            let ((listener, key), pool) = (listener(), Pool::new(8, 0, 0));
            let (one, _end) = connection(&listener, 1).await;
            pool.give(&key, one);
            assert!(pool.take(&key, true).is_some());
            pool.sweep(true);
            assert!(pool.servers.borrow().is_empty());
        });
    }
}
