// SPDX-License-Identifier: Apache-2.0
//! What is remembered, and what is forgotten first when there is too much of it?

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

struct Slot<V> {
    value: V,
    /// Asked for since it last stood at the head of the queue.
    is_used: Cell<bool>,
}

/// Values by name, at most `capacity` of them. The first to go is one that was not asked for lately (second chance): cheap, and a
/// flood of names that are asked for once does not drive out those in use.
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

    /// Remembers; says what had to go for it. Turns each slot over once at most.
    pub fn insert(&mut self, name: Rc<str>, value: V) -> Option<(Rc<str>, V)> {
        if let Some(slot) = self.slots.get_mut(&name) {
            slot.value = value;
            return None;
        }
        let mut gone = None;
        while self.slots.len() >= self.capacity {
            let Some(oldest) = self.queue.pop_front() else { break };
            if self.slots.get(&oldest).is_some_and(|slot| slot.is_used.replace(false)) {
                self.queue.push_back(oldest);
            } else {
                gone = self.slots.remove(&oldest).map(|slot| (oldest, slot.value));
            }
        }
        self.queue.push_back(Rc::clone(&name));
        self.slots.insert(name, Slot { value, is_used: Cell::new(false) });
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
            gone.extend(cache.insert(format!("flood-{number}").as_str().into(), number).map(|(name, _)| name));
            assert!(cache.len() <= 10);
        }
        assert_eq!(gone.len(), 991);
        assert!(gone.iter().all(|name| &**name != "used"));
    }

    #[test]
    fn test_when_all_are_in_use_the_oldest_goes() {
        let mut cache = Cache::new(2);
        cache.insert("a".into(), 1);
        cache.insert("b".into(), 2);
        assert!(cache.get("a").is_some() && cache.get("b").is_some());
        assert_eq!(cache.insert("c".into(), 3), Some(("a".into(), 1)));
        assert_eq!((cache.get("b"), cache.get("c"), cache.len()), (Some(&2), Some(&3), 2));
    }

    #[test]
    fn test_a_value_is_replaced_in_its_place() {
        let mut cache = Cache::new(1);
        cache.insert("a".into(), 1);
        assert_eq!(cache.insert("a".into(), 2), None);
        assert_eq!(cache.get("a"), Some(&2));
    }
}
