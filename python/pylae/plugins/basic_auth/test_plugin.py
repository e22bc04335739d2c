# SPDX-License-Identifier: Apache-2.0
"""Does basic-auth answer as its facts say?"""

from __future__ import annotations

import base64
import gc
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from pylae.plugins.basic_auth.entities import hashed
from pylae.plugins.basic_auth.plugin import BasicAuth
from pylae.sdk.testing import MemoryExchange, Scene

ALICE: dict[str, Any] = {"id": "a1111111-1111-4111-8111-111111111111", "username": "alice", "custom_id": "42", "created_at": 1}
GUEST: dict[str, Any] = {"id": "a2222222-2222-4222-8222-222222222222", "username": "guest", "custom_id": None, "created_at": 1}


def credential(username: str, password: str, number: int = 1) -> dict[str, Any]:
    return {
        "id": f"c{number}111111-1111-4111-8111-111111111111",
        "username": username,
        "password": hashed(password, ALICE["id"]),
        "consumer": {"id": ALICE["id"]},
    }


ROWS: dict[str, Any] = {
    "consumers": [ALICE, GUEST],
    "basicauth_credentials": [credential("al", "open: sesame"), credential("empty", "", 2), credential("\u00e4", "\u20ac", 3)],
}


def basic(username: str | bytes, password: str | bytes = b"", scheme: str = "Basic") -> str:
    parts = (part.encode() if isinstance(part, str) else part for part in (username, password))
    return f"{scheme} {base64.b64encode(b':'.join(parts)).decode()}"


GOOD = basic("al", "open: sesame")


def scene_with(**config: Any) -> Scene:
    return Scene(BasicAuth, config, rows=ROWS)


@pytest.mark.parametrize(
    "value",
    [GOOD, basic("al", "open: sesame", "basic"), GOOD.replace(" ", "  "), basic("empty"), basic("\u00e4", "\u20ac")],
)
def test_right_password_passes(value: str) -> None:
    with scene_with() as scene:
        outcomes = [scene.send(headers={"Authorization": value}) for _ in range(3)]
    assert [outcome.status for outcome in outcomes] == [200] * 3


def test_the_upstream_is_told_who_it_is() -> None:
    with scene_with() as scene:
        outcome = scene.send(headers={"Authorization": GOOD, "X-Credential-Identifier": "forged", "X-Anonymous-Consumer": "true"})
    assert outcome.upstream is not None
    headers = outcome.upstream.get_headers()
    assert (headers["x-consumer-id"], headers["x-consumer-custom-id"]) == (ALICE["id"], "42")
    assert (headers["x-consumer-username"], headers["x-credential-identifier"]) == ("alice", "al")
    assert "x-anonymous-consumer" not in headers
    assert headers["authorization"] == GOOD


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "Basic",
        "Basic ",
        "Bearer " + GOOD[6:],
        GOOD[6:],
        "Basic !!!!",
        "Basic YQ",
        basic("al", "wrong"),
        basic("nobody", "open: sesame"),
        basic("", "open: sesame"),
        "Basic " + base64.b64encode(b"al").decode(),
        basic("al\0", "open: sesame"),
        basic("al", "open: sesame\0"),
        basic(b"\xff\xfe", b"\x80"),
        basic(b"al", b"open: sesame\xff"),
        basic("AL", "open: sesame"),
        "Basic \udcff\udc80",
        "Basic " + "A" * 100_000,
        basic("n" * 5_000, "x"),
        f"{GOOD}, {GOOD}",
        [GOOD, GOOD],
        [GOOD, "Bearer x"],
    ],
)
def test_anything_else_is_unauthorized(value: Any) -> None:
    with scene_with() as scene:
        for _ in range(2):
            outcome = scene.send(headers={} if value is None else {"Authorization": value})
            assert (outcome.status, outcome.json()["message"]) == (401, "Unauthorized")
            assert outcome.headers["www-authenticate"] == 'Basic realm="service"'


def test_realm() -> None:
    with scene_with(realm='my "api"') as scene:
        assert scene.send().headers["www-authenticate"] == 'Basic realm="my \\"api\\""'


def test_the_proxys_field_comes_first() -> None:
    with scene_with(hide_credentials=True) as scene:
        outcome = scene.send(headers={"Proxy-Authorization": GOOD, "Authorization": "Bearer theirs"})
        assert outcome.upstream is not None
        assert outcome.upstream.get_header("Authorization") == "Bearer theirs"
        assert outcome.upstream.get_header("Proxy-Authorization") is None
        for first in ("Bearer x", basic("al", "wrong"), basic("nobody", "x")):
            outcome = scene.send(headers={"Proxy-Authorization": first, "Authorization": GOOD})
            assert outcome.status == 200
            assert outcome.upstream is not None
            assert outcome.upstream.get_header("Authorization") is None


