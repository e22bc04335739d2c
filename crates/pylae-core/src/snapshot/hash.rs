// SPDX-License-Identifier: Apache-2.0
//! Where in a table does a key stand? A hash for keys that come from the configuration.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose keys come from the configuration.
pub(crate) type ConfigMap<K, V> = HashMap<K, V, BuildHasherDefault<FoldHasher>>;

/// A set of such keys.
pub(crate) type ConfigSet<K> = HashSet<K, BuildHasherDefault<FoldHasher>>;

/// A map whose keys are hashes of texts ([`hash_of`]), for those who look at what they find in any case: nothing is stored of the text, so
/// nothing has to be fetched to compare it.
pub(crate) type HashedMap<V> = HashMap<u64, V, BuildHasherDefault<GivenHasher>>;

/// The hash of a text.
#[inline]
pub(crate) fn hash_of(text: &[u8]) -> u64 {
    let mut hasher = FoldHasher::default();
    hasher.write(text);
    hasher.finish()
}

/// For keys that are hashes already.
#[derive(Default)]
pub(crate) struct GivenHasher(u64);

impl Hasher for GivenHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash_of(bytes);
    }
    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Multiplies and folds eight bytes at a time. Clients choose what is looked up but not what is stored, so a client can't fill
/// one bucket: SipHash's defence is not needed, and its 20 ns a key would be most of a match.
#[derive(Default)]
pub(crate) struct FoldHasher {
    state: u64,
}

const KEY: u64 = 0x9e37_79b9_7f4a_7c15;

impl FoldHasher {
    #[inline]
    fn mix(&mut self, word: u64) {
        let wide = u128::from(self.state ^ word ^ KEY) * u128::from(KEY ^ 0x5851_f42d_4c95_7f2d);
        self.state = (wide as u64) ^ ((wide >> 64) as u64);
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
