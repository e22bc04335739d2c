# SPDX-License-Identifier: Apache-2.0
"""How far is a file from today's shape?"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pylae.database.migrations import MIGRATIONS
from pylae.database.strategies.sqlite.statements import TableStatements, quoted
from pylae.database.table import Tables
from pylae.errors import StrategyUnavailable

FIRST: Final = "000_base"
"""The making of the database."""
_PATIENCE_S: Final = 5.0


@dataclass(frozen=True)
class State:
    """What a file has behind it, and before it.

    Attributes:
        executed: steps, in order; none when the database was not made yet.
        new: steps that were not run, then tables and columns (`routes.name`) that are not there.
    """

    executed: tuple[str, ...] = ()
    new: tuple[str, ...] = ()

    @property
    def needs_bootstrap(self) -> bool:
        """Whether there is no database yet."""
        return not self.executed


def state_of(path: Path, tables: Tables) -> State:
    """The state of a file, which is only read.

    Raises:
        StrategyUnavailable: it can't be.
    """
    if not path.exists():
        return State()
    statements = {name: TableStatements(table, tables) for name, table in tables.items()}
    address = f"file:{quote(str(path))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE_S)) as connection:
            return _state(connection, statements)
    except sqlite3.Error as error:
        raise StrategyUnavailable(f"sqlite: {error}") from error


def _state(connection: sqlite3.Connection, statements: Mapping[str, TableStatements]) -> State:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone() is None:
        return State()
    ran = [str(name) for (name,) in connection.execute("SELECT name FROM migrations ORDER BY executed_at, rowid")]
    new = [step.name for step in MIGRATIONS if step.name not in ran]
    return State((FIRST, *ran), (*new, *_missing(connection, statements)))


def _missing(connection: sqlite3.Connection, statements: Mapping[str, TableStatements]) -> Iterator[str]:
    for name, table in statements.items():
        columns = {column[1] for column in connection.execute(f"PRAGMA table_info({quoted(name)})")}
        if not columns:
            yield name
        else:
            yield from (f"{name}.{column}" for column in table.columns if column not in columns)
