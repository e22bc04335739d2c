// SPDX-License-Identifier: Apache-2.0
//! What does a row of the configuration look like? Every field of the entities a snapshot carries; defaults are applied in Python, never here.

use super::id::Id;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A field that may be null but must be there: serde alone would take an absent `Option` for null.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// A reference to a row of another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The row's primary key.
    pub id: Id,
}

/// What a Route accepts and a Service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Grpc,
    Grpcs,
    Http,
    Https,
    Tcp,
    Tls,
    TlsPassthrough,
    Udp,
}

impl Protocol {
    /// Is a request of this protocol HTTP, not a stream of bytes?
    pub fn is_http(self) -> bool {
        matches!(self, Protocol::Grpc | Protocol::Grpcs | Protocol::Http | Protocol::Https)
    }

    /// Does TLS wrap it?
    pub fn is_tls(self) -> bool {
        matches!(self, Protocol::Grpcs | Protocol::Https | Protocol::Tls | Protocol::TlsPassthrough)
    }

    /// The protocol as the Admin API spells it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Grpc => "grpc",
            Protocol::Grpcs => "grpcs",
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::Tcp => "tcp",
            Protocol::Tls => "tls",
            Protocol::TlsPassthrough => "tls_passthrough",
            Protocol::Udp => "udp",
        }
    }
}

/// How the Service's path and the request's are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathHandling {
    /// Joined with exactly one slash.
    V0,
    /// Joined as written.
    V1,
}

/// Where requests go: one API behind the gateway.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Primary key.
    pub id: Id,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970.
    pub updated_at: i64,
    /// Unique name.
    #[serde(deserialize_with = "nullable")]
    pub name: Option<Arc<str>>,
    /// Further attempts after the first; read by [`Service::retries`].
    #[serde(deserialize_with = "nullable")]
    pub retries: Option<u32>,
    /// What the upstream speaks.
    pub protocol: Protocol,
    /// Host name, IP address, or the name of an Upstream.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// Prefix of the path upstream.
    #[serde(deserialize_with = "nullable")]
    pub path: Option<Arc<str>>,
    /// Milliseconds; read by [`Service::connect_timeout`].
    #[serde(deserialize_with = "nullable")]
    pub connect_timeout: Option<u64>,
    /// Milliseconds between two writes; read by [`Service::write_timeout`].
    #[serde(deserialize_with = "nullable")]
    pub write_timeout: Option<u64>,
    /// Milliseconds between two reads; read by [`Service::read_timeout`].
    #[serde(deserialize_with = "nullable")]
    pub read_timeout: Option<u64>,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub tags: Option<Vec<String>>,
    /// Certificate shown to the upstream.
    #[serde(deserialize_with = "nullable")]
    pub client_certificate: Option<Reference>,
    /// Is the upstream's certificate verified? Null: as the settings say.
    #[serde(deserialize_with = "nullable")]
    pub tls_verify: Option<bool>,
    /// Longest chain of certificates accepted.
    #[serde(deserialize_with = "nullable")]
    pub tls_verify_depth: Option<u32>,
    /// Authorities trusted for the upstream's certificate.
    #[serde(deserialize_with = "nullable")]
    pub ca_certificates: Option<Vec<Id>>,
    /// A disabled Service's Routes match nothing.
    pub enabled: bool,
    /// The row as it came.
    #[serde(skip)]
    pub raw: Raw,
}

/// What an explicit null of `connect_timeout`, `write_timeout` and `read_timeout` means, as in Kong's data plane.
const TIMEOUT_WHEN_NULL_MS: u64 = 60_000;
/// What an explicit null of `retries` means, as in Kong's data plane.
const RETRIES_WHEN_NULL: u32 = 5;

impl Service {
    /// Further attempts after the first.
    pub fn retries(&self) -> u32 {
        self.retries.unwrap_or(RETRIES_WHEN_NULL)
    }

