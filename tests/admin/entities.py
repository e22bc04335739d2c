# SPDX-License-Identifier: Apache-2.0
"""Which body makes a row of each table, and which rows does it need before?"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.admin import Admin
from tests.support.certificates import self_signed

Row = dict[str, Any]

FACTS = Path(__file__).parents[1] / "facts" / "kong"
_numbers = itertools.count(1)
_plugins = itertools.cycle(("rate-limiting", "request-transformer", "response-transformer"))

PATHS = {
    "acls": "acls",
    "acme_storage": "acme_storage",
    "basicauth_credentials": "basic-auths",
    "ca_certificates": "ca_certificates",
    "certificates": "certificates",
    "consumers": "consumers",
    "hmacauth_credentials": "hmac-auths",
    "jwt_secrets": "jwts",
    "key_sets": "key-sets",
    "keyauth_credentials": "key-auths",
    "keys": "keys",
    "oauth2_credentials": "oauth2",
    "oauth2_tokens": "oauth2_tokens",
    "plugins": "plugins",
    "routes": "routes",
    "services": "services",
    "sessions": "sessions",
    "snis": "snis",
    "upstreams": "upstreams",
    "vaults": "vaults",
}
"""Of the top-level collection of each table; Targets have none."""

PARENTS: Mapping[str, Mapping[str, str]] = {
    "acls": {"consumer": "consumers"},
    "basicauth_credentials": {"consumer": "consumers"},
    "hmacauth_credentials": {"consumer": "consumers"},
    "jwt_secrets": {"consumer": "consumers"},
    "keyauth_credentials": {"consumer": "consumers"},
    "oauth2_credentials": {"consumer": "consumers"},
    "oauth2_tokens": {"credential": "oauth2_credentials"},
    "snis": {"certificate": "certificates"},
    "targets": {"upstream": "upstreams"},
}
"""Tables of the rows that a row cannot be without, by field."""


@cache
def declared() -> dict[str, dict[str, Any]]:
    """What Kong says of each entity, by table."""
    entities: dict[str, dict[str, Any]] = json.loads((FACTS / "entities.json").read_text())["entities"]
    return {entity["name"]: entity for entity in entities.values()}


@cache
def pem(name: str, *, is_authority: bool = False) -> tuple[str, str]:
    """A certificate of this name and its key."""
    with tempfile.TemporaryDirectory() as folder:
        made = self_signed(Path(folder), name, is_authority=is_authority)
        return made.certificate.read_text(), made.key.read_text()


def number() -> int:
    """One that no other row of this run has."""
    return next(_numbers)


def own_fields(table: str) -> Row:
    """A body without what it refers to; no two rows are the same in what has to be unique."""
    at = number()
    match table:
        case "acls":
            return {"group": f"group-{at}"}
        case "acme_storage":
            return {"key": f"key-{at}", "value": "v"}
        case "basicauth_credentials":
            return {"username": f"user-{at}", "password": "p"}
        case "ca_certificates":
            return {"cert": pem(f"authority-{at}", is_authority=True)[0]}
        case "certificates":
            certificate, key = pem("shared.test")
            return {"cert": certificate, "key": key}
        case "consumers":
            return {"username": f"consumer-{at}", "custom_id": f"custom-{at}"}
        case "hmacauth_credentials":
            return {"username": f"user-{at}", "secret": "s"}
        case "jwt_secrets" | "keyauth_credentials":
            return {"key": f"key-{at}"}
        case "key_sets":
            return {"name": f"set-{at}"}
        case "keys":
            return {"name": f"key-{at}", "kid": f"kid-{at}", "pem": {"private_key": pem("shared.test")[1]}}
        case "oauth2_credentials":
            return {"name": f"app-{at}", "client_id": f"client-{at}"}
        case "oauth2_tokens":
            return {"expires_in": 10, "access_token": f"token-{at}"}
        case "plugins":
            # A row may have each only once.
            name = next(_plugins)
            config = {"minute": at, "policy": "local"} if name == "rate-limiting" else {}
            return {"name": name, "instance_name": f"instance-{at}", "config": config}
        case "routes":
            return {"name": f"route-{at}", "paths": [f"/route-{at}"]}
        case "services":
            return {"name": f"service-{at}", "host": "origin.test", "protocol": "https"}
        case "sessions":
            return {"session_id": f"session-{at}", "data": "d"}
        case "snis":
            return {"name": f"sni-{at}.test"}
        case "targets":
            return {"target": f"127.0.0.1:{10_000 + at}"}
        case "upstreams":
            return {"name": f"upstream-{at}.test", "healthchecks": {"passive": {"unhealthy": {"http_failures": 1}}}}
        case "vaults":
            return {"name": "env", "prefix": f"vault-{at}"}
    raise KeyError(table)


class Maker:
    """Makes rows through the Admin API, with the rows that they cannot be without."""

    def __init__(self, admin: Admin) -> None:
        self.admin = admin

    def body(self, table: str, **fields: Any) -> Row:
        """Of a row that is not there yet."""
        needed = {
            field: {"id": self.row(parent)["id"]} for field, parent in PARENTS.get(table, {}).items() if field not in fields
        }
        made = {**own_fields(table), **needed, **fields}
        if table == "plugins" and not {"route", "service", "consumer"} & made.keys():
            # One of a name may be global.
            made["route"] = {"id": self.row("routes")["id"]}
        return made

    def row(self, table: str, **fields: Any) -> Row:
        """One that is there now."""
        body = self.body(table, **fields)
        path = PATHS.get(table) or f"upstreams/{body['upstream']['id']}/targets"
        made: Row = self.admin.post(f"/{path}", body)
        return made
