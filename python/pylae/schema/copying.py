# SPDX-License-Identifier: Apache-2.0
"""How is a value of JSON copied?"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

SCALARS: Final = frozenset((str, int, float, bool, type(None)))


def copied(value: Any) -> Any:
    """The value again, sharing nothing that could change; several times as fast as `deepcopy`."""
    kind = type(value)
    if kind in SCALARS:
        return value
    if kind is dict:
        return {name: item if type(item) in SCALARS else copied(item) for name, item in value.items()}
    if kind is list:
        return [item if type(item) in SCALARS else copied(item) for item in value]
    return deepcopy(value)


def copier(value: Any) -> Callable[[], Any]:
    """Makes copies of one value, which is looked at here and not again."""
    if isinstance(value, list) and all(type(item) in SCALARS for item in value):
        return value[:].copy
    if not isinstance(value, dict):
        return lambda: copied(value)
    flat: dict[str, Any] = value.copy()
    inner = [(name, copier(item)) for name, item in value.items() if type(item) not in SCALARS]
    if not inner:
        return flat.copy

    def copy() -> Any:
        made = flat.copy()
        for name, copy_item in inner:
            made[name] = copy_item()
        return made

    return copy
