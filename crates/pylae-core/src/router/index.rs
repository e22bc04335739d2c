// SPDX-License-Identifier: Apache-2.0
//! Which Routes are worth a look? From the request's host and path to the few whose conditions may hold.
//!
//! Positions are places in the order of falling rank: the least position that matches wins. Every part of the index knows the least
//! position in it, so a part that can't improve on what was found is not entered. What the index leads to is looked at in any case.

use super::RequestView;
use super::affixes::{Affixes, End};
use super::conditions::{Alternative, NamePattern};
use super::expression::Field;
use super::facts::{LazyFacts, header_values, lower};
use super::record::Record;
use super::table::{HashTable, NOTHING};
use crate::snapshot::hash::{ConfigMap, ConfigSet, Seed, TextHash};

/// Up to this many alternatives under one host are tried one by one, whatever their paths.
const FEW: usize = 4;

/// A list longer than this is split by values of headers, arguments and the like.
const LONG_LIST: usize = 8;

/// Lists are split by this many fields, one inside the other.
const DEEPEST_SPLIT: usize = 3;

/// An alternative with more values of a field is not split by it below the first: it would stand in too many lists.
const VALUE_LIMIT: usize = 16;

/// A list longer than this is split by texts inside paths. Looking for them takes as many look-ups as the path has bytes.
const LONG_EXPRESSION_LIST: usize = 64;

/// As many last bytes of an inner text are looked for; the first of these that the text has.
const INNER_TEXT_LENGTHS: [usize; 3] = [16, 8, 4];

/// By host, then by path.
pub(super) struct Index {
    hash: Seed,
    exact_hosts: HashTable,
    /// What `exact_hosts` leads to.
    under_exact_hosts: Vec<PathIndex>,
    exact_hosts_best: u32,
    host_suffixes: Wildcards,
    host_prefixes: Wildcards,
    any_host: PathIndex,
}

type Wildcards = Option<Box<Affixes<PathIndex>>>;

/// Alternatives that share a host condition, by what their paths begin with.
struct PathIndex {
    /// All of them, when they are few; then nothing is said of their paths.
    few: [u32; FEW],
    few_count: usize,
    by_path: Option<Box<Affixes<Slot>>>,
}

/// What a key leads to; most lead to one.
enum Slot {
    One(u32),
    More(Box<Positions>),
}

/// Positions in rising order.
#[derive(Default)]
struct Positions {
    /// Those looked at one by one.
    list: Vec<u32>,
    /// Others by a field whose value must be one of a few.
    by_value: Vec<ValueTable>,
    /// Others by a text that must be somewhere in the path.
    by_inner_text: Vec<InnerTexts>,
}

struct ValueTable {
    field: Field,
    best: u32,
    table: HashTable,
    /// What `table` leads to.
    positions: Vec<Positions>,
}

/// By the texts of one length.
struct InnerTexts {
    length: usize,
    best: u32,
    table: HashTable,
    /// What `table` leads to.
    lists: Vec<Vec<u32>>,
}

/// A field with the values of which a request must have one, whatever their case.
pub(super) type ValueKey<'a> = (Field, Vec<&'a [u8]>);

/// Keys of paths, not sorted in yet; positions rise.
#[derive(Default)]
struct Unsorted<'a>(Vec<(&'a [u8], u32)>);

impl<'a> Unsorted<'a> {
    fn add(&mut self, paths: &[(&'a [u8], &'a [u8])], position: u32) {
        if paths.is_empty() {
            self.0.push((b"", position));
        }
        self.0.extend(paths.iter().map(|(start, _)| (*start, position)));
    }

    fn best(&self) -> u32 {
        self.0.first().map_or(NOTHING, |(_, position)| *position)
    }
}

