// SPDX-License-Identifier: Apache-2.0
//! Where in a table does a key stand? A hash for keys that come from the configuration.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

/// A map whose keys come from the configuration.
pub(crate) type ConfigMap<K, V> = HashMap<K, V, SeededHash>;

/// A set of such keys.
pub(crate) type ConfigSet<K> = HashSet<K, SeededHash>;

/// Two numbers nobody outside this process knows, so that nobody can choose keys that fall into one bucket: neither who sends requests
/// nor who may write a part of the configuration.
#[derive(Clone, Copy)]
pub(crate) struct Seed {
    first: u64,
    second: u64,
}

impl Seed {
    /// The one of this process.
    pub(crate) fn of_process() -> Self {
        static SEED: OnceLock<Seed> = OnceLock::new();
        *SEED.get_or_init(|| {
            let random = RandomState::new();
            Seed { first: random.hash_one(1), second: random.hash_one(2) }
        })
    }
}

/// Hashes texts.
pub(crate) trait TextHash: Copy {
    /// The hash of a text.
    fn hash(&self, text: &[u8]) -> u64;
}

impl TextHash for Seed {
    /// Sixteen bytes a multiplication, the last sixteen overlapping those before: most keys take one or two.
    #[inline]
    fn hash(&self, text: &[u8]) -> u64 {
        let length = text.len();
        let mut state = self.first;
        let mut rest = text;
        while let (Some((head, tail)), true) = (rest.split_first_chunk::<16>(), rest.len() > 16) {
            state = fold(word(&head[..8]) ^ self.second, word(&head[8..]) ^ state);
            rest = tail;
        }
        let (low, high) = match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
            (Some(_), Some(last)) if length > 16 => (word(&text[length - 16..length - 8]), u64::from_le_bytes(*last)),
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => short(text),
        };
        // The length is told apart where it can't be undone by bytes somebody chose.
        fold(fold(low ^ self.second, high ^ state) ^ length as u64, self.second | 1)
    }
}

/// Under eight bytes.
#[inline]
fn short(text: &[u8]) -> (u64, u64) {
    match (text.first_chunk::<4>(), text.last_chunk::<4>(), text) {
        (Some(first), Some(last), _) => (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last))),
        (_, _, [first, .., last]) => (u64::from(*first) | u64::from(text[text.len() / 2]) << 8 | u64::from(*last) << 16, 0),
        (_, _, [only]) => (u64::from(*only), 0),
        _ => (0, 0),
    }
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[inline]
fn fold(left: u64, right: u64) -> u64 {
    let wide = u128::from(left) * u128::from(right);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// Begins each hash with the seed of this process.
#[derive(Clone, Copy)]
pub(crate) struct SeededHash(u64);

impl Default for SeededHash {
    fn default() -> Self {
        SeededHash(Seed::of_process().first)
    }
}

impl BuildHasher for SeededHash {
    type Hasher = FoldHasher;

    #[inline]
    fn build_hasher(&self) -> FoldHasher {
        FoldHasher { state: self.0 }
    }
}

/// Multiplies and folds eight bytes at a time: SipHash's 20 ns a key would be most of a look-up. Without a seed it is the same in every
/// process, as consistent hashing asks.
#[derive(Default)]
pub(crate) struct FoldHasher {
    state: u64,
}

const KEY: u64 = 0x9e37_79b9_7f4a_7c15;

impl FoldHasher {
    #[inline]
    fn mix(&mut self, word: u64) {
        self.state = fold(self.state ^ word ^ KEY, KEY ^ 0x5851_f42d_4c95_7f2d);
    }
}

impl Hasher for FoldHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0u8; 8];
            word.copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut word = [0u8; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(word));
        }
    }
    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }
    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word));
    }
    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }
    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_lengths_that_differ_in_one_bit_have_other_hashes() {
        let seed = Seed::of_process();
        let mut hashes = HashSet::new();
        let mut texts = 0;
        for length in 0..70 {
            let text: Vec<u8> = (0..length).map(|at| at as u8).collect();
            hashes.insert(seed.hash(&text));
            texts += 1;
            for bit in 0..length * 8 {
                let mut other = text.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                hashes.insert(seed.hash(&other));
                texts += 1;
            }
        }
        assert_eq!(hashes.len(), texts);
        // Same first and last bytes, another length.
        assert_ne!(seed.hash(b"baaa"), seed.hash(b"baaaaaa"));
        assert_eq!((0..200).map(|length| seed.hash(&vec![0; length])).collect::<HashSet<_>>().len(), 200);
        assert_ne!(seed.hash(b"/a"), Seed { first: seed.first ^ 1, ..seed }.hash(b"/a"));
    }
}
