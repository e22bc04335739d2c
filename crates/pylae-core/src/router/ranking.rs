// SPDX-License-Identifier: Apache-2.0
//! Which of two Routes that both match comes first? Each flavour has its own answer.

use crate::snapshot::Id;
use crate::snapshot::model::Route;
use serde::Deserialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Which language Routes are written in, and how they rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavour {
    /// Kong's first router.
    Traditional,
    /// The same attributes, ranked by one number.
    #[default]
    TraditionalCompatible,
    /// Routes with an `expression` and a `priority`; others as in `traditional_compatible`, after these.
    Expressions,
}

/// How `traditional_compatible` computes its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ranking {
    /// As a real Kong does: its 32-bit shifts included.
    #[default]
    Kong,
    /// As Kong's documentation says.
    Documented,
}

/// How the Routes of a configuration are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouterOptions {
    /// `router_flavor`.
    pub flavour: Flavour,
    /// `router_ranking`.
    pub ranking: Ranking,
}

/// The greatest rank wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// A Route with an expression outranks those without.
    has_expression: bool,
    priority: u64,
    /// What only `traditional` looks at after its categories: regex_priority, longest path, age.
    finer: (i64, usize, Reverse<i64>),
    /// Kong's matching engine keeps its Routes in an ordered map by (priority, UUID) and walks it backwards: of equal priorities the
    /// greater UUID wins. `traditional` never gets so far in practice.
    id: Id,
}

/// What the rank of a Route is computed from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attributes {
    pub(super) count: u32,
    pub(super) has_plain_hosts_only: bool,
    pub(super) header_count: u32,
    pub(super) has_regex_path: bool,
    pub(super) regex_priority: i64,
    pub(super) prefix_length: usize,
}

impl Rank {
    /// Of a Route with an expression; `priority` is the Route's own.
    pub(super) fn of_expression(priority: u64, id: Id) -> Rank {
        Rank { has_expression: true, priority, finer: (0, 0, Reverse(0)), id }
    }

    /// Of a part of a Route under `traditional_compatible`.
    pub(super) fn of_attributes(attributes: Attributes, ranking: Ranking, id: Id) -> Rank {
        Rank { has_expression: false, priority: attributes.priority(ranking), finer: (0, 0, Reverse(0)), id }
    }

    /// Of a Route under `traditional`: by number of attributes set, by their weight (host, header, path, method, SNI, source,
    /// destination), by what is special about hosts and paths, by number of headers; then by regex_priority (with a regular expression
    /// only), longest path, age.
    pub(super) fn of_traditional(route: &Route) -> Rank {
        let hosts = route.hosts.as_deref().unwrap_or_default();
        let paths = route.paths.as_deref().unwrap_or_default();
        let set = [
            !hosts.is_empty(),
            route.headers.as_ref().is_some_and(|headers| !headers.is_empty()),
            !paths.is_empty(),
            has_any(route.methods.as_ref()),
            has_any(route.snis.as_ref()),
            has_any(route.sources.as_ref()),
            has_any(route.destinations.as_ref()),
        ];
        let count = set.iter().filter(|is_set| **is_set).count() as u64;
        let weights = set.iter().fold(0, |sum, is_set| sum << 1 | u64::from(*is_set));
        let is_wildcard = |host: &&String| host.contains('*');
        let has_port = |host: &String| super::conditions::split_host_port(host.as_bytes()).1.is_some();
        let has_regex = paths.iter().any(|path| is_regex(path));
        let special = u64::from(hosts.iter().filter(is_wildcard).any(has_port)) << 2
            | u64::from(!hosts.is_empty() && !hosts.iter().any(|host| host.contains('*'))) << 1
            | u64::from(has_regex);
        let headers = route.headers.as_ref().map_or(0, |headers| headers.len().min(0xffff) as u64);
        let longest = paths.iter().map(|path| path.strip_prefix('~').unwrap_or(path).len()).max().unwrap_or(0);
        Rank {
            has_expression: false,
            priority: count << 32 | weights << 24 | special << 16 | headers,
            finer: (if has_regex { route.regex_priority.unwrap_or(0) } else { 0 }, longest, Reverse(route.created_at)),
            id: route.id,
        }
    }

    #[cfg(test)]
    pub(super) fn id(&self) -> Id {
        self.id
    }
}

pub(super) fn is_regex(path: &str) -> bool {
    path.starts_with('~')
}

fn has_any<T>(values: Option<&Vec<T>>) -> bool {
    values.is_some_and(|values| !values.is_empty())
}

impl Attributes {
    /// Of a Route, or of the part of it with these paths, which rank alike.
    pub(super) fn of(route: &Route, paths: &[&str]) -> Self {
        let is_regex_path = paths.first().is_some_and(|path| is_regex(path));
        Attributes {
            count: u32::from(has_any(route.sources.as_ref()))
                + u32::from(has_any(route.destinations.as_ref()))
                + u32::from(has_any(route.methods.as_ref()))
                + u32::from(has_any(route.hosts.as_ref()))
                + u32::from(route.headers.as_ref().is_some_and(|headers| !headers.is_empty()))
                + u32::from(has_any(route.snis.as_ref()))
                + u32::from(!paths.is_empty()),
            // An empty list of hosts is no condition but counts as plain all the same.
            has_plain_hosts_only: route.hosts.as_ref().is_some_and(|hosts| hosts.iter().all(|host| !host.contains('*'))),
            header_count: route.headers.as_ref().map_or(0, |headers: &BTreeMap<_, _>| headers.len().min(255) as u32),
            has_regex_path: is_regex_path,
            regex_priority: if is_regex_path { route.regex_priority.unwrap_or(0) } else { 0 },
            prefix_length: if is_regex_path { 0 } else { paths.first().map_or(0, |path| path.len()) },
        }
    }

