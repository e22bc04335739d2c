# SPDX-License-Identifier: Apache-2.0
"""Is the whole configuration read and replaced through the Admin API as a recorded Kong does it, and whole?"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.requests import Request

from pylae.admin.answers import Refusal
from pylae.admin.declarative import Config
from pylae.control.control import Control, catalogue_of
from pylae.database.strategies.off import OffStrategy
from pylae.entities import registry
from tests.admin.process import ControlProcess
from tests.support.admin import Admin, Answer
from tests.support.wait import until

OFF = {"database": "off", "nginx_admin_client_max_body_size": "1m"}
RECORDED = (Path(__file__).parents[1] / "facts" / "kong" / "transcripts" / "dbless.txt").read_text()
SECTIONS = {title: text for title, _, text in (part.partition("\n") for part in RECORDED.split("\n### ")[1:])}
REPLAYED = (
    "POST /services",
    "DELETE",
    *(title for title in SECTIONS if title.startswith("POST /config") and "good" not in title),
)
HEAD = re.compile(r"HTTP/1\.1 (\d{3}) .*?\n(.*?)\n\n(.*?)\n\[curl exit 0\]", re.DOTALL)


@pytest.fixture(scope="module")
def off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    with ControlProcess(tmp_path_factory.mktemp("prefix"), OFF) as process:
        yield process


@pytest.fixture
def admin(off: ControlProcess) -> Admin:
    return off.admin


def document(**tables: Any) -> dict[str, Any]:
    return {"_format_version": "3.0", **tables}


def services(*names: str) -> dict[str, Any]:
    return document(services=[{"name": name, "url": "http://127.0.0.1:1"} for name in names])


def names(admin: Admin) -> list[str]:
    return sorted(row["name"] for row in admin.get("/services")["data"])


def send(admin: Admin, body: bytes, content_type: str, query: str = "") -> Answer:
    return admin.call("POST", f"/config{query}", body, {"Content-Type": content_type})


# === the recorded Kong ===


def curl(admin: Admin, command: str) -> Answer:
    """The request of a recorded command."""
    words = iter(shlex.split(command)[2:])
    method, path, body, content_type = "", "", b"", "application/x-www-form-urlencoded"
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            content_type = next(words).partition(":")[2].strip()
        elif word == "-d":
            body += (b"&" if body else b"") + next(words).encode()
        elif word == "-F":
            content_type = "multipart/form-data; boundary=b"
            name, _, value = next(words).partition("=")
            body = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n--b--\r\n'.encode()
        elif word not in ("-o", "-w"):
            path = "/" + word.partition("/")[2]
    return admin.call(method or ("POST" if body else "GET"), path, body or None, {"Content-Type": content_type} if body else {})


def unordered(value: Any) -> Any:
    """Errors of entities in any order: Kong's is that of its tables."""
    if isinstance(value, dict) and "flattened_errors" in value:
        return {**value, "flattened_errors": sorted(value["flattened_errors"], key=json.dumps)}
    return value


@pytest.mark.parametrize("title", REPLAYED)
def test_replay(admin: Admin, title: str) -> None:
    text = SECTIONS[title]
    recorded = HEAD.search(text)
    assert recorded
    status, _, body = recorded.groups()
    answer = curl(admin, text.partition("\n")[0].removeprefix("$ "))
    assert answer.status == int(status)
    assert unordered(answer.json) == unordered(json.loads(body) if body else None)


def test_the_recorded_configuration_is_taken(admin: Admin) -> None:
    command = SECTIONS["POST /config good (response body is the whole config)"].partition("\n")[0].removeprefix("$ ")
    answer = curl(admin, command.replace("-o /dev/null", "").partition(" -w ")[0])
    assert answer.status == 201, answer.json
    assert [row["username"] for row in answer.json["consumers"].values()] == ["bob"]
    assert len(answer.json["plugins"]) == len([row for row in answer.json["plugins"].values() if row["config"] is not None])
    listed = admin.get("/plugins?size=1000")["data"]
    assert {row["id"] for row in listed} == set(answer.json["plugins"])


