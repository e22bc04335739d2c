// SPDX-License-Identifier: Apache-2.0
//! May control be warned of this now? Each thing once a minute, and of a bounded number of things.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often the same thing is said.
const EVERY: Duration = Duration::from_secs(60);
/// Things remembered; while so many are, others are not said.
const MOST_KEYS: usize = 1000;
/// Longest key.
const KEY_LIMIT_BYTES: usize = 256;

/// What was said, and when.
#[derive(Debug, Default)]
pub struct Gate {
    said: RefCell<HashMap<(&'static str, Box<str>), Instant>>,
}

impl Gate {
    /// Is it time to say this? Then it counts as said.
    pub fn is_due(&self, kind: &'static str, key: &str, now: Instant) -> bool {
        if key.len() > KEY_LIMIT_BYTES {
            return false;
        }
        let mut said = self.said.borrow_mut();
        let entry = (kind, Box::from(key));
        if let Some(at) = said.get_mut(&entry) {
            let is_due = now.saturating_duration_since(*at) >= EVERY;
            if is_due {
                *at = now;
            }
            return is_due;
        }
        if said.len() >= MOST_KEYS {
            said.retain(|_, at| now.saturating_duration_since(*at) < EVERY);
            if said.len() >= MOST_KEYS {
                return false;
            }
        }
        said.insert(entry, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_the_same_is_said_once_a_minute_and_another_at_once() {
        let (gate, start) = (Gate::default(), Instant::now());
        assert!(gate.is_due("idle_timeout", "a", start));
        assert!(!gate.is_due("idle_timeout", "a", start + EVERY / 2));
        assert!(gate.is_due("idle_timeout", "b", start));
        assert!(gate.is_due("upstream_certificate", "a", start));
        assert!(gate.is_due("idle_timeout", "a", start + EVERY));
        assert!(!gate.is_due("idle_timeout", "a", start + EVERY));
    }

    #[test]
    fn test_a_flood_of_keys_is_bounded_and_leaves_room_a_minute_later() {
        let (gate, start) = (Gate::default(), Instant::now());
        let due = (0..5000).filter(|number| gate.is_due("request_header_size", &number.to_string(), start)).count();
        assert_eq!(due, MOST_KEYS);
        assert!(!gate.is_due("request_header_size", &"x".repeat(KEY_LIMIT_BYTES + 1), start + EVERY));
        assert!(gate.is_due("request_header_size", "another", start + EVERY));
        assert_eq!(gate.said.borrow().len(), 1);
    }
}
