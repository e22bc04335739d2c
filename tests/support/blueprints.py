# SPDX-License-Identifier: Apache-2.0
"""Which entities does a test need around the one thing that matters to it?"""

from __future__ import annotations

import itertools
from typing import Any

from tests.support.gateway import Gateway
from tests.support.origin import Origin

Entity = dict[str, Any]

_numbers = itertools.count(1)


def unique(word: str) -> str:
    """A name nobody else in this process uses."""
    return f"{word}-{next(_numbers)}"


class Blueprints:
    """Creates entities through the Admin API; what is not said has a sensible value."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.admin = gateway, gateway.admin

    def service(self, origin: Origin | str, **fields: Any) -> Entity:
        """A Service for an origin, or for a URL."""
        url = origin if isinstance(origin, str) else origin.url
        created: Entity = self.admin.post("/services", {"name": unique("service"), "url": url, **fields})
        return created

    def route(self, service: Entity | None, **fields: Any) -> Entity:
        """A Route on a path of its own."""
        name = unique("route")
        matchers = {"methods", "hosts", "headers", "paths", "snis"} & fields.keys()
        body = {"name": name, **({} if matchers else {"paths": [f"/{name}"]}), **fields}
        path = f"/services/{service['id']}/routes" if service else "/routes"
        created: Entity = self.admin.post(path, body)
        return created

    def path(self, origin: Origin | str, route: Entity | None = None, **service: Any) -> str:
        """A path under which the origin answers, served by every worker."""
        created = self.route(self.service(origin, **service), **(route or {}))
        self.gateway.settle()
        path: str = created["paths"][0]
        return path

    def plugin(self, name: str, on: Entity | None = None, kind: str = "", **config: Any) -> Entity:
        """A plugin; `kind` is `service`, `route` or `consumer` when `on` is given."""
        body: Entity = {"name": name, "config": config}
        if on is not None:
            body[kind] = {"id": on["id"]}
        created: Entity = self.admin.post("/plugins", body)
        return created

    def plugged(self, origin: Origin | str, plugin: str, route: Entity | None = None, **config: Any) -> str:
        """A path whose Route has the plugin, served by every worker."""
        created = self.route(self.service(origin), **(route or {}))
        self.plugin(plugin, created, "route", **config)
        self.gateway.settle()
        path: str = created["paths"][0]
        return path

    def consumer(self, **fields: Any) -> Entity:
        """A Consumer."""
        created: Entity = self.admin.post("/consumers", {"username": unique("consumer"), **fields})
        return created

    def key(self, consumer: Entity, **fields: Any) -> str:
        """A key of the Consumer."""
        created: Entity = self.admin.post(f"/consumers/{consumer['id']}/key-auth", fields or {"key": unique("key")})
        key: str = created["key"]
        return key

    def upstream(self, *targets: str, **fields: Any) -> Entity:
        """An Upstream with Targets of equal weight."""
        created: Entity = self.admin.post("/upstreams", {"name": unique("upstream") + ".test", **fields})
        for target in targets:
            self.admin.post(f"/upstreams/{created['id']}/targets", {"target": target})
        return created