def test_what_is_read_is_what_was_recorded(admin: Admin) -> None:
    recorded = HEAD.search(SECTIONS["GET /config"])
    assert recorded
    expected = yaml.safe_load(json.loads(recorded[3])["config"])
    route = {"name": "r", "paths": ["/"]}
    admin.post("/config", document(services=[{"name": "s", "url": "http://127.0.0.1:18701", "routes": [route]}]))
    got = yaml.safe_load(admin.get("/config")["config"])
    assert got["_format_version"] == expected["_format_version"]
    for table in ("services", "routes"):
        for rows in (got[table], expected[table]):
            for row in rows:
                row |= {"created_at": 0, "updated_at": 0}
    assert got == expected


# === ways in ===


PART = b'--b\r\nContent-Disposition: form-data; name="config"; filename="k.yml"\r\n\r\n%s\r\n--b--'
YAML = b'_format_version: "3.0"\nservices:\n- name: yaml\n  host: h\n'


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (YAML, "application/yaml"),
        (YAML, "text/yaml; charset=utf-8"),
        (YAML, "application/x-www-form-urlencoded"),
        (b"config=" + YAML.replace(b'"', b"%22").replace(b"\n", b"%0A"), "application/x-www-form-urlencoded"),
        (json.dumps({"config": YAML.decode()}).encode(), "application/json"),
        (json.dumps(document(services=[{"name": "yaml", "host": "h"}])).encode(), "application/json; charset=utf-8"),
        (PART % YAML, "multipart/form-data; boundary=b"),
    ],
    ids=["yaml", "text/yaml", "raw under a form's type", "form", "JSON with the text", "JSON", "multipart"],
)
def test_a_text_may_come_in_any_of_these_ways(admin: Admin, body: bytes, content_type: str) -> None:
    admin.post("/config", services("before"))
    answer = send(admin, body, content_type)
    assert answer.status == 201, answer.body
    assert names(admin) == ["yaml"]


FORM = "application/x-www-form-urlencoded"
PAIRS = "config=1&x=2&config=3"


@pytest.mark.parametrize(
    "body",
    [
        YAML + f"  tags: ['a', 'x=1&{PAIRS}']\n".encode(),
        json.dumps(document(services=[{"name": "yaml", "host": "h", "tags": [f"&{PAIRS}"]}]), separators=(",", ":")).encode(),
        b"x=1&config=" + YAML.replace(b'"', b"%22").replace(b"\n", b"%0A").replace(b" ", b"+") + b"&y=2",
        b"config=" + YAML.replace(b"yaml", b"yaml\n  tags: ['\xc3\xa9']"),
    ],
    ids=["YAML that holds a form", "JSON that holds a form", "form with more fields", "form that is not encoded"],
)
def test_a_form_is_told_from_a_text(admin: Admin, body: bytes) -> None:
    admin.post("/config", services("before"))
    answer = send(admin, body, FORM)
    assert answer.status == 201, answer.body
    assert names(admin) == ["yaml"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"config=a" + b"&x=1" * 1000, FORM),
        (b"x=1" + b"&x=1" * 100_000, FORM),
        ((b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n' * 1001) + b"--b--", "multipart/form-data; boundary=b"),
    ],
    ids=["form", "long form", "multipart"],
)
def test_a_form_has_a_thousand_fields_at_most(admin: Admin, body: bytes, content_type: str) -> None:
    answer = send(admin, body, content_type)
    assert (answer.status, answer.json) == (400, {"message": "Too many arguments"})


def test_a_form_without_a_text_is_none(admin: Admin) -> None:
    assert send(admin, b"x=1", FORM).json == {"message": "expected a declarative configuration"}


def test_other_types_are_not_taken(admin: Admin) -> None:
    assert send(admin, YAML, "image/png").status == 415


def test_a_body_beyond_the_limit_is_not_read(admin: Admin) -> None:
    admin.post("/config", services("kept"))
    assert send(admin, b"#" * (1 << 20) + YAML, "application/yaml").status == 413
    assert names(admin) == ["kept"]


def test_a_hundred_megabytes_without_a_length_end_at_the_limit(off: ControlProcess) -> None:
    piece = b"10000\r\n" + b"#" * 65536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", off.admin_port), timeout=10) as client:
        head = f"POST /config HTTP/1.1\r\nHost: 127.0.0.1:{off.admin_port}\r\nContent-Type: text/yaml\r\n"
        head += "Transfer-Encoding: chunked\r\n\r\n"
        client.sendall(head.encode())
        sent = 0
        answer = b""
        try:
            while sent < 1600:
                client.sendall(piece)
                sent += 1
            answer = client.recv(4096)
        except OSError:
            pass
    assert sent < 1600 or b" 413 " in answer


