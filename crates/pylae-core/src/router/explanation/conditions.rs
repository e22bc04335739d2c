// SPDX-License-Identifier: Apache-2.0
//! What does a Route demand, one condition after the other, and does the request have it?

use super::{Described, Failed, Held, Truth};
use crate::router::conditions::{Alternative, HeaderCondition, PathCondition};
use crate::router::expression::{Field, Predicate};
use crate::router::facts::header_values;
use crate::snapshot::model::Route;

/// A condition of a Route. The parts of one Route differ in their paths alone.
pub(super) enum Condition<'a> {
    /// Under `expressions`.
    Protocols,
    Methods,
    Hosts,
    Header(&'a HeaderCondition),
    Snis,
    Paths,
    Predicate(Predicate<'a>),
}

/// Goes over the conditions of a Route, or of a part of it, each of which must hold, for as long as `look` wants to see more.
pub(super) fn visit<'a>(alternatives: &'a [Alternative], mut look: impl FnMut(Condition<'a>) -> bool) {
    let Some(first) = alternatives.first() else { return };
    let plain = [
        (first.scheme.is_some(), Condition::Protocols),
        (!first.methods.is_empty(), Condition::Methods),
        (!first.hosts.is_empty(), Condition::Hosts),
        (!first.paths.is_empty(), Condition::Paths),
        (!first.snis.is_empty(), Condition::Snis),
    ];
    let plain = plain.into_iter().filter(|(is_set, _)| *is_set).map(|(_, condition)| condition);
    let goes_on = plain.chain(first.headers.iter().map(Condition::Header)).all(&mut look);
    if let Some(program) = first.program.as_ref().filter(|_| goes_on) {
        program.visit(&mut |predicate| look(Condition::Predicate(predicate)));
    }
}

/// The conditions of a Route, or of a part of it; each must hold.
pub(super) fn conditions_of(alternatives: &[Alternative]) -> Vec<Condition<'_>> {
    let mut found = Vec::new();
    visit(alternatives, |condition| {
        found.push(condition);
        true
    });
    found
}

impl Condition<'_> {
    /// Does it hold?
    pub(super) fn truth(&self, alternatives: &[Alternative], described: &Described<'_>) -> Truth {
        let view = described.view;
        let first = &alternatives[0];
        match self {
            Condition::Protocols => Truth::of(first.scheme_holds(view)),
            Condition::Methods => Truth::of(first.methods_hold(view)),
            Condition::Hosts => first.hosts.iter().map(|host| described.host_truth(host)).max().unwrap_or(Truth::Yes),
            Condition::Header(header) if header.holds(view) => Truth::Yes,
            Condition::Header(header) if described.is_header_unknown(&header.name) => Truth::Unknown,
            Condition::Header(_) => Truth::No,
            Condition::Snis if described.is_sni_unknown() => Truth::Unknown,
            Condition::Snis => Truth::of(first.snis_hold(view)),
            Condition::Paths => Truth::of(path_found(alternatives, view.path).is_some()),
            Condition::Predicate(predicate) => predicate.truth(described),
        }
    }

    fn name(&self) -> String {
        match self {
            Condition::Protocols => "protocols".to_owned(),
            Condition::Methods => "methods".to_owned(),
            Condition::Hosts => "hosts".to_owned(),
            Condition::Header(header) => format!("headers.{}", header.name),
            Condition::Snis => "snis".to_owned(),
            Condition::Paths => "paths".to_owned(),
            Condition::Predicate(_) => "expression".to_owned(),
        }
    }

    fn wanted(&self, route: &Route) -> Vec<String> {
        let listed = |values: &Option<Vec<String>>| values.clone().unwrap_or_default();
        match self {
            Condition::Protocols => route.protocols.iter().map(|protocol| protocol.name().to_owned()).collect(),
            Condition::Methods => listed(&route.methods),
            Condition::Hosts => listed(&route.hosts),
            Condition::Header(header) => values_of(header, route).to_vec(),
            Condition::Snis => listed(&route.snis),
            Condition::Paths => listed(&route.paths),
            Condition::Predicate(predicate) => vec![predicate.to_string()],
        }
    }

    /// One that holds, in the words of the row.
    pub(super) fn held(&self, alternatives: &[Alternative], route: &Route, described: &Described<'_>) -> Held {
        let view = described.view;
        let first = &alternatives[0];
        let wanted = self.wanted(route);
        // The values of a row are compiled in their order, but for the paths.
        let place = match self {
            Condition::Protocols => None,
            Condition::Methods => first.methods.iter().position(|method| **method == *view.method),
            Condition::Hosts => first.hosts.iter().position(|host| described.host_truth(host) != Truth::No),
            Condition::Header(header) => {
                header.values.iter().position(|accepted| header_values(view.headers, &header.name).any(|value| accepted.matches(value)))
            }
            Condition::Snis => view.sni.and_then(|sni| first.snis.iter().position(|name| name.matches(sni))),
            Condition::Paths => path_found(alternatives, view.path).and_then(|path| wanted.iter().position(|text| path.is_made_of(text))),
            Condition::Predicate(_) => Some(0),
        };
        let value = match place {
            Some(place) => wanted.get(place).cloned().unwrap_or_default(),
            None if matches!(self, Condition::Protocols) => described.facts().protocol.to_owned(),
            // In the clear nobody asks for a name.
            None => String::new(),
        };
        Held { condition: self.name(), value }
    }

    /// One that does not hold, with what was there instead.
    pub(super) fn failed(&self, alternatives: &[Alternative], route: &Route, described: &Described<'_>) -> Failed {
        debug_assert!(self.truth(alternatives, described) == Truth::No);
        let view = described.view;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let got = match self {
            Condition::Protocols => Some(described.facts().protocol.to_owned()),
            Condition::Methods => Some(text(view.method)),
            Condition::Hosts => Some(match view.host_port {
                Some(port) => format!("{}:{port}", text(view.host)),
                None => text(view.host),
            }),
            Condition::Header(header) => {
                let values: Vec<String> = header_values(view.headers, &header.name).map(text).collect();
                (!values.is_empty()).then(|| values.join(", "))
            }
            Condition::Snis => view.sni.map(text),
            Condition::Paths => Some(text(view.path)),
            Condition::Predicate(predicate) => {
                let got = predicate.got(described);
                return Failed { condition: self.name(), wanted: self.wanted(route), got };
            }
        };
        Failed { condition: self.name(), wanted: self.wanted(route), got: vec![(self.name(), got)] }
    }

    /// Why it is not known whether it holds.
    pub(super) fn unknown(&self, described: &Described<'_>) -> Vec<String> {
        let field = match self {
            Condition::Header(header) => Field::Header(header.name.clone()),
            Condition::Snis => Field::Sni,
            Condition::Hosts if described.is_unknown(&Field::Host) => Field::Host,
            Condition::Hosts => Field::DestinationPort,
            Condition::Predicate(predicate) => return predicate.unknown(described),
            Condition::Protocols | Condition::Methods | Condition::Paths => return Vec::new(),
        };
        described.why_unknown(&field).into_iter().collect()
    }
}

fn path_found<'a>(alternatives: &'a [Alternative], path: &[u8]) -> Option<&'a PathCondition> {
    alternatives.iter().flat_map(|alternative| &alternative.paths).find(|condition| condition.find(path).is_some())
}

fn values_of<'a>(header: &HeaderCondition, route: &'a Route) -> &'a [String] {
    route.headers.as_ref().and_then(|headers| headers.get(&*header.name)).map_or(&[], Vec::as_slice)
}
