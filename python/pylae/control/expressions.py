# SPDX-License-Identifier: Apache-2.0
"""Which Routes do workers get under `router_flavor = expressions`?

Workers match by the fields of a Route and do not know expressions: a Route that has one is kept and shown, and
matches nothing. The others go to workers without the two fields that only this flavor has.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pylae.control.frames import encode_value

MARK: Final = b"expression"
"""Stands in every encoded row that may have such a field."""

_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


def for_workers(row: bytes) -> bytes | None:
    """An encoded Route as workers get it; None for one that they cannot match."""
    route = _decode(row)
    if "expression" not in route:
        return row
    if route.pop("expression") is not None:
        return None
    route.pop("priority", None)
    return encode_value(route)
