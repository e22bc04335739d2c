# SPDX-License-Identifier: Apache-2.0
"""Does response-transformer change answers as its facts say?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae.plugins.response_transformer.plugin import MAX_BODY_BYTES, ResponseTransformer
from pylae.sdk.testing import Outcome, Scene, Upstream

JSON = {"Content-Type": "application/json; charset=utf-8"}


def answer_of(config: dict[str, Any], **upstream: Any) -> Outcome:
    with Scene(ResponseTransformer, config, upstream=Upstream(**upstream)) as scene:
        return scene.send()


def test_headers_are_removed_renamed_replaced_added_and_appended_in_this_order() -> None:
    config = {
        "remove": {"headers": ["x-gone"]},
        "rename": {"headers": ["X-Old:X-New", "X-Absent:X-Never"]},
        "replace": {"headers": ["X-New:replaced", "X-Missing:never"]},
        "add": {"headers": ["X-New:never", "X-Gone:back"]},
        "append": {"headers": ["X-New:appended"]},
    }
    outcome = answer_of(config, headers={"X-Gone": "1", "X-Old": "old", "Content-Length": "5"})
    assert outcome.headers == {"content-length": "5", "x-new": ["replaced", "appended"], "x-gone": "back"}
    assert outcome.body == b"hello"


def test_json_rules_in_order_with_their_types() -> None:
    config = {
        "remove": {"json": ["gone"]},
        "rename": {"json": ["old:new"]},
        "replace": {"json": ["new:12", "missing:1"], "json_types": ["number"]},
        "add": {"json": ["flag:true", "ratio:0.5", "text:1"], "json_types": ["boolean", "number"]},
        "append": {"json": ["new:x", "fresh:false"], "json_types": ["string", "boolean"]},
    }
    body = b'{"gone": 1, "old": 0, "keep": {"gone": 2}}'
    outcome = answer_of(config, headers=JSON, body=body)
    assert outcome.json() == {
        "keep": {"gone": 2},
        "new": [12, "x"],
        "flag": True,
        "ratio": 0.5,
        "text": "1",
        "fresh": [False],
    }
    assert "content-length" not in outcome.headers


def test_body_in_pieces_is_transformed_whole() -> None:
    outcome = answer_of({"add": {"json": ["b:2"]}}, headers=JSON, chunks=[b'{"a"', b":1", b"}"])
    assert outcome.json() == {"a": 1, "b": "2"}


@pytest.mark.parametrize("body", [b'{"a"', b"[1]", b"", b"\xff"])
def test_body_that_does_not_parse_goes_out_unchanged(body: bytes) -> None:
    assert answer_of({"add": {"json": ["b:2"]}}, headers=JSON, body=body).body == body


def test_other_types_keep_body_and_length() -> None:
    outcome = answer_of({"add": {"json": ["b:2"]}}, headers={"Content-Type": "text/plain"}, body=b'{"a":1}')
    assert outcome.body == b'{"a":1}'
    assert outcome.headers["content-length"] == "7"


def test_length_stays_without_json_rules() -> None:
    outcome = answer_of({"add": {"headers": ["X-A:1"]}}, headers=JSON, body=b'{"a":1}')
    assert outcome.headers["content-length"] == "7"


def test_body_beyond_the_limit_goes_out_unchanged_and_is_logged() -> None:
    pieces = [b"x" * (MAX_BODY_BYTES // 2)] * 3
    outcome = answer_of({"add": {"json": ["b:2"]}}, headers=JSON, chunks=pieces)
    assert outcome.body == b"".join(pieces)
    assert outcome.lines[0][0] == "warn"


def test_value_that_is_not_of_its_type_is_left_out() -> None:
    config = {"add": {"json": ["a:many", "b:perhaps", "c:1"], "json_types": ["number", "boolean", "number"]}}
    assert answer_of(config, headers=JSON, body=b"{}").json() == {"c": 1}
