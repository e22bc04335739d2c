// SPDX-License-Identifier: Apache-2.0
//! Which Route does this stream of bytes belong to? TCP, TLS or UDP: by who sent it, where it came in, and the name in its handshake.

use super::conditions::{Conditions, NamePattern, list, rank_of_expression, sni_pattern};
use super::expression::{Network, Program, Subsystem};
use super::facts::Facts;
use super::ranking::{Attributes, Flavour, Rank, RouterOptions};
use crate::snapshot::hash::ConfigMap;
use crate::snapshot::model::{Endpoint, Protocol, Route};
use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What the router looks at in a stream.
#[derive(Debug, Clone, Copy)]
pub struct StreamView<'a> {
    /// Did it come as datagrams?
    pub is_udp: bool,
    /// Does it speak TLS, ended here or only looked into?
    pub is_tls: bool,
    /// Who sent it.
    pub source: SocketAddr,
    /// Where it came in (port after `port_maps`).
    pub destination: SocketAddr,
    /// The name asked for in the TLS handshake.
    pub sni: Option<&'a [u8]>,
}

impl StreamView<'_> {
    pub(super) fn protocol_name(&self) -> &'static str {
        match (self.is_udp, self.is_tls) {
            (true, _) => "udp",
            (false, true) => "tls",
            (false, false) => "tcp",
        }
    }
}

/// A Route for streams.
#[derive(Debug)]
pub(super) struct StreamAlternative {
    pub(super) rank: Rank,
    protocols: Vec<Protocol>,
    sources: Vec<EndpointCondition>,
    destinations: Vec<EndpointCondition>,
    snis: Vec<NamePattern>,
    program: Option<Box<Program>>,
}

#[derive(Debug)]
struct EndpointCondition {
    network: Option<Network>,
    port: Option<u16>,
}

impl EndpointCondition {
    fn new(endpoint: &Endpoint) -> Result<Self, String> {
        let parse =
            |ip: &String| Network::parse(ip, true).map_err(|problem| format!("`{ip}` is no address or block of addresses: {problem}"));
        Ok(EndpointCondition { network: endpoint.ip.as_ref().map(parse).transpose()?, port: endpoint.port })
    }

    fn holds(&self, address: IpAddr, port: u16) -> bool {
        self.network.is_none_or(|network| network.contains(address)) && self.port.is_none_or(|ours| ours == port)
    }
}

/// Compiles a Route for streams.
pub(super) fn compile(route: &Route, options: RouterOptions) -> Result<Vec<StreamAlternative>, String> {
    let conditions = |endpoints: &Option<Vec<Endpoint>>| {
        endpoints.as_deref().unwrap_or_default().iter().map(EndpointCondition::new).collect::<Result<Vec<_>, _>>()
    };
    let expression = route.expression.as_ref().filter(|_| options.flavour == Flavour::Expressions);
    let protocols = route.protocols.clone();
    let alternative = if let Some(text) = expression {
        StreamAlternative {
            rank: rank_of_expression(route)?,
            protocols,
            sources: Vec::new(),
            destinations: Vec::new(),
            snis: Vec::new(),
            program: Some(Box::new(Program::new(text, Subsystem::Stream)?)),
        }
    } else {
        let attributes = Attributes::of(route, &[]);
        if attributes.count == 0 {
            return Err("it sets no condition, so it matches nothing".into());
        }
        let is_traditional = options.flavour == Flavour::Traditional;
        StreamAlternative {
            rank: if is_traditional { Rank::of_traditional(route) } else { Rank::of_attributes(attributes, options.ranking, route.id) },
            protocols,
            sources: conditions(&route.sources)?,
            destinations: conditions(&route.destinations)?,
            snis: list(route.snis.as_ref()).map(|sni| sni_pattern(sni)).collect(),
            program: None,
        }
    };
    Ok(vec![alternative])
}

