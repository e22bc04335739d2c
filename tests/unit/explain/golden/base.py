# SPDX-License-Identifier: Apache-2.0
"""What did workers see of requests whose cause is known? Records, with the verdict each has to get."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Literal

ADMIN = "http://localhost:8001"
Claim = Literal["sure", "thin"]
REQUEST_ID = "d01c2cdd22b4031d87ceda7ee2826559"


@dataclass(frozen=True)
class Golden:
    """One record and what has to be said of it."""

    fault: str
    finding: str
    hop: str
    claim: Claim
    """`sure`: the confidence is 0.8 or more."""
    record: dict[str, Any] = field(repr=False)
    says: tuple[str, ...] = ()
    """Texts that stand somewhere in summary, evidence or cure."""

    @property
    def name(self) -> str:
        return f"{self.fault}-{self.finding}"


def attempt(fault: str | None = None, **given: Any) -> dict[str, Any]:
    """A fresh connection that was made in 0.4 ms and sent a whole request."""
    return {
        "host": "10.0.0.7",
        "address": "10.0.0.7:8080",
        "offset_ms": 1.0,
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


def record(fault: str | None, *attempts: dict[str, Any], **given: Any) -> dict[str, Any]:
    """A record of one failed request to the Service `orders`."""
    service = {
        "id": "e9b28e0a-5c39-46ad-bfa7-34e3eed3b872",
        "name": "orders",
        "host": "10.0.0.7",
        "port": 8080,
        "protocol": "http",
        "connect_timeout_ms": 60_000,
        "write_timeout_ms": 60_000,
        "read_timeout_ms": 60_000,
        "retries": 5,
    }
    return {
        "time": "2026-11-25T02:00:00.000Z",
        "request_id": REQUEST_ID,
        "kind": "failed",
        "status": 502,
        "fault": fault,
        "request": {
            "line": "GET /orders?id=*** HTTP/1.1",
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
        },
        "client": {"ip": "192.0.2.9", "peer": "192.0.2.9:50000", "is_trusted": False},
        "route": {"id": "747b8462-164f-4b9c-ab52-68c4432ad8b3", "name": "orders", "protocols": ["http", "https"]},
        "service": service,
        "attempts": list(attempts),
        "duration_ms": 12.0,
        **given,
    }


def service(**changes: Any) -> dict[str, Any]:
    return {**record(None)["service"], **changes}


def request(**changes: Any) -> dict[str, Any]:
    return {**record(None)["request"], **changes}


def behind(
    fault: str, status: int, author: str, mark: str | None, finding: str, hop: str, claim: Claim, *says: str, **answer: Any
) -> Golden:
    answered = {"written_by": author, "mark": mark, "server": "nginx", "content_type": "text/html", **answer}
    return Golden(
        fault,
        finding,
        hop,
        claim,
        record(fault, attempt(None, status=status, head_ms=3.0), status=status, answer=answered),
        says,
    )


FIRST_LB = {"client": {"ip": "192.0.2.9", "peer": "10.1.0.2:40000", "is_trusted": True, "forwarded_for_count": 1}}
MORE_THAN_A_SECOND = {"duration_ms": 3402.0}
CERTIFICATE = {
    "sni": "api.test",
    "verified": False,
    "subject": "CN=api.test",
    "issuer": "CN=Some CA",
    "names": ["api.test", "*.api.test"],
    "not_after": "2026-11-20T00:00:00Z",
}


def rejected(detail: str, finding: str, claim: Claim, *says: str, **given: Any) -> Golden:
    one = attempt("upstream_certificate_rejected", sent_bytes=0, detail=detail, tls=CERTIFICATE, **given)
    return Golden(
        "upstream_certificate_rejected",
        finding,
        "upstream",
        claim,
        record("upstream_certificate_rejected", one, detail=detail),
        says,
    )


def tls(detail: str, finding: str, claim: Claim, *says: str, hop: str = "upstream", **given: Any) -> Golden:
    one = attempt("upstream_tls_failed", sent_bytes=0, detail=detail, **given)
    made = record("upstream_tls_failed", one, service=service(protocol="https"))
    return Golden("upstream_tls_failed", finding, hop, claim, made, says)


def banner(hexadecimal: str, finding: str, *says: str, fault: str = "protocol_mismatch") -> Golden:
    first = bytes.fromhex(hexadecimal)
    shown = "".join(chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02X}" for byte in first)
    one = attempt(fault, received_bytes=len(first), first_bytes=shown, first_bytes_hex=hexadecimal[:32])
    return Golden(fault, finding, "upstream", "sure", record(fault, one), says)


def plugin(fault: str, step: dict[str, Any], finding: str, *says: str, status: int = 500, **given: Any) -> Golden:
    one = {"phase": "access", "took_us": 120.0, "outcome": "failed", "id": "0b7c4f0e-2a9c-4c0b-8a52-0d5ab8d2b1a3", **step}
    made = record(fault, status=status, plugins=[one], plugin=one["name"], answered_by="plugin", **given)
    return Golden(fault, finding, "plugin", "sure", made, says)


def copied(golden: Golden) -> dict[str, Any]:
    """Its record, to be changed."""
    return copy.deepcopy(golden.record)
