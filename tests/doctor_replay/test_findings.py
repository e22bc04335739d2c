# SPDX-License-Identifier: Apache-2.0
"""Is what a replay found told with the plugins, the phase, the line and the cure, and never surer than it is?"""

from __future__ import annotations

from typing import Any

import msgspec

from pylae import _core
from pylae.doctor.findings import Finding
from pylae.doctor.replay.asking import order_of_record, order_of_request
from pylae.doctor.replay.findings import FAILED, NO_CONNECTION, REFUSED, TOO_LONG, findings, left_out
from pylae.doctor.replay.order import Order, Report
from pylae.doctor.replay.process import replay
from tests.doctor_replay.chains import CONSUMER, PATIENCE_S, PLUGIN_PATH, adding, culprit, id_of, record, row


def replayed(made: dict[str, Any], rows: list[dict[str, Any]], **more: Any) -> tuple[Order, Report]:
    order = order_of_record(made, rows, plugin_path=[PLUGIN_PATH], **more)
    return order, replay(order, most_s=PATIENCE_S)


def found_in(made: dict[str, Any], rows: list[dict[str, Any]], **more: Any) -> list[Finding]:
    """What is found in a record."""
    is_current = more.pop("is_config_current", None)
    order, report = replayed(made, rows, **more)
    return findings(order, report, record=made, is_config_current=is_current)


def found_live(rows: list[dict[str, Any]], **more: Any) -> list[Finding]:
    """What is found with a described request."""
    order = order_of_request("GET", "/orders", rows, plugin_path=[PLUGIN_PATH], **more)
    return findings(order, replay(order, most_s=PATIENCE_S))


def test_culprit_of_the_record_is_found_again_and_told_with_its_line_and_cure() -> None:
    rows = [row("bringer", header="X-B"), culprit("raise")]
    (finding,) = found_in(record(), rows)
    assert (finding.hop, finding.phase, finding.cause, finding.finding) == ("plugin", "access", "plugin_failed", "failing_plugin")
    assert finding.confidence == 0.95
    assert finding.summary.startswith(
        "`culprit` makes the request fail: `culprit` raises KeyError in access (plugins/culprit.py:"
    )
    assert "the request fails with `culprit` alone" in finding.evidence
    assert "without `culprit` it does not" in finding.evidence
    assert "the record says the same" in finding.evidence
    assert finding.cure[-1] == f"curl -X PATCH http://localhost:8001/plugins/{id_of('culprit')} --data enabled=false"
    assert finding.probes == ()
    assert [(plugin["name"], plugin["is_needed_to_fail"]) for plugin in finding.plugins] == [
        ("bringer", False),
        ("culprit", True),
    ]
    document = finding.document()
    assert document["request_id"] == record()["request_id"]
    assert document["status"] == 500
    assert msgspec.json.encode(document)


def test_set_of_two_is_told_as_a_set_with_a_call_for_each() -> None:
    made = record(
        status=403, fault="plugin_refused", plugins=[{"name": "culprit", "id": id_of("culprit"), "outcome": "answered"}]
    )
    (finding,) = found_in(made, [adding("X-A:1"), row("bringer", header="X-B"), culprit("refuse", when="x-b")])
    assert (finding.finding, finding.cause, finding.status) == ("smallest_failing_set", "plugin_refused", 403)
    assert finding.summary == "`bringer` and `culprit` together make the request fail: `culprit` answers 403 in access"
    assert "the request fails with `bringer` and `culprit` and no other; no smaller set does" in finding.evidence
    assert [line for line in finding.cure if line.startswith("curl")] == [
        f"curl -X PATCH http://localhost:8001/plugins/{id_of(name)} --data enabled=false" for name in ("bringer", "culprit")
    ]


def test_nothing_is_found_where_nothing_fails() -> None:
    assert found_live([adding("X-A:1")]) == []
    assert found_in(record(fault="read_timeout", plugin=None, status=504), [adding("X-A:1")]) == []


def test_plugin_that_was_not_run_is_told_by_the_record_alone() -> None:
    made = record(status=429, fault="plugin_refused", plugin="rate-limiting")
    made["plugins"] = [{"name": "rate-limiting", "id": id_of("rate-limiting"), "phase": "access", "outcome": "answered"}]
    (finding,) = found_in(made, [row("rate-limiting", minute=1), adding("X-A:1")])
    assert (finding.cause, finding.finding, finding.status) == ("plugin_refused", "recorded_not_replayed", 429)
    assert finding.evidence[:2] == (
        "the record says: status 429, plugin_refused by `rate-limiting`",
        "`rate-limiting` was not run again: it is not marked pure",
    )
    assert "`rate-limiting` was not run: it is not marked pure" in finding.evidence


def test_authentication_that_refused_is_never_said_to_have_passed() -> None:
    made = record(status=401, fault="plugin_refused", plugin="key-auth")
    made["plugins"] = [{"name": "key-auth", "id": id_of("key-auth"), "phase": "access", "outcome": "answered"}]
    (finding,) = found_in(made, [row("key-auth")])
    assert finding.finding == "recorded_not_replayed"
    assert any(line.startswith("`key-auth` was not run again: it says who the client is") for line in finding.evidence)


