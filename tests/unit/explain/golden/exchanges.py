# SPDX-License-Identifier: Apache-2.0
"""What did workers see where a connection was there, and no good answer came?"""

from __future__ import annotations

from pylae.explain.examples import attempt, pooled, record
from tests.unit.explain.golden.base import MORE_THAN_A_SECOND, Golden, banner, behind

GOLDEN: tuple[Golden, ...] = (
    # The exchange.
    Golden(
        "closed_before_headers",
        "closed_at_reuse",
        "upstream",
        "thin",
        record(
            "closed_before_headers",
            pooled(
                "closed_before_headers",
                ended="fin",
                idle_limit_ms=5000.0,
                our_idle_limit_ms=60_000.0,
                again="not sent again: the upstream may have acted on it, and the method is none that may be repeated",
            ),
            duration_ms=2.0,
        ),
        ("4998 ms", "upstream_keepalive_idle_timeout = 4", "Idempotency-Key", "may have acted"),
    ),
    Golden(
        "closed_before_headers",
        "closed_at_once",
        "upstream",
        "thin",
        record("closed_before_headers", attempt("closed_before_headers", ended="fin"), duration_ms=3.0),
        ("PROXY protocol", "0 bytes came back"),
    ),
    Golden(
        "closed_before_headers",
        "worker_timeout",
        "upstream",
        "thin",
        record("closed_before_headers", attempt("closed_before_headers", ended="fin"), duration_ms=30_012.0),
        ("gunicorn", "30 s"),
    ),
    Golden(
        "closed_before_headers",
        "closed_while_working",
        "upstream",
        "thin",
        record("closed_before_headers", attempt("closed_before_headers", ended="fin"), **MORE_THAN_A_SECOND),
        ("3401 ms",),
    ),
    Golden(
        "closed_before_headers",
        "closed_while_working",
        "upstream",
        "thin",
        record("closed_before_headers", pooled("closed_before_headers", ended="fin"), **MORE_THAN_A_SECOND),
    ),
    Golden(
        "closed_before_headers",
        "closed_in_status_line",
        "upstream",
        "thin",
        record(
            "closed_before_headers", attempt("closed_before_headers", ended="fin", received_bytes=10, first_bytes="HTTP/1.1 2")
        ),
    ),
    Golden(
        "closed_before_headers",
        "closed_in_head",
        "upstream",
        "thin",
        record(
            "closed_before_headers",
            attempt("closed_before_headers", ended="fin", received_bytes=30, first_bytes="HTTP/1.1 200 OK\\x0D\\x0AServer: x"),
        ),
    ),
    Golden("reset", "reset_at_reuse", "upstream", "thin", record("reset", pooled("reset", ended="rst"), duration_ms=2.0)),
    Golden("reset", "reset_at_once", "upstream", "thin", record("reset", attempt("reset", ended="rst"), duration_ms=2.0)),
    Golden(
        "reset", "reset_while_working", "upstream", "thin", record("reset", attempt("reset", ended="rst"), **MORE_THAN_A_SECOND)
    ),
    Golden(
        "reset",
        "reset_in_head",
        "upstream",
        "thin",
        record("reset", attempt("reset", ended="rst", received_bytes=90, first_bytes="HTTP/1.1 200 OK")),
    ),
    Golden(
        "write_failed",
        "closed_while_sending",
        "upstream",
        "thin",
        record("write_failed", attempt("write_failed", sent_bytes=70_000, request_bytes=900_000)),
        ("413",),
    ),
    Golden(
        "write_failed", "closed_at_reuse", "upstream", "thin", record("write_failed", pooled("write_failed"), duration_ms=2.0)
    ),
    Golden(
        "write_timeout",
        "does_not_read",
        "upstream",
        "thin",
        record("write_timeout", attempt("write_timeout", timer={"name": "write_timeout", "ms": 60_000})),
        ("write_timeout=120000",),
    ),
    Golden(
        "read_timeout",
        "nothing_arrives",
        "network",
        "thin",
        record(
            "read_timeout",
            attempt("read_timeout", timer={"name": "read_timeout", "ms": 300}, unacknowledged_ms=301.0),
            status=504,
        ),
        ("acknowledged nothing for 301 ms", "firewall"),
    ),
    Golden(
        "write_timeout",
        "nothing_arrives",
        "network",
        "thin",
        record(
            "write_timeout",
            attempt("write_timeout", timer={"name": "write_timeout", "ms": 300}, unacknowledged_ms=299.0),
            status=504,
        ),
        ("firewall",),
    ),
    Golden(
        "write_timeout",
        "does_not_read",
        "upstream",
        "thin",
        record(
            "write_timeout", attempt("write_timeout", timer={"name": "write_timeout", "ms": 300}, unacknowledged_ms=0), status=504
        ),
        ("acknowledged all that was sent",),
    ),
    Golden(
        "read_timeout",
        "no_answer_in_time",
        "upstream",
        "thin",
        record("read_timeout", attempt("read_timeout", timer={"name": "read_timeout", "ms": 60_000}), status=504),
        ("read_timeout=120000", "60.0 s"),
    ),
    Golden(
        "read_timeout",
        "interim_answers_alone",
        "upstream",
        "thin",
        record("read_timeout", attempt("read_timeout", received_bytes=9000, first_bytes="HTTP/1.1 103 Early Hints"), status=504),
        ("1xx",),
    ),
    Golden(
        "read_timeout",
        "stalled_in_head",
        "upstream",
        "thin",
        record("read_timeout", attempt("read_timeout", received_bytes=20, first_bytes="HTTP/1.1 200 OK"), status=504),
    ),
    Golden(
        "connection_dead",
        "connection_forgotten",
        "network",
        "thin",
        record("connection_dead", pooled("connection_dead"), status=504),
    ),
    Golden(
        "connection_dead",
        "connection_forgotten",
        "network",
        "sure",
        record(None, pooled("connection_dead"), attempt(None, offset_ms=2002.0, status=200), status=200, kind="recovered"),
        ("Answered 200 by another attempt", "right after"),
    ),
    # The answer.
    Golden(
        "response_header_too_large",
        "response_header_too_large",
        "upstream",
        "sure",
        record(
            "response_header_too_large",
            attempt(
                "response_header_too_large",
                head_bytes=70_000,
                head_limit_bytes=65_536,
                largest_header={"name": "Set-Cookie", "bytes": 66_000},
            ),
        ),
        ("`Set-Cookie`", "66,000 bytes", "65,536 bytes"),
    ),
    *(
        Golden("bad_response", finding, "upstream", "sure", record("bad_response", attempt("bad_response", detail=detail)))
        for finding, detail in (
            ("duplicate_content_length", "the answer has two Content-Length fields"),
            ("bad_content_length", "Content-Length is no number"),
            ("length_and_chunked", "the answer has both Content-Length and Transfer-Encoding"),
            ("duplicate_transfer_encoding", "the answer has two Transfer-Encoding fields"),
            ("unknown_transfer_encoding", "the answer's Transfer-Encoding is not `chunked` alone"),
            ("unasked_upgrade", "101 Switching Protocols to a request that did not ask for it"),
            ("bad_header_line", 'a field line that HTTP does not allow: "x y"'),
            ("interim_flood", "more than 100 interim answers"),
            ("bad_head", ""),
        )
    ),
    banner("15030300020246", "plain_http_to_tls", "protocol=https"),
    banner("160303", "plain_http_to_tls", "protocol=https"),
    banner("000012040000000000000300000064", "http2_only", "HTTP/2"),
    banner("00000807000000000000000000000001", "http2_only", "HTTP/2"),
    banner("505249202a20485454502f322e30", "http2_only", "HTTP/2"),
    banner("3c68746d6c3e68656c6c6f", "http_0_9", "HTTP/0.9"),
    banner("5353482d322e302d", "ssh", "SSH"),
    banner("323230206d61696c2045534d5450", "smtp_or_ftp", "SMTP"),
    banner("2d4552522077726f6e67", "redis", "Redis"),
    banner("4a0000000a382e302e33", "mysql", "MySQL"),
    banner("474554202f206f2048545450", "not_http"),
    banner("474554202f6f20485454502f312e31", "echo"),
    banner("485454502f312e3120616263", "bad_status_line"),
    banner("68656c6c6f", "not_http"),
    # From behind.
    behind(
        "bad_gateway_behind",
        502,
        "nginx",
        "body: nginx page",
        "bad_gateway_of_load_balancer",
        "second_lb",
        "sure",
        "nginx",
        "error log",
    ),
    behind("bad_gateway_behind", 502, "caddy", "server: Caddy", "bad_gateway_of_load_balancer", "second_lb", "thin"),
    behind("bad_gateway_behind", 502, "elb", "body: ELB page", "bad_gateway_of_load_balancer", "second_lb", "sure", "AWS"),
    behind("bad_gateway_behind", 502, "application", None, "bad_gateway_of_application", "upstream", "thin"),
    behind(
        "unavailable_behind",
        503,
        "haproxy",
        "body: haproxy",
        "unavailable_of_load_balancer",
        "second_lb",
        "sure",
        "SC (connection refused",
        server=None,
    ),
    behind(
        "unavailable_behind",
        503,
        "application",
        None,
        "unavailable_of_application",
        "upstream",
        "thin",
        content_type="application/json",
    ),
    behind("unavailable_behind", 503, "unknown", None, "unavailable_of_unknown", "upstream", "thin"),
    behind(
        "timeout_behind", 504, "envoy", "body: upstream request timeout", "timeout_of_load_balancer", "second_lb", "sure", "Envoy"
    ),
    behind("bad_gateway_behind", 502, "elb", "server: awselb/2.0", "bad_gateway_of_load_balancer", "second_lb", "sure"),
    behind("bad_gateway_behind", 502, "traefik", "body: the bare words", "bad_gateway_of_load_balancer", "second_lb", "thin"),
    behind("upstream_error", 503, "application", "a body", "unavailable_of_application", "upstream", "thin"),
    behind("upstream_error", 500, "application", None, "error_of_application", "upstream", "sure", server="gunicorn"),
    behind("upstream_error", 521, "cloudflare", "body: cloudflare", "error_of_load_balancer", "second_lb", "sure", "521"),
    behind("upstream_error", 500, "nginx", "body: nginx page", "error_of_web_server", "upstream", "thin"),
    behind("plain_http_to_tls_port", 400, "nginx", "body: nginx", "plain_http_to_tls", "upstream", "sure", "protocol=https"),
    behind(
        "header_too_large_behind", 400, "nginx", "body: nginx", "request_header_too_large_behind", "second_lb", "thin", "`Cookie`"
    ),
    behind("header_too_large_behind", 431, "unknown", None, "request_header_too_large_behind", "upstream", "thin"),
    # The body.
    Golden(
        "closed_in_body",
        "closed_in_body",
        "upstream",
        "thin",
        record(
            "closed_in_body",
            attempt("closed_in_body", status=200, head_bytes=100, received_bytes=600, head_ms=2.0),
            answer={"length": 1000},
            status=200,
        ),
        ("1,000 bytes", "500 bytes"),
    ),
    Golden(
        "reset_in_body",
        "reset_in_body",
        "upstream",
        "thin",
        record("reset_in_body", attempt("reset_in_body", status=200), status=200),
    ),
    Golden(
        "read_timeout_in_body",
        "stalled_in_body",
        "upstream",
        "thin",
        record("read_timeout_in_body", attempt("read_timeout_in_body"), status=200),
    ),
    Golden(
        "bad_response_body",
        "bad_chunk",
        "upstream",
        "sure",
        record("bad_response_body", attempt("bad_response_body"), status=200),
    ),
)
