# SPDX-License-Identifier: Apache-2.0
"""What if a Route asks for more than one proof, or for one of several?

Without `anonymous` each plugin is asked for (AND), in the order of their priorities; the last one says who the client is.
With `anonymous` in all of them one is enough (OR): whoever comes after a success does nothing, and a client without any
proof passes as the anonymous Consumer, which another plugin may then turn away.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any

import pytest

from tests.support.blueprints import Blueprints, Entity, unique
from tests.support.gateway import Gateway
from tests.support.origin import Origin
from tests.support.raw import Reply

SECRET = "a-secret-of-thirty-two-characters"
ORDER = ("jwt", "key-auth", "basic-auth", "hmac-auth")
"""By priority: 1450, 1250, 1100, 1030."""


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(key: str, secret: str = SECRET) -> str:
    """A token of HS256 that never ends."""
    signed = f"{_url64(json.dumps({'alg': 'HS256'}).encode())}.{_url64(json.dumps({'iss': key}).encode())}"
    return f"{signed}.{_url64(hmac.digest(secret.encode(), signed.encode(), 'sha256'))}"


def hmac_lines(name: str, secret: str = SECRET) -> tuple[str, ...]:
    """A signature over the date."""
    date = formatdate(usegmt=True)
    signature = base64.b64encode(hmac.digest(secret.encode(), f"x-date: {date}".encode(), hashlib.sha256)).decode()
    proof = f'hmac username="{name}", algorithm="hmac-sha256", headers="x-date", signature="{signature}"'
    return f"X-Date: {date}", f"Proxy-Authorization: {proof}"


PROOFS: Mapping[str, tuple[str, Callable[[str], Entity], Callable[[str], tuple[str, ...]]]] = {
    "jwt": ("jwt", lambda name: {"key": name, "secret": SECRET}, lambda name: (f"X-Token: Bearer {token(name)}",)),
    "key-auth": ("key-auth", lambda name: {"key": name}, lambda name: (f"apikey: {name}",)),
    "basic-auth": (
        "basic-auth",
        lambda name: {"username": name, "password": SECRET},
        lambda name: (f"Authorization: Basic {base64.b64encode(f'{name}:{SECRET}'.encode()).decode()}",),
    ),
    "hmac-auth": ("hmac-auth", lambda name: {"username": name, "secret": SECRET}, hmac_lines),
}
"""Of each plugin: the credential's Admin path, what is stored, and what a client sends. No two use the same field."""
CONFIGS: Mapping[str, Mapping[str, Any]] = {"jwt": {"header_names": ["x-token"]}}


class Somebody:
    """A Consumer with a credential of one plugin."""

    def __init__(self, blueprints: Blueprints, plugin: str, consumer: Entity | None = None) -> None:
        path, stored, sent = PROOFS[plugin]
        self.consumer = consumer or blueprints.consumer()
        self.name = unique("credential")
        blueprints.admin.post(f"/consumers/{self.consumer['id']}/{path}", stored(self.name))
        self._sent = sent

    def lines(self) -> tuple[str, ...]:
        """What proves it, fresh."""
        return self._sent(self.name)


@pytest.fixture(scope="module")
def known(blueprints: Blueprints) -> dict[str, Somebody]:
    """Somebody for each plugin, each another one."""
    return {plugin: Somebody(blueprints, plugin) for plugin in ORDER}


@pytest.fixture(scope="module")
def anonymous(blueprints: Blueprints) -> Entity:
    return blueprints.consumer(username="anonymous-users")


def guarded(blueprints: Blueprints, echo: Origin, *plugins: str, anonymous: Entity | None = None) -> tuple[str, Entity]:
    """A path behind these plugins, and its Route."""
    route = blueprints.route(blueprints.service(echo))
    for plugin in plugins:
        chosen = {} if anonymous is None else {"anonymous": anonymous["id"]}
        blueprints.plugin(plugin, route, "route", **CONFIGS.get(plugin, {}), **chosen)
    blueprints.gateway.settle()
    return route["paths"][0], route


