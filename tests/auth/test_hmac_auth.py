# SPDX-License-Identifier: Apache-2.0
"""Does hmac-auth work in a real gateway, with signatures that openssl made?"""

from __future__ import annotations

import base64
import json
import subprocess
from email.utils import formatdate

import pytest

from tests.support import raw
from tests.support.blueprints import Blueprints, unique
from tests.support.gateway import Gateway
from tests.support.origin import Origin

WORKERS = 2
SECRET = "nobody-may-read-this-5522"


def openssl(*arguments: str, data: bytes) -> str:
    made = subprocess.run(["openssl", "dgst", *arguments, "-binary"], input=data, capture_output=True, check=True, timeout=10)
    return base64.b64encode(made.stdout).decode()


def authorization(username: str, text: str, names: str, algorithm: str = "sha256") -> str:
    signature = openssl(f"-{algorithm}", "-hmac", SECRET, data=text.encode())
    return f'Authorization: hmac username="{username}", algorithm="hmac-{algorithm}", headers="{names}", signature="{signature}"'


@pytest.fixture(scope="module")
def path(blueprints: Blueprints, echo: Origin) -> str:
    return blueprints.plugged(echo, "hmac-auth", validate_request_body=True, hide_credentials=True)


@pytest.fixture(scope="module")
def username(gateway: Gateway, blueprints: Blueprints) -> str:
    consumer = blueprints.consumer()
    name = unique("signer")
    blueprints.admin.post(f"/consumers/{consumer['id']}/hmac-auth", {"username": name, "secret": SECRET})
    gateway.settle()
    return name


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
def test_signature_of_openssl(gateway: Gateway, echo: Origin, path: str, username: str, algorithm: str) -> None:
    date = formatdate(usegmt=True)
    target = f"{path}/a%20b?c=%2F"
    text = f"date: {date}\n@request-target: get {target}\nhost: gateway.test"
    line = authorization(username, text, "date @request-target host", algorithm)
    for _ in range(4):
        assert gateway.get(target, f"Date: {date}", line).status == 200
        assert echo.last.header("X-Credential-Identifier") == username
        assert echo.last.header("Authorization") is None


def test_request_line(gateway: Gateway, path: str, username: str) -> None:
    date = formatdate(usegmt=True)
    line = authorization(username, f"GET {path}?a HTTP/1.1\nx-date: {date}", "request-line x-date")
    assert gateway.get(f"{path}?a", f"X-Date: {date}", line).status == 200


@pytest.mark.parametrize("size_bytes", [0, 3, 100_000, 600_000])
def test_body_and_its_digest(gateway: Gateway, echo: Origin, path: str, username: str, size_bytes: int) -> None:
    date, body = formatdate(usegmt=True), b"x" * size_bytes
    digest = f"SHA-256={openssl('-sha256', data=body)}"
    line = authorization(username, f"date: {date}\ndigest: {digest}", "date digest")
    lines = (f"Date: {date}", f"Digest: {digest}", line)
    assert gateway.send(raw.request("POST", path, *lines, body=body), "POST").status == 200
    assert echo.last.body == body
    reply = gateway.send(raw.request("POST", path, *lines, "Accept: application/json", body=body + b"y"), "POST")
    assert (reply.status, json.loads(reply.body)["message"]) == (401, "HMAC signature does not match")


def test_refusal_follows_accept(gateway: Gateway, path: str) -> None:
    reply = gateway.get(path, "Accept: text/plain")
    assert (reply.status, reply.text.splitlines()[0]) == (401, "Unauthorized")
    assert reply.header("WWW-Authenticate") == "hmac"


def test_secret_in_a_log(gateway: Gateway, path: str, username: str) -> None:
    date = formatdate(usegmt=True)
    line = authorization(username, f"date: {date}", "date")
    assert gateway.get(path, f"Date: {date}", line).status == 200
    assert gateway.get(path, f"Date: {date}", line.replace('signature="', 'signature="A')).status == 401
    for log in gateway.prefix.glob("logs/*"):
        text = log.read_text(errors="replace")
        assert SECRET not in text, log
        assert line.split('"')[-2] not in text, log
