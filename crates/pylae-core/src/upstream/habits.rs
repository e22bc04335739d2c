// SPDX-License-Identifier: Apache-2.0
//! How long does a server keep an idle connection, and for how many requests? Learned from how it closes, and does not close.
//!
//! A connection that its server closes at the moment a request is sent on it is the most reported fault of every gateway. So
//! ours are closed, or not used any more, a margin before the server would do it.
//!
//! Closes alone prove little: a server that restarts closes all its connections whatever their age. So several closes at
//! different moments, after about the same idleness, show an idle timeout, and only if no connection has been seen alive that
//! lay idle longer; two right after an answer of the same number show a cap, if none has carried on from that number.

use std::time::{Duration, Instant};

/// A close this soon after an answer has nothing to do with idleness.
pub const AT_ONCE: Duration = Duration::from_millis(20);
/// Closes of one moment have one cause.
const ONE_MOMENT: Duration = Duration::from_millis(50);
/// Like closes that show an idle timeout.
const SHOWN_BY: usize = 3;
/// Closes remembered.
const CLOSES: usize = 8;
/// What was learned of idleness is forgotten after so long: the server may have changed, and ours end before it shows.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);
/// The same for a cap, which costs many connections if it was learned wrongly, and for all that was merely seen.
const SOON_FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Bounds of the margin, which is else a tenth.
const MARGIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// No common server closes sooner than this by default (gunicorn: 2 s).
const SURELY_OPEN: Duration = Duration::from_secs(1);
/// No firewall forgets a connection sooner than this: a shorter silence was a fault of the network.
const FORGOTTEN_BY_FIREWALLS: Duration = Duration::from_secs(5);

/// Something seen, and when it was.
type Seen<T> = Option<(T, Instant)>;

/// What was learned anew, for a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// It closes what lay idle for this long.
    IdleTimeout(Duration),
    /// It closes after this many requests.
    RequestCap(u32),
    /// Something between forgets what lay idle for this long, or less.
    Forgotten(Duration),
}

/// What is known of one server.
#[derive(Debug, Default)]
pub struct Habits {
    /// Closes of idle connections, the newest first: how long each had lain idle.
    closes: [Seen<Duration>; CLOSES],
    idle_timeout: Seen<Duration>,
    /// A connection that had lain idle for this long was dead without a word.
    forgotten: Seen<Duration>,
    request_cap: Seen<u32>,
    /// Requests after which it closed at once, the last time.
    closed_after: Seen<u32>,
    /// The longest idleness after which a connection was still open.
    survived: Seen<Duration>,
    /// The most requests a connection had carried that was still open.
    carried: Seen<u32>,
}

/// How long a connection is used whose server closes it after this time.
pub fn usable(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 10).clamp(MARGIN.0, MARGIN.1).min(timeout / 2))
}

fn apart(one: Instant, other: Instant) -> Duration {
    one.max(other) - one.min(other)
}

fn are_alike(one: Duration, other: Duration) -> bool {
    one.abs_diff(other) <= one.min(other) / 10 + AT_ONCE
}

/// Keeps the larger of what was seen, and since when it holds.
fn keep_larger<T: PartialOrd + Copy>(seen: &mut Seen<T>, value: T, at: Instant) {
    if seen.is_none_or(|(known, _)| value >= known) {
        *seen = Some((value, at));
    }
}

impl Habits {
    /// How long a connection may lie idle and still be used; `None`: nothing is known.
    pub fn idle_limit(&self) -> Option<Duration> {
        let learned = self.idle_timeout.map(|(timeout, _)| usable(timeout));
        let forgotten = self.forgotten.map(|(idle, _)| idle / 2);
        [learned, forgotten].into_iter().flatten().min()
    }

    /// How long the server, or what is between, keeps an idle connection; `None`: nothing is known.
    pub fn learned(&self) -> Option<Duration> {
        [self.idle_timeout, self.forgotten].into_iter().flatten().map(|(time, _)| time).min()
    }

    /// For what may not be sent twice: is a connection safe to take that lay idle for so long?
    pub fn is_surely_open(&self, idle: Duration) -> bool {
        idle < SURELY_OPEN || self.idle_timeout.is_some() || self.survived.is_some_and(|(survived, _)| idle < usable(survived))
    }

    /// How many requests a connection may carry; `None`: nothing is known.
    pub fn request_cap(&self) -> Option<u32> {
        self.request_cap.map(|(cap, _)| cap)
    }

    /// Is there nothing that is worth remembering for a server without connections?
    pub fn is_blank(&self) -> bool {
        self.closes[0].is_none() && self.idle_timeout.is_none() && self.forgotten.is_none() && self.closed_after.is_none()
    }

    /// A connection that has lain idle for so long, after so many requests, is open.
    pub fn see_open(&mut self, idle: Duration, requests: u32, at: Instant) {
        keep_larger(&mut self.survived, idle, at);
        if self.idle_timeout.is_some_and(|(timeout, _)| idle > timeout) {
            self.idle_timeout = None;
        }
        if idle > AT_ONCE {
            self.see_carried(requests, at);
        }
    }

