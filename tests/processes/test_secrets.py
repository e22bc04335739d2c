# SPDX-License-Identifier: Apache-2.0
"""Do commands and processes find secrets, keep them to themselves, and still reach a gateway that asks for them?"""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import raw
from tests.support.certificates import self_signed
from tests.support.gateway import Gateway
from tests.support.ports import free_port
from tests.support.wait import until

TOKEN = "sesame-of-the-admin-api"
VARIABLES = {
    "ADMIN_TOKEN": TOKEN,
    "SESAME": "sesame-now",
    "SESAME_PREVIOUS": "sesame-before",
    "APP_SESAME": "sesame-of-the-app",
    "OBJECT": json.dumps({"password": "sesame-in-an-object", "number": 1}),
}


@pytest.fixture
def background() -> Iterator[Gateway]:
    """A gateway that asks for a token, to be started in the background."""
    settings = {"nginx_daemon": "on", "admin_auth_token": "{vault://env/admin-token}"}
    gateway = Gateway(settings, variables=VARIABLES)
    yield gateway
    gateway.stop_in_background()


def start(gateway: Gateway) -> None:
    started = gateway.command("start")
    assert (started.returncode, started.stdout, started.stderr) == (0, "Pylae started\n", "")


def get(gateway: Gateway, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and first line of complaint of `pylae vault get`."""
    done = gateway.command("vault", "get", *arguments)
    return done.returncode, done.stdout, done.stderr.partition("\n")[0]


# === pylae vault ===


@pytest.mark.parametrize(
    ("reference", "secret"),
    [
        ("{vault://env/sesame}", "sesame-now"),
        ("vault://env/sesame", "sesame-now"),
        ("env/sesame", "sesame-now"),
        ("env/sesame#2", "sesame-before"),
        ("env/sesame?prefix=app_", "sesame-of-the-app"),
        ("{vault://env/object/password}", "sesame-in-an-object"),
    ],
)
def test_vault_get_prints_the_secret(background: Gateway, reference: str, secret: str) -> None:
    assert get(background, reference) == (0, f"{secret}\n", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "Error: the 'get' command needs a <reference> argument"),
        (("{vault://env/nothing}",), "Error: {vault://env/nothing}: the environment has no variable NOTHING"),
        (("env/object/number",), "Error: {vault://env/object/number}: the secret has no member `number` that is a string"),
        (("env/sesame/key",), "Error: {vault://env/sesame/key}: the secret is not a JSON object"),
        (("nonsense",), "Error: `{vault://nonsense}` names no secret"),
        (("{env/sesame}",), "Error: not a reference: {env/sesame}"),
        (("{vault://ENV/sesame}",), "Error: `{vault://ENV/sesame}` names no vault"),
    ],
)
def test_vault_get_says_why_it_cannot(background: Gateway, arguments: tuple[str, ...], complaint: str) -> None:
    assert get(background, *arguments) == (1, "", complaint)


def test_vault_get_knows_the_settings(background: Gateway, tmp_path: Path) -> None:
    background.settings["vault_env_prefix"] = "app-"
    assert get(background, "env/sesame")[:2] == (0, "sesame-of-the-app\n")
    conf = tmp_path / "pylae.conf"
    conf.write_text("vaults = off\n")
    del background.settings["vault_env_prefix"]
    assert get(background, "-c", str(conf), "env/sesame")[2].endswith("the vault `env` is switched off")
    assert background.command("vault", "take", "env/sesame").returncode == 1


def test_vault_get_asks_the_running_gateway_for_rows(background: Gateway) -> None:
    assert get(background, "apps/sesame")[2].startswith("Error: the vault `apps` is an entity, and no gateway runs in")
    start(background)
    made = background.admin.call(
        "POST", "/vaults", {"prefix": "apps", "name": "env", "config": {"prefix": "APP_"}}, {"Kong-Admin-Token": TOKEN}
    )
    assert made.status == 201
    assert get(background, "apps/sesame") == (0, "sesame-of-the-app\n", "")
    assert get(background, "others/sesame")[2].endswith("there is no vault `others`")


# === pylae drain ===


@pytest.mark.parametrize("flag", ["", " ssl"])
def test_drain_tells_load_balancers_and_serves_on(background: Gateway, flag: str) -> None:
    background.settings["status_listen"] = f"127.0.0.1:{background.status_port}{flag}"
    assert background.command("drain").stderr.startswith("Error: Pylae not running in prefix")
    start(background)
    drained = background.command("drain")
    assert (drained.returncode, drained.stdout) == (0, "Pylae's status successfully changed to 'draining'\n")
    if not flag:
        assert raw.get(background.status_port, "/status/ready", host="localhost").status == 503
    assert raw.get(background.proxy_port, "/nothing").status == 404


def test_drain_without_a_status_listener_says_so(background: Gateway) -> None:
    background.settings["status_listen"] = "off"
    drained = background.command("drain")
    assert (drained.returncode, drained.stdout) == (0, "No status listeners found in configuration.\n")


# === a gateway whose settings are references ===


def test_commands_reach_a_gateway_that_asks_for_a_token(background: Gateway) -> None:
    start(background)
    assert background.admin.call("GET", "/services").status == 401
    assert background.admin.call("GET", "/services", headers={"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert background.command("health").returncode == 0
    # From a shell that does not have the secret, too.
    background.variables.pop("ADMIN_TOKEN")
    assert background.command("reload").stdout == "Pylae reloaded\n"
    until(lambda: background.admin.call("GET", "/services").status == 401, "the new control process")
    assert background.admin.call("GET", "/services", headers={"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert background.command("quit").stdout == "Pylae stopped (gracefully)\n"
    kept = [path for path in background.prefix.rglob("*") if path.is_file() and b"sesame" in path.read_bytes()]
    assert kept == []
    assert "admin_auth_token = {vault://env/admin-token}" in (background.prefix / ".kong_env").read_text()


def test_a_start_without_a_secret_says_which_and_leaves_nothing(background: Gateway) -> None:
    background.variables.pop("ADMIN_TOKEN")
    failed = background.command("start")
    assert failed.returncode == 1
    assert failed.stderr.startswith(
        "Error: admin_auth_token can't be resolved: {vault://env/admin-token}: the environment has no variable ADMIN_TOKEN\n"
    )
    assert background.tree() == []


def test_a_reload_to_a_secret_that_is_not_there_is_refused(background: Gateway) -> None:
    start(background)
    background.settings["pg_password"] = "{vault://env/nowhere}"
    refused = background.command("reload")
    assert refused.returncode == 1
    assert "pg_password can't be resolved: {vault://env/nowhere}" in refused.stderr
    assert background.admin.call("GET", "/services", headers={"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert "nowhere" not in (background.prefix / ".kong_env").read_text()


def test_the_admin_api_of_a_gateway_speaks_tls_with_a_certificate_made_at_start(background: Gateway) -> None:
    port = free_port()
    background.settings["admin_listen"] = f"127.0.0.1:{background.admin_port}, 127.0.0.1:{port} ssl"
    start(background)
    context = ssl.create_default_context(cafile=str(background.prefix / "ssl" / "admin-kong-default.crt"))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
    try:
        connection.request("GET", "/services", headers={"Kong-Admin-Token": TOKEN})
        assert connection.getresponse().status == 200
    finally:
        connection.close()


def test_the_proxy_takes_its_key_from_a_vault(background: Gateway, tmp_path: Path) -> None:
    made = self_signed(tmp_path, "gateway.test")
    background.variables["PROXY_KEY"] = made.key.read_text()
    background.settings |= {"ssl_cert": str(made.certificate), "ssl_cert_key": "{vault://env/proxy-key}"}
    start(background)
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{background.proxy_tls_port}", "-CAfile", str(made.certificate)],
        input=b"",
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert b"CN=gateway.test" in shown.stdout.replace(b" = ", b"=")
    assert b"Verification: OK" in shown.stdout
    keys = [path for path in background.prefix.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert {path.name for path in keys} <= {"admin-kong-default.key", "status-kong-default.key"}
