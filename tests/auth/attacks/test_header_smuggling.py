# SPDX-License-Identifier: Apache-2.0
"""Can a client say itself who it is, or undo what a plugin said?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.blueprints import Blueprints, Entity
from tests.support.gateway import Gateway
from tests.support.origin import Origin
from tests.support.raw import request

TOLD = ("X-Consumer-ID", "X-Consumer-Custom-ID", "X-Consumer-Username", "X-Credential-Identifier", "X-Anonymous-Consumer")
CLAIMS = (*TOLD, "X-Consumer-Groups", "X-Authenticated-Groups", "X-Authenticated-Userid", "X-Authenticated-Scope")
"""What upstreams trust, if it comes from the gateway."""
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "lower case": str.lower,
    "upper case": str.upper,
    "underscores": lambda name: name.replace("-", "_"),
    "mixed": lambda name: name.replace("-", "_", 1),
    "dots": lambda name: name.replace("-", "."),
    "other signs": lambda name: name.replace("-", "~"),
}


class Door:
    """A Route that asks for a key, and who has one."""

    def __init__(self, gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
        self.path = blueprints.plugged(echo, "key-auth")
        self.consumer: Entity = blueprints.consumer()
        self.key = blueprints.key(self.consumer)
        gateway.settle()


@pytest.fixture(scope="module")
def door(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> Door:
    return Door(gateway, blueprints, echo)


def canonical(name: str) -> str:
    """The name as a CGI variable, as careless servers make it."""
    return "".join(character if character.isalnum() else "_" for character in name.upper())


def claims_in(echo: Origin) -> dict[str, list[str]]:
    """What the upstream was told under any spelling."""
    found: dict[str, list[str]] = {}
    wanted = {canonical(name) for name in CLAIMS}
    for name, value in echo.last.headers:
        if canonical(name) in wanted:
            found.setdefault(canonical(name), []).append(value)
    return found


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_forged_identity_with_a_key(gateway: Gateway, echo: Origin, door: Door, spelling: str) -> None:
    forged = [f"{SPELLINGS[spelling](name)}: forged" for name in CLAIMS for _ in range(2)]
    reply = gateway.get(door.path, f"apikey: {door.key}", *forged)
    assert reply.status == 200
    told = claims_in(echo)
    assert told["X_CONSUMER_ID"] == [door.consumer["id"]]
    assert told["X_CONSUMER_USERNAME"] == [door.consumer["username"]]
    assert len(told["X_CREDENTIAL_IDENTIFIER"]) == 1
    assert set(told) == {"X_CONSUMER_ID", "X_CONSUMER_USERNAME", "X_CREDENTIAL_IDENTIFIER"}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_forged_identity_without_authentication(gateway: Gateway, echo: Origin, echo_path: str, spelling: str) -> None:
    assert gateway.get(echo_path, *(f"{SPELLINGS[spelling](name)}: forged" for name in CLAIMS)).status == 200
    assert claims_in(echo) == {}


@pytest.mark.parametrize(
    "line", ["X-Consumer-ID : forged", "X-Consumer-ID\t: forged", " X-Consumer-ID: forged", "X-Consumer-ID\x00: forged"]
)
def test_forged_identity_behind_a_broken_name(gateway: Gateway, echo: Origin, echo_path: str, line: str) -> None:
    assert gateway.get(echo_path, line).status == 400
    assert not echo.requests


def test_forged_identity_in_a_folded_line(gateway: Gateway, echo: Origin, door: Door) -> None:
    reply = gateway.get(door.path, f"apikey: {door.key}", "X-Other: 1", "\tX-Consumer-ID: forged")
    assert reply.status == 400
    assert not echo.requests


@pytest.mark.parametrize("name", TOLD[:1] + TOLD[2:4])
def test_connection_names_a_header_that_a_plugin_set(gateway: Gateway, echo: Origin, door: Door, name: str) -> None:
    for spelled in (name, name.lower()):
        reply = gateway.get(door.path, f"apikey: {door.key}", f"Connection: keep-alive, {spelled}")
        assert reply.status == 200
        assert len(claims_in(echo)[canonical(name)]) == 1


def test_connection_names_the_key(gateway: Gateway, echo: Origin, door: Door) -> None:
    # The key still counts here; that it ends here is what the client asked for.
    assert gateway.get(door.path, f"apikey: {door.key}", "Connection: apikey").status == 200
    assert echo.last.header("apikey") is None


def test_forged_identity_in_trailers(gateway: Gateway, echo: Origin, door: Door) -> None:
    body = b"1\r\nx\r\n0\r\nX-Consumer-ID: forged\r\nX-Consumer-Groups: forged\r\n\r\n"
    head = [f"apikey: {door.key}", "Transfer-Encoding: chunked", "Trailer: X-Consumer-ID"]
    data = request("POST", door.path, *head)
    assert gateway.send(data + body, "POST").status == 200
    assert claims_in(echo)["X_CONSUMER_ID"] == [door.consumer["id"]]
    assert b"forged" not in echo.last.body


def test_forged_identity_in_the_query(gateway: Gateway, echo: Origin, door: Door) -> None:
    assert gateway.get(f"{door.path}?X-Consumer-ID=forged", f"apikey: {door.key}").status == 200
    assert claims_in(echo)["X_CONSUMER_ID"] == [door.consumer["id"]]


class TestDuplicatedCredentials:
    """Which of two keys counts? Never one that somebody else reads otherwise."""

    def test_two_headers(self, gateway: Gateway, echo: Origin, door: Door) -> None:
        for lines in (
            ("apikey: nope", f"apikey: {door.key}"),
            (f"apikey: {door.key}", "apikey: nope"),
            (f"apikey: {door.key}",) * 2,
        ):
            assert gateway.get(door.path, *lines).status == 401
        assert not echo.requests

    def test_two_arguments(self, gateway: Gateway, echo: Origin, door: Door) -> None:
        assert gateway.get(f"{door.path}?apikey={door.key}&apikey=nope").status == 401
        assert gateway.get(f"{door.path}?apikey=nope&%61pikey={door.key}").status == 401
        assert not echo.requests

    def test_header_and_query(self, gateway: Gateway, echo: Origin, door: Door) -> None:
        assert gateway.get(f"{door.path}?apikey={door.key}", "apikey: nope").status == 401
        assert not echo.requests
        assert gateway.get(f"{door.path}?apikey=nope", f"apikey: {door.key}").status == 200

    def test_comma_joined(self, gateway: Gateway, door: Door) -> None:
        assert gateway.get(door.path, f"apikey: {door.key}, {door.key}").status == 401
