# SPDX-License-Identifier: Apache-2.0
"""Which Routes do workers get?

Those that say by their fields what they match. Workers do not know expressions (`router_flavor = expressions`): a Route
that has one is kept and shown, and matches nothing. Nor may one go to them that has neither, as it is left after
`router_flavor` was changed: without anything to match by, it would take every request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from pylae.control.frames import encode_value

STREAM_PROTOCOLS: Final = frozenset({"tcp", "tls", "tls_passthrough", "udp"})

_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


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
    expression: str | msgspec.UnsetType | None = msgspec.UNSET


_matchers_of = msgspec.msgpack.Decoder(_Matchers).decode


def _is_served(found: _Matchers) -> bool:
    if isinstance(found.expression, str):
        return False
    if STREAM_PROTOCOLS.isdisjoint(found.protocols):
        return bool(found.methods or found.hosts or found.paths or found.headers or found.snis)
    return bool(found.snis or found.sources or found.destinations)


def is_served(row: bytes) -> bool:
    """Whether workers get an encoded Route."""
    return _is_served(_matchers_of(row))


def for_workers(row: bytes) -> bytes | None:
    """An encoded Route as workers get it, without what only expressions have; None for one that they cannot match."""
    found = _matchers_of(row)
    if not _is_served(found):
        return None
    if found.expression is msgspec.UNSET:
        return row
    route = _decode(row)
    del route["expression"]
    route.pop("priority", None)
    return encode_value(route)
