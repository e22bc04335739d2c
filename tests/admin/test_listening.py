# SPDX-License-Identifier: Apache-2.0
"""Does each socket answer what it is for, over TLS where the settings say so, and does the process leave?"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.admin.process import ControlProcess
from tests.support.certificates import self_signed
from tests.support.raw import Client, request
from tests.support.wait import until


@pytest.mark.parametrize("is_configured", [True, False])
def test_the_admin_api_speaks_tls(tmp_path: Path, *, is_configured: bool) -> None:
    made = self_signed(tmp_path, "localhost")
    settings = {}
    if is_configured:
        settings = {"admin_ssl_cert": str(made.certificate), "admin_ssl_cert_key": str(made.key)}
    else:
        (tmp_path / "ssl").mkdir()
        made.certificate.rename(tmp_path / "ssl" / "admin-kong-default.crt")
        made.key.rename(tmp_path / "ssl" / "admin-kong-default.key")
    with ControlProcess(tmp_path, settings, admin_flags=["ssl"]) as process, Client.tls(process.admin_port) as client:
        assert client.send(request("GET", "/services", host="localhost")).read_reply().status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
def test_it_leaves_when_it_is_told(tmp_path: Path, number: signal.Signals) -> None:
    with ControlProcess(tmp_path) as process:
        process.send(number)
        assert process.exit_code() == 0


def test_logs_are_opened_anew(tmp_path: Path) -> None:
    with ControlProcess(tmp_path) as process:
        log = tmp_path / "logs" / "admin_access.log"
        log.rename(tmp_path / "moved.log")
        process.send(signal.SIGUSR1)
        process.admin.get("/")
        until(lambda: log.exists() and "GET / HTTP" in log.read_text(), "the line in the new file")


def test_a_database_that_is_not_there_yet_is_named(tmp_path: Path) -> None:
    process = ControlProcess(tmp_path, {"database": "postgres"})
    assert process.exit_code() == 1
    assert "[emerg]" in process.error_log
    assert "`database = postgres`" in process.error_log
    process.close()


def test_the_socket_is_replaced_after_a_kill(tmp_path: Path) -> None:
    with ControlProcess(tmp_path) as process:
        before = (tmp_path / "sockets" / "control.sock").stat().st_ino
        process.kill()
        process.restart()
        assert (tmp_path / "sockets" / "control.sock").stat().st_ino != before
