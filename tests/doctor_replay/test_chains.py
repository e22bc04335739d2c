# SPDX-License-Identifier: Apache-2.0
"""Is the smallest set of plugins found that makes a request fail, and is what is not run left alone?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pylae.doctor.replay.process import MOST_S
from tests.doctor_replay import chains
from tests.doctor_replay.chains import CONSUMER, adding, culprit, member_of, names, row, run, trouble_of, whole_of


def test_request_that_nothing_is_wrong_with_passes_all_plugins() -> None:
    report = run([adding("X-A:1"), row("response-transformer", add={"headers": ["X-B:2"]}), culprit("nothing")])
    whole = whole_of(report)
    assert (report.stage, whole.trouble, whole.status, whole.target) == ("done", None, 200, "GET http /orders")
    assert report.smallest is None
    assert [member.name for member in report.members] == ["request-transformer", "response-transformer", "culprit"]


def test_one_culprit_is_named_among_many() -> None:
    report = run([adding("X-A:1"), row("bringer", header="X-B"), culprit("raise"), row("carrier", header="X-C")])
    trouble = trouble_of(report)
    assert (trouble.kind, trouble.what, trouble.phase, trouble.status) == ("raised", "KeyError", "access", 500)
    assert trouble.text == "'team'"
    assert trouble.place.startswith("plugins/culprit.py:")
    assert (names(report, report.smallest), report.is_smallest) == (["culprit"], True)
    left = {chains.names(report, [position])[0]: fails for position, fails in report.without}  # type: ignore[index]  # one position
    assert left == {"request-transformer": True, "bringer": True, "carrier": True, "culprit": False}


def test_two_that_fail_only_together_are_named_together() -> None:
    report = run([adding("X-A:1"), culprit("refuse", when="x-b"), row("bringer", header="X-B"), row("carrier", header="X-C")])
    trouble = trouble_of(report)
    assert (trouble.kind, trouble.what) == ("answered", "403")
    assert report.smallest is not None
    assert (names(report, sorted(report.smallest)), report.is_smallest) == (["culprit", "bringer"], True)


def test_bundled_plugin_that_takes_away_what_another_asks_for_is_named_with_it() -> None:
    rows = [row("request-transformer", remove={"headers": ["X-Team"]}), row("bringer", header="X-A"), culprit("demand")]
    report = run(rows, headers=[("X-Team", "orders")])
    assert trouble_of(report).what == "400"
    assert report_set(report) == {"request-transformer", "culprit"}
    assert whole_of(run(rows[1:], headers=[("X-Team", "orders")])).trouble is None


def report_set(report: Any) -> set[str]:
    assert report.smallest is not None
    return set(names(report, report.smallest) or ())


def test_smaller_of_two_ways_to_fail_is_found() -> None:
    # Three bring about the header in a row; another one brings it alone.
    rows = [
        row("bringer", header="X-1"),
        row("carrier", header="X-2", when="x-1"),
        row("porter", header="X-3", when="x-2"),
        row("request-transformer", add={"headers": ["X-3:1"]}),
        culprit("refuse", when="x-3"),
    ]
    assert report_set(run(rows)) == {"request-transformer", "culprit"}
    report = run([one for one in rows if one["name"] != "request-transformer"])
    assert report_set(report) == {"bringer", "carrier", "porter", "culprit"}
    assert report.is_smallest


@pytest.mark.parametrize(
    ("does", "kind", "what", "phase"),
    [
        ("refuse", "answered", "403", "access"),
        ("answer_later", "answered", "403", "access"),
        ("exit", "raised", "SystemExit", "access"),
        ("answer_rubbish", "raised", "TypeError", "access"),
        ("fail_to_prepare", "raised", "RuntimeError", "access"),
        ("bad_scheme", "raised", "ValueError", "access"),
        ("bad_value", "raised", "ValueError", "access"),
        ("bad_name", "raised", "ValueError", "access"),
        ("bad_host", "upstream", "bad_target_host", "access"),
        ("control", "upstream", "malformed_header:x-trace", "access"),
        ("two_hosts", "upstream", "several_host_headers", "access"),
        ("long", "upstream", "header_too_long:x-token", "access"),
        ("spoil_status", "status", "502", "header_filter"),
        ("raise_in_header_filter", "raised", "KeyError", "header_filter"),
        ("answer_in_header_filter", "raised", "TypeError", "header_filter"),
        ("raise_in_body_filter", "raised", "KeyError", "body_filter"),
        ("rubbish_in_body_filter", "raised", "TypeError", "body_filter"),
    ],
)
def test_every_way_to_fail_is_told_from_the_others(does: str, kind: str, what: str, phase: str) -> None:
    report = run([row("bringer", header="X-B"), culprit(does)])
    trouble = trouble_of(report)
    assert (trouble.kind, trouble.what, trouble.phase) == (kind, what, phase)
    assert report_set(report) == {"culprit"}
    assert report.is_steady


@pytest.mark.parametrize("does", ["redirect", "nothing"])
def test_answer_below_400_is_no_failure(does: str) -> None:
    assert whole_of(run([culprit(does)])).trouble is None


def test_head_that_several_plugins_make_too_long_names_all_of_them() -> None:
    rows = [row("bringer", header="X-Grown", value="x" * 5000), culprit("double", when="x-grown")]
    report = run(rows)
    assert trouble_of(report).what == "header_too_long:x-grown"
    assert report_set(report) == {"bringer", "culprit"}


def test_upstream_that_there_is_none_of_is_refused_where_the_names_are_known() -> None:
    assert trouble_of(run([culprit("bad_upstream")], upstream_names=["orders"])).what == "ValueError"
    assert whole_of(run([culprit("bad_upstream")])).trouble is None


def test_failure_of_a_log_phase_fails_no_request() -> None:
    whole = whole_of(run([culprit("raise_in_log")]))
    assert (whole.trouble, whole.status) == (None, 200)
    assert [(trouble.what, trouble.phase) for trouble in whole.log_troubles] == [("KeyError", "log")]


@pytest.mark.parametrize("does", ["spin", "sleep", "wait_for_ever"])
def test_plugin_that_does_not_return_is_named_and_stops_nobody(does: str) -> None:
    report = run([culprit(does), row("bringer", header="X-B")])
    trouble = trouble_of(report)
    assert (trouble.kind, trouble.phase) == ("blocked", "access")
    assert (report_set(report), report.is_smallest) == ({"culprit"}, True)


def test_plugin_that_can_not_be_interrupted_is_killed_and_named() -> None:
    report = run([culprit("resist"), row("bringer", header="X-B")], most_s=MOST_S)
    trouble = trouble_of(report)
    assert (trouble.kind, trouble.phase, names(report, [trouble.position])) == ("blocked", "access", ["culprit"])


def test_plugin_that_ends_the_process_is_named() -> None:
    report = run([culprit("die"), row("bringer", header="X-B")])
    trouble = trouble_of(report)
    assert (trouble.kind, trouble.phase) == ("died", "access")
    assert (report_set(report), report.is_smallest) == ({"culprit"}, True)


def test_impure_plugins_are_not_run() -> None:
    report = run([row("impure"), row("rate-limiting", minute=1), adding("X-A:1")])
    assert whole_of(report).trouble is None
    assert {member.name: (member.mode, member.reason) for member in report.members} == {
        "rate-limiting": ("not_run", "it is not marked pure"),
        "request-transformer": ("run", ""),
        "impure": ("not_run", "it is not marked pure"),
    }


@pytest.mark.parametrize(
    ("does", "what"),
    [
        ("connect", "`socket."),
        ("connect_quietly", "`socket."),
        ("count", "counters"),
        ("stream", "the stream `log:culprit`"),
        ("look_up", "rows (`select_by`)"),
    ],
)
def test_plugin_that_only_says_it_is_pure_is_stopped_and_named(does: str, what: str) -> None:
    report = run([culprit(does), row("bringer", header="X-B")])
    member = member_of(report, "culprit")
    assert member.mode == "not_run"
    assert member.reason.startswith(f"it is marked pure, yet reached for {what}")
    assert whole_of(report).trouble is None


def test_pure_plugin_writes_no_file(tmp_path: Path) -> None:
    report = run([culprit("write", path=str(tmp_path / "written"))])
    assert member_of(report, "culprit").reason == "it is marked pure, yet reached for a file to write to"
    assert list(tmp_path.iterdir()) == []


def test_plugin_that_takes_for_ever_to_prepare_is_left_out() -> None:
    report = run([culprit("prepare_for_ever"), row("bringer", header="X-B")])
    assert member_of(report, "culprit").reason == "what it makes of its configuration takes too long"
    assert whole_of(report).trouble is None


def test_plugin_that_cannot_be_had_is_left_out() -> None:
    report = run([row("unloadable"), row("nonesuch"), row("bringer", header="X-B")])
    assert "does not import: RuntimeError: not today" in member_of(report, "unloadable").reason
    assert "not installed" in member_of(report, "nonesuch").reason
    assert whole_of(report).trouble is None


def test_plugin_whose_work_is_not_done_refuses_as_it_does_in_the_gateway() -> None:
    report = run([row("redirect", location="https://a.test"), row("proxy-cache", strategy="memory"), row("file-log")])
    trouble = trouble_of(report)
    assert (trouble.what, names(report, [trouble.position])) == ("WorkMissing", ["redirect"])


def test_plugin_that_fails_every_other_time_is_not_taken_for_steady() -> None:
    report = run([culprit("alternate")])
    assert trouble_of(report).what == "RuntimeError"
    assert not report.is_steady


def test_authentication_is_assumed_and_the_consumer_known_to_later_plugins() -> None:
    rows = [row("key-auth"), culprit("need_user"), row("request-transformer", rename={"headers": ["X-Consumer-Username:X-User"]})]
    known = run(rows, consumer=CONSUMER, credential_id="k1")
    assert whole_of(known).trouble is None
    assert member_of(known, "key-auth").mode == "assumed"
    assert trouble_of(run(rows)).what == "403"


def test_consumer_is_not_known_before_the_plugin_that_finds_out() -> None:
    rows = [row("key-auth"), row("carrier", header="X-Early", when="x-consumer-id"), culprit("refuse", when="x-early")]
    assert report_set(run(rows, consumer=CONSUMER)) == {"carrier", "culprit"}


def test_secrets_of_a_live_request_and_of_a_configuration_are_in_no_report() -> None:
    report = run(
        [culprit("tell", secret="deep-secret")],
        target="/orders?token=query-secret",
        headers=[("Authorization", "Bearer live-secret")],
    )
    trouble = trouble_of(report)
    assert (trouble.what, trouble.text) == ("ValueError", "")
    assert trouble_of(run([culprit("tell_secret", secret="deep-secret")])).text == ""
    assert trouble_of(run([culprit("tell_secret")])).text == "key is None"


def test_described_request_withholds_nothing() -> None:
    assert whole_of(run([culprit("read_header")], headers=[("Authorization", "Bearer good")])).trouble is None
    assert whole_of(run([culprit("read_query")], target="/orders?id=1")).trouble is None
    assert whole_of(run([culprit("read_body")], method="POST", body=b"good")).trouble is None
    assert trouble_of(run([culprit("read_body")], method="POST", body=b"bad")).what == "400"


def test_many_plugins_with_one_culprit_are_searched_to_the_end() -> None:
    rows = [row("bringer", header="X-B"), culprit("refuse", when="x-b")]
    # The same plugin again and again, each with an id of its own.
    rows += [{**row("carrier", header=f"X-{number}"), "id": f"carrier-{number}"} for number in range(30)]
    report = run(rows)
    assert (report_set(report), report.is_smallest) == ({"bringer", "culprit"}, True)