# === all or nothing ===


def test_a_wrong_configuration_leaves_the_present_one(admin: Admin) -> None:
    admin.post("/config", services("good"))
    status = admin.get("/status")
    wrong = admin.call("POST", "/config", document(services=[{"name": "new", "host": "h"}, {"name": "wrong"}]))
    assert wrong.status == 400
    assert names(admin) == ["good"]
    after = admin.get("/status")
    assert (after["configuration_hash"], after["pylae"]["version"]) == (status["configuration_hash"], status["pylae"]["version"])


def test_the_hash_changes_with_the_text_and_the_version_with_the_rows(admin: Admin) -> None:
    admin.post("/config", services("a"))
    first = admin.get("/status")
    admin.post("/config", {**services("a"), "_comment": "the same"})
    second = admin.get("/status")
    assert len(first["configuration_hash"]) == 32
    assert first["configuration_hash"] != second["configuration_hash"]
    assert first["pylae"]["version"] == second["pylae"]["version"]
    assert "database" not in first


def test_the_same_text_again_is_not_modified(admin: Admin) -> None:
    body = json.dumps(services("hashed")).encode()
    statuses = [send(admin, body, "application/json", "?check_hash=1").status for _ in range(2)]
    other = send(admin, json.dumps(services("other")).encode(), "application/json", "?check_hash=1").status
    assert (statuses, other) == ([201, 304], 201)


@pytest.mark.parametrize("asked", ["true", "1", "on", "yes", "TRUE"])
def test_errors_are_flattened_when_asked(admin: Admin, asked: str) -> None:
    answer = admin.call("POST", f"/config?flatten_errors={asked}", document(services=[{"name": "a"}]))
    assert (answer.status, answer.json["fields"], len(answer.json["flattened_errors"])) == (400, {}, 1)
    assert "flattened_errors" not in admin.call("POST", "/config?flatten_errors=0", document(services=[{"name": "a"}])).json


def test_unchanged_rows_keep_their_times(admin: Admin) -> None:
    def times() -> dict[str, tuple[int, int]]:
        return {row["name"]: (row["created_at"], row["updated_at"]) for row in admin.get("/services")["data"]}

    admin.post("/config", services("same", "other"))
    before = times()
    until(lambda: int(time.time()) > before["same"][1], "another second", 3)
    changed = services("same", "other")
    changed["services"][1]["retries"] = 1
    admin.post("/config", changed)
    assert times()["same"] == before["same"]
    assert times()["other"][1] > before["other"][1]


def test_a_configuration_that_is_read_can_be_sent_back(admin: Admin) -> None:
    plugin = {"name": "rate-limiting", "config": {"minute": 5, "policy": "local"}}
    admin.post(
        "/config",
        document(
            services=[{"name": "s", "url": "http://h", "routes": [{"name": "r", "paths": ["~/a\\d"], "plugins": [plugin]}]}],
            consumers=[{"username": "c", "basicauth_credentials": [{"username": "u", "password": "p"}]}],
        ),
    )
    first = admin.get("/config")["config"]
    version = admin.get("/status")["pylae"]["version"]
    assert send(admin, first.encode(), "application/yaml").status == 201
    assert admin.get("/config")["config"] == first
    assert admin.get("/status")["pylae"]["version"] == version


# === the rest of the Admin API ===


def test_single_writes_are_refused(admin: Admin) -> None:
    admin.post("/config", services("s"))
    (row,) = admin.get("/services")["data"]
    expected = {
        ("POST", "/services"): "cannot create 'services' entities when not using a database",
        ("PATCH", "/services/s"): "cannot update 'services' entities by 'name' when not using a database",
        ("PATCH", f"/services/{row['id']}"): "cannot update 'services' entities when not using a database",
        ("PUT", "/services/t"): "cannot create or update 'services' entities by 'name' when not using a database",
        ("PUT", f"/services/{row['id']}"): "cannot create or update 'services' entities when not using a database",
        ("DELETE", "/services/s"): "cannot remove 'services' entities by 'name' when not using a database",
        ("DELETE", f"/services/{row['id']}"): "cannot remove 'services' entities when not using a database",
    }
    for (method, path), text in expected.items():
        body = {"POST": {"name": "t", "host": "h"}, "PUT": {"host": "h"}, "PATCH": {"port": 1}}.get(method)
        answer = admin.call(method, path, body)
        assert answer.status == 405
        assert answer.json == {"message": text, "code": 12, "name": "operation unsupported"}
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    # What is wrong in itself is told first, and what is not there cannot be kept from going.
    assert admin.call("POST", "/services", {"name": "t"}).status == 400
    assert admin.call("PATCH", "/services/nobody", {"port": 1}).status == 404
    assert admin.call("DELETE", "/services/nobody").status == 204


