# SPDX-License-Identifier: Apache-2.0
"""Can everybody see what the workers know of names, and how old it is?"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pylae.admin.dns import shown
from pylae.control.dns import MAX_ITEM_BYTES, MAX_NAMES, MAX_RECORDS, Dns
from pylae.control.line import WorkerState
from tests.admin.entities import Maker, Row
from tests.admin.process import ControlProcess
from tests.admin.worker import ListeningWorker
from tests.support.admin import Admin
from tests.support.wait import until

BEGUN_S = 1_800_000_000.0
FIRST, SECOND = WorkerState(0, 1, 100, None), WorkerState(1, 1, 101, None)


def report(name: str, *addresses: str, age_s: float = 0, ttl_s: float = 30, now_s: float = BEGUN_S, **fields: Any) -> bytes:
    """What a worker says of a name; times as if it had asked `age_s` ago."""
    found_ms = (now_s - age_s) * 1000
    made = {
        "name": name,
        "kind": "A" if addresses else "none",
        "records": [{"address": address, "port": None, "weight": None, "name": None} for address in addresses],
        "ttl_s": ttl_s,
        "found_ms": found_ms,
        "expires_ms": found_ms + ttl_s * 1000,
        "stale_until_ms": found_ms + (ttl_s + 3600) * 1000,
        "is_stale": False,
        "error": None if addresses else "dns server error: 3 name error",
        "server": "127.0.0.1:53",
        "tried": [],
        "took_ms": 1.5,
    }
    return json.dumps({**made, **fields}).encode()


class Rig:
    """What workers report, under a clock that a test turns."""

    def __init__(self, max_records: int = MAX_RECORDS) -> None:
        self.now_s = BEGUN_S
        self.workers = [FIRST, SECOND]
        self.lines: list[str] = []
        self.dns = Dns(lambda: self.workers, self._log, lambda: self.now_s, max_records)

    def _log(self, level: str, text: str) -> None:
        self.lines.append(f"[{level}] {text}")

    def take(self, *items: bytes, worker: WorkerState | None = FIRST) -> None:
        self.dns.take(worker, items)

    def report(self, name: str, *addresses: str, worker: WorkerState = FIRST, **fields: Any) -> None:
        self.take(report(name, *addresses, now_s=self.now_s, **fields), worker=worker)

    def shown(self, name: str) -> dict[str, Any]:
        known = self.dns.known(name)
        assert known is not None
        return shown(known, self.now_s, is_whole=True)

    def names(self) -> list[str]:
        return [known.name for known in self.dns.every()]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_an_answer_grows_old_stale_and_expired(rig: Rig) -> None:
    rig.report("a.test", "10.0.0.1", "::1", age_s=5)
    told = rig.shown("a.test")
    assert told["records"] == [
        {"address": address, "port": None, "weight": None, "name": None} for address in ("10.0.0.1", "::1")
    ]
    assert (told["kind"], told["state"], told["ttl_s"], told["server"], told["took_ms"]) == (
        "A",
        "fresh",
        30,
        "127.0.0.1:53",
        1.5,
    )
    for later_s, state, expected in (
        (0, "fresh", (5, 25, 3625, False, 0)),
        (25, "stale", (30, 0, 3600, True, 0)),
        (40, "stale", (45, -15, 3585, True, 15)),
    ):
        rig.now_s = BEGUN_S + later_s
        told = rig.shown("a.test")
        ages = tuple(told[name] for name in ("age_s", "expires_in_s", "usable_for_s", "is_stale", "stale_for_s"))
        assert (told["state"], ages) == (state, expected)
    rig.now_s = BEGUN_S
    rig.report("a.test", "10.0.0.1", age_s=4000)
    told = rig.shown("a.test")
    assert (told["state"], told["is_stale"], told["stale_for_s"]) == ("expired", True, 3970)


def test_a_stale_answer_is_shown_with_the_error_that_keeps_it_so(rig: Rig) -> None:
    asked_again_ms = (BEGUN_S + 1) * 1000
    rig.report(
        "a.test", "10.0.0.1", age_s=50, is_stale=True, expires_ms=asked_again_ms, error="timeout", server=None, tried=["x"]
    )
    told = rig.shown("a.test")
    assert (told["state"], told["is_stale"], told["stale_for_s"], told["expires_in_s"]) == ("stale", True, 20, 1)
    assert (told["error"], told["server"], told["tried"]) == ("timeout", None, ["x"])


def test_an_answer_that_is_good_once_and_one_that_is_none_are_told(rig: Rig) -> None:
    rig.report("once.test", "10.0.0.1", ttl_s=0)
    assert (rig.shown("once.test")["state"], rig.shown("once.test")["is_stale"]) == ("once", False)
    rig.report("none.test")
    told = rig.shown("none.test")
    assert (told["state"], told["records"], told["error"]) == ("failed", [], "dns server error: 3 name error")
    assert (told["expires_in_s"], told["usable_for_s"]) == (30, None)
    rig.take(b'{"name":"bare.test","kind":"hosts","records":[{"address":"10.0.0.2"}]}')
    told = rig.shown("bare.test")
    assert [told[name] for name in ("state", "age_s", "expires_in_s", "usable_for_s", "stale_for_s")] == [
        "fresh",
        None,
        None,
        None,
        0,
    ]


def test_the_newest_of_all_workers_is_shown_and_who_knows_another(rig: Rig) -> None:
    rig.report("a.test", "10.0.0.2", age_s=1, worker=SECOND)
    rig.report("a.test", "10.0.0.1", age_s=31)
    told = rig.shown("A.Test.")
    assert [record["address"] for record in told["records"]] == ["10.0.0.2"]
    assert (told["state"], told["age_s"]) == ("fresh", 1)
    first, second = told["workers"]
    assert (first["index"], first["pid"], first["state"], first["age_s"], first["is_stale"]) == (0, 100, "stale", 31, True)
    assert (second["index"], second["pid"], second["state"], second["age_s"]) == (1, 101, "fresh", 1)
    assert [record["address"] for record in first["records"]] == ["10.0.0.1"]
    rig.now_s += 7
    assert [worker["reported_age_s"] for worker in rig.shown("a.test")["workers"]] == [7, 7]
    known = rig.dns.known("a.test")
    assert known is not None
    assert "records" not in shown(known, rig.now_s)["workers"][0]


def test_a_failure_of_one_worker_hides_no_answer_of_another(rig: Rig) -> None:
    rig.report("a.test", "10.0.0.1", age_s=40, worker=SECOND)
    rig.report("a.test", error="timeout")
    told = rig.shown("a.test")
    assert (told["state"], told["error"]) == ("stale", None)
    assert [(worker["state"], worker["error"]) for worker in told["workers"]] == [("failed", "timeout"), ("stale", None)]


def test_what_gone_workers_said_is_not_shown(rig: Rig) -> None:
    rig.report("a.test", "10.0.0.1")
    rig.report("b.test", "10.0.0.1", worker=SECOND)
    rig.workers = [SECOND]
    assert rig.names() == ["b.test"]
    assert rig.dns.known("a.test") is None
    # Another process in its place has said nothing yet.
    rig.workers = [WorkerState(0, 1, 102, None)]
    assert rig.names() == []


def test_what_is_not_reported_any_more_is_forgotten(rig: Rig) -> None:
    rig.report("a.test", "10.0.0.1")
    rig.report("b.test", "10.0.0.1")
    rig.report("b.test", "10.0.0.1", worker=SECOND)
    rig.now_s += 100
    rig.report("b.test", "10.0.0.1")
    rig.now_s += 100
    assert rig.names() == ["b.test"]
    assert len(rig.shown("b.test")["workers"]) == 1
    rig.report("c.test", "10.0.0.1")
    assert repr(rig.dns) == "<dns names=2>"


def test_a_worker_may_say_that_it_knows_nothing_any_more(rig: Rig) -> None:
    for worker in (FIRST, SECOND):
        rig.report("a.test", "10.0.0.1", worker=worker)
    rig.report("a.test", error=None)
    assert [worker["index"] for worker in rig.shown("a.test")["workers"]] == [1]
    rig.report("a.test", error=None, worker=SECOND)
    assert rig.names() == []
    assert repr(rig.dns) == "<dns names=0>"


def test_names_are_bounded_and_the_longest_unreported_goes(rig: Rig) -> None:
    for number in range(MAX_NAMES):
        rig.report(f"{number:05}.test", "10.0.0.1")
    rig.report("00000.test", "10.0.0.1")
    rig.report("new.test", "10.0.0.1")
    assert repr(rig.dns) == f"<dns names={MAX_NAMES}>"
    assert rig.dns.known("00000.test") is not None
    assert rig.dns.known("00001.test") is None


def test_records_are_bounded_however_many_a_name_has() -> None:
    rig = Rig(max_records=10)
    for number in range(4):
        rig.report(f"{number}.test", *(f"10.0.0.{last}" for last in range(4)))
    assert rig.names() == ["2.test", "3.test"]
    # What is said anew takes the place of what was said before.
    for _ in range(9):
        rig.report("3.test", "10.0.0.1")
    assert rig.names() == ["2.test", "3.test"]
    rig.report("large.test", *(f"10.0.0.{last}" for last in range(50)))
    assert rig.names() == ["large.test"]


def test_a_name_with_a_dot_at_its_end_is_another(rig: Rig) -> None:
    rig.report("db", "10.0.0.1")
    assert rig.shown("db.")["name"] == "db"
    rig.report("db.", "10.0.0.2")
    assert rig.names() == ["db", "db."]
    assert [rig.shown(name)["records"][0]["address"] for name in ("db", "DB.")] == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    "item",
    [
        *(b"", b"{", b"[]", b"null", b"\xff", b'{"name":"a.test"}', b'{"name":"","kind":"A"}', b'{"name":7,"kind":"A"}'),
        b'{"name":"a.test","kind":"A","records":[{"address":"nowhere"}]}',
        b'{"name":"a.test","kind":"A","records":[{"address":"10.0.0.1","port":70000}]}',
        b'{"name":"' + b"a" * 256 + b'","kind":"A"}',
        b'{"name":"a.test","kind":"A","tried":["' + b"a" * MAX_ITEM_BYTES + b'"]}',
        "no bytes",
        7,
    ],
)
def test_what_cannot_be_read_is_counted_and_said_once(rig: Rig, item: Any) -> None:
    rig.take(item, item, report("good.test", "10.0.0.1"))
    assert rig.names() == ["good.test"]
    assert rig.dns.unreadable_count == 2
    assert len(rig.lines) == 1
    assert rig.lines[0].startswith("[error] a report of a name cannot be read: ")
    assert len(rig.lines[0]) < 600


def test_nobody_is_believed_who_has_not_said_hello(rig: Rig) -> None:
    rig.take(report("a.test", "10.0.0.1"), worker=None)
    assert rig.names() == []


# === over the Admin and the Status API ===


@pytest.fixture
def worker(control: ControlProcess) -> Iterator[ListeningWorker]:
    with ListeningWorker(control.prefix) as worker:
        yield worker


@pytest.fixture
def maker(admin: Admin) -> Maker:
    return Maker(admin)


def tell(admin: Admin, worker: ListeningWorker, name: str, *addresses: str, **fields: Any) -> Row:
    """Makes a worker report a name; what the API then shows of it."""
    worker.stream("dns", report(name, *addresses, now_s=time.time(), **fields))
    until(lambda: admin.call("GET", f"/dns/{name}").status == 200, f"{name} to be known")
    row: Row = admin.get(f"/dns/{name}")
    return row


def test_every_answer_can_be_read_with_its_age(control: ControlProcess, worker: ListeningWorker) -> None:
    one = tell(control.admin, worker, "age.test", "10.0.0.1", age_s=45)
    assert one["name"] == "age.test"
    assert (one["state"], one["is_stale"], one["kind"], one["ttl_s"]) == ("stale", True, "A", 30)
    assert 45 <= one["age_s"] < 60
    assert 15 <= one["stale_for_s"] < 30
    assert -30 < one["expires_in_s"] <= -15
    (of_worker,) = one["workers"]
    assert (of_worker["index"], of_worker["generation"], of_worker["pid"]) == (0, 1, 4711)
    for api in (control.admin, control.status):
        page = api.get("/dns?name=age.test")
        assert page["next"] is None
        assert [row["name"] for row in page["data"]] == ["age.test"]
        assert api.get("/dns/AGE.test.")["name"] == "age.test"
        missing = api.call("GET", "/dns/nothing.test")
        assert (missing.status, missing.json) == (404, {"message": "Not found"})
        for method in ("POST", "PUT", "DELETE"):
            assert api.call(method, "/dns").status == 405
    assert control.admin.call("GET", "/dns", headers={"Origin": "http://elsewhere.test"}).status == 403


def test_names_come_in_pages(control: ControlProcess, worker: ListeningWorker) -> None:
    admin = control.admin
    names = [f"page-{number}.test" for number in range(5)]
    for name in (*reversed(names), "other.test"):
        tell(admin, worker, name, "10.0.0.1")
    seen, follow = [], "/dns?name=page-*&size=2"
    while follow is not None:
        page = admin.get(follow)
        assert ("offset" in page) == (page["next"] is not None)
        seen.append([row["name"] for row in page["data"]])
        follow = page["next"]
    assert seen == [names[:2], names[2:4], names[4:]]
    assert admin.get("/dns?name=page-*&size=5")["next"] is None
    assert admin.get("/dns?name=PAGE-1.test.")["data"][0]["name"] == "page-1.test"
    assert admin.get("/dns?name=page-")["data"] == []
    for query, code in (("size=0", 9), ("offset=x", 7), ("name=", 11)):
        refused = admin.call("GET", f"/dns?{query}")
        assert (refused.status, refused.json["code"]) == (400, code), query


def test_a_name_is_shown_as_it_is(control: ControlProcess, worker: ListeningWorker) -> None:
    name = 'x"><script>\u2028\n.test'
    worker.stream("dns", report(name, "10.0.0.1", now_s=time.time()))
    until(lambda: any(row["name"] == name for row in control.admin.get("/dns?name=x*")["data"]), "the name")


def test_a_worker_that_leaves_takes_what_it_said_with_it(control: ControlProcess) -> None:
    with ListeningWorker(control.prefix, pid=1, index=1) as leaving:
        tell(control.admin, leaving, "left.test", "10.0.0.1")
    until(lambda: control.admin.call("GET", "/dns/left.test").status == 404, "the name to be forgotten")


def test_rubbish_ends_no_line(control: ControlProcess, worker: ListeningWorker) -> None:
    worker.stream("dns", b"\x00rubbish", lost_count=3)
    tell(control.admin, worker, "after-rubbish.test", "10.0.0.1")
    assert control.error_log.count("a report of a name cannot be read") == 1


@pytest.mark.parametrize("database", ["sqlite", "off"])
def test_kongs_new_client_counts(tmp_path: Path, database: str) -> None:
    settings = {"new_dns_client": "on", "database": database, "nginx_worker_processes": "3"}
    with ControlProcess(tmp_path, settings) as process, ListeningWorker(process.prefix) as worker:
        assert process.admin.get("/status/dns") == {"worker": {"id": 0, "count": 3}, "stats": {}}
        tell(process.admin, worker, "a.test", "10.0.0.1", age_s=40)
        tell(process.admin, worker, "a.test", "10.0.0.1", age_s=35, is_stale=True)
        tell(process.admin, worker, "a.test", "10.0.0.1", age_s=30, is_stale=True, error="timeout")
        tell(process.admin, worker, "none.test")
        expected = {
            "a.test|A": {"query": 3, "query_succ": 2, "query_fail": 1, "stale": 1},
            "none.test|none": {"query": 1, "query_succ": 0, "query_fail": 1, "stale": 0},
        }
        for api in (process.admin, process.status):
            until(lambda api=api: api.get("/status/dns")["stats"] == expected, "the counts")  # type: ignore[misc]
            assert [row["name"] for row in api.get("/dns")["data"]] == ["a.test", "none.test"]


def test_kongs_old_client_does_not_count(control: ControlProcess) -> None:
    for api in (control.admin, control.status):
        answer = api.call("GET", "/status/dns")
        assert (answer.status, answer.json) == (501, {"message": "not implemented with the legacy DNS client"})


# === the addresses of Targets ===

CHECKED: Row = {"healthchecks": {"passive": {"unhealthy": {"http_failures": 1}}}}


def target_of(maker: Maker, target: str, **fields: Any) -> tuple[str, Row]:
    """The path of an Upstream, and its only Target."""
    upstream = maker.row("upstreams", **fields)
    return f"/upstreams/{upstream['name']}", maker.row("targets", upstream={"id": upstream["id"]}, target=target, weight=7)


def test_a_target_has_the_addresses_that_workers_have(admin: Admin, maker: Maker, worker: ListeningWorker) -> None:
    path, target = target_of(maker, "two.test:81", **CHECKED)
    tell(admin, worker, "two.test", "10.0.0.1", "10.0.0.2", age_s=40, error="timeout")
    assert admin.call("PUT", f"{path}/targets/{target['id']}/10.0.0.2:81/unhealthy").status == 204
    (row,) = admin.get(f"{path}/health")["data"]
    assert (row["health"], row["data"]["dns"], row["data"]["nodeWeight"]) == ("HEALTHY", "A", 7)
    assert row["data"]["weight"] == {"total": 14, "available": 7, "unavailable": 7}
    assert [(one["ip"], one["port"], one["weight"], one["health"]) for one in row["data"]["addresses"]] == [
        ("10.0.0.1", 81, 7, "HEALTHY"),
        ("10.0.0.2", 81, 7, "UNHEALTHY"),
    ]
    about = row["data"]["pylae"]
    assert (about["known_by"], about["state"], about["is_stale"], about["error"]) == ("workers", "stale", True, "timeout")
    assert about["age_s"] >= 40
    admin.call("PUT", f"{path}/targets/{target['id']}/unhealthy")
    (row,) = admin.get(f"{path}/health")["data"]
    assert (row["health"], row["data"]["weight"]["available"]) == ("UNHEALTHY", 0)


def test_srv_records_have_their_own_port_and_weight(admin: Admin, maker: Maker, worker: ListeningWorker) -> None:
    path, target = target_of(maker, "_http._tcp.srv.test:81", **CHECKED)
    records = [
        {"address": "10.0.0.1", "port": 8001, "weight": 10, "name": "one.test"},
        {"address": "10.0.0.1", "port": 8001, "weight": 20, "name": "once-more.test"},
        {"address": "10.0.0.1", "port": 8002, "weight": 0, "name": "two.test"},
        {"address": "::1", "port": None, "weight": None, "name": "three.test"},
    ]
    tell(admin, worker, "_http._tcp.srv.test", kind="SRV", records=records, error=None)
    (row,) = admin.get(f"{path}/health")["data"]
    assert row["data"]["dns"] == "SRV"
    assert [(one["ip"], one["port"], one["weight"]) for one in row["data"]["addresses"]] == [
        ("10.0.0.1", 8001, 30),
        ("10.0.0.1", 8002, 1),
        ("::1", 81, 7),
    ]
    assert admin.call("PUT", f"{path}/targets/{target['id']}/10.0.0.1:8001/unhealthy").status == 204
    data = admin.get(f"{path}/health?balancer_health=1")["data"]
    assert data["details"]["weight"] == {"total": 38, "available": 8, "unavailable": 30}
    assert admin.call("PUT", f"{path}/targets/{target['id']}/10.0.0.1:81/unhealthy").status == 404
    assert admin.call("PUT", f"{path}/targets/{target['id']}/unhealthy").status == 204
    (row,) = admin.get(f"{path}/health")["data"]
    assert {one["health"] for one in row["data"]["addresses"]} == {"UNHEALTHY"}
    admin.patch(f"{path}/targets/{target['id']}", {"weight": 0})
    assert admin.get(f"{path}/health")["data"][0]["data"]["weight"]["total"] == 0


def test_a_name_without_ttl_is_chosen_as_one(admin: Admin, maker: Maker, worker: ListeningWorker) -> None:
    path, target = target_of(maker, "once.test:81", **CHECKED)
    tell(admin, worker, "once.test", "10.0.0.1", "10.0.0.2", ttl_s=0)
    (row,) = admin.get(f"{path}/health")["data"]
    assert (row["health"], row["data"]["dns"]) == ("HEALTHY", "ttl=0, virtual SRV")
    assert row["data"]["weight"] == {"total": 7, "available": 7, "unavailable": 0}
    assert admin.call("PUT", f"{path}/targets/{target['id']}/once.test:81/unhealthy").status == 204
    (row,) = admin.get(f"{path}/health")["data"]
    # Its share stays, as it does in workers: the next answer may name an address that is good.
    assert (row["health"], row["data"]["weight"]["available"]) == ("UNHEALTHY", 7)


def test_a_failed_question_is_shown_with_the_workers_words(admin: Admin, maker: Maker, worker: ListeningWorker) -> None:
    path, _ = target_of(maker, "failed.test:81", **CHECKED)
    tell(admin, worker, "failed.test", error="dns server error: 2 server failure")
    (row,) = admin.get(f"{path}/health")["data"]
    assert (row["health"], row["data"]["dns"]) == ("DNS_ERROR", "dns server error: 2 server failure")
    assert (row["data"]["addresses"], row["data"]["weight"]["total"]) == ([], 0)
    assert (row["data"]["pylae"]["known_by"], row["data"]["pylae"]["state"]) == ("workers", "failed")
    tell(admin, worker, "failed.test", "10.0.0.1")
    until(lambda: admin.get(f"{path}/health")["data"][0]["health"] == "HEALTHY", "the name to come back")


def test_control_asks_for_a_name_that_no_worker_has_reported(admin: Admin, maker: Maker) -> None:
    path, _ = target_of(maker, "localhost:81", **CHECKED)
    (row,) = admin.get(f"{path}/health")["data"]
    assert row["data"]["pylae"] == {"known_by": "control"}
    assert row["data"]["addresses"]
