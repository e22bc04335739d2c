// SPDX-License-Identifier: Apache-2.0
//! Are the answers of servers told apart, and is nobody blamed for what he only passed on?

use super::*;

fn fields(pairs: &[(&str, &str)]) -> Fields {
    let mut headers = Headers::new();
    for (name, value) in pairs {
        headers.add(*name, *value);
    }
    Fields::of(&headers)
}

fn author(status: u16, pairs: &[(&str, &str)], body: &str) -> &'static str {
    judge(status, &fields(pairs), body.as_bytes()).0
}

const NGINX: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n\
                     <hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n";
const HAPROXY: &str = "<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>\n";

#[test]
fn test_proxies_are_told_by_the_shape_of_their_bodies() {
    let elb = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>";
    let apache = "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">\n<html><head>\n<title>502 Proxy Error</title>\n</head><body>\n\
                  <h1>Proxy Error</h1>\n<p>The proxy server received an invalid\r\nresponse from an upstream server.<br />\r\n";
    let varnish = "<!DOCTYPE html>\n<html>\n  <head>\n    <title>503 Backend fetch failed</title>\n  </head>\n  <body>\n    \
                   <h1>Error 503 Backend fetch failed</h1>\n    <p>Backend fetch failed</p>\n    <h3>Guru Meditation:</h3>\n";
    let google = "\n<html><head>\n<meta http-equiv=\"content-type\" content=\"text/html;charset=utf-8\">\n<title>502 Server Error</title>\n\
                  </head>\n<body text=#000000 bgcolor=#ffffff>\n<h1>Error: Server Error</h1>\n<h2>The server encountered a temporary error \
                  and could not complete your request.<p>Please try again in 30 seconds.</h2>\n";
    let cloudfront = "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01 Transitional//EN\" \"http://www.w3.org/TR/html4/loose.dtd\">\n<HTML>\
                      <HEAD><META HTTP-EQUIV=\"Content-Type\" CONTENT=\"text/html; charset=iso-8859-1\">\n<TITLE>ERROR: The request could \
                      not be satisfied</TITLE>\n";
    let azure = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr>\
                 <center>Microsoft-Azure-Application-Gateway/v2</center>\r\n</body>\r\n</html>\r\n";
    let kong = "{\n  \"message\":\"An invalid response was received from the upstream server\",\n  \"request_id\":\"0\"\n}";
    let reset = "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
    for (status, pairs, body, expected) in [
        (502, &[("Server", "nginx/1.22.1")][..], NGINX, "nginx"),
        (502, &[("Server", "openresty/1.25")][..], &NGINX.replace("nginx/1.22.1", "openresty/1.25")[..], "openresty"),
        (502, &[][..], NGINX, "kubernetes_ingress"),
        (503, &[][..], HAPROXY, "haproxy"),
        (503, &[("server", "envoy")][..], reset, "envoy"),
        (503, &[("server", "istio-envoy")][..], "no healthy upstream", "envoy"),
        (503, &[("via", "1.1 google")][..], "no healthy upstream", "google"),
        (502, &[("Server", "awselb/2.0")][..], elb, "elb"),
        (502, &[("Server", "CloudFront"), ("Via", "1.1 x.cloudfront.net (CloudFront)")][..], cloudfront, "cloudfront"),
        (502, &[][..], cloudfront, "cloudfront"),
        (502, &[("Server", "cloudflare"), ("CF-RAY", "8-FRA")][..], "error code: 502", "cloudflare"),
        (502, &[("Server", "cloudflare")][..], "<!DOCTYPE html>\n<title>a.test | 502: Bad gateway</title>", "cloudflare"),
        (522, &[("Server", "cloudflare")][..], "", "cloudflare"),
        (502, &[("Content-Type", "text/plain; charset=utf-8")][..], "Bad Gateway", "traefik"),
        (503, &[][..], "no available server\n", "traefik"),
        (502, &[("Server", "Apache/2.4.57 (Debian)")][..], apache, "apache"),
        (503, &[("Server", "Varnish"), ("X-Varnish", "7")][..], varnish, "varnish"),
        (502, &[][..], google, "google"),
        (502, &[("Server", "Microsoft-Azure-Application-Gateway/v2")][..], azure, "azure"),
        (502, &[("Server", "kong/3.9.1")][..], kong, "kong"),
        (502, &[("Server", "pylae/0.1.0")][..], kong, "pylae"),
        (502, &[("Server", "Caddy")][..], "", "caddy"),
    ] {
        assert_eq!(author(status, pairs, body), expected, "{status} {pairs:?} {body}");
    }
}

