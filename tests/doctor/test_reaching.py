# SPDX-License-Identifier: Apache-2.0
"""Is it told why an address is not reached?"""

from __future__ import annotations

from tests.doctor.conftest import MakeOrigin
from tests.doctor.probing import aim_at, find, judge, only, see
from tests.support.origin import Connection, FullBacklog, good
from tests.support.ports import free_port


def test_nothing_is_found_where_all_is_well(make_origin: MakeOrigin) -> None:
    origin = make_origin(good)
    assert find(origin.port) == []
    assert [request.method for request in origin.requests] == ["HEAD", "GET"]
    assert origin.connections == 1
    assert origin.last.header("Host") == f"127.0.0.1:{origin.port}"


def test_a_port_where_nothing_listens_is_named_with_the_call_that_changes_it() -> None:
    port = free_port()
    finding = only(find(port))
    assert (finding.cause, finding.finding, finding.hop) == ("connect_refused", "nothing_listens", "upstream")
    assert finding.confidence >= 0.8
    assert "or mend the port of the Service:" in finding.cure
    assert "curl -X PATCH http://localhost:8001/services/orders --data port=PORT" in finding.cure
    assert finding.document()["status"] == 502
    assert finding.document()["attempts"][0]["address"] == f"127.0.0.1:{port}"


def test_a_refusal_by_a_name_may_be_the_wrong_machine() -> None:
    port = free_port()
    finding = only(judge(see(aim_at(port, host="orders.test"), port)))
    assert finding.confidence < 0.8
    assert finding.probes


def test_a_server_that_takes_no_connections_is_not_called_filtered_for_sure() -> None:
    full = FullBacklog()
    try:
        finding = only(find(full.port, service={"connect_timeout": 200}))
    finally:
        full.stop()
    assert (finding.cause, finding.finding) == ("connect_timeout", "filtered_or_full")
    assert finding.confidence < 0.8
    assert finding.probes
    assert "connect_timeout of the Service is 200 ms" in " ".join(finding.evidence)


def test_a_connection_that_is_reset_as_soon_as_it_is_made_is_no_missing_way_there(make_origin: MakeOrigin) -> None:
    origin = make_origin(Connection.reset)
    for _ in range(30):
        finding = only(find(origin.port))
        assert (finding.cause, finding.hop) in (("reset", "upstream"), ("closed_before_headers", "upstream"))
        assert finding.confidence < 0.8
