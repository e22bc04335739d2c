# SPDX-License-Identifier: Apache-2.0
"""How do others name this fault? Envoy's response flag, Tyk's, and the error type of RFC 9209."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import msgspec

from pylae import _core
from pylae.explain.facts import Facts

NO_NAME = "-"
"""What the table holds where others have no name for it."""


class Flags(msgspec.Struct, frozen=True):
    """Names of the same thing elsewhere; `None` where there is none."""

    envoy: str | None = None
    tyk: str | None = None
    proxy_status: str | None = None


@functools.cache
def table() -> Mapping[str, Mapping[str, object]]:
    """The rows of the data plane's table of faults by name, in walking order."""
    return {str(row["name"]): row for row in _core.faults()}


def flags_of(facts: Facts, fault: str | None) -> Flags:
    """As the record has them; where it has none, as the table."""
    row = table().get(fault or "", {})

    def known(given: str | None, column: str) -> str | None:
        of_table = row.get(column)
        found = given or (of_table if isinstance(of_table, str) else "")
        return None if found in ("", NO_NAME) else found

    if fault != facts.fault:
        return Flags(known(None, "response_flag"), known(None, "tyk_flag"), known(None, "proxy_status"))
    return Flags(
        known(facts.response_flag, "response_flag"),
        known(facts.tyk_flag, "tyk_flag"),
        known(facts.proxy_status, "proxy_status"),
    )
