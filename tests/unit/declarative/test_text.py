# SPDX-License-Identifier: Apache-2.0
"""Which values does a text hold, and does a hostile one cost little?"""

from __future__ import annotations

import math
import random
import time
from typing import Any

import pytest

from pylae.declarative.text import MAX_DEPTH, Unreadable, lines_of, plain_scalar, read

WITHIN_S = 2.0
"""Of CPU, for a text that is meant to cost more."""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("Off", False),
        ("y", "y"),
        ("~", None),
        ("", None),
        ("null", None),
        ("'null'", "null"),
        ("12", 12),
        ("-1_000", -1000),
        ("0x1F", 31),
        ("0b101", 5),
        ("-017", -15),
        ("08", "08"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("12:30", 750),
        ("1.2.3", "1.2.3"),
        ("2001-01-01", "2001-01-01"),
        ("12345678901234567890", 12345678901234567890.0),
        ("!!str 3", "3"),
        ("!!int 3", 3),
    ],
)
def test_scalars_are_those_of_yaml_1_1(text: str, value: Any) -> None:
    assert read(f"a: {text}\n".encode()) == {"a": value}


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "1e400", "9" * 300 + ":00"])
def test_what_json_cannot_say_is_no_number(text: str) -> None:
    value = read(f"a: {text}\n".encode())["a"]
    assert isinstance(value, float)
    assert math.isnan(value) or math.isfinite(value)


def test_keys_are_texts() -> None:
    assert read(b"1: a\non: b\n~: c\n") == {"1": "a", "true": "b", "null": "c"}


def test_json_is_read_as_json() -> None:
    # `yes` in quotes, a number beyond doubles, a duplicate key: as JSON has them.
    assert read(b'{"a": "yes", "b": 1.5, "c": 1, "c": 2}') == {"a": "yes", "b": 1.5, "c": 2}


def test_the_first_document_counts() -> None:
    assert read(b"a: 1\n---\nb: 2\n") == {"a": 1}


def test_merged_keys_give_way_to_those_that_stand_there() -> None:
    text = b"one: &one {a: 1, b: 1}\ntwo: &two {b: 2, c: 2}\nall: {<<: [*one, *two], c: 3}\n"
    assert read(text)["all"] == {"a": 1, "b": 1, "c": 3}


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        (b"foo: [bar", "1:7: did not find expected ',' or ']'", 2),
        (b"a: 1\na: 2\n", "2:1: duplicate key 'a'", 2),
        (b"a: *b\n", "1:4: unknown alias 'b'", 1),
        (b"a: &a [*a]\n", "1:8: unknown alias 'a'", 1),
        (b"a: !x 1\n", "1:4: unknown tag '!x'", 1),
        (b"a: !!int x\n", "1:4: invalid value for tag 'tag:yaml.org,2002:int'", 1),
        (b"a: !!python/object/apply:os.system [x]\n", "1:4: unknown tag 'tag:yaml.org,2002:python/object/apply:os.system'", 1),
        (b"? [a]\n: b\n", "1:5: a key must be a scalar", 1),
        (b"a: {<<: 1}\n", "1:9: expected a mapping or a list of mappings for merging", 1),
        (b"a: b\nc: \xff\n", "2:4: invalid UTF-8", 2),
        (b"a: \x00", "1:1: control characters are not allowed", 1),
    ],
)
def test_what_is_refused_says_where(text: bytes, problem: str, line: int) -> None:
    with pytest.raises(Unreadable) as caught:
        read(text)
    assert (str(caught.value), caught.value.line) == (problem, line)


def bomb(levels: int) -> bytes:
    """Ten aliases to the level before, on each level."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, levels)]
    return "\n".join(lines).encode()


HOSTILE = {
    "aliases that stand for billions": bomb(12),
    "one alias many times": b"a: &a [" + b"x, " * 5000 + b"x]\nb: [" + b"*a, " * 5000 + b"*a]\n",
    "one long text many times": b"a: &a " + b"x" * 100_000 + b"\nb: [" + b"*a, " * 10_000 + b"*a]\n",
    "a list of long texts many times": b"a: &a ["
    + b"x" * 50_000
    + b", '"
    + "é".encode() * 25_000
    + b"']\nb: ["
    + b"*a, " * 10_000
    + b"*a]\n",
    "a long key many times": b"a: &a {? " + b"x" * 100_000 + b" : 1}\nb: [" + b"*a, " * 10_000 + b"*a]\n",
    "deep JSON": b"[" * 200_000,
    "deep JSON, closed": b"[" * 200_000 + b"]" * 200_000,
    "JSON deeper than we take": b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    "deep YAML": b"- " * 20_000 + b"x",
    "deep YAML in flow": b"a: " + b"[" * 20_000,
    "deep by aliases": b"".join(b"a%d: &a%d [%s]\n" % (n, n, b"*a%d" % (n - 1) if n else b"x") for n in range(MAX_DEPTH + 2)),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_text_is_refused_at_little_cost(text: bytes) -> None:
    begun_s = time.process_time()
    with pytest.raises(Unreadable):
        read(text)
    assert time.process_time() - begun_s < WITHIN_S


@pytest.mark.parametrize("text", ["0x_", "-0x_", "0b_", "+0b__", "0x", "0b", "-_", ".", "._", "-.", "+_"])
def test_a_sign_without_a_digit_is_text(text: str) -> None:
    assert read(f"a: {text}\n".encode()) == {"a": text}


@pytest.mark.parametrize("text", ["9" * 400, "-" + "9" * 399, "0x" + "f" * 398, "0" + "7" * 399, "1" + "0" * 380 + ":30"])
def test_a_number_that_no_double_holds_is_none(text: str) -> None:
    value = read(f"a: {text}\n".encode())["a"]
    assert math.isnan(value)


def test_no_scalar_is_too_much() -> None:
    source = random.Random(11)
    for _ in range(60_000):
        start = source.choice(["", "0x", "-0x", "0b", "0", "-", ".", "1:", "9" * source.randint(1, 390)])
        plain_scalar(start + "".join(source.choices("0179_:.-+xXbeEafinN~ é", k=source.randint(0, 7))))


def test_a_number_of_a_million_digits_is_text() -> None:
    begun_s = time.process_time()
    assert isinstance(read(b"a: " + b"9" * 1_000_000)["a"], str)
    assert time.process_time() - begun_s < WITHIN_S


TEXT = b"""\
_format_version: "3.0"
services:
- name: a
  host: h
- name: b
  routes:
  - name: r
    paths:
    - x
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("services",), 2),
        (("services", 0, "host"), 4),
        (("services", 1), 5),
        (("services", 1, "routes", 0, "paths", 0), 9),
        (("services", 1, "port"), 5),
        ((), 1),
    ],
)
def test_the_line_of_a_value_is_known(path: tuple[str | int, ...], line: int) -> None:
    assert lines_of(TEXT, [path]) == {path: line}


def test_json_has_lines_too() -> None:
    path = ("services", 0, "name")
    assert lines_of(b'{\n "services": [\n  {"name": 1}\n ]\n}', [path]) == {path: 3}


def test_a_text_that_cannot_be_followed_has_no_lines() -> None:
    assert lines_of(b"a: [b", [("a",)]) == {}
