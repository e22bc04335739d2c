// SPDX-License-Identifier: Apache-2.0
//! Which pairs of Routes would Kong's documentation order one way, and a real Kong the other?
//!
//! Such a pair is harmless until one request matches both: then it decides, say, whether a plugin that authenticates runs.

use super::conditions::{Alternative, HeaderCondition, HostCondition, NamePattern, PathCondition};
use super::ranking::Ranking;
use crate::snapshot::hash::ConfigMap;
use crate::snapshot::model::Route;
use std::cell::OnceCell;
use std::cmp::Reverse;

/// Pairs of Routes looked at before giving up; each takes some 20 ns.
const PAIR_LIMIT: usize = 500_000;
/// Pairs of classes looked at before giving up; each takes a nanosecond or two.
const CLASS_PAIR_LIMIT: usize = 4_000_000;

/// Alternatives of the same two priorities.
struct Class<'a> {
    kong: u64,
    documented: u64,
    members: Vec<(&'a Route, &'a Alternative)>,
    /// The members by the first segment of a path, [`NO_SEGMENT`] for those that may match any.
    by_segment: OnceCell<ConfigMap<&'a [u8], Vec<u32>>>,
}

/// Where those stand whose paths do not begin with a whole segment.
const NO_SEGMENT: &[u8] = b"";

/// One line for each pair found, at most `limit`; a last one says if not all pairs were looked at.
pub(super) fn find<'a>(alternatives: impl Iterator<Item = (&'a Route, &'a Alternative)>, ranking: Ranking, limit: usize) -> Vec<String> {
    let mut classes = classes(alternatives);
    classes.sort_unstable_by_key(|class| Reverse((class.kong, class.documented)));
    let mut search = Search { ranking, limit, pairs: 0, is_cut: false, found: Vec::new() };
    if classes.windows(2).all(|pair| pair[0].documented >= pair[1].documented && pair[0].kong > pair[1].kong) {
        return search.found;
    }
    let mut class_pairs = 0;
    for (at, first) in classes.iter().enumerate() {
        class_pairs += at;
        search.is_cut |= class_pairs > CLASS_PAIR_LIMIT;
        for second in &classes[..at] {
            if search.is_cut {
                search.found.push("there may be more Routes that the two values of router_ranking order differently".to_owned());
                return search.found;
            }
            if first.kong.cmp(&second.kong) != first.documented.cmp(&second.documented) {
                search.compare(first, second);
            }
        }
    }
    search.found
}

fn classes<'a>(alternatives: impl Iterator<Item = (&'a Route, &'a Alternative)>) -> Vec<Class<'a>> {
    let mut places: ConfigMap<(u64, u64), usize> = ConfigMap::default();
    let mut classes: Vec<Class<'a>> = Vec::new();
    for (route, alternative) in alternatives {
        let Some(attributes) = alternative.attributes else { continue };
        let (kong, documented) = (attributes.kong_priority(), attributes.documented_priority());
        let at = *places.entry((kong, documented)).or_insert_with(|| {
            classes.push(Class { kong, documented, members: Vec::new(), by_segment: OnceCell::new() });
            classes.len() - 1
        });
        classes[at].members.push((route, alternative));
    }
    classes
}

impl<'a> Class<'a> {
    fn by_segment(&self) -> &ConfigMap<&'a [u8], Vec<u32>> {
        self.by_segment.get_or_init(|| {
            let mut by_segment: ConfigMap<&[u8], Vec<u32>> = ConfigMap::default();
            for (at, (_, alternative)) in self.members.iter().enumerate() {
                for segment in segments(alternative) {
                    let positions = by_segment.entry(segment).or_default();
                    if positions.last() != Some(&(at as u32)) {
                        positions.push(at as u32);
                    }
                }
            }
            by_segment
        })
    }
}

/// The first segment of each path, slash and all that follows up to the next; [`NO_SEGMENT`] where more may follow it.
fn segments(alternative: &Alternative) -> Vec<&[u8]> {
    if alternative.paths.is_empty() {
        return vec![NO_SEGMENT];
    }
    let segment =
        |path: &'_ PathCondition| -> usize { memchr::memchr(b'/', path.literal().get(1..).unwrap_or_default()).map_or(0, |at| at + 1) };
    alternative.paths.iter().map(|path| &path.literal()[..segment(path)]).collect()
}

struct Search {
    ranking: Ranking,
    limit: usize,
    pairs: usize,
    is_cut: bool,
    found: Vec<String>,
}

