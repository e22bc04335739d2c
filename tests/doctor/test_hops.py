# SPDX-License-Identifier: Apache-2.0
"""Is it told which hops saw a marked probe, with real load balancers before and behind a real gateway?"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.doctor.conftest import MakeOrigin
from tests.support.blueprints import Blueprints
from tests.support.certificates import Authority
from tests.support.gateway import Gateway
from tests.support.origin import RECORDED, Origin, answer, early_close, good, send_then_close
from tests.support.ports import free_port
from tests.support.servers.dns import NameServer
from tests.support.servers.haproxy import Haproxy
from tests.support.servers.nginx import Nginx


@pytest.fixture(scope="module")
def gateway(names: NameServer) -> Iterator[Gateway]:
    """One gateway for the module, which asks a name server of ours."""
    with Gateway({"dns_resolver": names.address, "dns_order": "LAST,A,CNAME"}) as started:
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
def first_lb(gateway: Gateway) -> Iterator[int]:
    """The port of an nginx before the gateway."""
    port = free_port()
    with Nginx.load_balancer(port, gateway.proxy_port):
        yield port


def printed(gateway: Gateway, url: str, *arguments: str) -> str:
    """What people see."""
    done = gateway.command("doctor", "--hops", url, *arguments)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def verdicts(gateway: Gateway, url: str, *arguments: str) -> list[dict[str, Any]]:
    """What is found."""
    done = gateway.command("doctor", "--hops", "--json", url, *arguments)
    assert done.returncode in (0, 1), done.stderr
    return cast("list[dict[str, Any]]", json.loads(done.stdout))


def of_first_lb(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The one verdict on what stands before the gateway."""
    (verdict,) = [document["verdict"] for document in found if document["verdict"]["hop"] in ("first_lb", "dns")]
    return cast("dict[str, Any]", verdict)


def test_a_load_balancer_without_a_gateway_behind_it_is_the_first_ones(gateway: Gateway) -> None:
    port = free_port()
    with Nginx.load_balancer(port, free_port()):
        verdict = of_first_lb(verdicts(gateway, f"http://127.0.0.1:{port}/x"))
    assert (verdict["finding"], verdict["cause"], verdict["written_by"]) == (
        "answered_before_gateway",
        "bad_gateway_behind",
        "nginx",
    )
    assert verdict["confidence"] >= 0.8


def test_an_url_that_leads_nowhere_is_not_blamed_on_the_gateway(gateway: Gateway) -> None:
    verdict = of_first_lb(verdicts(gateway, f"http://127.0.0.1:{free_port()}/x"))
    assert (verdict["finding"], verdict["cause"]) == ("not_reached_connect", "connect_refused")
    assert verdict["confidence"] < 0.8
    verdict = of_first_lb(verdicts(gateway, "http://nowhere.test/x"))
    assert (verdict["hop"], verdict["cause"]) == ("dns", "dns_failed")


def test_a_load_balancer_that_takes_requests_and_closes_is_no_sure_verdict(gateway: Gateway, make_origin: MakeOrigin) -> None:
    verdict = of_first_lb(verdicts(gateway, f"http://127.0.0.1:{make_origin(early_close).port}/x"))
    assert (verdict["finding"], verdict["cause"]) == ("lost_before_gateway", "closed_before_headers")
    assert verdict["confidence"] < 0.8


def test_the_certificate_that_clients_are_shown_is_looked_at(
    gateway: Gateway, names: NameServer, make_origin: MakeOrigin, authority: Authority
) -> None:
    names.set_a("shop.test", "127.0.0.1")
    context: ssl.SSLContext = authority.sign("other.test").server_context()
    origin = make_origin(answer(b"cached"), tls=context)
    verdict = of_first_lb(verdicts(gateway, f"https://shop.test:{origin.port}/x"))
    assert (verdict["cause"], verdict["finding"]) == ("client_tls_failed", "own_certificate_wrong_name")


def test_a_probe_that_comes_through_is_followed_to_the_server(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, first_lb: int
) -> None:
    path = blueprints.path(echo)
    text = printed(gateway, f"http://127.0.0.1:{first_lb}{path}")
    assert text.endswith("\nnothing found\n")
    assert "✓ first_lb" in text
    assert "passed it on" in text
    assert "✓ gateway      saw it as " in text
    assert f"✓ upstream     127.0.0.1:{echo.port}: answered 200" in text
    assert any(received.header("X-Pylae-Probe") for received in echo.requests)


@pytest.mark.parametrize("behaviour", ["bad_chunk", "truncated_chunked"])
def test_a_body_that_breaks_off_is_not_blamed_on_the_first_load_balancer(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, first_lb: int, behaviour: str
) -> None:
    wrong = send_then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n")
    path = blueprints.path(make_origin(wrong if behaviour == "bad_chunk" else RECORDED[behaviour]))
    found = verdicts(gateway, f"http://127.0.0.1:{first_lb}{path}")
    assert {document["verdict"]["hop"] for document in found} == {"upstream"}, found
    cause = "bad_response_body" if behaviour == "bad_chunk" else "closed_in_body"
    assert {document["verdict"]["cause"] for document in found} == {cause}
    assert any(document["request_id"] for document in found)
    assert all(document["status"] is not None for document in found)


def test_a_probe_that_this_gateway_refused_is_found_by_the_id_of_its_answer(
    gateway: Gateway, blueprints: Blueprints, echo: Origin
) -> None:
    url = f"http://127.0.0.1:{gateway.proxy_port}{blueprints.path(echo)}"
    text = printed(gateway, url, "-H", f"Cookie: {'c' * 9000}")
    assert "this node did not see it" not in text
    assert "✗ gateway      saw it as " in text
    assert "request_header_too_large" in text
    assert "ccc" not in text


def test_a_gateway_without_a_load_balancer_before_it_is_told(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    text = printed(gateway, f"http://127.0.0.1:{gateway.proxy_port}{blueprints.path(echo)}")
    assert text.endswith("\nnothing found\n")
    assert "there is none: the gateway was reached directly" in text


def test_a_second_load_balancer_without_a_server_is_named(gateway: Gateway, blueprints: Blueprints, first_lb: int) -> None:
    port = free_port()
    with Haproxy(port, free_port()):
        path = blueprints.path(f"http://127.0.0.1:{port}")
        found = verdicts(gateway, f"http://127.0.0.1:{first_lb}{path}", "--timeout", "10")
    assert {document["verdict"]["hop"] for document in found} == {"second_lb"}
    assert {document["verdict"]["cause"] for document in found} == {"unavailable_behind"}
    assert {document["verdict"]["written_by"] for document in found} == {"haproxy"}


def test_a_first_load_balancer_that_gives_up_is_told_from_the_gateway(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    def slow(connection: Any) -> None:
        connection.read_head()
        connection.wait_gone()

    path = blueprints.path(make_origin(slow))
    port = free_port()
    http = (
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{gateway.proxy_port};\n"
        "  proxy_read_timeout 1s; proxy_http_version 1.1; }} }}"
    ).replace("}} }}", "} }")
    with Nginx(http, [port]):
        verdict = of_first_lb(verdicts(gateway, f"http://127.0.0.1:{port}{path}", "--timeout", "3"))
    assert (verdict["cause"], verdict["written_by"]) == ("client_gone", "nginx")
