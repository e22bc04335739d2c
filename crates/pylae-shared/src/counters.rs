// SPDX-License-Identifier: Apache-2.0
//! How often was this key counted in this window, by all workers together?
//!
//! A counter is one 128-bit word: which key, until when, how many. Whatever is done to it is one compare-and-swap, so a
//! worker that is killed or stopped at any instruction leaves nothing half done, holds nobody up and keeps no counter
//! beyond the window's end. A key's place is a bucket of twelve counters.
//!
//! **A limit is never exceeded.**
//! * *Workers at once:* the count is added first, only then compared with the limit, and taken back when it is over. Two
//!   workers that meet a new key at the same moment may give it two counters; such twins count together.
//! * *A flood of keys:* when all twelve are live, the one whose window ends first gives way (of several the lowest), and
//!   its count stays behind as the bucket's floor: whoever is new in the bucket begins there (Metwally et al., "Efficient
//!   Computation of Frequent and Top-k Elements", 2005). A key that comes back after it gave way therefore has at
//!   least its old count. So a flood makes counts too high, never too low: it gets strangers refused, never let through.
//!   There is a floor for each length of window, which ends with the last window that left something there.
//! * *Two keys alike:* 53 bits of the hash are kept and some 14 choose the bucket. Keys that agree in all of them share a
//!   count: again too high, never too low.
//!
//! The order that the floor rests on: who evicts raises the floor, looks for a twin of the victim, then swaps; who comes in
//! swaps (marked *unsettled*), then reads the floor, adds it and takes the mark off, and whoever meets the mark does that
//! first. A twin that comes in while its sibling is evicted was either seen by who evicts, which then spares the sibling,
//! or came in after the floor was raised and reads it.

use crate::siphash::siphash24_128;
use crate::{Segment, header};
use portable_atomic::AtomicU128;
use std::sync::atomic::Ordering::SeqCst;

/// Counters in a bucket.
pub const BUCKET_SLOTS: usize = 12;
const FLOORS: usize = 4;
/// 64-bit words of a bucket: four cache lines.
pub const BUCKET_WORDS: usize = 2 * (BUCKET_SLOTS + FLOORS);

/// Tries after which a take is refused: more than a worker loses to others unless something is badly wrong.
const ATTEMPTS: usize = 1000;

const COUNT_BITS: u32 = 44;
/// Most a counter holds; a higher limit counts as this one.
pub const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const UNSETTLED: u128 = 1 << COUNT_BITS;
const LENGTH_SHIFT: u32 = COUNT_BITS + 1;
const EXPIRY_SHIFT: u32 = LENGTH_SHIFT + 2;
const EXPIRY_BITS: u32 = 28;
const TAG_SHIFT: u32 = EXPIRY_SHIFT + EXPIRY_BITS;

/// A second of the wall clock in 28 bits: it goes round every eight years, and two of them are compared by which is less
/// than four years ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Second(u32);

const SECOND_MASK: u32 = (1 << EXPIRY_BITS) - 1;
/// Longest stay of a counter: two years.
const LONGEST_STAY_S: u64 = 1 << 26;

impl Second {
    fn of_ms(ms: u64) -> Second {
        Second((ms / 1000) as u32 & SECOND_MASK)
    }

    fn has_come(self, now: Second) -> bool {
        now.0.wrapping_sub(self.0) & SECOND_MASK < 1 << (EXPIRY_BITS - 1)
    }

    fn later(self, other: Second) -> Second {
        if self.has_come(other) { other } else { self }
    }

    /// Seconds from `now` on; 0 when it has come.
    fn distance(self, now: Second) -> u32 {
        if self.has_come(now) { 0 } else { self.0.wrapping_sub(now.0) & SECOND_MASK }
    }
}

/// What one 128-bit word says; all zeros is a counter nobody has.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Counter(u128);

impl Counter {
    fn count(self) -> u64 {
        self.0 as u64 & COUNT_MAX
    }
    fn with_count(self, count: u64) -> Counter {
        Counter(self.0 & !u128::from(COUNT_MAX) | u128::from(count.min(COUNT_MAX)))
    }
    fn is_unsettled(self) -> bool {
        self.0 & UNSETTLED != 0
    }
    fn length_class(self) -> usize {
        (self.0 >> LENGTH_SHIFT) as usize % FLOORS
    }
    fn expiry(self) -> Second {
        Second((self.0 >> EXPIRY_SHIFT) as u32 & SECOND_MASK)
    }
    fn tag(self) -> u64 {
        (self.0 >> TAG_SHIFT) as u64
    }
    fn is_free(self, now: Second) -> bool {
        self.0 == 0 || self.expiry().has_come(now)
    }
}