impl StreamAlternative {
    /// Do all conditions hold? A `tcp` Route takes TLS as the bytes it is; `tls` and `tls_passthrough` take nothing else.
    fn matches(&self, view: &StreamView<'_>, facts: &Facts<'_>) -> bool {
        let is_taken = self.protocols.iter().any(|protocol| match protocol {
            Protocol::Udp => view.is_udp,
            Protocol::Tcp => !view.is_udp,
            Protocol::Tls | Protocol::TlsPassthrough => !view.is_udp && view.is_tls,
            _ => false,
        });
        if !is_taken {
            return false;
        }
        if let Some(program) = &self.program {
            return program.holds(facts);
        }
        let holds = |conditions: &[EndpointCondition], endpoint: SocketAddr| {
            let address = endpoint.ip().to_canonical();
            conditions.is_empty() || conditions.iter().any(|condition| condition.holds(address, endpoint.port()))
        };
        holds(&self.sources, view.source)
            && holds(&self.destinations, view.destination)
            && (self.snis.is_empty() || !view.is_tls || view.sni.is_some_and(|sni| self.snis.iter().any(|name| name.matches(sni))))
    }
}

/// The Routes for streams, by falling rank, with tables that lead to those worth a look.
pub(super) struct StreamRouter {
    order: Vec<StreamPlace>,
    by_port: ConfigMap<u16, Vec<u32>>,
    by_sni: ConfigMap<Box<[u8]>, Vec<u32>>,
    rest: Vec<u32>,
}

/// An alternative of a Route, by its place among those that the router was made of.
struct StreamPlace {
    conditions: Arc<Conditions>,
    alternative: usize,
    route: u32,
}

impl StreamPlace {
    fn alternative(&self) -> &StreamAlternative {
        &self.conditions.streams[self.alternative]
    }
}

impl StreamRouter {
    pub(super) fn new(conditions: &[Arc<Conditions>]) -> Self {
        let places = (0..).zip(conditions).flat_map(|(route, conditions)| {
            (0..conditions.streams.len()).map(move |alternative| StreamPlace { conditions: Arc::clone(conditions), alternative, route })
        });
        let mut order: Vec<StreamPlace> = places.collect();
        order.sort_by_key(|place| Reverse(place.alternative().rank));
        let mut router = StreamRouter { order: Vec::new(), by_port: ConfigMap::default(), by_sni: ConfigMap::default(), rest: Vec::new() };
        for (position, place) in (0..).zip(&order) {
            router.add(position, place.alternative());
        }
        router.order = order;
        router
    }

    fn add(&mut self, position: u32, alternative: &StreamAlternative) {
        let ports: Option<Vec<u16>> = alternative.destinations.iter().map(|condition| condition.port).collect();
        let is_tls_only = !alternative.protocols.iter().any(|protocol| matches!(protocol, Protocol::Tcp | Protocol::Udp));
        let names: Option<Vec<&[u8]>> = alternative
            .snis
            .iter()
            .map(|name| match name {
                NamePattern::Exact(name) if is_tls_only => Some(&**name),
                _ => None,
            })
            .collect();
        let push = |positions: &mut Vec<u32>| {
            if positions.last() != Some(&position) {
                positions.push(position);
            }
        };
        match (ports, names) {
            (_, Some(names)) if !names.is_empty() => {
                for name in names {
                    push(self.by_sni.entry(name.into()).or_default());
                }
            }
            (Some(ports), _) if !ports.is_empty() => {
                for port in ports {
                    push(self.by_port.entry(port).or_default());
                }
            }
            _ => self.rest.push(position),
        }
    }

    /// The Route with the greatest rank among those whose conditions all hold.
    pub(super) fn find(&self, view: &StreamView<'_>) -> Option<u32> {
        let facts = Facts::of_stream(view);
        let none = Vec::new();
        let by_port = self.by_port.get(&view.destination.port()).unwrap_or(&none);
        let by_sni = view.sni.and_then(|sni| self.by_sni.get(sni)).unwrap_or(&none);
        let first = |positions: &[u32]| {
            positions.iter().copied().find(|position| self.order[*position as usize].alternative().matches(view, &facts))
        };
        let position = [first(by_port), first(by_sni), first(&self.rest)].into_iter().flatten().min()?;
        Some(self.order[position as usize].route)
    }

    /// The same by trying every Route: what the tables must agree with.
    #[cfg(test)]
    pub(super) fn find_by_walking(&self, view: &StreamView<'_>) -> Option<u32> {
        let facts = Facts::of_stream(view);
        self.order.iter().find(|place| place.alternative().matches(view, &facts)).map(|place| place.route)
    }
}
