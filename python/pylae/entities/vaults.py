# SPDX-License-Identifier: Apache-2.0
"""What is a vault?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from pylae.entities import common
from pylae.schema import Entity, Pattern, Record, Variant, field, kinds


class NoVaultConfig(Record):
    """The configuration of a vault that is not known."""


class EnvConfig(Record):
    """Where in the environment the secrets are."""

    prefix: str | None = field(
        kinds.string(match=Pattern("^[%a_-][%a%d_-]*$", "^[A-Za-z_-][A-Za-z0-9_-]*$")),
        doc="Put before the name of every secret to make the name of its variable.",
    )


_VARIANTS: Final[dict[str, Variant]] = {
    "env": Variant({"config": kinds.record(EnvConfig, doc="How this kind of vault is used.")}),
}


class Vault(Entity):
    """A place that holds secrets, under a name by which references lead to it."""

    table = "vaults"
    endpoint_key = "prefix"
    cache_key = ("prefix",)
    subschema_key = "name"
    subschema_error = "vault '%s' is not installed"

    id: str = field(common.uuid, doc="Identifies the vault.")
    prefix: str = field(
        kinds.string(
            unique_across_ws=True,
            not_one_of=["env"],
            match=Pattern("^[a-z][a-z%d-]-[a-z%d]+$", "^[a-z][a-z0-9-]*?[a-z0-9]+$"),
        ),
        required=True,
        unique=True,
        doc="Names the vault in references.",
    )
    name: str = field(kinds.string(), required=True, doc="Which kind of vault it is.")
    description: str | None = field(kinds.string(), doc="What it is for, in the words of whoever made it.")
    config: dict[str, Any] = field(kinds.record(NoVaultConfig, abstract=True), doc="How this kind of vault is used.")
    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last written.")
    tags: list[str] | None = field(common.tags, doc="Words to find it by.")

    _enabled: ClassVar[frozenset[str]] = frozenset(_VARIANTS)

    @classmethod
    def enable(cls, kinds: Iterable[str]) -> None:
        """Makes these the kinds of vault that may be configured, in place of any others."""
        cls._enabled = frozenset(kinds)

    @classmethod
    def variant_keys(cls) -> tuple[str, ...]:
        """The kinds of vault that there are."""
        return tuple(_VARIANTS)

    @classmethod
    def variant(cls, key: str) -> Variant | None:
        """The rules of one kind of vault; `None` when there is no such kind."""
        return _VARIANTS.get(key) if key in cls._enabled else None
