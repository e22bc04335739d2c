# SPDX-License-Identifier: Apache-2.0
"""Do h11 (strict), http.client, curl and wrk read what we write, on one kept connection?"""

from __future__ import annotations

import http.client
import re
import subprocess

import h11

from tests.conformance.conftest import Judged
from tests.support.raw import Client
from tests.support.servers.server import find

KINDS = {
    "plain": (200, None),
    "chunked": (200, b"four"),
    "close": (200, b"until the end"),
    "204": (204, b""),
    "304": (304, b""),
}


def h11_answer(client: Client, connection: h11.Connection, method: str, target: str) -> tuple[int, bytes]:
    """One exchange, judged by h11's own state machine; it raises on anything it does not allow."""
    client.send(connection.send(h11.Request(method=method, target=target, headers=[("Host", "judge.test")])) or b"")
    client.send(connection.send(h11.EndOfMessage()) or b"")
    status, body = 0, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(client.receive())
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return status, body


def test_h11_agrees_with_every_framing(judged: Judged) -> None:
    connection = h11.Connection(h11.CLIENT)
    with judged.gateway.connect() as client:
        for kind, (status, body) in [*KINDS.items(), *KINDS.items()]:
            got = h11_answer(client, connection, "GET", f"{judged.path}/{kind}")
            assert got[0] == status, kind
            assert body is None or got[1] == body, kind
            connection.start_next_cycle()
        assert h11_answer(client, connection, "HEAD", f"{judged.path}/plain") == (200, b"")


def test_h11_agrees_with_our_own_errors(judged: Judged) -> None:
    connection = h11.Connection(h11.CLIENT)
    with judged.gateway.connect() as client:
        assert h11_answer(client, connection, "GET", "/-/no-route")[0] == 404


def test_http_client_agrees(judged: Judged) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", judged.gateway.proxy_port, timeout=10)
    for kind, (status, body) in KINDS.items():
        connection.request("GET", f"{judged.path}/{kind}")
        response = connection.getresponse()
        got = response.read()
        assert response.status == status, kind
        assert body is None or got == body, kind
    connection.request("POST", f"{judged.path}/plain", iter([b"a", b"bc"]), encode_chunked=True)
    assert connection.getresponse().read().endswith(b"abc")
    connection.close()


def run(*words: str) -> str:
    program = find(words[0])
    assert program, f"{words[0]} is not installed; hint: scripts/test-packages.sh"
    return subprocess.run([program, *words[1:]], capture_output=True, text=True, check=True, timeout=30).stdout


def test_curl_uses_one_connection_for_all(judged: Judged) -> None:
    base = f"http://127.0.0.1:{judged.gateway.proxy_port}{judged.path}"
    urls = [word for kind in KINDS for word in (f"{base}/{kind}", "-o", "/dev/null")]
    talk = run("curl", "-sS", "-w", "%{http_code} %{num_connects}\\n", *urls)
    assert talk.split() == ["200", "1", "200", "0", "200", "0", "204", "0", "304", "0"]


def test_curl_uploads_with_expect(judged: Judged) -> None:
    url = f"http://127.0.0.1:{judged.gateway.proxy_port}{judged.path}/plain"
    run("curl", "-sSf", "-H", "Expect: 100-continue", "-H", "Content-Type: a/b", "--data-binary", "x" * 2000, url)
    assert judged.origin.last.body == b"x" * 2000


def test_curl_speaks_tls_with_us(judged: Judged) -> None:
    url = f"https://127.0.0.1:{judged.gateway.proxy_tls_port}{judged.path}/chunked"
    assert run("curl", "-sSfk", url) == "four"


def test_wrk_sees_no_error(judged: Judged) -> None:
    url = f"http://127.0.0.1:{judged.gateway.proxy_port}{judged.path}/plain"
    talk = run("wrk", "-t1", "-c16", "-d1s", url)
    assert "Socket errors" not in talk
    assert "Non-2xx" not in talk
    requests = re.search(r"(\d+) requests in", talk)
    assert requests
    assert int(requests[1]) > 100
