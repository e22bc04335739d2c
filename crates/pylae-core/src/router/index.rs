// SPDX-License-Identifier: Apache-2.0
//! Which Routes are worth a look? From the request's host and path to the few whose conditions may hold.
//!
//! Positions are places in the order of falling rank: the least position that matches wins. Every part of the index knows the least
//! position in it, so a part that can't improve on what was found is not entered. Tables hold hashes, not texts: what they lead to is
//! looked at in any case.

use super::RequestView;
use super::conditions::{Alternative, NamePattern};
use super::facts::{header_values, lower};
use crate::snapshot::hash::{HashedMap, hash_of};

/// Above every position.
const NOTHING: u32 = u32::MAX;

/// Up to this many alternatives under one host are tried one by one, whatever their paths.
const FEW: usize = 4;

/// A list longer than this is split by header values.
const LONG_LIST: usize = 8;

/// A list longer than this is split by texts inside expressions. Looking for them costs a few hundred look-ups, as much as a few dozen
/// expressions.
const LONG_EXPRESSION_LIST: usize = 64;

/// By host, then by path.
pub(super) struct Index {
    exact_hosts: HashedMap<PathIndex>,
    exact_hosts_best: u32,
    host_suffixes: Lengths<PathIndex>,
    host_prefixes: Lengths<PathIndex>,
    any_host: PathIndex,
}

/// Alternatives that share a host condition, by what their paths begin with.
#[derive(Default)]
struct PathIndex {
    /// All of them, when they are few; then there is no table.
    few: [u32; FEW],
    few_count: usize,
    literals: Lengths<Slot>,
}

/// A table for each length of key, the one with the least position first.
struct Lengths<T> {
    tables: Vec<Table<T>>,
}

struct Table<T> {
    length: usize,
    best: u32,
    entries: HashedMap<T>,
}

impl<T> Default for Lengths<T> {
    fn default() -> Self {
        Lengths { tables: Vec::new() }
    }
}

impl<T: Default> Lengths<T> {
    fn entry(&mut self, key: &[u8], position: u32) -> &mut T {
        let at = self.tables.iter().position(|table| table.length == key.len()).unwrap_or_else(|| {
            self.tables.push(Table { length: key.len(), best: NOTHING, entries: HashedMap::default() });
            self.tables.len() - 1
        });
        let table = &mut self.tables[at];
        table.best = table.best.min(position);
        table.entries.entry(hash_of(key)).or_default()
    }
}

/// What a key leads to; most lead to one.
enum Slot {
    One(u32),
    More(Box<Positions>),
}

impl Default for Slot {
    fn default() -> Self {
        Slot::One(NOTHING)
    }
}

/// Positions in rising order.
#[derive(Default)]
struct Positions {
    /// Those looked at one by one.
    list: Vec<u32>,
    /// Others by a header whose value must be one of a few.
    by_header: Vec<HeaderTable>,
    /// Others by a text that must be somewhere in the path.
    by_inner_text: Lengths<Vec<u32>>,
}

struct HeaderTable {
    name: Box<str>,
    best: u32,
    values: HashedMap<Vec<u32>>,
}

impl Index {
    /// An index over alternatives given in falling rank.
    pub(super) fn new(alternatives: &[&Alternative]) -> Self {
        let mut index = Index {
            exact_hosts: HashedMap::default(),
            exact_hosts_best: NOTHING,
            host_suffixes: Lengths::default(),
            host_prefixes: Lengths::default(),
            any_host: PathIndex::default(),
        };
        for (position, alternative) in alternatives.iter().enumerate() {
            let position = position as u32;
            let hosts = alternative.host_keys();
            let paths = alternative.path_keys();
            if hosts.is_empty() {
                index.any_host.add(&paths, position);
            }
            for host in hosts {
                let under_host = match host {
                    NamePattern::Exact(name) => {
                        index.exact_hosts_best = index.exact_hosts_best.min(position);
                        index.exact_hosts.entry(hash_of(name)).or_default()
                    }
                    NamePattern::Suffix(suffix) => index.host_suffixes.entry(suffix, position),
                    NamePattern::Prefix(prefix) => index.host_prefixes.entry(prefix, position),
                };
                under_host.add(&paths, position);
            }
        }
        index.finish(alternatives);
        index
    }

    fn finish(&mut self, alternatives: &[&Alternative]) {
        for lengths in [&mut self.host_suffixes, &mut self.host_prefixes] {
            lengths.tables.sort_by_key(|table| table.best);
            for table in &mut lengths.tables {
                table.entries.values_mut().for_each(|paths| paths.finish(alternatives));
            }
        }
        self.exact_hosts.values_mut().for_each(|paths| paths.finish(alternatives));
        self.any_host.finish(alternatives);
    }

    /// The least position for which `try_match` has an answer, with the answer.
    #[inline]
    pub(super) fn find<T>(&self, view: &RequestView<'_>, try_match: impl Fn(u32) -> Option<T>) -> Option<(u32, T)> {
        let mut search = Search { view, try_match, found: NOTHING, answer: None };
        if self.exact_hosts_best < search.found
            && let Some(paths) = self.exact_hosts.get(&hash_of(view.host))
        {
            paths.search(&mut search);
        }
        for table in &self.host_suffixes.tables {
            if table.best >= search.found {
                break;
            }
            let key = view.host.len().checked_sub(table.length).map(|start| &view.host[start..]);
            if let Some(paths) = key.and_then(|key| table.entries.get(&hash_of(key))) {
                paths.search(&mut search);
            }
        }
        for table in &self.host_prefixes.tables {
            if table.best >= search.found {
                break;
            }
            if let Some(paths) = view.host.get(..table.length).and_then(|key| table.entries.get(&hash_of(key))) {
                paths.search(&mut search);
            }
        }
        self.any_host.search(&mut search);
        search.answer.map(|answer| (search.found, answer))
    }
}

