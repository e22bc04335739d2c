# SPDX-License-Identifier: Apache-2.0
"""Does a worker leave without cutting anybody off, and without noise?"""

from __future__ import annotations

import os
import signal
import socket

from tests.support.wait import until
from tests.unit.event_loop.rig import LEAVES_WITHIN_S, Worker


def test_a_drain_serves_what_is_in_flight_and_ends_what_was_left_behind(own_worker: Worker) -> None:
    assert own_worker.get("/litter").text == "1"
    with socket.create_connection(("127.0.0.1", own_worker.port)) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        own_worker.until_seen("slow began")
        own_worker.process.send_signal(signal.SIGQUIT)
        with connection.makefile("rb") as answer:
            received = answer.read()
    assert received.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in received
    output, errors = own_worker.process.communicate(timeout=LEAVES_WITHIN_S)
    assert (own_worker.process.returncode, errors) == (0, "")
    assert output.splitlines() == ["stopped", "generator closed"]
    assert own_worker.shared.heartbeat_age_ms(0) is None


def test_a_hook_that_waits_when_the_worker_drains_is_waited_for_though_its_client_left(own_worker: Worker) -> None:
    with socket.create_connection(("127.0.0.1", own_worker.port)) as connection:
        connection.sendall(b"GET /leave HTTP/1.1\r\nHost: a\r\n\r\n")
        own_worker.until_seen("leave began")
    code, output, errors = own_worker.end()
    assert (code, output, errors) == (0, "stopped\n", "")


def test_an_idle_connection_does_not_keep_a_worker(own_worker: Worker) -> None:
    with socket.create_connection(("127.0.0.1", own_worker.port)) as connection:
        connection.sendall(b"GET /eager HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        assert own_worker.end() == (0, "stopped\n", "")


def test_a_worker_leaves_when_the_supervisor_is_gone(own_worker: Worker) -> None:
    os.close(own_worker.parent_fd)
    output, errors = own_worker.process.communicate(timeout=LEAVES_WITHIN_S)
    assert (own_worker.process.returncode, output, errors) == (0, "stopped\n", "")
    assert "the supervisor is gone: draining" in own_worker.error_log()


def test_logs_are_opened_anew_while_the_data_plane_waits(own_worker: Worker) -> None:
    log = own_worker.folder / "logs" / "access.log"
    own_worker.get("/eager")
    log.rename(log.with_suffix(".1"))
    own_worker.process.send_signal(signal.SIGUSR1)
    until(lambda: own_worker.get("/eager") and log.exists() and log.read_text(encoding="utf-8"), "a line in the new file")
