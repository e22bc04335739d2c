// SPDX-License-Identifier: Apache-2.0
//! How often was this key counted in this window, by all workers together?
//!
//! A bucket of eight counters is one cache-line-friendly stretch with a word that says who works in it. The holder works
//! for some tens of nanoseconds and never across a request; when it is killed in there, whoever comes next takes the word
//! over, because a counter counts only once its expiry is written, last. When all eight are live the smallest is evicted
//! and the newcomer inherits its count (Metwally et al., "Space-Saving", 2005): a flood of keys makes counts too high,
//! never too low, so a limit is never exceeded.

use crate::siphash::siphash24;
use crate::{HEADER_WORDS, SLOT_WORDS, Segment, header, monotonic_ms};
use std::sync::atomic::Ordering;

/// Counters in a bucket.
pub const BUCKET_SLOTS: usize = 8;
const SLOT_FIELDS: usize = 4;
const BUCKET_HEADER: usize = 4;
/// Words of a bucket.
pub const BUCKET_WORDS: usize = BUCKET_HEADER + BUCKET_SLOTS * SLOT_FIELDS;

const LOCK: usize = 0;
const FLOOR: usize = 1;
const FLOOR_UNTIL: usize = 2;

const KEY_LOW: usize = 0;
const KEY_HIGH: usize = 1;
const COUNT: usize = 2;
const EXPIRES: usize = 3;

/// Longest wait for a bucket, in milliseconds; then the attempt is refused (a limit is never exceeded for want of a lock).
const PATIENCE_MS: u64 = 20;

/// One window of a limit.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Most that may be counted in it.
    pub limit: u64,
    /// When it began, milliseconds since the epoch; part of the key.
    pub start_ms: u64,
    /// When it ends, milliseconds since the epoch.
    pub end_ms: u64,
}

struct Held<'a> {
    segment: &'a Segment,
    base: usize,
}

impl Held<'_> {
    fn load(&self, word: usize) -> u64 {
        self.segment.word(self.base + word).load(Ordering::Relaxed)
    }
    fn store(&self, word: usize, value: u64) {
        self.segment.word(self.base + word).store(value, Ordering::Relaxed);
    }
    fn slot(index: usize, field: usize) -> usize {
        BUCKET_HEADER + index * SLOT_FIELDS + field
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.segment.word(self.base + LOCK).store(0, Ordering::Release);
    }
}

impl Segment {
    fn counter_key(&self, identifier: &[u8], window: &Window) -> (u64, u64) {
        let mut bytes = Vec::with_capacity(identifier.len() + 16);
        bytes.extend_from_slice(&window.start_ms.to_le_bytes());
        bytes.extend_from_slice(&window.end_ms.to_le_bytes());
        bytes.extend_from_slice(identifier);
        let secret = self.secret();
        (siphash24(secret, &bytes), siphash24((secret.1 ^ 0x5bd1_e995, secret.0), &bytes))
    }

