# SPDX-License-Identifier: Apache-2.0
"""Does `pylae explain` find a request, wherever its record lies, and say why it failed?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylae.cli.explain import BLOCK_BYTES, LONGEST_LINE_BYTES, lines_from_end
from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.ports import free_port
from tests.support.wait import until


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway that serves."""
    with Gateway() as gateway:
        yield gateway


@pytest.fixture(scope="module")
def failed(gateway: Gateway) -> str:
    """The id of a request to a port where nothing listens, once its record is written."""
    path = Blueprints(gateway).path(f"http://127.0.0.1:{free_port()}/")
    answered = gateway.get(path)
    assert answered.status == 502
    request_id = answered.header("X-Kong-Request-Id")
    assert request_id is not None
    log = gateway.prefix / "logs" / "failures.jsonl"
    until(lambda: request_id in log.read_text(), "the record to be written")
    return request_id


def test_a_failed_request_is_drawn_and_its_cure_can_be_typed(gateway: Gateway, failed: str) -> None:
    told = gateway.command("explain", failed)
    assert (told.returncode, told.stderr) == (0, "")
    assert "──X" in told.stdout or "--X" in told.stdout
    assert "connect_refused" in told.stdout
    assert f"    $ curl -X PATCH http://localhost:{gateway.admin_port}/services/" in told.stdout
    assert "\x1b" not in told.stdout


def test_the_document_is_json(gateway: Gateway, failed: str) -> None:
    told = gateway.command("explain", failed, "--json")
    assert (told.returncode, told.stderr) == (0, "")
    document = json.loads(told.stdout)
    assert document["request_id"] == failed
    assert document["verdict"]["cause"] == "connect_refused"
    assert document["verdict"]["hop"] == "upstream"


def test_what_is_not_known_is_a_failure(gateway: Gateway) -> None:
    told = gateway.command("explain", "0" * 32)
    assert told.returncode == 1
    assert told.stdout == ""
    assert "nothing is known of request 00000000000000000000000000000000" in told.stderr


@pytest.mark.parametrize("rubbish", ["", "502", "g" * 32, "../../etc/passwd", "0" * 33])
def test_what_is_no_id_is_refused(gateway: Gateway, rubbish: str) -> None:
    told = gateway.command("explain", "--", rubbish)
    assert told.returncode == 1
    assert "is no request id" in told.stderr


@pytest.fixture
def stopped() -> Iterator[Gateway]:
    """A gateway that does not run, with a prefix of its own."""
    gateway = Gateway()
    (gateway.prefix / "logs").mkdir(parents=True)
    yield gateway
    gateway.stop()


def record(number: int, **more: object) -> bytes:
    return json.dumps({"request_id": f"{number:032x}", "status": 404, "fault": "no_route", **more}).encode() + b"\n"


def test_the_logs_are_searched_when_nobody_can_be_asked(stopped: Gateway) -> None:
    logs = stopped.prefix / "logs"
    (logs / "failures.jsonl").write_bytes(record(1) + record(2))
    (logs / "failures.jsonl.1").write_bytes(record(3) + b"not json\n" + record(4))
    for number in (1, 2, 3, 4):
        told = stopped.command("explain", f"{number:032X}")
        assert (told.returncode, told.stderr) == (0, ""), number
        assert "No Route of the gateway matches" in told.stdout
    assert stopped.command("explain", f"{5:032x}").returncode == 1


def test_a_line_that_only_names_a_request_is_not_its_record(stopped: Gateway) -> None:
    log = stopped.prefix / "logs" / "failures.jsonl"
    log.write_bytes(record(1, status=426, fault="https_required") + record(2, detail=f"{1:032x}"))
    assert "https" in stopped.command("explain", f"{1:032x}").stdout


def test_what_the_record_holds_does_not_reach_the_terminal_raw(stopped: Gateway) -> None:
    log = stopped.prefix / "logs" / "failures.jsonl"
    log.write_bytes(record(1, request={"line": "GET /\x1b[2J", "path": "/\x1b]0;x\x07", "host": "\u202e"}))
    told = stopped.command("explain", f"{1:032x}")
    assert told.returncode == 0
    assert not set(told.stdout) & set("\x1b\x07\u202e")


def test_the_document_is_ascii_whatever_the_record_holds(stopped: Gateway) -> None:
    request = {"path": "/\u202e", "host": "\u009b2J", "method": "\u00e9"}
    (stopped.prefix / "logs" / "failures.jsonl").write_bytes(record(1, request=request))
    told = stopped.command("explain", f"{1:032x}", "--json")
    assert told.returncode == 0
    assert told.stdout.isascii()
    assert json.loads(told.stdout)["request"] == request


def test_lines_come_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [str(number).encode() * 50 for number in range(20_000)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert path.stat().st_size > 3 * BLOCK_BYTES
    assert list(lines_from_end(path)) == lines[::-1]


@pytest.mark.parametrize("content", [b"", b"\n", b"\n\n\n"])
def test_an_empty_log_has_no_lines(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    assert list(lines_from_end(path)) == []


@pytest.mark.parametrize("size", [LONGEST_LINE_BYTES + 1, BLOCK_BYTES - 3, BLOCK_BYTES + 1, 5 * BLOCK_BYTES])
def test_a_line_without_end_is_left_out_and_takes_no_memory(tmp_path: Path, size: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n" + b"x" * size + b"\nlast\n" + b"y" * size)
    assert list(lines_from_end(path)) == [b"last", b"first"]
