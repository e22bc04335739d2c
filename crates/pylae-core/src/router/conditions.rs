// SPDX-License-Identifier: Apache-2.0
//! What must a request look like to match this Route?

use super::expression::{Field, Program, Subsystem};
use super::facts::{LazyFacts, header_values, lower};
use super::index::ValueKey;
use super::ranking::{Attributes, Flavour, Rank, RouterOptions, is_regex};
use super::record::Demand;
use super::regexes::{CompiledRegex, LazyRegex, literals};
use super::stream::{self, StreamAlternative};
use super::{Captures, RequestView};
use crate::snapshot::Id;
use crate::snapshot::model::{Protocol, Route};
use std::fmt;
use std::sync::Arc;

/// Highest `priority` of a Route with an expression.
const PRIORITY_LIMIT: u64 = (1 << 46) - 1;

/// A Route with its conditions compiled; kept from snapshot to snapshot as long as its row does not change.
#[derive(Debug)]
pub struct CompiledRoute {
    /// The row.
    pub route: Arc<Route>,
    /// The same object as long as the fields it is made of stay the same.
    pub(super) conditions: Arc<Conditions>,
}

/// What a request or a stream must be like; one of these lists is empty.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) alternatives: Vec<Alternative>,
    pub(super) streams: Vec<StreamAlternative>,
}

/// A Route, or the part of it whose paths rank alike: all regular expressions, or all prefixes of one length.
#[derive(Debug)]
pub(super) struct Alternative {
    pub(super) rank: Rank,
    /// Under `traditional` none.
    pub(super) attributes: Option<Attributes>,
    /// The scheme a request must have, if one is required.
    pub(super) scheme: Option<Scheme>,
    pub(super) methods: Vec<Box<[u8]>>,
    pub(super) hosts: Vec<HostCondition>,
    pub(super) paths: Vec<PathCondition>,
    pub(super) headers: Vec<HeaderCondition>,
    pub(super) snis: Vec<NamePattern>,
    /// The Route's expression; then all lists are empty.
    pub(super) program: Option<Box<Program>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// A name with at most one wildcard at an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamePattern {
    Exact(Box<[u8]>),
    /// `*.x`: ends with `.x`.
    Suffix(Box<[u8]>),
    /// `x.*`: begins with `x.`.
    Prefix(Box<[u8]>),
}

#[derive(Debug)]
pub(super) struct HostCondition {
    pub(super) name: NamePattern,
    pub(super) port: Option<u16>,
    /// Is a missing port that of the scheme, and must a wildcard stand for something?
    is_traditional: bool,
}

#[derive(Debug)]
pub(super) enum PathCondition {
    Prefix(Box<[u8]>),
    Regex(Box<PathRegex>),
}

/// A regular expression over the path.
#[derive(Debug)]
pub(super) struct PathRegex {
    pub(super) regex: LazyRegex,
    /// What every match begins with.
    literal: Box<[u8]>,
    /// A text that is in every match after that, the longest one known; empty if none is.
    inner_text: Box<[u8]>,
}

#[derive(Debug)]
pub(super) struct HeaderCondition {
    /// As the Route spells it. The engine can't tell underscores from hyphens.
    pub(super) name: Box<str>,
    pub(super) values: Vec<HeaderValue>,
}

#[derive(Debug)]
pub(super) enum HeaderValue {
    /// Lower case.
    Exact(Box<[u8]>),
    Regex(LazyRegex),
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
    /// A regular expression or the expression is not one, or nothing could ever match.
    pub fn new(route: Arc<Route>, options: RouterOptions) -> Result<Self, RouteError> {
        let compiled = if route.protocols.iter().any(|protocol| protocol.is_http()) {
            compile(&route, options).map(|alternatives| (alternatives, Vec::new()))
        } else {
            stream::compile(&route, options).map(|streams| (Vec::new(), streams))
        };
        match compiled {
            Ok((alternatives, streams)) => Ok(CompiledRoute { route, conditions: Arc::new(Conditions { alternatives, streams }) }),
            Err(detail) => Err(RouteError { route: route.id, detail }),
        }
    }

    /// Another row with these conditions; none if they differ.
    pub(crate) fn renewed(&self, route: &Arc<Route>) -> Option<Self> {
        has_same_conditions(&self.route, route)
            .then(|| CompiledRoute { route: Arc::clone(route), conditions: Arc::clone(&self.conditions) })
    }
}

