// SPDX-License-Identifier: Apache-2.0
//! Does an address answer so much worse than it should that it is left out for a while?
//!
//! Each worker counts for itself; who is out is out for all of them. An address of a name with a TTL of 0 is not judged: it is
//! not known long enough.

use super::policy::{MOST_TIMES, Outlier};
use super::{Address, Balancer, Seat};
use crate::clock::now_ms;
use crate::healthcheck::{Ejection, Rules, Watch};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// No ejection lasts longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl Balancer {
    /// Counts how a request went, and judges the address at the end of each interval. Answers when it is left out from now on.
    pub fn count(
        &self,
        address: &Address,
        is_success: bool,
        outlier: &Outlier,
        rules: &Rules,
        watch: &Watch,
        now: Duration,
    ) -> Option<Ejection> {
        let tally = &address.tally;
        let since = Duration::from_nanos(tally.since_ns.load(Relaxed));
        let last = watch.ejection(&address.place);
        // What was counted before it was left out, or long ago, is no word on how it does now.
        let is_over = last.is_some_and(|last| Duration::from_millis(last.until_monotonic_ms) > since)
            || now.saturating_sub(since) >= outlier.interval.saturating_mul(2);
        if since.is_zero() || is_over {
            tally.begin(now);
        }
        let counter = if is_success { &tally.successes } else { &tally.failures };
        counter.store(counter.load(Relaxed).saturating_add(1), Relaxed);
        if now.saturating_sub(Duration::from_nanos(tally.since_ns.load(Relaxed))) < outlier.interval {
            return None;
        }
        let (successes, failures) = tally.begin(now);
        let requests = u64::from(successes) + u64::from(failures);
        if requests == 0 || requests < u64::from(outlier.least_requests) {
            return None;
        }
        if u64::from(successes) * 100 >= u64::from(outlier.success_rate_percent) * requests {
            watch.relax_ejection(&address.place);
            return None;
        }
        if !self.may_eject(address, outlier, rules, watch, now) {
            return None;
        }
        let times = (last.map_or(0, |before| before.times) + 1).min(MOST_TIMES);
        let lasts = outlier.ejection_time.saturating_mul(u32::from(times));
        let ejection = Ejection {
            until_monotonic_ms: now.saturating_add(lasts.min(LONGEST)).as_millis() as u64,
            since_ms: now_ms(),
            times,
            success_rate_percent: (u64::from(successes) * 100 / requests) as u8,
            requests: u32::try_from(requests).unwrap_or(u32::MAX),
        };
        watch.eject(&address.place, &ejection).then_some(ejection)
    }

    /// Is it in, are few enough out, outliers or unhealthy, and does one stay? Two workers that ask at once may leave out one too
    /// many.
    fn may_eject(&self, address: &Address, outlier: &Outlier, rules: &Rules, watch: &Watch, now: Duration) -> bool {
        let roster = self.roster();
        let now_ms = now.as_millis() as u64;
        let is_ejected = |one: &Arc<Address>| watch.ejection(&one.place).is_some_and(|ejection| !ejection.is_over(now_ms));
        let is_out = |one: &Arc<Address>| is_ejected(one) || rules.is_on && !watch.health(&one.place).is_healthy;
        let is_in = roster.addresses().any(|one| Arc::ptr_eq(&one.place, &address.place) && !is_out(one));
        let out = roster.addresses().filter(|one| is_out(one)).count() + 1;
        let all = roster.seats.iter().filter(|seat| matches!(seat, Seat::Known(_))).count();
        is_in && out < roster.seats.len() && out * 100 <= usize::from(outlier.most_ejected_percent) * all
    }
}
