# SPDX-License-Identifier: Apache-2.0
"""May a hook do with the event loop what asyncio promises?"""

from __future__ import annotations

import json
import re
import socket

import pytest

from tests.support.wait import until
from tests.unit.event_loop.rig import Worker


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/eager", "eager"),
        ("/timeout", "timed out"),
        ("/group", "[0, 2, 4, 6, 8]"),
        ("/group-fails", "together"),
        ("/future", "future"),
        ("/resolved", "resolved"),
        ("/thread", "thread"),
        ("/call", '{"operation":"consume","name":"x"}'),
        ("/call-refused", "invalid: no such table"),
        ("/bytes", "50"),
        ("/sockets", "100"),
        ("/slow", "slow"),
    ],
)
def test_what_asyncio_promises_holds_in_a_hook(worker: Worker, path: str, body: str) -> None:
    reply = worker.get(path)
    assert (reply.status, reply.text) == (200, body), worker.error_log()


def test_plugins_start_and_may_ask_control_before_the_first_request(worker: Worker) -> None:
    assert worker.seen()[0] == "started"


def test_a_timer_that_a_def_hook_sets_goes_off_without_another_request(worker: Worker) -> None:
    worker.get("/timer")
    seen = worker.until_seen("timer")
    assert seen.index("log /timer") < seen.index("timer")


def test_hooks_that_wait_do_not_wait_for_each_other(worker: Worker) -> None:
    connections = [socket.create_connection(("127.0.0.1", worker.port)) for _ in range(5)]
    began = len(worker.seen())
    for connection in connections:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    until(lambda: worker.seen()[began:].count("slow began") == len(connections), "all to wait at once")
    for connection in connections:
        with connection, connection.makefile("rb") as answer:
            assert answer.read().endswith(b"slow")


def leave(worker: Worker, path: str) -> None:
    """Asks for `path` and goes away while its hook waits."""
    with socket.create_connection(("127.0.0.1", worker.port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        worker.until_seen(f"{path[1:]} began")


def test_a_client_that_leaves_cancels_the_hook_and_its_log_does_not_wait_for_it(worker: Worker) -> None:
    leave(worker, "/leave")
    seen = worker.until_seen("leave cleaned up 32")
    assert seen.index("log /leave") < seen.index("leave cleaned up 32")
    assert seen.count("log /leave") == 1
    assert seen.count("leave cancelled") == 1


def test_a_hook_that_fails_while_it_is_cancelled_is_named(worker: Worker) -> None:
    leave(worker, "/leave-and-fail")
    line = worker.until_logged("after the client had left")
    assert "[warn]" in line
    assert "plugin loop-probe failed in access" in line
    assert "LookupError: while cleaning up" in line


def test_a_view_kept_beyond_the_log_phase_raises(worker: Worker) -> None:
    worker.get("/keep")
    until(lambda: "log /keep" in worker.seen(), "the exchange to be over")
    texts = json.loads(worker.get("/kept").body)
    assert len(texts) == 3
    assert all(text.startswith("this exchange is over") for text in texts)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/raise", r"LookupError: not here \(plugins/loop_probe\.py:\d+\)"),
        ("/raise-later", r"LookupError: nor there \(plugins/loop_probe\.py:\d+\)"),
        ("/rubbish", "returned a `int`, expected None or what exchange.answer"),
        ("/rubbish-later", "returned a `dict`, expected None or what exchange.answer"),
        ("/cancel-itself", "CancelledError"),
    ],
)
def test_a_hook_that_fails_answers_500_and_is_named(worker: Worker, path: str, said: str) -> None:
    before = len(worker.error_log())
    assert worker.get(path).status == 500
    line = next(line for line in worker.error_log()[before:].splitlines() if "loop-probe" in line)
    assert re.search(rf"\[error\] .*plugin loop-probe failed in access: {said}", line), line
    assert worker.get("/eager").status == 200


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/block", r"plugin loop-probe blocked the worker for (\d+) ms in access"),
        ("/block-later", r"plugin loop-probe blocked the worker for (\d+) ms in access"),
        ("/block-in-callback", r"a task or callback of a plugin blocked the worker for (\d+) ms on the event loop"),
    ],
)
def test_who_blocks_the_thread_is_named_with_its_milliseconds(worker: Worker, path: str, said: str) -> None:
    before = len(worker.error_log())
    counted = worker.shared.statistics()["plugin_blocked"]
    assert worker.get(path).status == 200
    match = until(lambda: re.search(rf"\[warn\] .*{said}", worker.error_log()[before:]), f"`{said}` to be logged")
    # Time in which the kernel withheld the processor is nobody's fault, and is not counted.
    assert int(match[1]) >= 25
    assert worker.shared.statistics()["plugin_blocked"] == counted + 1


def test_what_runs_is_in_shared_memory_while_it_runs(worker: Worker) -> None:
    with socket.create_connection(("127.0.0.1", worker.port)) as connection:
        connection.sendall(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
        name, _ = until(lambda: worker.shared.running_plugin(0), "a plugin to run")
        assert name == "loop-probe access"
    until(lambda: worker.shared.running_plugin(0) is None, "it to have ended")
