// SPDX-License-Identifier: Apache-2.0
//! Who wrote this 502? An answer that came broken from behind tells by its fields and the shape of its body what made it.
//!
//! Fields alone say little: most proxies put their name on what they merely pass on. So the body decides where there is one, and
//! fields only where a proxy sets them on nothing but its own answers. Of a body no more is kept than what gave its author away.

use crate::exchange::Exchange;
use crate::fault::{Fault, FaultKind};
use crate::http::head::{Framing, ResponseHead, printable};
use crate::http::headers::Headers;

/// Bytes of a body that are looked at.
pub const BODY_BYTES: usize = 512;
/// Most bytes of what came that go into a mark, and the longest mark.
const QUOTE_BYTES: usize = 60;
const MARK_BYTES: usize = 80;

/// Who wrote an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// `nginx`, `haproxy`, `elb` …; `application`: a body of another shape; `unknown`: nothing tells.
    pub name: &'static str,
    /// What gave it away.
    pub mark: String,
    /// While the body is still to come: what is known until then.
    pending: Option<Box<Pending>>,
}

impl Author {
    /// Somebody, and what gave him away.
    pub fn new(name: &'static str, mark: impl Into<String>) -> Self {
        Author { name, mark: mark.into(), pending: None }
    }
}

/// What waits for a body.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    fields: Fields,
    come: Vec<u8>,
}

/// What the fields of an answer tell of who wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Fields {
    server: Vec<u8>,
    /// `Via` names Google's load balancer.
    is_via_google: bool,
    /// It passed a Kong or a Pylae that did not write it.
    is_via_gateway: bool,
    /// A field that applications set and proxies do not.
    is_of_application: bool,
    /// The body cannot be read.
    is_encoded: bool,
    /// There is none, as the request was a HEAD.
    is_bodyless: bool,
    /// Somebody said in `Proxy-Status` that it failed: who, and in which words.
    proxy_status: Option<(&'static str, String)>,
}

/// Where in a body a shape is looked for.
#[derive(Clone, Copy)]
enum Place {
    Begin,
    Anywhere,
    /// All there is.
    Whole,
}

