// SPDX-License-Identifier: Apache-2.0
//! Why does a request belong to this Route, and what keeps it from the others? For people: each Route is looked at, by the very conditions
//! that match requests; which one matches is asked of [`Router::match_request`]'s own search.

mod conditions;
mod described;

pub(super) use described::{Described, Truth};

use super::{Match, RequestView, Router};
use crate::http::headers::Headers;
use crate::snapshot::Id;
use crate::snapshot::model::Route;
use conditions::{Condition, conditions_of, visit};
use std::cmp::Reverse;
use std::sync::Arc;

/// Reasons told in full why it is not certain which Route matches.
const REASONS_TOLD: usize = 5;

/// What is not known of a request that is only described.
#[derive(Debug, Default)]
pub struct Withheld {
    /// Fields of which the names are known; the values here mean nothing.
    pub headers: Headers,
    /// Query arguments of which the names are known, as they stand after `?`; the values here mean nothing.
    pub query: Vec<u8>,
    /// Which fields there are beside those named.
    pub more_headers: bool,
    /// Which query arguments there are beside those named.
    pub more_arguments: bool,
    /// The host it is for, and its port.
    pub host: bool,
    /// The port the client connected to.
    pub listen_port: bool,
    /// The address the connection came in on.
    pub local_address: bool,
    /// The client's address.
    pub source_address: bool,
    /// The client's port.
    pub source_port: bool,
    /// The name asked for in the TLS handshake.
    pub sni: bool,
}

/// Which Route a request belongs to, and why.
#[derive(Debug)]
pub struct Explanation {
    /// The Route with the greatest rank among those that match what is known.
    pub matched: Option<Match>,
    /// Its conditions.
    pub why: Vec<Held>,
    /// Others that match as well, by falling rank.
    pub outranked: Vec<Arc<Route>>,
    /// Those that match least badly: fewest conditions failed, then the path that begins most alike, then the greater rank.
    pub nearest: Vec<Near>,
    /// Why it might be another Route: what is not known decides. Empty: it is certain.
    pub unknown: Vec<String>,
    /// The Routes of which that is said, the matched one included if it might not match.
    pub open: Vec<Id>,
}

/// A condition that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The Route's field, such as `paths` or `headers.x-a`; `expression`.
    pub condition: String,
    /// Which of its values matched, as the row has it.
    pub value: String,
}

/// A Route that does not match.
#[derive(Debug)]
pub struct Near {
    /// The Route.
    pub route: Arc<Route>,
    /// All conditions of it that fail.
    pub failed: Vec<Failed>,
}

/// A condition that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// As in [`Held`].
    pub condition: String,
    /// The values of which one would do.
    pub wanted: Vec<String>,
    /// What the request has instead; by field where an expression looks at several.
    pub got: Vec<(String, Option<String>)>,
}

/// A Route in the race for the nearest.
struct Runner {
    failures: usize,
    common_prefix: usize,
    position: u32,
}

impl Runner {
    /// The least is the nearest.
    fn key(&self) -> (usize, Reverse<usize>, u32) {
        (self.failures, Reverse(self.common_prefix), self.position)
    }
}

impl Router {
    /// Which Route a request that is only described belongs to, why, and the `limit` nearest that do not match. Takes time in proportion
    /// to the number of Routes.
    pub fn explain(&self, view: &RequestView<'_>, withheld: &Withheld, limit: usize) -> Explanation {
        let matched = self.match_request(view);
        let adapted = self.adapted(view);
        let view = adapted.as_ref().unwrap_or(view);
        let position = self.position_of_match(view);
        let described = Described::new(view, withheld);
        let why = position.map_or_else(Vec::new, |position| self.why(position, &described));
        let (outranked, nearest) = if limit == 0 { (Vec::new(), Vec::new()) } else { self.others(position, &described, limit) };
        let (unknown, open) = self.unknown(position, &described);
        Explanation { matched, why, outranked, nearest, unknown, open }
    }

    fn route_at(&self, position: u32) -> &Arc<Route> {
        &self.rows[self.matcher.order[position as usize].route as usize].route
    }

