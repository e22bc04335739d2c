// SPDX-License-Identifier: Apache-2.0
//! Which addresses has this name? The hosts file, then name servers; answers are cached by their TTL.

use crate::fault::{Fault, FaultKind};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfigGroup, ResolveHosts, ResolverConfig};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::proto::op::ResponseCode;
use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// Where the records of an answer come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The host is an address.
    Address,
    /// The hosts file.
    Hosts,
    /// A records.
    A,
    /// AAAA records.
    Aaaa,
    /// SRV records, and the addresses of the hosts they name.
    Srv,
}

/// One address of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where.
    pub address: IpAddr,
    /// SRV: the port, which goes before any other.
    pub port: Option<u16>,
    /// SRV: the share of this address, at least 1.
    pub weight: Option<u32>,
    /// SRV: the host that was named.
    pub name: Option<Arc<str>>,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Where the records come from.
    pub kind: Kind,
    /// At least one; of SRV those of the top priority alone.
    pub records: Box<[Record]>,
    /// The TTL was 0: good for the request it was asked for, and for no other.
    pub is_once: bool,
}

/// Looks names up, for one worker.
pub struct Resolver {
    hosts: HashMap<String, Vec<IpAddr>>,
    servers: Vec<SocketAddr>,
    client: OnceCell<Result<TokioResolver, String>>,
    turn: Cell<usize>,
}

impl Resolver {
    /// `servers`: `address` or `address:port`; empty: those of resolv.conf.
    pub fn new(servers: &[String], hosts_file: &Path) -> Self {
        let servers = servers
            .iter()
            .filter_map(|text| text.parse::<SocketAddr>().ok().or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53))))
            .collect();
        Resolver { hosts: read_hosts(hosts_file), servers, client: OnceCell::new(), turn: Cell::new(0) }
    }

    fn client(&self) -> Result<&TokioResolver, Fault> {
        let client = self.client.get_or_init(|| {
            let builder = if self.servers.is_empty() {
                TokioResolver::builder_tokio().map_err(|error| error.to_string())
            } else {
                let mut group = NameServerConfigGroup::new();
                for server in &self.servers {
                    group.merge(NameServerConfigGroup::from_ips_clear(&[server.ip()], server.port(), true));
                }
                let config = ResolverConfig::from_parts(None, Vec::new(), group);
                Ok(TokioResolver::builder_with_config(config, TokioConnectionProvider::default()))
            };
            builder.map(|mut builder| {
                let options = builder.options_mut();
                options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
                options.use_hosts_file = ResolveHosts::Never;
                builder.build()
            })
        });
        client
            .as_ref()
            .map_err(|error| Fault::with_phrase(FaultKind::ResolverFailed, error.clone(), format!("DNS resolution failed: {error}")))
    }

    /// What is known of a host; waits only as long as nothing is.
    ///
    /// # Errors
    /// `NameNotFound` (no such name, or no address), `ResolverFailed`.
    pub async fn look_up(&self, host: &str) -> Result<Arc<Answer>, Fault> {
        let addresses = self.addresses(host).await?;
        let records = addresses.into_iter().map(|address| Record { address, port: None, weight: None, name: None }).collect();
        Ok(Arc::new(Answer { kind: Kind::A, records, is_once: false }))
    }

    /// The record whose turn it is, by weight.
    pub fn turn<'a>(&self, answer: &'a Answer) -> &'a Record {
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        &answer.records[turn % answer.records.len()]
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Fault> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let name = bare.trim_end_matches('.').to_ascii_lowercase();
        if let Some(addresses) = self.hosts.get(&name) {
            return Ok(addresses.clone());
        }
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)]);
        }
        let not_found = |why: &str| {
            Fault::with_phrase(
                FaultKind::NameNotFound,
                format!("{name}: {why}"),
                format!("DNS resolution failed: {why}. Tried: [\"{name}:1 - {why}\",\"{name}:28 - {why}\"]"),
            )
        };
        // RFC 6761 §6.4: names under `invalid.` do not exist, and nobody need be asked.
        if name == "invalid" || name.ends_with(".invalid") {
            return Err(not_found("dns server error: 3 name error"));
        }
        // Without a dot at its end a name is looked for in the search domains too, as resolv.conf says.
        let asked = if bare.ends_with('.') { format!("{name}.") } else { name.clone() };
        match self.client()?.lookup_ip(asked).await {
            Ok(found) => {
                let addresses: Vec<IpAddr> = found.iter().collect();
                if addresses.is_empty() { Err(not_found("empty record received")) } else { Ok(addresses) }
            }
            Err(error) if error.is_nx_domain() => Err(not_found("dns server error: 3 name error")),
            Err(error) if error.is_no_records_found() => {
                let code = match error.kind() {
                    hickory_resolver::ResolveErrorKind::Proto(proto) => match proto.kind() {
                        hickory_resolver::proto::ProtoErrorKind::NoRecordsFound { response_code, .. } => *response_code,
                        _ => ResponseCode::NoError,
                    },
                    _ => ResponseCode::NoError,
                };
                match code {
                    ResponseCode::NoError => Err(not_found("empty record received")),
                    other => {
                        let text = format!("dns server error: {} {other}", u16::from(other));
                        Err(Fault::with_phrase(
                            FaultKind::ResolverFailed,
                            format!("{name}: {text}"),
                            format!("DNS resolution failed: {text}"),
                        ))
                    }
                }
            }
            Err(error) => {
                let text = error.to_string();
                Err(Fault::with_phrase(FaultKind::ResolverFailed, format!("{name}: {text}"), format!("DNS resolution failed: {text}")))
            }
        }
    }
}

fn read_hosts(path: &Path) -> HashMap<String, Vec<IpAddr>> {
    let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        for name in words {
            hosts.entry(name.to_ascii_lowercase()).or_default().push(address);
        }
    }
    // IPv4 before IPv6, as dns_order has it; an IPv6 address only when there is no other.
    for addresses in hosts.values_mut() {
        if addresses.iter().any(IpAddr::is_ipv4) {
            addresses.retain(IpAddr::is_ipv4);
        }
    }
    hosts
}
