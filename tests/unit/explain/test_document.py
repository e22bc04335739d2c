# SPDX-License-Identifier: Apache-2.0
"""What does the document of an exchange hold, whatever its record is?"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pylae.explain.document import document_of

REFUSED = {
    "time": "2026-11-25T02:00:00.000Z",
    "request_id": "d01c2cdd22b4031d87ceda7ee2826559",
    "kind": "failed",
    "status": 502,
    "fault": "connect_refused",
    "phase": "connect",
    "request": {"line": "GET /orders HTTP/1.1", "path": "/orders", "headers": [["Host", "shop.test"], ["Cookie", None]]},
    "route": {"id": "747b8462-164f-4b9c-ab52-68c4432ad8b3", "name": "orders"},
    "service": {"name": "orders", "host": "127.0.0.1", "port": 9999, "protocol": "http"},
    "attempts": [{"host": "127.0.0.1", "address": "127.0.0.1:9999", "fault": "connect_refused", "dns": {"state": "literal"}}],
}


def document(record: Any, **given: Any) -> dict[str, Any]:
    arguments = {"admin_url": "http://localhost:8001", "route_explanation": None, "is_config_current": True, **given}
    return document_of(record, **arguments)


def test_it_holds_the_verdict_and_what_the_record_knows() -> None:
    found = document(json.dumps(REFUSED).encode())
    assert found["verdict"]["hop"] == "upstream"
    assert found["verdict"]["cause"] == "connect_refused"
    assert found["verdict"]["flags"]["proxy_status"] == "connection_refused"
    assert "curl -X PATCH http://localhost:8001/services/orders --data port=PORT" in found["verdict"]["cure"]
    assert found["attempts"][0]["address"] == "127.0.0.1:9999"
    assert found["route"] == {"id": REFUSED["route"]["id"], "name": "orders", "why": [], "nearest": []}  # type: ignore[index]
    assert msgspec.json.decode(msgspec.json.encode(found))["request_id"] == REFUSED["request_id"]


def test_a_record_may_be_decoded_already() -> None:
    assert document(REFUSED) == document(json.dumps(REFUSED).encode())


def test_the_router_says_why_only_for_the_same_route() -> None:
    why = [{"condition": "paths", "value": "/orders"}]
    same = {"route": {"id": REFUSED["route"]["id"], "why": why}, "nearest": [{"id": "x", "failed": []}]}  # type: ignore[index]
    found = document(REFUSED, route_explanation=same)
    assert found["route"]["why"] == why
    assert found["route"]["nearest"] == same["nearest"]
    assert document(REFUSED, route_explanation={"route": {"id": "another", "why": why}})["route"]["why"] == []


def test_a_request_without_a_route_is_told_which_were_near() -> None:
    lost = {**REFUSED, "fault": "no_route", "route": None, "attempts": []}
    near = {"name": "orders", "failed": [{"condition": "methods", "wanted": ["POST", "PUT"], "got": "GET\x1b"}]}
    found = document(lost, route_explanation={"route": None, "nearest": [near, None, {"failed": 3}]})
    told = "Route `orders` is near, and does not match: methods: wanted `POST` or `PUT`, got `GET\\x1B`"
    assert told in found["verdict"]["evidence"]


@pytest.mark.parametrize("record", [b"", b"[]", b"null", b"{", b"\xff", b'{"attempts":{"a":1},"request":[],"status":"502"}', {}])
def test_rubbish_makes_an_empty_document(record: Any) -> None:
    found = document(record)
    assert found["verdict"]["cause"] is None
    assert found["attempts"] == []