    fn why(&self, position: u32, described: &Described<'_>) -> Vec<Held> {
        let alternative = std::slice::from_ref(self.matcher.alternative(position));
        let route = self.route_at(position);
        conditions_of(alternative).iter().map(|condition| condition.held(alternative, route, described)).collect()
    }

    fn others(&self, matched: Option<u32>, described: &Described<'_>, limit: usize) -> (Vec<Arc<Route>>, Vec<Near>) {
        let matcher = &*self.matcher;
        let mut is_seen = vec![false; self.rows.len()];
        if let Some(position) = matched {
            is_seen[matcher.order[position as usize].route as usize] = true;
        }
        let mut outranked = Vec::new();
        // In order, at most `limit`.
        let mut runners: Vec<Runner> = Vec::new();
        for (position, place) in (0..).zip(&matcher.order) {
            if std::mem::replace(&mut is_seen[place.route as usize], true) {
                continue;
            }
            let most = if runners.len() < limit { usize::MAX } else { runners.last().map_or(0, |last| last.failures) };
            let alternatives = &matcher.conditions[place.route as usize].alternatives;
            let (mut failures, mut unknowns) = (0, 0);
            visit(alternatives, |condition| {
                let truth = condition.truth(alternatives, described);
                failures += usize::from(truth == Truth::No);
                unknowns += usize::from(truth == Truth::Unknown);
                failures <= most
            });
            match (failures, unknowns) {
                (0, 0) if outranked.len() < limit => outranked.push(Arc::clone(&self.rows[place.route as usize].route)),
                (0, _) => {}
                _ if failures > most => {}
                _ => {
                    let runner = Runner { failures, common_prefix: described.common_prefix(alternatives), position };
                    let at = runners.partition_point(|other| other.key() <= runner.key());
                    runners.insert(at, runner);
                    runners.truncate(limit);
                }
            }
        }
        (outranked, runners.iter().map(|runner| self.near(runner.position, described)).collect())
    }

    fn near(&self, position: u32, described: &Described<'_>) -> Near {
        let route = self.route_at(position);
        let alternatives = &self.matcher.conditions[self.matcher.order[position as usize].route as usize].alternatives;
        let failed = conditions_of(alternatives);
        let failed = failed.iter().filter(|condition| condition.truth(alternatives, described) == Truth::No);
        let failed = failed.map(|condition| condition.failed(alternatives, route, described)).collect();
        Near { route: Arc::clone(route), failed }
    }

    /// Is there a Route that comes first or not, as what is not known will have it?
    fn unknown(&self, matched: Option<u32>, described: &Described<'_>) -> (Vec<String>, Vec<Id>) {
        let (mut reasons, mut open) = (Vec::new(), Vec::new());
        if described.is_whole() {
            return (reasons, open);
        }
        let end = matched.map_or(self.matcher.order.len() as u32, |position| position + 1);
        for position in 0..end {
            let alternative = std::slice::from_ref(self.matcher.alternative(position));
            if !described.may_leave_open(&alternative[0]) {
                continue;
            }
            let truth = |condition: &Condition<'_>| condition.truth(alternative, described);
            let mut least = Truth::Yes;
            visit(alternative, |condition| {
                least = least.min(truth(&condition));
                least != Truth::No
            });
            if least != Truth::Unknown {
                continue;
            }
            let route = self.route_at(position);
            open.push(route.id);
            if open.len() > REASONS_TOLD {
                continue;
            }
            let name = route.name.as_ref().map_or_else(|| route.id.to_string(), ToString::to_string);
            let found = conditions_of(alternative);
            let mut why: Vec<String> = found
                .iter()
                .filter(|condition| truth(condition) == Truth::Unknown)
                .flat_map(|condition| condition.unknown(described))
                .collect();
            why.dedup();
            let verb = if matched == Some(position) { "might not match" } else { "might match" };
            reasons.push(format!("the Route `{name}` {verb}: {}", why.join(", ")));
        }
        if open.len() > REASONS_TOLD {
            reasons.push(format!("so might {} more", open.len() - REASONS_TOLD));
        }
        (reasons, open)
    }
}
