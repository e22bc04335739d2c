# SPDX-License-Identifier: Apache-2.0
"""Which hop broke, in which phase, why, how sure is that, what shows it, and what mends it?

Rule above all: never a confident wrong answer. A confidence of 0.8 or more is given only where the evidence excludes
every other hop; below that the verdict says which probe would tell.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pylae.explain import rules
from pylae.explain.case import Case, Finding
from pylae.explain.facts import Facts
from pylae.explain.flags import Flags, flags_of
from pylae.explain.phases import phase_of

SURE: Final = 0.8
"""From here on the evidence excludes every other hop."""


class Verdict(msgspec.Struct, frozen=True):
    """What is made of the facts of one exchange."""

    hop: str | None
    """client, first_lb, gateway, plugin, dns, network, second_lb or upstream; `None` when nothing failed."""
    phase: str
    """Where in the walk."""
    cause: str | None
    """Name of a fault; `None` when nothing failed."""
    finding: str
    """The refined diagnosis: a name in snake_case."""
    summary: str
    """One sentence in the reader's words."""
    confidence: float
    """That it is this hop, 0 to 1."""
    evidence: list[str]
    """What was seen, in sentences."""
    cure: list[str]
    """Sentences, or exact calls."""
    probes: list[str]
    """What would tell, where the confidence is below 0.8."""
    written_by: str | None
    """Who wrote the answer that came from behind, if one did."""
    flags: Flags
    """How others name it."""


def verdict_of(facts: Facts, *, admin_url: str) -> Verdict:
    """The verdict; never raises, whatever the facts are.

    Args:
        facts: of one exchange.
        admin_url: of the Admin API, for the calls in a cure: `http://localhost:8001`.
    """
    case = Case(facts, admin_url.rstrip("/"))
    finding = rules.finding_of(case)
    confidence = min(max(finding.confidence, 0.0), 1.0)
    return Verdict(
        hop=finding.hop,
        phase=phase_of(facts, case.fault),
        cause=case.fault,
        finding=finding.name,
        summary=_summary(case, finding),
        confidence=confidence,
        evidence=[*finding.evidence, *case.common_evidence()],
        cure=list(finding.cure),
        probes=list(finding.probes) if confidence < SURE else [],
        written_by=facts.answer.written_by,
        flags=flags_of(facts, case.fault),
    )


def _summary(case: Case, finding: Finding) -> str:
    if case.facts.kind == "recovered" or (case.facts.fault is None and case.fault is not None and case.is_well_answered):
        return f"Answered {case.facts.status or 'well'} by another attempt; the one before failed: {finding.summary}"
    return finding.summary