/// Do two rows differ in no field that [`compile`] or [`stream::compile`] looks at? Every field is named, so that a new one is thought of.
fn has_same_conditions(before: &Route, after: &Route) -> bool {
    let Route {
        id,
        created_at,
        updated_at: _,
        name: _,
        protocols,
        https_redirect_status_code: _,
        strip_path: _,
        preserve_host: _,
        request_buffering: _,
        response_buffering: _,
        tags: _,
        service: _,
        snis,
        sources,
        destinations,
        methods,
        hosts,
        paths,
        headers,
        regex_priority,
        path_handling: _,
        expression,
        priority,
        raw: _,
    } = before;
    (*id, *created_at, *regex_priority, *priority) == (after.id, after.created_at, after.regex_priority, after.priority)
        && (protocols, snis, methods, hosts, paths) == (&after.protocols, &after.snis, &after.methods, &after.hosts, &after.paths)
        && (sources, destinations, headers, expression) == (&after.sources, &after.destinations, &after.headers, &after.expression)
}

fn compile(route: &Route, options: RouterOptions) -> Result<Vec<Alternative>, String> {
    let scheme = if options.flavour == Flavour::Expressions { scheme_of(&route.protocols) } else { None };
    if options.flavour == Flavour::Expressions
        && let Some(text) = &route.expression
    {
        let alternative = Alternative {
            rank: rank_of_expression(route)?,
            attributes: None,
            scheme,
            methods: Vec::new(),
            hosts: Vec::new(),
            paths: Vec::new(),
            headers: Vec::new(),
            snis: Vec::new(),
            program: Some(Box::new(Program::new(text, Subsystem::Http)?)),
        };
        return Ok(vec![alternative]);
    }
    let is_traditional = options.flavour == Flavour::Traditional;
    let paths = route.paths.as_deref().unwrap_or_default();
    let groups = if is_traditional { vec![traditional_order(paths)] } else { group_paths(paths) };
    let is_split = groups.len() > 1;
    let groups = if groups.is_empty() { vec![Vec::new()] } else { groups };
    let mut alternatives = Vec::with_capacity(groups.len());
    for (at, paths) in groups.into_iter().enumerate() {
        let id = if is_split { SPLIT_NAMESPACE.derive(format!("{}#{}", route.id, at + 1).as_bytes()) } else { route.id };
        let attributes = Attributes::of(route, &paths);
        if attributes.count == 0 {
            return Err("it sets no condition, so it matches nothing".into());
        }
        let alternative = Alternative {
            rank: if is_traditional { Rank::of_traditional(route) } else { Rank::of_attributes(attributes, options.ranking, id) },
            attributes: (!is_traditional).then_some(attributes),
            scheme,
            methods: list(route.methods.as_ref()).map(|method| method.as_bytes().into()).collect(),
            hosts: list(route.hosts.as_ref()).map(|host| HostCondition::new(host, is_traditional)).collect(),
            paths: paths.into_iter().map(|path| PathCondition::new(path, is_traditional)).collect::<Result<_, _>>()?,
            headers: compile_headers(route, is_traditional)?,
            snis: list(route.snis.as_ref()).map(|sni| sni_pattern(sni)).collect(),
            program: None,
        };
        alternatives.push(alternative);
    }
    Ok(alternatives)
}

/// The rank of a Route that has an expression.
pub(super) fn rank_of_expression(route: &Route) -> Result<Rank, String> {
    let priority = route.priority.unwrap_or(0);
    if priority > PRIORITY_LIMIT {
        return Err(format!("priority {priority} is above {PRIORITY_LIMIT}"));
    }
    Ok(Rank::of_expression(priority, route.id))
}

/// Under `expressions` the protocols are a condition, except that a Route for TLS alone is found without it, to send the client there.
fn scheme_of(protocols: &[Protocol]) -> Option<Scheme> {
    let has_tls = protocols.iter().any(|protocol| protocol.is_tls());
    let has_clear = protocols.iter().any(|protocol| !protocol.is_tls());
    match (has_clear, has_tls) {
        (true, false) => Some(Scheme::Http),
        (false, true) if protocols.len() > 1 => Some(Scheme::Https),
        _ => None,
    }
}