#[test]
fn test_who_passes_an_answer_on_did_not_write_it() {
    let json = "{\"error\": \"database is locked\"}";
    for pairs in [
        &[("Server", "nginx/1.22.1")][..],
        &[("Server", "envoy"), ("X-Envoy-Upstream-Service-Time", "3")][..],
        &[("Server", "cloudflare"), ("CF-RAY", "8-FRA")][..],
        &[("Via", "1.1 varnish"), ("X-Varnish", "7")][..],
        &[][..],
    ] {
        assert_eq!(author(500, pairs, json), "application", "{pairs:?}");
        // An application may say so, or a proxy that was given a page of its own.
        assert_eq!(author(502, pairs, json), "unknown", "{pairs:?}");
    }
    for pairs in [&[("Via", "1.1 kong/3.9.1"), ("Server", "gunicorn")][..], &[("Server", "nginx"), ("X-Runtime", "0.1")][..]] {
        assert_eq!(author(503, pairs, json), "application", "{pairs:?}");
    }
    // What another Kong passed on from a Kong behind it.
    assert_eq!(author(500, &[("Server", "kong/3.9.1"), ("Via", "1.1 kong/3.9.1")], json), "application");
    assert_eq!(author(502, &[("X-Powered-By", "Express"), ("ETag", "W/\"b\"")], "Bad Gateway"), "application");
    assert_eq!(author(502, &[], "Bad Gateway\n"), "unknown", "as Go's http.Error writes it");
    assert_eq!(author(502, &[("Server", "gunicorn")], "no healthy upstream for tenant 7"), "application");
    let haproxy = "<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>";
    assert_eq!(author(503, &[("X-Powered-By", "Express"), ("ETag", "W/\"b\"")], haproxy), "application", "it passes a page on");
    assert_eq!(author(503, &[], haproxy), "haproxy");
    let kong = "{\"message\":\"An invalid response was received from the upstream server\"}";
    assert_eq!(author(502, &[("Server", "pylae/0.1.0"), ("Via", "1.1 pylae/0.1.0")], kong), "pylae");
}

#[test]
fn test_what_cannot_be_told_is_unknown() {
    let gzip = ("Content-Encoding", "gzip");
    assert_eq!(author(502, &[("Server", "nginx"), gzip], "\x1f"), "unknown");
    assert_eq!(author(502, &[("Server", "nginx")], ""), "unknown");
    assert_eq!(author(503, &[], ""), "unknown");
    let page = "<!doctype html><title>We will be back</title>";
    assert_eq!(author(503, &[("Server", "nginx")], page), "unknown", "of nginx's administrator, or of the application behind it");
    assert_eq!(author(503, &[("Server", "gunicorn")], page), "application");
}

#[test]
fn test_proxy_status_names_who_failed() {
    let of = |value: &str| judge(504, &fields(&[("Proxy-Status", value)]), NGINX.as_bytes());
    assert_eq!(of("edge.test-nginx; error=connection_timeout").0, "nginx");
    assert_eq!(of("HAProxy;error=http_response_timeout, cdn.test").0, "haproxy");
    assert_eq!(of("cdn.test; error=dns_error"), ("unknown", "proxy-status: cdn.test; error=dns_error".to_owned()));
    assert_eq!(
        author(502, &[("Proxy-Status", "cdn.test; received-status=502"), ("Server", "nginx")], NGINX),
        "nginx",
        "it only passed it on"
    );
}