impl Index {
    /// An index over alternatives given in falling rank.
    pub(super) fn new(alternatives: &[&Alternative]) -> Self {
        let mut any_host = Unsorted::default();
        let mut exact: ConfigMap<&[u8], Unsorted<'_>> = ConfigMap::default();
        let mut suffixes: ConfigMap<&[u8], Unsorted<'_>> = ConfigMap::default();
        let mut prefixes: ConfigMap<&[u8], Unsorted<'_>> = ConfigMap::default();
        for (position, alternative) in alternatives.iter().enumerate() {
            let position = position as u32;
            let hosts = alternative.host_keys();
            let paths = alternative.path_keys();
            if hosts.is_empty() {
                any_host.add(&paths, position);
            }
            for host in hosts {
                let (table, key) = match host {
                    NamePattern::Exact(name) => (&mut exact, name),
                    NamePattern::Suffix(suffix) => (&mut suffixes, suffix),
                    NamePattern::Prefix(prefix) => (&mut prefixes, prefix),
                };
                table.entry(key).or_default().add(&paths, position);
            }
        }
        let hash = Seed::of_process();
        let finish = |paths: Unsorted<'_>| PathIndex::new(paths, alternatives, hash);
        let wildcards = |table: ConfigMap<&[u8], Unsorted<'_>>, end: End| {
            let keys: Vec<_> = table
                .into_iter()
                .map(|(key, paths)| {
                    let best = paths.best();
                    (key, finish(paths), best)
                })
                .collect();
            (!keys.is_empty()).then(|| Box::new(Affixes::new(end, hash, keys)))
        };
        let mut exact_hosts = HashTable::default();
        let mut under_exact_hosts = Vec::with_capacity(exact.len());
        let exact_hosts_best = exact.values().map(Unsorted::best).min().unwrap_or(NOTHING);
        for (host, paths) in exact {
            exact_hosts.add(hash.hash(host), under_exact_hosts.len() as u32);
            under_exact_hosts.push(finish(paths));
        }
        Index {
            hash,
            exact_hosts,
            under_exact_hosts,
            exact_hosts_best,
            host_suffixes: wildcards(suffixes, End::Finish),
            host_prefixes: wildcards(prefixes, End::Start),
            any_host: finish(any_host),
        }
    }

    /// The least position for which `try_match` has an answer, with the answer.
    #[inline]
    pub(super) fn find<T>(&self, facts: &LazyFacts<'_>, records: &[Record], try_match: impl Fn(u32) -> Option<T>) -> Option<(u32, T)> {
        let view = facts.view();
        let mut search = Search { hash: self.hash, view, facts, records, try_match, found: NOTHING, answer: None };
        if self.exact_hosts_best != NOTHING {
            for at in self.exact_hosts.get_all(self.hash.hash(view.host)) {
                self.under_exact_hosts[at as usize].search(&mut search);
            }
        }
        for wildcards in [&self.host_suffixes, &self.host_prefixes].into_iter().flatten() {
            for (best, paths) in wildcards.all(view.host) {
                if best >= search.found {
                    break;
                }
                paths.search(&mut search);
            }
        }
        self.any_host.search(&mut search);
        search.answer.map(|answer| (search.found, answer))
    }
}

struct Search<'a, 'v, M, T> {
    hash: Seed,
    view: &'v RequestView<'v>,
    facts: &'a LazyFacts<'v>,
    records: &'a [Record],
    try_match: M,
    found: u32,
    answer: Option<T>,
}

impl<T, M: Fn(u32) -> Option<T>> Search<'_, '_, M, T> {
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
    fn new(paths: Unsorted<'_>, alternatives: &[&Alternative], hash: Seed) -> Self {
        let mut all: Vec<u32> = paths.0.iter().map(|(_, position)| *position).collect();
        all.dedup();
        if all.len() <= FEW {
            let mut few = [NOTHING; FEW];
            few[..all.len()].copy_from_slice(&all);
            return PathIndex { few, few_count: all.len(), by_path: None };
        }
        let mut lists: ConfigMap<&[u8], Vec<u32>> = ConfigMap::default();
        for (key, position) in paths.0 {
            let list = lists.entry(key).or_default();
            // Two expressions of one alternative may begin alike.
            if list.last() != Some(&position) {
                list.push(position);
            }
        }
        let keys = lists.into_iter().map(|(key, list)| {
            let best = list[0];
            let slot = match list.as_slice() {
                [only] => Slot::One(*only),
                _ => Slot::More(Box::new(Positions::new(list, alternatives, hash, &mut Vec::new()))),
            };
            (key, slot, best)
        });
        PathIndex { few: [NOTHING; FEW], few_count: 0, by_path: Some(Box::new(Affixes::new(End::Start, hash, keys.collect()))) }
    }