pub(super) fn list(values: Option<&Vec<String>>) -> std::slice::Iter<'_, String> {
    values.map(Vec::as_slice).unwrap_or_default().iter()
}

/// Which path of a Route counts when several match: regular expressions as they stand, then the longest prefix.
fn traditional_order(paths: &[String]) -> Vec<&str> {
    let mut order: Vec<&str> = paths.iter().map(String::as_str).collect();
    order.sort_by_key(|path| if is_regex(path) { (0, 0) } else { (1, usize::MAX - path.len()) });
    order
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
    fn new(text: &str, is_traditional: bool) -> Self {
        let (host, port) = if is_traditional { split_bracketed(text.as_bytes()) } else { split_host_port(text.as_bytes()) };
        HostCondition { name: NamePattern::new(host), port, is_traditional }
    }

    #[inline]
    pub(super) fn holds(&self, view: &RequestView<'_>) -> bool {
        if !self.is_traditional {
            return self.name.matches(view.host) && self.port.is_none_or(|port| port == view.host_port.unwrap_or(view.listen_port));
        }
        let default_port = if view.is_https { 443 } else { 80 };
        self.name.matches(view.host)
            && !self.name.is_all_of(view.host)
            && self.port.is_none_or(|port| port == view.host_port.unwrap_or(default_port))
    }
}

/// As [`split_host_port`], and takes the brackets off an IPv6 address, as `traditional` does.
pub(super) fn split_bracketed(host: &[u8]) -> (&[u8], Option<u16>) {
    let Some(inner) = host.strip_prefix(b"[") else { return split_host_port(host) };
    let Some(end) = memchr::memchr(b']', inner) else { return (host, None) };
    let port = match &inner[end + 1..] {
        [] => None,
        [b':', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok())
        }
        _ => return (host, None),
    };
    (&inner[..end], port)
}

impl NamePattern {
    pub(super) fn new(text: &[u8]) -> Self {
        match text {
            [b'*', rest @ ..] => NamePattern::Suffix(rest.into()),
            [rest @ .., b'*'] => NamePattern::Prefix(rest.into()),
            _ => NamePattern::Exact(text.into()),
        }
    }

    #[inline]
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        match self {
            NamePattern::Exact(exact) => name == &**exact,
            NamePattern::Suffix(suffix) => name.ends_with(suffix),
            NamePattern::Prefix(prefix) => name.starts_with(prefix),
        }
    }

    /// Is nothing left for the wildcard?
    fn is_all_of(&self, name: &[u8]) -> bool {
        match self {
            NamePattern::Exact(_) => false,
            NamePattern::Suffix(part) | NamePattern::Prefix(part) => part.len() == name.len(),
        }
    }
}

/// A trailing dot of a full name does not count.
pub(crate) fn sni_pattern(text: &str) -> NamePattern {
    let text = if text.len() > 1 { text.strip_suffix('.').unwrap_or(text) } else { text };
    NamePattern::new(text.as_bytes())
}

impl PathCondition {
    /// `traditional` anchors the whole expression; elsewhere the anchor binds to the first branch of a top-level alternation.
    fn new(path: &str, is_traditional: bool) -> Result<Self, String> {
        let Some(pattern) = path.strip_prefix('~') else { return Ok(PathCondition::Prefix(path.as_bytes().into())) };
        let regex = if is_traditional {
            // The pattern alone is read first: an unbalanced one could be balanced by what is put around it.
            LazyRegex::new(pattern.to_owned(), false).and_then(|_| LazyRegex::new(format!("^(?:{pattern})"), false))
        } else {
            LazyRegex::new(format!("^{pattern}"), false)
        };
        let regex = regex.map_err(|error| format!("`{path}` is not a regular expression: {error}"))?;
        let (literal, inner_text) = literals(pattern);
        Ok(PathCondition::Regex(Box::new(PathRegex {
            regex,
            literal: literal.into_bytes().into(),
            inner_text: inner_text.into_bytes().into(),
        })))
    }

    /// What every path that matches begins with.
    pub(super) fn literal(&self) -> &[u8] {
        match self {
            PathCondition::Prefix(prefix) => prefix,
            PathCondition::Regex(regex) => &regex.literal,
        }
    }

