# SPDX-License-Identifier: Apache-2.0
"""Does a file of yesterday get today's shape?"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from pylae.database.dao import Catalogue, Dao
from pylae.database.migrations import Migration
from pylae.database.strategies.sqlite import SqliteStrategy
from pylae.database.strategies.sqlite.migrating import bring_up_to_date
from pylae.database.strategies.sqlite.statements import TableStatements
from pylae.database.table import Tables, table_of
from pylae.entities import CORE
from pylae.entities.routes import ROUTE_OF_FLAVOR
from pylae.schema import Entity, field, kinds

NOW_S = 1_800_000_000


class Parent(Entity):
    """A parent."""

    table = "parents"

    id: str = field(kinds.string(uuid=True), doc="Identifies it.")


class Before(Entity):
    """A thing, as it was."""

    table = "things"

    id: str = field(kinds.string(uuid=True), doc="Identifies it.")


class After(Before):
    """A thing, as it is."""

    ttl = True

    parent: dict[str, str] | None = field(kinds.foreign("parents", on_delete="cascade"), doc="Whose it is.")
    name: str | None = field(kinds.string(), unique=True, doc="Names it.")
    level: float = field(kinds.number(), default=0.5, doc="Where it stands.")
    is_on: bool = field(kinds.boolean(), default=True, doc="Whether it is on.")
    words: list[str] = field(kinds.array(kinds.string()), default=["it's", "b"], doc="What is said of it.")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as opened:
        yield opened


def migrate(connection: sqlite3.Connection, thing: type[Entity], steps: Sequence[Migration] = ()) -> list[str]:
    tables = Tables([table_of(Parent), table_of(thing)])
    return bring_up_to_date(connection, [TableStatements(table, tables) for table in tables.values()], NOW_S, steps)


def test_declared_columns_are_added_and_rows_stay(connection: sqlite3.Connection) -> None:
    migrate(connection, Before)
    connection.execute("INSERT INTO things (id) VALUES ('a')")
    migrate(connection, After)
    migrate(connection, After)
    assert connection.execute("SELECT * FROM things").fetchall() == [("a", None, None, 0.5, 1, '["it\'s","b"]', None)]
    connection.execute("INSERT INTO things (id, name) VALUES ('b', 'n')")
    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE constraint failed: things\.name"):
        connection.execute("INSERT INTO things (id, name) VALUES ('c', 'n')")
    assert connection.execute("PRAGMA foreign_key_list(things)").fetchone()[2] == "parents"


def test_a_step_runs_once_and_never_on_a_new_database(connection: sqlite3.Connection) -> None:
    step = Migration("002_more", {"sqlite": ["INSERT INTO parents (id) VALUES ('a')"], "postgres": ["NONSENSE"]})
    migrate(connection, Before)
    assert [migrate(connection, Before, [step]), migrate(connection, Before, [step])] == [["002_more"], []]
    assert connection.execute("SELECT count(*) FROM parents").fetchone() == (1,)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        assert migrate(new, Before, [step]) == []
        assert new.execute("SELECT count(*) FROM parents").fetchone() == (0,)


FIRST = ("ca_certificates", "certificates", "consumers", "upstreams", "services", "routes", "plugins", "snis", "targets")
"""The tables of the first version."""


def test_a_database_of_the_first_version_gets_the_tables_of_this_one(tmp_path: Path) -> None:
    now = {entity.table: entity for entity in CORE}
    before = Catalogue({table: now[table] for table in FIRST})
    after = Catalogue({**now, "routes": ROUTE_OF_FLAVOR["expressions"]})
    path = tmp_path / "pylae.db"
    old = SqliteStrategy(path, before.tables)
    old.open()
    with old.write() as transaction:
        dao = Dao(transaction, before)
        service = dao.insert("services", {"name": "s", "host": "a.test"})
        route = dao.insert("routes", {"name": "r", "paths": ["/a"], "service": {"id": service["id"]}})
        transaction.log(dao.changes)
    old.close()
    strategy = SqliteStrategy(path, after.tables)
    strategy.open()
    with strategy.write() as transaction:
        dao = Dao(transaction, after)
        assert dao.get("services", service["id"]) == service
        kept = dao.get("routes", route["id"])
        assert kept == {**route, "expression": None, "priority": 0}
        dao.update("routes", kept, {"paths": None, "expression": 'http.path == "/a"', "priority": 5})
        key_set = dao.insert("key_sets", {"name": "k"})
        dao.insert("keys", {"kid": "a", "set": {"id": key_set["id"]}, "jwk": "{vault://env/a}"})
        dao.insert("vaults", {"name": "env", "prefix": "my-env"})
        dao.delete("key_sets", key_set)
        assert dao.page("keys").rows == []
        assert dao.sequence() == 2
    assert strategy.database_id == old.database_id
    strategy.close()
