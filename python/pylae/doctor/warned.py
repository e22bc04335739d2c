# SPDX-License-Identifier: Apache-2.0
"""What has the gateway itself noticed that is about to break?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pylae.doctor.configured import Subject
from pylae.doctor.findings import Finding, Hop, Phase, Row


@dataclass(frozen=True, slots=True)
class _Kind:
    hop: Hop
    phase: Phase
    cause: str
    finding: str
    check: str


KINDS: Final = {
    "idle_timeout": _Kind("upstream", "send_request", "closed_before_headers", "idle_timeout_below_ours", "keep-alive"),
    "request_header_size": _Kind("client", "read_request", "request_header_too_large", "request_header_near_limit", "headers"),
    "response_header_size": _Kind(
        "upstream", "read_answer", "response_header_too_large", "response_header_near_limit", "headers"
    ),
    "upstream_certificate": _Kind(
        "upstream", "tls_handshake", "upstream_certificate_rejected", "certificate_expires_soon", "tls"
    ),
    "certificate": _Kind("gateway", "client_tls", "client_tls_failed", "own_certificate_expires_soon", "certificates"),
    "dns_stale": _Kind("dns", "resolve", "dns_failed", "served_stale", "names"),
    "timeout_order": _Kind("first_lb", "wait_for_answer", "client_gone", "timeouts_in_wrong_order", "timeouts"),
}
"""Each kind of warning, and what it will become; `check` is the line of the checklist it belongs to."""
OURS: Final = (None, "gateway", "ours", "pylae")


def judge(
    warnings: Iterable[Row],
    subjects: Iterable[Subject],
    places: Mapping[str, Collection[str]] | None = None,
    *,
    is_everything: bool = True,
) -> list[Finding]:
    """The warnings that are about one of these Services, and those that are about none.

    Args:
        warnings: as the Admin API shows them.
        subjects: what was looked at.
        places: by id of a Service the addresses that were spoken to.
        is_everything: whether every Service was looked at, so that what is about an unknown one is told, too.
    """
    subjects = list(subjects)
    found = []
    for row in warnings:
        kind = KINDS.get(str(row.get("kind")))
        if kind is None:
            continue
        facts = _mapping(row.get("facts"))
        about = _about(facts, str(row.get("key") or ""), subjects, places or {})
        if about is None and not is_everything and kind.check != "certificates":
            continue
        cure = row.get("cure")
        hop, cause = _of_whom(kind, facts)
        found.append(
            Finding(
                hop=hop,
                phase=kind.phase,
                cause=cause,
                finding=kind.finding,
                summary=str(row.get("text") or f"{row.get('kind')}: {row.get('key')}"),
                confidence=0.8,
                is_broken=False,
                subject=str(row.get("key") or ""),
                service=about[0] if about is not None else None,
                route=about[1] if about is not None else None,
                evidence=(_noticed(row),),
                cure=tuple(map(str, cure)) if isinstance(cure, list | tuple) else (),
            )
        )
    return found


def _noticed(row: Row) -> str:
    times = row.get("count") or 1
    last = row.get("last_seen")
    return f"the gateway noticed it once, at {last}" if times == 1 else f"the gateway noticed it {times} times, last at {last}"


def _of_whom(kind: _Kind, facts: dict[str, Any]) -> tuple[Hop, str]:
    """Whose limit it is: the request's headers may be too large for what stands behind us."""
    whose = facts.get("whose")
    if kind.cause == "request_header_too_large" and whose not in OURS:
        return "second_lb", "header_too_large_behind"
    if facts.get("where") == "behind":
        return "second_lb", "timeout_behind"
    return kind.hop, kind.cause


def _about(
    facts: dict[str, Any], key: str, subjects: list[Subject], places: Mapping[str, Collection[str]]
) -> tuple[Row, Row | None] | None:
    """Service and Route of a warning; None: it is about none of them."""
    named = {str(facts[name]) for name in ("route", "route_name") if facts.get(name)}
    services = {str(facts[name]) for name in ("service", "service_id") if facts.get(name)}
    spots = {str(facts[name]) for name in ("address", "host", "name") if facts.get(name)} | {key}
    for subject in subjects:
        service = subject.service
        for route in subject.routes:
            if named & {str(route.get("id")), str(route.get("name"))}:
                return service, route
        targets = [str(row.get("target")) for row in subject.targets]
        hosts = {str(service.get("host")), f"{service.get('host')}:{service.get('port')}", *targets}
        hosts |= {target.rpartition(":")[0] for target in targets} | set(places.get(str(service.get("id")), ()))
        if services & {str(service.get("id")), str(service.get("name"))} or spots & hosts:
            return service, None
    return None


def _mapping(value: object) -> dict[str, Any]:
    return {str(name): one for name, one in value.items()} if isinstance(value, dict) else {}
