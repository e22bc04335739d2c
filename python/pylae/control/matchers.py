# SPDX-License-Identifier: Apache-2.0
"""Which Routes do workers get?

Those that say what they match, by their fields or by an expression (`router_flavor = expressions`). One that has neither, as
it is left after `router_flavor` was changed, is kept and shown, and matches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

STREAM_PROTOCOLS: Final = frozenset({"tcp", "tls", "tls_passthrough", "udp"})


class _Matchers(msgspec.Struct):
    """What a Route may be matched by; all else is skipped."""

    protocols: Sequence[str] = ()
    methods: Sequence[Any] | None = None
    hosts: Sequence[Any] | None = None
    paths: Sequence[Any] | None = None
    headers: Mapping[str, Any] | None = None
    snis: Sequence[Any] | None = None
    sources: Sequence[Any] | None = None
    destinations: Sequence[Any] | None = None
    expression: str | None = None


_matchers_of = msgspec.msgpack.Decoder(_Matchers).decode


def _is_served(found: _Matchers) -> bool:
    if found.expression is not None:
        return True
    if STREAM_PROTOCOLS.isdisjoint(found.protocols):
        return bool(found.methods or found.hosts or found.paths or found.headers or found.snis)
    return bool(found.snis or found.sources or found.destinations)


def is_served(row: bytes) -> bool:
    """Whether workers get an encoded Route."""
    return _is_served(_matchers_of(row))


def for_workers(row: bytes) -> bytes | None:
    """An encoded Route as workers get it; None for one that they cannot match."""
    return row if is_served(row) else None
