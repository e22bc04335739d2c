# SPDX-License-Identifier: Apache-2.0
"""Does a worker get what brings it from its version to the newest, and no more?"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pylae.control import feed as feed_module
from pylae.control.feed import Feed
from pylae.database.changes import Change, Commit, Replacement

DATABASE = "db"


def decoded(frame: bytes) -> tuple[str, dict[str, Any]]:
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    name, body = msgspec.msgpack.decode(frame[4:])
    return name, body


def upsert(sequence: int, id_: str, table: str = "services", **values: Any) -> Commit:
    row = {"id": id_, **values}
    return Commit([Change(sequence, table, "upsert", id_, row, ((table, "id", id_),))])


def delete(sequence: int, id_: str, table: str = "services") -> Commit:
    return Commit([Change(sequence, table, "delete", id_, None, ((table, "id", id_),))])


def test_a_new_worker_gets_everything() -> None:
    feed = Feed(DATABASE, 5, {"services": [{"id": "a"}], "routes": [{"id": "r", "paths": ["/"]}]})
    assert decoded(feed.since(None)) == (
        "snapshot",
        {
            "version": [DATABASE, 5],
            "entities": {
                "services": [{"id": "a"}],
                "routes": [{"id": "r", "paths": ["/"]}],
                "plugins": [],
                "upstreams": [],
                "targets": [],
            },
        },
    )


def test_a_snapshot_holds_what_was_committed() -> None:
    feed = Feed(DATABASE, 0, {"services": [{"id": "a"}, {"id": "b"}]})
    feed.apply(upsert(1, "b", retries=1))
    feed.apply(delete(2, "a"))
    _, body = decoded(feed.since(None))
    assert (body["version"], body["entities"]["services"]) == ([DATABASE, 2], [{"id": "b", "retries": 1}])


def test_a_worker_behind_gets_the_changes_it_lacks() -> None:
    feed = Feed(DATABASE, 0, {})
    for sequence, id_ in enumerate("abc", 1):
        feed.apply(upsert(sequence, id_))
    assert decoded(feed.since((DATABASE, 1))) == (
        "delta",
        {
            "from": 1,
            "to": 3,
            "database_id": DATABASE,
            "changes": [["services", "upsert", "b", {"id": "b"}], ["services", "upsert", "c", {"id": "c"}]],
            "invalidations": [["services", "id", "c"], ["services", "id", "b"]],
        },
    )


def test_a_row_that_changed_twice_comes_once_as_it_is_now() -> None:
    feed = Feed(DATABASE, 0, {})
    feed.apply(upsert(1, "a", retries=1))
    feed.apply(upsert(2, "a", retries=2))
    feed.apply(upsert(3, "b"))
    feed.apply(delete(4, "b"))
    _, body = decoded(feed.since((DATABASE, 0)))
    assert body["changes"] == [["services", "upsert", "a", {"id": "a", "retries": 2}], ["services", "delete", "b", None]]


def test_rows_of_other_tables_come_as_invalidations_only() -> None:
    feed = Feed(DATABASE, 0, {})
    feed.apply(upsert(1, "c", "consumers"))
    _, body = decoded(feed.since((DATABASE, 0)))
    assert (body["changes"], body["invalidations"]) == ([], [["consumers", "id", "c"]])


def test_a_worker_that_has_all_gets_an_empty_delta() -> None:
    name, body = decoded(Feed(DATABASE, 7, {}).since((DATABASE, 7)))
    assert (name, body["from"], body["to"], body["changes"]) == ("delta", 7, 7, [])


@pytest.mark.parametrize("version", [None, ("other", 3), (DATABASE, 9), (DATABASE, 0)])
def test_a_worker_whose_way_is_not_known_gets_everything(version: tuple[str, int] | None) -> None:
    feed = Feed(DATABASE, 3, {})
    assert decoded(feed.since(version))[0] == "snapshot"


def test_the_change_log_is_the_way_for_those_who_missed_a_push() -> None:
    logged = Change(3, "services", "upsert", "a", None, (("services", "id", "a"),))
    feed = Feed(DATABASE, 3, {"services": [{"id": "a"}]}, [logged])
    _, body = decoded(feed.since((DATABASE, 2)))
    assert body["changes"] == [["services", "upsert", "a", {"id": "a"}]]
    assert decoded(feed.since((DATABASE, 1)))[0] == "snapshot"


def test_changes_are_forgotten_from_a_number_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "MAX_REMEMBERED_CHANGES", 2)
    feed = Feed(DATABASE, 0, {})
    for sequence, id_ in enumerate("abc", 1):
        feed.apply(upsert(sequence, id_))
    assert decoded(feed.since((DATABASE, 0)))[0] == "snapshot"
    assert decoded(feed.since((DATABASE, 1)))[0] == "delta"


def test_a_route_that_workers_can_not_match_is_not_sent() -> None:
    classic = {"id": "a", "paths": ["/expression"], "expression": None, "priority": 0}
    told = {"id": "b", "paths": None, "expression": "true", "priority": 5}
    nothing = {"id": "c", "paths": None, "expression": None, "priority": 0}
    feed = Feed(DATABASE, 1, {"routes": [classic, told, nothing]})
    _, body = decoded(feed.since(None))
    assert body["entities"]["routes"] == [classic, told]
    feed.apply(upsert(2, "b", "routes", paths=None, expression=None, priority=0))
    _, body = decoded(feed.since((DATABASE, 1)))
    assert body["changes"] == [["routes", "delete", "b", None]]


NO_MATCHER: dict[str, Any] = dict.fromkeys(("methods", "hosts", "paths", "headers", "snis", "sources", "destinations"))


SENT: list[dict[str, Any]] = [
    {"methods": ["GET"]},
    {"headers": {"a": ["b"]}},
    {"snis": ["a.test"], "protocols": ["https"]},
    {"protocols": ["grpcs"], "hosts": ["a.test"]},
    {"protocols": ["udp"], "destinations": [{"port": 1}]},
    {"protocols": ["tls_passthrough"], "snis": ["a.test"]},
]
WITHHELD: list[dict[str, Any]] = [
    {},
    {"protocols": ["http", "https"]},
    {"paths": []},
    {"headers": {}},
    {"sources": [{"port": 1}], "protocols": ["https"]},
    {"protocols": ["grpc"]},
    {"protocols": ["tcp"]},
    {"protocols": ["tcp"], "paths": ["/"]},
]


@pytest.mark.parametrize("fields", [*SENT, *WITHHELD])
def test_a_route_without_anything_to_match_by_is_not_sent(fields: dict[str, Any]) -> None:
    is_sent = fields in SENT
    row = {"id": "a", **NO_MATCHER, **fields}
    feed = Feed(DATABASE, 1, {"routes": [row]})
    assert decoded(feed.since(None))[1]["entities"]["routes"] == ([row] if is_sent else [])
    assert feed.withheld_routes() == ([] if is_sent else ["a"])
    feed.apply(upsert(2, "a", "routes", **{**NO_MATCHER, **fields}))
    ((_, operation, _, _),) = decoded(feed.since((DATABASE, 1)))[1]["changes"]
    assert operation == ("upsert" if is_sent else "delete")
    assert feed.withheld_routes(["a", "gone"]) == ([] if is_sent else ["a"])


# === a whole configuration in the place of another ===


def encoded(*rows: dict[str, Any]) -> dict[str, bytes]:
    return {row["id"]: msgspec.msgpack.encode(row) for row in rows}


def test_a_replacement_goes_out_as_its_changes() -> None:
    feed = Feed.of_encoded(DATABASE, 4, {"services": encoded({"id": "a"}, {"id": "b"})})
    changes = [
        Change(5, "services", "delete", "a", None, (("services", "id", "a"),)),
        Change(6, "services", "upsert", "b", {"id": "b", "port": 1}, (("services", "id", "b"),)),
    ]
    feed.apply(Replacement(changes, 6, {"services": encoded({"id": "b", "port": 1})}, is_whole=False))
    name, body = decoded(feed.since((DATABASE, 4)))
    assert (name, body["from"], body["to"]) == ("delta", 4, 6)
    assert body["changes"] == [["services", "delete", "a", None], ["services", "upsert", "b", {"id": "b", "port": 1}]]
    assert decoded(feed.since((DATABASE, 6)))[1]["changes"] == []


def test_a_replacement_of_everything_goes_out_whole() -> None:
    feed = Feed.of_encoded(DATABASE, 4, {"services": encoded({"id": "a"})})
    feed.apply(Replacement((), 20_004, {"services": encoded({"id": "b"})}, is_whole=True))
    for version in ((DATABASE, 4), (DATABASE, 20_003)):
        name, body = decoded(feed.since(version))
        assert (name, body["version"], body["entities"]["services"]) == ("snapshot", [DATABASE, 20_004], [{"id": "b"}])
    assert decoded(feed.since((DATABASE, 20_004)))[0] == "delta"


def test_a_replacement_that_changes_no_row_is_no_new_version() -> None:
    feed = Feed.of_encoded(DATABASE, 4, {"services": encoded({"id": "a"})})
    feed.apply(Replacement((), 4, {"services": encoded({"id": "a"})}, is_whole=False))
    assert feed.version == (DATABASE, 4)


def test_services_that_name_certificates_are_known() -> None:
    plain = {"id": "a", "name": "a", "client_certificate": None, "ca_certificates": None}
    shows = {**plain, "id": "b", "client_certificate": {"id": "c"}}
    trusts = {**plain, "id": "c", "ca_certificates": ["d"]}
    feed = Feed("db", 1, {"services": [plain, shows, trusts]})
    assert feed.trusting_services() == ["b", "c"]
    assert feed.trusting_services(["a", "c", "gone"]) == ["c"]


def test_versions_between_which_no_row_of_the_workers_changed_are_alike() -> None:
    feed = Feed(DATABASE, 3, {})
    feed.apply(upsert(4, "a"))
    feed.apply(upsert(5, "c", "consumers"))
    assert [feed.is_as_at((DATABASE, sequence)) for sequence in range(2, 7)] == [False, False, True, True, False]
    assert not feed.is_as_at(("other", 5))
    feed.apply(Replacement((), 6, {}, is_whole=True))
    assert [feed.is_as_at((DATABASE, sequence)) for sequence in (5, 6)] == [False, True]


def test_what_it_would_be_leaves_it_as_it_is() -> None:
    feed = Feed(DATABASE, 5, {"services": [{"id": "a"}, {"id": "b"}]})
    version, snapshot = feed.version, feed.since(None)
    would_be = feed.hypothetical(Commit([*delete(0, "a").changes, *upsert(0, "c").changes]))
    assert list(would_be.rows()["services"]) == ["b", "c"]
    replaced = feed.hypothetical(Replacement((), 6, {"services": {"d": b"\x80"}}, is_whole=True))
    assert (replaced.rows()["services"], replaced.rows()["routes"]) == ({"d": b"\x80"}, {})
    assert (feed.version, feed.since(None)) == (version, snapshot)


def test_it_is_the_same_since_the_last_change_that_workers_hear_of() -> None:
    feed = Feed(DATABASE, 5, {})
    assert feed.same_since() == 5
    feed.apply(upsert(6, "a"))
    feed.apply(upsert(7, "c", "consumers"))
    feed.apply(upsert(8, "d", "consumers"))
    assert feed.same_since() == 6
    for sequence in range(3, 10):
        assert feed.is_as_at((DATABASE, sequence)) is (feed.same_since() <= sequence <= feed.sequence)
    feed.apply(Replacement((), 20, {}, is_whole=True))
    assert feed.same_since() == 20
