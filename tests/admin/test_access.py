# SPDX-License-Identifier: Apache-2.0
"""Who may use the Admin API, how do they prove it, and what becomes of those who try without?"""

from __future__ import annotations

import asyncio
import datetime
import http.client
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylae.admin.refusals import MAX_LINES, Refusals
from tests.admin.process import ControlProcess
from tests.support.admin import Admin
from tests.support.certificates import Authority, Certificate, self_signed
from tests.support.raw import Client, request
from tests.support.wait import until

TOKEN = "sesame-of-the-admin-api"
SECOND = "sesame, with a comma and ümlaut"
GUI = "https://gui.test"


# === tokens ===


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SECOND_TOKEN", SECOND)
        settings = {
            "admin_auth_token": f"{TOKEN}, {{vault://env/second-token}}",
            "admin_gui_url": GUI,
            "log_level": "debug",
        }
        with ControlProcess(tmp_path_factory.mktemp("prefix"), settings) as process:
            yield process


@pytest.fixture
def admin(guarded: ControlProcess) -> Admin:
    return guarded.admin


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": f"bearer   {TOKEN} "},
        {"Kong-Admin-Token": TOKEN},
        {"KONG-ADMIN-TOKEN": SECOND.encode().decode("latin-1")},
        {"Authorization": "Basic YTpi", "Kong-Admin-Token": TOKEN},
    ],
    ids=str,
)
def test_who_knows_a_token_is_served(admin: Admin, headers: dict[str, str]) -> None:
    assert admin.call("GET", "/services", headers=headers).status == 200
    assert admin.call("POST", "/services", {"host": "a.test"}, headers=headers).status == 201


WRONG = {
    "none": {},
    "empty": {"Authorization": ""},
    "scheme alone": {"Authorization": "Bearer"},
    "empty bearer": {"Authorization": "Bearer "},
    "empty token": {"Kong-Admin-Token": ""},
    "guess": {"Authorization": "Bearer guess"},
    "a beginning": {"Authorization": f"Bearer {TOKEN[:-1]}"},
    "one more": {"Authorization": f"Bearer {TOKEN}x"},
    "upper case": {"Authorization": f"Bearer {TOKEN.upper()}"},
    "without its scheme": {"Authorization": TOKEN},
    "basic": {"Authorization": f"Basic {TOKEN}"},
    "both tokens": {"Authorization": f"Bearer {TOKEN}, {SECOND}".encode().decode("latin-1")},
    "half of the second": {"Kong-Admin-Token": "sesame"},
    "very long": {"Authorization": f"Bearer {'a' * 12_000}"},
    "not ASCII": {"Kong-Admin-Token": "\xff\xfe\xe4"},
    "the reference": {"Kong-Admin-Token": "{vault://env/second-token}"},
    "masked": {"Kong-Admin-Token": "******"},
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG.keys())
def test_who_does_not_is_refused_on_every_path_and_method(admin: Admin, headers: dict[str, str]) -> None:
    for method, path in [
        ("GET", "/"),
        ("POST", "/services"),
        ("DELETE", "/services/a"),
        ("GET", "/nothing-here"),
        ("PURGE", "/x"),
    ]:
        answer = admin.call(method, path, headers=headers)
        assert answer.status == 401, (method, path)
        assert answer.json == {"message": "Unauthorized"}
        assert answer.headers["www-authenticate"] == 'Bearer realm="admin"'
    assert admin.call("HEAD", "/", headers=headers).status == 401


def test_more_tries_than_a_request_may_hold_are_refused(guarded: ControlProcess) -> None:
    with Client(guarded.admin_port) as client:
        guesses = [f"Kong-Admin-Token: guess-{number}" for number in range(60)]
        assert (
            client.send(request("GET", "/", *guesses, f"Kong-Admin-Token: {TOKEN}", host="localhost")).read_reply().status == 401
        )


