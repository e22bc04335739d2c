# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for request-transformer?"""

from __future__ import annotations

import re
from typing import Final

from pylae.sdk import Record, field, kinds

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
ENTRY: Final = r"^[^:]+:.*$"


def _judge_name(name: str) -> str | None:
    return None if _HEADER_NAME.match(name) else f"'{name}' is not a valid header"


def _judge_entry(entry: str) -> str | None:
    """What stands before the colon must be the name of a header."""
    return _judge_name(entry.partition(":")[0])


def _judge_pair(entry: str) -> str | None:
    """What stands before and after the colon must be names of headers."""
    old, _, new = entry.partition(":")
    return _judge_name(old) or _judge_name(new)


def _judge_name_and_value(entry: str) -> str | None:
    """A name needs a value."""
    name, _, value = entry.partition(":")
    return None if value else f"key '{name}' has no value"


HEADER_ENTRY: Final = kinds.string(match=ENTRY, rule=_judge_entry)
PAIR: Final = kinds.string(rule=_judge_name_and_value)


class Remove(Record):
    """What is taken out, by name."""

    body: list[str] = field(kinds.array(kinds.string()), required=True, default=[], doc="Body fields to remove.")
    headers: list[str] = field(kinds.array(kinds.string(rule=_judge_entry)), required=True, default=[], doc="Headers to remove.")
    querystring: list[str] = field(kinds.array(kinds.string()), required=True, default=[], doc="Arguments to remove.")


class Rename(Record):
    """What gets another name, as `old:new`."""

    body: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="Body fields to rename.")
    headers: list[str] = field(
        kinds.array(kinds.string(match=ENTRY, rule=_judge_pair)),
        required=True,
        default=[],
        doc="Headers to rename.",
    )
    querystring: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="Arguments to rename.")


class Replace(Record):
    """What gets another value where it is present, as `name:value`."""

    body: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="Body fields to replace.")
    headers: list[str] = field(kinds.array(HEADER_ENTRY), required=True, default=[], doc="Headers to replace.")
    querystring: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="Arguments to replace.")
    uri: str | None = field(kinds.string(), doc="Path sent upstream instead.")


class Add(Record):
    """What is put in where it is absent, as `name:value`."""

    body: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="Body fields to add.")
    headers: list[str] = field(kinds.array(HEADER_ENTRY), required=True, default=[], doc="Headers to add.")
    querystring: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="Arguments to add.")


class Append(Record):
    """What is put in beside what is there, as `name:value`."""

    body: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="Body fields to append.")
    headers: list[str] = field(kinds.array(HEADER_ENTRY), required=True, default=[], doc="Headers to append.")
    querystring: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="Arguments to append.")


class Config(Record):
    """What to change, in which way."""

    http_method: str | None = field(kinds.string(match=kinds.Pattern("^%u+$", "^[A-Z]+$")), doc="Method sent upstream instead.")
    remove: Remove = field(kinds.record(Remove), required=True, doc="What is taken out, by name.")
    rename: Rename = field(kinds.record(Rename), required=True, doc="What gets another name, as `old:new`.")
    replace: Replace = field(kinds.record(Replace), required=True, doc="What gets another value where it is present.")
    add: Add = field(kinds.record(Add), required=True, doc="What is put in where it is absent.")
    append: Append = field(kinds.record(Append), required=True, doc="What is put in beside what is there.")
