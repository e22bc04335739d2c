# SPDX-License-Identifier: Apache-2.0
"""What becomes of a request whose upstream has a name instead of an address?"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin
from tests.support.ports import free_port
from tests.support.servers.dns import NameServer


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    server = NameServer()
    server.addresses["good.test"] = ["127.0.0.1"]
    server.addresses["empty.test"] = []
    server.failing.add("broken.test")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def gateway(names: NameServer) -> Iterator[Gateway]:
    with Gateway({"dns_resolver": f"127.0.0.1:{names.port}"}) as started:
        yield started


def test_a_known_name_is_called_by_its_name(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.path(f"http://good.test:{echo.port}/")
    assert gateway.get(path).status == 200
    assert echo.last.header("Host") == f"good.test:{echo.port}"


@pytest.mark.parametrize("host", ["nowhere.test", "empty.test"])
def test_a_name_without_an_address_is_503(gateway: Gateway, blueprints: Blueprints, host: str) -> None:
    reply = gateway.get(blueprints.path(f"http://{host}/"), "Accept: application/json")
    assert reply.status == 503
    assert json.loads(reply.body)["message"] == "name resolution failed"
    gateway.error_log.wait_for("DNS resolution failed")


def test_a_resolver_that_fails_is_500(gateway: Gateway, blueprints: Blueprints) -> None:
    reply = gateway.get(blueprints.path("http://broken.test/"), "Accept: application/json")
    assert reply.status == 500
    assert json.loads(reply.body)["message"] == "dns server error: 2 server failure"
    gateway.error_log.wait_for("DNS resolution failed")


def test_localhost_needs_no_name_server(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    assert gateway.get(blueprints.path(f"http://localhost:{echo.port}/")).status == 200


def test_a_host_that_names_an_upstream_is_not_looked_up(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, names: NameServer
) -> None:
    upstream = blueprints.upstream(f"127.0.0.1:{echo.port}")
    assert gateway.get(blueprints.path(f"http://{upstream['name']}/")).status == 200
    assert upstream["name"] not in names.questions


def test_a_refused_name_is_named_with_its_address(gateway: Gateway, blueprints: Blueprints) -> None:
    port = free_port()
    assert gateway.get(blueprints.path(f"http://good.test:{port}/", retries=0)).status == 502
    (line,) = gateway.error_log.wait_for("Connection refused")
    assert f"127.0.0.1:{port}" in line