struct Search<'a, M, T> {
    view: &'a RequestView<'a>,
    try_match: M,
    found: u32,
    answer: Option<T>,
}

impl<T, M: Fn(u32) -> Option<T>> Search<'_, M, T> {
    #[inline]
    fn try_all(&mut self, positions: &[u32]) {
        for &position in positions {
            if position >= self.found {
                return;
            }
            if let Some(answer) = (self.try_match)(position) {
                self.found = position;
                self.answer = Some(answer);
                return;
            }
        }
    }
}

impl PathIndex {
    fn add(&mut self, paths: &[(&[u8], &[u8])], position: u32) {
        if paths.is_empty() {
            self.literals.entry(b"", position).add(position);
        }
        for (start, _) in paths {
            self.literals.entry(start, position).add(position);
        }
    }

    fn finish(&mut self, alternatives: &[&Alternative]) {
        if self.literals.tables.iter().map(|table| table.entries.len()).sum::<usize>() <= FEW {
            let slots = self.literals.tables.iter().flat_map(|table| table.entries.values());
            let mut all: Vec<u32> = slots.flat_map(|slot| slot.positions().iter().copied()).collect();
            all.sort_unstable();
            all.dedup();
            if all.len() <= FEW {
                self.few[..all.len()].copy_from_slice(&all);
                self.few_count = all.len();
                self.literals = Lengths::default();
                return;
            }
        }
        self.literals.tables.sort_by_key(|table| table.best);
        for table in &mut self.literals.tables {
            table.entries.values_mut().for_each(|positions| positions.finish(alternatives));
        }
    }

    #[inline]
    fn search<T, M: Fn(u32) -> Option<T>>(&self, search: &mut Search<'_, M, T>) {
        search.try_all(&self.few[..self.few_count]);
        for table in &self.literals.tables {
            if table.best >= search.found {
                return;
            }
            if let Some(positions) = search.view.path.get(..table.length).and_then(|key| table.entries.get(&hash_of(key))) {
                positions.search(search);
            }
        }
    }
}

impl Slot {
    fn add(&mut self, position: u32) {
        match self {
            Slot::One(NOTHING) => *self = Slot::One(position),
            // Two hosts or expressions of one alternative may lead to the same list.
            Slot::One(same) if *same == position => {}
            Slot::One(first) => *self = Slot::More(Box::new(Positions { list: vec![*first, position], ..Positions::default() })),
            Slot::More(positions) => positions.add(position),
        }
    }

    fn positions(&self) -> &[u32] {
        match self {
            Slot::One(position) => std::slice::from_ref(position),
            Slot::More(positions) => &positions.list,
        }
    }

    fn finish(&mut self, alternatives: &[&Alternative]) {
        if let Slot::More(positions) = self {
            positions.finish(alternatives);
        }
    }

    #[inline]
    fn search<T, M: Fn(u32) -> Option<T>>(&self, search: &mut Search<'_, M, T>) {
        match self {
            Slot::One(position) => search.try_all(std::slice::from_ref(position)),
            Slot::More(positions) => positions.search(search),
        }
    }
}

impl Positions {
    fn add(&mut self, position: u32) {
        if self.list.last() != Some(&position) {
            self.list.push(position);
        }
    }

    fn finish(&mut self, alternatives: &[&Alternative]) {
        if self.list.len() <= LONG_LIST {
            return;
        }
        let mut rest = Vec::new();
        for position in std::mem::take(&mut self.list) {
            let Some((name, values)) = alternatives[position as usize].header_key() else {
                rest.push(position);
                continue;
            };
            let at = self.by_header.iter().position(|table| *table.name == *name).unwrap_or_else(|| {
                self.by_header.push(HeaderTable { name: name.into(), best: position, values: HashedMap::default() });
                self.by_header.len() - 1
            });
            for value in values {
                let positions = self.by_header[at].values.entry(hash_of(value)).or_default();
                if positions.last() != Some(&position) {
                    positions.push(position);
                }
            }
        }
        self.list = rest;
        if self.list.len() > LONG_EXPRESSION_LIST {
            self.split_by_inner_text(alternatives);
        }
    }

    fn split_by_inner_text(&mut self, alternatives: &[&Alternative]) {
        let mut rest = Vec::new();
        for position in std::mem::take(&mut self.list) {
            let paths = alternatives[position as usize].path_keys();
            let texts: Vec<&[u8]> = paths.iter().map(|(_, inner)| *inner).collect();
            match (!texts.is_empty() && texts.iter().all(|text| !text.is_empty())).then_some(texts) {
                Some(texts) => {
                    for text in texts {
                        let positions = self.by_inner_text.entry(text, position);
                        if positions.last() != Some(&position) {
                            positions.push(position);
                        }
                    }
                }
                _ => rest.push(position),
            }
        }
        self.by_inner_text.tables.sort_by_key(|table| table.best);
        self.list = rest;
    }

    #[inline]
    fn search<T, M: Fn(u32) -> Option<T>>(&self, search: &mut Search<'_, M, T>) {
        search.try_all(&self.list);
        for table in &self.by_header {
            if table.best >= search.found {
                continue;
            }
            for value in header_values(search.view.headers, &table.name) {
                if let Some(positions) = table.values.get(&hash_of(&lower(value))) {
                    search.try_all(positions);
                }
            }
        }
        for table in &self.by_inner_text.tables {
            if table.best >= search.found {
                return;
            }
            for window in search.view.path.windows(table.length) {
                if let Some(positions) = table.entries.get(&hash_of(window)) {
                    search.try_all(positions);
                }
            }
        }
    }
}
