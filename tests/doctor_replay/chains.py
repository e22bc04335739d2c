# SPDX-License-Identifier: Apache-2.0
"""Rows of plugins as the Admin API shows them, and replays of requests through them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from pylae.doctor.replay.asking import order_of_record, order_of_request
from pylae.doctor.replay.order import Member, Report, Run, Trouble
from pylae.doctor.replay.process import replay
from pylae.plugins.key_auth.plugin import KeyAuth
from pylae.plugins.rate_limiting.plugin import RateLimiting
from pylae.plugins.request_transformer.plugin import RequestTransformer
from pylae.plugins.response_transformer.plugin import ResponseTransformer
from pylae.sdk.testing import validated

PLUGIN_PATH: Final = Path(__file__).parent / "plugins"
BUNDLED: Final = {plugin.name: plugin for plugin in (KeyAuth, RateLimiting, RequestTransformer, ResponseTransformer)}
PATIENCE_S: Final = 25.0
"""Longer than the doctor has: what is asked here is not how busy the machine is."""
CONSUMER: Final = {"id": "c0000000-0000-4000-8000-000000000001", "username": "alice", "custom_id": None, "created_at": 1}


def id_of(name: str) -> str:
    """The id of a plugin's row in these tests."""
    return f"id-of-{name}"


def row(name: str, **config: Any) -> dict[str, Any]:
    """A row of `plugins`."""
    full = validated(BUNDLED[name], config) if name in BUNDLED else config
    return {"id": id_of(name), "name": name, "enabled": True, "config": full, "route": None, "service": None, "consumer": None}


def culprit(does: str, **config: Any) -> dict[str, Any]:
    """A row of the plugin that fails."""
    return row("culprit", does=does, **config)


def adding(*headers: str) -> dict[str, Any]:
    """A row of request-transformer that adds headers."""
    return row("request-transformer", add={"headers": list(headers)})


def run(
    rows: Sequence[dict[str, Any]], method: str = "GET", target: str = "/orders", *, most_s: float = PATIENCE_S, **request: Any
) -> Report:
    """What a described request comes to."""
    return replay(order_of_request(method, target, rows, plugin_path=[PLUGIN_PATH], **request), most_s=most_s)


def run_record(record: dict[str, Any], rows: Sequence[dict[str, Any]], **more: Any) -> Report:
    """What a recorded request comes to."""
    return replay(order_of_record(record, rows, plugin_path=[PLUGIN_PATH], **more), most_s=PATIENCE_S)


def whole_of(report: Report) -> Run:
    """The walk through all of them."""
    assert report.whole is not None, msgspec.json.encode(report)
    return report.whole


def trouble_of(report: Report) -> Trouble:
    """How the whole chain fails."""
    trouble = whole_of(report).trouble
    assert trouble is not None, msgspec.json.encode(report)
    return trouble


def names(report: Report, positions: Sequence[int] | None) -> list[str] | None:
    """The plugins at these positions."""
    by_position = {member.position: member.name for member in report.members}
    return None if positions is None else [by_position[position] for position in positions]


def member_of(report: Report, name: str) -> Member:
    """What was done with a plugin."""
    return next(member for member in report.members if member.name == name)


def record(**parts: Any) -> dict[str, Any]:
    """A record of a request that a plugin failed, with these parts laid over it."""
    made: dict[str, Any] = {
        "time": "2026-11-25T02:00:00.000Z",
        "request_id": "0123456789abcdef0123456789abcdef",
        "kind": "failed",
        "status": 500,
        "config": "d1:7",
        "fault": "plugin_failed",
        "plugin": "culprit",
        "answered_by": "plugin",
        "phase": "access",
        "request": {
            "line": "GET /orders HTTP/1.1",
            "method": "GET",
            "scheme": "http",
            "host": "api.test",
            "path": "/orders",
            "query": [],
            "version": "1.1",
            "body_bytes": 0,
            "head_bytes": 90,
            "headers": [["Host", "api.test"], ["Accept", "*/*"], ["Authorization", None]],
        },
        "client": {"ip": "203.0.113.7", "consumer_id": None, "credential_id": None},
        "route": {"id": "r1", "name": "orders", "strip_path": True, "path_prefix_bytes": 7},
        "service": {"id": "s1", "name": "orders", "host": "orders.test", "port": 80, "protocol": "http", "path": "/v1"},
        "plugins": [{"name": "culprit", "id": id_of("culprit"), "phase": "access", "took_us": 40, "outcome": "failed"}],
        "attempts": [],
    }
    for name, part in parts.items():
        made[name] = {**made[name], **part} if isinstance(part, dict) and isinstance(made.get(name), dict) else part
    return made
