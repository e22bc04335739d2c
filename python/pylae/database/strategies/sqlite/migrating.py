# SPDX-License-Identifier: Apache-2.0
"""How does a file of yesterday get today's shape?"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from pylae.database.migrations import Migration
from pylae.database.strategies.sqlite.statements import OWN_TABLES, TableStatements, quoted

STRATEGY = "sqlite"


def bring_up_to_date(
    connection: sqlite3.Connection, tables: Iterable[TableStatements], now_s: int, steps: Sequence[Migration]
) -> list[str]:
    """Runs the steps that were not run, then adds tables, columns and indexes that are declared but absent.

    Returns:
        Names of the steps that ran.
    """
    present = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'index')")}
    is_new = "migrations" not in present
    for name, statement in OWN_TABLES.items():
        if name not in present:
            connection.execute(statement)
    behind = {name for (name,) in connection.execute("SELECT name FROM migrations")}
    ran = []
    for step in steps:
        if step.name in behind:
            continue
        if not is_new:
            for statement in step.up.get(STRATEGY, ()):
                connection.execute(statement)
            ran.append(step.name)
        connection.execute("INSERT INTO migrations (name, executed_at) VALUES (?, ?)", (step.name, now_s))
    for table in tables:
        _complete(connection, table, present)
    return ran


def _complete(connection: sqlite3.Connection, table: TableStatements, present: set[str]) -> None:
    name = table.table.name
    if name not in present:
        connection.execute(table.create)
    else:
        columns = {column[1] for column in connection.execute(f"PRAGMA table_info({quoted(name)})")}
        for column, declared in table.columns.items():
            if column not in columns:
                default = f" DEFAULT {table.defaults[column]}" if column in table.defaults else ""
                connection.execute(f"ALTER TABLE {quoted(name)} ADD COLUMN {quoted(column)} {declared}{default}")
    for index, statement in table.indexes.items():
        if index not in present:
            connection.execute(statement)
