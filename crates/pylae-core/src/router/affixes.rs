// SPDX-License-Identifier: Apache-2.0
//! Which of many prefixes (or suffixes) does this text have? As few looks as there are halvings of their lengths.
//!
//! Binary search over the lengths: where a longer key would go on, a shorter text of it stands as a marker, so a hit says "go on longer"
//! and a miss "try shorter" (Waldvogel et al., SIGCOMM 1997). The lengths are halved by the number of keys, so the usual one comes first.
//! Each node leads to the longest key inside it, that to the next, and so on: from one node all keys of a text are reached.

use super::table::{HashTable, NOTHING};
use crate::snapshot::hash::{Seed, TextHash};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Where in a text the keys are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Start,
    Finish,
}

impl End {
    /// The part of a text of this length; none if it is shorter.
    #[inline]
    fn part(self, text: &[u8], length: usize) -> Option<&[u8]> {
        match self {
            End::Start => text.get(..length),
            End::Finish => text.len().checked_sub(length).map(|start| &text[start..]),
        }
    }
}

/// Values by prefixes or suffixes.
pub(super) struct Affixes<T, H = Seed> {
    end: End,
    hash: H,
    /// The search over the lengths; it begins at the first.
    steps: Vec<Step>,
    table: HashTable,
    nodes: Vec<Node<T>>,
    texts: Vec<u8>,
    /// The node of the empty key, which every text has.
    empty: u32,
}

struct Step {
    length: usize,
    if_hit: u32,
    if_missed: u32,
}

/// A key, or a marker on the way to longer ones.
struct Node<T> {
    /// None of a marker.
    value: Option<T>,
    /// The least of the key's position and those of all keys inside it.
    best: u32,
    /// The longest key inside this one.
    next: u32,
    text_start: u32,
    length: u32,
}

/// Where a search over hashes ended: the node, and the length at which it was hit.
#[derive(Clone, Copy)]
pub(super) struct Guess {
    number: u32,
    pub(super) length: usize,
}

/// A key with what it leads to and the least position there.
pub(super) type Key<'a, T> = (&'a [u8], T, u32);

