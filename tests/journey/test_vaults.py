# SPDX-License-Identifier: Apache-2.0
"""Do plugins get the secrets that their configuration names, and does nobody else?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.blueprints import Blueprints, unique
from tests.support.gateway import Gateway
from tests.support.origin import Connection, Origin
from tests.support.wait import until

VARIABLES = {
    "SESAME": "sesame-in-the-environment",
    "SESAME_PREVIOUS": "sesame-of-yesterday",
    "APP_SESAME": "sesame-of-the-app",
    "SHOP_SESAME": "sesame-of-the-shop",
    "OBJECT": json.dumps({"token": "sesame-in-an-object", "number": 5}),
    "COLLECTOR_HEADER": "Bearer sesame-of-the-collector",
    "PG_SECRET": "sesame-of-postgres",
    "ROTATING": "sesame-before-rotation",
}


class Collector:
    """An endpoint for log entries that keeps where they were sent, and with which token."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str | None]] = []

    def __call__(self, connection: Connection) -> None:
        while True:
            received = connection.read_head()
            connection.read_body(received)
            self.calls.append((received.target, received.header("Authorization")))
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture(scope="module")
def collector() -> Collector:
    return Collector()


@pytest.fixture(scope="module")
def endpoint(collector: Collector) -> Iterator[Origin]:
    with Origin(collector) as origin:
        yield origin


@pytest.fixture(scope="module")
def gateway(endpoint: Origin) -> Iterator[Gateway]:
    settings = {
        "plugins": "bundled,vaulted",
        "vaults_check_interval": "0.2",
        "log_level": "debug",
        "pg_password": "{vault://env/pg-secret}",
        "pg_user": "{vault://env/pg-secret}",
    }
    with Gateway(settings, variables={**VARIABLES, "COLLECTOR_URL": f"{endpoint.url}sesame-in-a-path"}) as started:
        yield started


def plugged(blueprints: Blueprints, **config: Any) -> str:
    return blueprints.plugged("http://127.0.0.1:1", "vaulted", **config)


def seen(gateway: Gateway, path: str, *lines: str) -> dict[str, Any]:
    """The configuration as the plugin in the worker has it."""
    found: dict[str, Any] = json.loads(gateway.get(path, *lines).body)
    return found


def files(gateway: Gateway) -> list[Path]:
    """What lies in the prefix and its logs, and can be read."""
    return [path for path in gateway.prefix.rglob("*") if path.is_file()]


def test_references_are_resolved_wherever_they_may_stand(gateway: Gateway, blueprints: Blueprints) -> None:
    reference = "{vault://env/sesame}"
    path = plugged(
        blueprints,
        token=reference,
        inner={"token": "{vault://env/object/token}", "plain": reference},
        many=["{vault://env/sesame#2}", "as it is", "Bearer {vault://env/sesame}"],
        named={"a": "{vault://env/sesame?prefix=app-}", "b": "plain"},
        records=[{"token": reference, "plain": reference}],
    )
    assert seen(gateway, path) == {
        "token": "sesame-in-the-environment",
        "inner": ["sesame-in-an-object", reference],
        "many": ["sesame-of-yesterday", "as it is", "Bearer {vault://env/sesame}"],
        "named": {"a": "sesame-of-the-app", "b": "plain"},
        "records": [["sesame-in-the-environment", reference]],
    }


def test_the_admin_api_shows_references_and_never_secrets(gateway: Gateway, blueprints: Blueprints) -> None:
    created = blueprints.plugin(
        "vaulted", blueprints.route(blueprints.service("http://127.0.0.1:1")), "route", token="{vault://env/sesame}"
    )
    assert created["config"]["token"] == "{vault://env/sesame}"
    assert gateway.admin.get(f"/plugins/{created['id']}")["config"]["token"] == "{vault://env/sesame}"
    configuration = gateway.admin.get("/")["configuration"]
    assert (configuration["pg_password"], configuration["pg_user"]) == ("******", "{vault://env/pg-secret}")


def test_a_row_of_vaults_leads_to_secrets_and_its_change_reaches_the_plugin(gateway: Gateway, blueprints: Blueprints) -> None:
    name = unique("apps")
    path = plugged(blueprints, token=f"{{vault://{name}/sesame}}")
    assert seen(gateway, path)["token"] == ""
    assert len(gateway.error_log.wait_for(f"there is no vault `{name}`")) == 1
    vault = gateway.admin.post("/vaults", {"prefix": name, "name": "env", "config": {"prefix": "app_"}})
    gateway.settle()
    assert seen(gateway, path)["token"] == "sesame-of-the-app"
    gateway.admin.patch(f"/vaults/{vault['id']}", {"config": {"prefix": "shop-"}})
    gateway.settle()
    assert seen(gateway, path)["token"] == "sesame-of-the-shop"
    gateway.admin.delete(f"/vaults/{name}")
    gateway.settle()
    assert seen(gateway, path)["token"] == ""


def test_an_unresolvable_reference_is_empty_and_told_once(gateway: Gateway, blueprints: Blueprints) -> None:
    path = plugged(blueprints, token="{vault://env/nowhere-at-all}", inner={"token": "{vault://env/object/number}"})
    for _ in range(3):
        assert seen(gateway, path)["token"] == ""
    assert seen(gateway, path)["inner"][0] == ""
    (line,) = gateway.error_log.wait_for("{vault://env/nowhere-at-all}")
    assert "[warn]" in line
    assert "the environment has no variable NOWHERE_AT_ALL" in line


