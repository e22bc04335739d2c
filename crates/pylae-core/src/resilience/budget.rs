// SPDX-License-Identifier: Apache-2.0
//! May a request be sent again? Only as often as the requests of the last seconds allow, so that retries never become a storm.

use super::policy::BudgetRules;
use super::window::Window;
use std::time::Duration;

const REQUESTS: usize = 0;
const RETRIES: usize = 1;

/// What one host's retries may cost.
#[derive(Debug)]
pub struct Budget {
    rules: BudgetRules,
    window: Window<2>,
}

impl Budget {
    /// Nothing has been spent.
    pub fn new(rules: BudgetRules) -> Self {
        Budget { rules, window: Window::new(rules.window) }
    }

    /// A request is let in, whatever becomes of it.
    pub fn note_request(&mut self, now: Duration) {
        self.window.add(REQUESTS, now);
    }

    /// Spends one retry, if one is left.
    pub fn take(&mut self, now: Duration) -> bool {
        let by_share = self.window.count(REQUESTS, now) as f64 * self.rules.percent / 100.0;
        let at_least = self.rules.least_per_s * self.rules.window.as_secs_f64();
        let is_left = (self.window.count(RETRIES, now) + 1) as f64 <= by_share.max(at_least);
        if is_left {
            self.window.add(RETRIES, now);
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(percent: f64, least_per_s: f64) -> Budget {
        Budget::new(BudgetRules { percent, least_per_s, window: Duration::from_secs(10) })
    }

    fn spend(budget: &mut Budget, now: Duration) -> usize {
        (0..1000).filter(|_| budget.take(now)).count()
    }

    #[test]
    fn test_retries_are_a_share_of_the_requests() {
        let mut budget = budget(20.0, 0.0);
        let now = Duration::from_secs(100);
        assert_eq!(spend(&mut budget, now), 0);
        (0..100).for_each(|_| budget.note_request(now));
        assert_eq!(spend(&mut budget, now), 20);
        assert_eq!(spend(&mut budget, now + Duration::from_secs(20)), 0, "requests too old to count allow nothing");
    }

    #[test]
    fn test_some_are_allowed_however_few_the_requests() {
        let mut budget = budget(20.0, 0.5);
        let now = Duration::from_secs(100);
        assert_eq!(spend(&mut budget, now), 5);
        (0..20).for_each(|_| budget.note_request(now));
        assert_eq!(spend(&mut budget, now), 0, "the greater of both counts, not their sum");
        assert_eq!(spend(&mut budget, now + Duration::from_secs(10)), 5);
    }
}
