// SPDX-License-Identifier: Apache-2.0
//! Which number is kept under this hash? Sixteen bytes a slot, so that a look-up touches one line of the processor's cache.

/// Stands for no number.
pub(super) const NOTHING: u32 = u32::MAX;

/// Numbers by hashes. One hash may have several: what a number leads to has to be looked at.
#[derive(Default)]
pub(super) struct HashTable {
    /// Empty, or a power of two of them, at most half of them taken.
    slots: Vec<Slot>,
    count: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    hash: u64,
    number: u32,
}

const EMPTY: Slot = Slot { hash: 0, number: NOTHING };

impl HashTable {
    /// The number first put there under this hash.
    #[inline]
    pub(super) fn get(&self, hash: u64) -> Option<u32> {
        self.get_all(hash).next()
    }

    /// All numbers under this hash, in the order they were put there.
    #[inline]
    pub(super) fn get_all(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize;
        std::iter::from_fn(move || {
            loop {
                let slot = self.slots.get(at & mask)?;
                if slot.number == NOTHING {
                    return None;
                }
                at = at.wrapping_add(1);
                if slot.hash == hash {
                    return Some(slot.number);
                }
            }
        })
    }

    /// Adds a number, beside those there are.
    pub(super) fn add(&mut self, hash: u64, number: u32) {
        if self.slots.len() < 2 * (self.count + 1) {
            let size = (4 * (self.count + 1)).next_power_of_two();
            // From an empty slot on, so that numbers of one hash keep their order.
            let old = std::mem::replace(&mut self.slots, vec![EMPTY; size]);
            let first = old.iter().position(|slot| slot.number == NOTHING).unwrap_or(0);
            for slot in old[first..].iter().chain(&old[..first]).filter(|slot| slot.number != NOTHING) {
                self.put(*slot);
            }
        }
        self.count += 1;
        self.put(Slot { hash, number });
    }

    fn put(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = slot.hash as usize & mask;
        while self.slots[at].number != NOTHING {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_under_their_hashes_in_order() {
        let mut table = HashTable::default();
        assert_eq!(table.get(7), None);
        for number in 0..1000 {
            // Three of each hash, and neighbours that run into each other.
            table.add(u64::from(number % 333) * 3, number);
        }
        for hash in 0..999u64 {
            let expected: Vec<u32> =
                if hash % 3 == 0 { (0..1000).filter(|number| u64::from(number % 333) * 3 == hash).collect() } else { vec![] };
            assert_eq!(table.get_all(hash).collect::<Vec<_>>(), expected);
        }
    }
}
