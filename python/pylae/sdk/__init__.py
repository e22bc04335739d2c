# SPDX-License-Identifier: Apache-2.0
"""What may a plugin import? Everything it needs is here or in a module of this package."""

from pylae.errors import SchemaViolation
from pylae.schema import Entity, Record, field, kinds
from pylae.sdk.entities import MISSING, CallFailed, Entities, Lookup
from pylae.sdk.exchange import Answer, Exchange
from pylae.sdk.host import CountersUnavailable, Host
from pylae.sdk.plugin import Instance, NoConfig, Plugin
from pylae.sdk.shipping import Shipper, ShipperHost

__all__ = [
    "MISSING",
    "Answer",
    "CallFailed",
    "CountersUnavailable",
    "Entities",
    "Entity",
    "Exchange",
    "Host",
    "Instance",
    "Lookup",
    "NoConfig",
    "Plugin",
    "Record",
    "SchemaViolation",
    "Shipper",
    "ShipperHost",
    "field",
    "kinds",
]
