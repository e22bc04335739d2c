// SPDX-License-Identifier: Apache-2.0
//! How long does a server keep an idle connection, and for how many requests? Learned from what it says and from how it closes.
//!
//! A connection that its server closes at the moment a request is sent on it is the most reported fault of every gateway. So
//! ours are closed, or not used any more, a margin before the server would do it.
//!
//! One close proves nothing: a server that restarts closes all its connections whatever their age. Two closes at different
//! moments, after about the same time of idleness, show an idle timeout; two right after an answer of the same number, a cap.

use std::time::{Duration, Instant};

/// A close this soon after an answer has nothing to do with idleness.
pub const AT_ONCE: Duration = Duration::from_millis(20);
/// Closes of one moment have one cause.
const ONE_MOMENT: Duration = Duration::from_millis(50);
/// What was learned and not seen again for this long is forgotten: the server may have changed. (Ours end first, so nothing is
/// seen again; to learn anew costs two closes met.)
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);
/// The same for a cap: wrongly learned it costs many connections.
const CAP_FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// No common server closes sooner than this by default (gunicorn: 2 s).
const SURELY_OPEN: Duration = Duration::from_secs(1);
/// Closes remembered.
const CLOSES: usize = 4;
/// Bounds of the margin, which is else a tenth.
const MARGIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The server closed a connection that lay idle.
#[derive(Debug, Clone, Copy)]
struct Close {
    /// How long it had lain idle.
    idle: Duration,
    at: Instant,
}

/// What was learned anew, for a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// It closes what lay idle for this long.
    IdleTimeout(Duration),
    /// It closes after this many requests.
    RequestCap(u32),
}

/// What is known of one server.
#[derive(Debug, Default)]
pub struct Habits {
    said: Option<Duration>,
    closes: [Option<Close>; CLOSES],
    idle_timeout: Option<(Duration, Instant)>,
    request_cap: Option<(u32, Instant)>,
    /// Requests after which it closed at once, and when that was, the last time.
    closed_after: Option<(u32, Instant)>,
}

/// How long a connection is used whose server closes it after this time.
pub fn usable(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 10).clamp(MARGIN.0, MARGIN.1).min(timeout / 2))
}

fn apart(one: Instant, other: Instant) -> Duration {
    one.max(other) - one.min(other)
}

impl Habits {
    /// How long a connection may lie idle and still be used; `None`: nothing is known.
    pub fn idle_limit(&self) -> Option<Duration> {
        let learned = self.idle_timeout.map(|(timeout, _)| timeout);
        [self.said, learned].into_iter().flatten().min().map(usable)
    }

    /// For what may not be sent twice: is this connection safe to take?
    pub fn is_surely_open(&self, idle: Duration) -> bool {
        idle < SURELY_OPEN || self.idle_limit().is_some()
    }

    /// How many requests a connection may carry; `None`: nothing is known.
    pub fn request_cap(&self) -> Option<u32> {
        self.request_cap.map(|(cap, _)| cap)
    }

    /// Is there anything to remember?
    pub fn is_blank(&self) -> bool {
        self.said.is_none() && self.closed_after.is_none() && self.request_cap.is_none() && self.closes[0].is_none()
    }

    /// The server says how long it keeps an idle connection (`Keep-Alive: timeout=5`).
    pub fn hear(&mut self, timeout: Duration) {
        self.said = Some(timeout);
    }

    /// The server closed a connection, without having said so, after it had lain idle for `idle` and carried `requests`.
    pub fn see_close(&mut self, idle: Duration, requests: u32, at: Instant) -> Option<Lesson> {
        if idle <= AT_ONCE {
            let before = self.closed_after.replace((requests, at));
            let is_second = before.is_some_and(|(count, moment)| count == requests && apart(moment, at) > ONE_MOMENT);
            let is_new = self.request_cap.map(|(cap, _)| cap) != Some(requests);
            if is_second {
                self.request_cap = Some((requests, at));
            }
            return (is_second && is_new).then_some(Lesson::RequestCap(requests));
        }
        let is_alike = |close: &&Close| {
            let tolerance = (close.idle / 10).max(MARGIN.0);
            close.idle.abs_diff(idle) <= tolerance && apart(close.at, at) > ONE_MOMENT
        };
        let before = self.closes.iter().flatten().find(is_alike).map(|close| close.idle);
        self.closes.rotate_right(1);
        self.closes[0] = Some(Close { idle, at });
        let shown = before?.min(idle);
        let known = self.idle_timeout.map(|(timeout, _)| timeout);
        let timeout = known.map_or(shown, |known| known.min(shown));
        self.idle_timeout = Some((timeout, at));
        (known != Some(timeout)).then_some(Lesson::IdleTimeout(timeout))
    }

