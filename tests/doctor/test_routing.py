# SPDX-License-Identifier: Apache-2.0
"""Is it told which Route a URL meets, and why none?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.support.blueprints import Blueprints, unique
from tests.support.gateway import Gateway
from tests.support.origin import Origin, answer, good
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """One gateway for the module."""
    with Gateway() as started:
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


def verdicts(gateway: Gateway, *arguments: str) -> list[dict[str, Any]]:
    """What is found."""
    done = gateway.command("doctor", "--json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    return cast("list[dict[str, Any]]", json.loads(done.stdout))


def test_a_url_leads_to_its_route_and_its_service(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    service = blueprints.service(f"http://127.0.0.1:{echo.port}/inner")
    route = blueprints.route(service, preserve_host=True)
    gateway.settle()
    echo.forget()
    done = gateway.command("doctor", f"http://shop.test{route['paths'][0]}/7?a=b", "-H", "X-A: 1")
    assert done.returncode == 0, done.stdout
    assert f"✓ route        {route['name']} by paths {route['paths'][0]}" in done.stdout
    assert f"Service {service['name']}  " in done.stdout
    assert {(one.method, one.target, one.header("Host")) for one in echo.requests} == {
        ("GET", "/inner/7?a=b", "shop.test"),
        ("HEAD", "/inner/7?a=b", "shop.test"),
    }
    assert all(one.header("X-A") == "1" for one in echo.requests)


def test_a_url_that_no_route_matches_names_the_nearest_and_why(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    route = blueprints.route(blueprints.service(echo), methods=["POST"], paths=[f"/{unique('only-post')}"])
    gateway.settle()
    (document,) = verdicts(gateway, f"http://127.0.0.1:{gateway.proxy_port}{route['paths'][0]}")
    verdict = document["verdict"]
    assert (verdict["cause"], verdict["hop"], document["status"]) == ("no_route", "gateway", 404)
    assert any(route["name"] in line and "methods" in line for line in verdict["evidence"])
    assert verdict["confidence"] >= 0.8


def test_a_route_for_https_alone_and_one_without_a_service_are_told(
    gateway: Gateway, blueprints: Blueprints, echo: Origin
) -> None:
    secure = blueprints.route(blueprints.service(echo), protocols=["https"])
    bare = blueprints.route(None)
    gateway.settle()
    found = verdicts(gateway, f"http://127.0.0.1:{gateway.proxy_port}{secure['paths'][0]}")
    assert {document["verdict"]["cause"] for document in found} == {"https_required"}
    assert verdicts(gateway, f"https://127.0.0.1:{gateway.proxy_tls_port}{secure['paths'][0]}") == []
    found = verdicts(gateway, f"http://127.0.0.1:{gateway.proxy_port}{bare['paths'][0]}")
    assert {document["verdict"]["cause"] for document in found} == {"no_service"}


def test_the_status_of_a_path_that_was_asked_for_counts(gateway: Gateway, blueprints: Blueprints) -> None:
    with Origin(answer(b"oops", status="500 Internal Server Error")) as origin:
        path = blueprints.path(origin)
        found = verdicts(gateway, f"http://127.0.0.1:{gateway.proxy_port}{path}")
    assert {document["status"] for document in found} == {500}
    assert {document["verdict"]["cause"] for document in found} == {"upstream_error"}
    assert {document["verdict"]["hop"] for document in found} == {"upstream"}
    assert {document["route"]["name"] for document in found if document["route"]} != set()


def test_a_dead_server_is_found_by_url(gateway: Gateway, blueprints: Blueprints) -> None:
    path = blueprints.path(f"http://127.0.0.1:{free_port()}", retries=0)
    found = verdicts(gateway, f"http://127.0.0.1:{gateway.proxy_port}{path}")
    assert {document["verdict"]["cause"] for document in found} == {"connect_refused"}
    assert {document["verdict"]["finding"] for document in found} == {"nothing_listens"}
