# SPDX-License-Identifier: Apache-2.0
"""Can a web page drive the gateway through the administrator's own browser? Each test names the attack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pylae.admin.guard import Guard
from tests.admin.process import ControlProcess
from tests.support.admin import Admin
from tests.support.raw import Reply, exchange, request

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GUI = "https://gui.test:8445"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    settings = {"admin_gui_url": f"{GUI}/manager/, http://other-gui.test", "admin_hosts": "admin.test"}
    with ControlProcess(tmp_path_factory.mktemp("prefix"), settings) as process:
        yield process


@pytest.fixture
def admin(guarded: ControlProcess) -> Admin:
    return guarded.admin


def is_refused(admin: Admin, headers: dict[str, str], name: str) -> bool:
    answer = admin.call("POST", "/services", f"name={name}&url=http://evil.test".encode(), {**FORM, **headers})
    stored = admin.call("GET", f"/services/{name}").status == 200
    assert stored == (answer.status == 201)
    if answer.status == 403:
        assert answer.json["message"]
    return answer.status == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.test", "null", "https://gui.test", "http://gui.test:8445", f"{GUI}.evil.test", ""]
)
def test_csrf_a_form_post_of_another_origin_is_refused(admin: Admin, origin: str) -> None:
    assert is_refused(admin, {"Origin": origin}, "csrf-origin")


def test_csrf_a_request_of_another_site_without_origin_is_refused(admin: Admin) -> None:
    assert is_refused(admin, {"Sec-Fetch-Site": "cross-site"}, "csrf-fetch")
    assert admin.call("GET", "/services", headers={"Sec-Fetch-Site": "cross-site"}).status == 403


def test_csrf_a_preflight_of_another_origin_gets_no_permission(admin: Admin) -> None:
    headers = {"Origin": "http://evil.test", "Access-Control-Request-Method": "PUT"}
    answer = admin.call("OPTIONS", "/services", headers=headers)
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:8001", "127.0.0.1.evil.test", "10.0.0.1", "user@localhost", "localhost/x", ""]
)
def test_dns_rebinding_a_name_that_is_not_ours_is_refused(admin: Admin, host: str) -> None:
    assert is_refused(admin, {"Host": host}, "rebinding")
    assert admin.call("GET", "/services", headers={"Host": host}).status == 403


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8001", "127.0.0.1:1", "127.9.9.9", "[::1]:8001", "admin.test:8001", "localhost.", "kong.localhost"],
)
def test_ours_by_every_name(admin: Admin, host: str) -> None:
    assert admin.call("GET", "/services", headers={"Host": host}).status == 200


@pytest.mark.parametrize("origin", [GUI, "http://other-gui.test"])
def test_the_configured_console_may_drive_and_read(admin: Admin, origin: str) -> None:
    answer = admin.call("GET", "/services", headers={"Origin": origin, "Sec-Fetch-Site": "cross-site"})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)
    assert (answer.headers["access-control-allow-credentials"], answer.headers["vary"]) == ("true", "Origin")
    preflight = admin.call("OPTIONS", "/services", headers={"Origin": origin, "Access-Control-Request-Headers": "X-A"})
    assert (preflight.status, preflight.headers["access-control-allow-headers"]) == (204, "X-A")


def test_nobody_else_is_told_that_they_may_read(admin: Admin) -> None:
    assert admin.call("GET", "/services").headers["access-control-allow-origin"] == GUI
    refused = admin.call("GET", "/services", headers={"Origin": "http://evil.test"})
    assert (refused.status, "access-control-allow-origin" in refused.headers) == (403, False)


def test_a_page_of_the_apis_own_may_drive_and_read(guarded: ControlProcess) -> None:
    own = f"http://127.0.0.1:{guarded.admin_port}"
    answer = guarded.admin.call("POST", "/services", {"host": "h.test"}, {"Origin": own, "Sec-Fetch-Site": "same-origin"})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (201, own)
    for other in (f"https://127.0.0.1:{guarded.admin_port}", "http://127.0.0.1:1", "http://127.0.0.1"):
        assert guarded.admin.call("GET", "/services", headers={"Origin": other}).status == 403


def test_without_a_console_no_origin_is_shown(tmp_path: Path) -> None:
    with ControlProcess(tmp_path) as process:
        assert "access-control-allow-origin" not in process.admin.call("GET", "/services").headers
        refused = process.admin.call("GET", "/services", headers={"Origin": "http://evil.test"})
        assert (refused.status, "access-control-allow-origin" in refused.headers) == (403, False)


def test_on_every_address_numbers_are_ours_and_names_are_not() -> None:
    guard = Guard([], ["0.0.0.0"])
    assert guard.refusal("192.168.1.9:8001", None, None, "http") is None
    assert guard.refusal("evil.test:8001", None, None, "http") is not None
    assert Guard([], ["10.0.0.5"]).refusal("10.0.0.5:8001", None, None, "http") is None


def test_a_refusal_is_one_line_of_the_log_whatever_the_path(guarded: ControlProcess) -> None:
    guarded.admin.call("GET", "/a%0Aforged%0D", headers={"Host": "evil.test"})
    line = (guarded.prefix / "logs" / "error.log").read_text().splitlines()[-1]
    assert "GET /a%0Aforged%0D refused: Host" in line


# === the host of the target ===


def absolute(guarded: ControlProcess, target_host: str, host: str, *lines: str) -> Reply:
    return exchange(guarded.admin_port, request("GET", f"http://{target_host}/services?size=1", *lines, host=host))


@pytest.mark.parametrize("host", ["admin.test", "localhost:8001", "evil.test"])
def test_a_target_that_names_our_host_is_served_whatever_the_field_says(guarded: ControlProcess, host: str) -> None:
    reply = absolute(guarded, "admin.test:8001", host)
    assert (reply.status, b'"data"' in reply.body) == (200, True)


@pytest.mark.parametrize("target_host", ["evil.test", "user@localhost", "127.0.0.1.evil.test", ":8001", "[::1", "a:b:c"])
def test_a_target_of_another_host_is_refused_though_the_field_is_ours(guarded: ControlProcess, target_host: str) -> None:
    assert absolute(guarded, target_host, "localhost").status == 403


def test_the_own_origin_is_that_of_the_target(guarded: ControlProcess) -> None:
    assert absolute(guarded, "localhost:81", "localhost:82", "Origin: http://localhost:81").status == 200
    assert absolute(guarded, "localhost:81", "localhost:82", "Origin: http://localhost:82").status == 403


def test_a_target_may_name_a_host_alone(guarded: ControlProcess) -> None:
    for target in ("HTTP://localhost", "http://localhost?x=1", "https://localhost/"):
        assert b"pylae_version" in exchange(guarded.admin_port, request("GET", target, host="localhost")).body
    for target in ("ftp://localhost/", "http:///services", "localhost:8001", "*"):
        assert exchange(guarded.admin_port, request("GET", target, host="localhost")).status == 404


# === the Status API ===


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.test"},
        {"Origin": GUI},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.test"},
    ],
)
def test_csrf_no_page_takes_the_node_out_of_rotation(guarded: ControlProcess, headers: dict[str, str]) -> None:
    answer = guarded.status.call("POST", "/status/ready", b"status=draining", {**FORM, **headers})
    assert answer.status == 403
    assert "admin_gui_url" not in answer.json["message"]
    assert guarded.status.call("GET", "/status/ready").json["message"] != "draining"


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "pod-7.test"}])
def test_anybody_may_ask_the_status_api_and_no_page_sees_the_answer(guarded: ControlProcess, headers: dict[str, str]) -> None:
    for given in ({}, headers):
        answer = guarded.status.call("GET", "/status", headers=given)
        assert answer.status == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_who_is_no_page_may_drain(tmp_path: Path) -> None:
    with ControlProcess(tmp_path) as process:
        assert process.status.call("POST", "/status/ready", b"status=draining", FORM).status == 204
        assert process.status.call("GET", "/status/ready").json == {"message": "draining"}
