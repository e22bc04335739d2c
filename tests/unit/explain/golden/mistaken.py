# SPDX-License-Identifier: Apache-2.0
"""What did workers see of exchanges that are easily taken for others?"""

from __future__ import annotations

from typing import Any

from pylae.explain.examples import attempt, record, request, service, unconnected
from tests.unit.explain.golden.base import FIRST_LB, Golden, banner, plugin

_TLS: dict[str, Any] = {"tls_ms": 1.0, "tls": {"version": "TLSv1.3", "wants_certificate": True}}
_CORRUPT = "received corrupt message of type InvalidContentType"


def _left_in_upload(*says: str, **asked: Any) -> Golden:
    """Its body went on to the upstream as it came."""
    one = attempt(None, sent_ms=None, request_bytes=None, sent_bytes=369, ended="closed: client gone")
    made = record(
        "client_gone",
        one,
        status=499,
        duration_ms=200.0,
        phase="wait_for_answer",
        detail="the client closed while waiting for the upstream",
        request=request(method="POST", **asked),
    )
    return Golden("client_gone", "gone_while_sending", "client", "thin", made, says)


def _left_before_connection(
    finding: str, hop: str, who: dict[str, Any], *says: str, duration_ms: float = 2002.3, **tried: Any
) -> Golden:
    """Nothing of its request had been sent."""
    one = attempt(None, **{"connect_ms": 0.4, "sent_bytes": 0, "sent_ms": None, "ended": "closed: client gone", **tried})
    made = record(
        "client_gone",
        one,
        status=499,
        duration_ms=duration_ms,
        phase="wait_for_answer",
        detail="the client closed while waiting for the upstream",
        service=service(protocol="https"),
        **who,
    )
    return Golden("client_gone", finding, hop, "thin", made, says)


GOLDEN: tuple[Golden, ...] = (
    Golden(
        "bad_framing",
        "proxy_protocol_unexpected",
        "first_lb",
        "thin",
        record("bad_framing", status=400, request={"line": "\\x00\\x0D\\x0AQUIT\\x0A!\\x11"}, detail="what came is no HTTP"),
        ("version 2", "trusted_ips", "proxy_protocol_v2"),
    ),
    Golden(
        "request_header_too_large",
        "request_header_too_large",
        "first_lb",
        "thin",
        record(
            "request_header_too_large",
            status=400,
            request=request(largest_header={"name": "X-Forwarded-Client-Cert", "bytes": 9000}),
        ),
        ("proxies set",),
    ),
    Golden(
        "request_timeout",
        "client_silent_in_head",
        "client",
        "thin",
        record("request_timeout", status=408, request={"received_bytes": 0}),
        ("speaks TLS to this plain port",),
    ),
    _left_in_upload(headers=[["Transfer-Encoding", "chunked"]], body_bytes=3),
    _left_in_upload(headers=[["Content-Length", "100"]], body_bytes=4),
    Golden(
        "client_gone",
        "client_gave_up",
        "client",
        "thin",
        record("client_gone", attempt(None), status=499, duration_ms=0.2),
        ("nc -N",),
    ),
    # A server that never got the request did not fail to answer it.
    _left_before_connection(
        "gone_in_tls_handshake",
        "upstream",
        {},
        "did not answer our TLS hello",
        "protocol=http",
        "connect_timeout=1800",
        "retries=0",
        "2001 ms before and was not over",
    ),
    _left_before_connection("gone_in_tls_handshake", "upstream", FIRST_LB, "what stands before the gateway left"),
    _left_before_connection(
        "gone_while_connecting", "network", {}, "did not answer our SYN", "firewall", "connect_timeout=1800", connect_ms=None
    ),
    _left_before_connection("gone_while_connecting", "client", {}, "before", connect_ms=None, duration_ms=40.0),
    # Attempts that are all alike are told once.
    Golden(
        "connect_refused",
        "nothing_listens",
        "upstream",
        "thin",
        record("connect_refused", *(unconnected("connect_refused") for _ in range(6))),
        ("5 other attempts failed the same way",),
    ),
    Golden(
        "connect_refused",
        "nothing_listens",
        "upstream",
        "thin",
        record(
            "connect_refused",
            *(unconnected("connect_refused", address="10.0.0.8:80") for _ in range(3)),
            attempt("reset"),
            unconnected("connect_refused"),
        ),
        ("4 other attempts failed too: `10.0.0.8:80` connect_refused 3 times, `10.0.0.7:8080` reset",),
    ),
    # A whole interim answer is no head that broke off.
    Golden(
        "closed_before_headers",
        "closed_after_interim",
        "upstream",
        "thin",
        record(
            "closed_before_headers",
            attempt("closed_before_headers", ended="fin", received_bytes=25, first_bytes="HTTP/1.1 100 Continue\\x0D\\x0A"),
        ),
        ("(100)",),
    ),
    # Who shook hands expects nothing before TLS, and speaks it.
    Golden(
        "closed_before_headers",
        "closed_at_once",
        "upstream",
        "thin",
        record(
            "closed_before_headers",
            attempt("closed_before_headers", ended="fin", **_TLS),
            duration_ms=3.0,
            service=service(protocol="https"),
        ),
        ("asked for a client certificate", "return 444"),
    ),
    # Nobody reset what a TLS library gave up.
    Golden(
        "reset",
        "garbled_tls",
        "upstream",
        "thin",
        record("reset", attempt("reset", ended="failed", detail=_CORRUPT, **_TLS), detail=_CORRUPT, duration_ms=2.0),
        ("InvalidContentType",),
    ),
    Golden(
        "read_timeout",
        "stalled_in_head",
        "upstream",
        "thin",
        record(
            "read_timeout",
            attempt("read_timeout", received_bytes=4, first_bytes="HTTP", timer={"name": "read_timeout", "ms": 300}),
        ),
        ("300 ms of silence",),
    ),
    # HTTP with something before it is HTTP.
    banner("0d0a485454502f312e3120323030", "noise_before_status_line", "empty line", "2 bytes"),
    banner("efbbbf485454502f312e3120323030", "noise_before_status_line", "3 bytes"),
    banner("5374617475733a20323030204f4b0d0a", "head_without_status_line", "CGI"),
    banner("436f6e74656e742d547970653a20746578742f68746d6c0d0a0d0a", "head_without_status_line"),
    Golden(
        "bad_response",
        "upgrade_not_passed_on",
        "gateway",
        "thin",
        record(
            "bad_response",
            attempt("bad_response", first_bytes="HTTP/1.1 101 Switching Protocols"),
            detail="101 Switching Protocols to a request that did not ask for it",
            request=request(headers=[["Upgrade", "websocket"]]),
        ),
        ("`websocket`",),
    ),
    plugin(
        "plugin_failed",
        {"name": "cors", "detail": "WorkMissing: the plugin `cors` is configured, but its work is not part of this version"},
        "plugin_undone",
        "no code in this version",
    ),
)