@pytest.mark.parametrize("anonymous", ["guest", GUEST["id"]])
@pytest.mark.parametrize("value", ["", basic("al", "wrong")])
def test_refused_client_passes_as_the_anonymous_consumer(anonymous: str, value: str) -> None:
    with scene_with(anonymous=anonymous) as scene:
        outcome = scene.send(headers={"Authorization": value, "X-Credential-Identifier": "forged"})
    assert outcome.upstream is not None
    headers = outcome.upstream.get_headers()
    assert (headers["x-consumer-id"], headers["x-anonymous-consumer"]) == (GUEST["id"], "true")
    assert "x-credential-identifier" not in headers


def test_missing_anonymous_consumer_is_a_server_error() -> None:
    with scene_with(anonymous="nobody") as scene:
        outcome = scene.send()
    assert (outcome.status, outcome.json()["message"]) == (500, "anonymous consumer nobody is configured but doesn't exist")


def test_client_authenticated_by_another_plugin_passes_where_anonymous_is_set() -> None:
    def authenticate(exchange: MemoryExchange) -> None:
        exchange.client.authenticate(ALICE, {"id": "another plugin's"})

    with Scene(BasicAuth, {"anonymous": "guest"}, rows=ROWS, prepare_exchange=authenticate) as scene:
        outcome = scene.send(headers={"Authorization": basic("al", "wrong")})
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-Anonymous-Consumer") is None


def test_changes_count_at_once() -> None:
    rows = {"consumers": [dict(ALICE)], "basicauth_credentials": [credential("al", "old")]}
    with Scene(BasicAuth, {}, rows=rows) as scene:
        old, new = {"Authorization": basic("al", "old")}, {"Authorization": basic("al", "new")}
        assert [scene.send(headers=old).status, scene.send(headers=new).status] == [200, 401]
        row = rows["basicauth_credentials"][0]
        scene.host.change("basicauth_credentials", row["id"], password=hashed("new", ALICE["id"]))
        assert [scene.send(headers=old).status, scene.send(headers=new).status] == [401, 200]
        scene.host.change("consumers", ALICE["id"], username="alicia")
        outcome = scene.send(headers=new)
        assert outcome.upstream is not None
        assert outcome.upstream.get_header("X-Consumer-Username") == "alicia"
        scene.host.remove("basicauth_credentials", row["id"])
        assert scene.send(headers=new).status == 401


def test_known_and_unknown_usernames_are_asked_for_once() -> None:
    with scene_with() as scene:
        for value in (GOOD, basic("nobody", "x")) * 3:
            scene.send(headers={"Authorization": value})
        assert sorted(arguments["value"] for _, arguments in scene.host.calls) == ["al", "nobody"]


@pytest.fixture
def record_hashes() -> Iterator[list[bytes]]:
    """What the plugin hashes meanwhile, as the interpreter's profiler sees it."""
    seen: list[bytes] = []

    def watch(frame: FrameType, event: str, argument: object) -> None:
        name = getattr(argument, "__name__", "")
        if event == "c_call" and name == "openssl_sha1":
            local = frame.f_locals
            seen.append(local["given"].password + local["consumer_id"].encode())

    sys.setprofile(watch)
    yield seen
    sys.setprofile(None)


def test_user_enumeration_by_timing(record_hashes: list[bytes]) -> None:
    # The same hash over as many bytes for a username that exists and one that does not.
    with scene_with() as scene:
        for username in ("al", "nobody"):
            scene.send(headers={"Authorization": basic(username, "wrong")})
            scene.send(headers={"Authorization": basic(username, "wrong")})
    assert len(record_hashes) == 4
    assert len({len(data) for data in record_hashes}) == 1


def test_the_password_stays_nowhere() -> None:
    secret = "a password nobody else has"
    rows = {"consumers": [ALICE], "basicauth_credentials": [credential("al", secret)]}
    with Scene(BasicAuth, {}, rows=rows) as scene:
        assert scene.send(headers={"Authorization": basic("al", secret)}).status == 200
        plugin = scene.links[0].plugin
        gc.collect()
        held = repr(vars(plugin)["_remembered"].native)
        assert secret not in held
        assert basic("al", secret)[6:] not in held
