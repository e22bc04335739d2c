// SPDX-License-Identifier: Apache-2.0
//! Which Route does this request belong to? Fault born here: `no_route`.
//!
//! Three flavours, as in Kong ([`Flavour`]). Every condition a Route sets must hold, any of its values is enough, and of the Routes that
//! match the one with the greatest rank wins. The answer does not depend on how many others there are: an index leads from the host and
//! the path to the few Routes whose conditions have to be looked at.

mod affixes;
mod conditions;
mod conflicts;
mod explanation;
mod expression;
mod facts;
mod index;
pub mod path;
mod ranking;
mod record;
mod regexes;
mod stream;
mod table;

pub use conditions::{CompiledRoute, RouteError, split_host_port};
pub(crate) use conditions::{NamePattern, sni_pattern};
pub use explanation::{Explanation, Failed, Held, Near, Withheld};
pub use expression::{check_expression, check_stream_expression};
pub use ranking::{Flavour, Ranking, RouterOptions};
pub use regexes::regex_problem;
pub use stream::StreamView;

use crate::http::headers::Headers;
use crate::snapshot::model::{PathHandling, Route, Service};
use conditions::{Alternative, Conditions, PathMatch};
use facts::LazyFacts;
pub use facts::decode as decoded;
use index::Index;
use record::{Record, Verdict};
use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use stream::StreamRouter;

/// What the router looks at.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// Did the request come over TLS, whatever a proxy before us says of the client's?
    pub is_https: bool,
    /// The method as sent.
    pub method: &'a [u8],
    /// The Host header without its port ([`split_host_port`]), case as sent.
    pub host: &'a [u8],
    /// The Host header's port.
    pub host_port: Option<u16>,
    /// The port the client connected to (after `port_maps`).
    pub listen_port: u16,
    /// The path after [`path::normalise`].
    pub path: &'a [u8],
    /// The header fields.
    pub headers: &'a Headers,
    /// The name asked for in the TLS handshake.
    pub sni: Option<&'a [u8]>,
    /// What follows `?`, undecoded.
    pub query: Option<&'a [u8]>,
    /// The client, after `real_ip_header`.
    pub source: SocketAddr,
    /// The address the connection came in on.
    pub local_address: IpAddr,
}

/// The Route a request belongs to.
#[derive(Debug, Clone)]
pub struct Match {
    /// The Route.
    pub route: Arc<Route>,
    /// Its Service, if it has one.
    pub service: Option<Arc<Service>>,
    /// How much of the path the Route's path matched, in bytes; none if the Route has no paths.
    pub matched_length: Option<usize>,
    /// What the groups of a regular expression matched; none without groups, or when the first one took no part.
    pub captures: Option<Box<Captures>>,
    /// How the Service's path and the request's are joined: what the Route says, where the flavour heeds it.
    pub path_handling: PathHandling,
}

/// What the groups of a path's regular expression matched.
#[derive(Debug, Clone)]
pub struct Captures {
    groups: Vec<Option<Vec<u8>>>,
    /// Of the groups, by number.
    names: Arc<[Option<Arc<str>>]>,
    /// Groups of the several regular expressions of an `expression`, by name.
    named: Vec<(Arc<str>, Vec<u8>)>,
}

impl Captures {
    /// None without groups, or when the first one took no part, as in Kong.
    fn new(groups: Vec<Option<Vec<u8>>>, names: Arc<[Option<Arc<str>>]>, named: Vec<(Arc<str>, Vec<u8>)>) -> Option<Box<Self>> {
        let has_first = groups.get(1).is_some_and(Option::is_some);
        has_first.then(|| Box::new(Captures { groups, names, named }))
    }

    /// What a group matched; 0 is the whole match.
    pub fn number(&self, group: usize) -> Option<&[u8]> {
        self.groups.get(group)?.as_deref()
    }

    /// What a named group matched.
    pub fn name(&self, name: &str) -> Option<&[u8]> {
        if let Some((_, text)) = self.named.iter().find(|(other, _)| **other == *name) {
            return Some(text);
        }
        let group = self.names.iter().position(|other| other.as_deref() == Some(name))?;
        self.number(group)
    }