def test_failure_that_is_not_seen_again_is_told_as_such_and_not_surely() -> None:
    (finding,) = found_in(record(), [culprit("nothing")])
    assert (finding.finding, finding.confidence) == ("not_reproduced", 0.5)
    assert "run again, `culprit` let the request pass" in finding.evidence
    assert finding.probes


def test_other_failure_than_the_recorded_one_is_told_with_both() -> None:
    other = {"name": "gone", "id": "id-of-gone", "phase": "access", "outcome": "failed"}
    replayed_finding, recorded = found_in(record(plugin="gone", plugins=[other]), [culprit("raise")])
    assert replayed_finding.confidence <= 0.4
    assert "the record says otherwise: status 500, plugin_failed by `gone`" in replayed_finding.evidence
    assert recorded.finding == "recorded_not_replayed"
    assert any("not among the plugins that apply" in line for line in recorded.evidence)
    (wrong_fault,) = found_in(record(fault="read_timeout", plugin=None, status=504), [culprit("raise")])
    assert wrong_fault.confidence <= 0.4


def test_confidence_falls_with_what_was_not_run() -> None:
    (sure,) = found_live([culprit("raise")])
    (assumed,) = found_live([row("key-auth"), culprit("raise")], consumer=CONSUMER)
    (unsure,) = found_live([row("impure"), culprit("raise")])
    assert (sure.confidence, assumed.confidence, unsure.confidence) == (0.85, 0.75, 0.6)
    assert sure.probes == ()
    assert assumed.probes
    assert "`impure` was not run: it is not marked pure" in unsure.evidence
    # Who comes later, or only logs, has no part in it.
    (later,) = found_live([culprit("raise"), row("response-transformer"), row("http-log"), row("latecomer")])
    assert later.confidence == 0.85
    (recorded,) = found_in(record(), [row("impure"), culprit("raise")])
    assert recorded.confidence == 0.85
    (changed,) = found_in(record(), [culprit("raise")], is_config_current=False)
    assert (changed.confidence, "the configuration has changed since" in changed.evidence) == (0.7, True)
    (unsteady,) = found_in(record(), [culprit("alternate")])
    assert unsteady.confidence == 0.5


def test_bad_target_explains_the_connection_that_failed() -> None:
    made = record(fault="dns_failed", status=503, plugin=None, plugins=[])
    (finding,) = found_in(made, [culprit("bad_host")])
    assert (finding.cause, finding.finding, finding.confidence) == ("dns_failed", "unsendable_request", 0.95)
    assert "the host `https://orders.internal/` that it is sent to is no name and no address" in finding.summary
    made["attempts"] = [{"host": "https://orders.internal/"}]
    assert found_in(made, [culprit("bad_host")])[0].confidence == 0.95
    made["attempts"] = [{"host": "elsewhere.test"}]
    assert found_in(made, [culprit("bad_host")])[0].confidence <= 0.4
    (unrecorded,) = found_live([culprit("bad_host")])
    assert unrecorded.confidence == 0.6


def test_plugin_that_does_not_return_is_told_with_its_phase() -> None:
    (finding,) = found_live([culprit("sleep")])
    assert (finding.finding, finding.cause, finding.confidence) == ("plugin_blocks", "plugin_failed", 0.6)
    assert "`culprit` does not return from access" in finding.summary


def test_failing_log_phase_is_a_warning() -> None:
    (finding,) = found_live([culprit("raise_in_log")])
    assert (finding.finding, finding.is_broken, finding.phase) == ("log_phase_fails", False, "done")


def test_what_is_left_out_is_said_plugin_by_plugin() -> None:
    _, report = replayed(record(), [row("key-auth"), row("impure"), culprit("read_header")])
    assert left_out(report) == [
        "`key-auth` is assumed to have found whom the record names: no secret is kept that it could be run with",
        "`impure` was not run: it is not marked pure",
        "`culprit` is unknown: it asks for the value of the header `authorization`, which no record keeps",
    ]


def test_id_of_a_row_cannot_break_out_of_the_call() -> None:
    (finding,) = found_live([{**culprit("raise"), "id": "x; rm -rf ~"}])
    assert finding.cure[-1] == "curl -X PATCH 'http://localhost:8001/plugins/x; rm -rf ~' --data enabled=false"


def test_every_cause_is_in_the_table_of_faults() -> None:
    known = {fault["name"] for fault in _core.faults()}
    assert FAILED | REFUSED | NO_CONNECTION | {TOO_LONG} <= known


def test_hostile_fields_of_a_record_are_told_in_one_line() -> None:
    order, report = replayed(record(), [culprit("raise")])
    values: list[Any] = [None, 7, 1 << 80, "\x1b[31m", [], {}, [None, 7, {"name": [], "id": {}}]]
    for hostile in values:
        made = record(**dict.fromkeys(("status", "fault", "plugin", "plugins", "request_id"), hostile))
        made["plugins"] = [*(hostile if isinstance(hostile, list) else []), {"name": hostile, "id": hostile, "phase": hostile}]
        for finding in findings(order, report, record=made):
            assert "\\u001b" not in msgspec.json.encode(finding.document()).decode()
