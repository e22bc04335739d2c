# SPDX-License-Identifier: Apache-2.0
"""Do the origins, the raw client, the transcript reader and other people's servers do what the tests believe?"""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path

import pytest

from tests.support import origin as origins
from tests.support import transcripts
from tests.support.certificates import self_signed
from tests.support.origin import FullBacklog, Origin
from tests.support.ports import free_port
from tests.support.raw import Client, ClosedEarly, exchange, get, request
from tests.support.servers.dns import NameServer
from tests.support.servers.haproxy import Haproxy
from tests.support.servers.nginx import Nginx
from tests.support.transcripts import Section, Terms

ALL = transcripts.load()
SAME = Terms(ports={})


@pytest.mark.parametrize("section", ALL, ids=lambda section: section.name)
def test_a_recorded_section_is_read_whole(section: Section) -> None:
    expected = transcripts.expect(section, SAME)
    assert bool(expected.head) == section.reply.startswith("HTTP/")
    assert all(transcripts.comparable_error(line) for line in section.error_lines)
    assert all(transcripts.comparable_access(line) for line in section.access_lines)
    assert len(section.access_lines) == 1
    if expected.head and section.ending == "curl exit 0" and not section.command.startswith("curl -si -I"):
        length = expected.head.header("Content-Length")
        assert length is not None
        assert int(length) == len(expected.body), "the body was not read as it was sent"


def test_a_recorded_echo_grows_with_our_names_and_ports() -> None:
    section = next(section for section in ALL if section.title == "raw: unknown method")
    terms = Terms(ports={18701: 5, 18000: 123456})
    terms.request_id = "0" * 32
    expected = transcripts.expect(section, terms)
    assert expected.head
    assert expected.growth_bytes == len(transcripts.IDENTITY) - len("kong/3.10.0") - 4 + 1
    assert expected.head.header("Content-Length") == str(323 + expected.growth_bytes) == str(len(expected.body))
    assert f"Via: 1.1 {transcripts.IDENTITY}\r\nHost: 127.0.0.1:5\r\n".encode() in expected.body
    assert expected.head.request_id == "0" * 32


def test_the_name_of_lua_s_place_and_its_tries_do_not_count() -> None:
    section = next(section for section in ALL if section.name == "dns_failure: GET")
    assert transcripts.comparable_error(section.error_lines[0]).startswith(
        "[error] DNS resolution failed: dns server error: 3 name error, client: 127.0.0.1, server: <name>, request: "
    )


def test_curl_is_spelled_as_curl_does() -> None:
    section = next(section for section in ALL if section.name == "reset: POST with body")
    method, data = section.request("h:1")
    assert method == "POST"
    assert data == (
        b"POST /reset HTTP/1.1\r\nHost: h:1\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nContent-Length: 7\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\nhello=1"
    )
    assert next(section for section in ALL if section.name == "early_close: HEAD").request("h")[0] == "HEAD"


def test_the_good_origin_says_what_it_got_and_keeps_the_connection() -> None:
    with Origin(origins.good) as origin, Client(origin.port) as client:
        first = client.send(request("POST", "/a?b=1", "X-Case: Kept", body=b"body")).read_reply()
        second = client.send(request("HEAD", "/")).read_reply("HEAD")
        assert first.body == b"you sent:\n" + origin.requests[0].head + b"body"
        assert (second.status, second.body) == (200, b"")
        assert (origin.connections, len(origin.requests)) == (1, 2)
        assert origin.requests[0].target == "/a?b=1"
        assert ("X-Case", "Kept") in origin.requests[0].headers


def test_a_chunked_request_is_recorded_with_its_trailers() -> None:
    with Origin(origins.good) as origin, Client(origin.port) as client:
        client.send(
            request("POST", "/", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n"
        ).read_reply()
        assert origin.last.body == b"abcde"
        assert origin.last.trailers == [("X-Sum", "5")]


@pytest.mark.parametrize("name", ["close_on_accept", "reset"])
def test_these_origins_reset(name: str) -> None:
    with Origin(origins.RECORDED[name]) as origin, Client(origin.port) as client:
        client.send(request())
        with pytest.raises(ClosedEarly, match="reset"):
            client.read_reply()


def test_this_origin_closes_without_a_byte() -> None:
    with Origin(origins.early_close) as origin, Client(origin.port) as client:
        assert client.send(request()).read_to_end() == b""


@pytest.mark.parametrize("name", ["truncated_body", "truncated_chunked"])
def test_these_origins_break_off(name: str) -> None:
    with Origin(origins.RECORDED[name]) as origin, Client(origin.port) as client:
        client.send(request())
        with pytest.raises(ClosedEarly) as early:
            client.read_reply()
        assert early.value.reply
        assert early.value.reply.body in (b"0123456789", b"hello")


def test_a_full_backlog_neither_accepts_nor_refuses() -> None:
    full = FullBacklog()
    with socket.socket() as client:
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.connect(("127.0.0.1", full.port))
    full.stop()


def test_the_name_server_knows_fails_and_denies() -> None:
    names = NameServer()
    names.addresses["here.test"] = ["127.0.0.1", "127.0.0.2"]
    names.failing.add("broken.test")
    codes = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.connect(("127.0.0.1", names.port))
        for name in ("here.test", "broken.test", "nowhere.test"):
            question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0\0\1\0\1"
            client.send(b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + question)
            answer = client.recv(512)
            flags, _, answers = struct.unpack("!HHH", answer[2:8])
            codes[name] = (flags & 15, answers)
    names.stop()
    assert codes == {"here.test": (0, 2), "broken.test": (2, 0), "nowhere.test": (3, 0)}
    assert names.questions == ["here.test", "broken.test", "nowhere.test"]


def test_nginx_and_haproxy_stand_in_a_row() -> None:
    nginx_port, haproxy_port = free_port(), free_port()
    with (
        Origin(origins.good) as origin,
        Haproxy(haproxy_port, origin.port),
        Nginx.load_balancer(nginx_port, haproxy_port),
    ):
        reply = get(nginx_port, "/x")
        assert reply.status == 200
        assert origin.last.header("X-Seen-By") == "haproxy"
        assert origin.last.all("X-Forwarded-For") == ["127.0.0.1", "127.0.0.1"]


def test_the_tls_origin_is_nginx_with_our_certificate(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, "127.0.0.1", "origin.test")
    port = free_port()
    with Nginx.tls_origin(port, str(certificate.certificate), str(certificate.key)):
        context = ssl.create_default_context(cafile=str(certificate.certificate))
        with Client.tls(port, "origin.test", context) as client:
            assert client.send(request()).read_reply().body == b"tls upstream ok\n"
        assert exchange(port, request()).status == 400
