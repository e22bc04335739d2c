// SPDX-License-Identifier: Apache-2.0
//! Is this host to be left alone? Closed: no. Open: yes, for a while. Half-open: but for a few requests that try it.
//!
//! A circuit belongs to a whole host: an Upstream with all of its Targets, or a Service's own host. What one Target does wrong is for
//! health checks and the ejection of outliers.

use super::policy::BreakerRules;
use super::window::Window;
use std::time::Duration;

const ATTEMPTS: usize = 0;
const FAILURES: usize = 1;

/// One host's circuit.
#[derive(Debug)]
pub struct Breaker {
    rules: BreakerRules,
    state: State,
    /// Turns whenever the state does: what began before says nothing of what is now.
    era: u32,
    /// Failures since the last success.
    in_a_row: u32,
    window: Window<2>,
}

#[derive(Debug)]
enum State {
    Closed,
    Open { since: Duration, why: String },
    HalfOpen { since: Duration, why: String, trying: u32, succeeded: u32, last: Duration },
}

/// The word that an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    era: u32,
    /// It tries whether the host is well again.
    pub is_trial: bool,
}

/// The circuit is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why it opened, and until when.
    pub detail: String,
    /// When to come again.
    pub retry_after: Duration,
}

/// The state turned; what is to be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turned(pub String);

impl Breaker {
    /// A closed circuit.
    pub fn new(rules: BreakerRules) -> Self {
        let window = Window::new(rules.window);
        Breaker { rules, state: State::Closed, era: 0, in_a_row: 0, window }
    }

    /// May an attempt be made now? Whoever gets a pass tells how it went, or gives it back.
    ///
    /// # Errors
    /// The circuit is open, or as many as may try it do.
    pub fn admit(&mut self, now: Duration) -> Result<Pass, Refused> {
        if let State::Open { since, why } = &mut self.state {
            let left = (*since + self.rules.open).saturating_sub(now);
            if !left.is_zero() {
                let ago = now.saturating_sub(*since).as_secs();
                let detail = format!("opened {ago} s ago after {why}; tries again in {} s", in_whole_seconds(left));
                return Err(Refused { detail, retry_after: left });
            }
            self.state = State::HalfOpen { since: *since, why: std::mem::take(why), trying: 0, succeeded: 0, last: now };
            self.era += 1;
        }
        let State::HalfOpen { since, why, trying, succeeded, last } = &mut self.state else {
            return Ok(Pass { era: self.era, is_trial: false });
        };
        // Those that try may never end; what they say in the end counts all the same.
        let are_overdue = now.saturating_sub(*last) >= self.rules.open;
        if *trying + *succeeded >= self.rules.half_open_requests && !are_overdue {
            let ago = now.saturating_sub(*since).as_secs();
            let trying = (*trying).min(self.rules.half_open_requests);
            let detail = format!("opened {ago} s ago after {why}; half-open: {trying} of {} requests try", self.rules.half_open_requests);
            return Err(Refused { detail, retry_after: Duration::from_secs(1) });
        }
        *trying += 1;
        *last = now;
        Ok(Pass { era: self.era, is_trial: true })
    }

    /// The attempt went well.
    pub fn succeed(&mut self, pass: Pass, now: Duration) -> Option<Turned> {
        if pass.era != self.era {
            return None;
        }
        self.in_a_row = 0;
        self.window.add(ATTEMPTS, now);
        let State::HalfOpen { trying, succeeded, .. } = &mut self.state else { return None };
        *trying -= 1;
        *succeeded += 1;
        if *succeeded < self.rules.half_open_requests {
            return None;
        }
        let text = format!("closed: {succeeded} of {} requests that tried succeeded", self.rules.half_open_requests);
        self.turn(State::Closed);
        Some(Turned(text))
    }

    /// The attempt failed, and `what` says how.
    pub fn fail(&mut self, pass: Pass, now: Duration, what: &str) -> Option<Turned> {
        if pass.era != self.era {
            return None;
        }
        self.in_a_row += 1;
        self.window.add(ATTEMPTS, now);
        self.window.add(FAILURES, now);
        let why = match &self.state {
            State::Open { .. } => return None,
            State::HalfOpen { .. } => format!("a request that tried it failed: {what}"),
            State::Closed => self.reason_to_open(now, what)?,
        };
        let text = format!("opened after {why}; tries again in {} s", in_whole_seconds(self.rules.open));
        self.turn(State::Open { since: now, why });
        Some(Turned(text))
    }

    /// Nothing came of the attempt: the client left, or the request was not the host's to answer.
    pub fn give_back(&mut self, pass: Pass) {
        if let State::HalfOpen { trying, .. } = &mut self.state
            && pass.era == self.era
        {
            *trying -= 1;
        }
    }

    /// Is it closed?
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Does an answer of this status count as a failure?
    pub fn is_failure(&self, status: u16) -> bool {
        self.rules.statuses.contains(&status)
    }

    fn reason_to_open(&mut self, now: Duration, what: &str) -> Option<String> {
        if self.rules.failures.is_some_and(|most| self.in_a_row >= most) {
            return Some(match self.in_a_row {
                1 => format!("a failure: {what}"),
                count => format!("{count} failures in a row, the last: {what}"),
            });
        }
        let limit = self.rules.failure_percent?;
        let (attempts, failures) = (self.window.count(ATTEMPTS, now), self.window.count(FAILURES, now));
        let percent = failures as f64 * 100.0 / attempts as f64;
        (attempts >= u64::from(self.rules.least_requests) && percent >= limit).then(|| {
            let window = self.rules.window.as_secs();
            format!("{failures} of {attempts} attempts within {window} s failed ({percent:.0} %), the last: {what}")
        })
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.era += 1;
        self.in_a_row = 0;
        self.window.clear();
    }
}

