# SPDX-License-Identifier: Apache-2.0
"""Is a Service looked at as the gateway would use it, whatever its protocol, its Routes and its Upstream say?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pylae.doctor.configured import Subject
from pylae.doctor.reports import Report, drawn
from pylae.doctor.resolution import Resolution
from pylae.doctor.services import MOST_PLACES, Asked, Tools, aim_of, examine
from tests.doctor.conftest import MakeOrigin
from tests.support.certificates import self_signed
from tests.support.origin import Connection, good
from tests.support.ports import free_port

TOOLS = Tools(admin_url="http://localhost:8001", resolution=Resolution([], "nowhere"), patience_s=1.0)


def service(port: int, protocol: str = "http", **fields: Any) -> dict[str, Any]:
    """A Service on this machine."""
    return {"id": "s1", "name": "orders", "protocol": protocol, "host": "127.0.0.1", "port": port, **fields}


def look(subject: Subject) -> Report:
    """One look."""
    return asyncio.run(examine(subject, TOOLS))


def marks(report: Report) -> dict[str, str]:
    """By check what came of it."""
    return {line.check: line.mark for line in report.lines}


def test_a_stream_service_is_looked_at_as_far_as_its_connection(make_origin: MakeOrigin) -> None:
    def silent(connection: Connection) -> None:
        connection.wait_gone()

    report = look(Subject(service(make_origin(silent).port, "tcp")))
    assert report.findings == []
    assert (marks(report)["tcp"], marks(report)["http"]) == ("well", "unknown")
    dead = look(Subject(service(free_port(), "tcp")))
    assert [finding.cause for finding in dead.findings] == ["connect_refused"]
    datagrams = look(Subject(service(free_port(), "udp")))
    assert datagrams.findings == []
    assert marks(datagrams)["tcp"] == "unknown"


def test_a_service_that_nobody_can_reach_is_told_and_is_no_finding(make_origin: MakeOrigin) -> None:
    port = make_origin(good).port
    assert marks(look(Subject(service(port))))["routes"] == "unknown"
    disabled = look(Subject(service(port, enabled=False), [{"id": "r1", "name": "shop"}]))
    assert "disabled" in next(line.text for line in disabled.lines if line.check == "routes")
    assert disabled.findings == []


def test_many_targets_that_are_down_are_one_finding(make_origin: MakeOrigin) -> None:
    targets = [{"target": f"127.0.0.1:{free_port()}", "weight": 100, "health": "HEALTHCHECKS_OFF"} for _ in range(12)]
    report = look(Subject(service(80, host="pool"), (), {"id": "u1", "name": "pool"}, targets))
    (finding,) = report.findings
    assert finding.cause == "connect_refused"
    assert len(finding.attempts) == 8
    assert finding.evidence[-1].startswith("the same at ")
    assert drawn([report]).count("Nothing listens") == 1


def test_no_more_addresses_are_spoken_to_than_a_bound(make_origin: MakeOrigin) -> None:
    origin = make_origin(good)
    targets = [{"target": f"127.0.0.1:{origin.port}", "weight": 1, "health": "HEALTHY"}] * (MOST_PLACES + 3)
    report = look(Subject(service(80, host="pool"), (), {"id": "u1", "name": "pool"}, targets))
    assert origin.connections == MOST_PLACES
    assert "3 more were not looked at" in next(line.text for line in report.lines if line.check == "tcp")


@pytest.mark.parametrize(
    ("routes", "upstream", "asked", "expected"),
    [
        ([], None, None, "127.0.0.1:8080"),
        ([{"preserve_host": True, "hosts": ["*.shop.test", "shop.test"]}], None, None, "shop.test"),
        ([{"preserve_host": True, "hosts": ["shop.test"]}, {"preserve_host": False}], None, None, "127.0.0.1:8080"),
        ([], {"id": "u1", "name": "pool", "host_header": "inner.test"}, None, "inner.test"),
        ([], {"id": "u1", "name": "pool"}, None, "10.0.0.1:8080"),
        ([], None, Asked("/x", "client.test"), "client.test"),
    ],
)
def test_the_host_header_is_the_one_that_workers_send(
    routes: list[dict[str, Any]], upstream: dict[str, Any] | None, asked: Asked | None, expected: str
) -> None:
    aim = aim_of(Subject(service(8080), routes, upstream), TOOLS, asked)
    assert aim.for_host("10.0.0.1" if upstream else "127.0.0.1", 8080).host_header == expected


@pytest.mark.parametrize(
    ("header", "name"), [("a.test:8443", "a.test"), ("a.test", "a.test"), ("[::1]:443", "::1"), ("[::1]", "::1")]
)
def test_the_name_in_the_handshake_is_that_of_the_host_header(header: str, name: str) -> None:
    assert aim_of(Subject(service(443, "https")), TOOLS, Asked("/", header)).server_name == name


def test_no_answer_is_no_tick(make_origin: MakeOrigin, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, "localhost")
    report = look(Subject(service(make_origin(good, tls=certificate.server_context()).port)))
    assert [finding.finding for finding in report.findings] == ["plain_http_to_tls"]
    assert "no answer" in next(line.text for line in report.lines if line.check == "http")
    assert marks(report)["http"] == "unknown"
