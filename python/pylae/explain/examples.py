# SPDX-License-Identifier: Apache-2.0
"""What does a worker record of each fault? One example for each, of which the manual shows the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ADMIN_URL: Final = "http://localhost:8001"
Record = Mapping[str, Any]


def attempt(fault: str | None = None, **given: Any) -> dict[str, Any]:
    """A fresh connection that was made in 0.4 ms, and on which a whole request was sent."""
    return {
        "host": "10.0.0.7",
        "address": "10.0.0.7:8080",
        "offset_ms": 0.4,
        "dns": {"state": "literal"},
        "connect_ms": 0.4,
        "reused": None,
        "sent_bytes": 412,
        "request_bytes": 412,
        "received_bytes": 0,
        "sent_ms": 0.6,
        "fault": fault,
        **given,
    }


def unconnected(fault: str, **given: Any) -> dict[str, Any]:
    """A try that made no connection."""
    return attempt(fault, **{"connect_ms": None, "sent_bytes": 0, "sent_ms": None, **given})


def pooled(fault: str, **given: Any) -> dict[str, Any]:
    """A request sent on a pooled connection."""
    return attempt(fault, **{"connect_ms": None, "reused": 12, "idle_ms": 4998.0, "age_ms": 61_000.0, "sent_ms": 0.1, **given})


def service(**changes: Any) -> dict[str, Any]:
    """The Service `orders`."""
    return {
        "id": "e9b28e0a-5c39-46ad-bfa7-34e3eed3b872",
        "name": "orders",
        "host": "10.0.0.7",
        "port": 8080,
        "protocol": "http",
        "connect_timeout_ms": 60_000,
        "write_timeout_ms": 60_000,
        "read_timeout_ms": 60_000,
        "retries": 5,
        **changes,
    }


def request(**changes: Any) -> dict[str, Any]:
    """`GET /orders` of a browser."""
    return {
        "line": "GET /orders HTTP/1.1",
        "method": "GET",
        "scheme": "http",
        "host": "shop.test",
        "path": "/orders",
        "query": ["id"],
        "version": "1.1",
        "received_bytes": 320,
        "head_bytes": 320,
        "largest_header": {"name": "Cookie", "bytes": 120},
        "header_limit_bytes": 8192,
        "head_limit_bytes": 32_768,
        "headers": [["Host", "shop.test"], ["User-Agent", "curl/8.5"], ["Cookie", None]],
        **changes,
    }


def record(fault: str | None, *attempts: Record, **given: Any) -> dict[str, Any]:
    """A record of one failed request to the Service `orders`."""
    return {
        "time": "2026-11-25T02:00:00.000Z",
        "request_id": "d01c2cdd22b4031d87ceda7ee2826559",
        "kind": "failed",
        "status": 502,
        "fault": fault,
        "request": request(),
        "client": {"ip": "192.0.2.9", "peer": "192.0.2.9:50000", "is_trusted": False},
        "route": {"id": "747b8462-164f-4b9c-ab52-68c4432ad8b3", "name": "orders", "protocols": ["http", "https"]},
        "service": service(),
        "attempts": list(attempts),
        "duration_ms": 12.0,
        **given,
    }


def _behind(fault: str, status: int, author: str, mark: str, **answer: Any) -> Record:
    answered = {"written_by": author, "mark": mark, "content_type": "text/html", **answer}
    return record(fault, attempt(None, status=status, head_ms=3.0, received_bytes=312), status=status, answer=answered)


def _plugin(fault: str, **step: Any) -> Record:
    one = {"phase": "access", "took_us": 120.0, "id": "0b7c4f0e-2a9c-4c0b-8a52-0d5ab8d2b1a3", **step}
    return record(fault, status=one.get("status", 500), plugins=[one], plugin=one["name"], answered_by="plugin")


_TLS: Final = {
    "host": "api.test",
    "address": "10.0.0.7:443",
    "sent_bytes": 0,
    "sent_ms": None,
    "dns": {"state": "fresh", "age_ms": 3000.0},
}
_API: Final = service(host="api.test", port=443, protocol="https", tls_verify=True)
_CERTIFICATE: Final = {
    "sni": "api.test",
    "verified": False,
    "subject": "CN=api.test",
    "issuer": "CN=R11, O=Let's Encrypt",
    "names": ["api.test"],
    "not_after": "2026-11-20T00:00:00Z",
}

_ALL: Final[tuple[Record, ...]] = (
    record("too_many_connections", status=None, service=None, route=None),
    record("client_tls_failed", status=None, service=None, route=None, detail="no shared cipher"),
    record("bad_framing", status=400, service=None, route=None, detail="Content-Length and Transfer-Encoding are both there"),
    record("bad_request_body", status=400, detail="a chunk size is no hexadecimal number"),
    record(
        "request_header_too_large",
        status=494,
        service=None,
        route=None,
        request=request(largest_header={"name": "Cookie", "bytes": 9014}, head_bytes=9300),
    ),
    record("uri_too_long", status=414, service=None, route=None, request=request(received_bytes=9000)),
    record("request_body_too_large", status=413, request=request(headers=[["Content-Length", "52428800"]])),
    record("request_timeout", status=408, duration_ms=60_001.0, detail="the client stopped sending its body"),
    record("method_not_allowed", status=405, service=None, route=None, request=request(method="TRACE", line="TRACE / HTTP/1.1")),
    record("version_not_supported", status=505, service=None, route=None, request={"line": "PRI * HTTP/2.0"}),
    record(
        "transfer_encoding_not_supported",
        status=501,
        service=None,
        route=None,
        detail=("Transfer-Encoding is not `chunked` alone"),
    ),
    record(
        "client_gone",
        attempt(None, ended="closed: client gone"),
        status=499,
        duration_ms=60_003.0,
        client={
            "ip": "192.0.2.9",
            "peer": "10.1.0.2:40000",
            "is_trusted": True,
            "forwarded_for_count": 1,
            "departed_after_ms": 60_002.1,
        },
    ),
    record("no_route", status=404, route=None, service=None),
    record("https_required", status=426),
    record("no_service", status=503, service=None),
    _plugin("plugin_refused", name="key-auth", outcome="answered", status=401),
    _plugin("plugin_failed", name="my-plugin", outcome="failed", detail="KeyError: 'x-tenant' (handler.py:12)"),
    _plugin(
        "identity_system_failed", name="ldap-auth", outcome="failed", detail="LDAP server ldap://10.0.0.1:389: connection refused"
    ),
    record("circuit_open", status=503, detail="5 of 5 requests failed: read_timeout"),
    record("queue_full", status=503, detail="100 requests wait, and 10 are in flight"),
    record("queue_timeout", status=503, detail="waited 500 ms; 10 requests are in flight, and 3 others wait"),
    record("no_healthy_target", status=503, upstream={"name": "pool", "targets": 2, "candidates": 2, "healthy": 0}),
    record("dns_failed", status=503, service=service(host="api.tset"), detail="api.tset: dns server error: 3 name error"),
    record(
        "resolver_failed",
        status=500,
        service=service(host="api.test"),
        detail="api.test: failed to receive reply from UDP server 10.0.0.53:53: timeout",
    ),
    record("connect_refused", unconnected("connect_refused", ended="refused")),
    record("connect_failed", unconnected("connect_failed", ended="failed", detail="113: No route to host")),
    record(
        "connect_timeout",
        unconnected("connect_timeout", ended="timeout: connect", timer={"name": "connect_timeout", "ms": 60_000}),
        status=504,
        duration_ms=60_002.0,
    ),
    record("upstream_tls_failed", attempt("upstream_tls_failed", **_TLS, first_bytes="HTTP/1.1 400 Bad Request"), service=_API),
    record(
        "upstream_certificate_rejected",
        attempt("upstream_certificate_rejected", **_TLS, tls=_CERTIFICATE, detail="10:certificate has expired"),
        service=_API,
    ),
    record(
        "upstream_wants_certificate",
        attempt("upstream_wants_certificate", **_TLS, tls={"alert": "received: certificate_required", "sni": "api.test"}),
        service=_API,
    ),
    record(
        "closed_before_headers",
        pooled(
            "closed_before_headers",
            ended="fin",
            idle_limit_ms=5000.0,
            our_idle_limit_ms=60_000.0,
            again="not sent again: the upstream may have acted on it, and the method is none that may be repeated",
        ),
        request=request(line="POST /orders HTTP/1.1", method="POST"),
        duration_ms=1.4,
    ),
    record("reset", attempt("reset", ended="rst"), duration_ms=830.0),
    record("write_failed", attempt("write_failed", ended="rst", sent_bytes=131_072, request_bytes=5_242_880), duration_ms=40.0),
    record(
        "write_timeout",
        attempt(
            "write_timeout",
            ended="timeout: write",
            sent_bytes=262_144,
            request_bytes=5_242_880,
            timer={"name": "write_timeout", "ms": 60_000},
        ),
        status=504,
        duration_ms=60_040.0,
    ),
    record(
        "read_timeout",
        attempt("read_timeout", ended="timeout: read", timer={"name": "read_timeout", "ms": 60_000}),
        status=504,
        duration_ms=60_002.0,
    ),
    record(
        "response_header_too_large",
        attempt(
            "response_header_too_large",
            received_bytes=69_632,
            head_bytes=69_632,
            head_limit_bytes=65_536,
            largest_header={"name": "Set-Cookie", "bytes": 66_012},
        ),
    ),
    record("bad_response", attempt("bad_response", received_bytes=96, detail="the answer has two Content-Length fields")),
    record(
        "protocol_mismatch",
        attempt(
            "protocol_mismatch", received_bytes=7, first_bytes="\\x15\\x03\\x03\\x00\\x02\\x02F", first_bytes_hex="15030300020246"
        ),
    ),
    record(
        "connection_dead", pooled("connection_dead", ended="timeout: read", idle_ms=412_000.0), status=504, duration_ms=60_001.0
    ),
    record(
        "closed_in_body",
        attempt("closed_in_body", ended="fin", status=200, head_ms=4.0, head_bytes=180, received_bytes=65_716),
        status=200,
        answer={"length": 1_048_576},
        duration_ms=30_004.0,
    ),
    record("reset_in_body", attempt("reset_in_body", ended="rst", status=200, head_ms=4.0, received_bytes=65_716), status=200),
    record(
        "read_timeout_in_body",
        attempt(
            "read_timeout_in_body",
            ended="timeout: read",
            status=200,
            head_ms=4.0,
            received_bytes=65_716,
            timer={"name": "read_timeout", "ms": 60_000},
        ),
        status=200,
        duration_ms=60_010.0,
    ),
    record(
        "bad_response_body", attempt("bad_response_body", status=200, head_ms=4.0, detail="a chunk size is no number"), status=200
    ),
    _behind("bad_gateway_behind", 502, "nginx", "body: nginx's page", server="nginx/1.24.0"),
    _behind("unavailable_behind", 503, "haproxy", "body: HAProxy's page"),
    _behind("timeout_behind", 504, "elb", "body: the page of an AWS load balancer", server="awselb/2.0"),
    _behind("upstream_error", 500, "application", "body: JSON", content_type="application/json"),
    _behind("plain_http_to_tls_port", 400, "nginx", "body: nginx's page", server="nginx/1.24.0"),
    _behind("header_too_large_behind", 431, "unknown", ""),
    record("spool_failed", status=500, detail="the body could not be spilled: 28: No space left on device"),
    _plugin(
        "filter_failed",
        name="my-plugin",
        phase="header_filter",
        outcome="failed",
        detail=("ValueError: no number (handler.py:31)"),
    ),
    record("panicked", status=500, detail="index out of bounds: the len is 0 but the index is 0"),
)

EXAMPLES: Final[Mapping[str, Record]] = {one["fault"]: one for one in _ALL}
"""By the name of the fault."""
