# SPDX-License-Identifier: Apache-2.0
"""Is a recorded request walked through its plugins as it was, and nothing made up that no record keeps?"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pylae.doctor.replay.asking import NotKept, order_of_record, rows_that_ran
from pylae.doctor.replay.exchange import exchange_of
from pylae.doctor.replay.order import Order, Stub
from pylae.doctor.replay.watching import Watch
from tests.doctor_replay.chains import CONSUMER, culprit, member_of, record, row, run_record, trouble_of, whole_of


def test_record_goes_round_by_way_of_its_line_of_json() -> None:
    line = json.dumps(record())
    rows = [row("bringer", header="X-B"), culprit("raise")]
    report = run_record(json.loads(line), rows)
    trouble = trouble_of(report)
    assert (trouble.kind, trouble.what) == ("raised", "KeyError")
    assert report.smallest == [1]


def test_request_goes_upstream_as_the_route_rewrites_it() -> None:
    made = record(request={"path": "/orders/7"}, service={"protocol": "https"})
    assert whole_of(run_record(made, [])).target == "GET https /v1/7"
    kept = record(request={"path": "/orders/7"}, route={"strip_path": False})
    assert whole_of(run_record(kept, [])).target == "GET http /v1/orders/7"


@pytest.mark.parametrize("does", ["read_header", "read_header_quietly"])
def test_plugin_that_asks_for_a_withheld_header_is_unknown(does: str) -> None:
    report = run_record(record(), [culprit(does), row("bringer", header="X-B")])
    member = member_of(report, "culprit")
    assert member.mode == "unknown"
    assert member.reason == "it asks for the value of the header `authorization`, which no record keeps"
    assert whole_of(report).trouble is None


def test_withheld_header_that_is_replaced_or_removed_makes_nobody_unknown() -> None:
    rows = [
        row("request-transformer", remove={"headers": ["Authorization"]}),
        row("bringer", header="authorization", value="Basic x"),
    ]
    report = run_record(record(), rows)
    assert {member.mode for member in report.members} == {"run"}


@pytest.mark.parametrize(
    ("request_part", "does", "what"),
    [
        ({"query": ["id"]}, "read_query", "the query"),
        ({"query": None, "line": "GET /orders?id=*** HTTP/1.1"}, "read_query", "the query"),
        ({"body_bytes": 4}, "read_body", "the body of the request"),
        ({"body_bytes": None}, "read_body", "the body of the request"),
        ({"headers": None}, "read_header", "the header `authorization`"),
        ({"headers": [["Authorization", "x" * 256]]}, "read_header", "the value of the header `authorization`"),
        ({"headers": [["Authorization", "Bearer \\xff"]]}, "read_header", "the value of the header `authorization`"),
    ],
)
def test_what_the_record_does_not_hold_is_unknown(request_part: dict[str, Any], does: str, what: str) -> None:
    report = run_record(record(request=request_part), [culprit(does)])
    assert member_of(report, "culprit").reason == f"it asks for {what}, which no record keeps"


@pytest.mark.parametrize(
    ("request_part", "does", "what"),
    [({"query": []}, "read_query", "400"), ({"body_bytes": 0}, "read_body", "400"), ({"headers": []}, "read_header", "401")],
)
def test_what_was_not_there_is_known(request_part: dict[str, Any], does: str, what: str) -> None:
    assert trouble_of(run_record(record(request=request_part), [culprit(does)])).what == what


def test_body_that_is_larger_than_a_plugin_reads_is_known_to_be_none() -> None:
    assert trouble_of(run_record(record(request={"body_bytes": 5000}), [culprit("read_body")])).what == "400"


def test_consumer_of_the_record_is_who_the_client_was() -> None:
    made = record(client={"consumer_id": CONSUMER["id"], "credential_id": "k1"})
    rows = [row("key-auth"), culprit("need_user")]
    assert whole_of(run_record(made, rows, consumer=CONSUMER)).trouble is None
    only_id = run_record(made, rows)
    assert member_of(only_id, "culprit").reason == "it asks for `username` of the Consumer, which no record keeps"
    assert whole_of(run_record(made, [row("key-auth"), culprit("need_somebody")])).trouble is None


def test_client_of_whom_the_record_says_nothing_is_unknown_after_authentication_and_nobody_without() -> None:
    report = run_record(record(), [row("key-auth"), culprit("need_somebody")])
    assert member_of(report, "culprit").reason == "it asks for who the client was, which no record keeps"
    assert trouble_of(run_record(record(), [culprit("need_somebody")])).what == "403"


def test_reference_to_a_vault_makes_a_plugin_unknown() -> None:
    report = run_record(record(), [row("bringer", header="X-Key", value="{vault://env/key}")])
    assert member_of(report, "bringer").mode == "unknown"


def test_disabled_rows_do_not_apply_and_rows_that_ran_are_told_from_others() -> None:
    rows = [{**culprit("raise"), "enabled": False}, row("bringer", header="X-B")]
    assert [applied.name for applied in order_of_record(record(), rows).plugins] == ["bringer"]
    assert rows_that_ran(record(), rows) == rows[:1]


def test_answer_that_was_recorded_stands_in_for_the_upstream() -> None:
    made = record(attempts=[{"status": 404}], answer={"content_type": "application/problem+json"})
    order = order_of_record(made, [])
    assert order.stub == Stub(404, (("Content-Type", "application/problem+json"),), b"{}")
    report = run_record(made, [row("bringer", header="X-B")])
    assert (whole_of(report).trouble, whole_of(report).status) == (None, 404)


HOSTILE: list[Any] = [
    None,
    7,
    -1,
    1 << 80,
    1.5,
    True,
    "\x00\r\n\x1b[31m",
    "\ud800",
    "x" * 100_000,
    [],
    [None, 7, [], {}, ["a"], ["a", "b", "c"], ["Bad Name", "x"], ["X-A", "b\r\nc"], ["X-B", 7], ["\ud800", "\udfff"]],
    {"id": {"id": [1]}},
    [[[[[[]]]]]],
]


def with_hostile(hostile: Any) -> dict[str, Any]:
    """A record that says what was asked, and nothing else that is of use."""
    parts = ("time", "status", "fault", "plugin", "plugins", "attempts", "answer", "route", "service", "client", "request_id")
    made = record(**dict.fromkeys(parts, hostile))
    names = ("scheme", "host", "query", "body_bytes", "head_bytes", "headers", "version")
    made["request"] = {**made["request"], **dict.fromkeys(names, hostile)}
    return made


def test_hostile_record_is_run_like_any_other() -> None:
    assert trouble_of(run_record(with_hostile(HOSTILE[-3]), [culprit("raise")])).what == "KeyError"


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda value: repr(value)[:20])
def test_hostile_fields_of_a_record_harm_nobody(hostile: Any) -> None:
    order = order_of_record(with_hostile(hostile), [culprit("raise")])
    assert msgspec.json.decode(msgspec.json.encode(order), type=Order) == order
    assert exchange_of(order, Watch()).service.request.method == "GET"
    assert rows_that_ran({"plugins": [hostile, {"id": hostile}]}, [culprit("raise")]) == []
    for part in ("route", "service", "client"):
        inner = record(**{part: dict.fromkeys([*record()[part], "path", "protocol"], hostile)})
        assert len(order_of_record(inner, [culprit("raise")]).plugins) == 1


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda value: repr(value)[:20])
def test_record_that_does_not_say_what_was_asked_is_refused(hostile: Any) -> None:
    line_only = record(request={"path": hostile, "line": hostile})
    for made in ({"request": hostile}, line_only, record(request={"method": hostile, "line": 1})):
        with pytest.raises(NotKept):
            order_of_record(made, [])


def test_request_line_says_it_where_the_parts_do_not() -> None:
    made = record(request={"method": None, "path": None, "query": None, "line": "PUT /a/b?c=*** HTTP/1.1"})
    asked = order_of_record(made, []).asked
    assert (asked.method, asked.path, asked.query) == ("PUT", "/a/b", None)
