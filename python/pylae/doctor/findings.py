# SPDX-License-Identifier: Apache-2.0
"""What was found, and in which shape is it told? The verdict's of a failed request, so that both are read alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from pylae.explain.flags import table
from pylae.explain.words import escaped

Hop = Literal["client", "first_lb", "gateway", "plugin", "dns", "network", "second_lb", "upstream"]
Phase = Literal[
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
]
Row = Mapping[str, Any]
"""An entity as the Admin API shows it."""

MOST_TEXT: Final = 300
"""Characters of one sentence; what strangers send may be longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, or is about to be.

    Attributes:
        cause: name of the table of faults: what requests meet, or would meet.
        finding: the refined diagnosis, a snake_case key.
        confidence: 0 to 1; 0.8 and more only where the evidence excludes every other hop.
        is_broken: whether requests fail of it now; else it is a warning.
        probes: what would tell, where the confidence is below 0.8.
        subject: what was looked at, as a person would name it.
    """

    hop: Hop
    phase: Phase
    cause: str
    finding: str
    summary: str
    confidence: float
    evidence: tuple[str, ...] = ()
    cure: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    written_by: str | None = None
    is_broken: bool = True
    status: int | None = None
    subject: str = ""
    route: Row | None = None
    service: Row | None = None
    plugins: tuple[Mapping[str, Any], ...] = ()
    attempts: tuple[Mapping[str, Any], ...] = ()
    request_id: str | None = None

    def of(self, subject: str, service: Row | None, route: Row | None = None) -> Finding:
        """The same, with what it is about."""
        return replace(
            self, subject=self.subject or subject, service=self.service or service, route=self.route if self.route else route
        )

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same finding at the next look."""
        ids = (str((row or {}).get("id") or "") for row in (self.service, self.route))
        where = (str(attempt.get("address", "")) for attempt in self.attempts)
        return (self.hop, self.cause, self.finding, self.subject, *ids, *where)

    def document(self) -> dict[str, Any]:
        """As `/explain` shows a verdict."""
        facts = table().get(self.cause, {})
        status = self.status if self.status is not None else facts.get("status") or None
        return {
            "request_id": self.request_id,
            "status": status if self.is_broken else None,
            "route": _named(self.route),
            "service": _named(self.service),
            "plugins": [dict(plugin) for plugin in self.plugins],
            "attempts": [dict(attempt) for attempt in self.attempts],
            "verdict": {
                "hop": self.hop,
                "phase": self.phase,
                "cause": self.cause,
                "finding": self.finding,
                "summary": escaped(self.summary, MOST_TEXT),
                "confidence": self.confidence,
                "evidence": [escaped(line, MOST_TEXT) for line in self.evidence],
                "cure": [escaped(line, 4 * MOST_TEXT) for line in self.cure],
                "probes": [escaped(line, MOST_TEXT) for line in self.probes],
                "written_by": self.written_by,
                "flags": {
                    "envoy": facts.get("response_flag"),
                    "tyk": facts.get("tyk_flag"),
                    "proxy_status": facts.get("proxy_status"),
                },
            },
        }


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """What breaks requests now before what may, the surer before the less sure; each once."""
    once = {finding.key: finding for finding in findings}
    return sorted(once.values(), key=lambda finding: (not finding.is_broken, -finding.confidence, finding.key))


def shown_bytes(data: bytes, most: int = 64) -> str:
    r"""Bytes of a stranger as text: what is not printable ASCII as `\x..`."""
    return "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\x{byte:02x}" for byte in data[:most])


def _named(row: Row | None) -> dict[str, Any] | None:
    return None if row is None else {"id": row.get("id"), "name": row.get("name")}
