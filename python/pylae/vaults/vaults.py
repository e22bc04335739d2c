# SPDX-License-Identifier: Apache-2.0
"""What is the secret that a reference names?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from pylae.errors import SettingsError
from pylae.vaults.reference import InvalidReference, Reference, parse

KINDS: Final = ("env",)
"""The kinds of vault that come with the gateway; `env` is the environment of the process that asks."""
PREVIOUS: Final = 2
"""The version before the present one, which is 1."""


VaultRows = Mapping[str, Mapping[str, Any]]
"""Rows of `vaults` by their prefix."""


class UnresolvedReference(InvalidReference):
    """A reference names a secret that cannot be had; its text says why, and holds no secret."""


class VaultSource(Protocol):
    """What of the settings vaults depend on."""

    vaults: list[str]
    vault_env_prefix: str | None


def enabled_kinds(names: Iterable[str]) -> tuple[str, ...]:
    """The kinds that the setting `vaults` asks for: `bundled` for those that come with the gateway, `off` for none.

    Raises:
        SettingsError: one is not installed.
    """
    wanted: dict[str, None] = {}
    for name in names:
        if name == "bundled":
            wanted.update(dict.fromkeys(KINDS))
        elif name in KINDS:
            wanted[name] = None
        elif name != "off":
            raise SettingsError(f"vaults: the vault `{name}` is not installed; there are: {', '.join(KINDS)}")
    return tuple(wanted)


class Vaults:
    """Resolves references.

    Args:
        kinds: those that are switched on.
        env_prefix: before the names of secrets of the vault `env`.
        environ: the process's own environment when not given.
    """

    def __init__(
        self, kinds: Iterable[str] = KINDS, env_prefix: str | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self._kinds = frozenset(kinds)
        self._env_prefix = env_prefix or ""
        self._environ = os.environ if environ is None else environ

    def __repr__(self) -> str:
        return f"<vaults {' '.join(sorted(self._kinds)) or 'off'}>"

    @classmethod
    def of(cls, source: VaultSource) -> Vaults:
        """Those that settings ask for."""
        return cls(enabled_kinds(source.vaults), source.vault_env_prefix)

    def get(self, text: str, rows: VaultRows | None = None) -> str:
        """The secret that a reference names.

        Args:
            text: the reference.
            rows: of `vaults`, by prefix.

        Raises:
            InvalidReference: it is none, or what it names cannot be had.
        """
        reference = self.expanded(parse(text), rows or {})
        if reference.vault not in self._kinds:
            is_off = reference.vault in KINDS
            reason = f"the vault `{reference.vault}` is switched off" if is_off else f"there is no vault `{reference.vault}`"
            raise UnresolvedReference(f"{text}: {reason}")
        if reference.version not in (None, 1, PREVIOUS):
            raise UnresolvedReference(f"{text}: there is no version {reference.version}, only 1 and {PREVIOUS}")
        variable = variable_of(reference.resource, reference.options.get("prefix", self._env_prefix), reference.version)
        secret = self._environ.get(variable)
        if secret is None:
            raise UnresolvedReference(f"{text}: the environment has no variable {variable}")
        return secret if reference.key is None else _member(text, secret, reference.key)

    def expanded(self, reference: Reference, rows: VaultRows) -> Reference:
        """The reference with the row that its vault names worked into it, so that it can be resolved without the row."""
        row = None if reference.vault in KINDS else rows.get(reference.vault)
        if row is None:
            return reference
        config = {name: str(value) for name, value in (row["config"] or {}).items() if value is not None}
        return Reference(
            row["name"],
            reference.resource,
            reference.key,
            reference.version,
            # Without a prefix of its own the row means none, not that of the settings.
            {"prefix": "", **config, **reference.options},
        )


def variable_of(resource: str, prefix: str = "", version: int | None = None) -> str:
    """The variable that holds a secret of the vault `env`: upper case, with `_` for `-`.

    >>> variable_of("my-secret", "app-"), variable_of("my-secret", version=2)
    ('APP_MY_SECRET', 'MY_SECRET_PREVIOUS')
    """
    name = f"{prefix}{resource}".replace("-", "_").upper()
    return f"{name}_PREVIOUS" if version == PREVIOUS else name


def _member(text: str, secret: str, key: str) -> str:
    """A member of a secret that is a JSON object.

    Raises:
        UnresolvedReference: it is none, or has no such member that is a string.
    """
    try:
        members = json.loads(secret)
    except (ValueError, RecursionError):
        raise UnresolvedReference(f"{text}: the secret is not a JSON object") from None
    if not isinstance(members, dict):
        raise UnresolvedReference(f"{text}: the secret is not a JSON object")
    value = members.get(key)
    if not isinstance(value, str):
        raise UnresolvedReference(f"{text}: the secret has no member `{key}` that is a string")
    return value