    #[inline]
    fn search<T, M: Fn(u32) -> Option<T>>(&self, search: &mut Search<'_, '_, M, T>) {
        search.try_all(&self.few[..self.few_count]);
        let Some(by_path) = &self.by_path else { return };
        let path = search.view.path;
        let (guess, only) = by_path.guess_only(path);
        // Most requests end here: one key, one Route, whose record, once it agreed, has shown that the path begins with the key.
        if let Some((best, Slot::One(position))) = only
            && best == *position
            && best < search.found
            && search.records[best as usize].shows_prefix_of(guess.length)
        {
            search.try_all(&[best]);
            if search.found == best {
                return;
            }
        }
        for (best, slot) in by_path.all_after(guess, path) {
            if best >= search.found {
                return;
            }
            match slot {
                Slot::One(position) => search.try_all(std::slice::from_ref(position)),
                Slot::More(positions) => positions.search(search),
            }
        }
    }
}

impl Positions {
    /// `split_by`: the fields by which this list is split already.
    fn new(list: Vec<u32>, alternatives: &[&Alternative], hash: Seed, split_by: &mut Vec<Field>) -> Self {
        let mut positions = Positions { list, ..Positions::default() };
        while positions.list.len() > LONG_LIST && split_by.len() < DEEPEST_SPLIT {
            let Some(field) = positions.telling_field(alternatives, hash, split_by) else { break };
            split_by.push(field);
            positions.split_by_value(alternatives, hash, split_by);
            split_by.pop();
        }
        if positions.list.len() > LONG_EXPRESSION_LIST && split_by.is_empty() {
            positions.split_by_inner_text(alternatives, hash);
        }
        positions
    }

    /// The field by which the list falls into most parts.
    fn telling_field(&self, alternatives: &[&Alternative], hash: Seed, split_by: &[Field]) -> Option<Field> {
        let mut values_by_field: ConfigMap<Field, ConfigSet<u64>> = ConfigMap::default();
        for position in &self.list {
            for (field, values) in alternatives[*position as usize].value_keys() {
                if is_usable(&field, values.len(), split_by) && !self.by_value.iter().any(|table| table.field == field) {
                    values_by_field.entry(field).or_default().extend(values.iter().map(|value| hash.hash(&lower(value))));
                }
            }
        }
        let telling = values_by_field.into_iter().filter(|(_, values)| values.len() > 1);
        telling
            .max_by(|(field, values), (other, others)| values.len().cmp(&others.len()).then_with(|| other.cmp(field)))
            .map(|(field, _)| field)
    }

    /// Takes those that have values of the last field of `split_by` out of the list.
    fn split_by_value(&mut self, alternatives: &[&Alternative], hash: Seed, split_by: &mut Vec<Field>) {
        let Some((field, above)) = split_by.split_last() else { return };
        let field = field.clone();
        let mut rest = Vec::new();
        let mut lists: Vec<Vec<u32>> = Vec::new();
        let mut table = HashTable::default();
        let mut best = NOTHING;
        for position in std::mem::take(&mut self.list) {
            let keys = alternatives[position as usize].value_keys();
            let key = keys.iter().find(|(other, values)| *other == field && is_usable(other, values.len(), above));
            let Some((_, values)) = key else {
                rest.push(position);
                continue;
            };
            best = best.min(position);
            for value in values {
                let hash = hash.hash(&lower(value));
                let at = table.get(hash).unwrap_or_else(|| {
                    lists.push(Vec::new());
                    table.add(hash, lists.len() as u32 - 1);
                    lists.len() as u32 - 1
                });
                let list = &mut lists[at as usize];
                if list.last() != Some(&position) {
                    list.push(position);
                }
            }
        }
        let positions = lists.into_iter().map(|list| Positions::new(list, alternatives, hash, split_by)).collect();
        self.by_value.push(ValueTable { field, best, table, positions });
        self.list = rest;
    }

