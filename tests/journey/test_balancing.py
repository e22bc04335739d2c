# SPDX-License-Identifier: Apache-2.0
"""Which Target takes a request, by each algorithm and by each thing that can be hashed?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Origin, answer
from tests.support.ports import free_port

SETTINGS = {"trusted_ips": "127.0.0.1", "real_ip_header": "X-Real-IP"}
WORKERS = 2

MakeOrigin = Callable[[Behaviour], Origin]


def named(make_origin: MakeOrigin, *names: str) -> list[str]:
    """Targets that answer with their names."""
    return [f"127.0.0.1:{make_origin(answer(name.encode())).port}" for name in names]


def hashing(blueprints: Blueprints, make_origin: MakeOrigin, route: dict[str, Any] | None = None, **fields: Any) -> str:
    """A path to an Upstream of four Targets, `a` to `d`, that hashes as the fields say."""
    upstream = blueprints.upstream(*named(make_origin, *"abcd"), algorithm="consistent-hashing", **fields)
    return blueprints.path(f"http://{upstream['name']}/", route)


def assert_sticks(ask: Callable[[str], bytes]) -> None:
    """The same key leads to the same Target, in every worker; different keys lead to different ones."""
    where = {f"key{number}": {ask(f"key{number}") for _ in range(3)} for number in range(80)}
    assert all(len(places) == 1 for places in where.values()), where
    assert len(set.union(*where.values())) == 4, where


# === algorithms ===


@pytest.mark.parametrize("algorithm", ["round-robin", "least-connections", "latency", "consistent-hashing"])
def test_a_retry_chooses_another_target(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, algorithm: str
) -> None:
    dead = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    upstream = blueprints.upstream(*dead, *named(make_origin, "alive"), algorithm=algorithm)
    path = blueprints.path(f"http://{upstream['name']}/", retries=3)
    for _ in range(12):
        assert gateway.get(path).status == 200


# === hash_on ===


def test_hash_on_header(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    path = hashing(blueprints, make_origin, hash_on="header", hash_on_header="X-Key")
    assert_sticks(lambda key: gateway.get(path, f"x-key: {key}").body)


def test_hash_on_query_arg(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    path = hashing(blueprints, make_origin, hash_on="query_arg", hash_on_query_arg="user")
    assert_sticks(lambda key: gateway.get(f"{path}?x=1&user={key}").body)


def test_hash_on_path_as_normalised(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    path = hashing(blueprints, make_origin, hash_on="path")
    assert_sticks(lambda key: gateway.get(f"{path}/{key}").body)
    assert gateway.get(f"{path}/a/../key1").body == gateway.get(f"{path}/key1").body


def test_hash_on_uri_capture(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    hashing(
        blueprints, make_origin, {"paths": ["~/capture/(?<who>[a-z0-9]+)/"]}, hash_on="uri_capture", hash_on_uri_capture="who"
    )
    assert_sticks(lambda key: gateway.get(f"/capture/{key}/x").body)


def test_hash_on_ip_of_the_client(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    path = hashing(blueprints, make_origin, hash_on="ip")
    assert_sticks(lambda key: gateway.get(path, f"X-Real-IP: 10.1.0.{key.removeprefix('key')}").body)


def test_hash_on_consumer(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    upstream = blueprints.upstream(*named(make_origin, *"abcd"), algorithm="consistent-hashing", hash_on="consumer")
    route = blueprints.route(blueprints.service(f"http://{upstream['name']}/"))
    blueprints.plugin("key-auth", route, "route")
    keys = {f"key{number}": blueprints.key(blueprints.consumer()) for number in range(80)}
    gateway.settle()
    assert_sticks(lambda key: gateway.get(route["paths"][0], f"apikey: {keys[key]}").body)


def test_hash_on_cookie_sets_one_that_is_missing(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    path = hashing(blueprints, make_origin, hash_on="cookie", hash_on_cookie="session", hash_on_cookie_path="/shop")
    assert_sticks(lambda key: gateway.get(path, f"Cookie: other=1; session={key}").body)
    assert gateway.get(path, "Cookie: session=x").header("Set-Cookie") is None
    for _ in range(8):
        first = gateway.get(path)
        cookie = first.header("Set-Cookie") or ""
        pair, *attributes = cookie.split("; ")
        assert attributes == ["Path=/shop", "Same-Site=Lax", "HttpOnly"]
        name, _, value = pair.partition("=")
        assert name == "session"
        assert len(value) == 36
        assert value[14] == "4", "a UUID of version 4"
        assert gateway.get(path, f"Cookie: {pair}").body == first.body


def test_a_cookie_of_ours_stands_beside_those_of_the_upstream(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    origin = make_origin(answer(b"", "Set-Cookie: theirs=1"))
    upstream = blueprints.upstream(
        f"127.0.0.1:{origin.port}", algorithm="consistent-hashing", hash_on="cookie", hash_on_cookie="ours"
    )
    reply = gateway.get(blueprints.path(f"http://{upstream['name']}/"))
    assert [value.partition("=")[0] for value in reply.all("Set-Cookie")] == ["theirs", "ours"]


def test_hash_fallback_when_the_first_is_missing(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    path = hashing(
        blueprints,
        make_origin,
        hash_on="header",
        hash_on_header="X-Key",
        hash_fallback="query_arg",
        hash_fallback_query_arg="key",
    )
    assert_sticks(lambda key: gateway.get(f"{path}?key={key}").body)
    assert gateway.get(f"{path}?key=other", "X-Key: key1").body == gateway.get(path, "X-Key: key1").body


def test_nothing_to_hash_sends_all_to_one_target(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    path = hashing(blueprints, make_origin, hash_on="header", hash_on_header="X-Key")
    assert len({gateway.get(path).body for _ in range(12)}) == 1
