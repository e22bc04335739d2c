# SPDX-License-Identifier: Apache-2.0
"""Does a gateway without a database replace its configuration whole, keep it, and refuse everything else?"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pylae.database.dao import Catalogue, Dao
from pylae.database.strategies.off import FILE_NAME, Holding, OffStrategy
from pylae.database.strategies.off.holding import encode_row
from pylae.database.strategies.off.strategy import EMPTY_HASH, MAX_TOLD_CHANGES
from pylae.entities import CORE
from pylae.errors import OperationUnsupported, SchemaViolation, StrategyUnavailable
from tests.strategies import rows
from tests.strategies.conftest import CATALOGUE

Row = dict[str, Any]


def held(hash_: str = "1" * 32, **given: list[Row]) -> Holding:
    holding = Holding(CATALOGUE.tables, hash_)
    for table, some in given.items():
        for one in some:
            holding[table].add(one, encode_row(one))
    holding.finish()
    return holding


def opened(folder: Path, source: str = "", read_text: Callable[[], Holding] | None = None) -> OffStrategy:
    strategy = OffStrategy(folder / FILE_NAME, CATALOGUE.tables, "node", source, read_text)
    strategy.open()
    return strategy


# === replacing ===


def test_a_replacement_tells_what_differs(tmp_path: Path) -> None:
    strategy = opened(tmp_path)
    same, gone, old = rows.service("same"), rows.service("gone"), rows.service("changed")
    strategy.replace(held(services=[same, gone, old]))
    new = {**old, "port": 81}
    told = strategy.replace(held("2" * 32, services=[same, new], consumers=[rows.consumer("c")]))
    assert [(one.table, one.operation, one.sequence) for one in told.changes] == [
        ("services", "delete", 4),
        ("consumers", "upsert", 5),
        ("services", "upsert", 6),
    ]
    assert (told.sequence, told.is_whole) == (6, False)
    assert told.changes[2].row == new
    assert ("services", "name", "gone") in told.changes[0].invalidations


def test_a_reference_that_is_unique_is_told_by_its_id(tmp_path: Path) -> None:
    tables = Catalogue({entity.table: entity for entity in CORE}).tables
    strategy = OffStrategy(tmp_path / FILE_NAME, tables, "node")
    strategy.open()
    holding = Holding(tables, "1" * 32)
    service = rows.service("s")
    chain = {"id": rows.service("chain")["id"], "name": None, "tags": None, "service": {"id": service["id"]}, "route": None}
    for table, row in (("services", service), ("filter_chains", chain)):
        holding[table].add(row, encode_row(row))
    holding.finish()
    told = {change.table: change.invalidations for change in strategy.replace(holding).changes}
    assert told["filter_chains"] == (("filter_chains", "id", chain["id"]), ("filter_chains", "service", service["id"]))


def test_rows_that_go_come_before_rows_that_come(tmp_path: Path) -> None:
    strategy = opened(tmp_path)
    parent = rows.service("s")
    strategy.replace(held(services=[parent], routes=[rows.route("r", parent)]))
    told = strategy.replace(held("2" * 32))
    assert [one.table for one in told.changes] == ["routes", "services"]


def test_the_same_again_is_no_change(tmp_path: Path) -> None:
    strategy = opened(tmp_path)
    service = rows.service("s")
    strategy.replace(held(services=[service]))
    assert strategy.replace(held(services=[service])).sequence == 1


@pytest.mark.parametrize(("before_s", "after_s"), [(None, 2e9), (2e9, None), (2e9, 2.1e9)], ids=["ends", "stays", "later"])
def test_another_end_of_a_row_is_a_change_and_is_stored(tmp_path: Path, before_s: float | None, after_s: float | None) -> None:
    owner = rows.consumer("c")
    key = rows.key(owner, "k")

    def ending(expires_at_s: float | None) -> Holding:
        holding = held(consumers=[owner])
        holding["keyauth_credentials"].add(key, encode_row(key), expires_at_s)
        holding.finish()
        return holding

    strategy = opened(tmp_path)
    strategy.replace(ending(before_s))
    told = strategy.replace(ending(after_s))
    assert [(one.table, one.operation, one.id, one.sequence) for one in told.changes] == [
        ("keyauth_credentials", "upsert", key["id"], 3)
    ]
    assert ("keyauth_credentials", "key", "k") in told.changes[0].invalidations
    again = opened(tmp_path)
    assert again.holding["keyauth_credentials"].expires_at_s.get(key["id"]) == after_s
    assert (again.sequence, strategy.replace(ending(after_s)).sequence) == (3, 3)


def test_more_changes_than_are_told_are_the_whole(tmp_path: Path) -> None:
    strategy = opened(tmp_path)
    ids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(MAX_TOLD_CHANGES)]
    many = [{**rows.consumer("x"), "id": id_, "username": id_} for id_ in ids]
    assert not strategy.replace(held(consumers=many)).is_whole
    changed = [{**one, "custom_id": one["username"]} for one in many]
    told = strategy.replace(held("2" * 32, consumers=changed, services=[rows.service("s")]))
    assert (told.is_whole, told.changes, told.sequence) == (True, (), 2 * MAX_TOLD_CHANGES + 1)


def test_a_look_outlives_a_replacement(tmp_path: Path) -> None:
    strategy = opened(tmp_path)
    strategy.replace(held(services=[rows.service("old")]))
    with strategy.read() as reader:
        strategy.replace(held("2" * 32, services=[rows.service("new")]))
        assert [row["name"] for row in reader.each("services")] == ["old"]


# === the file ===


def test_what_was_replaced_is_there_after_a_restart(tmp_path: Path) -> None:
    service, expiring = rows.service("s"), rows.key(owner := rows.consumer("c"), "k")
    holding = held("3" * 32, services=[service], consumers=[owner])
    holding["keyauth_credentials"].add(expiring, encode_row(expiring), 2e9)
    holding.finish()
    opened(tmp_path).replace(holding)
    again = opened(tmp_path)
    assert (again.holding.hash, again.sequence) == ("3" * 32, 3)
    with again.read() as reader:
        assert reader.find("services", {"name": "s"}) == service
        found = reader.get("keyauth_credentials", expiring["id"])
    assert found is not None
    assert found["ttl"] > 0


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    opened(tmp_path).replace(held())
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", [0, 5, 20, 60, -1])
def test_a_broken_file_is_no_configuration(tmp_path: Path, cut: int) -> None:
    opened(tmp_path).replace(held(services=[rows.service("s")]))
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StrategyUnavailable, match="does not hold a configuration"):
        opened(tmp_path)


def test_what_cannot_be_stored_does_not_become_the_configuration(tmp_path: Path) -> None:
    strategy = opened(tmp_path)
    strategy.replace(held(services=[rows.service("old")]))
    (tmp_path / f"{FILE_NAME}.new").mkdir()
    with pytest.raises(StrategyUnavailable):
        strategy.replace(held("2" * 32, services=[rows.service("new")]))
    with strategy.read() as reader:
        assert [row["name"] for row in reader.each("services")] == ["old"]


def test_a_file_with_a_row_twice_is_no_configuration_and_its_secrets_are_not_told(tmp_path: Path) -> None:
    owner = rows.consumer("c")
    one, other = rows.key(owner, "sesame-1"), rows.key(owner, "sesame-2")
    opened(tmp_path).replace(held(consumers=[owner], keyauth_credentials=[one, other]))
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    for damaged in (whole.replace(b"sesame-2", b"sesame-1"), whole.replace(other["id"].encode(), one["id"].encode())):
        path.write_bytes(damaged)
        with pytest.raises(StrategyUnavailable, match=r"does not hold a configuration: two rows .* hint: remove it") as caught:
            opened(tmp_path)
        assert "sesame" not in str(caught.value)


# === tags ===


def test_pages_of_tags_are_those_of_the_whole_and_leave_out_what_has_ended(tmp_path: Path) -> None:
    owner = rows.consumer("c", tags=["a", "b"])
    keys = [{**rows.key(owner, f"k{n}"), "tags": ["a", f"t{n}"]} for n in range(7)]
    holding = held(consumers=[owner])
    for n, key in enumerate(keys):
        holding["keyauth_credentials"].add(key, encode_row(key), 1.0 if n == 3 else None)
    holding.finish()
    strategy = opened(tmp_path)
    strategy.replace(holding)
    with strategy.read() as reader:
        for tag in (None, "a", "t3", "absent"):
            whole = reader.tagged(tag, limit=100)
            assert whole == sorted(whole)
            paged: list[Any] = []
            while page := reader.tagged(tag, limit=2, after=paged[-1] if paged else None):
                paged += page
            assert paged == whole
        assert len(reader.tagged("a", limit=100)) == 7
        assert reader.tagged("t3", limit=1) == reader.tagged("absent", limit=1) == []
        assert keys[3]["id"] not in {id_ for id_, _, _ in reader.tagged(None, limit=100)}


def test_pages_of_tags_cost_what_they_hold(tmp_path: Path) -> None:
    owner = rows.consumer("c")
    template = rows.key(owner, "k")
    ids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(6000)]
    strategy = opened(tmp_path)
    strategy.replace(held(consumers=[owner], keyauth_credentials=[{**template, "id": i, "key": i, "tags": ["a"]} for i in ids]))
    begun_s = time.process_time()
    with strategy.read() as reader:
        for tag in (None, "a"):
            seen: list[Any] = []
            while page := reader.tagged(tag, limit=100, after=seen[-1] if seen else None):
                seen += page
            assert [id_ for id_, _, _ in seen] == ids
    assert time.process_time() - begun_s < 0.5


# === who reads the declared text ===


def test_the_text_is_read_once_for_each_start(tmp_path: Path) -> None:
    read: list[str] = []

    def text(name: str) -> Callable[[], Holding]:
        def make() -> Holding:
            read.append(name)
            return held(services=[rows.service(name)])

        return make

    opened(tmp_path, "start", text("first"))
    # The process died and is back: a configuration that was posted meanwhile stays.
    opened(tmp_path, "start", text("second")).replace(held("4" * 32, services=[rows.service("posted")]))
    again = opened(tmp_path, "start", text("third"))
    with again.read() as reader:
        assert [row["name"] for row in reader.each("services")] == ["posted"]
    opened(tmp_path, "reload", text("fourth"))
    assert read == ["first", "fourth"]


def test_a_wrong_text_leaves_what_was_stored(tmp_path: Path) -> None:
    opened(tmp_path, "start", lambda: held(services=[rows.service("good")]))

    def fail() -> Holding:
        raise SchemaViolation({"x": "y"})

    with pytest.raises(SchemaViolation):
        opened(tmp_path, "reload", fail)
    with opened(tmp_path, "start", fail).read() as reader:
        assert [row["name"] for row in reader.each("services")] == ["good"]


def test_there_is_an_empty_configuration_before_any(tmp_path: Path) -> None:
    strategy = opened(tmp_path)
    assert (strategy.holding.hash, strategy.sequence, strategy.database_id) == (EMPTY_HASH, 0, "node")


def test_nothing_is_read_before_it_is_open(tmp_path: Path) -> None:
    strategy = OffStrategy(tmp_path / FILE_NAME, CATALOGUE.tables, "node")
    with pytest.raises(StrategyUnavailable), strategy.read():
        pass


# === single writes ===


@pytest.mark.parametrize(
    ("by", "operation", "text"),
    [
        ("id", "insert", "cannot create 'services' entities when not using a database"),
        ("id", "update", "cannot update 'services' entities when not using a database"),
        ("name", "update", "cannot update 'services' entities by 'name' when not using a database"),
        ("id", "upsert", "cannot create or update 'services' entities when not using a database"),
        ("name", "upsert", "cannot create or update 'services' entities by 'name' when not using a database"),
        ("id", "upsert absent", "cannot create or update 'services' entities when not using a database"),
        ("name", "upsert absent", "cannot create or update 'services' entities by 'name' when not using a database"),
        ("id", "delete", "cannot remove 'services' entities when not using a database"),
        ("name", "delete", "cannot remove 'services' entities by 'name' when not using a database"),
    ],
)
def test_single_writes_are_refused_in_the_words_of_kong(tmp_path: Path, by: str, operation: str, text: str) -> None:
    strategy = opened(tmp_path)
    service = rows.service("s")
    strategy.replace(held(services=[service], routes=[rows.route("r", service)]))
    absent = {"id": "00000000-0000-4000-8000-000000000009", "name": "absent"}[by]

    def write() -> None:
        with strategy.write() as transaction:
            dao = Dao(transaction, CATALOGUE)
            row = dao.select("services", absent if "absent" in operation else service[by]) if operation != "insert" else None
            if operation == "insert":
                dao.insert("services", {"name": "t", "host": "h"})
            elif "upsert" in operation:
                dao.upsert("services", row, {"name": "t", "host": "h"})
            elif operation == "update":
                dao.update("services", row or {}, {"port": 1})
            else:
                dao.delete("services", row or {})

    with pytest.raises(OperationUnsupported) as caught:
        write()
    assert caught.value.message == text
    assert caught.value.body()["code"] == 12