    /// Longest wait for a connection.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout.unwrap_or(TIMEOUT_WHEN_NULL_MS))
    }

    /// Longest wait between two writes.
    pub fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout.unwrap_or(TIMEOUT_WHEN_NULL_MS))
    }

    /// Longest wait between two reads.
    pub fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout.unwrap_or(TIMEOUT_WHEN_NULL_MS))
    }
}

/// Which requests go to a Service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Primary key.
    pub id: Id,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970.
    pub updated_at: i64,
    /// Unique name.
    #[serde(deserialize_with = "nullable")]
    pub name: Option<Arc<str>>,
    /// What it accepts; no condition of the match, except HTTP against streams.
    pub protocols: Vec<Protocol>,
    /// The answer to a clear request on a Route for TLS only.
    pub https_redirect_status_code: u16,
    /// Is the matched prefix removed from the path upstream?
    pub strip_path: bool,
    /// Does the client's Host go upstream?
    pub preserve_host: bool,
    /// Is the request body read whole before an upstream is chosen?
    pub request_buffering: bool,
    /// May the answer be read ahead of a slow client?
    pub response_buffering: bool,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub tags: Option<Vec<String>>,
    /// Where its requests go.
    #[serde(deserialize_with = "nullable")]
    pub service: Option<Reference>,
    /// Names asked for in the TLS handshake.
    #[serde(deserialize_with = "nullable")]
    pub snis: Option<Vec<String>>,
    /// Client addresses (streams only).
    #[serde(deserialize_with = "nullable")]
    pub sources: Option<Vec<Endpoint>>,
    /// Listening addresses (streams only).
    #[serde(deserialize_with = "nullable")]
    pub destinations: Option<Vec<Endpoint>>,
    /// Methods, upper case.
    #[serde(deserialize_with = "nullable")]
    pub methods: Option<Vec<String>>,
    /// Hosts, each with at most one wildcard at an end and an optional port.
    #[serde(deserialize_with = "nullable")]
    pub hosts: Option<Vec<String>>,
    /// Prefixes, or `~` and a regular expression.
    #[serde(deserialize_with = "nullable")]
    pub paths: Option<Vec<String>>,
    /// Header names with the values accepted.
    #[serde(deserialize_with = "nullable")]
    pub headers: Option<BTreeMap<String, Vec<String>>>,
    /// Rank among regular expressions, higher first.
    #[serde(deserialize_with = "nullable")]
    pub regex_priority: Option<i64>,
    /// How the Service's path and the request's are joined.
    #[serde(deserialize_with = "nullable")]
    pub path_handling: Option<PathHandling>,
    /// The condition as a text; a field under `router_flavor = expressions` only.
    #[serde(default)]
    pub expression: Option<String>,
    /// Rank of an expression, higher first; a field under `router_flavor = expressions` only.
    #[serde(default)]
    pub priority: Option<u64>,
    /// The row as it came.
    #[serde(skip)]
    pub raw: Raw,
}

impl Route {
    /// The status of the answer to a request in the clear on a Route for https alone; none if it may pass.
    pub fn https_demanded(&self, is_https: bool) -> Option<u16> {
        let has = |protocol: Protocol| self.protocols.contains(&protocol);
        (!is_https && has(Protocol::Https) && !has(Protocol::Http)).then_some(self.https_redirect_status_code)
    }
}

/// An address or a network, a port, or both.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Address or CIDR.
    #[serde(deserialize_with = "nullable")]
    pub ip: Option<String>,
    /// Port.
    #[serde(deserialize_with = "nullable")]
    pub port: Option<u16>,
}

