// SPDX-License-Identifier: Apache-2.0
//! Which settings does the data plane read? Values come whole from Python: there are no defaults in here.

use crate::router::{Flavour, Ranking, RouterOptions};
use serde::Deserialize;
use std::net::IpAddr;
use std::path::PathBuf;

/// Settings of one worker. Sizes in bytes, times in milliseconds, as the names say.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPlaneSettings {
    /// Our version, for `Server` and `Via`: `pylae/<version>`.
    pub version: String,
    /// Working directory; spool, sockets and logs lie below.
    pub prefix: PathBuf,
    /// Lowest severity that goes to the error log.
    pub log_level: String,
    /// Absolute path of the access log; `None`: off.
    pub access_log: Option<PathBuf>,
    /// Absolute path of the error log.
    pub error_log: PathBuf,
    /// Absolute path of the records of failed requests; `None`: off.
    pub failures_log: Option<PathBuf>,
    /// Seconds east of Greenwich, for the logs.
    pub utc_offset_s: i64,
    /// Headers the gateway adds to answers, lower case, groups spelled out.
    pub headers: Vec<String>,
    /// Is `X-Kong-Request-Id` sent upstream?
    pub request_id_upstream: bool,
    /// Peers whose forwarding headers are believed: addresses and CIDR blocks.
    pub trusted_ips: Vec<String>,
    /// Header that carries the client's address.
    pub real_ip_header: String,
    /// Walk the whole list for the client's address?
    pub real_ip_recursive: bool,
    /// `port:advertised` pairs.
    pub port_maps: Vec<(u16, u16)>,
    /// Largest request body; 0: no limit.
    pub client_max_body_size_bytes: u64,
    /// Bodies up to this stay in memory.
    pub client_body_buffer_size_bytes: usize,
    /// Number and size of the buffers for a request's head.
    pub large_client_header_buffers: (usize, usize),
    /// Longest silence while a head is read.
    pub client_header_timeout_ms: u64,
    /// Longest silence while a body is read.
    pub client_body_timeout_ms: u64,
    /// Longest silence while an answer is written.
    pub send_timeout_ms: u64,
    /// How long an idle client connection is kept.
    pub client_keepalive_timeout_ms: u64,
    /// Requests a client connection may carry.
    pub client_keepalive_requests: u64,
    /// Connections a worker may hold.
    pub worker_connections: usize,
    /// Idle connections kept per upstream address; 0: none.
    pub upstream_keepalive_pool_size: usize,
    /// Requests an upstream connection may carry; 0: no limit.
    pub upstream_keepalive_max_requests: u32,
    /// How long an idle upstream connection is kept; 0: no limit.
    pub upstream_keepalive_idle_timeout_ms: u64,
    /// Content type of errors when neither Accept nor Content-Type says one.
    pub error_default_type: String,
    /// PEM files of certificates and keys for TLS listeners.
    pub ssl_certificates: Vec<(PathBuf, PathBuf)>,
    /// PEM bundles upstream certificates are checked against; empty: the public roots (Mozilla's list, built in).
    pub trusted_certificates: Vec<PathBuf>,
    /// Check upstream certificates unless the Service says otherwise.
    pub verify_upstream: bool,
    /// How names are looked up.
    pub dns: DnsSettings,
    /// Answer `Kong-Debug: 1` with Route and Service headers?
    pub allow_debug_header: bool,
    /// How long a drain may take.
    pub drain_timeout_ms: u64,
    /// Which language Routes are written in.
    pub router_flavor: Flavour,
    /// How overlapping Routes are ordered under `traditional_compatible`.
    pub router_ranking: Ranking,
    /// What is remembered and told of requests, so that a failure explains itself.
    pub explain: ExplainSettings,
}

/// What is remembered and told of requests, so that a failure explains itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainSettings {
    /// Share of good requests that are recorded, 0 to 1.
    pub sample_ratio: f64,
    /// Who is told of a fault in the head of the answer.
    pub headers: ExplainHeaders,
    /// Hex of the key by which probes are signed; empty: there are none.
    pub probe_key: String,
}

