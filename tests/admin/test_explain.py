# SPDX-License-Identifier: Apache-2.0
"""Does the Admin API explain a request whose record a worker streamed?"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pylae.control.explain import KINDS, MAX_RECORD_BYTES, Kind
from tests.admin.entities import Maker, Row
from tests.admin.process import ControlProcess
from tests.admin.worker import ListeningWorker
from tests.support.admin import Admin
from tests.support.wait import until

LETTERS = {kind: chr(letter) for letter, kind in KINDS.items()}
TOKEN = "a-token-of-sixteen"
ROUTE = {"id": "057f17ae-43fc-4fa8-b19a-06197d8222d6", "name": "orders"}
SERVICE = {"id": "5f1d0a70-0d3a-4e0e-a2a2-1d5fbb2a4b7e", "name": "backend", "host": "10.0.0.1", "port": 8080, "protocol": "http"}
REQUEST: Row = {
    "line": "GET /orders?key=*** HTTP/1.1",
    "method": "GET",
    "scheme": "http",
    "host": "shop.test",
    "path": "/orders",
    "query": ["key"],
    "version": "1.1",
    "headers": [["Host", "shop.test"], ["Authorization", None], ["Cookie", None]],
}
RECORD: Row = {
    "time": "2026-11-25T02:00:00.000Z",
    "status": 502,
    "fault": "connect_refused",
    "side": "upstream",
    "room": "upstream",
    "phrase": "connection refused",
    "phase": "connect",
    "response_flag": "UF",
    "request": REQUEST,
    "client": {"ip": "192.0.2.7", "peer": "192.0.2.7"},
    "route": ROUTE,
    "service": SERVICE,
    "attempts": [
        {
            "host": "10.0.0.1",
            "address": "10.0.0.1:8080",
            "offset_ms": 0.4,
            "connect_ms": 0.3,
            "ended": "refused",
            "fault": "connect_refused",
        },
    ],
    "duration_ms": 1.25,
}


class Streamer(ListeningWorker):
    """A worker that streams records, each with an id of its own."""

    count = 0

    def record(self, kind: Kind = "failed", **fields: Any) -> str:
        """Streams a record and returns the id of its request."""
        Streamer.count += 1
        id_ = f"{Streamer.count:032x}"
        record = {**RECORD, "kind": kind, "request_id": id_, **fields}
        self.stream("explain", f"{id_} {LETTERS[kind]} {json.dumps(record)}".encode())
        return id_


@pytest.fixture
def worker(control: ControlProcess) -> Iterator[Streamer]:
    with Streamer(control.prefix) as streamer:
        yield streamer


@pytest.fixture
def maker(admin: Admin) -> Maker:
    return Maker(admin)


def ids(page: Row) -> list[str]:
    return [row["request_id"] for row in page["data"]]


def test_a_failed_request_is_explained(admin: Admin, worker: Streamer) -> None:
    id_ = worker.record()
    answer = admin.call("GET", f"/explain/{id_}")
    assert answer.status == 200
    told = answer.json
    assert {name: told[name] for name in ("request_id", "time", "kind", "status", "duration_ms")} == {
        "request_id": id_,
        "time": RECORD["time"],
        "kind": "failed",
        "status": 502,
        "duration_ms": 1.25,
    }
    assert (told["route"]["id"], told["route"]["name"]) == (ROUTE["id"], "orders")
    assert told["service"]["name"] == "backend"
    assert [attempt["address"] for attempt in told["attempts"]] == ["10.0.0.1:8080"]
    verdict = told["verdict"]
    assert verdict["cause"] == "connect_refused"
    assert 0 < verdict["confidence"] <= 1
    assert verdict["evidence"]
    assert verdict["cure"]
    assert admin.call("HEAD", f"/explain/{id_}").headers["content-length"] == answer.headers["content-length"]
    assert admin.get(f"/explain/{id_.upper()}") == told


def test_the_calls_of_a_cure_go_to_this_gateway(control: ControlProcess, worker: Streamer) -> None:
    told = control.admin.get(f"/explain/{worker.record(fault='protocol_mismatch')}")
    for cure in told["verdict"]["cure"]:
        for found in re.findall(r"https?://localhost:(\d+)", cure):
            assert int(found) == control.admin_port


def test_what_was_withheld_is_not_shown(admin: Admin, worker: Streamer) -> None:
    headers = dict(admin.get(f"/explain/{worker.record()}")["request"]["headers"])
    assert headers == {"Host": "shop.test", "Authorization": None, "Cookie": None}


def test_an_unknown_request_is_not_found_and_a_malformed_id_is_refused(admin: Admin) -> None:
    answer = admin.call("GET", f"/explain/{'f' * 32}")
    assert (answer.status, answer.json) == (404, {"message": "Not found"})
    for given in ("f" * 31, "f" * 33, "x" * 32, "%00", "..%2f", quote("\u2028" * 32), "a" * 2000):
        refused = admin.call("GET", f"/explain/{given}")
        assert refused.status == 400, given
        assert refused.json["message"].endswith("expected 32 hexadecimal digits, as in X-Kong-Request-Id")
        assert len(refused.body) < 1000
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert admin.call(method, "/explain").status == 405


def test_a_record_that_is_behind_the_question_is_waited_for(control: ControlProcess, worker: Streamer) -> None:
    # The question is sent before the record is; whichever control reads first, the answer is the explanation.
    for _ in range(20):
        id_ = f"{Streamer.count + 1:032x}"
        asked = http.client.HTTPConnection("127.0.0.1", control.admin_port, timeout=10)
        asked.request("GET", f"/explain/{id_}")
        assert worker.record() == id_
        assert json.loads(asked.getresponse().read())["request_id"] == id_
        asked.close()


def test_requests_are_listed_newest_first_and_in_pages(admin: Admin, worker: Streamer) -> None:
    route = {"id": None, "name": "paged"}
    made = [worker.record(("failed", "refused", "sample")[number % 3], route=route) for number in range(7)]
    until(lambda: len(ids(admin.get("/explain?route=paged"))) == 7, "the records")
    assert ids(admin.get("/explain?route=paged")) == made[::-1]
    seen, follow = [], "/explain?route=paged&size=3"
    while follow is not None:
        page = admin.get(follow)
        assert ("offset" in page) == (page["next"] is not None)
        seen.append(ids(page))
        follow = page["next"]
    assert seen == [made[6:3:-1], made[3:0:-1], made[:1]]
    row = admin.get("/explain?route=paged&kind=failed&size=1")["data"][0]
    assert row == {
        "request_id": made[6],
        "time": RECORD["time"],
        "kind": "failed",
        "status": 502,
        "request": {"method": "GET", "host": "shop.test", "path": "/orders"},
        "route": route,
        "service": {"id": SERVICE["id"], "name": "backend"},
        **{name: row[name] for name in ("cause", "hop", "phase", "confidence", "summary")},
        "duration_ms": 1.25,
        "probe": None,
    }
    assert row["cause"] == "connect_refused"


def test_a_list_is_filtered(admin: Admin, worker: Streamer) -> None:
    mine: dict[str, Any] = {"route": {"id": "00000000-0000-4000-8000-000000000001", "name": "filtered"}}
    made = {
        "refused": worker.record("refused", status=404, fault="no_route", side="client", service=None, **mine),
        "failed": worker.record(status=504, fault="read_timeout", service={"id": "s-1", "name": "slow"}, **mine),
        "probe": worker.record("probe", status=200, fault=None, probe="00000000000000ff", **mine),
    }
    path = "/explain?route=filtered"
    until(lambda: len(ids(admin.get(path))) == 3, "the records")
    for query, wanted in (
        ("kind=refused", ["refused"]),
        ("cause=read_timeout", ["failed"]),
        ("cause=reset", []),
        ("status=504", ["failed"]),
        ("status=5xx", ["failed"]),
        ("status=4xx", ["refused"]),
        ("service=slow", ["failed"]),
        ("service=s-1", ["failed"]),
        ("probe=00000000000000ff", ["probe"]),
        ("probe=00000000000000ff&kind=failed", []),
        ("since=1h", ["probe", "failed", "refused"]),
        (f"since={time.time() - 3600:.3f}", ["probe", "failed", "refused"]),
        (f"since={time.time() + 3600:.0f}", []),
        ("since=2000-01-01T00:00:00Z", ["probe", "failed", "refused"]),
        ("since=2000-01-01T00:00:00+01:00", ["probe", "failed", "refused"]),
        ("since=2100-01-01T00:00:00", []),
    ):
        assert ids(admin.get(f"{path}&{query}")) == [made[name] for name in wanted], query
    by_id = admin.get("/explain?route=00000000-0000-4000-8000-000000000001&size=1000")
    assert ids(by_id) == [made[name] for name in ("probe", "failed", "refused")]
    assert [row["service"] for row in by_id["data"]][2] is None


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("size=0", 9),
        ("offset=x", 7),
        ("offset=WyJ4Il0", 7),
        *((f"{name}=", 11) for name in ("kind", "cause", "status", "route", "service", "since", "probe")),
        ("kind=F", 11),
        ("status=50", 11),
        ("status=0xx", 11),
        ("since=yesterday", 11),
        ("since=1e400", 11),
    ],
)
def test_a_query_that_means_nothing_is_refused(admin: Admin, query: str, code: int) -> None:
    refused = admin.call("GET", f"/explain?{query}")
    assert (refused.status, refused.json["code"]) == (400, code)


def config_after(maker: Maker, worker: Streamer, table: str, **fields: Any) -> tuple[Row, str]:
    """A row that was just made, and what the record of a request served with it says of the configuration."""
    row = maker.row(table, **fields)
    _, body = worker.next(lambda parts: parts[0] == "delta")
    return row, f"{body['database_id']}:{body['to']}"


def test_whether_the_configuration_is_the_one_in_force(admin: Admin, maker: Maker, worker: Streamer) -> None:
    _, config = config_after(maker, worker, "services")
    id_ = worker.record(config=config)
    told = admin.get(f"/explain/{id_}")
    assert (told["config"], told["is_config_current"]) == (config, True)
    # Who calls is no part of it.
    maker.row("consumers")
    assert admin.get(f"/explain/{id_}")["is_config_current"] is True
    maker.row("services")
    assert admin.get(f"/explain/{id_}")["is_config_current"] is False
    database_id, _, sequence = config.rpartition(":")
    for other in (None, "", "x", f"{database_id}:", f"{database_id}:x", f"{database_id}:{int(sequence) + 1000}", f"x:{sequence}"):
        assert admin.get(f"/explain/{worker.record(config=other)}")["is_config_current"] is False


def test_why_a_route_was_chosen_and_which_were_near_is_told(admin: Admin, maker: Maker, worker: Streamer) -> None:
    service = maker.row("services")
    worker.next(lambda parts: parts[0] == "delta")
    near, _ = config_after(maker, worker, "routes", service={"id": service["id"]}, paths=["/orders"], methods=["POST"])
    chosen, config = config_after(maker, worker, "routes", service={"id": service["id"]}, paths=["/orders"], methods=["GET"])
    route = {"id": chosen["id"], "name": chosen["name"]}
    told = admin.get(f"/explain/{worker.record(config=config, route=route)}")["route"]
    assert (told["id"], told["name"]) == (chosen["id"], chosen["name"])
    assert {why["condition"] for why in told["why"]} == {"paths", "methods"}
    nearest = {row["id"]: row for row in told["nearest"]}
    assert [failed["condition"] for failed in nearest[near["id"]]["failed"]] == ["methods"]
    lost = admin.get(
        f"/explain/{worker.record('refused', config=config, route=None, fault='no_route', request={**REQUEST, 'method': 'PUT'})}"
    )["route"]
    assert (lost["id"], lost["why"]) == (None, [])
    assert {near["id"], chosen["id"]} <= {row["id"] for row in lost["nearest"]}
    # The Routes of now say nothing of a request that was served with others.
    stale = admin.get(f"/explain/{worker.record(config='x:1', route=route)}")["route"]
    assert (stale["why"], stale["nearest"]) == ([], [])
    # Neither do they of a request of which too little is known.
    assert admin.get(f"/explain/{worker.record(config=config, request=None)}")["route"]["nearest"] == []


def test_hostile_text_is_shown_as_it_is_and_forges_no_line(control: ControlProcess, worker: Streamer) -> None:
    nasty = 'x" y=\\"z\n2026/11/25 02:00:00 [emerg] 1#0: forged\u2028\u202e</script>'
    id_ = worker.record(detail=nasty, phrase=nasty, service={**SERVICE, "name": nasty}, request={**REQUEST, "path": nasty})
    told = control.admin.get(f"/explain/{id_}")
    assert told["request"]["path"] == nasty
    until(lambda: id_ in control.error_log, "the line")
    assert not [line for line in control.error_log.splitlines() if "[emerg]" in line and "request failed" not in line]
    (line,) = (line for line in control.error_log.splitlines() if id_ in line)
    assert "[warn]" in line
    assert "request failed: status=502 cause=connect_refused hop=" in line
    assert line.endswith(f'request_id="{id_}"')
    assert len(line.encode()) < 2048


def test_rubbish_ends_no_line(control: ControlProcess, worker: Streamer) -> None:
    worker.stream("explain", b"\x00", b"", b"F {}", b"[" * 20_000, b"x" * (MAX_RECORD_BYTES + 1), lost_count=2)
    worker.stream("explain", f"{'a' * 32} F ".encode() + b'{"status":' + b"[" * 10_000 + b"}")
    assert control.admin.get(f"/explain/{worker.record()}")["status"] == 502
    assert control.error_log.count("the record of a request cannot be read") == 1
    assert control.admin.call("GET", f"/explain/{'a' * 32}").status == 404


def test_the_status_api_explains_nothing(control: ControlProcess, worker: Streamer) -> None:
    id_ = worker.record()
    assert control.admin.call("GET", f"/explain/{id_}").status == 200
    for path in ("/explain", f"/explain/{id_}"):
        assert control.status.call("GET", path).status == 404


def test_who_has_no_token_is_told_nothing(tmp_path: Path) -> None:
    with ControlProcess(tmp_path, {"admin_auth_token": TOKEN}) as process, Streamer(process.prefix) as streamer:
        id_ = streamer.record()
        for path in ("/explain", f"/explain/{id_}", f"/explain/{'f' * 32}", "/explain/x"):
            refused = process.admin.call("GET", path)
            assert (refused.status, refused.json) == (401, {"message": "Unauthorized"}), path
        shown = process.admin.call("GET", f"/explain/{id_}", headers={"Authorization": f"Bearer {TOKEN}"})
        assert (shown.status, shown.json["request_id"]) == (200, id_)


def test_no_page_of_elsewhere_reads_it(admin: Admin) -> None:
    assert admin.call("GET", "/explain", headers={"Origin": "http://elsewhere.test"}).status == 403


@pytest.mark.parametrize("database", ["sqlite", "off"])
def test_how_many_are_kept_is_a_setting(tmp_path: Path, database: str) -> None:
    settings = {"explain_keep_count": "2", "database": database}
    with ControlProcess(tmp_path, settings) as process, Streamer(process.prefix) as streamer:
        made = [streamer.record() for _ in range(3)]
        assert process.admin.get(f"/explain/{made[2]}")["request_id"] == made[2]
        assert ids(process.admin.get("/explain")) == [made[2], made[1]]
        assert process.admin.call("GET", f"/explain/{made[0]}").status == 404


def test_a_flood_is_fifty_lines_a_second(tmp_path: Path) -> None:
    with ControlProcess(tmp_path) as process, Streamer(process.prefix) as streamer:
        made = [streamer.record() for _ in range(400)]
        assert process.admin.get(f"/explain/{made[-1]}")["request_id"] == made[-1]
        told = re.compile(r"request failed: (\d+) more within a second: \d+ cause=connect_refused service=\"backend\"; hint")

        def told_count() -> int:
            single = process.error_log.count("request failed: status=")
            return single + sum(int(count) for count in told.findall(process.error_log))

        until(lambda: told_count() == 400, "every failure to be told or counted")
        assert told.search(process.error_log)