#[test]
fn test_kinds_go_by_status_author_and_what_the_body_says() {
    use FaultKind::*;
    let kind = |status: u16, body: &str| {
        let (name, _) = judge(status, &fields(&[("Server", "nginx")]), body.as_bytes());
        kind_of(status, name, body.as_bytes())
    };
    assert_eq!(kind(502, NGINX), Some(BadGatewayBehind));
    assert_eq!(kind(503, HAPROXY), Some(UnavailableBehind));
    assert_eq!(kind(504, ""), Some(TimeoutBehind));
    assert_eq!(kind(502, "{}"), Some(BadGatewayBehind));
    assert_eq!(kind_of(503, author(503, &[("Server", "gunicorn")], "{}"), b"{}"), Some(UpstreamError));
    assert_eq!(kind(500, NGINX), Some(UpstreamError));
    assert_eq!(kind(599, ""), Some(UpstreamError));
    assert_eq!(kind(431, ""), Some(HeaderTooLargeBehind));
    assert_eq!(kind(400, "{\"message\": \"name is missing\"}"), None);
    assert_eq!(kind(413, "too large"), None);
    let nginx = |title: &str| format!("<html>\r\n<head><title>400 {title}</title></head>\r\n");
    assert_eq!(kind(400, &nginx("The plain HTTP request was sent to HTTPS port")), Some(PlainHttpToTlsPort));
    assert_eq!(kind(400, "Client sent an HTTP request to an HTTPS server.\n"), Some(PlainHttpToTlsPort));
    assert_eq!(kind(400, "Bad Request\r\nThis combination of host and port requires TLS.\r\n"), Some(PlainHttpToTlsPort));
    assert_eq!(kind(400, &nginx("Request Header Or Cookie Too Large")), Some(HeaderTooLargeBehind));
    assert_eq!(kind(400, &nginx("No required SSL certificate was sent")), Some(UpstreamWantsCertificate));
    let cloudflare = |status: u16| kind_of(status, author(status, &[("Server", "cloudflare")], ""), b"");
    assert_eq!((cloudflare(522), cloudflare(521)), (Some(TimeoutBehind), Some(BadGatewayBehind)));
}

#[test]
fn test_good_answers_cost_nothing() {
    assert!([200, 204, 301, 304, 401, 403, 404, 409, 422, 429].into_iter().all(|status| !is_telling(status)));
    assert!([400, 413, 431, 494, 497, 500, 502, 503, 504, 599].into_iter().all(is_telling));
}

#[test]
fn test_marks_are_short_and_printable_whatever_comes() {
    let long = "x".repeat(5000);
    for body in [NGINX, HAPROXY, &long, "\x1b[2J\0\u{7f}é"] {
        for server in ["", "nginx\x1b[31m", "awselb/\u{1}", &long] {
            let (_, mark) = judge(502, &fields(&[("Server", server), ("Via", &long)]), body.as_bytes());
            assert!(mark.len() <= MARK_BYTES && mark.is_ascii(), "{mark}");
            assert!(mark.chars().all(|c| !c.is_control()), "{mark}");
        }
    }
}

#[test]
fn test_the_first_chunk_is_found_where_it_has_come() {
    assert_eq!(first_chunk(b"5\r\nhello\r\n0\r\n\r\n"), Some(&b"hello"[..]));
    assert_eq!(first_chunk(b"a;x=y\r\nhel"), Some(&b"hel"[..]));
    for bytes in [&b""[..], b"5", b"5\r", b"zz\r\nhello", b"\r\n", b"ffffffffffffffffff\r\nx"] {
        assert_eq!(first_chunk(bytes), None, "{bytes:?}");
    }
}
