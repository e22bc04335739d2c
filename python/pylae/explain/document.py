# SPDX-License-Identifier: Apache-2.0
"""What is answered to `GET /explain/ID`? The record, its verdict, and how the Route was found, as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pylae.explain import facts as facts_
from pylae.explain.facts import Facts
from pylae.explain.verdict import verdict_of


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
    return {
        "request_id": facts.request_id,
        "time": facts.time,
        "kind": facts.kind,
        "status": facts.status,
        "route": _route(facts, route_explanation),
        "service": _known(facts.service),
        "upstream": _known(facts.upstream),
        "plugins": [_known(step) for step in facts.plugins],
        "attempts": [_known(attempt) for attempt in facts.attempts],
        "verdict": verdict_document(facts, admin_url=admin_url),
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
