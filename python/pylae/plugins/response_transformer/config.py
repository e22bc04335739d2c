# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for response-transformer?"""

from __future__ import annotations

import re
from typing import Final

from pylae.sdk import Record, field, kinds

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
ENTRY: Final = r"^[^:]+:.*$"


def _judge_pair(entry: str) -> str | None:
    """What stands before and after the colon must be names of headers."""
    for name in entry.split(":", 1):
        if not _HEADER_NAME.match(name):
            return f"'{name}' is not a valid header"
    return None


PAIR: Final = kinds.string(match=ENTRY)
TYPE: Final = kinds.string(one_of=("boolean", "number", "string"))


class Remove(Record):
    """What is taken out, by name."""

    json: list[str] = field(kinds.array(kinds.string()), required=True, default=[], doc="JSON fields to remove.")
    headers: list[str] = field(kinds.array(kinds.string()), required=True, default=[], doc="Headers to remove.")


class Rename(Record):
    """What gets another name, as `old:new`."""

    json: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="JSON fields to rename.")
    headers: list[str] = field(
        kinds.array(kinds.string(match=ENTRY, rule=_judge_pair)),
        required=True,
        default=[],
        doc="Headers to rename.",
    )


class Replace(Record):
    """What gets another value where it is present, as `name:value`."""

    json: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="JSON fields to replace.")
    json_types: list[str] = field(kinds.array(TYPE), required=True, default=[], doc="Types of the JSON values, entry by entry.")
    headers: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="Headers to replace.")


class Add(Record):
    """What is put in where it is absent, as `name:value`."""

    json: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="JSON fields to add.")
    json_types: list[str] = field(kinds.array(TYPE), required=True, default=[], doc="Types of the JSON values, entry by entry.")
    headers: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="Headers to add.")


class Append(Record):
    """What is put in beside what is there, as `name:value`."""

    json: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="JSON fields to append.")
    json_types: list[str] = field(kinds.array(TYPE), required=True, default=[], doc="Types of the JSON values, entry by entry.")
    headers: list[str] = field(kinds.array(PAIR), required=True, default=[], doc="Headers to append.")


class Config(Record):
    """What to change, in which way."""

    remove: Remove = field(kinds.record(Remove), required=True, doc="What is taken out, by name.")
    rename: Rename = field(kinds.record(Rename), required=True, doc="What gets another name, as `old:new`.")
    replace: Replace = field(kinds.record(Replace), required=True, doc="What gets another value where it is present.")
    add: Add = field(kinds.record(Add), required=True, doc="What is put in where it is absent.")
    append: Append = field(kinds.record(Append), required=True, doc="What is put in beside what is there.")