/// The least a newcomer begins with, and until when; all zeros: nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Floor(u128);

impl Floor {
    const PRESENT: u128 = 1 << 127;

    fn new(count: u64, expiry: Second) -> Floor {
        Floor(Floor::PRESENT | u128::from(expiry.0) << 64 | u128::from(count))
    }
    fn count(self) -> u64 {
        self.0 as u64
    }
    fn expiry(self) -> Second {
        Second((self.0 >> 64) as u32 & SECOND_MASK)
    }
    fn is_live(self, now: Second) -> bool {
        self.0 != 0 && !self.expiry().has_come(now)
    }
    /// What it says to a counter that stays until `expiry`: one that stays longer than all that gave way is none of them.
    fn for_stay(self, expiry: Second, now: Second) -> u64 {
        if self.is_live(now) && expiry.has_come(self.expiry()) { self.count() } else { 0 }
    }
    fn raised(self, by: Counter, now: Second) -> Floor {
        if self.is_live(now) {
            Floor::new(self.count().max(by.count()), self.expiry().later(by.expiry()))
        } else {
            Floor::new(by.count(), by.expiry())
        }
    }
}

/// One window of a limit.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Most that may be counted in it.
    pub limit: u64,
    /// When it began, milliseconds since the epoch; part of the key.
    pub start_ms: u64,
    /// When it ends, milliseconds since the epoch; part of the key.
    pub end_ms: u64,
}

impl Window {
    fn length_class(&self) -> usize {
        match self.end_ms.saturating_sub(self.start_ms) {
            0..=60_000 => 0,
            60_001..=3_600_000 => 1,
            3_600_001..=86_400_000 => 2,
            _ => 3,
        }
    }
}

/// A key's bucket, and its counter as it is when it comes in.
struct Place<'a> {
    segment: &'a Segment,
    base: usize,
    newcomer: Counter,
    now: Second,
}

/// Where a key was found.
struct Found {
    index: usize,
    counter: Counter,
    /// Its count and those of its twins.
    sum: u64,
}

