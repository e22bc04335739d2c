# SPDX-License-Identifier: Apache-2.0
"""Is what is written what is read, whatever stands in it?"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from pylae.database.dao import Catalogue
from pylae.database.strategies.off.holding import decode_row
from pylae.declarative import differences, dump, parse
from pylae.declarative.document import reader_of
from pylae.declarative.export import _pair, scalar
from pylae.declarative.text import read

TEXTS = [
    *("", " ", "a", "yes", "~", "null", "3", "3.0", "0x1", "1:30", "1e3", "-", "- a", "a: b", "a:", "a #b", "#a", "[a", "{a}"),
    *(
        "'",
        '"',
        "'a'",
        "\\",
        "\\d+",
        "a\nb",
        "a\r\nb",
        "\t",
        "é",
        "日本",
        "😀",
        "\x85",
        "\u2028",
        "\ufeff",
        "\x7f",
        "&a",
        "*a",
        "!a",
    ),
    *(
        "%a",
        "@a",
        "`a",
        "|",
        ">",
        "?",
        "? a",
        "=",
        "<<",
        ".",
        "..",
        ".5",
        "_1",
        "+",
        "---",
        "...",
        "a  b",
        " a",
        "a ",
        "http://a/b?c=d",
    ),
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back(text: str) -> None:
    written = f"a: {scalar(text)}\n"
    assert read(written.encode()) == {"a": text}
    assert yaml.safe_load(written) == {"a": text}
    if text:
        assert read(f"{scalar(text)}: 1\n".encode()) == {text: 1}


def test_texts_of_all_kinds_come_back() -> None:
    source = random.Random(7)
    alphabet = "ab01 -:#'\"\\/,[]{}&*!|>%@`~?=<.\n\t\r\x85\u2028é😀"
    for _ in range(3000):
        text = "".join(source.choices(alphabet, k=source.randint(1, 8)))
        written = f"a: {scalar(text)}\n".encode()
        assert read(written) == {"a": text}, written


@pytest.mark.parametrize("value", [None, True, False, 0, -1, 2**53, 0.5, 1e300, 1.5e-9, [], {}])
def test_other_values_come_back(value: Any) -> None:
    assert read(f"a: {scalar(value)}\n".encode()) == {"a": value}


RICH = b"""
_format_version: "3.0"
services:
- name: s
  url: http://h/p
  tags: [a, "b c"]
  routes:
  - name: r
    paths: ["~/x\\\\d", /y]
    headers: {x-a: ["1", "yes"], "x-b": []}
    plugins:
    - {name: rate-limiting, config: {minute: 5}, consumer: bob}
    - {name: request-transformer, config: {add: {headers: ["x-a:b"]}}}
consumers:
- username: bob
  keyauth_credentials: [{key: k, ttl: 100}]
  basicauth_credentials: [{username: u, password: p}]
upstreams:
- name: u.test
  healthchecks: {active: {healthy: {interval: 0.5}}}
  targets: [{target: "a:1"}, {target: "[::1]:80"}]
"""


def test_an_export_is_the_same_configuration(catalogue: Catalogue) -> None:
    holding = parse(RICH).flatten(catalogue)
    text = dump(reader_of(holding), catalogue)
    assert text.startswith("_format_version: '3.0'\n_transform: false\n")
    again = parse(text.encode()).flatten(catalogue)
    assert list(differences(reader_of(holding), again, catalogue)) == []
    for name, rows in holding.items():
        got = {id_: decode_row(row) for id_, row in again[name].encoded.items()}
        for id_, row in rows.encoded.items():
            assert {**got[id_], "updated_at": 0} == {**decode_row(row), "updated_at": 0} or "updated_at" not in decode_row(row)


def test_an_export_is_yaml_to_others_too(catalogue: Catalogue) -> None:
    values = yaml.safe_load(dump(reader_of(parse(RICH).flatten(catalogue)), catalogue))
    assert values["services"][0]["name"] == "s"
    assert values["routes"][0]["service"] == values["services"][0]["id"]
    assert set(values) >= {"services", "routes", "plugins", "consumers", "upstreams", "targets", "keyauth_credentials"}
    assert not {"tags", "workspaces", "sessions"} & set(values)


def test_the_example_of_init_is_proper(catalogue: Catalogue, tmp_path: Path) -> None:
    from pylae.cli.config import EXAMPLE

    parse(EXAMPLE.encode()).flatten(catalogue)
    told = "\n".join(line.removeprefix("#").removeprefix(" ") for line in EXAMPLE.splitlines() if line.startswith(("# ", "#")))
    proper = "\n".join(line for line in told.splitlines() if not line.endswith("."))
    holding = parse(b'_format_version: "3.0"\n' + proper.encode()).flatten(catalogue)
    assert len(holding["plugins"].encoded) == 2


def test_keys_of_any_length_come_back(catalogue: Catalogue) -> None:
    headers = {"x" * length: ["1"] for length in (999, 1022, 1023, 1024, 1025, 5000)} | {"k": ["2"]}
    values = {"_format_version": "3.0", "services": [{"name": "s", "host": "h", "routes": [{"headers": headers}]}]}
    text = dump(reader_of(parse(json.dumps(values).encode()).flatten(catalogue)), catalogue)
    assert read(text.encode())["routes"][0]["headers"] == headers
    assert yaml.safe_load(text)["routes"][0]["headers"] == headers


def test_long_keys_may_hold_anything() -> None:
    key, inner = "é'\n" * 500, {"a": [1, {"b": 2}]}
    lines: list[str] = []
    _pair(lines, "", "out", {key: inner, "list": [{key: [3]}, {key: {}}]})
    assert read("".join(lines).encode()) == {"out": {key: inner, "list": [{key: [3]}, {key: {}}]}}
