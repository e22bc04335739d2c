# SPDX-License-Identifier: Apache-2.0
"""What does request-termination answer?"""

from __future__ import annotations

import base64
import os
from typing import Any

import pytest

from pylae.plugins.request_termination.plugin import RequestTermination
from pylae.sdk import SchemaViolation
from pylae.sdk.testing import Scene, validated


@pytest.mark.parametrize(
    ("config", "status", "body"),
    [
        ({}, 503, b'{"message":"Service unavailable"}'),
        ({"status_code": 401}, 401, b'{"message":"Unauthorized"}'),
        ({"status_code": 404}, 404, b'{"message":"Not found"}'),
        ({"status_code": 405}, 405, b'{"message":"Method not allowed"}'),
        ({"status_code": 500}, 500, b'{"message":"An unexpected error occurred"}'),
        ({"status_code": 502}, 502, b'{"message":"Bad Gateway"}'),
        ({"status_code": 200}, 200, b""),
        ({"status_code": 204}, 204, b""),
        ({"status_code": 418}, 418, b""),
        ({"status_code": 200, "message": "hello"}, 200, b'{"message":"hello"}'),
    ],
)
def test_answer(config: dict[str, Any], status: int, body: bytes) -> None:
    with Scene(RequestTermination, config) as scene:
        outcome = scene.send()
    assert (outcome.status, outcome.body) == (status, body)
    assert outcome.upstream is None
    if body:
        assert outcome.headers["content-type"] == "application/json; charset=utf-8"


def test_body_as_it_is_written() -> None:
    with Scene(RequestTermination, {"body": "<b>\u00e4</b>", "content_type": "text/html; charset=utf-8"}) as scene:
        outcome = scene.send()
    assert outcome.body == "<b>\u00e4</b>".encode()
    assert outcome.headers["content-type"] == "text/html; charset=utf-8"
    with Scene(RequestTermination, {"body": '{"a":1}'}) as scene:
        assert scene.send().headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({}, 200),
        ({"headers": {"X-Stop": ""}}, 503),
        ({"headers": {"x-stop": "1"}}, 503),
        ({"target": "/?x-stop"}, 503),
        ({"target": "/?x-stop=0"}, 503),
        ({"target": "/?stop=x-stop"}, 200),
    ],
)
def test_trigger(request_: dict[str, Any], status: int) -> None:
    with Scene(RequestTermination, {"trigger": "x-stop"}) as scene:
        assert scene.send(**request_).status == status


def test_echo_shows_what_was_received() -> None:
    with Scene(RequestTermination, {"echo": True, "status_code": 404}) as scene:
        outcome = scene.send(
            "POST",
            "/a%2fb?x=1&x=2&y",
            headers={"Content-Type": "application/json", "X-Two": ["1", "2"]},
            body=b'{"name": "value"}',
            uri_captures={1: "first", "named": "second"},
        )
    assert outcome.status == 404
    seen = outcome.json()
    assert seen["message"] == "Not found"
    assert seen["kong"]["worker_pid"] == os.getpid()
    assert set(seen["kong"]) == {"node_id", "worker_pid", "hostname"}
    request = seen["request"]
    assert (request["method"], request["scheme"]) == ("POST", "http")
    assert request["query"] == {"x": ["1", "2"], "y": True}
    assert request["headers"]["x-two"] == ["1", "2"]
    assert (request["body"], request["raw_body"]) == ({"name": "value"}, '{"name": "value"}')
    assert request["uri_captures"] == {"1": "first", "named": "second"}
    assert (seen["matched_route"]["name"], seen["matched_service"]["name"]) == ("route", "service")


def test_echo_of_what_is_no_text() -> None:
    with Scene(RequestTermination, {"echo": True}) as scene:
        outcome = scene.send("POST", "/?q=%ff", headers={"X-Odd": "\udcff"}, body=b"\xff\x00")
    request = outcome.json()["request"]
    assert request["headers"]["x-odd"] == "\ufffd"
    assert request["query"] == {"q": "\ufffd"}
    assert base64.b64decode(request["raw_body"]) == b"\xff\x00"
    assert request["body"] is None


def test_bodies_stay_unread_without_echo() -> None:
    with Scene(RequestTermination, {}) as scene:
        assert RequestTermination.body_limit(scene.config) == 0


@pytest.mark.parametrize(
    "config",
    [{"message": "a", "body": "b"}, {"content_type": "text/plain"}, {"echo": True, "body": "b"}, {"status_code": 99}],
)
def test_what_does_not_go_together_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(SchemaViolation):
        validated(RequestTermination, config)
