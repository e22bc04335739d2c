# SPDX-License-Identifier: Apache-2.0
"""What did workers see of answers that somebody may only have passed on?"""

from __future__ import annotations

from pylae.explain.examples import attempt, record
from tests.unit.explain.golden.base import Golden, behind

_HTML = "text/html"
_JSON = "application/json; charset=utf-8"


def _passed_on(fault: str, finding: str, *says: str, **given: object) -> Golden:
    """By a load balancer that was well itself: it keeps the connection, or had shaken hands."""
    answer = {"written_by": "nginx", "mark": "body: <center>nginx", "server": "nginx", "content_type": _HTML}
    one = attempt(None, status=400, head_ms=3.0, **given)
    return Golden(fault, finding, "second_lb", "thin", record(fault, one, status=400, answer=answer), says)


GOLDEN: tuple[Golden, ...] = (
    _passed_on("plain_http_to_tls_port", "plain_http_to_tls_behind", "proxy_pass https", "it keeps the connection", ended="kept"),
    _passed_on("plain_http_to_tls_port", "plain_http_to_tls_behind", "protocol=https", reused=4, ended="closed by us"),
    _passed_on(
        "plain_http_to_tls_port", "plain_http_to_tls_behind", "we spoke TLS", tls_ms=1.0, tls={"version": "TLSv1.3"}, ended="fin"
    ),
    _passed_on(
        "upstream_wants_certificate", "client_certificate_wanted_behind", "plain HTTP", "proxy_ssl_certificate", ended="fin"
    ),
    _passed_on(
        "upstream_wants_certificate",
        "client_certificate_wanted_behind",
        "keeps",
        tls_ms=1.0,
        tls={"version": "TLSv1.3"},
        ended="kept",
    ),
    # A page that an application met, and handed on or quoted.
    behind(
        "bad_gateway_behind",
        502,
        "kubernetes_ingress",
        "body: <center>nginx, and no server field",
        "bad_gateway_of_load_balancer",
        "second_lb",
        "thin",
        server=None,
    ),
    behind(
        "bad_gateway_behind",
        502,
        "kubernetes_ingress",
        "body: <center>nginx, and no server field",
        "bad_gateway_of_unknown",
        "upstream",
        "thin",
        "quotes a page",
        server=None,
        content_type=_JSON,
    ),
    behind(
        "bad_gateway_behind",
        502,
        "kong",
        "body: An invalid",
        "bad_gateway_of_load_balancer",
        "second_lb",
        "thin",
        server=None,
        content_type=_JSON,
    ),
    behind(
        "bad_gateway_behind",
        502,
        "kong",
        "body: An invalid",
        "bad_gateway_of_load_balancer",
        "second_lb",
        "sure",
        server="kong/3.9.1",
        content_type=_JSON,
    ),
    behind(
        "bad_gateway_behind",
        502,
        "cloudflare",
        "body: error code: 5",
        "bad_gateway_of_load_balancer",
        "second_lb",
        "thin",
        server=None,
        content_type="text/plain",
    ),
    behind(
        "bad_gateway_behind",
        502,
        "haproxy",
        "body: </h1>",
        "bad_gateway_of_load_balancer",
        "second_lb",
        "thin",
        server="gunicorn",
    ),
    behind(
        "unavailable_behind",
        503,
        "varnish",
        "body: Guru Mediation",
        "unavailable_of_load_balancer",
        "second_lb",
        "sure",
        server=None,
        via="1.1 varnish",
    ),
    # What 503 means depends on who says it.
    behind(
        "unavailable_behind",
        503,
        "nginx",
        "body: <center>nginx",
        "unavailable_of_load_balancer",
        "second_lb",
        "sure",
        "limit_req",
        "it would answer 502",
    ),
    behind(
        "unavailable_behind",
        503,
        "apache",
        "body: <address>Apache",
        "unavailable_of_load_balancer",
        "second_lb",
        "thin",
        "mod_proxy",
        server="Apache/2.4.57",
    ),
    behind(
        "unavailable_behind",
        503,
        "unknown",
        None,
        "unavailable_of_unknown",
        "upstream",
        "thin",
        "limits requests",
        "`30`",
        retry_after="30",
    ),
    # Whose error is a 5xx under a proxy's name?
    behind("upstream_error", 500, "application", "a body", "error_of_application", "upstream", "thin", server="nginx/1.22.1"),
    behind(
        "upstream_error", 508, "application", "a body", "error_of_application", "upstream", "sure", "a loop", server="gunicorn"
    ),
)
