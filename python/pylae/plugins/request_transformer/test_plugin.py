# SPDX-License-Identifier: Apache-2.0
"""Does request-transformer change requests as its facts say?"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pylae.plugins.request_transformer.plugin import RequestTransformer
from pylae.sdk import SchemaViolation
from pylae.sdk.testing import MemoryServiceRequest, Scene, validated

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MULTIPART = "multipart/form-data; boundary=b"


def upstream_of(config: dict[str, Any], **request: Any) -> MemoryServiceRequest:
    with Scene(RequestTransformer, config) as scene:
        outcome = scene.send(**request)
    assert outcome.status == 200
    assert outcome.upstream is not None
    return outcome.upstream


def test_no_rules_change_nothing() -> None:
    upstream = upstream_of({}, method="POST", target="/a?b=%2f&c", headers={"A": "1"}, body=b"x")
    assert (upstream.method, upstream.path, upstream.raw_query, upstream.sent_body) == ("POST", "/a", "b=%2f&c", b"x")
    assert upstream.lines == [("A", "1")]


def test_headers_are_removed_renamed_replaced_added_and_appended_in_this_order() -> None:
    config = {
        "remove": {"headers": ["x-gone"]},
        "rename": {"headers": ["X-Old:X-New", "X-Absent:X-Never"]},
        "replace": {"headers": ["X-New:replaced", "X-Missing:never"]},
        "add": {"headers": ["X-New:never", "X-Gone:back"]},
        "append": {"headers": ["X-New:appended", "X-Fresh:1"]},
    }
    upstream = upstream_of(config, headers={"X-Gone": ["1", "2"], "X-Old": "old", "Keep": "1"})
    assert upstream.get_headers() == {
        "keep": "1",
        "x-new": ["replaced", "appended"],
        "x-gone": "back",
        "x-fresh": "1",
    }


def test_value_keeps_its_colons() -> None:
    upstream = upstream_of({"add": {"headers": ["X-Url:http://h:1/x"]}})
    assert upstream.get_header("x-url") == "http://h:1/x"


def test_renaming_moves_every_value_and_takes_the_new_case() -> None:
    upstream = upstream_of({"rename": {"headers": ["x-many:X-MANY"]}}, headers={"x-many": ["1", "2"]})
    assert upstream.lines == [("X-MANY", "1"), ("X-MANY", "2")]


def test_host_is_replaced_but_never_added() -> None:
    assert upstream_of({"replace": {"headers": ["Host:inner.test"]}}).get_header("host") == "inner.test"
    assert upstream_of({"add": {"headers": ["Host:inner.test"]}}).get_header("host") is None
    assert upstream_of({"append": {"headers": ["host:inner.test"]}}).get_header("host") is None


def test_query_rules() -> None:
    config = {
        "remove": {"querystring": ["gone"]},
        "rename": {"querystring": ["old:new"]},
        "replace": {"querystring": ["new:1 2", "missing:x"]},
        "add": {"querystring": ["new:never", "added:a:b"]},
        "append": {"querystring": ["new:3"]},
    }
    upstream = upstream_of(config, target="/?gone=1&old=0&keep&gone=2")
    assert upstream.get_query() == {"new": ["1 2", "3"], "keep": True, "added": "a:b"}
    assert "1%202" in upstream.raw_query


ALL_BODY_RULES = {
    "remove": {"body": ["gone"]},
    "rename": {"body": ["old:new"]},
    "replace": {"body": ["new:1", "missing:x"]},
    "add": {"body": ["new:never", "added:a"]},
    "append": {"body": ["new:2"]},
}


def test_form_body_rules() -> None:
    upstream = upstream_of(ALL_BODY_RULES, method="POST", headers={"Content-Type": FORM}, body=b"gone=1&old=0&keep=%26")
    assert upstream.sent_body == b"keep=%26&new=1&new=2&added=a"


def test_json_body_rules_touch_top_level_names_only() -> None:
    body = b'{"gone": 1, "old": 0, "keep": {"gone": 1.5}, "a.b": 1}'
    upstream = upstream_of(ALL_BODY_RULES, method="POST", headers={"Content-Type": JSON}, body=body)
    assert msgspec.json.decode(upstream.sent_body) == {
        "keep": {"gone": 1.5},
        "a.b": 1,
        "new": ["1", "2"],
        "added": "a",
    }


def test_name_with_a_dot_is_one_name() -> None:
    upstream = upstream_of(
        {"remove": {"body": ["a.b"]}}, method="POST", headers={"Content-Type": JSON}, body=b'{"a.b":1,"a":{"b":2}}'
    )
    assert upstream.sent_body == b'{"a":{"b":2}}'


def test_empty_json_body_may_be_added_to() -> None:
    upstream = upstream_of({"add": {"body": ["a:1"]}}, method="POST", headers={"Content-Type": JSON})
    assert upstream.sent_body == b'{"a":"1"}'


def test_multipart_body_rules_never_append() -> None:
    def part(name: str, value: str) -> str:
        return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'

    body = (part("gone", "1") + part("old", "0") + part("keep", "x") + "--b--\r\n").encode()
    upstream = upstream_of(ALL_BODY_RULES, method="POST", headers={"Content-Type": MULTIPART}, body=body)
    assert upstream.sent_body == (part("new", "1") + part("keep", "x") + part("added", "a") + "--b--\r\n").encode()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [(JSON, b"[1]"), (JSON, b"{"), ("text/plain", b"gone=1"), (MULTIPART, b"garbage"), ("multipart/form-data", b"x")],
)
def test_body_that_is_not_what_its_type_says_goes_on_unchanged(content_type: str, body: bytes) -> None:
    upstream = upstream_of(ALL_BODY_RULES, method="POST", headers={"Content-Type": content_type}, body=body)
    assert upstream.sent_body == body


def test_body_beyond_the_limit_goes_on_unchanged_and_is_logged() -> None:
    body = b'{"gone": "' + b"x" * 9_000_000 + b'"}'
    with Scene(RequestTransformer, {"remove": {"body": ["gone"]}}) as scene:
        outcome = scene.send("POST", headers={"Content-Type": JSON}, body=body)
    assert outcome.upstream is not None
    assert outcome.upstream.sent_body == body
    assert outcome.lines[0][0] == "warn"


def test_method_changes_and_moves_form_fields_to_the_query() -> None:
    upstream = upstream_of({"http_method": "GET"}, method="POST", target="/?a=1", headers={"Content-Type": FORM}, body=b"a=2&b=3")
    assert upstream.method == "GET"
    assert upstream.get_query() == {"a": ["1", "2"], "b": "3"}
    assert upstream.sent_body == b""
    upstream = upstream_of({"http_method": "PUT"}, method="POST", headers={"Content-Type": FORM}, body=b"a=2")
    assert (upstream.method, upstream.raw_query, upstream.sent_body) == ("PUT", "", b"a=2")


def test_uri_is_replaced() -> None:
    upstream = upstream_of({"replace": {"uri": "/inner/path"}}, target="/outer?a=1")
    assert (upstream.path, upstream.raw_query) == ("/inner/path", "a=1")
    upstream = upstream_of({"replace": {"uri": "/inner?b=2"}}, target="/outer?a=1")
    assert (upstream.path, upstream.raw_query) == ("/inner", "b=2&a=1")


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ({"replace": {"uri": "/x/$(uri_captures.id)"}}, ("replace", "uri")),
        ({"add": {"headers": ["X-A:1", "X-B:$(headers.x)"]}}, ("add", "headers")),
        ({"append": {"querystring": ["a:$(query_params.b)"]}}, ("append", "querystring")),
        ({"rename": {"body": ["a:$(shared.b)"]}}, ("rename", "body")),
    ],
)
def test_templates_are_refused_by_name(config: dict[str, Any], where: tuple[str, str]) -> None:
    with pytest.raises(SchemaViolation) as refused:
        validated(RequestTransformer, config)
    assert "templates" in str(refused.value.body()["fields"]["config"][where[0]][where[1]])


@pytest.mark.parametrize("config", [{"add": {"headers": ["X-A"]}}, {"rename": {"headers": ["X-A:X B"]}}])
def test_malformed_entries_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(SchemaViolation):
        validated(RequestTransformer, config)
