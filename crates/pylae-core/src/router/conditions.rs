// SPDX-License-Identifier: Apache-2.0
//! What must a request look like to match this Route, and how does the Route rank among those that match too?

use super::RequestView;
use crate::snapshot::Id;
use crate::snapshot::model::Route;
use regex::bytes::{Regex, RegexBuilder};
use std::fmt;
use std::sync::Arc;

/// A Route with its conditions compiled; kept from snapshot to snapshot as long as its row does not change.
#[derive(Debug)]
pub struct CompiledRoute {
    /// The row.
    pub route: Arc<Route>,
    pub(super) alternatives: Vec<Alternative>,
}

/// A Route, or the part of it whose paths rank alike: all regular expressions, or all prefixes of one length.
#[derive(Debug)]
pub(super) struct Alternative {
    pub(super) rank: Rank,
    pub(super) methods: Vec<Box<[u8]>>,
    pub(super) hosts: Vec<HostCondition>,
    pub(super) paths: Vec<PathCondition>,
    pub(super) headers: Vec<HeaderCondition>,
    pub(super) snis: Vec<NamePattern>,
}

/// The greatest rank wins. Kong's matching engine keeps its routes in an ordered map by (priority, UUID) and walks it backwards: of
/// equal priorities the greater UUID wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) priority: u64,
    pub(super) id: Id,
}

/// A name with at most one wildcard at an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NamePattern {
    Exact(Box<[u8]>),
    /// `*.x`: ends with `.x`.
    Suffix(Box<[u8]>),
    /// `x.*`: begins with `x.`.
    Prefix(Box<[u8]>),
}

#[derive(Debug)]
pub(super) struct HostCondition {
    pub(super) name: NamePattern,
    /// Port of the Host header, or else of the listener.
    pub(super) port: Option<u16>,
}

#[derive(Debug)]
pub(super) enum PathCondition {
    Prefix(Box<[u8]>),
    Regex(Arc<PathRegex>),
}

/// A regular expression over the path.
#[derive(Debug)]
pub(super) struct PathRegex {
    pub(super) regex: Regex,
    /// What every match begins with.
    literal: Box<[u8]>,
    /// A text that is in every match after that, the longest one known; empty if none is.
    inner_text: Box<[u8]>,
    /// By number of the group; `[0]` is the whole match.
    pub(super) names: Arc<[Option<Arc<str>>]>,
}

#[derive(Debug)]
pub(super) struct HeaderCondition {
    pub(super) name: Arc<str>,
    /// The name with hyphens for underscores, where that differs: the engine can't tell them apart.
    pub(super) hyphenated: Option<Arc<str>>,
    pub(super) values: Vec<HeaderValue>,
}

#[derive(Debug)]
pub(super) enum HeaderValue {
    /// Lower case.
    Exact(Box<[u8]>),
    Regex(Regex),
}

/// Why a Route can't be compiled. It matches nothing then; the others do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteError {
    /// Whose row.
    pub route: Id,
    /// What is wrong.
    pub detail: String,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "routes {}: {}", self.route, self.detail)
    }
}

impl std::error::Error for RouteError {}

/// The namespace of the ids that parts of a split Route get, so that ties fall as in Kong.
const SPLIT_NAMESPACE: Id = Id([0x7f, 0x14, 0x5b, 0xf9, 0x0d, 0xce, 0x4f, 0x91, 0x98, 0xeb, 0xde, 0xbb, 0xce, 0x4b, 0x9f, 0x6b]);

impl CompiledRoute {
    /// Compiles the conditions of a Route.
    ///
    /// # Errors
    /// A regular expression is not one, or a condition is empty and could never hold.
    pub fn new(route: Arc<Route>) -> Result<Self, RouteError> {
        let alternatives = compile(&route).map_err(|detail| RouteError { route: route.id, detail })?;
        Ok(CompiledRoute { route, alternatives })
    }
}