    /// A text that is somewhere in every path that matches, beyond what they begin with; empty if none is known.
    pub(super) fn inner_text(&self) -> &[u8] {
        match self {
            PathCondition::Prefix(_) => b"",
            PathCondition::Regex(regex) => &regex.inner_text,
        }
    }

    /// Was it made of this path of a row?
    pub(super) fn is_made_of(&self, path: &str) -> bool {
        match (self, path.strip_prefix('~')) {
            (PathCondition::Prefix(prefix), None) => **prefix == *path.as_bytes(),
            (PathCondition::Regex(regex), Some(pattern)) => {
                let ours = regex.regex.pattern();
                ours.strip_prefix('^') == Some(pattern)
                    || ours.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(')')) == Some(pattern)
            }
            _ => false,
        }
    }

    #[inline]
    pub(super) fn find<'a, 't>(&'a self, path: &'t [u8]) -> Option<PathMatch<'a, 't>> {
        match self {
            PathCondition::Prefix(prefix) => path.starts_with(prefix).then_some(PathMatch::Length(prefix.len())),
            PathCondition::Regex(regex) if !path.starts_with(&regex.literal) => None,
            PathCondition::Regex(regex) => {
                let compiled = regex.regex.compiled()?;
                if compiled.names.len() == 1 {
                    return compiled.regex.find(path).map(|found| PathMatch::Length(found.len()));
                }
                // Whether it matches and what the groups match in one walk.
                compiled.regex.captures(path).map(|groups| PathMatch::Groups(compiled, groups))
            }
        }
    }
}

fn compile_headers(route: &Route, is_traditional: bool) -> Result<Vec<HeaderCondition>, String> {
    let Some(headers) = &route.headers else { return Ok(Vec::new()) };
    let mut conditions = Vec::with_capacity(headers.len());
    for (name, values) in headers {
        if values.is_empty() {
            return Err(format!("header `{name}` has no values, so nothing can match"));
        }
        // Under `traditional` an expression must be a header's only value.
        let may_be_regex = !is_traditional || values.len() == 1;
        let values = values.iter().map(|value| HeaderValue::new(value, may_be_regex)).collect::<Result<_, _>>()?;
        conditions.push(HeaderCondition { name: name.as_str().into(), values });
    }
    Ok(conditions)
}

impl HeaderValue {
    /// Kong lower-cases the expression and the value; `\D` would become `\d` so. Ignoring case means the same without that.
    fn new(value: &str, may_be_regex: bool) -> Result<Self, String> {
        let Some(pattern) = value.strip_prefix("~*").filter(|_| may_be_regex) else {
            return Ok(HeaderValue::Exact(lower(value.as_bytes()).into_owned().into()));
        };
        let regex = LazyRegex::new(pattern.to_owned(), true);
        regex.map(HeaderValue::Regex).map_err(|error| format!("`{value}` is not a regular expression: {error}"))
    }

    #[inline]
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        match self {
            HeaderValue::Exact(exact) => value.eq_ignore_ascii_case(exact) || !value.is_ascii() && *lower(value) == **exact,
            HeaderValue::Regex(regex) => regex.is_match(value),
        }
    }
}

impl HeaderCondition {
    pub(super) fn holds(&self, view: &RequestView<'_>) -> bool {
        header_values(view.headers, &self.name).any(|value| self.values.iter().any(|accepted| accepted.matches(value)))
    }

    /// The accepted values, lower case, if none is a regular expression.
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
pub(super) enum PathMatch<'a, 't> {
    /// The Route has no paths.
    None,
    /// A prefix, or an expression without groups.
    Length(usize),
    Groups(&'a CompiledRegex, regex::bytes::Captures<'t>),
    Program(&'a Program),
}

impl Alternative {
    /// Do all conditions hold?
    #[inline]
    pub(super) fn matches<'a, 't>(&'a self, view: &RequestView<'t>, facts: &LazyFacts<'_>) -> Option<PathMatch<'a, 't>> {
        if !self.scheme_holds(view) {
            return None;
        }
        if let Some(program) = &self.program {
            return program.holds(facts.get()).then_some(PathMatch::Program(program));
        }
        let holds = self.methods_hold(view)
            && (self.hosts.is_empty() || self.hosts.iter().any(|host| host.holds(view)))
            && self.headers.iter().all(|header| header.holds(view))
            && self.snis_hold(view);
        if !holds {
            return None;
        }
        if self.paths.is_empty() {
            return Some(PathMatch::None);
        }
        self.paths.iter().find_map(|condition| condition.find(view.path))
    }