    /// Number and match of each group that took part, from 0.
    pub fn numbers(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.groups.iter().enumerate().filter_map(|(group, text)| Some((group, text.as_deref()?)))
    }

    /// Name and match of each named group that took part.
    pub fn names(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let by_number = self.names.iter().enumerate().filter_map(|(group, name)| Some((name.as_deref()?, self.number(group)?)));
        by_number.chain(self.named.iter().map(|(name, text)| (&**name, &**text)))
    }
}

/// The Routes of a snapshot, ready to be matched.
pub struct Router {
    options: RouterOptions,
    rows: Vec<Row>,
    /// The same object as long as the conditions stay the same, whatever else of the rows changes.
    matcher: Arc<Matcher>,
}

struct Row {
    route: Arc<Route>,
    service: Option<Arc<Service>>,
}

/// What is made of the conditions. Numbers of Routes are places in `conditions`, and in the rows of a router.
struct Matcher {
    conditions: Vec<Arc<Conditions>>,
    /// By falling rank.
    order: Vec<Place>,
    /// The same order: what is looked at first.
    records: Vec<Record>,
    index: Index,
    streams: StreamRouter,
}

/// An alternative of a Route.
#[derive(Clone, Copy)]
struct Place {
    route: u32,
    alternative: u32,
}

/// A Route with its Service.
pub type Routed = (Arc<CompiledRoute>, Option<Arc<Service>>);

impl Matcher {
    fn new(conditions: Vec<Arc<Conditions>>) -> Self {
        let mut ranked = Vec::with_capacity(conditions.len());
        for (route, conditions) in conditions.iter().enumerate() {
            for (at, alternative) in conditions.alternatives.iter().enumerate() {
                ranked.push((alternative.rank, Place { route: route as u32, alternative: at as u32 }));
            }
        }
        ranked.sort_unstable_by_key(|(rank, _)| Reverse(*rank));
        let order: Vec<Place> = ranked.into_iter().map(|(_, place)| place).collect();
        let alternatives: Vec<&Alternative> =
            order.iter().map(|place| &conditions[place.route as usize].alternatives[place.alternative as usize]).collect();
        let index = Index::new(&alternatives);
        let records = order.iter().zip(alternatives).map(|(place, alternative)| Record::new(place.route, alternative.demand())).collect();
        let streams = StreamRouter::new(&conditions);
        Matcher { conditions, order, records, index, streams }
    }

    #[inline]
    fn alternative(&self, position: u32) -> &Alternative {
        let place = self.order[position as usize];
        &self.conditions[place.route as usize].alternatives[place.alternative as usize]
    }

    /// The first alternative that matches.
    #[inline]
    fn find<'t>(&self, view: &RequestView<'t>, facts: &LazyFacts<'_>) -> Option<(u32, PathMatch<'_, 't>)> {
        self.index.find(facts, &self.records, |position| self.try_match(position, view, facts))
    }

    #[inline]
    fn try_match<'t>(&self, position: u32, view: &RequestView<'t>, facts: &LazyFacts<'_>) -> Option<PathMatch<'_, 't>> {
        match self.records[position as usize].judge(view) {
            Verdict::No => None,
            Verdict::Yes(None) => Some(PathMatch::None),
            Verdict::Yes(Some(length)) => Some(PathMatch::Length(length)),
            Verdict::Ask => self.alternative(position).matches(view, facts),
        }
    }
}

fn split(routes: Vec<Routed>) -> (Vec<Row>, Vec<Arc<Conditions>>) {
    let pairs = routes.into_iter().map(|(compiled, service)| {
        let row = Row { route: Arc::clone(&compiled.route), service };
        (row, Arc::clone(&compiled.conditions))
    });
    pairs.unzip()
}

impl Router {
    /// A router over these Routes, compiled with the same options. Routes of disabled Services are to be left out by the caller.
    pub fn new(routes: Vec<Routed>, options: RouterOptions) -> Self {
        let (rows, conditions) = split(routes);
        Router { options, rows, matcher: Arc::new(Matcher::new(conditions)) }
    }

