# SPDX-License-Identifier: Apache-2.0
"""Why was there nobody to ask, or no turn to ask in?"""

from __future__ import annotations

from pylae.explain import calls
from pylae.explain.case import Case, Finding
from pylae.explain.facts import UpstreamFacts
from pylae.explain.words import count, escaped, ms, quoted


def no_target(case: Case) -> Finding:
    """`no_healthy_target`."""
    upstream = case.facts.upstream or UpstreamFacts()
    name = quoted(upstream.name or (case.facts.service.host if case.facts.service else None))
    key = upstream.name or upstream.id or (case.facts.service.host if case.facts.service else None)
    path = f"/upstreams/{calls.part(key, 'UPSTREAM')}"
    numbers = [
        f"{words}: {number}"
        for words, number in (
            ("Targets", upstream.targets),
            ("that may be chosen", upstream.candidates),
            ("healthy", upstream.healthy),
        )
        if number is not None
    ]
    evidence = [f"Upstream {name}: {', '.join(numbers)}"] if numbers else [f"Upstream {name} had nobody to choose"]
    evidence += [f"found: {escaped(case.detail)}"] if case.detail else []
    if not case.facts.attempts:
        evidence.append("no connection was tried; nothing was sent")
    add = calls.admin(case.admin_url, "POST", f"{path}/targets", target="HOST:PORT", weight=100)
    if upstream.targets == 0:
        return Finding(
            hop="gateway",
            name="no_targets",
            summary=f"The Upstream {name} has no Targets.",
            confidence=0.95,
            evidence=evidence,
            cure=["add one:", add],
        )
    if upstream.targets and upstream.candidates == 0 and not upstream.healthy:
        return Finding(
            hop="gateway",
            name="no_weight",
            summary=f"No Target of the Upstream {name} may be chosen: their weight is 0, or their names have no address.",
            confidence=0.75,
            evidence=evidence,
            cure=["give one a weight above 0:", add],
            probes=[case.get(f"{path}/targets/all"), case.get(f"{path}/health"), case.get("/dns")],
        )
    if upstream.targets and upstream.healthy == 0:
        words = count(upstream.targets, "Target")
        return Finding(
            hop="upstream",
            name="all_unhealthy",
            summary=f"All Targets of the Upstream {name} ({words}) are held to be unhealthy, so none was asked.",
            confidence=0.75,
            evidence=evidence,
            cure=[
                "see which check failed, and mend the servers, or the check if it asks for the wrong path or port:",
                case.get(f"{path}/health"),
                "a Target that is well, at once:",
                calls.admin(case.admin_url, "PUT", f"{path}/targets/HOST:PORT/healthy"),
            ],
            probes=[case.get(f"{path}/health"), case.doctor()],
        )
    if upstream.healthy and case.facts.attempts:
        return Finding(
            hop="upstream",
            name="all_tried",
            summary=f"Every Target of the Upstream {name} was tried, and none answered.",
            confidence=0.7,
            evidence=evidence,
            cure=["see what each attempt met", case.get(f"{path}/health")],
            probes=[case.doctor()],
        )
    return Finding(
        hop="upstream",
        name="no_target_to_choose",
        summary=f"The Upstream {name} has no Target that may be chosen: none is there, has weight, or is healthy.",
        confidence=0.6,
        evidence=evidence,
        cure=["see which of these it is:", case.get(f"{path}/health"), "add a Target:", add],
        probes=[case.get(f"{path}/health"), case.doctor()],
    )


def circuit_open(case: Case) -> Finding:
    """`circuit_open`."""
    return Finding(
        hop="upstream",
        name="circuit_open",
        summary=(
            f"{_host(case)} failed so often that the plugin `resilience` leaves it alone for a while; this request was not sent."
        ),
        confidence=0.75,
        evidence=[
            *([f"why it opened: {escaped(case.detail)}"] if case.detail else []),
            "no connection was tried; nothing was sent",
        ],
        cure=[
            "mend what made the requests before fail: explain one of those (failures.jsonl holds them):",
            case.get("/explain?kind=failed"),
            "circuit_breaker of the plugin `resilience` says when it opens and for how long",
        ],
        probes=["error.log says when it opened: `the circuit of ...`", case.doctor()],
    )


def queue(case: Case) -> Finding:
    """`queue_full`, `queue_timeout`."""
    is_full = case.fault == "queue_full"
    waited = case.facts.milestones.queued_ms
    evidence = [f"found: {escaped(case.detail)}"] if case.detail else []
    if waited is not None:
        evidence.append(f"it began to wait {ms(waited)} after the request came")
    evidence.append("the gateway sent nothing of this request to the upstream")
    return Finding(
        hop="gateway",
        name=case.fault or "",
        summary=(
            f"More requests for {_host(case)} wait at the gateway than may: the queue of the plugin `resilience` is full."
            if is_full
            else (
                f"It was not this request's turn at {_host(case)} in time: the queue of the plugin `resilience` moves too slowly."
            )
        ),
        confidence=0.9,
        evidence=evidence,
        cure=[
            "make the upstream faster or larger: it takes more requests at once than it answers in time",
            "or change the plugin: queue.most_connections, queue.most_waiting, queue.deadline_ms:",
            case.get("/plugins"),
        ],
    )


def _host(case: Case) -> str:
    service = case.facts.service
    return quoted(
        case.attempt.host or (service.host if service else None) or (case.facts.upstream.name if case.facts.upstream else None)
    )


RULES = {"no_healthy_target": no_target, "circuit_open": circuit_open, "queue_full": queue, "queue_timeout": queue}
