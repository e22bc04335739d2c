# SPDX-License-Identifier: Apache-2.0
"""How are fields and entities declared, and what follows from a declaration?"""

from pylae.schema import checks, kinds
from pylae.schema.checks import (
    Check,
    at_least_one_of,
    conditional,
    conditional_at_least_one_of,
    custom,
    distinct,
    mutually_exclusive,
    mutually_required,
    only_one_of,
)
from pylae.schema.field import UNSET, Field, Pattern, field
from pylae.schema.record import Entity, Record, Variant
from pylae.schema.shorthands import Shorthand, deprecated_shorthand, shorthand
from pylae.schema.validate import Schema, schema_of

__all__ = [
    "UNSET",
    "Check",
    "Entity",
    "Field",
    "Pattern",
    "Record",
    "Schema",
    "Shorthand",
    "Variant",
    "at_least_one_of",
    "checks",
    "conditional",
    "conditional_at_least_one_of",
    "custom",
    "deprecated_shorthand",
    "distinct",
    "field",
    "kinds",
    "mutually_exclusive",
    "mutually_required",
    "only_one_of",
    "schema_of",
    "shorthand",
]
