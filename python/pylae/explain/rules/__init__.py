# SPDX-License-Identifier: Apache-2.0
"""What do the facts of each kind of fault say? One file for each part of the way in which faults are born."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pylae.explain.case import Case, Finding
from pylae.explain.rules import answer, balancer, behind, body, client, connect, dns, exchange, gateway, plugins, tls
from pylae.explain.words import escaped, quoted

Rule = Callable[[Case], Finding]

RULES: Final[Mapping[str, Rule]] = {
    **client.RULES,
    **gateway.RULES,
    **plugins.RULES,
    **balancer.RULES,
    **dns.RULES,
    **connect.RULES,
    **tls.RULES,
    **exchange.RULES,
    **answer.RULES,
    **behind.RULES,
    **body.RULES,
}
"""The rule of each fault, by its name."""

_SIDES: Final = {"client": "client", "gateway": "gateway", "upstream": "upstream"}


def finding_of(case: Case) -> Finding:
    """What the rule of the fault finds."""
    if case.fault is None:
        return _nothing_failed(case)
    rule = RULES.get(case.fault)
    return _unknown_fault(case) if rule is None else rule(case)


def _unknown_fault(case: Case) -> Finding:
    """A fault of a later version: as the table of the worker that wrote it says."""
    facts = case.facts
    return Finding(
        hop=_SIDES.get(facts.side or "", "gateway"),
        name="not_known_here",
        summary=f"The request failed with {quoted(case.fault)}, which this version has no rule for.",
        confidence=0.5,
        evidence=[f"the worker said: {escaped(text)}" for text in (facts.phrase, facts.detail) if text],
        cure=[escaped(facts.cure)] if facts.cure else [],
        probes=[case.doctor()],
    )


def _nothing_failed(case: Case) -> Finding:
    status = case.facts.status
    if status is not None and (status >= 500 or case.facts.kind == "failed"):
        return Finding(
            hop="upstream" if case.facts.answered_by in (None, "upstream") else "gateway",
            name="answered_without_a_fault",
            summary=f"The request was answered {status}, and the worker that served it named no fault.",
            confidence=0.5,
            evidence=[f"{case.server} answered {case.attempt.status}"] if case.attempt.status is not None else [],
            cure=["look into the server's log at that second"],
            probes=[case.doctor()],
        )
    by = f" by {quoted(case.facts.plugin)}" if case.facts.answered_by == "plugin" and case.facts.plugin else ""
    return Finding(
        hop=None,
        name="nothing_failed",
        summary=f"Nothing failed: the request was answered {status if status is not None else 'well'}{by}.",
        confidence=1.0,
    )
