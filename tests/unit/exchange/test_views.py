# SPDX-License-Identifier: Apache-2.0
"""Is what a plugin sees of a request true, and does what it changes arrive?"""

from __future__ import annotations

import ast
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import raw
from tests.support.wait import until
from tests.unit.event_loop.rig import Worker

PLUGIN_FOLDER: Final = Path(__file__).parent / "plugins"
ROOM: Final = 4
"""Of what view-probe remembers."""


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        """Any method is taken."""
        self.raw_requestline = self.rfile.readline(65_537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length", 0))
        asked = {
            "method": self.command,
            "target": self.path,
            "headers": [
                [name, value.encode("latin-1").decode("utf-8", "backslashreplace")] for name, value in self.headers.items()
            ],
            "body": self.rfile.read(length).decode(),
        }
        body = json.dumps(asked).encode()
        self.send_response(200)
        for name, value in (("X-Origin", "original"), ("X-Gone", "1"), ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base's name
        """Says nothing."""


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker before an origin that echoes."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as origin:
        threading.Thread(target=origin.serve_forever, daemon=True).start()
        folder = tmp_path_factory.mktemp("worker")
        with Worker(folder, "view-probe", plugin_folder=PLUGIN_FOLDER, origin_port=origin.server_port) as worker:
            yield worker
        origin.shutdown()


def send(worker: Worker, request: bytes) -> raw.Reply:
    """One request as written."""
    return raw.exchange(worker.port, request)


def echoed(reply: raw.Reply) -> dict[str, Any]:
    """What the origin was asked, headers by lower-case name."""
    assert reply.status == 200, reply
    asked: dict[str, Any] = json.loads(reply.body)
    headers: dict[str, list[str]] = {}
    for name, value in asked["headers"]:
        headers.setdefault(name.lower(), []).append(value)
    return {**asked, "headers": headers}


def test_a_request_is_seen_as_it_was_sent(worker: Worker) -> None:
    target = b"/%72equest?a=1&a=%20%C3%BC+&flag&=x"
    fields = b"Host: Some.Test:81\r\nX-Many: 1\r\nx-many: 2\r\nContent-Length: 10\r\n\r\n"
    reply = send(worker, b"POST " + target + b" HTTP/1.1\r\n" + fields + b"0123456789")
    seen = json.loads(reply.body)
    assert seen.pop("id") == 32
    assert seen == {
        "method": "POST",
        "scheme": "http",
        "host": "some.test",
        "path": "/request",
        "raw_path": "/%72equest",
        "raw_query": "a=1&a=%20%C3%BC+&flag&=x",
        "path_with_query": "/%72equest?a=1&a=%20%C3%BC+&flag&=x",
        "http_version": "1.1",
        "query": {"a": ["1", " ü "], "flag": True},
        "argument": ["1", True, None],
        "many": "1",
        "values": ["1", "2"],
        "headers": ["1", "2"],
        "captures": None,
        "body": "0123456789",
        "ip": "127.0.0.1",
        "protocol": "http",
        "forwarded_protocol": "http",
        "route": ["/"],
        "service": "127.0.0.1",
    }


def test_a_body_beyond_the_limit_is_not_seen_and_goes_on(worker: Worker) -> None:
    large = b"x" * 1000
    head = b"POST /%s HTTP/1.1\r\nHost: a\r\nX-Many: 1\r\nContent-Length: 1000\r\n\r\n"
    reply = send(worker, head % b"request" + large)
    assert reply.status == 200, (reply, worker.error_log())
    assert json.loads(reply.body)["body"] is None
    assert echoed(send(worker, head % b"elsewhere" + large))["body"] == large.decode()


def test_what_is_changed_goes_upstream(worker: Worker) -> None:
    asked = echoed(send(worker, b"GET /upstream?old HTTP/1.1\r\nHost: a\r\nX-Drop: 1\r\nX-Drop-Too: 1\r\nX-Set: client\r\n\r\n"))
    headers = asked["headers"]
    assert (asked["method"], asked["target"]) == ("PUT", "/a%20b/%C3%BC%20c?x%20y=1&x%20y=2%26&flag")
    assert asked["body"] == "made here"
    assert headers["x-set"] == ["one"]
    assert headers["x-list"] == ["1", "2", "3"]
    assert headers["x-together"] == ["yes"]
    assert "x-drop" not in headers
    assert "x-drop-too" not in headers
    assert headers["host"] == ["elsewhere.test"]
    assert headers["content-length"] == ["9"]
    assert headers["x-forwarded-proto"] == ["http"]
    assert "transfer-encoding" not in headers


def test_bytes_that_are_no_text_survive_the_way_through_python(worker: Worker) -> None:
    headers = echoed(send(worker, b"GET /bytes HTTP/1.1\r\nHost: a\r\nX-Bytes: \xe9\xc3\xbc\r\n\r\n"))["headers"]
    assert headers["x-bytes-again"] == headers["x-bytes"] == ["\\xe9ü"]


def test_the_answer_is_changed_and_the_upstreams_own_stays_in_sight(worker: Worker) -> None:
    reply = worker.get("/answer-fields")
    assert reply.status == 202
    assert reply.header("X-Origin") == "changed"
    assert reply.all("X-More") == ["1", "2"]
    assert reply.header("X-Gone") is None
    assert reply.header("X-Seen") == "original original service"


def test_pieces_of_a_body_are_filtered(worker: Worker) -> None:
    reply = worker.get("/chunks")
    assert reply.body.startswith(b'{"METHOD": "GET"')
    assert reply.body.endswith(b"!")


def test_fields_set_before_there_is_an_answer_are_laid_over_it(worker: Worker) -> None:
    assert worker.get("/early").header("X-Early") == "early"


def test_an_error_carries_its_message_and_fields(worker: Worker) -> None:
    reply = worker.get("/refused")
    assert (reply.status, reply.header("X-Why")) == (403, "probe")
    assert json.loads(reply.body)["message"] == "no"


def test_what_cannot_be_sent_is_refused_where_it_is_set(worker: Worker) -> None:
    assert json.loads(worker.get("/wrong").body) == {
        "name": "ValueError",
        "line": "ValueError",
        "kind": "TypeError",
        "together": "ValueError",
        "scheme": "ValueError",
        "status": "ValueError",
        "upstream": "ValueError",
    }


def test_the_upstream_learns_who_the_client_is_and_nothing_that_the_client_says_of_it(worker: Worker) -> None:
    claims = (
        b"X-Consumer-ID: 1\r\nx-consumer-custom-id: 2\r\nX-CONSUMER-USERNAME: bob\r\nX-Anonymous-Consumer: true\r\nX-Other: 1\r\n"
    )

    def told(path: bytes) -> dict[str, list[str]]:
        headers = echoed(send(worker, b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + claims + claims + b"\r\n"))["headers"]
        return {name: values for name, values in headers.items() if name.startswith(("x-c", "x-a", "x-o"))}

    for _ in range(2):
        assert told(b"/identify") == {
            "x-consumer-id": ["11111111-1111-4111-8111-111111111111"],
            "x-consumer-username": ["alice"],
            "x-credential-identifier": ["22222222-2222-4222-8222-222222222222"],
            "x-other": ["1", "1"],
        }
    assert told(b"/identify?bare").keys() == {"x-credential-identifier", "x-other"}


def recognized(worker: Worker, *lines: str) -> tuple[str | None, str | None]:
    """What was remembered before and after a request with these fields."""
    reply = send(worker, raw.request("GET", "/remember", *lines))
    told = json.loads(reply.body)
    return told["before"], told["after"]


def test_a_field_is_recognized_by_its_whole_value(worker: Worker) -> None:
    assert recognized(worker, "X-Shown: one", "X-Decision: first") == (None, "first")
    assert recognized(worker, "x-shown:   one") == ("first", "first")
    for other in ("on", "onee", "One", "one\xff", ""):
        assert recognized(worker, f"X-Shown: {other}") == (None, None), other
    assert recognized(worker) == (None, None)
    assert recognized(worker, "X-Shown: one", "X-Decision: second") == ("first", "second")


def test_a_field_that_comes_twice_is_neither_recognized_nor_remembered(worker: Worker) -> None:
    recognized(worker, "X-Shown: twice", "X-Decision: known")
    assert recognized(worker, "X-Shown: twice", "X-Shown: twice", "X-Decision: other") == (None, None)
    assert recognized(worker, "X-Shown: twice") == ("known", "known")


def test_a_decision_ends_when_it_is_said_to(worker: Worker) -> None:
    assert recognized(worker, "X-Shown: over", "X-Decision: past 1000") == (None, None)
    assert recognized(worker, "X-Shown: over", "X-Decision: future 99999999999999") == (None, "future")
    assert recognized(worker, "X-Shown: over") == ("future", "future")


def test_those_not_asked_for_go_first(worker: Worker) -> None:
    for number in range(ROOM):
        recognized(worker, f"X-Shown: fill-{number}", f"X-Decision: {number}")
    # Whatever was there before is gone; this one is asked for again.
    assert recognized(worker, "X-Shown: fill-0")[0] == "0"
    for number in range(ROOM, 3 * ROOM):
        recognized(worker, "X-Shown: fill-0")
        recognized(worker, f"X-Shown: fill-{number}", f"X-Decision: {number}")
    assert recognized(worker, "X-Shown: fill-0")[0] == "0"
    kept = [number for number in range(1, 3 * ROOM) if recognized(worker, f"X-Shown: fill-{number}")[0] is not None]
    assert len(kept) == ROOM - 1


def test_nothing_of_a_request_is_left_to_the_next(worker: Worker) -> None:
    for _ in range(3):
        assert worker.get("/authenticate").status == 200
        assert json.loads(worker.get("/who").body) == {"consumer": None, "credential": None, "ctx": {}}


def test_what_is_logged_names_everybody_and_carries_values_of_plugins(worker: Worker) -> None:
    send(worker, b"GET /logged?t%C3%A9=s&b=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Basic eDp5\r\nx-key: s\r\nX-KEY: s\r\n\r\n")

    def streamed() -> list[list[Any]]:
        return [message for message in worker.control.said if message[0] == "stream" and message[1] == "log:view-probe"]

    entry = ast.literal_eval(until(streamed, "the entry")[0][2][0].decode())
    assert entry["request"]["headers"]["authorization"] == "REDACTED"
    assert entry["request"]["headers"]["x-key"] == "REDACTED"
    assert entry["request"]["uri"] == "/logged?t%C3%A9=***&b=1"
    assert entry["request"]["querystring"] == {"t\xe9": "***", "b": "1"}
    assert entry["consumer"]["username"] == "alice"
    assert entry["authenticated_entity"] == {
        "id": "22222222-2222-4222-8222-222222222222",
        "consumer_id": "11111111-1111-4111-8111-111111111111",
    }
    assert entry["probe"] == {"inner": 1}
    assert (entry["response"]["status"], entry["upstream_status"], entry["source"]) == (200, "200", "upstream")
    assert entry["tries"][0]["ip"] == "127.0.0.1"
    assert entry["latencies"]["request"] >= entry["latencies"]["proxy"] >= 0