impl Place<'_> {
    fn slot(&self, index: usize) -> &AtomicU128 {
        self.segment.wide_word(self.base + 2 * index)
    }

    fn load(&self, index: usize) -> Counter {
        Counter(self.slot(index).load(SeqCst))
    }

    fn swap(&self, index: usize, from: Counter, to: Counter) -> bool {
        self.slot(index).compare_exchange(from.0, to.0, SeqCst, SeqCst).is_ok()
    }

    fn floor_word(&self, length_class: usize) -> &AtomicU128 {
        self.segment.wide_word(self.base + 2 * (BUCKET_SLOTS + length_class))
    }

    fn floor_for(&self, counter: Counter) -> u64 {
        Floor(self.floor_word(counter.length_class()).load(SeqCst)).for_stay(counter.expiry(), self.now)
    }

    /// Adds the floor to a counter that came in and was not settled.
    fn settle(&self, index: usize, counter: Counter) {
        let settled = counter.with_count(counter.count() + self.floor_for(counter));
        // Lost to another who settled it, added to it, or took its place: all the same to us, we look again.
        self.swap(index, counter, Counter(settled.0 & !UNSETTLED));
    }

    /// Looks for the key, settles what it finds.
    fn find(&self) -> Option<Found> {
        let mut found: Option<Found> = None;
        for index in 0..BUCKET_SLOTS {
            let mut counter = self.load(index);
            while counter.tag() == self.newcomer.tag() && counter.is_unsettled() {
                self.settle(index, counter);
                counter = self.load(index);
            }
            if counter.tag() == self.newcomer.tag() {
                match &mut found {
                    None => found = Some(Found { index, counter, sum: counter.count() }),
                    Some(found) => found.sum += counter.count(),
                }
            }
        }
        found
    }

    /// Gives the newcomer a counter; `false` when another was quicker, or nobody can give way.
    fn claim(&self) -> bool {
        let mut counters = [Counter(0); BUCKET_SLOTS];
        for (index, counter) in counters.iter_mut().enumerate() {
            *counter = self.load(index);
            if counter.is_free(self.now) {
                return self.swap(index, *counter, self.newcomer);
            }
            if counter.is_unsettled() {
                self.settle(index, *counter);
                return false;
            }
        }
        let has_twin = |index: usize, among: &[Counter; BUCKET_SLOTS]| {
            among.iter().enumerate().any(|(other, counter)| other != index && counter.tag() == counters[index].tag())
        };
        let victim = (0..BUCKET_SLOTS)
            .filter(|&index| !has_twin(index, &counters))
            .min_by_key(|&index| (counters[index].expiry().distance(self.now), counters[index].count()));
        let Some(index) = victim else { return false };
        let victim = counters[index];
        let floor = self.floor_word(victim.length_class());
        let raise = |floor: u128| Some(Floor(floor).raised(victim, self.now).0);
        let _ = floor.fetch_update(SeqCst, SeqCst, raise);
        let now_there: [Counter; BUCKET_SLOTS] = std::array::from_fn(|index| self.load(index));
        if has_twin(index, &now_there) || !self.swap(index, victim, self.newcomer) {
            return false;
        }
        self.segment.word(header::EVICTED).fetch_add(1, SeqCst);
        true
    }

    /// Adds `cost`. Answers where and what the window has then; as an error what it has without it.
    fn add(&self, cost: u64, limit: u64) -> Result<(usize, u64), u64> {
        for _ in 0..ATTEMPTS {
            let Some(found) = self.find() else {
                let floor = self.floor_for(self.newcomer);
                if floor + cost > limit {
                    // Room is short: a stranger whose count nobody knows any more is not let through.
                    self.segment.word(header::REFUSED).fetch_add(u64::from(floor > 0), SeqCst);
                    return Err(floor);
                }
                self.claim();
                continue;
            };
            if found.sum + cost > limit {
                return Err(found.sum);
            }
            let added = found.counter.with_count(found.counter.count() + cost);
            if !self.swap(found.index, found.counter, added) {
                continue;
            }
            // A twin that came in meanwhile counts as well; a counter that gave way since has left its count in the floor.
            let sum = self.find().map_or(added.count(), |found| found.sum);
            if sum > limit {
                self.give_back(found.index, cost);
                return Err(sum.saturating_sub(cost));
            }
            return Ok((found.index, sum));
        }
        self.segment.word(header::REFUSED).fetch_add(1, SeqCst);
        Err(limit)
    }

    /// Takes `cost` back. If the key gave way meanwhile its count is in the floor and stays there: too high, never too low.
    fn give_back(&self, index: usize, cost: u64) {
        loop {
            let counter = self.load(index);
            if counter.tag() != self.newcomer.tag() || self.swap(index, counter, counter.with_count(counter.count().saturating_sub(cost))) {
                return;
            }
        }
    }

    fn usage(&self) -> u64 {
        self.find().map_or_else(|| self.floor_for(self.newcomer), |found| found.sum)
    }
}

