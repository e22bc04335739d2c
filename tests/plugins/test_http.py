# SPDX-License-Identifier: Apache-2.0
"""Does the shippers' HTTP client tell the truth about what it sent?"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pylae.sdk.http import MAX_ANSWER_BYTES, Endpoint, HttpClient, HttpFailed

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nok"


def run(serve: Serve, test: Callable[[HttpClient, int], Awaitable[None]], tls: ssl.SSLContext | None = None) -> None:
    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        client = HttpClient(verify=False)
        await test(client, server.sockets[0].getsockname()[1])
        await client.close()
        server.close()

    asyncio.run(main())


def answering(*answers: bytes) -> Serve:
    """Serves one answer per request, then closes the connection; each connection begins with the first."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            writer.write(answer)
            await writer.drain()
        writer.close()

    return serve


async def send(client: HttpClient, url: str, **options: Any) -> tuple[int, bytes]:
    answer = await client.request("POST", Endpoint.parse(url), {}, b"body", **{"timeout_ms": 5_000, **options})
    return answer.status, answer.body


def test_answers_come_back_over_kept_connections_and_a_closed_one_is_replaced() -> None:
    async def test(client: HttpClient, port: int) -> None:
        url = f"http://127.0.0.1:{port}/"
        for _ in range(5):
            assert await send(client, url) == (200, b"ok")

    run(answering(OK, OK), test)


def test_informational_answers_are_passed_over_and_long_bodies_cut() -> None:
    size = MAX_ANSWER_BYTES + 10
    head = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size

    async def test(client: HttpClient, port: int) -> None:
        status, body = await send(client, f"http://127.0.0.1:{port}/")
        assert (status, len(body)) == (200, MAX_ANSWER_BYTES)

    run(answering(head + b"x" * size), test)


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
def test_broken_answer_is_a_failure(answer: bytes) -> None:
    async def test(client: HttpClient, port: int) -> None:
        with pytest.raises(HttpFailed):
            await send(client, f"http://127.0.0.1:{port}/")

    run(answering(answer), test)


def test_silence_is_a_failure_after_the_timeout() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def test(client: HttpClient, port: int) -> None:
        with pytest.raises(HttpFailed, match="timeout after 20 ms"):
            await send(client, f"http://127.0.0.1:{port}/", timeout_ms=20)

    run(serve, test)


def test_refused_connection_is_a_failure() -> None:
    async def main() -> None:
        server = await asyncio.start_server(answering(OK), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        with pytest.raises(HttpFailed):
            await send(HttpClient(), f"http://127.0.0.1:{port}/")

    asyncio.run(main())


@pytest.fixture
def server_tls(tmp_path: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context


def test_certificate_is_verified_unless_told_otherwise(server_tls: ssl.SSLContext) -> None:
    async def test(client: HttpClient, port: int) -> None:
        assert await send(client, f"https://127.0.0.1:{port}/") == (200, b"ok")
        with pytest.raises(HttpFailed, match="certificate verify failed"):
            await send(HttpClient(verify=True), f"https://127.0.0.1:{port}/")

    run(answering(OK), test, server_tls)


@pytest.mark.parametrize(
    ("url", "authority", "path", "user", "password"),
    [
        ("http://h", "h", "/", None, None),
        ("https://u:p%40@h:443/x?y", "h", "/x", "u", "p@"),
        ("http://[::1]:81/a/b", "[::1]:81", "/a/b", None, None),
    ],
)
def test_endpoint_is_taken_from_a_url(url: str, authority: str, path: str, user: str | None, password: str | None) -> None:
    endpoint = Endpoint.parse(url)
    assert (endpoint.authority, endpoint.path, endpoint.user, endpoint.password) == (authority, path, user, password)
    assert "p@" not in repr(endpoint)


@pytest.mark.parametrize("url", ["ftp://h", "h:80", "http://"])
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected http or https"):
        Endpoint.parse(url)
