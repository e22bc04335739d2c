# SPDX-License-Identifier: Apache-2.0
"""Does a write mean what it should, whatever the database?"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pylae.database.changes import Change
from pylae.database.dao import Catalogue, Dao
from pylae.database.protocols import check_plugin_protocols
from pylae.database.strategies.sqlite import SqliteStrategy
from pylae.database.strategies.sqlite.strategy import SqliteReader
from pylae.entities import CORE, enable_plugins
from pylae.errors import (
    DatabaseError,
    ForeignKeysUnresolved,
    ForeignKeyViolation,
    InvalidOffset,
    InvalidUnique,
    ReferencedByOthers,
    SchemaViolation,
    UniqueViolation,
)
from pylae.plugins.key_auth.plugin import KeyAuth
from pylae.schema import Entity
from tests.support.certificates import self_signed

Run = Callable[[Callable[[Dao], Any]], Any]
NOWHERE = "00000000-0000-4000-8000-000000000000"


class Store:
    """A database whose changes a test can look at."""

    def __init__(self, path: Path) -> None:
        entities: tuple[type[Entity], ...] = (*CORE, *KeyAuth.entities)
        self.catalogue = Catalogue({entity.table: entity for entity in entities})
        self.strategy = SqliteStrategy(path, self.catalogue.tables)
        self.strategy.open()
        self.changes: list[Change] = []

    def __call__(self, work: Callable[[Dao], Any]) -> Any:
        with self.strategy.write() as transaction:
            dao = Dao(transaction, self.catalogue)
            result = work(dao)
            self.changes = transaction.log(dao.changes)
        return result

    def insert(self, table: str, **values: Any) -> dict[str, Any]:
        row: dict[str, Any] = self(lambda dao: dao.insert(table, values))
        return row

    def noted(self) -> list[tuple[str, str]]:
        """What the last write changed."""
        return [(change.operation, change.table) for change in self.changes]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    enable_plugins({"key-auth": KeyAuth})
    made = Store(tmp_path / "pylae.db")
    yield made
    made.strategy.close()


@pytest.fixture
def service(store: Store) -> dict[str, Any]:
    return store.insert("services", name="s", url="http://origin.test/")


def test_an_insert_is_noted_with_the_row_and_all_it_can_be_found_by(store: Store, service: dict[str, Any]) -> None:
    (change,) = store.changes
    assert change.row == service
    assert change.sequence == 1
    assert change.invalidations == (("services", "id", service["id"]), ("services", "name", "s"))


def test_an_update_invalidates_the_old_value_and_the_new(store: Store, service: dict[str, Any]) -> None:
    store(lambda dao: dao.update("services", service, {"name": "t"}))
    assert set(store.changes[0].invalidations) == {
        ("services", "id", service["id"]),
        ("services", "name", "s"),
        ("services", "name", "t"),
    }


def test_an_update_changes_only_what_is_given(store: Store, service: dict[str, Any]) -> None:
    changed = store(lambda dao: dao.update("services", service, {"retries": 1, "id": NOWHERE}))
    assert changed == {**service, "retries": 1, "updated_at": changed["updated_at"]}


def test_an_upsert_sets_back_what_is_not_given(store: Store) -> None:
    old = store.insert("services", name="s", host="origin.test", retries=1, created_at=1)
    put = store(lambda dao: dao.upsert("services", old, {"host": "other.test"}))
    assert (put["id"], put["created_at"], put["retries"], put["name"]) == (old["id"], 1, 5, None)


def test_a_parent_may_be_named_by_its_key(store: Store, service: dict[str, Any]) -> None:
    route = store.insert("routes", paths=["/"], service={"name": "s"})
    assert route["service"] == {"id": service["id"]}


@pytest.mark.parametrize(
    ("parent", "error"),
    [
        ({"name": "none"}, ForeignKeysUnresolved),
        ({"id": NOWHERE}, ForeignKeyViolation),
        ({"id": "none"}, SchemaViolation),
        ({"nothing": "x"}, SchemaViolation),
        ({}, SchemaViolation),
        ({"name": 5}, SchemaViolation),
        ("s", SchemaViolation),
    ],
)
def test_a_parent_that_is_not_there_is_refused(store: Store, parent: Any, error: type[DatabaseError]) -> None:
    with pytest.raises(error):
        store.insert("routes", paths=["/"], service=parent)


def test_a_parent_is_not_deleted_from_under_children_that_forbid_it(store: Store, service: dict[str, Any]) -> None:
    store.insert("plugins", name="key-auth", service={"id": service["id"]})
    store.insert("routes", paths=["/"], service={"id": service["id"]})
    with pytest.raises(ForeignKeyViolation) as caught:
        store(lambda dao: dao.delete("services", service))
    assert caught.value.fields == {"@referenced_by": "routes"}
    assert store(lambda dao: dao.page("plugins").rows)


def test_children_that_live_with_a_parent_go_with_it_each_noted(store: Store) -> None:
    consumer = store.insert("consumers", username="c")
    store.insert("keyauth_credentials", consumer={"id": consumer["id"]}, key="k")
    store.insert("plugins", name="key-auth", route=None)
    store(lambda dao: dao.delete("consumers", consumer))
    assert store.noted() == [("delete", "keyauth_credentials"), ("delete", "consumers")]
    assert ("keyauth_credentials", "key", "k") in store.changes[0].invalidations
    assert store(lambda dao: dao.select_unique("keyauth_credentials", "key", "k")) is None


def test_a_second_row_of_the_same_scope_is_refused(store: Store, service: dict[str, Any]) -> None:
    store.insert("plugins", name="key-auth", service={"id": service["id"]})
    store.insert("plugins", name="key-auth")
    with pytest.raises(UniqueViolation) as caught:
        store.insert("plugins", name="key-auth", service={"id": service["id"]})
    assert caught.value.message == (
        f'UNIQUE violation detected on \'{{consumer=null,name="key-auth",route=null,service={{id="{service["id"]}"}}}}\''
    )


def test_what_looks_like_an_id_is_never_a_name(store: Store) -> None:
    store.insert("services", name=NOWHERE, host="origin.test")
    assert store(lambda dao: dao.select("services", NOWHERE)) is None


def test_a_target_is_found_by_a_shorter_spelling(store: Store) -> None:
    upstream = store.insert("upstreams", name="u.test")
    target = store.insert("targets", upstream={"id": upstream["id"]}, target="1.2.3.4")
    assert target["target"] == "1.2.3.4:8000"
    within = {"upstream": upstream["id"]}
    assert store(lambda dao: dao.select("targets", "1.2.3.4", within)) == target
    assert store(lambda dao: dao.select("targets", "1.2.3.4", {"upstream": NOWHERE})) is None


def test_rows_are_looked_up_by_unique_fields_only(store: Store, service: dict[str, Any]) -> None:
    assert store(lambda dao: dao.select_unique("services", "name", "s")) == service


@pytest.mark.parametrize(
    ("table", "field", "value"), [("services", "host", "x"), ("nothing", "id", "x"), ("services", "name", {})]
)
def test_rows_are_not_looked_up_by_anything_else(store: Store, table: str, field: str, value: Any) -> None:
    with pytest.raises(InvalidUnique):
        store(lambda dao: dao.select_unique(table, field, value))


def test_a_number_that_would_lose_digits_is_refused(store: Store) -> None:
    with pytest.raises(SchemaViolation):
        store.insert("services", host="origin.test", created_at=2**70)
    assert not store(lambda dao: dao.page("services").rows)


def test_pages_lead_to_the_last_and_no_further(store: Store) -> None:
    for number in range(5):
        store.insert("consumers", username=f"c{number}")
    pages = [store(lambda dao: dao.page("consumers", 2))]
    while pages[-1].offset is not None:
        pages.append(store(lambda dao: dao.page("consumers", 2, pages[-1].offset)))
    seen = sorted(row["username"] for page in pages for row in page.rows)
    assert (seen, len(pages)) == ([f"c{number}" for number in range(5)], 3)


@pytest.mark.parametrize(
    ("offset", "reason"),
    [
        ("zzz", "bad json encoding"),
        ("?", "bad base64 encoding"),
        ("abcde", "bad base64 encoding"),
        ("e30", "bad offset string"),
        ("WzFd", "bad offset string"),
        (urlsafe_b64encode(b"[" * 700).decode(), "bad json encoding"),
    ],
)
def test_an_offset_that_is_not_ours_is_refused_with_the_reason(store: Store, offset: str, reason: str) -> None:
    with pytest.raises(InvalidOffset) as caught:
        store(lambda dao: dao.page("services", 1, offset))
    assert caught.value.message == f"'{offset}' is not a valid offset: {reason}"


def test_an_offset_longer_than_any_of_ours_is_not_looked_at(store: Store) -> None:
    with pytest.raises(InvalidOffset) as caught:
        store(lambda dao: dao.page("services", 1, urlsafe_b64encode(b"[" * 60_000).decode()))
    assert caught.value.message == f"'{'W1tb' * 16}...' is not a valid offset: longer than 1024 characters"


def certificate(store: Store, tmp_path: Path, **values: Any) -> dict[str, Any]:
    made = self_signed(tmp_path, "dao.test")
    return store.insert("certificates", cert=made.certificate.read_text(), key=made.key.read_text(), **values)


def test_the_names_of_a_certificate_are_rows_of_their_own(store: Store, tmp_path: Path) -> None:
    made = certificate(store, tmp_path, snis=["b.test", "a.test"])
    assert made["snis"] == ["a.test", "b.test"]
    assert store.noted() == [("upsert", "certificates"), ("upsert", "snis"), ("upsert", "snis")]
    kept = store(lambda dao: dao.find("snis", {"name": "b.test"}))
    updated = store(lambda dao: dao.update("certificates", made, {"snis": ["b.test", "c.test"]}))
    assert updated["snis"] == ["b.test", "c.test"]
    assert store(lambda dao: dao.find("snis", {"name": "b.test"})) == kept
    assert store(lambda dao: dao.find("snis", {"name": "a.test"})) is None
    # Left out, they stay: a client may manage them one by one.
    put = {"cert": made["cert"], "key": made["key"]}
    assert store(lambda dao: dao.upsert("certificates", dao.get("certificates", made["id"]), put))["snis"] == updated["snis"]
    assert store(lambda dao: dao.update("certificates", updated, {"snis": None}))["snis"] == []


def test_a_name_belongs_to_one_certificate(store: Store, tmp_path: Path) -> None:
    owner = certificate(store, tmp_path, snis=["a.test"])
    with pytest.raises(SchemaViolation) as caught:
        certificate(store, tmp_path, snis=["z.test", "a.test"])
    assert caught.value.fields == {"snis": f"a.test already associated with existing certificate '{owner['id']}'"}
    assert store(lambda dao: dao.find("snis", {"name": "z.test"})) is None
    with pytest.raises(SchemaViolation) as caught:
        certificate(store, tmp_path, snis=["z.test", "z.test"])
    assert caught.value.fields == {"snis": "z.test is duplicated"}


def test_a_certificate_takes_its_names_along_unless_it_has_to_stay(store: Store, tmp_path: Path) -> None:
    made = certificate(store, tmp_path, snis=["a.test"])
    user = store.insert("services", url="https://h.test", client_certificate={"id": made["id"]})
    with pytest.raises(ForeignKeyViolation):
        store(lambda dao: dao.delete("certificates", made))
    assert store(lambda dao: dao.get("certificates", made["id"]))["snis"] == ["a.test"]
    store(lambda dao: dao.delete("services", user))
    store(lambda dao: dao.delete("certificates", made))
    assert store(lambda dao: dao.find("snis", {"name": "a.test"})) is None


def test_a_ca_certificate_that_a_service_names_stays(store: Store, tmp_path: Path) -> None:
    authority = store.insert("ca_certificates", cert=self_signed(tmp_path, "a.test", is_authority=True).certificate.read_text())
    service = store.insert("services", url="https://a.test", ca_certificates=[authority["id"].upper()])
    with pytest.raises(ReferencedByOthers) as caught:
        store(lambda dao: dao.delete("ca_certificates", authority))
    expected = f"ca certificate {authority['id']} is still referenced by services (id = {service['id']})"
    assert caught.value.body() == {"code": 19, "name": "referenced by others", "message": expected}
    store(lambda dao: dao.delete("services", service))
    store(lambda dao: dao.delete("ca_certificates", authority))
    assert store.noted() == [("delete", "ca_certificates")]


def test_a_reference_that_is_unique_is_noted_by_its_id(store: Store, service: dict[str, Any]) -> None:
    row = {"id": NOWHERE, "name": None, "service": {"id": service["id"]}, "route": None}
    noted = store.catalogue.tables["filter_chains"].invalidations(None, row)
    assert noted == (("filter_chains", "id", NOWHERE), ("filter_chains", "service", service["id"]))


def test_a_row_may_be_over_before_it_is_shown(store: Store) -> None:
    consumer = store.insert("consumers", username="c")
    row = store.insert("keyauth_credentials", key="k", ttl=1e-12, consumer={"id": consumer["id"]})
    assert row["ttl"] == 0
    assert store(lambda dao: dao.get("keyauth_credentials", row["id"])) is None


def test_a_row_that_is_put_without_a_time_to_live_stays(store: Store) -> None:
    consumer = store.insert("consumers", username="c")
    row = store.insert("keyauth_credentials", key="k", ttl=100, consumer={"id": consumer["id"]})
    stored = {field: value for field, value in row.items() if field != "ttl"}
    assert store(lambda dao: dao.put("keyauth_credentials", dict(stored), 0.0))
    assert store(lambda dao: dao.get("keyauth_credentials", row["id"]))["ttl"] is None
    assert not store(lambda dao: dao.put("keyauth_credentials", dict(stored), 0.0))
    assert store(lambda dao: dao.put("keyauth_credentials", dict(stored), 0.0, 50.0))


# === protocols of plugins ===


def test_a_plugin_needs_a_protocol_of_one_of_the_services_routes(store: Store, service: dict[str, Any]) -> None:
    parent = {"id": service["id"]}
    plugin = {"protocols": ["grpc"], "route": None, "service": parent}
    with store.strategy.read() as reader:
        check_plugin_protocols(reader, plugin)
    # More than the first look takes, and what matters comes last.
    for number in range(25):
        store.insert("routes", id=f"{number:08}-0000-4000-8000-000000000000", paths=["/"], service=parent)
    with store.strategy.read() as reader, pytest.raises(SchemaViolation):
        check_plugin_protocols(reader, plugin)
    store.insert("routes", id=f"ffffffff{NOWHERE[8:]}", protocols=["grpc"], paths=["/"], service=parent)
    with store.strategy.read() as reader:
        check_plugin_protocols(reader, plugin)


def test_the_first_route_that_fits_is_enough(store: Store, service: dict[str, Any]) -> None:
    for _ in range(300):
        store.insert("routes", paths=["/"], service={"id": service["id"]})
    plugin = {"protocols": ["http"], "route": None, "service": {"id": service["id"]}}
    with store.strategy.read() as reader:
        steps = steps_of(reader, lambda: check_plugin_protocols(reader, plugin))
    assert steps < 1000


def steps_of(reader: SqliteReader, work: Callable[[], Any]) -> int:
    """How many instructions SQLite needed for it, by tens."""
    count = 0

    def note() -> int:
        nonlocal count
        count += 10
        return 0

    reader._connection.set_progress_handler(note, 10)
    try:
        work()
    finally:
        reader._connection.set_progress_handler(None, 0)
    return count


@pytest.mark.parametrize("tag", [None, "a"])
def test_a_page_of_tags_costs_what_is_on_it(store: Store, tag: str | None) -> None:
    for number in range(300):
        store.insert("consumers", username=f"tagged{number}", tags=["a", "b"])
        store.insert("consumers", username=f"plain{number}")
    with store.strategy.read() as reader:
        first = reader.tagged(tag, limit=4)
        assert steps_of(reader, lambda: reader.tagged(tag, limit=4)) < 3000
        assert steps_of(reader, lambda: reader.tagged(tag, limit=4, after=first[-1])) < 3000
        seen, after = len(first), first[-1]
        while page := reader.tagged(tag, limit=7, after=after):
            seen, after = seen + len(page), page[-1]
    assert seen == (600 if tag is None else 300)