    pub(super) fn priority(self, ranking: Ranking) -> u64 {
        match ranking {
            Ranking::Kong => self.kong_priority(),
            Ranking::Documented => self.documented_priority(),
        }
    }

    /// The priority as a real Kong computes it, not as it documents it. Its shifts of plain numbers are 32 bits wide, the distance
    /// taken modulo 32, and the signed results are extended when they meet the 64-bit constants: `count << 61` becomes `count << 29`
    /// (negative, so above all else, from 4 on), `headers << 52` becomes `headers << 20`, and a negative `regex_priority`, or one with
    /// bit 12 set, fills the upper half with ones.
    pub(super) fn kong_priority(self) -> u64 {
        let shifted = |number: i64, distance: u32| i64::from((number as i32).wrapping_shl(distance)) as u64;
        let bit = |is_set: bool, place: u32| u64::from(is_set) << place;
        shifted(i64::from(self.count), 61)
            | bit(self.has_plain_hosts_only, 60)
            | shifted(i64::from(self.header_count), 52)
            | bit(self.has_regex_path, 51)
            | shifted(self.regex_priority, 19)
            | self.prefix_length as u64 & 0x7_ffff
    }

    /// The priority as documented: each attribute in bits of its own. A regex_priority takes bits 19 to 50, counted from the least.
    pub(super) fn documented_priority(self) -> u64 {
        let least = i64::from(i32::MIN);
        let regex_priority = self.regex_priority.clamp(least, i64::from(i32::MAX)) - least;
        u64::from(self.count.min(7)) << 61
            | u64::from(self.has_plain_hosts_only) << 60
            | u64::from(self.header_count) << 52
            | u64::from(self.has_regex_path) << 51
            | if self.has_regex_path { (regex_priority as u64) << 19 } else { 0 }
            | self.prefix_length as u64 & 0x7_ffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(count: u32) -> Attributes {
        Attributes { count, ..Attributes::default() }
    }

    #[test]
    fn counts_land_at_bit_29_and_from_four_on_fill_the_upper_half() {
        assert_eq!(attributes(1).kong_priority(), 0x0000_0000_2000_0000);
        assert_eq!(attributes(2).kong_priority(), 0x0000_0000_4000_0000);
        assert_eq!(attributes(3).kong_priority(), 0x0000_0000_6000_0000);
        assert_eq!(attributes(4).kong_priority(), 0xffff_ffff_8000_0000);
        assert_eq!(attributes(5).kong_priority(), 0xffff_ffff_a000_0000);
        assert_eq!(attributes(6).kong_priority(), 0xffff_ffff_c000_0000);
        assert_eq!(attributes(7).kong_priority(), 0xffff_ffff_e000_0000);
    }

    #[test]
    fn plain_hosts_and_regexes_outrank_counts_below_four() {
        let host = Attributes { has_plain_hosts_only: true, ..attributes(1) }.kong_priority();
        let regex = Attributes { has_regex_path: true, ..attributes(1) }.kong_priority();
        assert_eq!(host, 0x1000_0000_2000_0000);
        assert_eq!(regex, 0x0008_0000_2000_0000);
        assert!(host > regex && regex > Attributes { prefix_length: 9, ..attributes(3) }.kong_priority());
    }

    #[test]
    fn from_four_on_plain_hosts_and_regexes_make_no_difference() {
        for count in 4..=7 {
            let plain = Attributes { has_plain_hosts_only: true, has_regex_path: true, ..attributes(count) };
            assert_eq!(plain.kong_priority(), attributes(count).kong_priority());
        }
    }

    #[test]
    fn headers_land_at_bit_20_and_regex_priorities_at_bit_19() {
        assert_eq!(Attributes { header_count: 3, ..attributes(0) }.kong_priority(), 3 << 20);
        assert_eq!(Attributes { header_count: 255, ..attributes(0) }.kong_priority(), 255 << 20);
        assert_eq!(Attributes { regex_priority: 1, ..attributes(0) }.kong_priority(), 1 << 19);
        assert_eq!(Attributes { regex_priority: 4096, ..attributes(0) }.kong_priority(), 0xffff_ffff_8000_0000);
        assert_eq!(Attributes { regex_priority: -1, ..attributes(0) }.kong_priority(), 0xffff_ffff_fff8_0000);
        assert_eq!(Attributes { regex_priority: 8192, ..attributes(0) }.kong_priority(), 0);
        // One header and an odd regex priority overlap in no bit; two headers and regex_priority 4 do.
        assert_eq!(Attributes { header_count: 2, regex_priority: 4, ..attributes(0) }.kong_priority(), 1 << 21);
    }

    #[test]
    fn lengths_take_19_bits() {
        assert_eq!(Attributes { prefix_length: 0x8_0001, ..attributes(0) }.kong_priority(), 1);
    }

    #[test]
    fn documented_attributes_have_bits_of_their_own() {
        let of = |attributes: Attributes| attributes.documented_priority();
        assert_eq!(of(attributes(3)), 3 << 61);
        assert_eq!(of(Attributes { has_plain_hosts_only: true, header_count: 255, ..attributes(0) }), 1 << 60 | 255 << 52);
        assert_eq!(of(Attributes { prefix_length: 7, ..attributes(0) }), 7);
        let regex = |regex_priority| of(Attributes { has_regex_path: true, regex_priority, ..attributes(1) });
        assert!(regex(-1) < regex(0) && regex(0) < regex(1) && regex(1) < regex(5000) && regex(5000) < regex(i64::MAX));
        assert!(regex(i64::MAX) < of(Attributes { header_count: 1, ..attributes(1) }));
        assert!(regex(i64::MIN) > of(Attributes { prefix_length: 9, ..attributes(1) }));
    }
}