def test_reads_find_by_page_name_parent_and_tag(admin: Admin) -> None:
    route = [{"name": f"r{n}", "paths": [f"/{n}"], "tags": ["even" if n % 2 == 0 else "odd"]} for n in range(5)]
    admin.post("/config", document(services=[{"name": "s", "host": "h", "routes": route}, {"name": "t", "host": "h"}]))
    page = admin.get("/routes?size=3")
    rest = admin.get(page["next"])
    assert sorted(row["name"] for row in page["data"] + rest["data"]) == [f"r{n}" for n in range(5)]
    assert len(admin.get("/routes?tags=even")["data"]) == 3
    assert len(admin.get("/services/s/routes")["data"]) == 5
    assert admin.get("/services/t/routes")["data"] == []
    assert admin.get("/routes/r1/service")["name"] == "s"
    assert {row["tag"] for row in admin.get("/tags")["data"]} == {"even", "odd"}


def test_not_ready_while_the_configuration_is_empty(off: ControlProcess) -> None:
    off.admin.post("/config", services("s"))
    with_one = off.status.call("GET", "/status/ready").json["message"]
    assert "empty configuration" not in with_one


def test_an_empty_one_says_so(tmp_path: Path) -> None:
    with ControlProcess(tmp_path, {"database": "off"}) as process:
        answer = process.status.call("GET", "/status/ready")
        assert (answer.status, answer.json) == (503, {"message": "no configuration available (empty configuration present)"})
        assert process.status.call("GET", "/status").json["configuration_hash"] == "0" * 32


def test_with_a_database_there_is_no_whole_configuration(control: ControlProcess) -> None:
    text = {"message": "this endpoint is only available when Kong is configured to not use a database"}
    for method, body in (("GET", None), ("POST", services("s"))):
        answer = control.admin.call(method, "/config", body)
        assert (answer.status, answer.json) == (400, text)


# === hostile and unlucky ===


HEAD_OF_ALL = b'{"_format_version":"3.0",'
BOMB = b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 120))
LIMIT = HEAD_OF_ALL + b'"plugins":[{"name":"rate-limiting","config":{"minute":%s}}]}'
HOSTILE = {
    "bomb": b"a: &a [" + b"x," * 1000 + b"x]\n" + BOMB,
    "deep": b"[" * 100_000,
    "deep in an entity": HEAD_OF_ALL + b'"services":[' + b'{"routes":[' * 90 + b"]}" * 90 + b"]}",
    "huge number": HEAD_OF_ALL + b'"services":[{"name":"a","host":"h","port":' + b"9" * 5000 + b"}]}",
    "NaN": HEAD_OF_ALL + b'"services":[{"name":"a","host":"h","port":NaN}]}',
    "not UTF-8": b'_format_version: "3.0"\nservices:\n- {name: "\xff", host: h}\n',
    "NUL": HEAD_OF_ALL + b'"services":[{"name":"a\\u0000","host":"h"}]}',
    "half a surrogate": HEAD_OF_ALL + b'"services":[{"name":"\\ud800","host":"h"}]}',
    "infinite": LIMIT % b"1e400",
    "too large for an encoder": LIMIT % b"99999999999999999999",
    "objects for all": b'{"_format_version":{},"services":{"a":{}},"plugins":[[]],"routes":[{"service":{"id":{}}}]}',
    "a list": b"[1, 2]",
    "keys of all kinds": b'_format_version: "3.0"\n? {a: b}\n: c\n',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=list(HOSTILE))
