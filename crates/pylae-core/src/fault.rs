// SPDX-License-Identifier: Apache-2.0
//! What went wrong? One table of every fault; logs, bodies, records and pages read it, so none can drift.

use std::borrow::Cow;

/// On whose side a fault lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client or what stands before us.
    Client,
    /// Ourselves or a plugin.
    Gateway,
    /// The upstream or what stands behind us.
    Upstream,
}

impl Side {
    /// As records spell it.
    pub fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Gateway => "gateway",
            Side::Upstream => "upstream",
        }
    }
}

macro_rules! faults {
    ($( $(#[doc = $doc:literal])* $kind:ident { name: $name:literal, room: $room:literal, side: $side:ident, status: $status:literal,
        may_have_acted: $acted:literal, retry: $retry:ident, phrase: $phrase:literal, flag: $flag:literal,
        tyk: $tyk:literal, proxy_status: $proxy_status:literal, cure: $cure:literal } )*) => {
        /// Every fault the gateway knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FaultKind { $( $(#[doc = $doc])* $kind, )* }

        impl FaultKind {
            /// All of them, in walking order.
            pub const ALL: &'static [FaultKind] = &[ $( FaultKind::$kind, )* ];

            /// What is known of this fault.
            pub fn facts(self) -> &'static FaultFacts {
                match self { $( FaultKind::$kind => {
                    static FACTS: FaultFacts = FaultFacts {
                        name: $name, room: $room, side: Side::$side, status: $status, may_have_acted: $acted,
                        retry: Retry::$retry, phrase: $phrase, response_flag: $flag, tyk_flag: $tyk,
                        proxy_status: $proxy_status, cure: $cure,
                    };
                    &FACTS
                } )* }
            }
        }
    };
}

/// May another attempt be made after this fault?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Never.
    Never,
    /// Always: nothing of the request was sent.
    NothingSent,
    /// Only for methods that may be repeated (nginx: not POST, LOCK, PATCH), and only while the body can be sent again.
    Idempotent,
}

/// What is known of a kind of fault.
#[derive(Debug)]
pub struct FaultFacts {
    /// Its name in records and metrics.
    pub name: &'static str,
    /// The room it is born in.
    pub room: &'static str,
    /// On whose side it lies.
    pub side: Side,
    /// What the client is answered; 499 and 0 are for the log alone.
    pub status: u16,
    /// May the upstream have acted on the request?
    pub may_have_acted: bool,
    /// May another attempt be made?
    pub retry: Retry,
    /// nginx's phrase in `error.log`, without the part that says what was being done.
    pub phrase: &'static str,
    /// Envoy's response flag; `-` where it has none.
    pub response_flag: &'static str,
    /// The response flag of Tyk's access log (its `internal/errors/classification.go`); `-` where it has none.
    pub tyk_flag: &'static str,
    /// RFC 9209 error type; `-` for an answer that came whole.
    pub proxy_status: &'static str,
    /// What to look at first.
    pub cure: &'static str,
}

