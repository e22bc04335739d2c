# SPDX-License-Identifier: Apache-2.0
"""Does a replay show what the gateway did, of the very record that the gateway made?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pylae.doctor.replay.asking import order_of_record
from pylae.doctor.replay.findings import findings
from pylae.doctor.replay.order import Order, Report
from pylae.doctor.replay.process import replay
from tests.doctor_replay.chains import PATIENCE_S, PLUGIN_PATH, names, trouble_of
from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin, answer
from tests.support.raw import Reply
from tests.support.wait import until


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway({"plugins": "bundled,culprit,bringer", "plugin_path": str(PLUGIN_PATH)}) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin(answer(b"well")) as origin:
        yield origin


class Call:
    """A request that failed in the gateway, and its replay from the record the gateway made."""

    def __init__(self, gateway: Gateway, reply: Reply) -> None:
        def of_it() -> list[dict[str, Any]]:
            return [one for one in gateway.failures.records() if one["request_id"] == reply.request_id]

        self.reply = reply
        (self.record,) = until(of_it, "a record of the failure")
        self.rows = gateway.admin.get("/plugins")["data"]
        self.upstream_names = [row["name"] for row in gateway.admin.get("/upstreams")["data"]]
        self.order: Order
        self.report: Report

        consumer_id = self.record["client"].get("consumer_id")
        self.consumer = gateway.admin.get(f"/consumers/{consumer_id}") if consumer_id else None

    def replay(self, route_id: str) -> None:
        rows = [row for row in self.rows if row["route"] is not None and row["route"]["id"] == route_id]
        self.order = order_of_record(
            self.record, rows, consumer=self.consumer, upstream_names=self.upstream_names, plugin_path=[PLUGIN_PATH]
        )
        self.report = replay(self.order, most_s=PATIENCE_S)


def call(gateway: Gateway, origin: Origin, does: str, **config: Any) -> Call:
    """A request over a Route with these plugins, and its replay."""
    blueprints = Blueprints(gateway)
    route = blueprints.route(blueprints.service(origin))
    blueprints.plugin("bringer", route, "route", header="X-B")
    blueprints.plugin("culprit", route, "route", does=does, **config)
    gateway.settle()
    made = Call(gateway, gateway.get(route["paths"][0]))
    made.replay(route["id"])
    return made


@pytest.mark.parametrize(
    "does", ["raise", "exit", "bad_scheme", "bad_value", "bad_name", "bad_upstream", "raise_in_header_filter"]
)
def test_exception_is_the_one_that_the_gateway_logs(gateway: Gateway, origin: Origin, does: str) -> None:
    made = call(gateway, origin, does)
    trouble = trouble_of(made.report)
    assert (made.reply.status, trouble.kind, trouble.status) == (500, "raised", 500)
    assert f"plugin culprit failed in {trouble.phase}: " in made.record["phrase"]
    assert f"{trouble.what}: " in made.record["phrase"]
    assert f"({trouble.place})" in made.record["phrase"]
    assert names(made.report, made.report.smallest) == ["culprit"]
    (finding,) = findings(made.order, made.report, record=made.record)
    assert finding.cause == made.record["fault"]
    assert "the record says the same" in finding.evidence
    assert finding.confidence == 0.95


def test_client_whom_a_plugin_found_is_taken_from_the_record(gateway: Gateway, origin: Origin) -> None:
    blueprints = Blueprints(gateway)
    route = blueprints.route(blueprints.service(origin))
    key = blueprints.key(blueprints.consumer(username="bob"))
    blueprints.plugin("key-auth", route, "route")
    blueprints.plugin("culprit", route, "route", does="fail_for_bob")
    gateway.settle()
    made = Call(gateway, gateway.get(route["paths"][0], f"apikey: {key}"))
    made.replay(route["id"])
    assert key not in str(made.record)
    (finding,) = findings(made.order, made.report, record=made.record)
    assert (finding.status, finding.confidence) == (500, 0.95)
    assert trouble_of(made.report).what == "LookupError"
    assert any(line.startswith("`key-auth` is assumed") for line in finding.evidence)


def test_plugin_that_fails_by_another_is_found_with_it(gateway: Gateway, origin: Origin) -> None:
    made = call(gateway, origin, "raise", when="x-b")
    assert made.reply.status == 500
    assert made.report.smallest is not None
    assert set(names(made.report, made.report.smallest) or ()) == {"bringer", "culprit"}


def test_target_that_is_no_host_fails_in_the_gateway_as_the_replay_says(gateway: Gateway, origin: Origin) -> None:
    made = call(gateway, origin, "bad_host")
    assert trouble_of(made.report).what == "bad_target_host"
    (finding,) = findings(made.order, made.report, record=made.record)
    assert (finding.cause, finding.confidence >= 0.8) == (made.record["fault"], True)