@pytest.mark.parametrize("content_type", ["application/json", "application/yaml"])
def test_a_hostile_text_is_the_clients_fault(off: ControlProcess, body: bytes, content_type: str) -> None:
    off.admin.post("/config", services("kept"))
    begun_s = time.monotonic()
    for query in ("", "?flatten_errors=1"):
        answer = send(off.admin, body, content_type, query)
        assert (answer.status, answer.json["code"]) == (400, 14), answer.body
    assert time.monotonic() - begun_s < 10
    assert names(off.admin) == ["kept"]
    assert "Traceback" not in off.error_log


def large(count: int) -> bytes:
    routes = [{"name": f"r{n}", "paths": [f"/{n}"]} for n in range(count)]
    return json.dumps(document(services=[{"name": "s", "host": "h", "routes": routes}])).encode()


def test_who_reads_does_not_wait_for_what_is_loaded(tmp_path: Path) -> None:
    catalogue = catalogue_of(registry(), {})
    strategy = OffStrategy(tmp_path / "off", catalogue.tables, "node")
    strategy.open()
    control = Control(strategy, catalogue, {}, tmp_path / "control.sock", lambda level, text: None)
    config = Config(control, 1_000_000)
    is_over = threading.Event()

    async def read() -> int:
        loading = asyncio.get_running_loop().run_in_executor(config._thread, is_over.wait)
        request = Request({"type": "http", "method": "GET", "path": "/config", "headers": [], "query_string": b""})
        try:
            return (await asyncio.wait_for(config.get(request), 5)).status_code
        finally:
            is_over.set()
            await loading

    assert asyncio.run(read()) == 200


def test_the_answer_to_many_errors_is_made_in_the_thread(tmp_path: Path) -> None:
    catalogue = catalogue_of(registry(), {})
    strategy = OffStrategy(tmp_path / "off", catalogue.tables, "node")
    strategy.open()
    control = Control(strategy, catalogue, {}, tmp_path / "control.sock", lambda level, text: None)
    config = Config(control, 10_000_000)
    body = json.dumps(document(routes=[{"paths": ["x"]}] * 300)).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/config", "headers": headers, "query_string": b""}
    # Not the error itself, of which the loop would have to make an answer.
    with pytest.raises(Refusal) as caught:
        asyncio.run(config.post(Request(scope, receive)))
    assert caught.value.response.status_code == 400
    assert len(json.loads(bytes(caught.value.response.body))["fields"]["routes"]) == 300


def test_two_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    with ControlProcess(tmp_path, {"database": "off"}) as process:
        body = large(3000)
        found: list[Answer] = []

        def post() -> None:
            own = Admin(process.admin_port)
            found.append(own.call("POST", "/config", body, {"Content-Type": "application/json"}))
            own.close()

        threads = [threading.Thread(target=post) for _ in range(4)]
        for thread in threads:
            thread.start()
        # Others are answered meanwhile.
        slowest_s = 0.0
        while any(thread.is_alive() for thread in threads):
            begun_s = time.monotonic()
            assert process.status.call("GET", "/status").status == 200
            slowest_s = max(slowest_s, time.monotonic() - begun_s)
        assert sorted({answer.status for answer in found}) in ([201], [201, 429])
        for answer in found:
            if answer.status == 429:
                assert answer.json == {"message": "Currently loading previous configuration"}
                assert int(answer.headers["retry-after"]) >= 1
        assert slowest_s < 1


@pytest.mark.parametrize("after_ms", [5, 20, 60, 120, 250, 400])
def test_killed_at_any_moment_it_holds_the_old_or_the_new(tmp_path: Path, after_ms: int) -> None:
    with ControlProcess(tmp_path, {"database": "off"}) as process:
        process.admin.post("/config", services("old"))
        body = large(1500)

        def post() -> None:
            with socket.create_connection(("127.0.0.1", process.admin_port)) as client:
                head = f"POST /config HTTP/1.1\r\nHost: 127.0.0.1:{process.admin_port}\r\nContent-Type: application/json\r\n"
                client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                threading.Event().wait(after_ms / 1000)

        post()
        process.kill()
        process.restart()
        held = sorted(row["name"] for row in process.admin.get("/services")["data"])
        routes = len(process.admin.get("/routes?size=1000")["data"])
        assert (held, routes) in ((["old"], 0), (["s"], 1000))