    /// A router over other rows. If their conditions are the same objects in the same order, nothing is compiled.
    #[must_use]
    pub fn renewed(&self, routes: Vec<Routed>) -> Self {
        let (rows, conditions) = split(routes);
        let ours = &self.matcher.conditions;
        let is_same = conditions.len() == ours.len() && conditions.iter().zip(ours).all(|(theirs, ours)| Arc::ptr_eq(theirs, ours));
        let matcher = if is_same { Arc::clone(&self.matcher) } else { Arc::new(Matcher::new(conditions)) };
        Router { options: self.options, rows, matcher }
    }

    /// Does it share what was made of the conditions with the other?
    #[cfg(test)]
    pub(crate) fn shares_with(&self, other: &Router) -> bool {
        Arc::ptr_eq(&self.matcher, &other.matcher)
    }

    /// The Route with the greatest rank among those whose conditions all hold.
    pub fn match_request(&self, view: &RequestView<'_>) -> Option<Match> {
        let adapted = self.adapted(view);
        let view = adapted.as_ref().unwrap_or(view);
        let facts = LazyFacts::new(view);
        let (position, path_match) = self.matcher.find(view, &facts)?;
        Some(self.matched(position, &path_match, &facts))
    }

    /// Where in the order what matches an adapted view stands.
    fn position_of_match(&self, view: &RequestView<'_>) -> Option<u32> {
        self.matcher.find(view, &LazyFacts::new(view)).map(|(position, _)| position)
    }

    /// The Route a stream belongs to.
    pub fn match_stream(&self, view: &StreamView<'_>) -> Option<Match> {
        let row = &self.rows[self.matcher.streams.find(view)? as usize];
        let (route, service) = (Arc::clone(&row.route), row.service.clone());
        Some(Match { route, service, matched_length: None, captures: None, path_handling: PathHandling::V0 })
    }

    /// The same as [`Router::match_request`] by trying every Route in falling rank: what the index must agree with.
    #[cfg(test)]
    fn match_by_walking(&self, view: &RequestView<'_>) -> Option<Match> {
        let adapted = self.adapted(view);
        let view = adapted.as_ref().unwrap_or(view);
        let facts = LazyFacts::new(view);
        (0..self.matcher.order.len() as u32).find_map(|position| {
            let path_match = self.matcher.alternative(position).matches(view, &facts)?;
            Some(self.matched(position, &path_match, &facts))
        })
    }

    /// Pairs of Routes that one request may match and that the two rankings order differently: `traditional_compatible` only, at most
    /// `limit` lines, bounded work.
    pub fn ranking_conflicts(&self, limit: usize) -> Vec<String> {
        let order = (0..).zip(&self.matcher.order);
        let alternatives = order.map(|(at, place)| (&*self.rows[place.route as usize].route, self.matcher.alternative(at)));
        conflicts::find(alternatives, self.options.ranking, limit)
    }

    /// The Routes, in no order.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.rows.iter().map(|row| &row.route)
    }

    /// Number of Routes.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The view as the flavour reads it, if that is another: `traditional` takes the brackets off an IPv6 host.
    #[inline]
    fn adapted<'a>(&self, view: &RequestView<'a>) -> Option<RequestView<'a>> {
        if self.options.flavour != Flavour::Traditional || view.host.first() != Some(&b'[') {
            return None;
        }
        let (host, port) = conditions::split_bracketed(view.host);
        Some(RequestView { host, host_port: port.or(view.host_port), ..*view })
    }

    #[inline]
    fn matched(&self, position: u32, path_match: &PathMatch<'_, '_>, facts: &LazyFacts<'_>) -> Match {
        let row = &self.rows[self.matcher.records[position as usize].route as usize];
        let (matched_length, captures) = path_match.details(facts);
        let path_handling = match self.options.flavour {
            Flavour::Traditional => row.route.path_handling.unwrap_or(PathHandling::V0),
            Flavour::TraditionalCompatible | Flavour::Expressions => PathHandling::V0,
        };
        Match { route: row.route.clone(), service: row.service.clone(), matched_length, captures, path_handling }
    }
}

#[cfg(test)]
mod tests;
