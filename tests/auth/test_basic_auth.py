# SPDX-License-Identifier: Apache-2.0
"""Does basic-auth work in a real gateway, and does nothing of a password come out of it?"""

from __future__ import annotations

import base64
import json

import pytest

from tests.support.blueprints import Blueprints, Entity, unique
from tests.support.gateway import Gateway
from tests.support.origin import Origin

WORKERS = 2
SECRET = "nobody-may-read-this-7351"


def basic(username: str | bytes, password: str | bytes) -> str:
    parts = (part.encode() if isinstance(part, str) else part for part in (username, password))
    return "Authorization: Basic " + base64.b64encode(b":".join(parts)).decode()


@pytest.fixture(scope="module")
def path(blueprints: Blueprints, echo: Origin) -> str:
    return blueprints.plugged(echo, "basic-auth", hide_credentials=True)


def known(blueprints: Blueprints, password: str = SECRET) -> tuple[str, Entity]:
    consumer = blueprints.consumer()
    username = unique("user")
    made = blueprints.admin.post(f"/consumers/{consumer['id']}/basic-auth", {"username": username, "password": password})
    blueprints.gateway.settle()
    return username, made


def test_right_password(gateway: Gateway, blueprints: Blueprints, echo: Origin, path: str) -> None:
    username, made = known(blueprints)
    assert SECRET not in json.dumps(made)
    for _ in range(6):
        assert gateway.get(path, basic(username, SECRET)).status == 200
        assert echo.last.header("X-Credential-Identifier") == username
        assert echo.last.header("Authorization") is None


def test_a_new_password_counts_at_once_on_every_worker(gateway: Gateway, blueprints: Blueprints, path: str) -> None:
    username, made = known(blueprints, "old")
    assert {gateway.get(path, basic(username, "old")).status for _ in range(8)} == {200}
    blueprints.admin.call("PATCH", f"/consumers/{made['consumer']['id']}/basic-auth/{made['id']}", {"password": "new"})
    gateway.settle()
    assert {gateway.get(path, basic(username, "old")).status for _ in range(8)} == {401}
    assert {gateway.get(path, basic(username, "new")).status for _ in range(8)} == {200}


@pytest.mark.parametrize(
    "line",
    [
        basic("no\0body", "x\0"),
        basic(b"\xff\xfe\x00", b"\x80\x81"),
        "Authorization: Basic \xe4\xf6\xfc",
        "Authorization: Basic " + "QUFB" * 1_500,
        "Authorization: Basic ====",
        "Authorization: Basic",
        "Authorization:",
        f"{basic('a', 'b')}\r\n{basic('a', 'b')}",
    ],
)
def test_nul_and_non_utf8(gateway: Gateway, echo: Origin, path: str, line: str) -> None:
    for _ in range(2):
        reply = gateway.get(path, line, "Accept: application/json")
        assert (reply.status, json.loads(reply.body)["message"]) == (401, "Unauthorized")
        assert reply.header("WWW-Authenticate") == 'Basic realm="service"'
    assert not echo.requests


def test_secret_in_a_log(gateway: Gateway, blueprints: Blueprints, path: str) -> None:
    username, _ = known(blueprints)
    statuses = [gateway.get(path, basic(username, password)).status for password in (SECRET, SECRET + "x")]
    assert statuses == [200, 401]
    encoded = basic(username, SECRET).split()[-1][:-4]
    for log in gateway.prefix.glob("logs/*"):
        text = log.read_text(errors="replace")
        assert SECRET not in text, log
        assert encoded not in text, log


def test_brute_force(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    route = blueprints.route(blueprints.service(echo))
    blueprints.plugin("basic-auth", route, "route")
    blueprints.plugin("auth-damping", route, "route", failures_per_name=5, failures_per_ip=8, window=3600)
    username, _ = known(blueprints)
    statuses = [gateway.get(route["paths"][0], basic(username, f"guess-{number}")).status for number in range(7)]
    assert statuses == [401] * 5 + [429] * 2
    # Over both workers, and for the right password as well.
    assert {gateway.get(route["paths"][0], basic(username, SECRET)).status for _ in range(4)} == {429}
    others = [gateway.get(route["paths"][0], basic(f"user-{number}", "x")).status for number in range(5)]
    assert others == [401] * 3 + [429] * 2
    assert gateway.get(route["paths"][0], basic("user-9", "x")).header("Retry-After") is not None
