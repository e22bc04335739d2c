# SPDX-License-Identifier: Apache-2.0
"""Can workers read every row that the Admin API takes, null and the bounds of each field included?

A worker that cannot read one row refuses the whole configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pylae import entities
from pylae.database.changes import SNAPSHOT_TABLES
from pylae.schema import Field
from pylae.sdk import loader
from tests.support.gateway import Gateway

PLUGINS = loader.load(["bundled"])
Path = tuple[str, ...]
UNREADABLE = ("can't be read", "was refused")
TEXTS = ("a", "/a", "a.test", "127.0.0.1", "127.0.0.1:1", "rate-limiting")
"""Every field that holds text takes one of them."""
PARENTS = {"service", "route", "consumer", "upstream", "client_certificate", "ca_certificates", "config", "id"}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    entities.enable_plugins(PLUGINS)
    with Gateway() as started:
        yield started


def _values(declared: Field) -> Iterator[Any]:
    """Null, the bounds, each of the values listed, texts of all kinds, nothing in a list."""
    yield None
    limits = declared.limits
    if limits.between is not None:
        yield from (int(limits.between[0]), int(limits.between[1]))
        yield from ([limits.between[0] + 0.5] if declared.type == "number" else [])
    yield from limits.one_of or ()
    if limits.between is None and declared.type in ("integer", "number"):
        yield from (0, 1, 2**53, -(2**53))
    match declared.type:
        case "boolean":
            yield from (True, False)
        case "record":
            yield {}
        case "string" if limits.one_of is None:
            yield from TEXTS
        case "array" | "set" | "map":
            yield {} if declared.type == "map" else []
            yield from _with_items(declared)


def _with_items(declared: Field) -> Iterator[Any]:
    if declared.elements is not None:
        yield from ([item] for item in _values(declared.elements))
    if declared.values is not None:
        yield from ({"x-a": value} for value in _values(declared.values))


def _changes(fields: Mapping[str, Field]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """One field of the row, or of a record inside, and what sets it to one of its values."""
    for name, declared in fields.items():
        if name in PARENTS:
            continue
        yield from (((name,), {name: value}) for value in _values(declared))
        if declared.record is not None:
            yield from (((name, *path), {name: inner}) for path, inner in _changes(declared.record.fields))
        elif declared.elements is not None and declared.elements.record is not None:
            yield from (((name, *path), {name: [inner]}) for path, inner in _changes(declared.elements.record.fields))


def _leaf(change: Any) -> Any:
    """What a change sets its field to."""
    while change and isinstance(change, dict | list):
        change = next(iter(change.values())) if isinstance(change, dict) else change[0]
    return change


def _base(table: str, field_path: Path, number: int, parent: str) -> dict[str, Any]:
    """A row unlike all others that the field may stand in, whose parent is not wanted for its own sake."""
    match table:
        case "routes" if field_path[0] in ("sources", "destinations"):
            return {"protocols": ["tcp"], "sources": [{"port": 1}], "destinations": [{"port": 1}]}
        case "services":
            return {"protocol": "https", "host": "a.test"}
        case "routes":
            return {"protocols": ["https"], "paths": ["/a"], "hosts": ["a.test"]}
        case "upstreams":
            return {"name": f"u{number}.test"}
        case "targets":
            return {"target": f"127.0.0.1:{number + 1}"}
        case _:
            return {"name": "rate-limiting", "config": {"minute": 5}, "consumer": {"id": parent}}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("table", SNAPSHOT_TABLES)
def test_every_row_that_is_taken_can_be_read(gateway: Gateway, table: str) -> None:
    admin = gateway.admin
    path = f"/upstreams/{admin.post('/upstreams', {'name': 'parent.test'})['id']}/targets" if table == "targets" else f"/{table}"
    taken: dict[Path, bool] = {}
    for number, (field_path, change) in enumerate(_changes(entities.schema(table).fields)):
        parent = admin.post("/consumers", {"username": f"c{number}"})["id"] if table == "plugins" else ""
        answer = admin.call("POST", path, {**_base(table, field_path, number, parent), **change})
        assert answer.status in (201, 400, 409), f"{table} {change}: {answer.status}"
        is_something = _leaf(change) is not None
        taken[field_path] = taken.get(field_path, False) or (answer.status == 201 and is_something)
    assert [path for path, is_taken in taken.items() if not is_taken] == []
    gateway.settle()
    unreadable = [line for line in gateway.error_log.lines() if any(words in line for words in UNREADABLE)]
    assert not unreadable