impl Segment {
    fn place(&self, identifier: &[u8], window: &Window, now_ms: u64) -> Place<'_> {
        let (low, high) = siphash24_128(self.secret(), &[window.start_ms, window.end_ms], identifier);
        let bucket = (u64::from(low as u32) * self.buckets() as u64) >> 32;
        // One second more than the window, rounded up: another worker's clock reading may be a little older than ours.
        let now_s = now_ms / 1000;
        let expires_s = (window.end_ms.div_ceil(1000) + 1).clamp(now_s + 1, now_s + LONGEST_STAY_S);
        let tag = u128::from(high >> (TAG_SHIFT - 64)).max(1);
        let expiry = u128::from(expires_s as u32 & SECOND_MASK);
        let word = tag << TAG_SHIFT | expiry << EXPIRY_SHIFT | (window.length_class() as u128) << LENGTH_SHIFT | UNSETTLED;
        Place {
            segment: self,
            base: self.counters_at() + bucket as usize * BUCKET_WORDS,
            newcomer: Counter(word),
            now: Second::of_ms(now_ms),
        }
    }

    /// Counts `cost` in every window, or in none when one would go over its limit. Answers whether it was counted and what
    /// each window has then.
    pub fn take(&self, identifier: &[u8], windows: &[Window], cost: u64, now_ms: u64) -> (bool, Vec<u64>) {
        let mut usages = Vec::with_capacity(windows.len());
        let mut taken: Vec<(Place<'_>, usize)> = Vec::with_capacity(windows.len());
        for window in windows {
            let place = self.place(identifier, window, now_ms);
            let limit = window.limit.min(COUNT_MAX);
            let outcome = if cost == 0 {
                let usage = place.usage();
                if usage > limit { Err(usage) } else { Ok((BUCKET_SLOTS, usage)) }
            } else if cost > limit {
                Err(place.usage())
            } else {
                place.add(cost, limit)
            };
            match outcome {
                Ok((index, usage)) => {
                    usages.push(usage);
                    taken.push((place, index));
                }
                Err(usage) => {
                    for ((place, index), usage) in taken.iter().zip(&mut usages).filter(|_| cost > 0) {
                        place.give_back(*index, cost);
                        *usage = usage.saturating_sub(cost);
                    }
                    usages.push(usage);
                    let rest = &windows[usages.len()..];
                    usages.extend(rest.iter().map(|window| self.read(identifier, window, now_ms)));
                    return (false, usages);
                }
            }
        }
        (true, usages)
    }

    /// What the window has.
    pub fn read(&self, identifier: &[u8], window: &Window, now_ms: u64) -> u64 {
        self.place(identifier, window, now_ms).usage()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::os::fd::AsRawFd;

    const NOW_MS: u64 = 1_767_225_602_000;

    fn segment(slots: usize) -> Segment {
        let descriptor = crate::create(2, slots, 64).expect("a segment");
        Segment::open(descriptor.as_raw_fd()).expect("the same")
    }

    fn minute(limit: u64) -> Window {
        Window { limit, start_ms: NOW_MS - 2000, end_ms: NOW_MS + 58_000 }
    }

    fn second(limit: u64) -> Window {
        Window { limit, start_ms: NOW_MS, end_ms: NOW_MS + 1000 }
    }

    #[test]
    fn test_a_refused_take_counts_in_no_window() {
        let segment = segment(64);
        let windows = [minute(10), second(2)];
        assert_eq!(segment.take(b"a", &windows, 1, NOW_MS), (true, vec![1, 1]));
        assert_eq!(segment.take(b"a", &windows, 1, NOW_MS), (true, vec![2, 2]));
        assert_eq!(segment.take(b"a", &windows, 1, NOW_MS), (false, vec![2, 2]));
        let next = Window { limit: 2, start_ms: NOW_MS + 1000, end_ms: NOW_MS + 2000 };
        assert_eq!(segment.take(b"a", &[minute(10), next], 1, NOW_MS + 1005), (true, vec![3, 1]));
        assert_eq!(segment.take(b"a", &[next, minute(3), second(9)], 1, NOW_MS + 1005), (false, vec![1, 3, 2]));
    }

    #[test]
    fn test_costs_and_limits_at_their_ends() {
        let segment = segment(64);
        assert_eq!(segment.take(b"a", &[minute(10)], 7, NOW_MS), (true, vec![7]));
        assert_eq!(segment.take(b"a", &[minute(10)], 4, NOW_MS), (false, vec![7]));
        assert_eq!(segment.take(b"a", &[minute(10)], 0, NOW_MS), (true, vec![7]));
        assert_eq!(segment.take(b"a", &[minute(6)], 0, NOW_MS), (false, vec![7]));
        assert_eq!(segment.take(b"b", &[minute(0)], 1, NOW_MS), (false, vec![0]));
        assert_eq!(segment.take(b"c", &[minute(u64::MAX)], u64::MAX, NOW_MS), (false, vec![0]));
        assert_eq!(segment.take(b"c", &[minute(u64::MAX)], COUNT_MAX, NOW_MS), (true, vec![COUNT_MAX]));
        assert_eq!(segment.take(b"c", &[minute(u64::MAX)], 1, NOW_MS), (false, vec![COUNT_MAX]));
    }

    #[test]
    fn test_flood_of_ten_times_the_capacity_exceeds_no_limit_and_loses_no_slot() {
        let segment = segment(252);
        let mut admitted: HashMap<u32, u64> = HashMap::new();
        let keys = 2520;
        for _ in 0..5 {
            for key in 0..keys {
                if segment.take(&u32::to_le_bytes(key), &[minute(3)], 1, NOW_MS).0 {
                    *admitted.entry(key).or_default() += 1;
                }
            }
        }
        assert!(admitted.values().all(|&count| count <= 3), "{:?}", admitted.values().max());
        let events = segment.counter_events();
        assert!(events.evicted > 0 && events.refused > 0, "{events:?}");
        // The flood is over with its window: every slot is to be had again, and nobody is refused.
        let later_ms = NOW_MS + 60_000;
        let later = Window { limit: 1, start_ms: later_ms, end_ms: later_ms + 60_000 };
        let evicted = segment.counter_events().evicted;
        for key in 0..100 {
            assert!(segment.take(&u32::to_le_bytes(key), &[later], 1, later_ms).0);
        }
        assert_eq!(segment.counter_events().evicted, evicted);
    }

    #[test]
    fn test_a_key_that_gave_way_comes_back_with_its_count() {
        let segment = segment(BUCKET_SLOTS);
        for _ in 0..5 {
            assert!(segment.take(b"returns", &[minute(5)], 1, NOW_MS).0);
        }
        let windows: Vec<Window> =
            (0..u64::from(BUCKET_SLOTS as u32)).map(|n| Window { limit: 100, start_ms: NOW_MS - n, end_ms: NOW_MS + 59_000 - n }).collect();
        for window in &windows {
            assert!(segment.take(b"stranger", &[*window], 6, NOW_MS).0);
        }
        assert!(segment.counter_events().evicted > 0);
        assert!(!segment.take(b"returns", &[minute(5)], 1, NOW_MS).0);
        assert!(segment.take(b"returns", &[minute(50)], 1, NOW_MS).0, "too high, but not beyond what gave way");
    }

    #[test]
    fn test_a_flood_of_seconds_touches_no_minute() {
        let segment = segment(BUCKET_SLOTS);
        assert!(segment.take(b"held", &[minute(2)], 1, NOW_MS).0);
        for key in 0..1000u32 {
            segment.take(&key.to_le_bytes(), &[second(1)], 1, NOW_MS);
        }
        assert_eq!(segment.read(b"held", &minute(2), NOW_MS), 1, "what ends first gives way first");
        assert!(segment.take(b"new", &[minute(1)], 1, NOW_MS).0, "the floor is one of seconds");
    }

    #[test]
    fn test_what_is_over_gives_its_slot_back() {
        let segment = segment(BUCKET_SLOTS);
        for round in 0..100u64 {
            let now_ms = NOW_MS + round * 10_000;
            for key in 0..BUCKET_SLOTS as u32 {
                let window = Window { limit: 1, start_ms: now_ms, end_ms: now_ms + 1000 };
                assert!(segment.take(&key.to_le_bytes(), &[window], 1, now_ms).0, "round {round}, key {key}");
            }
        }
        assert_eq!(segment.counter_events().evicted, 0);
    }

    #[test]
    fn test_seconds_go_round() {
        let before = Second(SECOND_MASK - 1);
        let after = Second(3);
        assert!(before.has_come(after) && !after.has_come(before));
        assert_eq!(after.distance(before), 5);
        assert_eq!(before.later(after), after);
    }

    #[test]
    fn test_threads_together_never_exceed_a_limit_and_reach_it() {
        let segment = segment(1024);
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..10_000).filter(|_| segment.take(b"k", &[minute(777)], 1, NOW_MS).0).count())).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(admitted, 777);
    }

    #[test]
    fn test_threads_that_crowd_one_bucket_never_exceed_a_limit() {
        for round in 0..20u64 {
            let segment = segment(BUCKET_SLOTS);
            let keys = 40u64;
            let admitted: Vec<HashMap<u64, u64>> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4u64)
                    .map(|thread| {
                        let segment = &segment;
                        scope.spawn(move || {
                            let mut admitted = HashMap::new();
                            let mut state = round * 7919 + thread;
                            for _ in 0..5000 {
                                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                                let key = (state >> 33) % keys;
                                // Each key has its own window, so that all of them give way in their turn.
                                let window = Window { limit: 60, start_ms: NOW_MS - key, end_ms: NOW_MS + 50_000 + key * 100 };
                                if segment.take(&key.to_le_bytes(), &[window], 1, NOW_MS).0 {
                                    *admitted.entry(key).or_default() += 1;
                                }
                            }
                            admitted
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            for key in 0..keys {
                let sum: u64 = admitted.iter().filter_map(|counts| counts.get(&key)).sum();
                assert!(sum <= 60, "round {round}: key {key} was let through {sum} times");
            }
        }
    }
}
