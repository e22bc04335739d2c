# SPDX-License-Identifier: Apache-2.0
"""Does a browser stay who it is through the whole gateway, on every worker, until it logs out?"""

from __future__ import annotations

import pytest

from tests.support.blueprints import Blueprints, unique
from tests.support.gateway import Gateway
from tests.support.origin import Origin
from tests.support.raw import Reply, exchange, request


class Place:
    """A path for browsers, alice's key and the anonymous Consumer."""

    def __init__(self, gateway: Gateway, blueprints: Blueprints, echo: Origin, storage: str) -> None:
        self.gateway, self.admin, self.origin = gateway, blueprints.admin, echo
        alice, guest = blueprints.consumer(), blueprints.consumer()
        self.name, self.key = alice["username"], unique("key")
        self.admin.post(f"/consumers/{alice['id']}/key-auth", {"key": self.key})
        service = blueprints.service(echo)
        route = blueprints.route(service)
        self.path = route["paths"][0]
        blueprints.plugin("session", route, "route", secret="of-this-test", storage=storage)
        blueprints.plugin("key-auth", route, "route", anonymous=guest["id"])
        self.guest = guest["username"]
        gateway.settle()

    def ask(self, *lines: str, method: str = "GET", query: str = "") -> Reply:
        """One request over a connection of its own, so that any worker may get it."""
        return exchange(self.gateway.proxy_port, request(method, self.path + query, *lines), method)

    def caller(self, *lines: str) -> str | None:
        """Who the upstream was told it is."""
        reply = self.ask(*lines)
        assert reply.status == 200, reply
        return self.origin.last.header("X-Consumer-Username")

    def log_in(self) -> str:
        """The `Cookie` line of a browser that has logged in."""
        reply = self.ask(f"apikey: {self.key}")
        (line,) = reply.all("set-cookie")
        assert line.endswith("; Path=/; SameSite=Strict; Secure; HttpOnly")
        return "Cookie: " + line.partition(";")[0]


@pytest.fixture(scope="module", params=["cookie", "kong"])
def place(request: pytest.FixtureRequest, gateway: Gateway, blueprints: Blueprints, echo: Origin) -> Place:
    return Place(gateway, blueprints, echo, request.param)


def test_session_is_known_to_every_worker(place: Place) -> None:
    line = place.log_in()
    assert {place.caller(line) for _ in range(20)} == {place.name}
    assert place.caller() == place.guest


def test_logout_ends_the_session_at_once_on_every_worker(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    place = Place(gateway, blueprints, echo, "kong")
    line = place.log_in()
    assert {place.caller(line) for _ in range(10)} == {place.name}
    over = place.ask(line, method="DELETE", query="?session_logout=true")
    assert (over.status, over.body) == (200, b"")
    assert "Max-Age=0" in over.all("set-cookie")[0]
    gateway.settle()
    # Whoever stole the cookie has nothing of it.
    assert {place.caller(line) for _ in range(10)} == {place.guest}


def test_administrator_ends_a_session(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    place = Place(gateway, blueprints, echo, "kong")
    before = {row["id"] for row in place.admin.get("/sessions")["data"]}
    line = place.log_in()
    assert place.caller(line) == place.name
    (made,) = [row for row in place.admin.get("/sessions")["data"] if row["id"] not in before]
    place.admin.delete(f"/sessions/{made['id']}")
    gateway.settle()
    assert {place.caller(line) for _ in range(10)} == {place.guest}


@pytest.mark.parametrize(
    "cookie",
    [
        "session=",
        "session=AAAA",
        "session=" + "A" * 6_000,
        "session=9." + "A" * 100,
        "session=2.A; session2=",
        "session=\xff\xfe",
        "session=%00%0d%0a",
        'session="; session="',
        "=;=;;;session",
    ],
)
def test_malformed_cookies_open_nothing_and_break_nothing(place: Place, cookie: str) -> None:
    assert place.caller(f"Cookie: {cookie}") == place.guest