    fn hold(&self, key: (u64, u64)) -> Option<Held<'_>> {
        let bucket = key.1 as usize & (self.buckets() - 1);
        let base = HEADER_WORDS + self.worker_slots() * SLOT_WORDS + bucket * BUCKET_WORDS;
        let lock = self.word(base + LOCK);
        let me = u64::from(std::process::id());
        let mut spins = 0u32;
        let mut since = None;
        loop {
            match lock.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Held { segment: self, base }),
                Err(0) => {}
                Err(owner) => {
                    spins += 1;
                    if spins % 64 != 0 {
                        std::hint::spin_loop();
                        continue;
                    }
                    std::thread::yield_now();
                    if !is_alive(owner) && lock.compare_exchange(owner, me, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                        self.word(header::STOLEN).fetch_add(1, Ordering::Relaxed);
                        return Some(Held { segment: self, base });
                    }
                    if monotonic_ms() - *since.get_or_insert_with(monotonic_ms) > PATIENCE_MS {
                        self.word(header::REFUSED).fetch_add(1, Ordering::Relaxed);
                        return None;
                    }
                }
            }
        }
    }

    /// Finds the key's counter in its bucket, or makes room for it.
    fn find(&self, held: &Held<'_>, key: (u64, u64), window: &Window, now_ms: u64) -> usize {
        let mut free = None;
        let mut smallest = (u64::MAX, u64::MAX, 0);
        for index in 0..BUCKET_SLOTS {
            let expires = held.load(Held::slot(index, EXPIRES));
            if expires <= now_ms {
                free.get_or_insert(index);
                continue;
            }
            if held.load(Held::slot(index, KEY_LOW)) == key.0 && held.load(Held::slot(index, KEY_HIGH)) == key.1 {
                return index;
            }
            let candidate = (held.load(Held::slot(index, COUNT)), expires, index);
            smallest = smallest.min(candidate);
        }
        let index = free.unwrap_or_else(|| {
            // All live: the smallest goes, and what it had counted becomes the least anybody new here can have.
            self.word(header::EVICTED).fetch_add(1, Ordering::Relaxed);
            held.store(FLOOR, held.load(FLOOR).max(smallest.0));
            held.store(FLOOR_UNTIL, held.load(FLOOR_UNTIL).max(smallest.1));
            smallest.2
        });
        let floor = if held.load(FLOOR_UNTIL) > now_ms {
            held.load(FLOOR)
        } else {
            held.store(FLOOR, 0);
            0
        };
        held.store(Held::slot(index, EXPIRES), 0);
        held.store(Held::slot(index, KEY_LOW), key.0);
        held.store(Held::slot(index, KEY_HIGH), key.1);
        held.store(Held::slot(index, COUNT), floor);
        self.word(held.base + Held::slot(index, EXPIRES)).store(window.end_ms, Ordering::Release);
        index
    }

    /// Counts `cost` in every window, or in none when one would go over its limit. Answers whether it was counted and
    /// what each window has then.
    pub fn take(&self, identifier: &[u8], windows: &[Window], cost: u64, now_ms: u64) -> (bool, Vec<u64>) {
        let mut usages = Vec::with_capacity(windows.len());
        let mut allowed = true;
        let mut taken = 0;
        for window in windows {
            let key = self.counter_key(identifier, window);
            let Some(held) = self.hold(key) else {
                allowed = false;
                usages.push(window.limit);
                break;
            };
            let index = self.find(&held, key, window, now_ms);
            let count = held.load(Held::slot(index, COUNT));
            if count + cost > window.limit {
                allowed = false;
                usages.push(count);
                break;
            }
            held.store(Held::slot(index, COUNT), count + cost);
            usages.push(count + cost);
            taken += 1;
        }
        if !allowed {
            for (window, usage) in windows[..taken].iter().zip(&mut usages) {
                self.give_back(identifier, window, cost, now_ms);
                *usage -= cost;
            }
            for window in &windows[usages.len()..] {
                usages.push(self.read(identifier, window, now_ms));
            }
        }
        (allowed, usages)
    }

    /// Counts `cost` whatever the limit; answers what the window has then.
    pub fn add(&self, identifier: &[u8], window: &Window, cost: u64, now_ms: u64) -> u64 {
        let key = self.counter_key(identifier, window);
        let Some(held) = self.hold(key) else { return window.limit };
        let index = self.find(&held, key, window, now_ms);
        let count = held.load(Held::slot(index, COUNT)) + cost;
        held.store(Held::slot(index, COUNT), count);
        count
    }

    fn give_back(&self, identifier: &[u8], window: &Window, cost: u64, now_ms: u64) {
        let key = self.counter_key(identifier, window);
        if let Some(held) = self.hold(key) {
            let index = self.find(&held, key, window, now_ms);
            let count = held.load(Held::slot(index, COUNT));
            held.store(Held::slot(index, COUNT), count.saturating_sub(cost));
        }
    }

    /// What the window has.
    pub fn read(&self, identifier: &[u8], window: &Window, now_ms: u64) -> u64 {
        let key = self.counter_key(identifier, window);
        let Some(held) = self.hold(key) else { return window.limit };
        for index in 0..BUCKET_SLOTS {
            if held.load(Held::slot(index, EXPIRES)) > now_ms
                && held.load(Held::slot(index, KEY_LOW)) == key.0
                && held.load(Held::slot(index, KEY_HIGH)) == key.1
            {
                return held.load(Held::slot(index, COUNT));
            }
        }
        if held.load(FLOOR_UNTIL) > now_ms { held.load(FLOOR) } else { 0 }
    }
}

