# SPDX-License-Identifier: Apache-2.0
"""Is anything stored by half when control is killed at any moment of a sync?"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.admin.entities import PATHS, Row, declared, own_fields
from tests.admin.process import ControlProcess
from tests.admin.scenario import Rows, check_reads, configuration, every, id_of, path_of, put
from tests.support.admin import Admin

SIZE = 20
NAMES_PER_CERTIFICATE = 5
OWNED = ("keyauth_credentials", "basicauth_credentials", "acls", "jwt_secrets", "hmacauth_credentials", "oauth2_credentials")
LONGEST_SYNC_S = 0.6


@dataclass
class Operation:
    """One write, and the rows of which it decides whether they are there."""

    method: str
    path: str
    body: Row | None
    keys: list[tuple[str, str]]


class Killed(Exception):
    """Nobody answers any more."""


class Client:
    """Writes and remembers what was answered; never tries twice."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        # What is known of a row, of those no write was under way for when control was killed.
        self.is_there: dict[tuple[str, str], bool] = {}

    def sync_for_ever(self, rows: Rows) -> None:
        """Raises `Killed` in the end."""
        for operation in itertools.chain.from_iterable(sync(rows) for _ in itertools.count()):
            self.do(operation)

    def do(self, operation: Operation) -> None:
        for key in operation.keys:
            self.is_there.pop(key, None)
        body = None if operation.body is None else json.dumps(operation.body)
        try:
            self._connection.request(operation.method, operation.path, body, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Killed from error
        assert answer.status in (200, 201, 204, 409), (operation.method, operation.path, answer.status, said)
        for key in operation.keys:
            self.is_there[key] = operation.method != "DELETE"


def sync(rows: Rows) -> Iterator[Operation]:
    """A sync that makes rows, several at once, and one that removes rows with all that is below them."""
    for table, of_table in rows.items():
        for row in of_table:
            path = path_of(table, row)
            if table == "targets":
                yield Operation("POST", path.rpartition("/")[0], row, [(table, row["id"])])
            else:
                yield Operation("PUT", path, row, [(table, row["id"])])
    for at in range(SIZE):
        id_ = id_of("certificates", 100 + at)
        names = [f"n{at}-{part}.killed.test" for part in range(NAMES_PER_CERTIFICATE)]
        yield Operation("PUT", f"/certificates/{id_}", {**own_fields("certificates"), "snis": names}, [("certificates", id_)])
    for at in range(SIZE):
        owner = id_of("consumers", at)
        owned = [(table, row["id"]) for table in OWNED for row in rows[table] if row["consumer"]["id"] == owner]
        owned += [("plugins", row["id"]) for row in rows["plugins"] if (row.get("consumer") or {}).get("id") == owner]
        yield Operation("DELETE", f"/consumers/{owner}", None, [("consumers", owner), *owned])
        upstream = id_of("upstreams", at)
        targets = [("targets", row["id"]) for row in rows["targets"] if row["upstream"]["id"] == upstream]
        yield Operation("DELETE", f"/upstreams/{upstream}", None, [("upstreams", upstream), *targets])
        certificate = id_of("certificates", 100 + at)
        yield Operation("DELETE", f"/certificates/{certificate}", None, [("certificates", certificate)])


def check_file(path: Path) -> None:
    """What SQLite itself says of the file that the killed process left."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def check_whole(admin: Admin) -> dict[str, dict[str, Row]]:
    """No row lacks a field, and every reference leads to a row; all rows by table and id."""
    stored = {table: {row["id"]: row for row in every(admin, f"/{path}")} for table, path in PATHS.items()}
    stored["targets"] = {
        row["id"]: row for upstream_id in stored["upstreams"] for row in every(admin, f"/upstreams/{upstream_id}/targets")
    }
    for table, rows in stored.items():
        fields: dict[str, dict[str, Any]] = {field["name"]: field for field in declared()[table]["fields"]}
        for row in rows.values():
            assert fields.keys() <= row.keys(), (table, row)
            for name, field in fields.items():
                value = row[name]
                assert value is not None or not field.get("required"), (table, name, row)
                if field["type"] == "foreign" and value is not None:
                    assert value["id"] in stored[field["references"]], (table, name, row)
    for certificate in stored["certificates"].values():
        names = sorted(sni["name"] for sni in stored["snis"].values() if sni["certificate"]["id"] == certificate["id"])
        assert certificate["snis"] == names
        if not certificate["tags"]:
            assert len(names) == NAMES_PER_CERTIFICATE
    tagged = {(one["entity_name"], one["entity_id"]) for one in every(admin, "/tags")}
    assert tagged == {(table, id_) for table, rows in stored.items() for id_, row in rows.items() if row.get("tags")}
    return stored


def kill_often(folder: Path, kill_count: int, seed: int) -> None:
    chance = random.Random(seed)
    rows = configuration(SIZE)
    assert sum(map(len, rows.values())) > 300
    with ControlProcess(folder) as process:
        for _ in range(kill_count):
            client = Client(process.admin_port)
            timer = threading.Timer(chance.uniform(0.01, LONGEST_SYNC_S), process.kill)
            timer.start()
            with pytest.raises(Killed):
                client.sync_for_ever(rows)
            timer.join()
            check_file(process.prefix / "pylae.db")
            process.restart()
            stored = check_whole(process.admin)
            for (table, id_), is_there in client.is_there.items():
                assert (id_ in stored[table]) is is_there, (table, id_, is_there)
        for _ in put(process.admin, rows):
            pass
        check_reads(process.admin, rows)
        check_whole(process.admin)


@pytest.mark.timeout(120)
def test_a_kill_leaves_whole_rows_only(tmp_path: Path) -> None:
    kill_often(tmp_path, kill_count=5, seed=1)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_kills_leave_whole_rows_only(tmp_path: Path, seed: int) -> None:
    kill_often(tmp_path, kill_count=60, seed=seed)