/// Rounded up: who comes then is let through.
pub fn in_whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> BreakerRules {
        BreakerRules {
            failures: None,
            failure_percent: None,
            least_requests: 10,
            window: Duration::from_secs(10),
            open: Duration::from_secs(10),
            half_open_requests: 2,
            statuses: [503].into(),
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fail(breaker: &mut Breaker, now: Duration) -> Option<Turned> {
        let pass = breaker.admit(now).expect("it is not open");
        breaker.fail(pass, now, "connect() failed")
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(BreakerRules { failures: Some(3), ..rules() });
        assert_eq!(fail(&mut breaker, at(100)), None);
        assert_eq!(fail(&mut breaker, at(100)), None);
        let turned = fail(&mut breaker, at(100)).expect("that was the third");
        assert_eq!(turned.0, "opened after 3 failures in a row, the last: connect() failed; tries again in 10 s");
        breaker
    }

    #[test]
    fn test_it_opens_after_failures_in_a_row_and_says_why_and_until_when() {
        let refused = opened().admit(at(103)).expect_err("it is open");
        assert_eq!(refused.detail, "opened 3 s ago after 3 failures in a row, the last: connect() failed; tries again in 7 s");
        assert_eq!(refused.retry_after, at(7));
    }

    #[test]
    fn test_a_success_in_between_begins_the_row_anew() {
        let mut breaker = Breaker::new(BreakerRules { failures: Some(3), ..rules() });
        for _ in 0..10 {
            assert_eq!(fail(&mut breaker, at(1)), None);
            assert_eq!(fail(&mut breaker, at(1)), None);
            let pass = breaker.admit(at(1)).expect("it is closed");
            assert_eq!(breaker.succeed(pass, at(1)), None);
        }
    }

    #[test]
    fn test_it_opens_when_too_large_a_share_failed_of_enough_attempts() {
        let mut breaker = Breaker::new(BreakerRules { failure_percent: Some(50.0), ..rules() });
        for second in 0..4 {
            assert_eq!(fail(&mut breaker, at(second)), None);
            let pass = breaker.admit(at(second)).expect("it is closed");
            breaker.succeed(pass, at(second));
        }
        assert_eq!(fail(&mut breaker, at(4)), None, "nine attempts are too few to judge");
        let turned = fail(&mut breaker, at(5)).expect("6 of 10 failed");
        assert!(turned.0.contains("6 of 10 attempts within 10 s failed (60 %), the last: connect() failed"), "{}", turned.0);
    }

    #[test]
    fn test_half_open_lets_a_few_try_and_closes_when_all_of_them_succeed() {
        let mut breaker = opened();
        let passes = [breaker.admit(at(110)).expect("the first may try"), breaker.admit(at(110)).expect("and the second")];
        assert!(passes[0].is_trial);
        let refused = breaker.admit(at(111)).expect_err("two are enough");
        assert_eq!(refused.detail, "opened 11 s ago after 3 failures in a row, the last: connect() failed; half-open: 2 of 2 requests try");
        assert_eq!(breaker.succeed(passes[0], at(112)), None);
        let turned = breaker.succeed(passes[1], at(112)).expect("both succeeded");
        assert_eq!(turned.0, "closed: 2 of 2 requests that tried succeeded");
        assert!(breaker.admit(at(112)).is_ok_and(|pass| !pass.is_trial));
    }

    #[test]
    fn test_one_that_tries_and_fails_opens_it_again() {
        let mut breaker = opened();
        let pass = breaker.admit(at(110)).expect("it may try");
        assert!(breaker.fail(pass, at(111), "status 503").is_some());
        let refused = breaker.admit(at(112)).expect_err("it is open again");
        assert_eq!(refused.detail, "opened 1 s ago after a request that tried it failed: status 503; tries again in 9 s");
    }

    #[test]
    fn test_a_pass_given_back_lets_another_try() {
        let mut breaker = opened();
        let passes = [breaker.admit(at(110)).expect("the first may try"), breaker.admit(at(110)).expect("and the second")];
        breaker.give_back(passes[0]);
        assert!(breaker.admit(at(110)).is_ok());
        assert!(breaker.admit(at(110)).is_err());
    }

    #[test]
    fn test_who_tries_without_an_end_keeps_others_from_trying_only_so_long() {
        let mut breaker = opened();
        let hanging = [breaker.admit(at(110)).expect("the first may try"), breaker.admit(at(112)).expect("and the second")];
        assert!(breaker.admit(at(121)).is_err(), "the newest tries for 9 s");
        let late = breaker.admit(at(122)).expect("10 s are too long");
        assert!(late.is_trial);
        let refused = breaker.admit(at(123)).expect_err("one more, not any number");
        assert!(refused.detail.ends_with("half-open: 2 of 2 requests try"), "{}", refused.detail);
        assert_eq!(breaker.succeed(late, at(124)), None);
        assert!(breaker.succeed(hanging[0], at(140)).is_some(), "a host that is slower than the circuit is patient is well all the same");
        breaker.give_back(hanging[1]);
        assert!(breaker.is_closed());
    }

    #[test]
    fn test_what_began_before_the_circuit_turned_says_nothing() {
        let mut breaker = Breaker::new(BreakerRules { failures: Some(1), half_open_requests: 1, ..rules() });
        let old = breaker.admit(at(100)).expect("it is closed");
        fail(&mut breaker, at(100));
        let pass = breaker.admit(at(110)).expect("it may try");
        assert_eq!(breaker.fail(old, at(110), "late"), None);
        assert_eq!(breaker.succeed(old, at(110)), None);
        breaker.give_back(old);
        assert!(breaker.succeed(pass, at(110)).is_some());
    }
}