def test_a_token_longer_than_a_head_may_be_is_the_clients_fault(guarded: ControlProcess) -> None:
    with Client(guarded.admin_port) as client:
        client.send(request("GET", "/", f"Authorization: Bearer {'a' * 200_000}", host="localhost"))
        reply = client.read_head()
    assert 400 <= reply.status < 500
    assert guarded.admin.call("GET", "/", headers={"Kong-Admin-Token": TOKEN}).status == 200


def test_a_token_does_not_open_what_the_guard_keeps_shut(admin: Admin) -> None:
    held = {"Kong-Admin-Token": TOKEN}
    assert admin.call("GET", "/", headers={**held, "Host": "evil.test"}).status == 403
    assert admin.call("GET", "/", headers={**held, "Origin": "https://evil.test"}).status == 403


def test_browsers_may_ask_before_they_send_the_token(admin: Admin) -> None:
    asked = {"Origin": GUI, "Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization"}
    preflight = admin.call("OPTIONS", "/services", headers=asked)
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    # What follows needs it, and a page may read that it does.
    answer = admin.call("GET", "/services", headers={"Origin": GUI})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (401, GUI)
    assert admin.call("OPTIONS", "/services").status == 401
    assert admin.call("POST", "/services", {}, headers=asked).status == 401


def test_the_page_that_asks_for_a_token_is_shown_without_one(admin: Admin) -> None:
    assert admin.call("GET", "/docs").status == 200
    for method, path in [
        ("POST", "/docs"),
        ("GET", "/docs/"),
        ("GET", "//docs"),
        ("GET", "/docs/../services"),
        ("GET", "/d%6fcs"),
    ]:
        assert admin.call(method, path).status == 401, path
    assert admin.call("GET", "/openapi.json").status == 401


def test_the_status_api_asks_nobody(guarded: ControlProcess) -> None:
    assert guarded.status.call("GET", "/status").status == 200


def test_guesses_are_logged_with_their_address_and_do_not_fill_the_log(tmp_path: Path) -> None:
    with ControlProcess(tmp_path, {"admin_auth_token": TOKEN}) as process:
        for number in range(200):
            assert process.admin.call("GET", "/", headers={"Kong-Admin-Token": f"guess-number-{number}"}).status == 401
        lines = [line for line in process.error_log.splitlines() if "token" in line]
    assert len(lines) == 1
    assert lines[0].endswith("a wrong token was shown to the Admin API, client: 127.0.0.1")
    assert "[warn]" in lines[0]


def test_no_token_is_in_any_log(guarded: ControlProcess) -> None:
    for headers in ({"Kong-Admin-Token": TOKEN}, {"Authorization": f"Bearer {TOKEN}x"}):
        guarded.admin.call("GET", f"/services?token={TOKEN}", headers=headers)
        guarded.admin.call("GET", "/services", headers={**headers, "Referer": f"http://localhost/?{TOKEN}"})
    # The prefix holds no log that does not end in these.
    logs = [path.read_text() for path in (guarded.prefix / "logs").iterdir()] + [guarded.error_log]
    assert not any("sesame" in text for text in logs)


def test_who_guesses_from_many_addresses_is_counted() -> None:
    lines: list[str] = []

    async def attack() -> None:
        told: asyncio.Queue[str] = asyncio.Queue()
        refusals = Refusals(lambda level, text: told.put_nowait(text), window_s=0.05)
        for number in range(100):
            refusals.note(f"10.0.0.{number}", "no token was shown")
        while len(lines) <= MAX_LINES:
            lines.append(await asyncio.wait_for(told.get(), 10))
        refusals.note("10.0.0.1", "no token was shown")
        lines.append(told.get_nowait())
        assert told.empty()

    asyncio.run(attack())
    assert len(lines) == MAX_LINES + 2
    assert lines[MAX_LINES] == f"{100 - MAX_LINES} more refusals of the Admin API in the last 0.05 s"
    assert lines[-1] == "no token was shown, client: 10.0.0.1"


# === TLS ===