/// Does a process of this id run? A zombie does not: it will never let go.
fn is_alive(pid: u64) -> bool {
    // SAFETY: signal 0 sends nothing.
    if unsafe { libc::kill(pid as libc::pid_t, 0) } != 0 {
        return std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH);
    }
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn segment(slots: usize) -> Segment {
        let descriptor = crate::create(2, slots).expect("a segment");
        Segment::open(descriptor.as_raw_fd()).expect("the same")
    }

    fn window(limit: u64) -> Window {
        Window { limit, start_ms: 1000, end_ms: 61_000 }
    }

    #[test]
    fn test_a_refused_take_counts_in_no_window() {
        let segment = segment(64);
        let minute = Window { limit: 10, start_ms: 0, end_ms: 60_000 };
        let second = Window { limit: 2, start_ms: 0, end_ms: 1000 };
        assert_eq!(segment.take(b"a", &[minute, second], 1, 5), (true, vec![1, 1]));
        assert_eq!(segment.take(b"a", &[minute, second], 1, 5), (true, vec![2, 2]));
        assert_eq!(segment.take(b"a", &[minute, second], 1, 5), (false, vec![2, 2]));
        let next = Window { limit: 2, start_ms: 1000, end_ms: 2000 };
        assert_eq!(segment.take(b"a", &[minute, next], 1, 1005), (true, vec![3, 1]));
    }

    #[test]
    fn test_flood_of_ten_times_the_capacity_exceeds_no_limit_and_loses_no_slot() {
        let segment = segment(256);
        let mut admitted = std::collections::HashMap::new();
        for round in 0..5 {
            for key in 0..2560u32 {
                if segment.take(&key.to_le_bytes(), &[window(3)], 1, 2000 + round).0 {
                    *admitted.entry(key).or_insert(0) += 1;
                }
            }
        }
        assert!(admitted.values().all(|&count| count <= 3), "{:?}", admitted.values().max());
        assert!(segment.counter_events().0 > 0, "evictions are counted");
        let later = Window { limit: 3, start_ms: 61_000, end_ms: 121_000 };
        for key in 0..64u32 {
            assert!(segment.take(&key.to_le_bytes(), &[later], 1, 121_000 - 1).0, "the flood is over with its window");
        }
    }

    #[test]
    fn test_threads_together_never_exceed_a_limit() {
        let segment = std::sync::Arc::new(segment(1024));
        let admitted: u64 = std::thread::scope(|scope| {
            (0..4)
                .map(|_| {
                    let segment = std::sync::Arc::clone(&segment);
                    scope.spawn(move || (0..10_000).filter(|_| segment.take(b"k", &[window(777)], 1, 2000).0).count() as u64)
                })
                .collect::<Vec<_>>()
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum()
        });
        assert_eq!(admitted, 777);
    }

    #[test]
    fn test_workers_killed_amid_inserts_leave_no_lock_and_no_lost_slot() {
        let descriptor = crate::create(2, 64).expect("a segment");
        let segment = Segment::open(descriptor.as_raw_fd()).expect("the same");
        for round in 0..20u32 {
            // SAFETY: the child only touches the shared segment and never returns.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let mut key = 0u32;
                loop {
                    key = key.wrapping_add(1);
                    segment.take(&key.to_le_bytes(), &[window(5)], 1, 2000);
                }
            }
            let begun = monotonic_ms();
            while monotonic_ms() - begun < 5 + u64::from(round % 3) {
                segment.take(b"parent", &[window(1_000_000)], 1, 2000);
            }
            // SAFETY: our own child.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, std::ptr::null_mut(), 0);
            }
        }
        let later = Window { limit: 5, start_ms: 61_000, end_ms: 121_000 };
        for key in 0..1000u32 {
            let (_, usage) = segment.take(&key.to_le_bytes(), &[later], 1, 62_000);
            assert!(usage[0] <= 5);
        }
        let refused = segment.counter_events().1;
        segment.take(b"after", &[later], 1, 62_000);
        assert_eq!(segment.counter_events().1, refused, "no bucket stays locked");
    }
}
