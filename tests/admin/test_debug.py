# SPDX-License-Identifier: Apache-2.0
"""Does the log level change while the gateway runs, here and in the workers, and come back?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.admin.process import ControlProcess
from tests.admin.worker import ListeningWorker
from tests.support.admin import Admin
from tests.support.wait import until

TEXT = "log level: {}"


def level(admin: Admin) -> str:
    text: str = admin.get("/debug/node/log-level")["message"]
    return text.removeprefix("log level: ")


def test_workers_and_control_follow_for_a_while(tmp_path: Path) -> None:
    with ControlProcess(tmp_path) as process, ListeningWorker(tmp_path) as worker:
        admin = process.admin
        assert worker.told("log_level") == "notice"
        answer = admin.call("PUT", "/debug/node/log-level/debug?timeout=0.2")
        assert (answer.status, answer.json) == (200, {"message": "log level changed"})
        assert worker.told("log_level") == "debug"
        assert worker.told("log_level") == "notice"
        until(lambda: level(admin) == "notice", "the end of the timeout")
        assert "log level changed from notice to debug" in process.error_log

        assert admin.call("PUT", "/debug/cluster/log-level/error?timeout=0").json == {"message": "log level changed"}
        assert worker.told("log_level") == "error"
        with ListeningWorker(tmp_path) as late:
            assert late.told("log_level") == "error"
        assert admin.call("PUT", "/debug/node/log-level/error").json == {"message": "log level is already error"}
        # Refused requests are warnings, and those are not written now.
        admin.call("GET", "/services", headers={"Host": "evil.test"})
        assert "refused: Host" not in process.error_log
        assert admin.call("PUT", "/debug/node/log-level/notice").status == 200
        admin.call("GET", "/services", headers={"Host": "evil.test"})
        assert "refused: Host" in process.error_log


@pytest.mark.parametrize("path", ["/debug/node/log-level", "/debug/cluster/log-level"])
def test_what_is_no_level_is_refused(admin: Admin, path: str) -> None:
    answer = admin.call("PUT", f"{path}/loud")
    assert (answer.status, answer.json) == (400, {"message": "unknown log level: loud"})
    for timeout in ("-1", "x", "nan", "inf", "", "1e999"):
        answer = admin.call("PUT", f"{path}/debug?timeout={timeout}")
        assert (answer.status, answer.json) == (400, {"message": "timeout must be greater than or equal to 0"}), timeout
    assert level(admin) == "notice"


def test_workers_forget_what_they_looked_up(control: ControlProcess) -> None:
    with ListeningWorker(control.prefix) as worker:
        for path in ("/cache", "/cache/keyauth_credentials:k::::"):
            assert control.admin.call("DELETE", path).status == 204
            # A worker forgets every row it looked up when it gets the whole configuration.
            assert worker.told("snapshot")["version"] == control.admin.get("/status")["pylae"]["version"]
        assert control.admin.call("DELETE", "/cache/nothing:k").status == 204
        control.admin.post("/services", {"host": "h.test"})
        assert worker.next(lambda parts: parts[0] in ("snapshot", "delta"))[0] == "delta"


def test_a_plugin_without_work_is_warned_of(control: ControlProcess) -> None:
    made = control.admin.post("/plugins", {"name": "correlation-id"})
    expected = "[warn]", "the plugin `correlation-id` is configured, but its work is not part of this version", made["id"]
    until(lambda: all(part in control.error_log for part in expected), "the warning")
