# SPDX-License-Identifier: Apache-2.0
"""Which rows does the suite store? Whole ones, as the Dao hands them over."""

from __future__ import annotations

from typing import Any

from pylae.entities import CORE
from pylae.plugins.key_auth.entities import KeyauthCredential
from pylae.schema import Entity, schema_of

_ALL: tuple[type[Entity], ...] = (*CORE, KeyauthCredential)
ENTITIES = {entity.table: entity for entity in _ALL}


def row(table: str, **values: Any) -> dict[str, Any]:
    """A row with everything that is not said filled in."""
    filled = schema_of(ENTITIES[table]).insert(values)
    filled.pop("ttl", None)
    return filled


def service(name: str, **values: Any) -> dict[str, Any]:
    """A Service."""
    return row("services", name=name, host="origin.test", **values)


def route(name: str, service: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    """A Route."""
    parent = None if service is None else {"id": service["id"]}
    return row("routes", name=name, paths=[f"/{name}"], service=parent, **values)


def consumer(name: str, **values: Any) -> dict[str, Any]:
    """A Consumer."""
    return row("consumers", username=name, **values)


def key(consumer: dict[str, Any], text: str) -> dict[str, Any]:
    """A key of a Consumer."""
    return row("keyauth_credentials", consumer={"id": consumer["id"]}, key=text)
