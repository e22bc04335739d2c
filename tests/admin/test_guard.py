# SPDX-License-Identifier: Apache-2.0
"""Can a web page drive the gateway through the administrator's own browser? Each test names the attack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pylae.admin.guard import Guard
from tests.admin.process import ControlProcess
from tests.support.admin import Admin

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


def test_without_a_console_only_those_who_are_no_page_see_a_star(tmp_path: Path) -> None:
    with ControlProcess(tmp_path) as process:
        headers = process.admin.call("GET", "/services").headers
        assert headers["access-control-allow-origin"] == "*"
        assert headers["access-control-allow-credentials"] == "true"
        assert "vary" not in headers
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
    assert "GET /a\\x0Aforged\\x0D refused: Host" in line