faults! {
    /// More connections than the worker may hold.
    TooManyConnections { name: "too_many_connections", room: "listener", side: Gateway, status: 0, may_have_acted: false, retry: Never,
        phrase: "worker_connections are not enough", flag: "UO", tyk: "-", proxy_status: "connection_limit_reached",
        cure: "raise the limit of open files (ulimit -n) or add workers" }
    /// The client's TLS handshake failed.
    ClientTlsFailed { name: "client_tls_failed", room: "tls", side: Client, status: 0, may_have_acted: false, retry: Never,
        phrase: "SSL_do_handshake() failed", flag: "DPE", tyk: "-", proxy_status: "tls_protocol_error",
        cure: "the client does not speak TLS on this port or shares no version or cipher with it" }
    /// The request is not one well-formed message.
    BadFraming { name: "bad_framing", room: "http", side: Client, status: 400, may_have_acted: false, retry: Never,
        phrase: "client sent invalid request", flag: "DPE", tyk: "-", proxy_status: "http_request_error",
        cure: "the client or a proxy before the gateway wrote a malformed or ambiguous request; see `detail` for what was found" }
    /// The chunked body of the request is malformed.
    BadRequestBody { name: "bad_request_body", room: "http", side: Client, status: 400, may_have_acted: true, retry: Never,
        phrase: "client sent invalid chunked body", flag: "DPE", tyk: "BIV", proxy_status: "http_request_error",
        cure: "the client writes chunk sizes that are not hexadecimal numbers followed by CRLF" }
    /// A header line or the whole head is larger than the buffers for it.
    RequestHeaderTooLarge { name: "request_header_too_large", room: "http", side: Client, status: 494, may_have_acted: false, retry: Never,
        phrase: "client sent too long header line", flag: "DPE", tyk: "-", proxy_status: "http_request_error",
        cure: "cookies or tokens have grown: raise nginx_http_large_client_header_buffers or make them smaller" }
    /// The request line is larger than the buffer for it.
    UriTooLong { name: "uri_too_long", room: "http", side: Client, status: 414, may_have_acted: false, retry: Never,
        phrase: "client sent too long URI", flag: "DPE", tyk: "-", proxy_status: "http_request_error",
        cure: "send long parameters in a body, or raise nginx_http_large_client_header_buffers" }
    /// The body is larger than `client_max_body_size`.
    RequestBodyTooLarge { name: "request_body_too_large", room: "http", side: Client, status: 413, may_have_acted: false, retry: Never,
        phrase: "client intended to send too large body", flag: "DPE", tyk: "BTL", proxy_status: "http_request_error",
        cure: "raise nginx_http_client_max_body_size or send less" }
    /// The client was silent in the middle of a request.
    RequestTimeout { name: "request_timeout", room: "http", side: Client, status: 408, may_have_acted: false, retry: Never,
        phrase: "client timed out (110: Connection timed out)", flag: "DT", tyk: "-", proxy_status: "http_request_error",
        cure: "the client (or the load balancer before us) opened a request and did not finish it; see bytes received" }
    /// The method is not served.
    MethodNotAllowed { name: "method_not_allowed", room: "http", side: Client, status: 405, may_have_acted: false, retry: Never,
        phrase: "client sent unsupported method", flag: "DPE", tyk: "-", proxy_status: "http_request_error", cure: "TRACE is not proxied" }
    /// The request's HTTP version is not served.
    VersionNotSupported { name: "version_not_supported", room: "http", side: Client, status: 505, may_have_acted: false, retry: Never,
        phrase: "client sent invalid version", flag: "DPE", tyk: "-", proxy_status: "http_request_error", cure: "use HTTP/1.1" }
    /// The request's transfer coding is not served.
    TransferEncodingNotSupported { name: "transfer_encoding_not_supported", room: "http", side: Client, status: 501, may_have_acted: false,
        retry: Never, phrase: "client sent unknown \"Transfer-Encoding\"", flag: "DPE", tyk: "-", proxy_status: "http_request_error",
        cure: "only `chunked` is a transfer coding of requests" }
    /// The client went away before the answer was complete.
    ClientGone { name: "client_gone", room: "http", side: Client, status: 499, may_have_acted: true, retry: Never,
        phrase: "client prematurely closed connection", flag: "DC", tyk: "CDC", proxy_status: "http_request_error",
        cure: "the client or the load balancer before us gave up: compare its timeout with the time the upstream took" }
    /// No Route matches.
    NoRoute { name: "no_route", room: "router", side: Client, status: 404, may_have_acted: false, retry: Never,
        phrase: "no Route matched with those values", flag: "NR", tyk: "-", proxy_status: "destination_not_found",
        cure: "compare host, path, method and headers with GET /routes" }
    /// The Route is for https only.
    HttpsRequired { name: "https_required", room: "router", side: Client, status: 426, may_have_acted: false, retry: Never,
        phrase: "Please use HTTPS protocol", flag: "NR", tyk: "-", proxy_status: "http_request_denied",
        cure: "call the Route over https, or allow http among its protocols" }
    /// The Route has no Service.
    NoService { name: "no_service", room: "router", side: Gateway, status: 503, may_have_acted: false, retry: Never,
        phrase: "no Service found with those values", flag: "NC", tyk: "-", proxy_status: "destination_unavailable",
        cure: "give the Route a Service, or a plugin that answers" }
    /// A plugin answered.
    PluginRefused { name: "plugin_refused", room: "phases", side: Gateway, status: 0, may_have_acted: false, retry: Never,
        phrase: "plugin answered", flag: "UAEX", tyk: "-", proxy_status: "http_request_denied", cure: "see the plugin named" }
    /// A plugin raised or returned rubbish.
    PluginFailed { name: "plugin_failed", room: "phases", side: Gateway, status: 500, may_have_acted: false, retry: Never,
        phrase: "plugin failed", flag: "UAEX", tyk: "-", proxy_status: "proxy_internal_error", cure: "see the plugin, phase and line named" }
    /// A system that a plugin asks who the client is could not be asked.
    IdentitySystemFailed { name: "identity_system_failed", room: "phases", side: Gateway, status: 500, may_have_acted: false, retry: Never,
        phrase: "a system that knows the client could not be asked", flag: "UAEX", tyk: "-", proxy_status: "proxy_internal_error",
        cure: "see `detail` for the system and what went wrong with it: is it up, does this machine reach it, does the plugin's configuration name it rightly?" }
    /// The Upstream has no Target that may be chosen.
    NoHealthyTarget { name: "no_healthy_target", room: "balancer", side: Upstream, status: 503, may_have_acted: false, retry: Never,
        phrase: "failure to get a peer from the ring-balancer", flag: "UH", tyk: "NHU", proxy_status: "destination_unavailable",
        cure: "add Targets with a weight above 0 to the Upstream, or mend their health" }
    /// The host failed so often that it is left alone for a while.
    CircuitOpen { name: "circuit_open", room: "resilience", side: Upstream, status: 503, may_have_acted: false, retry: Never,
        phrase: "the upstream failed and is left alone for a while", flag: "UO", tyk: "CBO", proxy_status: "destination_unavailable",
        cure: "see `detail` for the failure that opened the circuit, and mend that; circuit_breaker of the plugin resilience says when it opens" }
    /// As many requests as may wait for the host do.
    QueueFull { name: "queue_full", room: "resilience", side: Gateway, status: 503, may_have_acted: false, retry: Never,
        phrase: "too many requests wait for the upstream", flag: "UO", tyk: "-", proxy_status: "connection_limit_reached",
        cure: "more requests come than the upstream takes: make it faster or larger, or raise queue.most_connections or queue.most_waiting of the plugin resilience" }
    /// It was not the request's turn in time.
    QueueTimeout { name: "queue_timeout", room: "resilience", side: Gateway, status: 503, may_have_acted: false, retry: Never,
        phrase: "the upstream had no free connection in time", flag: "UO", tyk: "-", proxy_status: "connection_limit_reached",
        cure: "the upstream takes long or requests come in bursts: make it faster, or raise queue.most_connections or queue.deadline_ms of the plugin resilience" }
    /// The host's name does not exist or has no address.
    NameNotFound { name: "dns_failed", room: "upstream", side: Upstream, status: 503, may_have_acted: false, retry: Never,
        phrase: "DNS resolution failed", flag: "DF", tyk: "DNS", proxy_status: "dns_error",
        cure: "check the Service's host and that the resolvers named in dns_resolver know it" }
    /// The resolver failed otherwise.
    ResolverFailed { name: "resolver_failed", room: "upstream", side: Upstream, status: 500, may_have_acted: false, retry: Never,
        phrase: "DNS resolution failed", flag: "DF", tyk: "DNS", proxy_status: "dns_timeout",
        cure: "the resolvers do not answer: check dns_resolver and the network to them" }
    /// Nothing listens there.
    ConnectRefused { name: "connect_refused", room: "upstream", side: Upstream, status: 502, may_have_acted: false, retry: NothingSent,
        phrase: "connect() failed (111: Connection refused)", flag: "UF", tyk: "UCF", proxy_status: "connection_refused",
        cure: "nothing listens on that address and port: is the server up, is the port right?" }
    /// The connection could not be made for another reason.
    ConnectFailed { name: "connect_failed", room: "upstream", side: Upstream, status: 502, may_have_acted: false, retry: NothingSent,
        phrase: "connect() failed", flag: "UF", tyk: "NRH", proxy_status: "destination_ip_unroutable",
        cure: "no way to that address from here: check routes and firewalls" }
    /// The connection was not made in time.
    ConnectTimeout { name: "connect_timeout", room: "upstream", side: Upstream, status: 504, may_have_acted: false, retry: NothingSent,
        phrase: "upstream timed out (110: Connection timed out)", flag: "UF", tyk: "UCT", proxy_status: "connection_timeout",
        cure: "packets are dropped (firewall, wrong address) or the server's accept queue is full; connect_timeout of the Service says how long we waited" }
    /// TLS with the upstream failed.
    UpstreamTlsFailed { name: "upstream_tls_failed", room: "upstream", side: Upstream, status: 502, may_have_acted: false, retry: NothingSent,
        phrase: "SSL_do_handshake() failed", flag: "UF", tyk: "TLH", proxy_status: "tls_protocol_error",
        cure: "the port does not speak TLS (then set the Service's protocol to http), or versions and ciphers do not meet" }
    /// The upstream's certificate was not accepted.
    UpstreamCertificateRejected { name: "upstream_certificate_rejected", room: "upstream", side: Upstream, status: 502,
        may_have_acted: false, retry: NothingSent,
        phrase: "upstream SSL certificate verify error", flag: "UF", tyk: "TLI", proxy_status: "tls_certificate_error",
        cure: "add the issuing CA to lua_ssl_trusted_certificate, or mend the certificate's name or dates" }
    /// The upstream asks for a client certificate, and none was shown.
    UpstreamWantsCertificate { name: "upstream_wants_certificate", room: "upstream", side: Upstream, status: 502, may_have_acted: false,
        retry: NothingSent, phrase: "SSL_do_handshake() failed", flag: "UF", tyk: "TLH", proxy_status: "tls_alert_received",
        cure: "the server lets in only who shows a client certificate, and this version shows none (client_certificate has no effect yet): let the gateway in there without one, or put a proxy that has one between" }
    /// The upstream closed the connection before it answered.
    ClosedBeforeHeaders { name: "closed_before_headers", room: "proxy", side: Upstream, status: 502, may_have_acted: true, retry: Idempotent,
        phrase: "upstream prematurely closed connection", flag: "UC", tyk: "UPE", proxy_status: "connection_terminated",
        cure: "the server (or the load balancer before it) closed without an answer: look for a crash or restart there at that second, or for an idle timeout shorter than upstream_keepalive_idle_timeout" }
    /// The upstream reset the connection before it answered.
    ResetBeforeHeaders { name: "reset", room: "proxy", side: Upstream, status: 502, may_have_acted: true, retry: Idempotent,
        phrase: "recv() failed (104: Connection reset by peer)", flag: "UC", tyk: "URR", proxy_status: "connection_terminated",
        cure: "the server closed while our bytes were still unread: a crash, an overload, or a connection closed as we reused it" }
    /// The request could not be written to the upstream.
    WriteFailed { name: "write_failed", room: "proxy", side: Upstream, status: 502, may_have_acted: true, retry: Idempotent,
        phrase: "writev() failed (32: Broken pipe)", flag: "UC", tyk: "EPI", proxy_status: "connection_terminated",
        cure: "the server closed while the request was being sent: often a body it did not want (413) or a restart" }
    /// The upstream did not take the request in time.
    WriteTimeout { name: "write_timeout", room: "proxy", side: Upstream, status: 504, may_have_acted: true, retry: Idempotent,
        phrase: "upstream timed out (110: Connection timed out)", flag: "UT", tyk: "URT", proxy_status: "connection_write_timeout",
        cure: "the server does not read: it is busy or stuck; write_timeout of the Service says how long we waited" }
    /// The upstream did not answer in time.
    ReadTimeout { name: "read_timeout", room: "proxy", side: Upstream, status: 504, may_have_acted: true, retry: Idempotent,
        phrase: "upstream timed out (110: Connection timed out)", flag: "UT", tyk: "URT", proxy_status: "http_response_timeout",
        cure: "the server took longer than read_timeout of the Service: find what it waits for, or raise the timeout" }
    /// The head of the answer is larger than the buffer for it.
    ResponseHeaderTooLarge { name: "response_header_too_large", room: "proxy", side: Upstream, status: 502, may_have_acted: true, retry: Never,
        phrase: "upstream sent too big header", flag: "UPE", tyk: "UPE", proxy_status: "http_response_header_section_size",
        cure: "the server sends a head of over 64 KiB: look for a cookie or header that grew" }
    /// The head of the answer is malformed or ambiguous.
    BadResponse { name: "bad_response", room: "proxy", side: Upstream, status: 502, may_have_acted: true, retry: Never,
        phrase: "upstream sent invalid header", flag: "UPE", tyk: "UPE", proxy_status: "http_protocol_error",
        cure: "the server writes a head that HTTP does not allow; `detail` says which line" }
    /// What answered does not speak HTTP.
    ProtocolMismatch { name: "protocol_mismatch", room: "proxy", side: Upstream, status: 502, may_have_acted: false, retry: Never,
        phrase: "upstream sent no valid HTTP/1.0 header", flag: "UPE", tyk: "UPE", proxy_status: "http_protocol_error",
        cure: "the port speaks another protocol; `first_bytes` shows what it said (15 03 or 16 03: TLS, then set the Service's protocol to https)" }
    /// Nothing that was sent on a pooled connection arrives any more.
    ConnectionDead { name: "connection_dead", room: "proxy", side: Upstream, status: 504, may_have_acted: true, retry: Idempotent,
        phrase: "upstream timed out (110: Connection timed out)", flag: "UT", tyk: "URT", proxy_status: "connection_timeout",
        cure: "a firewall or NAT between drops idle connections without a word: set upstream_keepalive_idle_timeout below its time" }
    /// The answer's body broke off.
    ClosedInBody { name: "closed_in_body", room: "proxy", side: Upstream, status: 502, may_have_acted: true, retry: Never,
        phrase: "upstream prematurely closed connection", flag: "UC", tyk: "-", proxy_status: "http_response_incomplete",
        cure: "the server broke off in the middle of the body: a crash, a worker timeout there, or a wrong Content-Length" }
    /// The connection was reset in the answer's body.
    ResetInBody { name: "reset_in_body", room: "proxy", side: Upstream, status: 502, may_have_acted: true, retry: Never,
        phrase: "recv() failed (104: Connection reset by peer)", flag: "UC", tyk: "-", proxy_status: "http_response_incomplete",
        cure: "the server broke off in the middle of the body: a crash, or a proxy between that gave up" }
    /// The answer's body stopped coming.
    ReadTimeoutInBody { name: "read_timeout_in_body", room: "proxy", side: Upstream, status: 504, may_have_acted: true, retry: Never,
        phrase: "upstream timed out (110: Connection timed out)", flag: "UT", tyk: "-", proxy_status: "http_response_timeout",
        cure: "the server stopped in the middle of the body for longer than read_timeout of the Service" }
    /// The chunked body of the answer is malformed.
    BadResponseBody { name: "bad_response_body", room: "proxy", side: Upstream, status: 502, may_have_acted: true, retry: Never,
        phrase: "upstream sent invalid chunked response", flag: "UPE", tyk: "-", proxy_status: "http_response_transfer_coding",
        cure: "the server writes chunk sizes that are not hexadecimal numbers followed by CRLF" }
    /// A proxy or server behind answered 502.
    BadGatewayBehind { name: "bad_gateway_behind", room: "proxy", side: Upstream, status: 502, may_have_acted: true, retry: Never,
        phrase: "upstream answered 502", flag: "-", tyk: "URS", proxy_status: "-",
        cure: "this 502 came from behind the gateway: something there got no good answer from its own server; look into the log of who wrote it (`written_by`)" }
    /// A proxy or server behind answered 503.
    UnavailableBehind { name: "unavailable_behind", room: "proxy", side: Upstream, status: 503, may_have_acted: true, retry: Never,
        phrase: "upstream answered 503", flag: "-", tyk: "URS", proxy_status: "-",
        cure: "this 503 came from behind the gateway: no server is available there, or it is overloaded or in maintenance; look at the health of what stands behind who wrote it (`written_by`)" }
    /// A proxy or server behind answered 504.
    TimeoutBehind { name: "timeout_behind", room: "proxy", side: Upstream, status: 504, may_have_acted: true, retry: Never,
        phrase: "upstream answered 504", flag: "-", tyk: "URS", proxy_status: "-",
        cure: "this 504 came from behind the gateway: who wrote it (`written_by`) waited for its own server in vain; find what that server waits for, or raise the timeout there" }
    /// The server answered 500, or another 5xx.
    UpstreamError { name: "upstream_error", room: "proxy", side: Upstream, status: 500, may_have_acted: true, retry: Never,
        phrase: "upstream answered 5xx", flag: "-", tyk: "URS", proxy_status: "-",
        cure: "the server itself failed on this request: look into its log at that second" }
    /// The server says that it was spoken to in the clear on a TLS port.
    PlainHttpToTlsPort { name: "plain_http_to_tls_port", room: "proxy", side: Upstream, status: 400, may_have_acted: false, retry: Never,
        phrase: "upstream answered that it expects TLS", flag: "-", tyk: "-", proxy_status: "-",
        cure: "the port speaks TLS: set the Service's protocol to https" }
    /// A proxy or server behind finds the request's head too large.
    HeaderTooLargeBehind { name: "header_too_large_behind", room: "proxy", side: Upstream, status: 431, may_have_acted: false, retry: Never,
        phrase: "upstream answered that the head of the request is too large", flag: "-", tyk: "-", proxy_status: "-",
        cure: "the request's head passes the gateway's limit and not the one behind: make the largest header smaller (see `largest_header`), or raise the limit there" }
    /// The disk did not take, or give back, what memory should not hold.
    SpoolFailed { name: "spool_failed", room: "proxy", side: Gateway, status: 500, may_have_acted: false, retry: Never,
        phrase: "pwrite() failed", flag: "UAEX", tyk: "-", proxy_status: "proxy_internal_error",
        cure: "the disk that holds PREFIX/spool is full or broken: make room, or raise nginx_http_client_body_buffer_size" }
    /// A filter failed on the way back.
    FilterFailed { name: "filter_failed", room: "response", side: Gateway, status: 500, may_have_acted: true, retry: Never,
        phrase: "plugin failed", flag: "UAEX", tyk: "-", proxy_status: "proxy_internal_error", cure: "see the plugin, phase and line named" }
    /// A bug of ours.
    Panicked { name: "panicked", room: "journey", side: Gateway, status: 500, may_have_acted: true, retry: Never,
        phrase: "the gateway failed", flag: "UAEX", tyk: "-", proxy_status: "proxy_internal_error",
        cure: "a bug of the gateway: report the lines of error.log around this request" }
}