    /// A connection carries on after so many requests.
    pub fn see_carried(&mut self, requests: u32, at: Instant) {
        keep_larger(&mut self.carried, requests, at);
        if self.request_cap.is_some_and(|(cap, _)| cap <= requests) {
            self.request_cap = None;
        }
    }

    /// The server closed a connection, without having said so, after it had lain idle for `idle` and carried `requests`.
    pub fn see_close(&mut self, idle: Duration, requests: u32, at: Instant) -> Option<Lesson> {
        if idle <= AT_ONCE { self.see_close_at_once(requests, at) } else { self.see_idle_close(idle, at) }
    }

    fn see_close_at_once(&mut self, requests: u32, at: Instant) -> Option<Lesson> {
        if let Some((_, moment)) = self.closed_after
            && apart(moment, at) <= ONE_MOMENT
        {
            return None;
        }
        let is_second = self.closed_after.replace((requests, at)).is_some_and(|(count, _)| count == requests);
        let is_refuted = self.carried.is_some_and(|(carried, _)| carried >= requests);
        if !is_second || is_refuted {
            return None;
        }
        let known = self.request_cap.replace((requests, at));
        (known.map(|(cap, _)| cap) != Some(requests)).then_some(Lesson::RequestCap(requests))
    }

    fn see_idle_close(&mut self, idle: Duration, at: Instant) -> Option<Lesson> {
        let (mut alike, mut shortest, mut moment) = (1, idle, at);
        for &(other, when) in self.closes.iter().flatten() {
            if are_alike(idle, other) && apart(moment, when) > ONE_MOMENT {
                (alike, shortest, moment) = (alike + 1, shortest.min(other), when);
            }
        }
        self.closes.rotate_right(1);
        self.closes[0] = Some((idle, at));
        let is_refuted = self.survived.is_some_and(|(survived, _)| survived > shortest && !are_alike(survived, shortest));
        if alike < SHOWN_BY || is_refuted {
            return None;
        }
        let known = self.idle_timeout.map(|(timeout, _)| timeout);
        if known.is_some_and(|known| shortest > known && !are_alike(shortest, known)) {
            return None;
        }
        let timeout = known.map_or(shortest, |known| known.min(shortest));
        self.idle_timeout = Some((timeout, at));
        (known != Some(timeout)).then_some(Lesson::IdleTimeout(timeout))
    }

    /// Nothing that was sent on a connection arrived any more, after it had lain idle for so long.
    pub fn see_forgotten(&mut self, idle: Duration, at: Instant) -> Option<Lesson> {
        if idle < FORGOTTEN_BY_FIREWALLS {
            return None;
        }
        let known = self.forgotten.map(|(known, _)| known);
        self.forgotten = Some((known.map_or(idle, |known| known.min(idle)), at));
        known.is_none_or(|known| idle < known).then_some(Lesson::Forgotten(idle))
    }

    /// Forgets what was not seen again for long.
    pub fn age(&mut self, now: Instant) {
        fn forget<T>(seen: &mut Seen<T>, now: Instant, after: Duration) {
            if seen.as_ref().is_some_and(|(_, at)| now.saturating_duration_since(*at) > after) {
                *seen = None;
            }
        }
        forget(&mut self.idle_timeout, now, FORGOTTEN_AFTER);
        forget(&mut self.forgotten, now, FORGOTTEN_AFTER);
        forget(&mut self.request_cap, now, SOON_FORGOTTEN_AFTER);
        forget(&mut self.closed_after, now, SOON_FORGOTTEN_AFTER);
        forget(&mut self.survived, now, SOON_FORGOTTEN_AFTER);
        forget(&mut self.carried, now, SOON_FORGOTTEN_AFTER);
        self.closes.iter_mut().for_each(|close| forget(close, now, SOON_FORGOTTEN_AFTER));
    }
}

