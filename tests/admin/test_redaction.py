# SPDX-License-Identifier: Apache-2.0
"""Attack: whoever reads the logs looks for the secrets that an administrator sent."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.app import Face, router_of
from pylae.admin.bodies import read_values
from pylae.admin.crud import Handlers
from pylae.control.log import ErrorLog, LogFile
from pylae.control.redaction import Secrets
from pylae.entities import enable_plugins, registry
from pylae.sdk.loader import load
from tests.admin.process import ControlProcess
from tests.support.wait import until

WORD = "sesame"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PURGE")
DEBUG = {"log_level": "debug"}


@pytest.fixture(scope="module")
def secrets() -> Secrets:
    plugins = load(["bundled"])
    enable_plugins(plugins)
    return Secrets([*registry().values(), *(plugin.Config for plugin in plugins.values())])


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    with ControlProcess(tmp_path_factory.mktemp("prefix"), DEBUG) as process:
        yield process


def names_of(secrets: Secrets) -> list[str]:
    return repr(secrets).removeprefix("<secrets ").removesuffix(">").split()


def leaks(process: ControlProcess) -> list[str]:
    """Lines of all logs that hold what was sent as a secret."""
    texts = [path.read_text(errors="replace") for path in (process.prefix / "logs").iterdir()]
    lines = [line for text in (*texts, process.error_log) for line in text.splitlines()]
    return [line for line in lines if WORD in line.lower()]


def bodies(secrets: Secrets) -> Iterator[tuple[str, bytes]]:
    """Every secret field with a secret in it: as JSON, deeper, as a form, in parts, and in bodies that nobody can read."""
    flat: dict[str, Any] = {name: f"{WORD}-{name}" for name in names_of(secrets)}
    nested = {"config": {**flat, "redis": flat, "auth": flat, "list": [flat]}, "name": "rate-limiting", **flat}
    for values in (
        flat,
        nested,
        {name: [value] for name, value in flat.items()},
        {name: {"a": value} for name, value in flat.items()},
    ):
        yield "application/json", json.dumps(values).encode()
    yield "application/json", json.dumps(flat).encode()[:-1]
    yield "text/plain", json.dumps(flat).encode()
    form = {**flat, **{f"config.{name}": value for name, value in flat.items()}, "config.redis.password": f"{WORD} &=%"}
    yield "application/x-www-form-urlencoded", urlencode(form).encode()
    parts = "".join(f'--X\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in flat.items())
    yield "multipart/form-data; boundary=X", f"{parts}--X--\r\n".encode()


def test_the_fields_that_hold_secrets_are_known(secrets: Secrets) -> None:
    assert {"key", "password", "http_endpoint", "key_alt", "private_key", "secret"} <= set(names_of(secrets))


def test_nothing_that_was_posted_to_any_endpoint_is_in_any_log(control: ControlProcess, secrets: Secrets) -> None:
    sent = list(bodies(secrets))
    for number, path in enumerate(control.admin.get("/endpoints")["data"]):
        plain = "/".join(str(uuid.uuid4()) if part.startswith("{") else part for part in path.split("/"))
        for kind, body in sent if number % 5 == 0 else sent[:2]:
            for method in ("POST", "PUT", "PATCH"):
                answer = control.admin.call(method, plain, body, {"Content-Type": kind})
                assert answer.status < 500, (method, plain, kind, body)
    assert not leaks(control)


@pytest.mark.parametrize("method", METHODS)
def test_keys_in_paths_are_masked_in_the_access_log(control: ControlProcess, method: str) -> None:
    consumer = control.admin.post("/consumers", {"username": f"owner-{method}"})["id"]
    key = f"{WORD}-{method}"
    control.admin.post(f"/consumers/{consumer}/key-auth", {"key": key})
    spelled = [key, key.replace("e", "%65"), quote(f"{WORD}/and a slash"), f"{WORD}%2F{method}", WORD.upper()]
    for one in spelled:
        for path in (
            f"/key-auths/{one}",
            f"/key-auths/{one}/consumer",
            f"/key%2Dauths/{one}",
            f"//key-auths//{one}",
            f"/consumers/{consumer}/key-auth/{one}",
            f"/consumers/owner-{method}/key-auth/{one}?size=1",
            f"/oauth2_tokens/{one}",
        ):
            assert control.admin.call(method, path, headers={"Content-Type": "application/json"}).status < 500
    lines = (control.prefix / "logs" / "admin_access.log").read_text()
    assert f'"{method} /key-auths/****** HTTP/1.1"' in lines
    assert f'"{method} /key-auths/******/consumer HTTP/1.1"' in lines
    assert f'"{method} /consumers/{consumer}/key-auth/****** HTTP/1.1"' in lines
    assert f'"{method} /consumers/owner-{method}/key-auth/******?size=1 HTTP/1.1"' in lines
    assert not leaks(control)


def test_ids_are_not_masked(control: ControlProcess) -> None:
    path = f"/key-auths/{uuid.uuid4()}"
    control.admin.call("GET", path)
    assert path in (control.prefix / "logs" / "admin_access.log").read_text()


@pytest.mark.parametrize(
    "query",
    [
        f"key={WORD}",
        f"k%65y={WORD}",
        f"config.redis.password={WORD}%20a",
        f"{WORD}",
        f"a=1&{WORD}&b",
        f"token={WORD}=",
        f"={WORD}",
    ],
)
def test_queries_are_masked_but_for_what_lists_take(control: ControlProcess, query: str) -> None:
    for method in ("GET", "POST"):
        assert control.admin.call(method, f"/services?size=3&{query}&tags=a,b").status < 500
    lines = [line for line in (control.prefix / "logs" / "admin_access.log").read_text().splitlines() if "tags=a,b" in line]
    assert "/services?size=3&" in lines[-1]
    assert "******" in lines[-1]
    assert not leaks(control)


def test_the_address_of_the_page_is_cut(control: ControlProcess) -> None:
    control.admin.call("GET", "/services", headers={"Referer": f"http://localhost/page?key={WORD}"})
    log = control.prefix / "logs" / "admin_access.log"
    until(lambda: '"http://localhost/page"' in log.read_text(), "the line of the access log")
    assert not leaks(control)


def test_a_refused_request_does_not_tell_its_key(control: ControlProcess) -> None:
    assert control.admin.call("GET", f"/key-auths/{WORD}-1?key={WORD}", headers={"Host": "evil.test"}).status == 403
    assert "/key-auths/******?key=****** refused" in control.error_log
    assert not leaks(control)


def test_a_database_that_fails_does_not_tell_what_was_to_be_stored(tmp_path: Path) -> None:
    with ControlProcess(tmp_path, DEBUG, file_size_bytes=1_500_000) as process:
        consumer, status = process.admin.post("/consumers", {"username": "owner"})["id"], 201
        for number in range(3000):
            body = {"key": f"{WORD}-{number}", "tags": ["x" * 500]}
            status = process.admin.call("POST", f"/consumers/{consumer}/key-auth", body).status
            if status != 201:
                break
        assert status == 500
        assert not leaks(process)
        process.kill()


# === exceptions ===


class Stage:
    """One endpoint behind a face, without a process.

    Args:
        folder: for the logs.
        secrets: what is hidden.
        text: what the endpoint's exception says.
    """

    def __init__(self, folder: Path, secrets: Secrets, text: str) -> None:
        self._logs = {name: folder / name for name in ("error.log", "access.log")}
        log = ErrorLog(LogFile(self._logs["error.log"]), "debug")

        async def fail(request: Request) -> Response:
            await read_values(request, 1_000_000)
            raise RuntimeError(text)

        endpoints: dict[str, Handlers] = {"/key-auths/{keyauth_credentials}": {"POST": fail}}
        self._face = Face(router_of(endpoints, log), None, LogFile(self._logs["access.log"]), log, frozenset(), None, secrets)

    def post(self, path: str, body: Mapping[str, Any], *headers: tuple[bytes, bytes]) -> int:
        """The status of the answer."""
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

        async def send(part: Any) -> None:
            if part["type"] == "http.response.start":
                statuses.append(part["status"])

        scope = {
            "type": "http",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "http_version": "1.1",
            "client": ("10.0.0.1", 1),
            "headers": [(b"content-type", b"application/json"), *headers],
        }
        asyncio.run(self._face(scope, receive, send))
        return statuses[0]

    def lines(self) -> str:
        """All that was logged."""
        return "".join(path.read_text() for path in self._logs.values())


def test_an_exception_nobody_expected_is_logged_without_what_the_request_hides(tmp_path: Path, secrets: Secrets) -> None:
    text = "no room for 'sesame-1', sesame-path, sesame-token, sesame-1-longer or abc"
    stage = Stage(tmp_path, secrets, text)
    body = {"key": "sesame-1", "config": {"redis": {"password": "sesame-1-longer"}}, "secret": "abc"}
    assert stage.post("/key-auths/sesame-path", body, (b"kong-admin-token", b"sesame-token")) == 500
    assert "RuntimeError: no room for '******', ******, ******, ****** or abc" in stage.lines()
    assert "POST /key-auths/******" in stage.lines()
    assert WORD not in stage.lines()


def test_one_request_hides_nothing_in_the_lines_of_another(tmp_path: Path, secrets: Secrets) -> None:
    stage = Stage(tmp_path, secrets, "mark-of-the-first")
    stage.post("/key-auths/a", {"key": "mark-of-the-first"})
    stage.post("/key-auths/b", {"key": "another"})
    first, second = [line for line in stage.lines().splitlines() if "RuntimeError" in line]
    assert "******" in first.partition("RuntimeError")[2]
    assert "mark-of-the-first" in second


def test_of_a_long_target_the_logs_show_the_beginning(tmp_path: Path, secrets: Secrets) -> None:
    stage = Stage(tmp_path, secrets, "too long")
    long = (b"user-agent", b"u" * 60_000), (b"referer", b"http://r.test/" + b"r" * 60_000)
    assert stage.post("/key-auths/" + "nine/" * 10_000, {}, *long) == 404
    assert stage.post("/key-auths/sesame-path%2F" + "9" * 50_000, {}, *long) == 500
    lines = stage.lines().splitlines()
    assert len(lines) == 3
    assert all(len(line) < 3 * 2048 + 512 for line in lines)
    assert WORD not in stage.lines()
