// SPDX-License-Identifier: Apache-2.0
//! What is remembered, and what is forgotten first when there is too much of it?

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use tokio::time::Instant;

/// Slots that are looked at to make room for one name.
const MOST_TURNED: usize = 64;

struct Slot<V> {
    value: V,
    /// Asked for since it last stood at the head of the queue.
    is_used: Cell<bool>,
    /// It does not go before then.
    kept_until: Cell<Option<Instant>>,
}

impl<V> Slot<V> {
    fn new(value: V) -> Self {
        Slot { value, is_used: Cell::new(false), kept_until: Cell::new(None) }
    }

    /// May it go? Those asked for lately are passed over once.
    fn may_go(&self, now: Instant) -> bool {
        !self.is_used.replace(false) && self.kept_until.get().is_none_or(|until| until <= now)
    }
}

/// Values by name, at most `capacity` of them. The first to go is one that was not asked for lately (second chance): cheap, and a
/// flood of names that are asked for once does not drive out those in use. Names that are kept stay, be there more than `capacity`.
pub(super) struct Cache<V> {
    slots: HashMap<Rc<str>, Slot<V>>,
    queue: VecDeque<Rc<str>>,
    capacity: usize,
}

impl<V> Cache<V> {
    pub fn new(capacity: usize) -> Self {
        Cache { slots: HashMap::new(), queue: VecDeque::new(), capacity: capacity.max(1) }
    }

    /// What is remembered of a name, which counts as used.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.slots.get(name).map(|slot| {
            slot.is_used.set(true);
            &slot.value
        })
    }

    /// What is remembered of a name, to be changed; it does not count as used.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        self.slots.get_mut(name).map(|slot| &mut slot.value)
    }

    /// Keeps a name for so long, whatever comes; `false`: nothing is remembered of it.
    pub fn keep(&self, name: &str, until: Instant) -> bool {
        self.slots.get(name).is_some_and(|slot| {
            slot.kept_until.set(Some(until));
            true
        })
    }

    /// All names, and what is remembered of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Rc<str>, &V)> {
        self.slots.iter().map(|(name, slot)| (name, &slot.value))
    }

    /// Remembers; says what had to go for it. When nothing among those looked at may go, there is one more than there should be.
    pub fn insert(&mut self, name: Rc<str>, value: V) -> Vec<(Rc<str>, V)> {
        let mut gone = Vec::new();
        if let Some(slot) = self.slots.get_mut(&name) {
            slot.value = value;
            return gone;
        }
        if self.slots.len() >= self.capacity {
            let now = Instant::now();
            for _ in 0..self.queue.len().min(MOST_TURNED) {
                let Some(oldest) = self.queue.pop_front() else { break };
                if self.slots.get(&oldest).is_some_and(|slot| !slot.may_go(now)) {
                    self.queue.push_back(oldest);
                } else {
                    gone.extend(self.slots.remove(&oldest).map(|slot| (oldest, slot.value)));
                }
                if self.slots.len() < self.capacity {
                    break;
                }
            }
        }
        self.queue.push_back(Rc::clone(&name));
        self.slots.insert(name, Slot::new(value));
        gone
    }

    /// How many are remembered.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_what_is_in_use_outlives_a_flood_of_names() {
        let mut cache = Cache::new(10);
        cache.insert("used".into(), 0);
        let mut gone = Vec::new();
        for number in 0..1000 {
            assert!(cache.get("used").is_some(), "gone after {number}");
            gone.extend(cache.insert(format!("flood-{number}").as_str().into(), number).into_iter().map(|(name, _)| name));
            assert!(cache.len() <= 10);
        }
        assert!(gone.len() >= 991, "{}", gone.len());
        assert!(gone.iter().all(|name| &**name != "used"));
    }

    #[test]
    fn test_when_all_are_in_use_the_oldest_goes() {
        let mut cache = Cache::new(2);
        cache.insert("a".into(), 1);
        cache.insert("b".into(), 2);
        assert!(cache.get("a").is_some() && cache.get("b").is_some());
        // Each was passed over once; there is room again at the next one.
        assert_eq!(cache.insert("c".into(), 3), []);
        assert_eq!(cache.insert("d".into(), 4), [("a".into(), 1), ("b".into(), 2)]);
        assert_eq!((cache.get("c"), cache.get("d"), cache.len()), (Some(&3), Some(&4), 2));
    }

    #[test]
    fn test_what_is_kept_stays_however_much_there_is() {
        let mut cache = Cache::new(10);
        let until = Instant::now() + std::time::Duration::from_secs(60);
        for number in 0..1000 {
            cache.insert(format!("kept-{number}").as_str().into(), number);
            assert!(cache.keep(&format!("kept-{number}"), until));
        }
        for number in 0..10_000 {
            cache.insert(format!("flood-{number}").as_str().into(), number);
        }
        assert!((0..1000).all(|number| cache.get(&format!("kept-{number}")).is_some()));
        assert!(cache.len() < 1200, "{}", cache.len());
        assert!(!cache.keep("flood-0", until));
    }

    #[test]
    fn test_a_value_is_replaced_in_its_place() {
        let mut cache = Cache::new(1);
        cache.insert("a".into(), 1);
        assert_eq!(cache.insert("a".into(), 2), []);
        assert_eq!(cache.get("a"), Some(&2));
    }
}
