# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for cors?"""

from __future__ import annotations

from typing import Final

from pylae.schema.rules import regex_problem
from pylae.sdk import Record, field, kinds

METHODS: Final = ("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def _judge_origin(origin: str) -> str | None:
    """Either all origins or an expression that they match."""
    return None if origin == "*" or regex_problem(origin) is None else f"'{origin}' is not a valid regex"


class Config(Record):
    """What an administrator may set."""

    origins: list[str] | None = field(
        kinds.array(kinds.string(rule=_judge_origin)),
        doc="Origins whose pages may read answers: `*`, origins, or patterns of them.",
    )
    headers: list[str] | None = field(
        kinds.array(kinds.string()), doc="Request headers a page may send; none for whatever it asks for."
    )
    exposed_headers: list[str] | None = field(kinds.array(kinds.string()), doc="Response headers a page may read.")
    methods: list[str] = field(kinds.array(kinds.string(one_of=METHODS)), default=list(METHODS), doc="Methods a page may use.")
    max_age: float | None = field(
        kinds.number(), unit="seconds", doc="How long a browser may remember the answer to a preflight."
    )
    credentials: bool = field(kinds.boolean(), required=True, default=False, doc="Lets pages send cookies and other credentials.")
    private_network: bool = field(kinds.boolean(), required=True, default=False, doc="Lets public pages reach a private network.")
    preflight_continue: bool = field(
        kinds.boolean(), required=True, default=False, doc="Leaves the answer to a preflight to the upstream."
    )
    allow_origin_absent: bool = field(
        kinds.boolean(), required=True, default=True, doc="Adds the headers to answers of requests without `Origin` as well."
    )