impl Search {
    fn compare<'a>(&mut self, first: &Class<'a>, second: &Class<'a>) {
        let (small, large) = if first.members.len() < second.members.len() { (first, second) } else { (second, first) };
        for (route, alternative) in &small.members {
            let own = segments(alternative);
            if own.contains(&NO_SEGMENT) {
                for (other_route, other) in &large.members {
                    self.look(small, (route, alternative), large, (other_route, other));
                    if self.is_cut {
                        return;
                    }
                }
                continue;
            }
            let near = own.iter().chain(std::iter::once(&NO_SEGMENT)).filter_map(|segment| large.by_segment().get(segment)).flatten();
            for member in near {
                let (other_route, other) = &large.members[*member as usize];
                self.look(small, (route, alternative), large, (other_route, other));
                if self.is_cut {
                    return;
                }
            }
        }
    }

    fn look(&mut self, class: &Class<'_>, one: (&Route, &Alternative), other_class: &Class<'_>, other: (&Route, &Alternative)) {
        self.pairs += 1;
        self.is_cut = self.pairs > PAIR_LIMIT;
        if one.0.id == other.0.id || !may_overlap(one.1, other.1) {
            return;
        }
        let is_first_in_kong = class.kong > other_class.kong || class.kong == other_class.kong && one.1.rank > other.1.rank;
        let (before, after) = if is_first_in_kong { (one.0, other.0) } else { (other.0, one.0) };
        let line = match self.ranking {
            Ranking::Kong => format!(
                "routes {} and {} may match the same request: the first one wins, as in Kong, though its documentation says the second; \
                 hint: router_ranking = documented",
                name_of(before),
                name_of(after)
            ),
            Ranking::Documented => format!(
                "routes {} and {} may match the same request: the first one wins, as documented; in a real Kong the second does; \
                 hint: router_ranking = kong",
                name_of(after),
                name_of(before)
            ),
        };
        if !self.found.contains(&line) {
            self.is_cut |= self.found.len() >= self.limit;
            if !self.is_cut {
                self.found.push(line);
            }
        }
    }
}

fn name_of(route: &Route) -> String {
    route.name.as_ref().map_or_else(|| route.id.to_string(), |name| format!("{} ({name})", route.id))
}

/// Could one request match both? In doubt yes.
fn may_overlap(one: &Alternative, other: &Alternative) -> bool {
    any_fit(&one.methods, &other.methods, |left, right| left == right)
        && any_fit(&one.hosts, &other.hosts, hosts_fit)
        && any_fit(&one.paths, &other.paths, paths_fit)
        && any_fit(&one.snis, &other.snis, names_fit)
        && one.headers.iter().all(|header| other.headers.iter().all(|other| headers_fit(header, other)))
}

/// Does any of these go with any of those? No condition goes with all.
fn any_fit<T>(ones: &[T], others: &[T], fit: impl Fn(&T, &T) -> bool) -> bool {
    ones.is_empty() || others.is_empty() || ones.iter().any(|one| others.iter().any(|other| fit(one, other)))
}

fn names_fit(left: &NamePattern, right: &NamePattern) -> bool {
    match (left, right) {
        (NamePattern::Exact(name), pattern) | (pattern, NamePattern::Exact(name)) => pattern.matches(name),
        (NamePattern::Suffix(left), NamePattern::Suffix(right)) => left.ends_with(right) || right.ends_with(left),
        (NamePattern::Prefix(left), NamePattern::Prefix(right)) => left.starts_with(right) || right.starts_with(left),
        _ => true,
    }
}

fn hosts_fit(left: &HostCondition, right: &HostCondition) -> bool {
    let ports_fit = left.port.is_none() || right.port.is_none() || left.port == right.port;
    ports_fit && names_fit(&left.name, &right.name)
}

fn paths_fit(left: &PathCondition, right: &PathCondition) -> bool {
    let (left, right) = (left.literal(), right.literal());
    left.starts_with(right) || right.starts_with(left)
}

/// A request may carry a header twice; that two Routes meet in it so is no worry.
fn headers_fit(left: &HeaderCondition, right: &HeaderCondition) -> bool {
    if !left.name.eq_ignore_ascii_case(&right.name) {
        return true;
    }
    match (left.exact_values(), right.exact_values()) {
        (Some(left), Some(right)) => left.iter().any(|value| right.contains(value)),
        _ => true,
    }
}
