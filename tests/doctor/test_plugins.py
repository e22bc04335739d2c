# SPDX-License-Identifier: Apache-2.0
"""Does the doctor say which plugins are in a request's way, live and of one that failed before?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.doctor_replay.chains import PLUGIN_PATH
from tests.support.blueprints import Blueprints, Entity
from tests.support.gateway import Gateway
from tests.support.origin import Origin, good


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """One gateway for the module, with plugins that fail."""
    with Gateway({"plugins": "bundled,culprit,bringer", "plugin_path": str(PLUGIN_PATH)}) as started:
        yield started


@pytest.fixture(scope="module")
def blueprints(gateway: Gateway) -> Blueprints:
    """Entities for the module's gateway."""
    return Blueprints(gateway)


@pytest.fixture(scope="module")
def echo() -> Iterator[Origin]:
    """A server that is well."""
    with Origin(good) as origin:
        yield origin


@pytest.fixture(scope="module")
def failing(blueprints: Blueprints, echo: Origin) -> Entity:
    """A Route with a plugin that raises and one that does nothing."""
    route = blueprints.route(blueprints.service(echo))
    blueprints.plugin("bringer", route, "route", header="X-B")
    blueprints.plugin("culprit", route, "route", does="raise")
    blueprints.gateway.settle()
    return route


@pytest.fixture(scope="module")
def guarded(blueprints: Blueprints, echo: Origin) -> Entity:
    """A Route that wants a key."""
    route = blueprints.route(blueprints.service(echo))
    blueprints.plugin("key-auth", route, "route")
    blueprints.gateway.settle()
    return route


def verdicts(gateway: Gateway, *arguments: str) -> list[dict[str, Any]]:
    """What is found."""
    done = gateway.command("doctor", "--json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    return cast("list[dict[str, Any]]", json.loads(done.stdout))


def test_the_plugin_that_makes_a_live_request_fail_is_named(gateway: Gateway, failing: Entity) -> None:
    (document,) = verdicts(gateway, f"http://127.0.0.1:{gateway.proxy_port}{failing['paths'][0]}")
    verdict = document["verdict"]
    assert (verdict["hop"], verdict["cause"], verdict["finding"]) == ("plugin", "plugin_failed", "failing_plugin")
    assert "`culprit`" in verdict["summary"]
    assert [plugin["name"] for plugin in document["plugins"] if plugin["is_needed_to_fail"]] == ["culprit"]
    assert document["status"] == 500
    assert len(document["request_id"]) == 32


def test_a_request_that_failed_before_is_told_by_its_id(gateway: Gateway, failing: Entity) -> None:
    reply = gateway.get(failing["paths"][0])
    found = verdicts(gateway, "--request", str(reply.request_id))
    assert {document["request_id"] for document in found} == {reply.request_id}
    assert {document["verdict"]["cause"] for document in found} == {"plugin_failed"}
    assert any(document["verdict"]["finding"] == "failing_plugin" for document in found)


def test_a_refusal_for_want_of_a_key_names_the_plugin_and_what_it_wants(
    gateway: Gateway, blueprints: Blueprints, guarded: Entity
) -> None:
    url = f"http://127.0.0.1:{gateway.proxy_port}{guarded['paths'][0]}"
    without = gateway.command("doctor", url)
    assert without.returncode == 1, without.stdout
    assert "✗ gateway      GET" in without.stdout
    assert "-H 'NAME: VALUE' of this command gives it what it asks for" in without.stdout
    for arguments in ((url,), ("--hops", url)):
        (document,) = verdicts(gateway, *arguments)
        verdict = document["verdict"]
        assert (verdict["hop"], verdict["cause"], verdict["finding"]) == ("plugin", "plugin_refused", "credential_missing")
        assert "`key-auth`" in verdict["summary"]
        assert document["status"] == 401
        assert not any("enabled=false" in line for line in verdict["cure"])
    key = blueprints.key(blueprints.consumer())
    gateway.settle()
    assert verdicts(gateway, url, "-H", f"apikey: {key}") == []
    (document,) = verdicts(gateway, url, "-H", "apikey: wrong")
    assert (document["verdict"]["cause"], document["verdict"]["hop"]) == ("plugin_refused", "plugin")
    assert "wrong" not in json.dumps(document)


def test_a_refusal_of_before_is_told_once_and_leaves_the_plugin_on(gateway: Gateway, guarded: Entity) -> None:
    reply = gateway.get(guarded["paths"][0])
    assert reply.status == 401
    (document,) = verdicts(gateway, "--request", str(reply.request_id))
    assert (document["status"], document["verdict"]["finding"]) == (401, "credential_missing")
    assert not any("enabled=false" in line for line in document["verdict"]["cure"])
    assert "`key-auth` is assumed" in gateway.command("doctor", "--request", str(reply.request_id)).stdout


def test_what_no_credential_mends_is_not_said_to_want_one(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    route = blueprints.route(blueprints.service(echo))
    blueprints.plugin("culprit", route, "route", does="demand")
    gateway.settle()
    done = gateway.command("doctor", f"http://127.0.0.1:{gateway.proxy_port}{route['paths'][0]}")
    assert done.returncode == 1, done.stdout
    assert "`culprit`" in done.stdout
    assert "plugin_refused" in done.stdout
    assert "gives it what it asks for" not in done.stdout


def test_an_id_that_no_record_has_is_nothing_to_look_at(gateway: Gateway) -> None:
    done = gateway.command("doctor", "--request", "0" * 32)
    assert done.returncode == 2
    assert "no record of request" in done.stderr
    assert gateway.command("doctor", "--request", "../services").returncode == 2