    #[inline]
    pub(super) fn scheme_holds(&self, view: &RequestView<'_>) -> bool {
        self.scheme.is_none_or(|scheme| (scheme == Scheme::Https) == view.is_https)
    }

    #[inline]
    pub(super) fn methods_hold(&self, view: &RequestView<'_>) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|method| **method == *view.method)
    }

    /// Over TLS alone; a request in the clear asks for no name.
    #[inline]
    pub(super) fn snis_hold(&self, view: &RequestView<'_>) -> bool {
        self.snis.is_empty() || !view.is_https || view.sni.is_some_and(|sni| self.snis.iter().any(|name| name.matches(sni)))
    }

    /// All that this alternative demands, if that is a host and a path.
    pub(super) fn demand(&self) -> Option<Demand<'_>> {
        if self.scheme.is_some() {
            return None;
        }
        if let Some(program) = &self.program {
            return program.demand();
        }
        let is_more = !self.methods.is_empty() || !self.headers.is_empty() || !self.snis.is_empty();
        if is_more || self.hosts.len() > 1 || self.paths.len() > 1 {
            return None;
        }
        let mut demand = Demand::default();
        match self.hosts.first() {
            None => {}
            Some(HostCondition { name: NamePattern::Exact(name), port: None, .. }) => demand.host = Some(name),
            Some(_) => return None,
        }
        match self.paths.first() {
            None => {}
            Some(PathCondition::Prefix(prefix)) => demand.path = Some(prefix),
            Some(PathCondition::Regex(_)) => return None,
        }
        Some(demand)
    }

    /// Hosts of which one must match; empty: any.
    pub(super) fn host_keys(&self) -> Vec<&NamePattern> {
        match &self.program {
            Some(program) => program.keys.hosts.iter().flatten().collect(),
            None => self.hosts.iter().map(|host| &host.name).collect(),
        }
    }

    /// What the path must begin with, and a text that must be in it; one of these. Empty: any path.
    pub(super) fn path_keys(&self) -> Vec<(&[u8], &[u8])> {
        match &self.program {
            Some(program) => program.keys.paths.iter().flatten().map(|key| (&*key.start, &*key.inner)).collect(),
            None => self.paths.iter().map(|path| (path.literal(), path.inner_text())).collect(),
        }
    }

    /// Fields other than host and path that must have one of these values, whatever their case.
    pub(super) fn value_keys(&self) -> Vec<ValueKey<'_>> {
        if let Some(program) = &self.program {
            return program.keys.values.iter().map(|key| (key.field.clone(), key.values.iter().map(|value| &**value).collect())).collect();
        }
        let headers = self.headers.iter().filter_map(|header| Some((Field::Header(header.name.clone()), header.exact_values()?)));
        let methods = (!self.methods.is_empty()).then(|| (Field::Method, self.methods.iter().map(|method| &**method).collect()));
        headers.chain(methods).collect()
    }
}

impl PathMatch<'_, '_> {
    /// How much of the path was matched, and what the groups matched.
    pub(super) fn details(&self, facts: &LazyFacts<'_>) -> (Option<usize>, Option<Box<Captures>>) {
        match self {
            PathMatch::None => (None, None),
            PathMatch::Length(length) => (Some(*length), None),
            PathMatch::Groups(compiled, found) => {
                let groups = found.iter().map(|group| group.map(|group| group.as_bytes().to_vec())).collect();
                (Some(found[0].len()), Captures::new(groups, Arc::clone(&compiled.names), Vec::new()))
            }
            PathMatch::Program(program) => {
                let trace = program.trace(facts.get());
                (trace.matched_length, Captures::new(trace.groups, Arc::new([]), trace.named))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn paths_are_grouped_by_rank() {
        let paths: Vec<String> = ["/bb", "~/x", "/a", "/cc", "~/y"].iter().map(ToString::to_string).collect();
        assert_eq!(group_paths(&paths), [vec!["/bb", "/cc"], vec!["~/x", "~/y"], vec!["/a"]]);
    }
}
