# SPDX-License-Identifier: Apache-2.0
"""Where in the walk did it fail?"""

from __future__ import annotations

from typing import Final, Literal

from pylae.explain.facts import Facts

PHASES: Final = (
    "accept",
    "client_tls",
    "read_request",
    "rewrite",
    "route",
    "access",
    "read_body",
    "queue",
    "choose_target",
    "resolve",
    "connect",
    "tls_handshake",
    "send_request",
    "wait_for_answer",
    "read_answer",
    "filter",
    "send_answer",
    "done",
)
"""In walking order."""

OF_FAULTS: Final = {
    "too_many_connections": "accept",
    "client_tls_failed": "client_tls",
    "bad_framing": "read_request",
    "bad_request_body": "read_body",
    "request_header_too_large": "read_request",
    "uri_too_long": "read_request",
    "request_body_too_large": "read_body",
    "request_timeout": "read_request",
    "method_not_allowed": "read_request",
    "version_not_supported": "read_request",
    "transfer_encoding_not_supported": "read_request",
    "client_gone": "wait_for_answer",
    "no_route": "route",
    "https_required": "route",
    "no_service": "route",
    "plugin_refused": "access",
    "plugin_failed": "access",
    "identity_system_failed": "access",
    "circuit_open": "choose_target",
    "queue_full": "queue",
    "queue_timeout": "queue",
    "no_healthy_target": "choose_target",
    "dns_failed": "resolve",
    "resolver_failed": "resolve",
    "connect_refused": "connect",
    "connect_failed": "connect",
    "connect_timeout": "connect",
    "upstream_tls_failed": "tls_handshake",
    "upstream_certificate_rejected": "tls_handshake",
    "upstream_wants_certificate": "tls_handshake",
    "closed_before_headers": "wait_for_answer",
    "reset": "wait_for_answer",
    "write_failed": "send_request",
    "write_timeout": "send_request",
    "read_timeout": "wait_for_answer",
    "connection_dead": "send_request",
    "response_header_too_large": "read_answer",
    "bad_response": "read_answer",
    "protocol_mismatch": "read_answer",
    "plain_http_to_tls_port": "read_answer",
    "header_too_large_behind": "read_answer",
    "bad_gateway_behind": "read_answer",
    "unavailable_behind": "read_answer",
    "timeout_behind": "read_answer",
    "upstream_error": "read_answer",
    "closed_in_body": "read_answer",
    "reset_in_body": "read_answer",
    "read_timeout_in_body": "read_answer",
    "bad_response_body": "read_answer",
    "spool_failed": "read_body",
    "filter_failed": "filter",
    "panicked": "done",
}
"""Where a fault is born, when a record does not say it."""


def unmade(facts: Facts) -> Literal["connect", "tls_handshake"] | None:
    """What of the connection the last attempt was still making when the exchange ended; `None` when it was made, or failed."""
    if not facts.attempts:
        return None
    last, service = facts.attempts[-1], facts.service
    is_begun = last.fault is None and last.reused is None and last.sent_bytes == 0 and last.address is not None
    if not is_begun or last.status is not None or last.received_bytes:
        return None
    if last.connect_ms is None:
        return "connect"
    # Read with the Service, as a plain connection never has a time for TLS.
    is_shaking = service is not None and service.protocol == "https" and last.tls_ms is None and last.tls.version is None
    return "tls_handshake" if is_shaking else None


def phase_of(facts: Facts, fault: str | None) -> str:
    """One of `PHASES`."""
    if fault == "client_gone" and facts.phase in (None, "connect", "wait_for_answer", "send_request"):
        return unmade(facts) or facts.phase or OF_FAULTS[fault]
    if facts.phase in PHASES and (fault is None or fault == facts.fault):
        return facts.phase
    return OF_FAULTS.get(fault or "", "done")
