# SPDX-License-Identifier: Apache-2.0
"""Under which other names may a value be given?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pylae.schema.field import Field

Expand = Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]
"""Takes the value (null too) and everything that was given; returns the values of declared fields."""


@dataclass(frozen=True)
class Shorthand:
    """A name that is not a field, or writes more than its own field."""

    name: str
    kind: Field
    expand: Expand | None = None
    replaced_with: str | None = None
    """Dotted path of the field that took its place; the old name is still shown."""
    doc: str = ""


def shorthand(name: str, kind: Field, expand: Expand, *, doc: str = "") -> Shorthand:
    """A name whose value is spread over declared fields."""
    return Shorthand(name, kind, expand, doc=doc)


def deprecated_shorthand(name: str, kind: Field, replaced_with: str, *, doc: str = "") -> Shorthand:
    """An old name of the field at a dotted path."""
    return Shorthand(name, kind, replaced_with=replaced_with, doc=doc)