/// The timeout in a `Keep-Alive` field (`timeout=5, max=100`).
pub fn timeout_said(value: &[u8]) -> Option<Duration> {
    value.split(|&byte| byte == b',').find_map(|part| {
        let part = std::str::from_utf8(part).ok()?;
        let (name, value) = part.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("timeout") {
            return None;
        }
        let seconds: u32 = value.trim().trim_matches('"').parse().ok()?;
        Some(Duration::from_secs(u64::from(seconds)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Habits that saw such closes of idle connections: (when, how long idle), milliseconds.
    fn after_closes(closes: &[(u64, u64)]) -> (Habits, Vec<Lesson>) {
        let (mut habits, start) = (Habits::default(), Instant::now());
        let lessons = closes.iter().filter_map(|&(at, idle)| habits.see_close(ms(idle), 3, start + ms(at))).collect();
        (habits, lessons)
    }

    #[test]
    fn test_like_closes_show_an_idle_timeout_and_ours_is_a_margin_below() {
        let (habits, lessons) = after_closes(&[(0, 5010), (7000, 5000), (9000, 5020), (20000, 5010)]);
        assert_eq!(lessons, [Lesson::IdleTimeout(ms(5000))]);
        assert_eq!((habits.idle_limit(), habits.learned()), (Some(ms(4500)), Some(ms(5000))));
        assert_eq!(after_closes(&[(0, 5010), (7000, 5000)]).1, []);
    }

    #[test]
    fn test_closes_of_one_moment_count_once() {
        assert_eq!(after_closes(&[(0, 300), (10, 310), (20, 305), (30, 300), (40, 302)]).1, []);
    }

    #[test]
    fn test_closes_of_all_ages_show_nothing() {
        assert_eq!(after_closes(&[(0, 100), (1000, 400), (2000, 800), (3000, 2000), (4000, 4000)]).1, []);
    }

    #[test]
    fn test_restarts_show_nothing_where_connections_were_open_that_idled_longer() {
        let (mut habits, start) = (Habits::default(), Instant::now());
        habits.see_open(ms(800), 9, start);
        for at in [1000, 2000, 3000, 4000] {
            assert_eq!(habits.see_close(ms(200), 3, start + ms(at)), None);
        }
        assert_eq!(habits.idle_limit(), None);
    }

    #[test]
    fn test_a_connection_that_idles_longer_refutes_what_was_learned() {
        let (mut habits, _) = after_closes(&[(0, 300), (1000, 300), (2000, 300)]);
        assert!(habits.idle_limit().is_some());
        habits.see_open(ms(301), 1, Instant::now());
        assert_eq!(habits.idle_limit(), None);
    }

    #[test]
    fn test_two_closes_after_the_same_answer_show_a_cap() {
        let (mut habits, start) = (Habits::default(), Instant::now());
        assert_eq!(habits.see_close(ms(0), 100, start), None);
        assert_eq!(habits.see_close(ms(1), 100, start + ms(9)), None, "a restart ends many at once");
        assert_eq!(habits.see_close(ms(1), 100, start + ms(70)), Some(Lesson::RequestCap(100)));
        assert_eq!((habits.request_cap(), habits.idle_limit()), (Some(100), None));
        habits.see_carried(101, start);
        assert_eq!(habits.request_cap(), None, "refuted");
    }

    #[test]
    fn test_closes_after_other_answers_or_fewer_than_were_carried_show_no_cap() {
        let (mut habits, start) = (Habits::default(), Instant::now());
        for (at, requests) in [(0, 3), (100, 7), (200, 2), (300, 9), (400, 3)] {
            assert_eq!(habits.see_close(ms(1), requests, start + ms(at)), None);
        }
        habits.see_carried(8, start);
        for at in [500, 600, 700] {
            assert_eq!(habits.see_close(ms(1), 1, start + ms(at)), None);
        }
    }

    #[test]
    fn test_what_may_not_be_sent_twice_takes_what_is_surely_open() {
        let (mut habits, start) = (Habits::default(), Instant::now());
        assert!(habits.is_surely_open(ms(999)) && !habits.is_surely_open(ms(1000)));
        habits.see_open(ms(20_000), 1, start);
        assert!(habits.is_surely_open(ms(18_999)) && !habits.is_surely_open(ms(19_001)));
    }

    #[test]
    fn test_a_connection_dead_without_a_word_halves_what_is_used() {
        let (mut habits, start) = (Habits::default(), Instant::now());
        assert_eq!(habits.see_forgotten(ms(3000), start), None, "no firewall is so quick");
        assert_eq!(habits.see_forgotten(ms(40_000), start), Some(Lesson::Forgotten(ms(40_000))));
        assert_eq!(habits.see_forgotten(ms(50_000), start), None);
        assert_eq!(habits.idle_limit(), Some(ms(20_000)));
    }

    #[test]
    fn test_strange_keep_alive_fields_say_nothing() {
        for value in [&b""[..], b"timeout", b"timeout=", b"timeout=-1", b"timeout=x", b"max=5", b"timeout=99999999999", b"\xff=1"] {
            assert_eq!(timeout_said(value), None, "{value:?}");
        }
        assert_eq!(timeout_said(b"max=5, Timeout=\"7\""), Some(ms(7000)));
        assert_eq!(timeout_said(b"timeout=0").map(usable), Some(ms(0)));
    }

    #[test]
    fn test_short_timeouts_leave_half() {
        let usable = [100, 500, 5000, 75_000].map(|timeout| usable(ms(timeout)));
        assert_eq!(usable, [ms(50), ms(400), ms(4500), ms(74_000)]);
    }

    #[test]
    fn test_what_is_not_seen_again_is_forgotten() {
        let start = Instant::now();
        let (mut habits, _) = after_closes(&[(0, 2000), (3000, 2000), (6000, 2000)]);
        habits.see_close(ms(0), 7, start);
        habits.see_close(ms(0), 7, start + ms(100));
        habits.see_open(ms(1500), 3, start);
        habits.age(start + ms(4000));
        assert!(habits.idle_limit().is_some() && habits.request_cap() == Some(7));
        habits.age(start + ms(7000) + SOON_FORGOTTEN_AFTER);
        assert!(habits.idle_limit().is_some() && habits.request_cap().is_none() && habits.survived.is_none());
        habits.age(start + ms(8000) + FORGOTTEN_AFTER);
        assert!(habits.idle_limit().is_none() && habits.is_blank());
    }
}
