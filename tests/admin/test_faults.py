# SPDX-License-Identifier: Apache-2.0
"""What does control survive, and what does it never store by half?"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.admin.process import ControlProcess
from tests.support import raw
from tests.support.admin import Admin

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MIB = 1024 * 1024


def refuse(admin: Admin, body: bytes, headers: dict[str, str], method: str = "POST", path: str = "/services") -> int:
    """The status of a refusal that gives a reason and stores nothing."""
    before = admin.get("/status")["pylae"]["version"]
    answer = admin.call(method, path, body, headers)
    assert 400 <= answer.status < 500, (answer.status, answer.body)
    assert answer.json["message"]
    assert admin.get("/status")["pylae"]["version"] == before
    return answer.status


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b'"text"',
        b"null",
        b"17",
        b'{"host": NaN}',
        b'{"host": "\xff"}',
        b'{"host": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b'{"tags": ' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"host": "h.test", "name": "a\\u0000b"}',
        b'{"host": "h.test", "tags": ["\\u0000"]}',
        b'{"a\\u0000": 1}',
        b'{"host": "h.test", "retries": 1e400}',
        b'{"host": "h.test", "created_at": 123456789012345678901234567890}',
        b'{"host": {"host": "h.test"}}',
        b'{"host": "h.test", "client_certificate": []}',
        b'{"host": "h.test", "id": "\\u0000"}',
    ],
)
def test_garbage_in_json_is_refused_with_a_reason(admin: Admin, body: bytes) -> None:
    assert refuse(admin, body, JSON) == 400


@pytest.mark.parametrize(
    "body",
    [
        b"host=%FF",
        b"host=\xff",
        b"host=h.test&name=a%00b",
        b"&".join(b"a%d=1" % number for number in range(1001)),
        b"a" + b".b" * 5000 + b"=1",
        b"host[" * 5000 + b"=1",
        b"host[999999999999]=h.test",
        b"host.host=h.test",
        b"=",
    ],
)
def test_garbage_in_forms_is_refused_with_a_reason(admin: Admin, body: bytes) -> None:
    assert refuse(admin, body, FORM) == 400


def test_garbage_in_multipart_is_refused_with_a_reason(admin: Admin) -> None:
    for body in (b"", b"--XX", b"nothing", b'--XX\r\nContent-Disposition: form-data; name="host"\r\n\r\n\xff\r\n--XX--\r\n'):
        assert refuse(admin, body or b"x", {"Content-Type": "multipart/form-data; boundary=XX"}) == 400


def test_random_bytes_are_refused_with_a_reason(admin: Admin) -> None:
    made = random.Random(1)
    for kind in (JSON, FORM):
        for _ in range(20):
            refuse(admin, made.randbytes(made.randrange(1, 2000)), kind)


def test_ten_mib_are_read_and_more_are_not(admin: Admin) -> None:
    padding = b'{"nothing": "' + b"x" * (10 * MIB - 100) + b'"}'
    assert refuse(admin, padding, JSON) == 400
    assert refuse(admin, padding + b" " * 200, JSON) == 413


def test_more_than_ten_mib_in_chunks_are_not_read(control: ControlProcess) -> None:
    with raw.Client(control.admin_port) as client:
        client.send(
            b"POST /services HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        try:
            for _ in range(12):
                client.send(chunk)
        except OSError:
            return
        assert client.read_reply().status == 413


def test_two_content_types_are_refused(control: ControlProcess) -> None:
    reply = raw.exchange(
        control.admin_port,
        b"POST /services HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 2\r\n\r\n{}",
        "POST",
    )
    assert (reply.status, reply.body) == (400, b"Multiple Content-Type headers not allowed")


def test_paths_of_garbage_are_not_found(control: ControlProcess) -> None:
    for path in (
        b"/services/%00",
        b"/services/%FF%FE",
        b"//services",
        b"/services/a/b/c/d",
        b"/%2e%2e/etc/passwd",
        b"/services/%zz",
    ):
        reply = raw.exchange(control.admin_port, b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        assert reply.status == 404, path


def test_nothing_of_it_was_logged_as_our_fault(control: ControlProcess) -> None:
    assert "[error]" not in control.error_log
    assert "Traceback" not in control.error_log


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    with ControlProcess(tmp_path) as process:
        made = process.admin.post("/services", {"name": "kept", "host": "h.test"})
        version = process.admin.get("/status")["pylae"]["version"]
        process.kill()
        process.restart()
        assert process.admin.get("/services/kept") == made
        assert process.admin.get("/status")["pylae"]["version"] == version


def test_a_full_disk_refuses_the_write_and_stores_nothing_by_half(tmp_path: Path) -> None:
    with ControlProcess(tmp_path, file_size_bytes=1_000_000) as process:
        names, status = [], 201
        for number in range(3000):
            body = {"name": f"s{number}", "host": "h.test", "tags": ["x" * 500]}
            answer = process.admin.call("POST", "/services", body)
            status = answer.status
            if status != 201:
                assert answer.json == {"message": "An unexpected error occurred"}
                break
            names.append(f"s{number}")
        assert status == 500
        assert process.admin.call("GET", "/services/s0").status == 200
        assert process.admin.call("GET", f"/services/s{len(names)}").status == 404
        assert process.admin.get("/status")["pylae"]["version"][1] == len(names)
        process.kill()
    with ControlProcess(tmp_path) as process:
        assert process.admin.call("GET", f"/services/{names[-1]}").status == 200
        assert process.admin.post("/services", {"name": "after", "host": "h.test"})


def test_a_prefix_that_cannot_be_written_is_said_to_workers_and_admin(tmp_path: Path) -> None:
    (tmp_path / "pylae.db").mkdir()
    with ControlProcess(tmp_path) as process:
        status = process.admin.get("/status")
        assert (status["database"], status["pylae"]["version"]) == ({"reachable": False}, None)
        assert process.admin.call("GET", "/services").status == 500
        assert process.status.call("GET", "/status/ready").json == {"message": "failed to connect to database"}
        (tmp_path / "pylae.db").rmdir()