/// One fault of one exchange: its kind and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub kind: FaultKind,
    /// What was found, one line, no secrets; may be empty.
    pub detail: Cow<'static, str>,
    /// nginx's phrase where the kind's own does not fit (an errno, a TLS library's text).
    pub phrase: Option<String>,
}

impl Fault {
    /// A fault with what was found.
    pub fn new(kind: FaultKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Fault { kind, detail: detail.into(), phrase: None }
    }

    /// A fault whose phrase in `error.log` is not the kind's own.
    pub fn with_phrase(kind: FaultKind, detail: impl Into<Cow<'static, str>>, phrase: String) -> Self {
        Fault { kind, detail: detail.into(), phrase: Some(phrase) }
    }

    /// The phrase in `error.log`.
    pub fn phrase(&self) -> &str {
        self.phrase.as_deref().unwrap_or(self.kind.facts().phrase)
    }

    /// The status that answers it.
    pub fn status(&self) -> u16 {
        self.kind.facts().status
    }
}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Self {
        Fault { kind, detail: Cow::Borrowed(""), phrase: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn test_every_fault_has_a_name_of_its_own_a_cure_and_a_phrase() {
        let mut names = HashSet::new();
        for kind in FaultKind::ALL {
            let facts = kind.facts();
            assert!(names.insert(facts.name), "{} twice", facts.name);
            assert!(!facts.cure.is_empty() && !facts.phrase.is_empty());
            assert!(!facts.response_flag.is_empty() && !facts.tyk_flag.is_empty() && !facts.proxy_status.is_empty());
        }
    }

    #[test]
    fn test_every_fault_stands_in_the_table_of_the_walk() {
        let page = include_str!("../../../docs/life-of-a-request.md");
        for kind in FaultKind::ALL {
            let facts = kind.facts();
            let row = format!("| `{}` | {} |", facts.name, facts.side.name());
            assert!(page.contains(&row), "docs/life-of-a-request.md lacks {row}");
        }
    }

    #[test]
    fn test_what_may_have_acted_is_never_retried_blindly() {
        for kind in FaultKind::ALL {
            let facts = kind.facts();
            assert!(!(facts.may_have_acted && facts.retry == Retry::NothingSent), "{}", facts.name);
        }
    }
}