/// A plugin's configuration and where it applies.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugin {
    /// Primary key.
    pub id: Id,
    /// The plugin's name.
    pub name: Arc<str>,
    /// Unique name of this instance.
    #[serde(deserialize_with = "nullable")]
    pub instance_name: Option<Arc<str>>,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970.
    pub updated_at: i64,
    /// Applies to this Route only.
    #[serde(deserialize_with = "nullable")]
    pub route: Option<Reference>,
    /// Applies to this Service only.
    #[serde(deserialize_with = "nullable")]
    pub service: Option<Reference>,
    /// Applies to this Consumer only.
    #[serde(deserialize_with = "nullable")]
    pub consumer: Option<Reference>,
    /// The plugin's own record; its bytes are [`PluginInstance::config`](super::PluginInstance).
    pub config: serde::de::IgnoredAny,
    /// HTTP against streams, no finer.
    pub protocols: Vec<Protocol>,
    /// A disabled row does not count.
    pub enabled: bool,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub tags: Option<Vec<String>>,
}

/// How a Target is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Algorithm {
    ConsistentHashing,
    LeastConnections,
    RoundRobin,
    Latency,
}

/// What is hashed to choose a Target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum HashOn {
    None,
    Consumer,
    Ip,
    Header,
    Cookie,
    Path,
    QueryArg,
    UriCapture,
}

/// What a health check speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum CheckType {
    Tcp,
    Http,
    Https,
    Grpc,
    Grpcs,
}

/// A name that stands for Targets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Primary key.
    pub id: Id,
    /// Seconds since 1970.
    pub created_at: i64,
    /// The name a Service's host is compared with.
    pub name: Arc<str>,
    /// Seconds since 1970.
    pub updated_at: i64,
    /// How a Target is chosen.
    #[serde(deserialize_with = "nullable")]
    pub algorithm: Option<Algorithm>,
    /// What is hashed.
    #[serde(deserialize_with = "nullable")]
    pub hash_on: Option<HashOn>,
    /// What is hashed when that is missing.
    #[serde(deserialize_with = "nullable")]
    pub hash_fallback: Option<HashOn>,
    /// Header name for `hash_on`.
    #[serde(deserialize_with = "nullable")]
    pub hash_on_header: Option<String>,
    /// Header name for `hash_fallback`.
    #[serde(deserialize_with = "nullable")]
    pub hash_fallback_header: Option<String>,
    /// Cookie name.
    #[serde(deserialize_with = "nullable")]
    pub hash_on_cookie: Option<String>,
    /// Path of the cookie set.
    #[serde(deserialize_with = "nullable")]
    pub hash_on_cookie_path: Option<String>,
    /// Query argument for `hash_on`.
    #[serde(deserialize_with = "nullable")]
    pub hash_on_query_arg: Option<String>,
    /// Query argument for `hash_fallback`.
    #[serde(deserialize_with = "nullable")]
    pub hash_fallback_query_arg: Option<String>,
    /// Capture of the path for `hash_on`.
    #[serde(deserialize_with = "nullable")]
    pub hash_on_uri_capture: Option<String>,
    /// Capture of the path for `hash_fallback`.
    #[serde(deserialize_with = "nullable")]
    pub hash_fallback_uri_capture: Option<String>,
    /// Size of the wheel or ring.
    #[serde(deserialize_with = "nullable")]
    pub slots: Option<u32>,
    /// When a Target counts as dead.
    pub healthchecks: HealthChecks,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub tags: Option<Vec<String>>,
    /// The Host sent to Targets.
    #[serde(deserialize_with = "nullable")]
    pub host_header: Option<String>,
    /// Certificate shown to Targets.
    #[serde(deserialize_with = "nullable")]
    pub client_certificate: Option<Reference>,
    /// Does an SRV record's name become the Host?
    #[serde(deserialize_with = "nullable")]
    pub use_srv_name: Option<bool>,
    /// The row as it came.
    #[serde(skip)]
    pub raw: Raw,
}

/// When a Target counts as dead.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthChecks {
    /// By probes.
    pub active: ActiveChecks,
    /// By what requests meet.
    pub passive: PassiveChecks,
    /// Percent of the weight that must be healthy.
    #[serde(deserialize_with = "nullable")]
    pub threshold: Option<f64>,
}

