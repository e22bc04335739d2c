# SPDX-License-Identifier: Apache-2.0
"""Does hmac-auth let anybody in with a request that is not, or no longer, what its client signed?"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from email.utils import formatdate
from typing import Any

import pytest

from tests.support import raw
from tests.support.blueprints import Blueprints, Entity, unique
from tests.support.gateway import Gateway
from tests.support.origin import Origin

WORKERS = 2
SECRET = "a secret between two"
NO_DATE = "HMAC signature cannot be verified, a valid date or x-date header is required for HMAC Authentication"
UNVERIFIABLE = "HMAC signature cannot be verified"
NO_MATCH = "HMAC signature does not match"


def date_of(offset_s: float = 0) -> str:
    return formatdate(time.time() + offset_s, usegmt=True)


class Door:
    """A Route that asks for what is signed to cover date, target and body, and somebody who can sign."""

    def __init__(self, gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
        self.gateway, self.echo, self.blueprints = gateway, echo, blueprints
        enforced = ["date", "@request-target", "digest"]
        self.path = blueprints.plugged(echo, "hmac-auth", enforce_headers=enforced, validate_request_body=True)
        self.lenient = blueprints.plugged(echo, "hmac-auth")
        self.credential = self.make_credential()

    def make_credential(self) -> Entity:
        consumer = self.blueprints.consumer()
        made: Entity = self.blueprints.admin.post(
            f"/consumers/{consumer['id']}/hmac-auth", {"username": unique("signer"), "secret": SECRET}
        )
        self.gateway.settle()
        return made

    def authorization(self, text: str, names: str, username: str | None = None, algorithm: str = "hmac-sha256") -> str:
        made = hmac.digest(SECRET.encode(), text.encode(), "sha256")
        return (
            f'Authorization: hmac username="{username or self.credential["username"]}", algorithm="{algorithm}", '
            f'headers="{names}", signature="{base64.b64encode(made).decode()}"'
        )

    def signed(self, body: bytes = b"{}", date: str | None = None, **more: Any) -> list[str]:
        """Lines of a POST of this body that is signed in all."""
        date = date or date_of()
        digest = "SHA-256=" + base64.b64encode(hashlib.sha256(body).digest()).decode()
        text = f"date: {date}\n@request-target: post {self.path}\ndigest: {digest}"
        return [f"Date: {date}", f"Digest: {digest}", self.authorization(text, "date @request-target digest", **more)]

    def knock(
        self, lines: list[str], body: bytes = b"{}", method: str = "POST", path: str | None = None
    ) -> tuple[int, str | None]:
        """Status and message; what is refused never reaches the upstream."""
        self.echo.forget()
        request = raw.request(method, path or self.path, "Accept: application/json", *lines, body=body)
        reply = self.gateway.send(request, method)
        assert len(self.echo.requests) == (1 if reply.status == 200 else 0)
        return reply.status, None if reply.status == 200 else json.loads(reply.body)["message"]


@pytest.fixture(scope="module")
def door(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> Door:
    return Door(gateway, blueprints, echo)


def test_door_opens(door: Door) -> None:
    assert door.knock(door.signed()) == (200, None)


def test_replay_after_the_clock_skew(door: Door) -> None:
    assert door.knock(door.signed(date=date_of(-290))) == (200, None)
    assert door.knock(door.signed(date=date_of(-320))) == (401, NO_DATE)


def test_replay_from_the_future(door: Door) -> None:
    assert door.knock(door.signed(date=date_of(320))) == (401, NO_DATE)


def test_replay_with_a_fresh_date_that_is_not_signed(door: Door) -> None:
    old = door.signed(date=date_of(-3_600))
    assert door.knock([f"X-Date: {date_of()}", *old]) == (401, NO_DATE)
    text = f"x-date: {date_of(-3_600)}"
    lines = [f"X-Date: {date_of(-3_600)}", f"Date: {date_of()}", door.authorization(text, "x-date")]
    assert door.knock(lines, path=door.lenient) == (401, NO_DATE)


def test_replay_with_a_second_date(door: Door) -> None:
    old = door.signed(date=date_of(-3_600))
    for lines in ([*old, f"Date: {date_of()}"], [f"Date: {date_of()}", *old]):
        assert door.knock(lines) == (401, NO_DATE)


@pytest.mark.parametrize(
    "date",
    [
        "",
        "0",
        "now",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Thu, 99 Jan 2026 00:00:00 GMT",
        "\u00e4\u00ff",
        "1" * 5_000,
    ],
)
def test_date_that_is_none(door: Door, date: str) -> None:
    assert door.knock([f"Date: {date}", *door.signed()[1:]]) == (401, NO_DATE)


def test_replay_after_revocation(door: Door) -> None:
    credential = door.make_credential()
    lines = door.signed(username=credential["username"])
    assert {door.knock(lines)[0] for _ in range(4)} == {200}
    door.blueprints.admin.call("DELETE", f"/consumers/{credential['consumer']['id']}/hmac-auth/{credential['id']}")
    door.gateway.settle()
    assert {door.knock(lines) for _ in range(4)} == {(401, UNVERIFIABLE)}


def test_another_method_or_target(door: Door) -> None:
    lines = door.signed()
    assert door.knock(lines, method="PUT") == (401, NO_MATCH)
    for target in (f"{door.path}?admin=1", f"{door.path}/", f"{door.path}/../x", f"/{door.path}", door.path.replace("r", "%72")):
        status, message = door.knock(lines, path=target)
        assert (status, message) in ((401, NO_MATCH), (404, "no Route matched with those values")), target


def test_changed_body(door: Door) -> None:
    assert door.knock(door.signed(b"{}"), b"{ }") == (401, NO_MATCH)
    assert door.knock(door.signed(b""), b"{}") == (401, NO_MATCH)


def test_changed_body_with_its_digest(door: Door) -> None:
    other = "Digest: SHA-256=" + base64.b64encode(hashlib.sha256(b"[]").digest()).decode()
    lines = door.signed(b"{}")
    assert door.knock([lines[0], other, lines[2]], b"[]") == (401, NO_MATCH)
    assert door.knock([*lines, other], b"[]") == (401, NO_MATCH)
    assert door.knock([other, *lines], b"[]") == (401, NO_MATCH)


def test_digest_left_out(door: Door) -> None:
    date, _, line = door.signed(b"{}")
    assert door.knock([date, line], b"") == (401, NO_MATCH)
    text = f"date: {date[6:]}\n@request-target: post {door.path}"
    assert door.knock([date, door.authorization(text, "date @request-target")], b"{}") == (401, UNVERIFIABLE)


def test_weaker_digest(door: Door) -> None:
    date, digest = date_of(), "MD5=" + base64.b64encode(hashlib.md5(b"{}").digest()).decode()
    text = f"date: {date}\n@request-target: post {door.path}\ndigest: {digest}"
    lines = [f"Date: {date}", f"Digest: {digest}", door.authorization(text, "date @request-target digest")]
    assert door.knock(lines) == (401, NO_MATCH)


def test_headers_left_unsigned(door: Door) -> None:
    date = date_of()
    for names in ("date", "@request-target digest", "date @request-target", "digest"):
        assert door.knock([f"Date: {date}", door.authorization(f"date: {date}", names)])[0] == 401


def test_second_value_of_a_signed_header(door: Door) -> None:
    date = date_of()
    signed = [f"Date: {date}", door.authorization(f"date: {date}\nx-amount: 1", "date x-amount")]
    assert door.knock(["X-Amount: 1", *signed], path=door.lenient) == (200, None)
    assert door.knock(["X-Amount: 1", "X-Amount: 1000", *signed], path=door.lenient) == (401, NO_MATCH)
    assert door.knock(["X-Amount: 1000", "X-Amount: 1", *signed], path=door.lenient) == (401, NO_MATCH)


def test_header_that_pretends_to_be_the_target(door: Door) -> None:
    date = date_of()
    text = f"date: {date}\n@request-target: post /elsewhere"
    lines = [f"Date: {date}", "Request-Line: POST /elsewhere HTTP/1.1", door.authorization(text, "date @request-target")]
    assert door.knock(lines, path=door.lenient) == (401, NO_MATCH)
    text = f"date: {date}\nPOST /elsewhere HTTP/1.1"
    lines = [*lines[:2], door.authorization(text, "date request-line")]
    assert door.knock(lines, path=door.lenient) == (401, NO_MATCH)


@pytest.mark.parametrize("algorithm", ["none", "", "hmac-md5", "hmac-sha224", "sha256", "HMAC-SHA256", "rsa-sha256"])
def test_other_algorithm(door: Door, algorithm: str) -> None:
    assert door.knock(door.signed(algorithm=algorithm)) == (401, UNVERIFIABLE)


@pytest.mark.parametrize("signature", ["", "A", "=", "====", "AAAA", "\u00e4", "0" * 4_000])
def test_signature_that_is_none(door: Door, signature: str) -> None:
    lines = door.signed()
    head = lines[2].rpartition("signature=")[0]
    status, message = door.knock([*lines[:2], f'{head}signature="{signature}"'])
    assert (status, message) in ((401, UNVERIFIABLE), (401, NO_MATCH))


@pytest.mark.parametrize("username", ["' OR '1'='1", "../alice", "\u00ff\u00fe", "%00", "x" * 5_000, "{vault://env/path}"])
def test_username_injection(door: Door, username: str) -> None:
    assert door.knock(door.signed(username=username)) == (401, UNVERIFIABLE)


def test_two_authorizations(door: Door) -> None:
    lines = door.signed()
    assert door.knock([*lines, lines[2].replace('signature="', 'signature="A')])[0] == 401
