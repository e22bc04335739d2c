# SPDX-License-Identifier: Apache-2.0
"""What does `pylae doctor` print, and with what does it exit, against a real gateway?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pylae.cli.doctor import declare
from pylae.cli.main import main
from pylae.explain.phases import PHASES
from tests.doctor.conftest import MakeOrigin
from tests.support.blueprints import Blueprints
from tests.support.gateway import COMMAND, Gateway
from tests.support.origin import Origin, answer, early_close, good
from tests.support.ports import free_port
from tests.support.servers.dns import NameServer
from tests.support.wait import until

DOCUMENT = Path(__file__).parents[2] / "docs" / "doctor.md"
HOPS = {"client", "first_lb", "gateway", "plugin", "dns", "network", "second_lb", "upstream"}


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


def doctor(gateway: Gateway, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One look."""
    return gateway.command("doctor", *arguments)


def verdicts(gateway: Gateway, *arguments: str) -> list[dict[str, Any]]:
    """What it finds."""
    done = doctor(gateway, "--json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    found = cast("list[dict[str, Any]]", json.loads(done.stdout))
    assert bool(found) == bool(done.returncode)
    return found


def test_all_is_well_at_a_service_that_is(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    service = blueprints.service(echo)
    blueprints.route(service)
    done = doctor(gateway, "--service", service["name"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Service {service['name']}  http://127.0.0.1:{echo.port}/\n  ✓ routes")
    assert "✗" not in done.stdout
    assert done.stdout.endswith("\nnothing found\n")
    assert verdicts(gateway, "--service", service["id"]) == []


def test_a_service_without_a_server_is_found_with_the_call_that_mends_it(gateway: Gateway, blueprints: Blueprints) -> None:
    service = blueprints.service(f"http://127.0.0.1:{free_port()}")
    done = doctor(gateway, "--service", service["name"])
    assert done.returncode == 1
    assert "✗ tcp          0 of 1 address reached" in done.stdout
    assert f"cure: curl -X PATCH http://localhost:{gateway.admin_port}/services/{service['name']} --data port=PORT" in done.stdout


def test_verdicts_have_the_shape_of_explain(gateway: Gateway, blueprints: Blueprints) -> None:
    service = blueprints.service(f"http://127.0.0.1:{free_port()}")
    (document,) = verdicts(gateway, "--service", service["name"])
    assert document["request_id"] is None
    assert document["status"] == 502
    assert document["service"] == {"id": service["id"], "name": service["name"]}
    assert document["attempts"][0]["ended"] == "refused"
    verdict = document["verdict"]
    assert verdict["hop"] in HOPS
    assert verdict["phase"] in PHASES
    assert set(verdict) == {
        "hop",
        "phase",
        "cause",
        "finding",
        "summary",
        "confidence",
        "evidence",
        "cure",
        "probes",
        "written_by",
        "flags",
    }
    assert verdict["flags"]["envoy"] == "UF"


def test_everything_is_looked_at_worst_first(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    dead, crashing = blueprints.service(f"http://127.0.0.1:{free_port()}"), blueprints.service(make_origin(early_close))
    found = verdicts(gateway, "--first-lb-timeout", "10")
    by_service = {document["service"]["id"] for document in found if document["service"]}
    assert {dead["id"], crashing["id"]} <= by_service
    assert [document["status"] is None for document in found] == sorted(document["status"] is None for document in found)
    broken = [document["verdict"]["confidence"] for document in found if document["status"]]
    assert broken == sorted(broken, reverse=True)


def test_of_many_services_those_that_are_well_take_a_line_each(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    names = [blueprints.service(echo)["name"] for _ in range(5)]
    dead = blueprints.service(f"http://127.0.0.1:{free_port()}")["name"]
    lines = doctor(gateway).stdout.splitlines()
    for name in names:
        assert [line.startswith("✓ Service") for line in lines if line.split(" (")[0].find(f" {name}  ") > 0] == [True]
    assert any(line.startswith(f"Service {dead}  ") for line in lines)


def test_names_are_looked_up_as_the_gateway_does(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_a("orders.test", "127.0.0.1")
    well = blueprints.service(f"http://orders.test:{echo.port}")
    lost = blueprints.service(f"http://ordres.test:{echo.port}")
    assert verdicts(gateway, "--service", well["name"]) == []
    assert echo.last.header("Host") == f"orders.test:{echo.port}"
    (document,) = verdicts(gateway, "--service", lost["name"])
    assert (document["verdict"]["cause"], document["verdict"]["hop"], document["status"]) == ("dns_failed", "dns", 503)


def test_an_upstream_without_targets_and_one_whose_targets_are_down(
    gateway: Gateway, blueprints: Blueprints, echo: Origin
) -> None:
    empty = blueprints.upstream()
    (document,) = verdicts(gateway, "--service", blueprints.service(f"http://{empty['name']}")["name"])
    assert (document["verdict"]["cause"], document["verdict"]["finding"]) == ("no_healthy_target", "no_target")
    dead = f"127.0.0.1:{free_port()}"
    half = blueprints.upstream(dead, f"127.0.0.1:{echo.port}")
    (document,) = verdicts(gateway, "--service", blueprints.service(f"http://{half['name']}")["name"])
    assert document["verdict"]["cause"] == "connect_refused"
    assert "1 of 2 addresses are reached" in document["verdict"]["evidence"]
    assert any(f"-X DELETE http://localhost:{gateway.admin_port}/upstreams/" in cure for cure in document["verdict"]["cure"])


def test_targets_that_count_as_unhealthy_and_answer_are_told_with_the_call_that_brings_them_back(
    gateway: Gateway, blueprints: Blueprints, echo: Origin
) -> None:
    target = f"127.0.0.1:{echo.port}"
    checks = {"passive": {"unhealthy": {"tcp_failures": 1}}}
    upstream = blueprints.upstream(target, healthchecks=checks)
    service = blueprints.service(f"http://{upstream['name']}")
    gateway.admin.call("PUT", f"/upstreams/{upstream['id']}/targets/{target}/unhealthy")
    path = f"/upstreams/{upstream['id']}/health"
    until(lambda: gateway.admin.get(path)["data"][0]["health"] == "UNHEALTHY", "the Target to count as unhealthy")
    (document,) = verdicts(gateway, "--service", service["name"])
    assert (document["verdict"]["finding"], document["verdict"]["hop"]) == ("all_unhealthy", "gateway")
    assert any(cure.endswith("/healthy") for cure in document["verdict"]["cure"])


def test_the_status_of_what_is_found_is_what_the_client_got(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    words = b"The plain HTTP request was sent to HTTPS port"
    service = blueprints.service(make_origin(answer(words, status="400 Bad Request")))
    route = blueprints.route(service)
    gateway.settle()
    for arguments in ((f"http://127.0.0.1:{gateway.proxy_port}{route['paths'][0]}",), ("--service", service["name"])):
        found = verdicts(gateway, *arguments)
        assert {document["status"] for document in found} == {400}, arguments
    route = blueprints.route(blueprints.service(make_origin(early_close)))
    # The plugin has no work in this version, and fails.
    blueprints.plugin("redirect", route, "route", location="https://a.test")
    gateway.settle()
    found = verdicts(gateway, f"http://127.0.0.1:{gateway.proxy_port}{route['paths'][0]}")
    assert {document["status"] for document in found} == {500}
    assert len(found) > 1


def test_times_in_the_wrong_order_are_told(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    service = blueprints.service(echo, retries=1, read_timeout=20_000)
    key = ("--service", service["name"])
    assert verdicts(gateway, *key, "--client-timeout", "70", "--first-lb-timeout", "60", "--second-lb-timeout", "10") == []
    found = verdicts(gateway, *key, "--first-lb-timeout", "30", "--second-lb-timeout", "25")
    assert {document["verdict"]["finding"] for document in found} == {"first_lb_before_gateway", "gateway_before_second_lb"}
    assert all(document["status"] is None for document in found)
    done = doctor(gateway, *key, "--first-lb-timeout", "30", "--second-lb-timeout", "15")
    assert "second load balancer          15.0 s    ◄ gives up first" in done.stdout


def test_a_request_is_sent_once_through_the_gateway_as_the_client_would(
    gateway: Gateway, blueprints: Blueprints, echo: Origin
) -> None:
    path = blueprints.path(echo)
    echo.forget()
    url = f"http://shop.test:{gateway.proxy_port}{path}/7?a=b"
    done = doctor(gateway, url, "-H", "Cookie: a=1", "--method", "PUT", "--data", "body")
    assert done.returncode == 0, done.stdout
    assert "✓ gateway      PUT" in done.stdout
    (put,) = [received for received in echo.requests if received.method == "PUT"]
    assert (put.target, put.body, put.header("Cookie")) == ("/7?a=b", b"body", "a=1")
    assert {received.method for received in echo.requests} <= {"PUT", "HEAD", "GET"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--service", "nobody"),
        ("http://x.test", "--service", "orders"),
        ("--hops",),
        ("-H", "Accept: x"),
        ("http://x.test", "-H", "no colon"),
        ("http://x.test", "-H", "A: b\r\nC: d"),
        ("http://x.test", "--method", "GET /"),
        ("ftp://x.test",),
        ("http://[::1",),
        ("--timeout", "0"),
        ("--watch=never",),
        ("--unknown",),
    ],
)
def test_arguments_that_mean_nothing_exit_with_2(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    for name, value in gateway.environment().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("Error: ")


def test_a_gateway_that_is_not_there_is_no_place_to_look(gateway: Gateway) -> None:
    listener = f"127.0.0.1:{free_port()}"
    nowhere = Gateway({"admin_listen": f"{listener} reuseport backlog=16384"})
    done = nowhere.command("doctor")
    nowhere.stop()
    assert done.returncode == 2
    assert f"{listener} does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_watching_prints_what_changes_until_it_is_interrupted(gateway: Gateway, blueprints: Blueprints) -> None:
    port = free_port()
    service = blueprints.service(f"http://127.0.0.1:{port}")
    command = [COMMAND, "doctor", "--watch=0.1", "--service", service["name"]]
    with subprocess.Popen(command, env=gateway.environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines: list[str] = []

        def read() -> None:
            lines.extend(iter(process.stdout.readline, ""))  # type: ignore[union-attr]  # it was made with a pipe

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        until(lambda: any("1. Nothing listens" in line for line in lines), "the first look", 20)
        with Origin(answer(b"ok"), port=port):
            until(lambda: any(line.startswith("- connect_refused") for line in lines), "the change", 20)
        until(lambda: any(line.startswith("+ connect_refused") for line in lines), "the change back", 20)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 1
        reader.join(5)
        assert sum("Service " in line for line in lines) == 1


def test_every_flag_is_in_the_documentation() -> None:
    parser = ArgumentParser()
    declare(parser)
    text = DOCUMENT.read_text(encoding="utf-8")
    flags = {flag for action in parser._actions for flag in action.option_strings} - {"-h", "--help"}
    assert {flag for flag in flags if f"`{flag}`" not in text} == set()