impl<T, H: TextHash> Affixes<T, H> {
    /// Each key once.
    pub(super) fn new(end: End, hash: H, keys: Vec<Key<'_, T>>) -> Self {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for (text, ..) in keys.iter().filter(|(text, ..)| !text.is_empty()) {
            *counts.entry(text.len()).or_default() += 1;
        }
        let lengths: Vec<(usize, usize)> = counts.into_iter().collect();
        let mut affixes =
            Affixes { end, hash, steps: Vec::new(), table: HashTable::default(), nodes: Vec::new(), texts: Vec::new(), empty: NOTHING };
        affixes.plan(&lengths);
        // Short before long and keys before markers, so that what is inside a text is there before it.
        let mut markers: Vec<(usize, usize)> = Vec::new();
        for (at, (text, ..)) in keys.iter().enumerate() {
            affixes.for_markers(text.len(), |length| markers.push((length, at)));
        }
        markers.sort_unstable();
        let texts: Vec<&[u8]> = keys.iter().map(|(text, ..)| *text).collect();
        let mut keys = keys;
        keys.sort_by_key(|(text, ..)| text.len());
        let mut markers = markers.into_iter().peekable();
        for (text, value, best) in keys {
            while let Some((length, at)) = markers.next_if(|(length, _)| *length < text.len()) {
                affixes.add_marker(texts[at], length);
            }
            affixes.add(text, Some(value), best);
        }
        for (length, at) in markers {
            affixes.add_marker(texts[at], length);
        }
        affixes
    }

    /// Lays out the search over these lengths, each with its number of keys; answers where it begins.
    fn plan(&mut self, lengths: &[(usize, usize)]) -> u32 {
        if lengths.is_empty() {
            return NOTHING;
        }
        let total: usize = lengths.iter().map(|(_, count)| count).sum();
        let mut below = 0;
        let mut split = (usize::MAX, 0);
        for (at, (_, count)) in lengths.iter().enumerate() {
            let larger = below.max(total - below);
            // Of two equal ones the longer: a text that has it is done sooner.
            if larger <= split.0 {
                split = (larger, at);
            }
            below += count;
        }
        let at = split.1;
        let step = self.steps.len();
        self.steps.push(Step { length: lengths[at].0, if_hit: NOTHING, if_missed: NOTHING });
        self.steps[step].if_missed = self.plan(&lengths[..at]);
        self.steps[step].if_hit = self.plan(&lengths[at + 1..]);
        step as u32
    }

    /// The lengths at which a search for a key of this length must hit before it gets there.
    fn for_markers(&self, length: usize, mut take: impl FnMut(usize)) {
        let mut step = 0;
        while let Some(now) = self.steps.get(step as usize) {
            step = match now.length.cmp(&length) {
                Ordering::Less => {
                    take(now.length);
                    now.if_hit
                }
                Ordering::Equal => return,
                Ordering::Greater => now.if_missed,
            };
        }
    }

    fn add_marker(&mut self, text: &[u8], length: usize) {
        if let Some(part) = self.end.part(text, length)
            && self.exact(part).is_none()
        {
            self.add(part, None, NOTHING);
        }
    }

    fn add(&mut self, text: &[u8], value: Option<T>, best: u32) {
        let next = text.len().checked_sub(1).and_then(|shorter| self.end.part(text, shorter)).map_or(NOTHING, |part| self.longest(part));
        let next = match self.nodes.get(next as usize) {
            Some(node) if node.value.is_none() => node.next,
            _ => next,
        };
        let best = self.nodes.get(next as usize).map_or(best, |inside| inside.best.min(best));
        let number = self.nodes.len() as u32;
        self.nodes.push(Node { value, best, next, text_start: self.texts.len() as u32, length: text.len() as u32 });
        self.texts.extend_from_slice(text);
        if text.is_empty() {
            self.empty = number;
        } else {
            self.table.add(self.hash.hash(text), number);
        }
    }

    #[inline]
    fn text(&self, node: &Node<T>) -> &[u8] {
        &self.texts[node.text_start as usize..][..node.length as usize]
    }

    /// The node of exactly this text.
    fn exact(&self, text: &[u8]) -> Option<u32> {
        self.table.get_all(self.hash.hash(text)).find(|number| self.text(&self.nodes[*number as usize]) == text)
    }

    /// The node of the longest key or marker that the text has.
    #[inline]
    fn longest(&self, text: &[u8]) -> u32 {
        self.checked(self.guess(text), text)
    }

    /// The same, unless another text has the same hash.
    #[inline]
    fn guess(&self, text: &[u8]) -> Guess {
        let mut guess = Guess { number: self.empty, length: 0 };
        let mut step = 0;
        while let Some(now) = self.steps.get(step as usize) {
            let hit = self.end.part(text, now.length).and_then(|part| self.table.get(self.hash.hash(part)));
            step = match hit {
                Some(number) => {
                    guess = Guess { number, length: now.length };
                    now.if_hit
                }
                None => now.if_missed,
            };
        }
        guess
    }

    /// Misses are certain. If the last hit is right, so are those before it, which are inside it; if it only has the same hash, the
    /// search went the wrong way.
    #[inline]
    fn checked(&self, guess: Guess, text: &[u8]) -> u32 {
        match self.nodes.get(guess.number as usize) {
            Some(node) if self.end.part(text, guess.length) != Some(self.text(node)) => self.longest_by_trying(text),
            _ => guess.number,
        }
    }

    #[cold]
    fn longest_by_trying(&self, text: &[u8]) -> u32 {
        let parts = self.steps.iter().filter_map(|step| self.end.part(text, step.length));
        let nodes = parts.filter_map(|part| self.exact(part));
        nodes.max_by_key(|number| self.nodes[*number as usize].length).unwrap_or(self.empty)
    }

    /// What the keys that this text has lead to, the longest first, each with the least position there or inside.
    #[inline]
    pub(super) fn all<'a>(&'a self, text: &[u8]) -> impl Iterator<Item = (u32, &'a T)> {
        self.all_from(self.longest(text))
    }

    /// What the longest key leads to if it is alone: nothing inside it is as good. It still has to be shown that the text has the key.
    #[inline]
    pub(super) fn guess_only(&self, text: &[u8]) -> (Guess, Option<(u32, &T)>) {
        let guess = self.guess(text);
        let node = self.nodes.get(guess.number as usize).filter(|node| node.length as usize == guess.length);
        (guess, node.and_then(|node| Some((node.best, node.value.as_ref()?))))
    }

    /// As [`Affixes::all`], after a guess that was not shown to be right.
    #[inline]
    pub(super) fn all_after<'a>(&'a self, guess: Guess, text: &[u8]) -> impl Iterator<Item = (u32, &'a T)> {
        self.all_from(self.checked(guess, text))
    }

    #[inline]
    fn all_from(&self, number: u32) -> impl Iterator<Item = (u32, &T)> {
        let mut number = number;
        std::iter::from_fn(move || {
            loop {
                let node = self.nodes.get(number as usize)?;
                number = node.next;
                if let Some(value) = &node.value {
                    return Some((node.best, value));
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts often have the same hash.
    #[derive(Clone, Copy)]
    struct Weak;

    impl TextHash for Weak {
        fn hash(&self, text: &[u8]) -> u64 {
            Seed::of_process().hash(text) % 7
        }
    }

    fn next(state: &mut u64, sides: usize) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as usize % sides
    }

    fn word(state: &mut u64, longest: usize) -> Vec<u8> {
        (0..next(state, longest + 1)).map(|_| b"ab"[next(state, 2)]).collect()
    }

    fn agrees_with_a_walk<H: TextHash>(hash: H) {
        let mut state = 7;
        for round in 0..400 {
            let end = if round % 2 == 0 { End::Start } else { End::Finish };
            let mut texts: Vec<Vec<u8>> = (0..next(&mut state, 40)).map(|_| word(&mut state, 12)).collect();
            texts.sort();
            texts.dedup();
            let ranks: Vec<u32> = texts.iter().map(|_| next(&mut state, 1000) as u32).collect();
            let keys = texts.iter().zip(&ranks).enumerate().map(|(at, (text, rank))| (&**text, at, *rank)).collect();
            let affixes = Affixes::new(end, hash, keys);
            for _ in 0..60 {
                let text = word(&mut state, 16);
                let is_in = |at: &usize| end.part(&text, texts[*at].len()) == Some(&*texts[*at]);
                let mut expected: Vec<usize> = (0..texts.len()).filter(is_in).collect();
                expected.sort_by_key(|at| std::cmp::Reverse(texts[*at].len()));
                let found: Vec<(u32, usize)> = affixes.all(&text).map(|(best, at)| (best, *at)).collect();
                assert_eq!(found.iter().map(|(_, at)| *at).collect::<Vec<_>>(), expected, "{text:?} in {texts:?}");
                for (at, (best, _)) in found.iter().enumerate() {
                    assert_eq!(Some(*best), expected[at..].iter().map(|inside| ranks[*inside]).min());
                }
            }
        }
    }

    #[test]
    fn all_keys_of_a_text_are_found_longest_first() {
        agrees_with_a_walk(Seed::of_process());
    }

    #[test]
    fn texts_of_the_same_hash_are_told_apart() {
        agrees_with_a_walk(Weak);
    }

    #[test]
    fn many_lengths_take_few_steps() {
        let texts: Vec<Vec<u8>> = (1..=1000usize).map(|length| vec![b'a'; length]).collect();
        let affixes = Affixes::new(End::Start, Seed::of_process(), texts.iter().map(|text| (&**text, 0, 0)).collect());
        let mut most = 0;
        for length in 1..=1000 {
            let mut steps = 0;
            affixes.for_markers(length, |_| steps += 1);
            most = most.max(steps);
        }
        assert!(most <= 10, "{most}");
    }
}
