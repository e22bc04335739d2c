// SPDX-License-Identifier: Apache-2.0
//! Which Route does this request belong to? Fault born here: `no_route`.
//!
//! The flavour is Kong's `traditional_compatible`: every condition a Route sets must hold, any of its values is enough, and of the Routes
//! that match the one with the greatest rank wins. The answer does not depend on how many others there are: an index leads from the
//! host and the path to the few Routes whose conditions have to be looked at.

mod conditions;
mod index;
pub mod path;

pub use conditions::{CompiledRoute, RouteError, split_host_port};

use crate::http::headers::Headers;
use crate::snapshot::model::{Route, Service};
use conditions::{Alternative, PathMatch};
use index::Index;
use std::cmp::Reverse;
use std::sync::Arc;

/// What the router looks at.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// Did the request come over TLS?
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
}

/// What the groups of a path's regular expression matched.
#[derive(Debug, Clone)]
pub struct Captures {
    groups: Vec<Option<Vec<u8>>>,
    names: Arc<[Option<Arc<str>>]>,
}

impl Captures {
    /// What a group matched; 0 is the whole match.
    pub fn number(&self, group: usize) -> Option<&[u8]> {
        self.groups.get(group)?.as_deref()
    }

    /// What a named group matched.
    pub fn name(&self, name: &str) -> Option<&[u8]> {
        let group = self.names.iter().position(|other| other.as_deref() == Some(name))?;
        self.number(group)
    }

    /// Number, name and match of each group that took part, from 0.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Option<&str>, &[u8])> {
        let groups = self.groups.iter().enumerate();
        groups.filter_map(|(group, text)| Some((group, self.names.get(group)?.as_deref(), text.as_deref()?)))
    }
}

/// The Routes of a snapshot, ready to be matched.
pub struct Router {
    routes: Vec<Entry>,
    /// By falling rank.
    order: Vec<Place>,
    index: Index,
}

struct Entry {
    compiled: Arc<CompiledRoute>,
    service: Option<Arc<Service>>,
}

/// Where in `routes` an alternative stands.
#[derive(Clone, Copy)]
struct Place {
    route: u32,
    alternative: u32,
}

impl Router {
    /// A router over these Routes. Routes of disabled Services are to be left out by the caller.
    pub fn new(routes: Vec<(Arc<CompiledRoute>, Option<Arc<Service>>)>) -> Self {
        let routes: Vec<Entry> = routes.into_iter().map(|(compiled, service)| Entry { compiled, service }).collect();
        let mut ranked = Vec::with_capacity(routes.len());
        for (route, entry) in routes.iter().enumerate() {
            for (at, alternative) in entry.compiled.alternatives.iter().enumerate() {
                ranked.push((alternative.rank, Place { route: route as u32, alternative: at as u32 }));
            }
        }
        ranked.sort_unstable_by_key(|(rank, _)| Reverse(*rank));
        let order: Vec<Place> = ranked.into_iter().map(|(_, place)| place).collect();
        let index = Index::new(order.iter().map(|place| alternative_at(&routes, *place)));
        Router { routes, order, index }
    }

    /// The Route with the greatest rank among those whose conditions all hold.
    pub fn match_request(&self, view: &RequestView<'_>) -> Option<Match> {
        let (position, path_match) = self.index.find(view, |position| self.alternative(position).matches(view))?;
        Some(self.matched(position, &path_match, view))
    }

    /// The same by trying every Route in falling rank: what the index must agree with.
    #[cfg(test)]
    fn match_by_walking(&self, view: &RequestView<'_>) -> Option<Match> {
        (0..self.order.len() as u32).find_map(|position| {
            let path_match = self.alternative(position).matches(view)?;
            Some(self.matched(position, &path_match, view))
        })
    }

    /// Number of Routes.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    fn alternative(&self, position: u32) -> &Alternative {
        alternative_at(&self.routes, self.order[position as usize])
    }

    fn matched(&self, position: u32, path_match: &PathMatch<'_>, view: &RequestView<'_>) -> Match {
        let entry = &self.routes[self.order[position as usize].route as usize];
        let (matched_length, captures) = match path_match {
            PathMatch::None => (None, None),
            PathMatch::Prefix(length) => (Some(*length), None),
            PathMatch::Regex(path) if path.names.len() == 1 => (path.regex.find(view.path).map(|found| found.len()), None),
            PathMatch::Regex(path) => {
                let groups: Vec<Option<Vec<u8>>> = path
                    .regex
                    .captures(view.path)
                    .map_or_else(Vec::new, |captures| captures.iter().map(|group| group.map(|group| group.as_bytes().to_vec())).collect());
                let matched_length = groups.first().and_then(|whole| whole.as_ref().map(Vec::len));
                let has_first = groups.get(1).is_some_and(Option::is_some);
                (matched_length, has_first.then(|| Box::new(Captures { groups, names: path.names.clone() })))
            }
        };
        Match { route: entry.compiled.route.clone(), service: entry.service.clone(), matched_length, captures }
    }
}

fn alternative_at(routes: &[Entry], place: Place) -> &Alternative {
    &routes[place.route as usize].compiled.alternatives[place.alternative as usize]
}

#[cfg(test)]
mod tests;