fn compile(route: &Route) -> Result<Vec<Alternative>, String> {
    // Streams have a router of their own.
    if !route.protocols.iter().any(|protocol| protocol.is_http()) {
        return Ok(Vec::new());
    }
    let groups = group_paths(route.paths.as_deref().unwrap_or_default());
    let is_split = groups.len() > 1;
    let groups = if groups.is_empty() { vec![Vec::new()] } else { groups };
    let mut alternatives = Vec::with_capacity(groups.len());
    for (at, paths) in groups.into_iter().enumerate() {
        let id = if is_split { SPLIT_NAMESPACE.derive(format!("{}#{}", route.id, at + 1).as_bytes()) } else { route.id };
        let alternative = Alternative {
            rank: Rank { priority: priority_of(route, &paths), id },
            methods: list(route.methods.as_ref()).map(|method| method.as_bytes().into()).collect(),
            hosts: list(route.hosts.as_ref()).map(|host| HostCondition::new(host)).collect(),
            paths: paths.into_iter().map(PathCondition::new).collect::<Result<_, _>>()?,
            headers: compile_headers(route)?,
            snis: list(route.snis.as_ref()).map(|sni| sni_pattern(sni)).collect(),
        };
        alternatives.push(alternative);
    }
    Ok(alternatives)
}

fn list(values: Option<&Vec<String>>) -> std::slice::Iter<'_, String> {
    values.map(Vec::as_slice).unwrap_or_default().iter()
}