/// Probes of Targets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActiveChecks {
    /// What makes a Target unhealthy.
    pub unhealthy: ActiveUnhealthy,
    /// Seconds a probe may take.
    #[serde(deserialize_with = "nullable")]
    pub timeout: Option<f64>,
    /// What a probe speaks.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub check_type: Option<CheckType>,
    /// Probes at once.
    #[serde(deserialize_with = "nullable")]
    pub concurrency: Option<u64>,
    /// Path asked for.
    #[serde(deserialize_with = "nullable")]
    pub http_path: Option<String>,
    /// Name asked for in the TLS handshake.
    #[serde(deserialize_with = "nullable")]
    pub https_sni: Option<String>,
    /// Is the Target's certificate verified?
    pub https_verify_certificate: bool,
    /// What makes a Target healthy.
    pub healthy: ActiveHealthy,
    /// Headers sent.
    #[serde(deserialize_with = "nullable")]
    pub headers: Option<BTreeMap<String, Vec<String>>>,
}

/// What makes a probed Target unhealthy; a count of 0 switches that check off.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActiveUnhealthy {
    /// Failed connections.
    #[serde(deserialize_with = "nullable")]
    pub tcp_failures: Option<u32>,
    /// Timeouts.
    #[serde(deserialize_with = "nullable")]
    pub timeouts: Option<u32>,
    /// Answers with one of the statuses.
    #[serde(deserialize_with = "nullable")]
    pub http_failures: Option<u32>,
    /// Seconds between probes of unhealthy Targets.
    #[serde(deserialize_with = "nullable")]
    pub interval: Option<f64>,
    /// Statuses that count as a failure.
    #[serde(deserialize_with = "nullable")]
    pub http_statuses: Option<Vec<u16>>,
}

/// What makes a probed Target healthy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActiveHealthy {
    /// Statuses that count as a success.
    #[serde(deserialize_with = "nullable")]
    pub http_statuses: Option<Vec<u16>>,
    /// Seconds between probes of healthy Targets.
    #[serde(deserialize_with = "nullable")]
    pub interval: Option<f64>,
    /// Successes needed.
    #[serde(deserialize_with = "nullable")]
    pub successes: Option<u32>,
}

/// Conclusions from what requests meet.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassiveChecks {
    /// What makes a Target unhealthy.
    pub unhealthy: PassiveUnhealthy,
    /// What makes a Target healthy.
    pub healthy: PassiveHealthy,
    /// What is looked at.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub check_type: Option<CheckType>,
}

/// What makes a used Target unhealthy; a count of 0 switches that check off.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassiveUnhealthy {
    /// Timeouts.
    #[serde(deserialize_with = "nullable")]
    pub timeouts: Option<u32>,
    /// Failed connections.
    #[serde(deserialize_with = "nullable")]
    pub tcp_failures: Option<u32>,
    /// Statuses that count as a failure.
    #[serde(deserialize_with = "nullable")]
    pub http_statuses: Option<Vec<u16>>,
    /// Answers with one of the statuses.
    #[serde(deserialize_with = "nullable")]
    pub http_failures: Option<u32>,
}

/// What makes a used Target healthy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassiveHealthy {
    /// Statuses that count as a success.
    #[serde(deserialize_with = "nullable")]
    pub http_statuses: Option<Vec<u16>>,
    /// Successes needed.
    #[serde(deserialize_with = "nullable")]
    pub successes: Option<u32>,
}

/// One place an Upstream's requests may go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Primary key.
    pub id: Id,
    /// Seconds since 1970, with milliseconds.
    pub created_at: f64,
    /// Seconds since 1970, with milliseconds.
    pub updated_at: f64,
    /// Whose Target it is.
    pub upstream: Reference,
    /// `host:port`, IPv6 in brackets.
    pub target: Arc<str>,
    /// Share of the requests; 0 = none.
    #[serde(deserialize_with = "nullable")]
    pub weight: Option<u32>,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub tags: Option<Vec<String>>,
    /// The row as it came.
    #[serde(skip)]
    pub raw: Raw,
}

/// A row's own MessagePack bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Raw(pub Arc<[u8]>);

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
