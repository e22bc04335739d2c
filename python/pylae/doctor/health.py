# SPDX-License-Identifier: Apache-2.0
"""May any Target be chosen, and does what the gateway believes of each agree with what was just seen?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from pylae.doctor.answers import Answer
from pylae.doctor.configured import Subject
from pylae.doctor.findings import Finding, Row
from pylae.doctor.looks import Look
from pylae.explain import calls
from pylae.explain.words import count, quoted

OUT: Final = ("UNHEALTHY", "DNS_ERROR")
_OK: Final = 400


def judge(subject: Subject, looks: Mapping[str, Sequence[Look]], admin_url: str) -> list[Finding]:
    """What is wrong with the Targets.

    Args:
        subject: the Service and its Upstream.
        looks: what was just seen, by `target` of a Target.
        admin_url: of the Admin API, for the calls in a cure.
    """
    if subject.upstream is None:
        return []
    name = str(subject.upstream.get("name"))
    path = subject.address_of_targets
    usable = [row for row in subject.targets if (row.get("weight") or 0) > 0]
    out = [row for row in usable if row.get("health") in OUT]
    if not usable:
        has_any = bool(subject.targets)
        return [
            Finding(
                hop="gateway",
                phase="choose_target",
                cause="no_healthy_target",
                finding="all_weights_zero" if has_any else "no_target",
                summary=f"The Upstream {quoted(name)} has no Target {'with a weight above 0' if has_any else 'at all'}.",
                confidence=0.95,
                evidence=(f"{count(len(subject.targets), 'Target')}, none that may be chosen",),
                cure=(calls.admin(admin_url, "POST", path, target="HOST:PORT"),),
            )
        ]
    if not out:
        return []
    works = [row for row in out if _answers(looks.get(str(row.get("target")), []))]
    all_out = len(out) == len(usable)
    evidence = [f"{row.get('target')}: {row.get('health')}{_why(row)}" for row in out[:8]]
    evidence += [f"{row.get('target')} just answered this command's probe" for row in works[:4]]
    cure = [
        calls.admin(admin_url, "PUT", f"{path}/{quote(str(row.get('target')), safe='')}/healthy")
        for row in (works if works else out)[:2]
        if row.get("health") != "DNS_ERROR"
    ]
    return [
        Finding(
            hop="gateway" if works else "dns" if all(row.get("health") == "DNS_ERROR" for row in out) else "upstream",
            phase="choose_target",
            cause="no_healthy_target",
            finding="all_unhealthy" if all_out else "some_unhealthy",
            summary=(
                f"Every Target of the Upstream {quoted(name)} counts as unhealthy."
                if all_out
                else f"{len(out)} of {count(len(usable), 'Target')} of the Upstream {quoted(name)} "
                f"{'counts' if len(out) == 1 else 'count'} as unhealthy."
            ),
            confidence=0.9 if all_out else 0.85,
            is_broken=all_out,
            evidence=tuple(evidence),
            cure=(
                "mend what the other findings name"
                if not works
                else "what made them unhealthy is over, or the health check asks wrongly",
                *cure,
                calls.admin(admin_url, "GET", f"/upstreams/{quote(name, safe='')}/health"),
            ),
        )
    ]


def told(subject: Subject) -> str:
    """In a few words, for the checklist."""
    by_health: dict[str, int] = {}
    for row in subject.targets:
        health = str(row.get("health") or "unknown") if row.get("weight") else "weight 0"
        by_health[health] = by_health.get(health, 0) + 1
    return ", ".join(f"{number} {health}" for health, number in sorted(by_health.items())) or "no Target"


def _answers(looks: Sequence[Look]) -> bool:
    return bool(looks) and all(isinstance(look.answer, Answer) and look.answer.status < _OK for look in looks)


def _why(row: Row) -> str:
    addresses = (row.get("data") or {}).get("addresses") or []
    told = {str((one.get("pylae") or {}).get("evidence") or (one.get("pylae") or {}).get("why") or "") for one in addresses}
    words = "; ".join(sorted(told - {""}))
    return f" ({words})" if words else ""