/// Whose answers carry `Proxy-Status` and `X-Pylae-Fault`, when the request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExplainHeaders {
    /// Nobody's.
    Off,
    /// Those of peers in `trusted_ips`.
    Trusted,
    /// Everybody's.
    On,
}

/// How names are looked up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsSettings {
    /// Name servers, `address` or `address:port`; empty: those of resolv.conf.
    pub servers: Vec<String>,
    /// Hosts file.
    pub hosts_file: PathBuf,
    /// Name servers, search domains and options.
    pub resolv_conf: PathBuf,
    /// `LAST`, `SRV`, `A`, `AAAA`, `CNAME`: the types asked for, in order.
    pub order: Vec<String>,
    /// Are SRV records asked for only of names that begin `_service._protocol.`?
    pub srv_of_services_only: bool,
    /// In place of the TTL of an answer.
    pub valid_ttl_ms: Option<u64>,
    /// How long an answer that has expired may serve.
    pub stale_ttl_ms: u64,
    /// How long it is remembered that a name does not exist or has no address.
    pub not_found_ttl_ms: u64,
    /// How long it is remembered that a look-up failed.
    pub error_ttl_ms: u64,
    /// Names remembered.
    pub cache_size: usize,
    /// Does each request that finds nothing known look up by itself?
    pub no_sync: bool,
}

impl DataPlaneSettings {
    /// How Routes are compiled.
    pub fn router_options(&self) -> RouterOptions {
        RouterOptions { flavour: self.router_flavor, ranking: self.router_ranking }
    }
}

/// A peer or block of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpBlock {
    address: IpAddr,
    prefix: u8,
}

impl IpBlock {
    /// Reads `address` or `address/prefix`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?),
            None => {
                let address = text.parse::<IpAddr>().ok()?;
                (address, if address.is_ipv4() { 32 } else { 128 })
            }
        };
        (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some(IpBlock { address, prefix })
    }

    /// Is this address in the block?
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                u32::from(a).checked_shr(32 - u32::from(self.prefix)) == u32::from(b).checked_shr(32 - u32::from(self.prefix))
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                u128::from(a).checked_shr(128 - u32::from(self.prefix)) == u128::from(b).checked_shr(128 - u32::from(self.prefix))
            }
            _ => false,
        }
    }
}

/// Headers the gateway may add to answers.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs, reason = "each is the header it is named after")]
pub struct AddedHeaders {
    pub server: bool,
    pub via: bool,
    pub proxy_latency: bool,
    pub response_latency: bool,
    pub upstream_latency: bool,
    pub upstream_status: bool,
    pub request_id: bool,
}

impl AddedHeaders {
    /// From lower-case names, groups included.
    pub fn from_names(names: &[String]) -> Self {
        let mut added = AddedHeaders::default();
        for name in names {
            match name.as_str() {
                "server_tokens" => {
                    added.server = true;
                    added.via = true;
                }
                "latency_tokens" => {
                    added.proxy_latency = true;
                    added.response_latency = true;
                    added.upstream_latency = true;
                }
                "server" => added.server = true,
                "via" => added.via = true,
                "x-kong-proxy-latency" => added.proxy_latency = true,
                "x-kong-response-latency" => added.response_latency = true,
                "x-kong-upstream-latency" => added.upstream_latency = true,
                "x-kong-upstream-status" => added.upstream_status = true,
                "x-kong-request-id" => added.request_id = true,
                _ => {}
            }
        }
        added
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_ip_blocks() {
        let block = |text: &str| IpBlock::parse(text).expect(text);
        let ip = |text: &str| text.parse::<IpAddr>().expect(text);
        assert!(block("10.0.0.0/8").contains(ip("10.1.2.3")));
        assert!(!block("10.0.0.0/8").contains(ip("11.1.2.3")));
        assert!(block("0.0.0.0/0").contains(ip("11.1.2.3")));
        assert!(block("::/0").contains(ip("::1")));
        assert!(!block("0.0.0.0/0").contains(ip("::1")));
        assert!(IpBlock::parse("10.0.0.0/33").is_none());
    }
}