    /// Forgets what was not seen again for long.
    pub fn age(&mut self, now: Instant) {
        let age = |at: Instant| now.saturating_duration_since(at);
        self.idle_timeout = self.idle_timeout.filter(|&(_, at)| age(at) <= FORGOTTEN_AFTER);
        if self.closes[0].is_some_and(|close| age(close.at) > FORGOTTEN_AFTER) {
            self.closes = [None; CLOSES];
        }
        if self.request_cap.is_some_and(|(_, at)| age(at) > CAP_FORGOTTEN_AFTER) {
            (self.request_cap, self.closed_after) = (None, None);
        }
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

    #[test]
    fn test_two_like_closes_show_an_idle_timeout_and_ours_is_a_margin_below() {
        let (mut habits, start) = (Habits::default(), Instant::now());
        assert_eq!(habits.see_close(ms(5000), 3, start), None);
        assert_eq!(habits.idle_limit(), None);
        assert_eq!(habits.see_close(ms(5020), 1, start + ms(7000)), Some(Lesson::IdleTimeout(ms(5000))));
        assert_eq!(habits.idle_limit(), Some(ms(4500)));
        assert_eq!(habits.see_close(ms(5010), 9, start + ms(20000)), None, "known already");
    }

    #[test]
    fn test_a_restart_shows_nothing() {
        let (mut habits, start) = (Habits::default(), Instant::now());
        for idle in [10, 300, 310, 2000, 2010, 2100] {
            assert_eq!(habits.see_close(ms(idle + 30), 5, start + ms(idle % 40)), None);
        }
        assert_eq!(habits.idle_limit(), None);
    }

    #[test]
    fn test_closes_of_all_ages_show_nothing() {
        let (mut habits, start) = (Habits::default(), Instant::now());
        for (at, idle) in [(0, 100), (1000, 400), (2000, 800), (3000, 2000)] {
            assert_eq!(habits.see_close(ms(idle), 2, start + ms(at)), None);
        }
    }

    #[test]
    fn test_two_closes_after_the_same_answer_show_a_cap() {
        let (mut habits, start) = (Habits::default(), Instant::now());
        assert_eq!(habits.see_close(ms(0), 100, start), None);
        assert_eq!(habits.see_close(ms(1), 100, start + ms(9)), None, "a restart ends many at once");
        assert_eq!(habits.see_close(ms(1), 100, start + ms(70)), Some(Lesson::RequestCap(100)));
        assert_eq!((habits.request_cap(), habits.idle_limit()), (Some(100), None));
    }

    #[test]
    fn test_closes_after_other_answers_show_no_cap() {
        let (mut habits, start) = (Habits::default(), Instant::now());
        for (at, requests) in [(0, 3), (100, 7), (200, 2), (300, 9), (400, 3)] {
            assert_eq!(habits.see_close(ms(1), requests, start + ms(at)), None);
        }
    }

    #[test]
    fn test_what_a_server_says_is_believed_at_once() {
        let mut habits = Habits::default();
        habits.hear(timeout_said(b"timeout=5, max=100").expect("a timeout"));
        assert_eq!(habits.idle_limit(), Some(ms(4500)));
        habits.hear(ms(60_000));
        assert_eq!(habits.idle_limit(), Some(ms(59_000)));
    }

    #[test]
    fn test_strange_keep_alive_fields_say_nothing() {
        for value in [&b""[..], b"timeout", b"timeout=", b"timeout=-1", b"timeout=x", b"max=5", b"timeout=99999999999", b"\xff=1"] {
            assert_eq!(timeout_said(value), None, "{value:?}");
        }
        assert_eq!(timeout_said(b"max=5, Timeout=\"7\""), Some(ms(7000)));
    }

    #[test]
    fn test_short_timeouts_leave_half() {
        let usable = [100, 500, 5000, 75_000].map(|timeout| usable(ms(timeout)));
        assert_eq!(usable, [ms(50), ms(400), ms(4500), ms(74_000)]);
    }

    #[test]
    fn test_what_is_not_seen_again_is_forgotten() {
        let (mut habits, start) = (Habits::default(), Instant::now());
        habits.see_close(ms(2000), 1, start);
        habits.see_close(ms(2000), 1, start + ms(3000));
        habits.see_close(ms(0), 7, start);
        habits.see_close(ms(0), 7, start + ms(100));
        habits.age(start + ms(4000));
        assert!(habits.idle_limit().is_some() && habits.request_cap() == Some(7));
        habits.age(start + ms(4000) + CAP_FORGOTTEN_AFTER);
        assert!(habits.idle_limit().is_some() && habits.request_cap().is_none());
        habits.age(start + ms(4000) + FORGOTTEN_AFTER);
        assert!(habits.idle_limit().is_none() && habits.is_blank());
    }
}