def s_client(port: int, *arguments: str) -> bool:
    """Whether `openssl s_client` comes to an agreement with the port."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-brief", *arguments]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=20, check=False)
    return b"CONNECTION ESTABLISHED" in done.stderr


@pytest.mark.parametrize(
    ("settings", "accepted", "refused"),
    [
        ({}, ["-tls1_2", "-tls1_3"], ["-tls1", "-tls1_1"]),
        ({"ssl_cipher_suite": "old"}, ["-tls1_2", "-tls1_3"], ["-tls1_1"]),
        ({"ssl_cipher_suite": "modern"}, ["-tls1_3"], ["-tls1_2"]),
        ({"ssl_protocols": "TLSv1.3"}, ["-tls1_3"], ["-tls1_2"]),
        ({"ssl_protocols": "TLSv1.1 TLSv1.2"}, ["-tls1_2"], ["-tls1_1", "-tls1_3"]),
    ],
    ids=str,
)
def test_tls_is_1_2_at_least(tmp_path: Path, settings: dict[str, str], accepted: list[str], refused: list[str]) -> None:
    made = self_signed(tmp_path, "localhost")
    settings = {"admin_ssl_cert": str(made.certificate), "admin_ssl_cert_key": str(made.key), **settings}
    with ControlProcess(tmp_path, settings, admin_flags=["ssl"]) as process:
        for version in accepted:
            assert s_client(process.admin_port, version), version
        for version in refused:
            assert not s_client(process.admin_port, version, "-cipher", "DEFAULT@SECLEVEL=0"), version


def test_ciphers_are_those_of_the_settings(tmp_path: Path) -> None:
    made = self_signed(tmp_path, "localhost")
    settings = {
        "admin_ssl_cert": str(made.certificate),
        "admin_ssl_cert_key": str(made.key),
        "ssl_cipher_suite": "custom",
        "ssl_ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384",
    }
    with ControlProcess(tmp_path, settings, admin_flags=["ssl"]) as process:
        assert s_client(process.admin_port, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384")
        assert not s_client(process.admin_port, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")


@pytest.mark.parametrize("settings", [{"ssl_ciphers": "NOT-A-CIPHER"}, {"admin_ssl_cert_key": "of another"}])
def test_what_cannot_be_used_ends_the_start_with_its_name(tmp_path: Path, settings: dict[str, str]) -> None:
    made, other = self_signed(tmp_path, "localhost"), self_signed(tmp_path, "other")
    given = {
        "admin_ssl_cert": str(made.certificate),
        "admin_ssl_cert_key": str(made.key),
        "ssl_cipher_suite": "custom",
        **settings,
    }
    if settings.get("admin_ssl_cert_key"):
        given["admin_ssl_cert_key"] = str(other.key)
    process = ControlProcess(tmp_path, given, admin_flags=["ssl"])
    assert process.exit_code() == 1
    assert "[emerg]" in process.error_log
    assert "can't be used" in process.error_log
    assert "Traceback" not in process.error_log
    process.close()


def test_a_key_may_come_from_a_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = self_signed(tmp_path, "localhost")
    monkeypatch.setenv("ADMIN_PAIR_KEY", made.key.read_text())
    made.key.unlink()
    settings = {"admin_ssl_cert": str(made.certificate), "admin_ssl_cert_key": "{vault://env/admin-pair-key}"}
    with ControlProcess(tmp_path, settings, admin_flags=["ssl"]) as process, Client.tls(process.admin_port) as client:
        assert client.send(request("GET", "/services", host="localhost")).read_reply().status == 200
        assert "PRIVATE KEY" not in (tmp_path / ".kong_env").read_text()
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]


def test_plain_http_on_the_tls_port_is_cut_off_and_logged_once(tmp_path: Path) -> None:
    made = self_signed(tmp_path, "localhost")
    settings = {"admin_ssl_cert": str(made.certificate), "admin_ssl_cert_key": str(made.key)}
    with ControlProcess(tmp_path, settings, admin_flags=["ssl"]) as process:
        for data in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x00" * 500, b"") * 5:
            with socket.create_connection(("127.0.0.1", process.admin_port), 5) as plain:
                plain.sendall(data)
                plain.shutdown(socket.SHUT_WR)
                assert b"HTTP/1.1 200" not in _rest(plain)
        with Client.tls(process.admin_port) as client:
            assert client.send(request("GET", "/services", host="localhost")).read_reply().status == 200
        lines = [line for line in process.error_log.splitlines() if "TLS handshake" in line]
        assert len(lines) == 1
        assert lines[0].endswith("TLS handshake failed on the Admin API: http request, client: 127.0.0.1")
        assert "Traceback" not in process.error_log


def test_who_says_nothing_at_the_tls_port_holds_no_end_up(tmp_path: Path) -> None:
    made = self_signed(tmp_path, "localhost")
    settings = {"admin_ssl_cert": str(made.certificate), "admin_ssl_cert_key": str(made.key)}
    with ControlProcess(tmp_path, settings, admin_flags=["ssl"]) as process:
        with (
            socket.create_connection(("127.0.0.1", process.admin_port), 5) as silent,
            Client.tls(process.admin_port) as client,
        ):
            # Served after the other was accepted.
            assert client.send(request("GET", "/services", host="localhost")).read_reply().status == 200
            process.send(signal.SIGTERM)
            assert process.exit_code() == 0
            assert _rest(silent) == b""
        assert process.error_log == ""


def _rest(link: socket.socket) -> bytes:
    found = b""
    try:
        while piece := link.recv(4096):
            found += piece
    except ConnectionResetError:
        return found
    return found


# === client certificates ===


class Mutual:
    """A control process that lets in only clients of one authority."""

    def __init__(self, folder: Path) -> None:
        self.ours, self.theirs = Authority(folder, "ours.test"), Authority(folder, "theirs.test")
        server = self.ours.sign("localhost")
        (folder / "prefix").mkdir()
        settings = {
            "admin_ssl_cert": str(server.certificate),
            "admin_ssl_cert_key": str(server.key),
            "admin_client_ca": str(self.ours.certificate),
        }
        self.process = ControlProcess(folder / "prefix", settings, admin_flags=["ssl"])

    def get(self, client: Certificate | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> int:
        """The status of one request with this client certificate.

        Raises:
            OSError: it was not let in.
        """
        context = ssl.create_default_context(cafile=str(self.ours.certificate))
        context.check_hostname = False
        context.minimum_version = context.maximum_version = version
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        connection = http.client.HTTPSConnection("127.0.0.1", self.process.admin_port, timeout=10, context=context)
        try:
            connection.request("GET", "/services")
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mutual]:
    made = Mutual(tmp_path_factory.mktemp("mutual"))
    with made.process:
        yield made


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_of_our_authority_is_let_in(mutual: Mutual, version: ssl.TLSVersion) -> None:
    assert mutual.get(mutual.ours.sign("operator"), version) == 200


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("who", ["nobody", "of another authority", "self-signed", "expired"])
def test_others_are_not(mutual: Mutual, tmp_path: Path, who: str, version: ssl.TLSVersion) -> None:
    client: Certificate | None = None
    if who == "of another authority":
        client = mutual.theirs.sign("stranger")
    elif who == "self-signed":
        client = self_signed(tmp_path, "operator")
    elif who == "expired":
        client = mutual.ours.sign("late", valid_for=-datetime.timedelta(days=1))
    with pytest.raises((OSError, http.client.HTTPException)):
        mutual.get(client, version)
    until(lambda: "TLS handshake failed on the Admin API" in mutual.process.error_log, "the line in the log")
    assert "Traceback" not in mutual.process.error_log


def test_the_status_api_needs_no_client_certificate(mutual: Mutual) -> None:
    assert mutual.process.status.call("GET", "/status").status == 200