def told(echo: Origin) -> str | None:
    """Whom the upstream was told of."""
    return echo.last.header("X-Consumer-ID")


PAIRS = list(itertools.combinations(ORDER, 2))


@pytest.mark.parametrize(("earlier", "later"), PAIRS)
def test_both_are_asked_for(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, known: dict[str, Somebody], earlier: str, later: str
) -> None:
    # Configured in the other order: the priorities count.
    path, _ = guarded(blueprints, echo, later, earlier)
    assert gateway.get(path).status == 401
    assert gateway.get(path, *known[earlier].lines()).status == 401
    assert gateway.get(path, *known[later].lines()).status == 401
    assert not echo.requests
    assert gateway.get(path, *known[earlier].lines(), *known[later].lines()).status == 200
    assert told(echo) == known[later].consumer["id"]
    assert echo.last.header("X-Consumer-Username") == known[later].consumer["username"]


@pytest.mark.parametrize(("earlier", "later"), PAIRS)
def test_either_is_enough(
    gateway: Gateway,
    blueprints: Blueprints,
    echo: Origin,
    known: dict[str, Somebody],
    anonymous: Entity,
    earlier: str,
    later: str,
) -> None:
    path, _ = guarded(blueprints, echo, later, earlier, anonymous=anonymous)
    for plugin in (earlier, later):
        assert gateway.get(path, *known[plugin].lines()).status == 200
        assert told(echo) == known[plugin].consumer["id"]
        assert echo.last.header("X-Anonymous-Consumer") is None
    assert gateway.get(path, *known[earlier].lines(), *known[later].lines()).status == 200
    assert told(echo) == known[earlier].consumer["id"], "the first success counts"
    assert gateway.get(path).status == 200
    assert (told(echo), echo.last.header("X-Anonymous-Consumer")) == (anonymous["id"], "true")
    assert echo.last.header("X-Credential-Identifier") is None


def test_a_wrong_proof_beside_a_right_one(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, known: dict[str, Somebody], anonymous: Entity
) -> None:
    path, _ = guarded(blueprints, echo, "key-auth", "jwt", anonymous=anonymous)
    wrong_token = f"X-Token: Bearer {token(known['jwt'].name, 'another-secret-of-thirty-two-chars')}"
    assert gateway.get(path, wrong_token, *known["key-auth"].lines()).status == 200
    assert told(echo) == known["key-auth"].consumer["id"]
    assert echo.last.header("X-Anonymous-Consumer") is None
    assert gateway.get(path, *known["jwt"].lines(), "apikey: nope").status == 200
    assert told(echo) == known["jwt"].consumer["id"]


def test_anonymous_in_one_only(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, known: dict[str, Somebody], anonymous: Entity
) -> None:
    route = blueprints.route(blueprints.service(echo))
    blueprints.plugin("jwt", route, "route", header_names=["x-token"], anonymous=anonymous["username"])
    blueprints.plugin("key-auth", route, "route")
    gateway.settle()
    path = route["paths"][0]
    assert gateway.get(path, *known["jwt"].lines()).status == 401, "key-auth insists"
    assert gateway.get(path, *known["key-auth"].lines()).status == 200
    assert told(echo) == known["key-auth"].consumer["id"]
    assert echo.last.header("X-Anonymous-Consumer") is None


def test_the_anonymous_are_turned_away_by_a_plugin_of_their_own(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, known: dict[str, Somebody]
) -> None:
    nobody = blueprints.consumer()
    blueprints.plugin("request-termination", nobody, "consumer", status_code=403, message="prove who you are")
    path, _ = guarded(blueprints, echo, "key-auth", "basic-auth", anonymous=nobody)
    reply = gateway.get(path, "Accept: application/json")
    assert (reply.status, json.loads(reply.body)["message"]) == (403, "prove who you are")
    assert not echo.requests
    for plugin in ("key-auth", "basic-auth"):
        assert gateway.get(path, *known[plugin].lines()).status == 200