/// The paths in groups of equal rank, in the order of each group's first path.
fn group_paths(paths: &[String]) -> Vec<Vec<&str>> {
    let mut groups: Vec<(Option<usize>, Vec<&str>)> = Vec::new();
    for path in paths {
        let key = if is_regex(path) { None } else { Some(path.len()) };
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, group)) => group.push(path),
            None => groups.push((key, vec![path])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn is_regex(path: &str) -> bool {
    path.starts_with('~')
}

fn priority_of(route: &Route, paths: &[&str]) -> u64 {
    let is_set = |values: Option<usize>| u32::from(values.is_some_and(|count| count > 0));
    let is_regex_path = paths.first().is_some_and(|path| is_regex(path));
    Attributes {
        count: is_set(route.sources.as_ref().map(Vec::len))
            + is_set(route.destinations.as_ref().map(Vec::len))
            + is_set(route.methods.as_ref().map(Vec::len))
            + is_set(route.hosts.as_ref().map(Vec::len))
            + is_set(route.headers.as_ref().map(std::collections::BTreeMap::len))
            + is_set(route.snis.as_ref().map(Vec::len))
            + u32::from(!paths.is_empty()),
        // An empty list of hosts is no condition but counts as plain all the same.
        has_plain_hosts_only: route.hosts.as_ref().is_some_and(|hosts| hosts.iter().all(|host| !host.contains('*'))),
        header_count: route.headers.as_ref().map_or(0, |headers| headers.len().min(255) as u32),
        has_regex_path: is_regex_path,
        regex_priority: if is_regex_path { route.regex_priority.unwrap_or(0) } else { 0 },
        prefix_length: if is_regex_path { 0 } else { paths.first().map_or(0, |path| path.len()) },
    }
    .priority()
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

impl Attributes {
    /// The priority as a real Kong computes it, not as it documents it. Its shifts of plain numbers are 32 bits wide, the distance
    /// taken modulo 32, and the signed results are extended when they meet the 64-bit constants: `count << 61` becomes `count << 29`
    /// (negative, so above all else, from 4 on), `headers << 52` becomes `headers << 20`, and a negative `regex_priority`, or one with
    /// bit 12 set, fills the upper half with ones.
    pub(super) fn priority(self) -> u64 {
        let shifted = |number: i64, distance: u32| i64::from((number as i32).wrapping_shl(distance)) as u64;
        let bit = |is_set: bool, place: u32| u64::from(is_set) << place;
        shifted(i64::from(self.count), 61)
            | bit(self.has_plain_hosts_only, 60)
            | shifted(i64::from(self.header_count), 52)
            | bit(self.has_regex_path, 51)
            | shifted(self.regex_priority, 19)
            | self.prefix_length as u64 & 0x7_ffff
    }
}

/// Splits a Host header, or a Route's host, at its first colon, if a port follows. `[v6]:port` stays whole, as in Kong.
pub fn split_host_port(host: &[u8]) -> (&[u8], Option<u16>) {
    let Some(colon) = memchr::memchr(b':', host) else { return (host, None) };
    let digits = &host[colon + 1..];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return (host, None);
    }
    let port = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    (&host[..colon], port)
}

impl HostCondition {
    fn new(text: &str) -> Self {
        let (host, port) = split_host_port(text.as_bytes());
        HostCondition { name: NamePattern::new(host), port }
    }

    fn holds(&self, view: &RequestView<'_>) -> bool {
        self.name.matches(view.host) && self.port.is_none_or(|port| port == view.host_port.unwrap_or(view.listen_port))
    }
}

impl NamePattern {
    fn new(text: &[u8]) -> Self {
        match text {
            [b'*', rest @ ..] => NamePattern::Suffix(rest.into()),
            [rest @ .., b'*'] => NamePattern::Prefix(rest.into()),
            _ => NamePattern::Exact(text.into()),
        }
    }

    #[inline]
    fn matches(&self, name: &[u8]) -> bool {
        match self {
            NamePattern::Exact(exact) => name == &**exact,
            NamePattern::Suffix(suffix) => name.ends_with(suffix),
            NamePattern::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

/// A trailing dot of a full name does not count.
fn sni_pattern(text: &str) -> NamePattern {
    let text = if text.len() > 1 { text.strip_suffix('.').unwrap_or(text) } else { text };
    NamePattern::new(text.as_bytes())
}

impl PathCondition {
    fn new(path: &str) -> Result<Self, String> {
        let Some(pattern) = path.strip_prefix('~') else { return Ok(PathCondition::Prefix(path.as_bytes().into())) };
        let regex = Regex::new(&format!("^{pattern}")).map_err(|error| format!("`{path}` is not a regular expression: {error}"))?;
        let names = regex.capture_names().map(|name| name.map(Arc::from)).collect();
        let (literal, inner_text) = literals(pattern);
        Ok(PathCondition::Regex(Arc::new(PathRegex {
            regex,
            literal: literal.into_bytes().into(),
            inner_text: inner_text.into_bytes().into(),
            names,
        })))
    }

    /// What every path that matches begins with.
    pub(super) fn literal(&self) -> &[u8] {
        match self {
            PathCondition::Prefix(prefix) => prefix,
            PathCondition::Regex(regex) => &regex.literal,
        }
    }

    /// A text that is somewhere in every path that matches, if one is known beyond what they begin with.
    pub(super) fn inner_text(&self) -> Option<&[u8]> {
        match self {
            PathCondition::Regex(regex) if !regex.inner_text.is_empty() => Some(&regex.inner_text),
            _ => None,
        }
    }

    #[inline]
    fn holds(&self, path: &[u8]) -> bool {
        match self {
            PathCondition::Prefix(prefix) => path.starts_with(prefix),
            PathCondition::Regex(regex) => path.starts_with(&regex.literal) && regex.regex.is_match(path),
        }
    }
}

fn compile_headers(route: &Route) -> Result<Vec<HeaderCondition>, String> {
    let Some(headers) = &route.headers else { return Ok(Vec::new()) };
    let mut conditions = Vec::with_capacity(headers.len());
    for (name, values) in headers {
        if values.is_empty() {
            return Err(format!("header `{name}` has no values, so nothing can match"));
        }
        let values = values.iter().map(|value| HeaderValue::new(value)).collect::<Result<_, _>>()?;
        let hyphenated = name.contains('_').then(|| name.replace('_', "-").into());
        conditions.push(HeaderCondition { name: name.as_str().into(), hyphenated, values });
    }
    Ok(conditions)
}

impl HeaderValue {
    /// Kong lower-cases the expression and the value; `\D` would become `\d` so. Ignoring case means the same without that.
    fn new(value: &str) -> Result<Self, String> {
        let Some(pattern) = value.strip_prefix("~*") else { return Ok(HeaderValue::Exact(value.to_ascii_lowercase().into_bytes().into())) };
        let regex = RegexBuilder::new(pattern).case_insensitive(true).build();
        regex.map(HeaderValue::Regex).map_err(|error| format!("`{value}` is not a regular expression: {error}"))
    }

    #[inline]
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            HeaderValue::Exact(exact) => value.eq_ignore_ascii_case(exact),
            HeaderValue::Regex(regex) => regex.is_match(value),
        }
    }
}

impl HeaderCondition {
    fn holds(&self, view: &RequestView<'_>) -> bool {
        let has_match = |name: &str| view.headers.get_all(name).any(|value| self.values.iter().any(|accepted| accepted.matches(value)));
        has_match(&self.name) || self.hyphenated.as_deref().is_some_and(has_match)
    }

    /// The accepted values, if none is a regular expression.
    pub(super) fn exact_values(&self) -> Option<Vec<&[u8]>> {
        self.values
            .iter()
            .map(|value| match value {
                HeaderValue::Exact(exact) => Some(&**exact),
                HeaderValue::Regex(_) => None,
            })
            .collect()
    }
}

/// What the path matched.
pub(super) enum PathMatch<'a> {
    /// The Route has no paths.
    None,
    Prefix(usize),
    Regex(&'a PathRegex),
}

impl Alternative {
    /// Do all conditions hold?
    #[inline]
    pub(super) fn matches(&self, view: &RequestView<'_>) -> Option<PathMatch<'_>> {
        let path_match = if self.paths.is_empty() {
            PathMatch::None
        } else {
            match self.paths.iter().find(|condition| condition.holds(view.path))? {
                PathCondition::Prefix(prefix) => PathMatch::Prefix(prefix.len()),
                PathCondition::Regex(regex) => PathMatch::Regex(regex),
            }
        };
        let holds = (self.methods.is_empty() || self.methods.iter().any(|method| **method == *view.method))
            && (self.hosts.is_empty() || self.hosts.iter().any(|host| host.holds(view)))
            && self.headers.iter().all(|header| header.holds(view))
            && (self.snis.is_empty() || !view.is_https || view.sni.is_some_and(|sni| self.snis.iter().any(|name| name.matches(sni))));
        holds.then_some(path_match)
    }
}

/// The text that every match of the expression begins with, and the longest one that comes after; both empty when in doubt. The
/// expression is anchored at its start, but the anchor binds to the first branch of a top-level alternation only.
fn literals(pattern: &str) -> (String, String) {
    if has_top_level_alternation(pattern) {
        return (String::new(), String::new());
    }
    let mut scan = LiteralScan { characters: pattern.chars().peekable(), run: String::new(), runs: Vec::new() };
    scan.walk();
    scan.end_run();
    let mut runs = scan.runs.into_iter();
    let first = runs.next().unwrap_or_default();
    let longest = runs.max_by_key(String::len).unwrap_or_default();
    (first, longest)
}

/// Collects the texts between the parts of an expression that may vary. The first one, even if empty, stands at the start.
struct LiteralScan<'a> {
    characters: std::iter::Peekable<std::str::Chars<'a>>,
    run: String,
    runs: Vec<String>,
}

impl LiteralScan<'_> {
    fn end_run(&mut self) {
        if self.runs.is_empty() || !self.run.is_empty() {
            self.runs.push(std::mem::take(&mut self.run));
        }
    }

    fn walk(&mut self) {
        while let Some(character) = self.characters.next() {
            let plain = match character {
                '\\' => match self.characters.next() {
                    Some(escaped) if escaped.is_ascii_punctuation() => Some(escaped),
                    // A class or an assertion of one letter.
                    Some('d' | 'D' | 'w' | 'W' | 's' | 'S' | 'b' | 'B') => None,
                    _ => return,
                },
                '[' => {
                    self.skip_class();
                    None
                }
                '(' => {
                    if !self.skip_group() {
                        return;
                    }
                    None
                }
                '.' | '^' | '$' => None,
                ')' | '{' | '*' | '+' | '?' | '|' => return,
                other => Some(other),
            };
            let repetition = self.skip_repetition();
            match (plain, repetition) {
                (Some(plain), None) => self.run.push(plain),
                // It is there once, and may be followed by itself.
                (Some(plain), Some('+')) => {
                    self.run.push(plain);
                    self.end_run();
                }
                _ => self.end_run(),
            }
        }
    }

    /// Steps over `*`, `+`, `?` or `{…}`, also when lazy or doubled, and says which it was.
    fn skip_repetition(&mut self) -> Option<char> {
        let first = self.characters.next_if(|next| matches!(next, '*' | '+' | '?' | '{'))?;
        let mut is_plus = first == '+';
        let mut current = first;
        loop {
            if current == '{' {
                self.characters.by_ref().find(|character| *character == '}');
            }
            let Some(next) = self.characters.next_if(|next| matches!(next, '*' | '+' | '?' | '{')) else { break };
            // `a+?` is lazy, `a+*` may be empty.
            is_plus &= next == '?';
            current = next;
        }
        Some(if is_plus { '+' } else { '*' })
    }

    fn skip_class(&mut self) {
        let mut depth = 1;
        self.characters.next_if_eq(&'^');
        self.characters.next_if_eq(&']');
        while depth > 0 {
            match self.characters.next() {
                Some('\\') => {
                    self.characters.next();
                }
                Some('[') => {
                    depth += 1;
                    self.characters.next_if_eq(&'^');
                    self.characters.next_if_eq(&']');
                }
                Some(']') => depth -= 1,
                Some(_) => {}
                None => return,
            }
        }
    }

    /// False when the group may change how what follows is read, as `(?i)` does.
    fn skip_group(&mut self) -> bool {
        if self.characters.next_if_eq(&'?').is_some() && !self.characters.peek().is_some_and(|next| matches!(next, ':' | '<' | 'P')) {
            return false;
        }
        let mut depth = 1;
        while depth > 0 {
            match self.characters.next() {
                Some('\\') => {
                    self.characters.next();
                }
                Some('[') => self.skip_class(),
                Some('(') => depth += 1,
                Some(')') => depth -= 1,
                Some(_) => {}
                None => return false,
            }
        }
        true
    }
}

/// Is there, or could there be, a `|` outside all groups?
fn has_top_level_alternation(pattern: &str) -> bool {
    // Verbose mode allows comments, which could hide anything.
    let may_be_verbose =
        pattern.match_indices("(?").any(|(at, _)| pattern[at + 2..].chars().take_while(char::is_ascii_lowercase).any(|flag| flag == 'x'));
    if may_be_verbose {
        return true;
    }
    let mut depth = 0i32;
    let mut class_depth = 0i32;
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            '[' => {
                class_depth += 1;
                if characters.peek() == Some(&'^') {
                    characters.next();
                }
                if characters.peek() == Some(&']') {
                    characters.next();
                }
            }
            ']' if class_depth > 0 => class_depth -= 1,
            _ if class_depth > 0 => {}
            '(' => depth += 1,
            ')' => depth -= 1,
            '|' if depth <= 0 => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(count: u32) -> Attributes {
        Attributes { count, ..Attributes::default() }
    }

    #[test]
    fn counts_land_at_bit_29_and_from_four_on_fill_the_upper_half() {
        assert_eq!(attributes(1).priority(), 0x0000_0000_2000_0000);
        assert_eq!(attributes(2).priority(), 0x0000_0000_4000_0000);
        assert_eq!(attributes(3).priority(), 0x0000_0000_6000_0000);
        assert_eq!(attributes(4).priority(), 0xffff_ffff_8000_0000);
        assert_eq!(attributes(5).priority(), 0xffff_ffff_a000_0000);
        assert_eq!(attributes(6).priority(), 0xffff_ffff_c000_0000);
        assert_eq!(attributes(7).priority(), 0xffff_ffff_e000_0000);
    }

    #[test]
    fn plain_hosts_and_regexes_outrank_counts_below_four() {
        let host = Attributes { has_plain_hosts_only: true, ..attributes(1) }.priority();
        let regex = Attributes { has_regex_path: true, ..attributes(1) }.priority();
        assert_eq!(host, 0x1000_0000_2000_0000);
        assert_eq!(regex, 0x0008_0000_2000_0000);
        assert!(host > regex && regex > Attributes { prefix_length: 9, ..attributes(3) }.priority());
    }

    #[test]
    fn from_four_on_plain_hosts_and_regexes_make_no_difference() {
        for count in 4..=7 {
            let plain = Attributes { has_plain_hosts_only: true, has_regex_path: true, ..attributes(count) };
            assert_eq!(plain.priority(), attributes(count).priority());
        }
    }

    #[test]
    fn headers_land_at_bit_20_and_regex_priorities_at_bit_19() {
        assert_eq!(Attributes { header_count: 3, ..attributes(0) }.priority(), 3 << 20);
        assert_eq!(Attributes { header_count: 255, ..attributes(0) }.priority(), 255 << 20);
        assert_eq!(Attributes { regex_priority: 1, ..attributes(0) }.priority(), 1 << 19);
        assert_eq!(Attributes { regex_priority: 4096, ..attributes(0) }.priority(), 0xffff_ffff_8000_0000);
        assert_eq!(Attributes { regex_priority: -1, ..attributes(0) }.priority(), 0xffff_ffff_fff8_0000);
        assert_eq!(Attributes { regex_priority: 8192, ..attributes(0) }.priority(), 0);
        // One header and an odd regex priority overlap in no bit; two headers and regex_priority 4 do.
        assert_eq!(Attributes { header_count: 2, regex_priority: 4, ..attributes(0) }.priority(), 1 << 21);
    }

    #[test]
    fn lengths_take_19_bits() {
        assert_eq!(Attributes { prefix_length: 0x8_0001, ..attributes(0) }.priority(), 1);
    }

    #[test]
    fn hosts_are_split_at_a_port_only() {
        assert_eq!(split_host_port(b"a.example"), (&b"a.example"[..], None));
        assert_eq!(split_host_port(b"a.example:81"), (&b"a.example"[..], Some(81)));
        assert_eq!(split_host_port(b"a.*:81"), (&b"a.*"[..], Some(81)));
        assert_eq!(split_host_port(b"[::1]:81"), (&b"[::1]:81"[..], None));
        assert_eq!(split_host_port(b"a:"), (&b"a:"[..], None));
        assert_eq!(split_host_port(b"a:x"), (&b"a:x"[..], None));
        assert_eq!(split_host_port(b"a:99999"), (&b"a"[..], None));
    }

    #[test]
    fn literals_are_found_and_never_too_long() {
        for (pattern, first, inner) in [
            ("/users/(?<id>[0-9]+)", "/users/", ""),
            ("/users/(?<id>[0-9]+)/orders-17", "/users/", "/orders-17"),
            ("/a.b", "/a", "b"),
            (r"/a\.b/\d", "/a.b/", ""),
            (r"/a\.b/\d+/xy\w/z", "/a.b/", "/xy"),
            (r"/a/\x41/bcd", "/a/", ""),
            (r"/a/\p{L}/bcd", "/a/", ""),
            ("/ab?", "/a", ""),
            ("/ab*/cd", "/a", "/cd"),
            ("/ab{0,2}/cd", "/a", "/cd"),
            ("/ab+c", "/ab", "c"),
            ("/ab+?c", "/ab", "c"),
            ("/ab+*c", "/a", "c"),
            ("/a|/b", "", ""),
            ("/(a|b)/(c(d)[)])*?/ef$", "/", "/ef"),
            ("/[|]x", "/", "x"),
            ("/x[]|]|/y", "", ""),
            (r"/a\|b", "/a|b", ""),
            ("(?i)/a", "", ""),
            ("/a(?i)b", "/a", ""),
            ("/a(?i:b)c", "/a", ""),
            ("/a(?:b)cd", "/a", "cd"),
            ("/a(?P<n>b)cd", "/a", "cd"),
            ("/a(?x) # (\n|/b", "", ""),
            ("/é?x", "/", "x"),
            ("[ab]/cd", "", "/cd"),
            ("/$", "/", ""),
            ("", "", ""),
        ] {
            assert_eq!(literals(pattern), (first.to_string(), inner.to_string()), "{pattern}");
        }
    }

    #[test]
    fn paths_are_grouped_by_rank() {
        let paths: Vec<String> = ["/bb", "~/x", "/a", "/cc", "~/y"].iter().map(ToString::to_string).collect();
        assert_eq!(group_paths(&paths), [vec!["/bb", "/cc"], vec!["~/x", "~/y"], vec!["/a"]]);
    }
}
