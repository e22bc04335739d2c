# SPDX-License-Identifier: Apache-2.0
"""Which steps brought the tables to their present shape?

What is only added, a table or a column of a declaration, is added without a step of its own. Whatever renames,
moves or rewrites is a `Migration`, named, in order, run once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Migration:
    """One step."""

    name: str
    up: Callable[[sa.Connection], None]


MIGRATIONS: Final[Sequence[Migration]] = ()
"""In order; a database made today has them all behind it."""


def bring_up_to_date(
    connection: sa.Connection,
    metadata: sa.MetaData,
    executed: sa.Table,
    now_s: int,
    steps: Sequence[Migration] = MIGRATIONS,
) -> list[str]:
    """Runs what the table `executed` does not name, then adds tables and columns that are declared but absent.

    Returns:
        Names of the steps that ran.
    """
    inspector = sa.inspect(connection)
    present = set(inspector.get_table_names())
    is_new = executed.name not in present
    if is_new:
        executed.create(connection)
    behind = set(connection.execute(sa.select(executed.c.name)).scalars())
    ran = []
    for step in steps:
        if step.name not in behind:
            if not is_new:
                step.up(connection)
                ran.append(step.name)
            connection.execute(executed.insert(), {"name": step.name, "executed_at": now_s})
    for table in metadata.sorted_tables:
        if table.name not in present:
            table.create(connection, checkfirst=True)
            continue
        columns = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in columns:
                _add_column(connection, table, column)
    return ran


def _add_column(connection: sa.Connection, table: sa.Table, column: sa.Column[object]) -> None:
    quote = connection.dialect.identifier_preparer.quote
    kind = column.type.compile(connection.dialect)
    clause = f"ALTER TABLE {quote(table.name)} ADD COLUMN {quote(column.name)} {kind}"
    for key in column.foreign_keys:
        clause += f" REFERENCES {quote(key.column.table.name)} ({quote(key.column.name)})"
        if key.ondelete:
            clause += f" ON DELETE {key.ondelete}"
    connection.exec_driver_sql(clause)
    if column.unique or column.index:
        name = f"ix_{table.name}_{column.name}"
        sa.Index(name, column, unique=bool(column.unique)).create(connection)
