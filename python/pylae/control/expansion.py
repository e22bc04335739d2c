# SPDX-License-Identifier: Apache-2.0
"""How does a worker resolve a reference to a vault that is a row, without having the row?

Control works the row into the reference before it sends the configuration that holds it. So a worker needs neither
the rows of `vaults` nor a call while it builds a configuration, a row that changes reaches it as a change of the
plugins that refer to it, and the snapshot on disk is complete. Secrets are never sent: each process resolves its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from pylae.control.frames import encode_value
from pylae.database.changes import Commit, Replacement
from pylae.sdk.plugin import Plugin
from pylae.sdk.references import MARK, resolved
from pylae.vaults import InvalidReference, VaultRows, Vaults, parse

VAULTS: Final = "vaults"
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


class Expansion:
    """Rewrites references in rows of `plugins`.

    Args:
        plugins: classes by name; their declarations say where a reference may stand.
        rows: of `vaults`.
    """

    def __init__(self, plugins: Mapping[str, type[Plugin]], rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._plugins = plugins
        self._rows = {row["id"]: row for row in rows}
        self._by_prefix = self._prefixes()
        self._vaults = Vaults()

    def __repr__(self) -> str:
        return f"<expansion vaults={len(self._rows)}>"

    def copy(self) -> Expansion:
        """One that goes its own way from here."""
        return Expansion(self._plugins, self._rows.values())

    def apply(self, commit: Commit | Replacement) -> None:
        """Takes in the rows of `vaults` that a transaction changed."""
        if isinstance(commit, Replacement):
            self._rows = {id_: _decode(row) for id_, row in commit.rows.get(VAULTS, {}).items()}
        else:
            changes = [change for change in commit.changes if change.table == VAULTS]
            if not changes:
                return
            for change in changes:
                if change.row is None:
                    self._rows.pop(change.id, None)
                else:
                    self._rows[change.id] = change.row
        self._by_prefix = self._prefixes()

    def _prefixes(self) -> VaultRows:
        return {row["prefix"]: row for row in self._rows.values()}

    def of_row(self, row: bytes) -> bytes:
        """An encoded row of `plugins` as workers get it."""
        if MARK not in row or not self._rows:
            return row
        decoded = _decode(row)
        plugin = self._plugins.get(decoded["name"])
        if plugin is None:
            return row

        def expanded(text: str) -> str:
            try:
                return str(self._vaults.expanded(parse(text), self._by_prefix))
            except InvalidReference:
                return text  # the worker says so

        return encode_value({**decoded, "config": resolved(plugin.Config, decoded["config"], expanded)})
