# SPDX-License-Identifier: Apache-2.0
"""Are bodies read and written as their types say?"""

from __future__ import annotations

import pytest

from pylae.sdk import bodies


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("", {}),
        ("a", {"a": True}),
        ("a=", {"a": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a=1&a&a=2", {"a": ["1", True, "2"]}),
        ("a%5B%5D=x+y", {"a[]": "x y"}),
        ("&&=1&a=%zz", {"a": "%zz"}),
    ],
)
def test_query_is_read(query: str, arguments: dict[str, bodies.QueryValue]) -> None:
    assert bodies.parse_query(query) == arguments


def test_query_survives_reading_and_writing_even_where_it_is_not_utf8() -> None:
    query = "a=%FF&b&c=1&c=2"
    assert bodies.encode_query(bodies.parse_query(query)) == query


def test_argument_is_taken_out_and_the_rest_left_as_it_is() -> None:
    assert bodies.without_argument("a=%2f&api%6Bey=1&apikey&b=+", "apikey") == "a=%2f&b=+"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"\xff", b'{"a":NaN}', b"[" * 100_000])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    assert bodies.parse_json_object(body) is None


BODY = (
    b'--x y\r\nContent-Disposition: form-data; name="a\\"b"\r\n\r\n1\r\n2\r\n'
    b'--x y\r\ncontent-disposition: form-data; name=file; filename="f"\r\nContent-Type: image/png\r\n\r\n\x00\r\n\r\n'
    b"--x y--\r\n"
)


def test_multipart_survives_reading_and_writing() -> None:
    form = bodies.parse_multipart(BODY, 'multipart/form-data; boundary="x y"')
    assert form is not None
    assert [part.name for part in form.parts] == ['a"b', "file"]
    assert form.get('a"b') == ["1\r\n2"]
    assert form.parts[1].content == b"\x00\r\n"
    assert form.encode() == BODY


def test_multipart_parts_are_renamed_with_their_values_in_place() -> None:
    form = bodies.parse_multipart(BODY, 'multipart/form-data; boundary="x y"')
    assert form is not None
    form.set("file", "new")
    form.rename('a"b', "first")
    assert [(part.name, part.content) for part in form.parts] == [("first", b"1\r\n2"), ("file", b"new")]


@pytest.mark.parametrize("body", [b"garbage", b"--x\r\nno end", b"--x\r\nContent-Disposition: a\r\n--x--\r\n"])
def test_broken_multipart_is_refused(body: bytes) -> None:
    assert bodies.parse_multipart(body, "multipart/form-data; boundary=x") is None


def test_media_type_has_no_parameters_and_no_case() -> None:
    assert bodies.media_type("Application/JSON ; charset=utf-8") == bodies.JSON
    assert bodies.media_type(None) == ""


def test_json_that_is_no_text_is_no_object() -> None:
    assert bodies.parse_json_object(b'{"k":"\xff"}') is None
