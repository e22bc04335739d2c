// SPDX-License-Identifier: Apache-2.0
//! What is known of a described request, and what is not?

use super::Withheld;
use crate::router::RequestView;
use crate::router::conditions::{Alternative, HostCondition};
use crate::router::expression::Field;
use crate::router::facts::{Facts, header_values};

/// Does a condition hold? Ordered, so that a conjunction is the least of its parts and an alternative the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::router) enum Truth {
    No,
    /// What is not known decides.
    Unknown,
    Yes,
}

impl Truth {
    pub(in crate::router) fn of(holds: bool) -> Self {
        if holds { Truth::Yes } else { Truth::No }
    }

    pub(in crate::router) fn inverse(self) -> Self {
        match self {
            Truth::No => Truth::Yes,
            Truth::Unknown => Truth::Unknown,
            Truth::Yes => Truth::No,
        }
    }
}

/// A request of which some values may not be known.
pub(in crate::router) struct Described<'a> {
    pub(super) view: &'a RequestView<'a>,
    facts: Facts<'a>,
    /// Names of header fields and query arguments whose values are not known.
    hidden: Facts<'a>,
    withheld: &'a Withheld,
}

impl<'a> Described<'a> {
    pub(super) fn new(view: &'a RequestView<'a>, withheld: &'a Withheld) -> Self {
        let hidden = RequestView { headers: &withheld.headers, query: Some(&withheld.query), ..*view };
        Described { view, facts: Facts::of_request(view), hidden: Facts::of_request(&hidden), withheld }
    }

    /// What is known.
    pub(in crate::router) fn facts(&self) -> &Facts<'a> {
        &self.facts
    }

    /// Is everything known?
    pub(super) fn is_whole(&self) -> bool {
        let Withheld { headers, query, more_headers, more_arguments, host, listen_port, local_address, source_address, source_port, sni } =
            self.withheld;
        let flags = [more_headers, more_arguments, host, listen_port, local_address, source_address, source_port, sni];
        headers.is_empty() && query.is_empty() && !flags.into_iter().any(|is_withheld| *is_withheld)
    }

    /// Does any condition look at what may not be known? A glance, to pass by the many that look at host, path and method alone.
    pub(super) fn may_leave_open(&self, alternative: &Alternative) -> bool {
        alternative.program.is_some()
            || !alternative.headers.is_empty()
            || self.withheld.sni && !alternative.snis.is_empty()
            || self.withheld.host && !alternative.hosts.is_empty()
            || self.withheld.listen_port && alternative.hosts.iter().any(|host| host.port.is_some())
    }

    /// Is a value of this field not known?
    pub(in crate::router) fn is_unknown(&self, field: &Field) -> bool {
        match field {
            Field::Header(name) => self.is_header_unknown(name),
            Field::Argument(name) => self.withheld.more_arguments || self.hidden.argument_values(name).next().is_some(),
            Field::Host => self.withheld.host,
            Field::Sni => self.is_sni_unknown(),
            Field::SourceAddress => self.withheld.source_address,
            Field::SourcePort => self.withheld.source_port,
            Field::DestinationAddress => self.withheld.local_address,
            Field::DestinationPort => self.withheld.host || self.withheld.listen_port && self.view.host_port.is_none(),
            _ => false,
        }
    }

    pub(super) fn is_header_unknown(&self, name: &str) -> bool {
        self.withheld.more_headers || header_values(&self.withheld.headers, name).next().is_some()
    }

    pub(super) fn is_sni_unknown(&self) -> bool {
        self.withheld.sni && self.view.is_https
    }

    /// Says that a value of this field is not known; none if it is.
    pub(in crate::router) fn why_unknown(&self, field: &Field) -> Option<String> {
        self.is_unknown(field).then(|| match field {
            Field::Header(name) => format!("the value of the header `{name}` is not known"),
            Field::Argument(name) => format!("the value of the query argument `{}` is not known", String::from_utf8_lossy(name)),
            Field::Host => "the host is not known".to_owned(),
            Field::Sni => "the name asked for in the TLS handshake is not known".to_owned(),
            Field::SourceAddress => "the client's address is not known".to_owned(),
            Field::SourcePort => "the client's port is not known".to_owned(),
            Field::DestinationAddress => "the address the client connected to is not known".to_owned(),
            _ => "the port the client connected to is not known".to_owned(),
        })
    }

    /// Does one of a Route's hosts hold?
    pub(super) fn host_truth(&self, host: &HostCondition) -> Truth {
        match host.port {
            _ if self.withheld.host => Truth::Unknown,
            Some(port) if self.withheld.listen_port && self.view.host_port.is_none() => {
                let holds_at = |listen_port| host.holds(&RequestView { listen_port, ..*self.view });
                match (holds_at(port), holds_at(port ^ 1)) {
                    (true, true) => Truth::Yes,
                    (false, _) => Truth::No,
                    _ => Truth::Unknown,
                }
            }
            _ => Truth::of(host.holds(self.view)),
        }
    }

    /// How many bytes the path has in common with what a Route's paths begin with.
    pub(super) fn common_prefix(&self, alternatives: &[Alternative]) -> usize {
        let common = |text: &[u8]| text.iter().zip(self.view.path).take_while(|(ours, theirs)| ours == theirs).count();
        alternatives.iter().flat_map(Alternative::path_keys).map(|(start, _)| common(start)).max().unwrap_or(0)
    }
}
