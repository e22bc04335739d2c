# SPDX-License-Identifier: Apache-2.0
"""What is answered to `GET /explain/ID`? The record, its verdict, and how the Route was found, as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pylae.explain import facts as facts_
from pylae.explain.facts import Facts
from pylae.explain.verdict import verdict_of
from pylae.explain.words import escaped, quoted

MOST_NEAREST: Final = 3
"""Routes told of in the evidence, conditions of each, and values of a condition."""


def document_of(
    record: bytes | Mapping[str, object],
    *,
    admin_url: str,
    route_explanation: Mapping[str, Any] | None,
    is_config_current: bool,
) -> dict[str, Any]:
    """The whole explanation of one exchange; never raises, whatever the record is.

    Args:
        record: as a worker wrote it.
        admin_url: of the Admin API, for the calls in a cure: `http://localhost:8001`.
        route_explanation: what the router says of the request (`route.why`, `nearest`); `None` when it was not asked.
        is_config_current: is the configuration that served the request still the one in force?
    """
    facts = facts_.read(record)
    route = _route(facts, route_explanation)
    verdict = verdict_document(facts, admin_url=admin_url)
    if verdict["cause"] == "no_route":
        verdict["evidence"] += _nearest(route["nearest"])
    return {
        "request_id": facts.request_id,
        "time": facts.time,
        "kind": facts.kind,
        "status": facts.status,
        "route": route,
        "service": _known(facts.service),
        "upstream": _known(facts.upstream),
        "plugins": [_known(step) for step in facts.plugins],
        "attempts": [_known(attempt) for attempt in facts.attempts],
        "verdict": verdict,
        "request": _known(facts.request),
        "client": _known(facts.client),
        "answer": _known(facts.answer),
        "milestones": _known(facts.milestones),
        "duration_ms": facts.duration_ms,
        "config": facts.config,
        "is_config_current": is_config_current,
    }


def verdict_document(facts: Facts, *, admin_url: str) -> dict[str, Any]:
    """The verdict as JSON shows it."""
    found: dict[str, Any] = msgspec.to_builtins(verdict_of(facts, admin_url=admin_url))
    return found


def _route(facts: Facts, explanation: Mapping[str, Any] | None) -> dict[str, Any]:
    """The Route of the record; why it matched only where today's router names the same one."""
    route = facts.route
    found: dict[str, Any] = {"id": route.id if route else None, "name": route.name if route else None, "why": [], "nearest": []}
    if not isinstance(explanation, Mapping):
        return found
    explained = explanation.get("route")
    if isinstance(explained, Mapping) and explained.get("id") == found["id"] and isinstance(explained.get("why"), list):
        found["why"] = explained["why"]
    if isinstance(explanation.get("nearest"), list):
        found["nearest"] = explanation["nearest"]
    return found


def _nearest(routes: list[Any]) -> list[str]:
    """Which Routes came nearest, and why they did not match."""
    lines = []
    for route in routes[:MOST_NEAREST]:
        if not isinstance(route, Mapping):
            continue
        failed = [one for one in _list(route, "failed") if isinstance(one, Mapping)]
        why = "; ".join(
            f"{escaped(str(one.get('condition')), 40)}: wanted {_values(one.get('wanted'))}, got {_values(one.get('got'))}"
            for one in failed[:MOST_NEAREST]
        )
        name = route.get("name") or route.get("id")
        lines.append(f"Route {quoted(str(name), 80)} is near, and does not match{f': {why}' if why else ''}")
    return lines


def _values(values: Any) -> str:
    shown = values if isinstance(values, list) else [values]
    return " or ".join(quoted(str(value), 80) for value in shown[:MOST_NEAREST] if value is not None) or "none"


def _list(of: Mapping[str, Any], key: str) -> list[Any]:
    found = of.get(key)
    return found if isinstance(found, list) else []


def _known(structure: msgspec.Struct | None) -> dict[str, Any] | None:
    """A structure without what is not known."""
    if structure is None:
        return None
    found: dict[str, Any] = {}
    for name in structure.__struct_fields__:
        value = getattr(structure, name)
        if isinstance(value, msgspec.Struct):
            value = _known(value)
        if value is None or value in ({}, []):
            continue
        found[name] = value
    return found
