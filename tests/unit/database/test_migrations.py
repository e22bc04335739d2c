# SPDX-License-Identifier: Apache-2.0
"""Does a database of yesterday get today's shape?"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from pylae.database.migrations import Migration, bring_up_to_date

NOW_S = 1_800_000_000


def shape(*columns: str) -> tuple[sa.MetaData, sa.Table]:
    metadata = sa.MetaData()
    executed = sa.Table(
        "migrations", metadata, sa.Column("name", sa.Text, primary_key=True), sa.Column("executed_at", sa.Integer)
    )
    sa.Table("parents", metadata, sa.Column("id", sa.Text, primary_key=True))
    sa.Table(
        "things",
        metadata,
        sa.Column("id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, sa.ForeignKey("parents.id", ondelete="CASCADE"), index=True) for name in columns),
    )
    return metadata, executed


def run(path: Path, columns: tuple[str, ...], steps: tuple[Migration, ...] = ()) -> list[str]:
    engine = sa.create_engine(f"sqlite:///{path}")
    metadata, executed = shape(*columns)
    with engine.begin() as connection:
        ran = bring_up_to_date(connection, metadata, executed, NOW_S, steps)
    engine.dispose()
    return ran


def test_a_declared_column_is_added_and_rows_stay(tmp_path: Path) -> None:
    run(tmp_path / "db", ())
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO things (id) VALUES ('a')")
    run(tmp_path / "db", ("parent_id",))
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT id, parent_id FROM things").all() == [("a", None)]
        assert sa.inspect(connection).get_foreign_keys("things")[0]["referred_table"] == "parents"
        assert [index["column_names"] for index in sa.inspect(connection).get_indexes("things")] == [["parent_id"]]
    engine.dispose()


def test_a_step_runs_once_and_never_on_a_new_database(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"

    def rename(connection: sa.Connection) -> None:
        connection.exec_driver_sql("INSERT INTO parents (id) VALUES ('a')")

    step = Migration("002_rename", rename)
    run(old, ())
    assert [run(old, (), (step,)), run(old, (), (step,)), run(new, (), (step,))] == [["002_rename"], [], []]
