# SPDX-License-Identifier: Apache-2.0
"""Does every database do what the Dao relies on?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pylae.database.changes import Change
from pylae.database.strategies import Strategy, TagFilter
from pylae.database.strategies.off import Holding, OffStrategy
from pylae.database.strategies.off.holding import decode_row, encode_row
from pylae.errors import PrimaryKeyViolation, UniqueViolation
from tests.strategies import rows
from tests.strategies.conftest import CATALOGUE, Clock
from tests.strategies.rows import ENTITIES

Open = Callable[[], Strategy]


def insert(strategy: Strategy, table: str, *given: dict[str, Any], ttl_s: float | None = None) -> None:
    if isinstance(strategy, OffStrategy):
        replace_with(strategy, table, given, ttl_s)
        return
    with strategy.write() as transaction:
        for one in given:
            transaction.insert(table, one, ttl_s)


def replace_with(strategy: OffStrategy, table: str, given: Sequence[dict[str, Any]], ttl_s: float | None) -> None:
    """What is there, and more, as a whole."""
    holding = Holding(CATALOGUE.tables, "1" * 32)
    for name, rows_ in strategy.holding.items():
        for id_, encoded in rows_.encoded.items():
            holding[name].add(decode_row(encoded), encoded, rows_.expires_at_s.get(id_))
    for one in given:
        whole = {**dict.fromkeys(ENTITIES[table].fields), **one}
        holding[table].add(whole, encode_row(whole), None if ttl_s is None else strategy.clock() + ttl_s)
    holding.finish()
    strategy.replace(holding)


def get(strategy: Strategy, table: str, id_: str) -> dict[str, Any] | None:
    with strategy.read() as reader:
        return reader.get(table, id_)


def test_a_row_comes_back_as_it_was_stored(readable: Strategy) -> None:
    stored = rows.route("r", headers={"x-a": ["1", "é"]}, methods=["GET"], snis=None, tags=["a"])
    insert(readable, "routes", stored)
    found = get(readable, "routes", stored["id"])
    assert found == stored
    assert list(found) == list(stored)


def test_numbers_keep_their_fraction_only_when_they_have_one(strategy: Strategy) -> None:
    upstream = rows.row("upstreams", name="u.test")
    target = rows.row("targets", target="a.test:80", upstream={"id": upstream["id"]})
    target |= {"created_at": 1800000000.0, "updated_at": 1800000000.125}
    insert(strategy, "upstreams", upstream)
    insert(strategy, "targets", target)
    found = get(strategy, "targets", target["id"])
    assert found is not None
    assert (repr(found["created_at"]), repr(found["updated_at"])) == ("1800000000", "1800000000.125")


def test_an_absent_row_is_none(readable: Strategy) -> None:
    assert get(readable, "services", rows.service("s")["id"]) is None


def test_rows_are_found_by_values_and_parents(readable: Strategy) -> None:
    parent, other = rows.service("s"), rows.service("o")
    child = rows.route("r", parent)
    insert(readable, "services", parent, other)
    insert(readable, "routes", child)
    with readable.read() as reader:
        assert reader.find("routes", {"name": "r", "service": parent["id"]}) == child
        assert reader.find("routes", {"name": "r", "service": other["id"]}) is None
        assert reader.find("routes", {"name": None}) is None


def test_a_unique_value_belongs_to_one_row(readable: Strategy) -> None:
    insert(readable, "services", rows.service("s"))
    with pytest.raises(UniqueViolation) as caught:
        insert(readable, "services", rows.service("s"))
    assert caught.value.fields == {"name": "s"}


def test_many_rows_may_lack_a_unique_value(readable: Strategy) -> None:
    insert(readable, "consumers", rows.consumer("a"), rows.consumer("b"))
    with readable.read() as reader:
        assert len(reader.page("consumers", limit=10)) == 2


def test_an_update_may_not_take_anothers_value(strategy: Strategy) -> None:
    taken, moved = rows.service("taken"), rows.service("moved")
    insert(strategy, "services", taken, moved)
    with pytest.raises(UniqueViolation), strategy.write() as transaction:
        transaction.update("services", {**moved, "name": "taken"})
    assert get(strategy, "services", moved["id"]) == moved


def test_fields_are_unique_together_with_nulls_counted(readable: Strategy) -> None:
    one = {"name": "key-auth", "config": {}, "protocols": ["http"], "enabled": True}
    insert(readable, "plugins", {**one, "id": "00000000-0000-4000-8000-000000000001"})
    with pytest.raises(UniqueViolation) as caught:
        insert(readable, "plugins", {**one, "id": "00000000-0000-4000-8000-000000000002"})
    assert caught.value.fields == {"name": "key-auth", "route": None, "service": None, "consumer": None}


def test_an_id_belongs_to_one_row(readable: Strategy) -> None:
    stored = rows.service("s")
    insert(readable, "services", stored)
    with pytest.raises(PrimaryKeyViolation):
        insert(readable, "services", {**stored, "name": "t"})


def test_pages_are_in_order_of_ids_and_meet(readable: Strategy) -> None:
    insert(readable, "services", *(rows.service(f"s{number}") for number in range(7)))
    with readable.read() as reader:
        whole = reader.page("services", limit=10)
        first = reader.page("services", limit=4)
        second = reader.page("services", limit=4, after=first[-1]["id"])
    assert [row["id"] for row in whole] == sorted(row["id"] for row in whole)
    assert first + second == whole


@pytest.mark.parametrize(
    ("tags", "is_any", "names"),
    [(("a",), False, "abc"), (("a", "b"), False, "bc"), (("b", "d"), True, "bcd"), (("x",), True, "")],
)
def test_tags_are_found_by_all_or_any(readable: Strategy, tags: tuple[str, ...], is_any: bool, names: str) -> None:  # noqa: FBT001 - a parameter of the test
    for name, own in {"a": ["a"], "b": ["a", "b"], "c": ["c", "b", "a"], "d": ["d"], "n": None}.items():
        insert(readable, "services", rows.service(name, tags=own))
    with readable.read() as reader:
        found = reader.page("services", limit=10, tags=TagFilter(tags, is_any))
    assert sorted(row["name"] for row in found) == list(names)


def test_a_transaction_that_raises_leaves_nothing(strategy: Strategy) -> None:
    stored = rows.service("s")

    def fail() -> None:
        with strategy.write() as transaction:
            transaction.insert("services", stored)
            transaction.log([Change(0, "services", "upsert", stored["id"], stored, ())])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert get(strategy, "services", stored["id"]) is None
    with strategy.read() as reader:
        assert reader.sequence() == 0


def test_a_look_stays_the_same_while_others_write(readable: Strategy) -> None:
    with readable.read() as reader:
        assert reader.page("services", limit=10) == []
        insert(readable, "services", rows.service("s"))
        assert reader.page("services", limit=10) == []
    with readable.read() as reader:
        assert len(reader.page("services", limit=10)) == 1


def test_readers_of_several_threads_do_not_meet(readable: Strategy) -> None:
    stored = rows.service("s")
    insert(readable, "services", stored)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(get(readable, "services", stored["id"]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [stored] * 8


# === time to live ===


def test_a_row_is_gone_when_its_time_is_over(readable: Strategy, clock: Clock) -> None:
    owner = rows.consumer("c")
    stored = rows.key(owner, "k")
    insert(readable, "consumers", owner)
    insert(readable, "keyauth_credentials", stored, ttl_s=10)
    clock.now_s += 3.5
    assert get(readable, "keyauth_credentials", stored["id"]) == {**stored, "ttl": 6}
    clock.now_s += 7
    assert get(readable, "keyauth_credentials", stored["id"]) is None
    with readable.read() as reader:
        assert reader.find("keyauth_credentials", {"key": "k"}) is None
        assert reader.page("keyauth_credentials", limit=10) == []


def test_an_expired_row_does_not_hold_its_values(strategy: Strategy, clock: Clock) -> None:
    owner = rows.consumer("c")
    insert(strategy, "consumers", owner)
    insert(strategy, "keyauth_credentials", rows.key(owner, "k"), ttl_s=10)
    clock.now_s += 11
    insert(strategy, "keyauth_credentials", rows.key(owner, "k"))


def test_an_update_keeps_renews_or_ends_the_time_to_live(strategy: Strategy, clock: Clock) -> None:
    owner = rows.consumer("c")
    stored = rows.key(owner, "k")
    insert(strategy, "consumers", owner)
    insert(strategy, "keyauth_credentials", stored, ttl_s=10)
    left = []
    for ttl_s, keeps_ttl in ((None, True), (100.0, True), (None, False)):
        with strategy.write() as transaction:
            transaction.update("keyauth_credentials", stored, ttl_s, keeps_ttl=keeps_ttl)
        found = get(strategy, "keyauth_credentials", stored["id"])
        assert found is not None
        left.append(found["ttl"])
    assert left == [10, 100, None]


def test_a_sweep_removes_what_is_over(strategy: Strategy, clock: Clock) -> None:
    owner = rows.consumer("c")
    insert(strategy, "consumers", owner)
    insert(strategy, "keyauth_credentials", rows.key(owner, "k"), ttl_s=10)
    insert(strategy, "keyauth_credentials", rows.key(owner, "stays"))
    swept = []
    for _ in range(2):
        with strategy.write() as transaction:
            swept.append(transaction.sweep())
        clock.now_s += 11
    with strategy.write() as transaction:
        swept.append(transaction.sweep())
    assert swept == [0, 1, 0]


# === the change log ===


def log(strategy: Strategy, *ids: str) -> list[int]:
    with strategy.write() as transaction:
        logged = transaction.log([Change(0, "services", "upsert", id_, {"id": id_}, (("services", "id", id_),)) for id_ in ids])
    return [change.sequence for change in logged]


def test_changes_are_numbered_in_order_and_read_back_without_rows(strategy: Strategy) -> None:
    assert log(strategy, "a", "b") == [1, 2]
    assert log(strategy, "c") == [3]
    with strategy.read() as reader:
        assert reader.sequence() == 3
        assert reader.changes_after(1) == [
            Change(2, "services", "upsert", "b", None, (("services", "id", "b"),)),
            Change(3, "services", "upsert", "c", None, (("services", "id", "c"),)),
        ]


def test_the_version_outlives_the_process(open_strategy: Open) -> None:
    first = open_strategy()
    log(first, "a", "b")
    first.close()
    second = open_strategy()
    assert second.database_id == first.database_id
    assert log(second, "c") == [3]


def test_a_sequence_is_not_used_again_after_the_log_was_trimmed(open_strategy: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pylae.database.strategies.sqlite.strategy.MAX_LOGGED_CHANGES", 0)
    first = open_strategy()
    log(first, "a", "b")
    with first.write() as transaction:
        transaction.sweep()
    with first.read() as reader:
        assert reader.changes_after(0) == []
    first.close()
    assert log(open_strategy(), "c") == [3]


def test_two_databases_have_two_ids(open_strategy: Open, tmp_path: Any) -> None:
    first = open_strategy()
    first.close()
    for path in tmp_path.iterdir():
        path.unlink()
    assert open_strategy().database_id != first.database_id


# === tags of all tables ===


def test_the_tags_of_all_tables_are_listed_in_order(readable: Strategy, clock: Clock) -> None:
    ids = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(1, 5)]
    owner = rows.consumer("c", id=ids[1], tags=["blue"])
    insert(readable, "services", rows.service("s", id=ids[0], tags=["red", "blue"]))
    insert(readable, "consumers", owner)
    insert(readable, "services", rows.service("untagged", id=ids[2]))
    insert(readable, "keyauth_credentials", {**rows.key(owner, "k"), "id": ids[3], "tags": ["blue"]}, ttl_s=10)
    every = [
        (ids[0], "services", "blue"),
        (ids[0], "services", "red"),
        (ids[1], "consumers", "blue"),
        (ids[3], "keyauth_credentials", "blue"),
    ]
    with readable.read() as reader:
        assert reader.tagged(None, limit=10) == every
        assert reader.tagged(None, limit=2) == every[:2]
        assert reader.tagged(None, limit=2, after=every[1]) == every[2:]
        assert reader.tagged("blue", limit=10) == [every[0], *every[2:]]
        assert reader.tagged("blue", limit=10, after=every[2]) == [every[3]]
        assert reader.tagged("green", limit=10) == []
    clock.now_s += 11
    with readable.read() as reader:
        assert reader.tagged("blue", limit=10) == [every[0], every[2]]