/// The shapes of bodies. Order matters: the page of nginx is also that of those built on it.
///
/// | author | source |
/// |---|---|
/// | nginx, openresty | nginx 1.22 `src/http/ngx_http_special_response.c`; measured: tests/journey/test_attempt_evidence.py |
/// | haproxy | HAProxy `src/http.c`, `http_err_msgs`; measured likewise |
/// | envoy | Envoy `source/common/router/router.cc`, `source/common/http/utility.cc`, local replies |
/// | traefik | Traefik 3 `pkg/proxy/httputil/proxy.go` (`ErrorHandler`), `pkg/server/service/loadbalancer` (`errNoAvailableServer`) |
/// | apache | Apache 2.4 `modules/http/http_protocol.c`, `ap_send_error_response` |
/// | varnish | Varnish `bin/varnishd/builtin.vcl`, `vcl_backend_error`, `vcl_synth` |
/// | cloudfront | AWS, "HTTP 502 status code" and stackoverflow.com/questions/20664018 (whole answer) |
/// | cloudflare | Cloudflare, "Error 502 or 504": `error code: 502`, or a page that has the status in its title |
/// | google | Google Cloud, external Application Load Balancer: its static 502 page |
/// | azure | Azure Application Gateway (built on nginx) and Front Door |
/// | kong | Kong `kong/error_handlers.lua`, `kong/runloop/handler.lua` |
const SHAPES: [(&str, Place, &str); 24] = [
    ("haproxy", Place::Anywhere, "</h1>\nNo server is available to handle this request.\n"),
    ("haproxy", Place::Anywhere, "</h1>\nThe server returned an invalid or incomplete response.\n"),
    ("haproxy", Place::Anywhere, "</h1>\nThe server didn't respond in time.\n"),
    ("haproxy", Place::Anywhere, "</h1>\nAn internal server error occur"),
    ("haproxy", Place::Anywhere, "</h1>\nYour browser sent an invalid request.\n"),
    ("envoy", Place::Begin, "upstream connect error or disconnect/reset before headers"),
    ("envoy", Place::Whole, "no healthy upstream"),
    ("envoy", Place::Whole, "upstream request timeout"),
    ("azure", Place::Anywhere, "<center>Microsoft-Azure-Application-Gateway"),
    ("azure", Place::Anywhere, "Our services aren't available right now"),
    ("cloudflare", Place::Anywhere, "<center>cloudflare"),
    ("cloudflare", Place::Begin, "error code: 5"),
    ("openresty", Place::Anywhere, "<center>openresty"),
    ("nginx", Place::Anywhere, "<center>nginx"),
    ("cloudfront", Place::Anywhere, "<TITLE>ERROR: The request could not be satisfied</TITLE>"),
    ("varnish", Place::Anywhere, "Guru Meditation"),
    ("varnish", Place::Anywhere, "Guru Mediation"),
    ("apache", Place::Anywhere, "<address>Apache"),
    ("apache", Place::Begin, "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">"),
    ("google", Place::Anywhere, "<h1>Error: Server Error</h1>\n<h2>The server encountered a temporary error"),
    ("kong", Place::Anywhere, "An invalid response was received from the upstream server"),
    ("kong", Place::Anywhere, "The upstream server is currently unavailable"),
    ("kong", Place::Anywhere, "The upstream server is timing out"),
    ("kong", Place::Anywhere, "failure to get a peer from the ring-balancer"),
];

/// Bodies of Traefik: the bare words of the status, without an end of line, as no other server writes them.
const TRAEFIK: [&str; 5] = ["Bad Gateway", "Service Unavailable", "Gateway Timeout", "no available server", "no available server\n"];

/// Servers that put their name into `Server` of nothing but their own answers.
const SERVERS: [(&str, &str); 6] = [
    ("awselb/", "elb"),
    ("CloudFront", "cloudfront"),
    ("Microsoft-Azure-Application-Gateway", "azure"),
    ("Varnish", "varnish"),
    ("pylae/", "pylae"),
    ("kong/", "kong"),
];

/// Fields that applications set, and proxies do not.
const APPLICATION_FIELDS: [&str; 4] = ["x-powered-by", "etag", "x-aspnet-version", "x-runtime"];
/// Servers that run applications and stand before nothing else.
const APPLICATION_SERVERS: [&str; 14] = [
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "daphne",
    "waitress",
    "Werkzeug",
    "WSGIServer",
    "TornadoServer",
    "BaseHTTP",
    "Kestrel",
    "Jetty",
    "Apache-Coyote",
    "WildFly",
    "akka-http",
];

/// Names that a member of `Proxy-Status` may go by.
const PROXIES: [(&str, &str); 13] = [
    ("pylae", "pylae"),
    ("kong", "kong"),
    ("openresty", "openresty"),
    ("nginx", "nginx"),
    ("haproxy", "haproxy"),
    ("envoy", "envoy"),
    ("cloudflare", "cloudflare"),
    ("cloudfront", "cloudfront"),
    ("varnish", "varnish"),
    ("traefik", "traefik"),
    ("caddy", "caddy"),
    ("google", "google"),
    ("apache", "apache"),
];

/// What servers say to a request in the clear on a port where they speak TLS: nginx (and those built on it), Go, Apache, Tomcat.
const PLAIN_HTTP: [&str; 4] = [
    "The plain HTTP request was sent to HTTPS port",
    "Client sent an HTTP request to an HTTPS server",
    "speaking plain HTTP to an SSL-enabled server port",
    "This combination of host and port requires TLS",
];

/// What they say to a head that is too large, where they answer 400: nginx, Kong, Apache, Windows (http.sys), Tomcat.
const HEADER_TOO_LARGE: [&str; 5] = [
    "Request Header Or Cookie Too Large",
    "Request header or cookie too large",
    "Size of a request header field exceeds server limit",
    "Bad Request - Request Too Long",
    "Request header is too large",
];

/// What nginx says to who shows no client certificate (`ssl_verify_client on`): it shakes hands, and answers 400.
const CERTIFICATE_WANTED: &str = "No required SSL certificate was sent";

/// Is an answer of this status worth a look?
pub const fn is_telling(status: u16) -> bool {
    status >= 500 || matches!(status, 400 | 413 | 414 | 421 | 431 | 494..=497)
}

/// An answer's head came, and with it what is in `buffered`: keeps who wrote it, and what it tells of, if it is worth it.
pub fn head_came(exchange: &mut Exchange, head: &ResponseHead, buffered: &[u8]) {
    let method = exchange.upstream.method.as_deref().unwrap_or(&exchange.request.method);
    let mut fields = Fields::of(&head.headers);
    // What there is of the body, and whether that is enough.
    let (body, is_enough) = match head.framing {
        _ if method == "HEAD" => {
            fields.is_bodyless = true;
            (&b""[..], true)
        }
        Framing::None => (&b""[..], true),
        Framing::Length(length) => {
            let body = &buffered[..buffered.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
            (body, body.len() as u64 == length)
        }
        Framing::Chunked => (first_chunk(buffered).unwrap_or_default(), false),
        Framing::UntilClose => (buffered, false),
    };
    let is_enough = is_enough || body.len() >= BODY_BYTES;
    let (name, mark) = judge(head.status, &fields, body);
    note(exchange, head.status, name, &mark, body);
    let pending = (!is_enough).then(|| Box::new(Pending { fields, come: Vec::new() }));
    exchange.author = Some(Author { name, mark, pending });
}

/// Is the body still to tell who wrote the answer?
pub fn is_body_wanted(exchange: &Exchange) -> bool {
    exchange.author.as_ref().is_some_and(|author| author.pending.is_some())
}

/// A piece of the body came, decoded, and nothing after it if `is_last`. Is the next one wanted too?
pub fn body_came(exchange: &mut Exchange, piece: &[u8], is_last: bool) -> bool {
    let Some(author) = exchange.author.as_mut() else { return false };
    let Some(mut pending) = author.pending.take() else { return false };
    let Some(status) = exchange.response.as_ref().and_then(|response| response.status_of_upstream) else { return false };
    pending.come.extend_from_slice(&piece[..piece.len().min(BODY_BYTES - pending.come.len())]);
    if pending.come.len() < BODY_BYTES && !is_last {
        author.pending = Some(pending);
        return true;
    }
    let Pending { fields, come } = *pending;
    let (name, mark) = judge(status, &fields, &come);
    note(exchange, status, name, &mark, &come);
    exchange.author = Some(Author::new(name, mark));
    false
}

fn note(exchange: &mut Exchange, status: u16, name: &'static str, mark: &str, body: &[u8]) {
    exchange.noticed = kind_of(status, name, body).map(|kind| Fault::new(kind, format!("{status} written by {name}: {mark}")));
}

/// What an answer of this status tells of, if it does.
fn kind_of(status: u16, author: &str, body: &[u8]) -> Option<FaultKind> {
    let says = |texts: &[&str]| texts.iter().any(|text| contains(head_of(body), text));
    match status {
        522 | 524 if author == "cloudflare" => Some(FaultKind::TimeoutBehind),
        520..=527 | 530 if author == "cloudflare" => Some(FaultKind::BadGatewayBehind),
        502..=504 if author == "application" => Some(FaultKind::UpstreamError),
        502 => Some(FaultKind::BadGatewayBehind),
        503 => Some(FaultKind::UnavailableBehind),
        504 => Some(FaultKind::TimeoutBehind),
        500.. => Some(FaultKind::UpstreamError),
        431 | 494 => Some(FaultKind::HeaderTooLargeBehind),
        496 => Some(FaultKind::UpstreamWantsCertificate),
        497 => Some(FaultKind::PlainHttpToTlsPort),
        400 | 413 | 414 | 421 | 495 if says(&PLAIN_HTTP) => Some(FaultKind::PlainHttpToTlsPort),
        400 | 413 | 414 | 421 | 495 if says(&HEADER_TOO_LARGE) => Some(FaultKind::HeaderTooLargeBehind),
        400 | 421 | 495 if says(&[CERTIFICATE_WANTED]) => Some(FaultKind::UpstreamWantsCertificate),
        _ => None,
    }
}

impl Fields {
    fn of(headers: &Headers) -> Self {
        let value = |name: &str| headers.get(name).unwrap_or_default();
        let via = value("via");
        Fields {
            server: value("server").to_vec(),
            is_via_google: contains(via, "google"),
            is_via_gateway: contains(via, "kong") || contains(via, "pylae"),
            is_of_application: APPLICATION_FIELDS.iter().any(|field| headers.contains(field))
                || APPLICATION_SERVERS.iter().any(|name| starts_with(value("server"), name)),
            is_encoded: headers.get("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")),
            is_bodyless: false,
            proxy_status: headers.get_all("proxy-status").find_map(failed_proxy),
        }
    }

    fn is_server(&self, name: &str) -> bool {
        starts_with(&self.server, name)
    }

    /// `server: nginx/1.22.1`
    fn server_mark(&self) -> String {
        format!("server: {}", printable(&self.server, QUOTE_BYTES))
    }
}

/// The member of `Proxy-Status` that says that it failed: who has an `error` to tell made the answer (RFC 9209 §2.1.1).
fn failed_proxy(value: &[u8]) -> Option<(&'static str, String)> {
    value.split(|&byte| byte == b',').rev().find(|member| contains(member, "error=")).map(|member| {
        let text = String::from_utf8_lossy(member).to_ascii_lowercase();
        let id = text.split(';').next().unwrap_or_default();
        let name = PROXIES.iter().find(|(part, _)| id.contains(part)).map_or("unknown", |(_, name)| *name);
        (name, format!("proxy-status: {}", printable(member.trim_ascii(), QUOTE_BYTES)))
    })
}

/// Who wrote an answer with such fields and a body that begins so; and what gave it away.
fn judge(status: u16, fields: &Fields, body: &[u8]) -> (&'static str, String) {
    let (name, mut mark) = judged(status, fields, body);
    // Printable is ASCII.
    mark.truncate(MARK_BYTES);
    (name, mark)
}

fn judged(status: u16, fields: &Fields, body: &[u8]) -> (&'static str, String) {
    if let Some((name, mark)) = &fields.proxy_status {
        return (name, mark.clone());
    }
    if let Some((_, name)) = SERVERS.iter().find(|(server, _)| fields.is_server(server)) {
        // What passed another of our kind bears its name in `Via`, and the server's own in `Server`.
        if !fields.is_via_gateway {
            return (name, fields.server_mark());
        }
    }
    let server = |name: &'static str| (name, fields.server_mark());
    if fields.is_server("cloudflare") && matches!(status, 520..=527 | 530) {
        return ("cloudflare", format!("status {status}, which it alone uses"));
    }
    if fields.is_encoded {
        return ("unknown", "its body is compressed".to_owned());
    }
    if body.is_empty() {
        return match () {
            () if fields.is_bodyless => ("unknown", "the answer to a HEAD has no body to tell by".to_owned()),
            // It writes none with what it answers itself.
            () if fields.is_server("Caddy") && matches!(status, 502..=504) => server("caddy"),
            () => ("unknown", "an empty body".to_owned()),
        };
    }
    let head = head_of(body);
    let is_text = |text: &str| body == text.as_bytes();
    let shape = SHAPES.iter().find(|(_, place, text)| match place {
        Place::Begin => head.starts_with(text.as_bytes()),
        Place::Anywhere => contains(head, text),
        Place::Whole => is_text(text),
    });
    if let Some((name, _, text)) = shape.filter(|_| fields.is_of_application) {
        let quoted = printable(text.trim().as_bytes(), 24);
        return ("application", format!("fields of an application, around the words of {name}: {quoted}"));
    }
    if let Some((name, _, text)) = shape {
        let name = match *name {
            // Google's newer load balancers are Envoys.
            "envoy" if fields.is_via_google => "google",
            // Pylae says what Kong says.
            "kong" if fields.is_server("pylae/") => "pylae",
            // Its controller hides the field, which nginx itself always sends.
            "nginx" if fields.server.is_empty() => "kubernetes_ingress",
            name => name,
        };
        let bare = if name == "kubernetes_ingress" { ", and no server field" } else { "" };
        return (name, format!("body: {}{bare}", printable(text.trim().as_bytes(), QUOTE_BYTES)));
    }
    if fields.is_server("cloudflare") && contains(head, &format!("| {status}: ")) {
        return ("cloudflare", format!("its title names status {status}"));
    }
    if fields.server.is_empty() && !fields.is_of_application && TRAEFIK.into_iter().any(is_text) {
        return ("traefik", format!("body: the bare words `{}`, and no server field", printable(body.trim_ascii_end(), QUOTE_BYTES)));
    }
    if matches!(status, 502..=504) && !fields.is_of_application {
        // An application that answers so, or the page that somebody made for a proxy: both look like this.
        return ("unknown", "a body that no known proxy writes, and no field of an application".to_owned());
    }
    ("application", "a body that no known proxy writes".to_owned())
}

fn starts_with(value: &[u8], name: &str) -> bool {
    value.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name.as_bytes()))
}

fn head_of(body: &[u8]) -> &[u8] {
    &body[..body.len().min(BODY_BYTES)]
}

fn contains(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

/// What has come of the data of the first chunk; `None`: nothing.
fn first_chunk(buffered: &[u8]) -> Option<&[u8]> {
    let line = memchr::memchr(b'\n', &buffered[..buffered.len().min(64)])?;
    let digits = buffered[..line].split(|byte| !byte.is_ascii_hexdigit()).next()?;
    let length = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    let data = &buffered[line + 1..];
    Some(&data[..data.len().min(length)])
}

#[cfg(test)]
mod tests;
