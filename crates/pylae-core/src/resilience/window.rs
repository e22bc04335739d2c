// SPDX-License-Identifier: Apache-2.0
//! How often did it happen lately? Counts over a sliding window, in slots of a tenth of it.

use std::time::Duration;

const SLOTS: usize = 10;

/// Counts of `N` kinds of events.
#[derive(Debug)]
pub struct Window<const N: usize> {
    slots: [[u32; N]; SLOTS],
    slot_length: Duration,
    /// Number of the newest slot since the clock began.
    newest: u128,
}

impl<const N: usize> Window<N> {
    /// An empty one.
    pub fn new(length: Duration) -> Self {
        Window { slots: [[0; N]; SLOTS], slot_length: (length / SLOTS as u32).max(Duration::from_millis(1)), newest: 0 }
    }

    /// One event of this kind.
    pub fn add(&mut self, kind: usize, now: Duration) {
        self.turn(now);
        let count = &mut self.slots[(self.newest % SLOTS as u128) as usize][kind];
        *count = count.saturating_add(1);
    }

    /// Events of this kind in the window.
    pub fn count(&mut self, kind: usize, now: Duration) -> u64 {
        self.turn(now);
        self.slots.iter().map(|slot| u64::from(slot[kind])).sum()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots = [[0; N]; SLOTS];
    }

    /// Forgets what is too old.
    fn turn(&mut self, now: Duration) {
        let current = now.as_nanos() / self.slot_length.as_nanos();
        let passed = current.saturating_sub(self.newest).min(SLOTS as u128);
        for step in 0..passed {
            self.slots[((current - step) % SLOTS as u128) as usize] = [0; N];
        }
        self.newest = self.newest.max(current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_what_is_older_than_the_window_does_not_count() {
        let mut window = Window::<2>::new(Duration::from_secs(10));
        let at = |seconds| Duration::from_secs(seconds);
        window.add(0, at(100));
        window.add(0, at(105));
        window.add(1, at(105));
        assert_eq!((window.count(0, at(109)), window.count(1, at(109))), (2, 1));
        assert_eq!(window.count(0, at(110)), 1);
        assert_eq!(window.count(0, at(115)), 0);
        window.add(0, at(1_000_000));
        assert_eq!(window.count(0, at(1_000_000)), 1);
    }

    #[test]
    fn test_a_clock_that_stands_back_loses_nothing() {
        let mut window = Window::<1>::new(Duration::from_secs(1));
        window.add(0, Duration::from_secs(50));
        window.add(0, Duration::from_secs(49));
        assert_eq!(window.count(0, Duration::from_secs(50)), 2);
    }
}
