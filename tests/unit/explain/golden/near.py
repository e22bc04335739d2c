# SPDX-License-Identifier: Apache-2.0
"""What did workers see where the client, the gateway or a plugin was the cause?"""

from __future__ import annotations

from pylae.explain.examples import attempt, record, request
from tests.unit.explain.golden.base import FIRST_LB, Golden, plugin

GOLDEN: tuple[Golden, ...] = (
    # The client and what stands between it and us.
    Golden("too_many_connections", "too_many_connections", "gateway", "sure", record("too_many_connections", status=None)),
    Golden(
        "client_tls_failed",
        "client_tls_failed",
        "client",
        "thin",
        record("client_tls_failed", status=None, detail="no shared cipher"),
    ),
    Golden(
        "bad_framing",
        "bad_request_head",
        "client",
        "sure",
        record("bad_framing", status=400, detail="there are two Host fields"),
        ("two Host",),
    ),
    Golden(
        "bad_framing",
        "plain_http_on_tls_port",
        "client",
        "sure",
        record("bad_framing", status=400, detail="plain HTTP came in on a TLS port"),
    ),
    Golden(
        "bad_framing",
        "path_goes_round",
        "client",
        "sure",
        record(
            "bad_framing",
            status=400,
            detail="the path with its %2F decoded leads to another Route, whose plugins it would go round",
            request={"line": "GET /%2fsecure HTTP/1.1"},
        ),
        ("%2F",),
    ),
    Golden(
        "bad_framing",
        "tls_on_plain_port",
        "client",
        "thin",
        record("bad_framing", status=400, request={"line": "\\x16\\x03\\x01\\x02\\x00"}),
    ),
    Golden(
        "bad_framing",
        "proxy_protocol_unexpected",
        "first_lb",
        "sure",
        record("bad_framing", status=400, request={"line": "PROXY TCP4 192.0.2.9 10.0.0.1 5000 80"}),
        ("trusted_ips",),
    ),
    Golden(
        "bad_request_body",
        "bad_request_chunk",
        "client",
        "sure",
        record("bad_request_body", status=400, detail="chunk size is no number"),
    ),
    Golden(
        "request_header_too_large",
        "request_header_too_large",
        "client",
        "sure",
        record("request_header_too_large", status=494, request=request(largest_header={"name": "Cookie", "bytes": 9000})),
        ("`Cookie`", "9,000 bytes", "nginx_http_large_client_header_buffers"),
    ),
    Golden("uri_too_long", "uri_too_long", "client", "sure", record("uri_too_long", status=414)),
    Golden("request_body_too_large", "request_body_too_large", "client", "sure", record("request_body_too_large", status=413)),
    Golden(
        "request_timeout", "client_silent_in_head", "client", "thin", record("request_timeout", status=408, duration_ms=60_002.0)
    ),
    Golden(
        "request_timeout",
        "client_silent_in_body",
        "client",
        "thin",
        record("request_timeout", status=408, detail="the client stopped sending its body"),
    ),
    Golden(
        "method_not_allowed",
        "method_not_allowed",
        "client",
        "sure",
        record("method_not_allowed", status=405, request=request(method="TRACE")),
    ),
    Golden("version_not_supported", "version_not_supported", "client", "sure", record("version_not_supported", status=505)),
    Golden(
        "version_not_supported",
        "http2_prior_knowledge",
        "client",
        "thin",
        record("version_not_supported", status=505, request={"line": "PRI * HTTP/2.0"}),
    ),
    Golden(
        "transfer_encoding_not_supported",
        "transfer_encoding_not_supported",
        "client",
        "sure",
        record("transfer_encoding_not_supported", status=501),
    ),
    Golden(
        "client_gone",
        "client_gave_up",
        "client",
        "thin",
        record(
            "client_gone",
            attempt(None),
            status=499,
            duration_ms=7_312.0,
            detail="the client closed while waiting for the upstream",
        ),
        ("7312 ms",),
    ),
    Golden(
        "client_gone",
        "first_lb_gave_up",
        "first_lb",
        "thin",
        record("client_gone", attempt(None), status=499, duration_ms=60_003.0, **FIRST_LB),
        ("60 s", "read_timeout=54000"),
    ),
    Golden(
        "client_gone",
        "plugin_slow",
        "plugin",
        "thin",
        record(
            "client_gone",
            status=499,
            duration_ms=5_001.0,
            plugins=[{"name": "ldap-auth", "phase": "access", "took_us": 4_900_000.0, "waited": True}],
        ),
        ("`ldap-auth`",),
    ),
    Golden(
        "client_gone",
        "plugin_blocks",
        "plugin",
        "thin",
        record(
            "client_gone",
            attempt(None, offset_ms=4_901.0),
            status=499,
            duration_ms=5_001.0,
            plugins=[{"name": "mine", "phase": "access", "took_us": 4_900_000.0, "waited": False}],
        ),
        ("held the worker",),
    ),
    Golden(
        "client_gone",
        "gone_while_sending",
        "client",
        "thin",
        record("client_gone", status=499, detail="the client closed in the middle of a request's head"),
    ),
    Golden(
        "client_gone",
        "gone_while_sending",
        "client",
        "thin",
        record("client_gone", status=499, phase="read_body", detail="the client closed while waiting for the upstream"),
    ),
    # The gateway and its configuration.
    Golden(
        "no_route",
        "no_route",
        "gateway",
        "sure",
        record("no_route", status=404, route=None, service=None),
        ("/explain/route", "path=/orders"),
    ),
    Golden("https_required", "https_required", "client", "sure", record("https_required", status=426)),
    Golden("no_service", "no_service", "gateway", "sure", record("no_service", status=503, service=None), ("/routes/orders",)),
    Golden(
        "spool_failed",
        "spool_failed",
        "gateway",
        "sure",
        record("spool_failed", status=500, detail="28: No space left on device"),
        ("28:",),
    ),
    Golden("panicked", "bug", "gateway", "sure", record("panicked", status=500, detail="index out of bounds")),
    # Plugins.
    plugin(
        "plugin_failed", {"name": "mine", "detail": "KeyError: 'x' (handler.py:12)"}, "plugin_raised", "handler.py:12", "`mine`"
    ),
    plugin("plugin_failed", {"name": "mine", "detail": "TimeoutError: timed out"}, "plugin_backend_away", "identity provider"),
    plugin(
        "identity_system_failed",
        {"name": "ldap-auth", "detail": "LDAP server ldap://10.0.0.1:389: connection refused"},
        "identity_system_away",
        "`ldap-auth`",
        "LDAP server ldap://10.0.0.1:389",
        "connection refused",
    ),
    plugin(
        "identity_system_failed",
        {"name": "key-auth", "detail": "the database, asked through the control process: unavailable: no answer"},
        "identity_system_away",
        "pylae health",
    ),
    plugin(
        "filter_failed", {"name": "mine", "phase": "header_filter", "detail": "ValueError: no"}, "plugin_raised", "header_filter"
    ),
    plugin(
        "filter_failed",
        {"name": "proxy-cache", "phase": "response"},
        "answer_too_large_for_plugin",
        detail="the answer is over 128 MiB, too large for a plugin with a `response` phase",
    ),
    plugin(
        "plugin_refused",
        {"name": "key-auth", "outcome": "answered", "status": 401},
        "credential_missing",
        "`key-auth`",
        status=401,
    ),
    plugin(
        "plugin_refused",
        {"name": "jwt", "outcome": "answered", "status": 401},
        "credential_refused",
        "`Authorization`",
        status=401,
        request=request(headers=[["Authorization", None]]),
    ),
    plugin(
        "plugin_refused", {"name": "rate-limiting", "outcome": "answered", "status": 429}, "plugin_answered", "limit", status=429
    ),
    plugin("plugin_refused", {"name": "aws-lambda", "outcome": "answered", "status": 502}, "plugin_answered_error", status=502),
    plugin(
        "plugin_refused",
        {"name": "ldap-auth", "outcome": "answered", "status": 500, "detail": "connection refused"},
        "plugin_backend_away",
        status=500,
    ),
)