    fn split_by_inner_text(&mut self, alternatives: &[&Alternative], hash: Seed) {
        let mut rest = Vec::new();
        for position in std::mem::take(&mut self.list) {
            let paths = alternatives[position as usize].path_keys();
            let tails: Option<Vec<&[u8]>> = paths.iter().map(|(_, inner)| inner_key(inner)).collect();
            let Some(tails) = tails.filter(|tails| !tails.is_empty()) else {
                rest.push(position);
                continue;
            };
            for tail in tails {
                let at = self.by_inner_text.iter().position(|texts| texts.length == tail.len()).unwrap_or_else(|| {
                    let texts = InnerTexts { length: tail.len(), best: position, table: HashTable::default(), lists: Vec::new() };
                    self.by_inner_text.push(texts);
                    self.by_inner_text.len() - 1
                });
                let InnerTexts { table, lists, .. } = &mut self.by_inner_text[at];
                let hash = hash.hash(tail);
                let list = table.get(hash).unwrap_or_else(|| {
                    lists.push(Vec::new());
                    table.add(hash, lists.len() as u32 - 1);
                    lists.len() as u32 - 1
                });
                let list = &mut lists[list as usize];
                if list.last() != Some(&position) {
                    list.push(position);
                }
            }
        }
        self.list = rest;
    }

    #[inline]
    fn search<T, M: Fn(u32) -> Option<T>>(&self, search: &mut Search<'_, '_, M, T>) {
        search.try_all(&self.list);
        for table in &self.by_value {
            if table.best < search.found {
                table.search(search);
            }
        }
        if self.by_inner_text.iter().any(|texts| texts.best < search.found) {
            self.search_inner_texts(search);
        }
    }

    /// Each list once, however often its text is in the path, the best first.
    fn search_inner_texts<T, M: Fn(u32) -> Option<T>>(&self, search: &mut Search<'_, '_, M, T>) {
        let mut found: Vec<&[u32]> = Vec::new();
        for InnerTexts { length, table, lists, .. } in &self.by_inner_text {
            let windows = search.view.path.windows(*length);
            found.extend(windows.filter_map(|window| table.get(search.hash.hash(window))).map(|at| lists[at as usize].as_slice()));
        }
        found.sort_unstable_by_key(|list| (list.first().copied(), list.as_ptr() as usize));
        found.dedup_by_key(|list| list.as_ptr());
        for list in found {
            search.try_all(list);
        }
    }
}

impl ValueTable {
    fn search<T, M: Fn(u32) -> Option<T>>(&self, search: &mut Search<'_, '_, M, T>) {
        let (view, facts) = (search.view, search.facts);
        // A request may say the same a hundred times.
        let mut seen = Vec::new();
        let mut look = |value: &[u8]| {
            if let Some(at) = self.table.get(search.hash.hash(&lower(value)))
                && !seen.contains(&at)
            {
                seen.push(at);
                self.positions[at as usize].search(search);
            }
        };
        match &self.field {
            Field::Header(name) => header_values(view.headers, name).for_each(look),
            Field::Argument(name) => facts.get().argument_values(name).for_each(look),
            Field::Method => look(view.method),
            Field::Sni => view.sni.into_iter().for_each(look),
            Field::Segments { first, last } => facts.get().segment_range(*first, *last).into_iter().for_each(look),
            _ => {}
        }
    }
}

fn is_usable(field: &Field, value_count: usize, split_by: &[Field]) -> bool {
    !split_by.contains(field) && (split_by.is_empty() || value_count <= VALUE_LIMIT)
}

/// The last bytes of an inner text; none if it is too short to tell much.
fn inner_key(text: &[u8]) -> Option<&[u8]> {
    INNER_TEXT_LENGTHS.into_iter().find_map(|length| text.len().checked_sub(length).map(|start| &text[start..]))
}