def test_a_secret_that_changes_reaches_the_plugin(gateway: Gateway, blueprints: Blueprints) -> None:
    path = plugged(blueprints, token="{vault://env/rotating}")
    assert seen(gateway, path)["token"] == "sesame-before-rotation"
    assert seen(gateway, path, "Set-Environment: ROTATING=sesame-after-rotation")["token"] == "sesame-before-rotation"
    until(lambda: seen(gateway, path)["token"] == "sesame-after-rotation", "the new secret")
    assert gateway.error_log.containing("has new secrets")


def test_a_new_secret_that_cannot_be_used_leaves_the_old_one(gateway: Gateway, blueprints: Blueprints) -> None:
    path = plugged(blueprints, token="{vault://env/fragile?ttl=1}")
    seen(gateway, path, "Set-Environment: FRAGILE=sesame-that-is-strong")
    until(lambda: seen(gateway, path)["token"] == "sesame-that-is-strong", "the new secret")
    gateway.get(path, "Set-Environment: FRAGILE=unusable-sesame")
    (line, *_) = gateway.error_log.wait_for("keeps its secrets")
    assert "the token ****** cannot be used" in line
    assert seen(gateway, path)["token"] == "sesame-that-is-strong"


def test_a_configuration_that_cannot_be_used_is_told_without_its_secret(gateway: Gateway, blueprints: Blueprints) -> None:
    path = plugged(blueprints, token="unusable-sesame-in-clear")
    assert gateway.get(path).status == 500
    (line, *_) = gateway.error_log.wait_for("cannot use its configuration")
    assert "ValueError: the token ****** cannot be used" in line


def test_http_log_sends_to_a_secret_place_with_a_secret(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, collector: Collector
) -> None:
    path = blueprints.plugged(
        echo,
        "http-log",
        http_endpoint="{vault://env/collector-url}",
        headers={"Authorization": "{vault://env/collector-header}"},
    )
    assert gateway.get(path).status == 200
    until(lambda: collector.calls, "an entry")
    assert collector.calls[0] == ("/sesame-in-a-path", "Bearer sesame-of-the-collector")


def test_an_endpoint_that_fails_is_told_without_what_is_secret_in_it(
    gateway: Gateway, blueprints: Blueprints, echo: Origin
) -> None:
    url = "http://sesame-user:sesame-password@127.0.0.1:1/sesame-in-a-path?sesame=1"
    path = blueprints.plugged(echo, "http-log", http_endpoint=url, queue={"max_retry_time": 0})
    assert gateway.get(path).status == 200
    (line, *_) = gateway.error_log.wait_for("failed:")
    assert "http://127.0.0.1:1" in line
    assert "sesame" not in line


def test_no_secret_lies_in_the_prefix(gateway: Gateway, blueprints: Blueprints) -> None:
    path = plugged(blueprints, token="{vault://env/sesame}", inner={"token": "{vault://env/object/token}"})
    assert seen(gateway, path)["token"] == "sesame-in-the-environment"
    until(lambda: (gateway.prefix / "snapshot.bin").exists(), "the snapshot on disk")
    secrets = [value.encode() for name, value in VARIABLES.items() if name != "OBJECT"] + [b"sesame-in-an-object"]
    leaks = [(path.name, secret) for path in files(gateway) for secret in secrets if secret in path.read_bytes()]
    assert not leaks
    assert not gateway.error_log.containing("sesame-in-a-path")
    assert "pg_password = {vault://env/pg-secret}" in (gateway.prefix / ".kong_env").read_text()


# === without a database ===


@pytest.fixture(scope="module")
def without_database() -> Iterator[Gateway]:
    settings = {"plugins": "bundled,vaulted", "database": "off", "log_level": "debug"}
    with Gateway(settings, variables=VARIABLES) as started:
        yield started


def document(prefix: str | None, **config: Any) -> dict[str, Any]:
    """A declarative configuration whose plugin finds its token in the vault `apps`."""
    plugin = {"name": "vaulted", "config": {"token": "{vault://apps/sesame}", **config}}
    route = {"name": "only", "paths": ["/only"], "plugins": [plugin]}
    vaults = [] if prefix is None else [{"prefix": "apps", "name": "env", "config": {"prefix": prefix}}]
    service = {"name": "s", "url": "http://127.0.0.1:1", "routes": [route]}
    return {"_format_version": "3.0", "vaults": vaults, "services": [service]}


def test_a_declared_vault_leads_to_secrets_and_a_new_one_to_others(without_database: Gateway) -> None:
    for prefix, token in (
        ("app-", "sesame-of-the-app"),
        ("shop-", "sesame-of-the-shop"),
        (None, ""),
        ("app-", "sesame-of-the-app"),
    ):
        without_database.admin.post("/config", document(prefix))
        without_database.settle()
        assert seen(without_database, "/only")["token"] == token, prefix


def test_a_document_that_is_refused_is_not_logged(without_database: Gateway) -> None:
    refused = document("app-", inner={"token": "sesame-in-a-document"}, nonsense=1)
    refused["keyauth_credentials"] = [{"key": "sesame-in-a-key", "consumer": "nobody"}]
    assert without_database.admin.call("POST", "/config", refused).status == 400
    text = json.dumps(refused).replace("{", "{ sesame-", 1)
    for body in (b"{sesame-in-no-document", text.encode(), json.dumps({"config": text}).encode()):
        answer = without_database.admin.call("POST", "/config", body, {"Content-Type": "application/json"})
        assert 400 <= answer.status < 500
    logs = [path.read_text(errors="replace") for path in (without_database.prefix / "logs").iterdir()]
    assert not any("sesame-in" in text for text in logs)