@pytest.mark.parametrize("plugin", ORDER)
def test_groups_are_asked_for_after_the_proof(gateway: Gateway, blueprints: Blueprints, echo: Origin, plugin: str) -> None:
    friend, stranger = (Somebody(blueprints, plugin) for _ in range(2))
    blueprints.admin.post(f"/consumers/{friend.consumer['id']}/acls", {"group": "friends"})
    path, route = guarded(blueprints, echo, plugin)
    blueprints.plugin("acl", route, "route", allow=["friends"])
    gateway.settle()
    assert gateway.get(path).status == 401, "the proof comes first"
    assert gateway.get(path, *friend.lines()).status == 200
    assert echo.last.header("X-Consumer-Groups") == "friends"
    refused: Reply = gateway.get(path, *stranger.lines(), "Accept: application/json")
    assert (refused.status, json.loads(refused.body)["message"]) == (403, "You cannot consume this service")


def test_a_group_that_is_taken_away_counts_at_once(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    member = Somebody(blueprints, "key-auth")
    path, route = guarded(blueprints, echo, "key-auth")
    blueprints.plugin("acl", route, "route", allow=["members"])
    membership = blueprints.admin.post(f"/consumers/{member.consumer['id']}/acls", {"group": "members"})
    gateway.settle()
    assert gateway.get(path, *member.lines()).status == 200
    blueprints.admin.delete(f"/acls/{membership['id']}")
    gateway.settle()
    assert gateway.get(path, *member.lines()).status == 403
    blueprints.admin.post(f"/consumers/{member.consumer['id']}/acls", {"group": "members"})
    gateway.settle()
    assert gateway.get(path, *member.lines()).status == 200


@pytest.mark.parametrize("plugin", ORDER)
def test_a_credential_that_is_taken_away_counts_at_once(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, plugin: str
) -> None:
    somebody = Somebody(blueprints, plugin)
    path, _ = guarded(blueprints, echo, plugin)
    for _ in range(2):
        assert gateway.get(path, *somebody.lines()).status == 200
    listed = blueprints.admin.get(f"/consumers/{somebody.consumer['id']}/{PROOFS[plugin][0]}")["data"]
    blueprints.admin.delete(f"/consumers/{somebody.consumer['id']}/{PROOFS[plugin][0]}/{listed[0]['id']}")
    gateway.settle()
    assert gateway.get(path, *somebody.lines()).status == 401


@pytest.mark.parametrize("plugin", ORDER)
def test_a_consumer_that_is_taken_away_counts_at_once(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, plugin: str
) -> None:
    somebody = Somebody(blueprints, plugin)
    path, _ = guarded(blueprints, echo, plugin)
    assert gateway.get(path, *somebody.lines()).status == 200
    blueprints.admin.delete(f"/consumers/{somebody.consumer['id']}")
    gateway.settle()
    assert gateway.get(path, *somebody.lines()).status == 401


def test_a_plugin_of_the_found_consumer_applies(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    slow, free = (Somebody(blueprints, "jwt") for _ in range(2))
    blueprints.plugin("rate-limiting", slow.consumer, "consumer", minute=1, policy="local")
    path, _ = guarded(blueprints, echo, "jwt")
    assert [gateway.get(path, *free.lines()).status for _ in range(3)] == [200, 200, 200]
    assert [gateway.get(path, *slow.lines()).status for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("scope", ["route", "service", "global"])
def test_the_nearest_configuration_counts(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, known: dict[str, Somebody], scope: str
) -> None:
    service = blueprints.service(echo)
    route = blueprints.route(service)
    headers = {"route": "x-of-route", "service": "x-of-service", "global": "x-of-all"}
    order = list(headers)
    made = []
    for one in order[order.index(scope) :]:
        on = {"route": route, "service": service, "global": None}[one]
        made.append(blueprints.plugin("jwt", on, one if on else "", header_names=[headers[one]]))
    gateway.settle()
    try:
        for one, header in headers.items():
            reply = gateway.get(route["paths"][0], f"{header}: Bearer {token(known['jwt'].name)}")
            assert reply.status == (200 if one == scope else 401), (one, scope)
    finally:
        for plugin in made:
            blueprints.admin.delete(f"/plugins/{plugin['id']}")
        gateway.settle()
