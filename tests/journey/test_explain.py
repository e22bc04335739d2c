# SPDX-License-Identifier: Apache-2.0
"""Does a gateway explain the requests that it served, to whoever asks next?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from tests.support.admin import Admin
from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Origin, close_on_accept, early_close, reset, send_then_close
from tests.support.ports import free_port
from tests.support.wait import until

MakeOrigin = Callable[[Behaviour], Origin]
SETTINGS = {"explain_sample_ratio": 1, "log_level": "info"}
SECRET = "a-secret-that-nobody-may-see"


def explained(gateway: Gateway, request_id: str | None) -> Any:
    """The explanation, asked for once: that it is there is for the gateway to see to."""
    assert request_id is not None
    answer = gateway.admin.call("GET", f"/explain/{request_id}")
    assert answer.status == 200, answer.body
    return answer.json


def check_line(gateway: Gateway, request_id: str, *words: str) -> str:
    """The line of a request in the error log."""
    (line,) = gateway.error_log.wait_for(f'request_id="{request_id}"')
    for word in words:
        assert word in line
    assert len(line.encode()) <= 2048
    return line


def test_a_request_that_failed_is_explained_as_soon_as_it_is_answered(gateway: Gateway, blueprints: Blueprints) -> None:
    path = blueprints.path(f"http://127.0.0.1:{free_port()}/")
    for _ in range(20):
        reply = gateway.get(path)
        assert reply.status == 502
        told = explained(gateway, reply.request_id)
        assert (told["kind"], told["status"], told["verdict"]["cause"]) == ("failed", 502, "connect_refused")
    assert told["verdict"]["hop"] in ("upstream", "network")
    assert told["is_config_current"] is True
    assert told["route"]["why"] == [{"condition": "paths", "value": path}]
    line = check_line(gateway, reply.request_id, "[warn]", "request failed: status=502 cause=connect_refused hop=")
    for name in ("phase", "confidence", "summary", "evidence", "cure"):
        assert re.search(rf"\b{name}=\S", line)


@pytest.mark.parametrize(
    ("behaviour", "causes"),
    [
        # It closes with the request unread: whether that is a RST depends on what had come by then.
        (close_on_accept, {"closed_before_headers", "reset", "write_failed"}),
        (early_close, {"closed_before_headers"}),
        (reset, {"reset"}),
        (send_then_close(b"SSH-2.0-OpenSSH_9.2\r\n"), {"protocol_mismatch"}),
    ],
    ids=["closed on accept", "closed early", "reset", "no HTTP"],
)
def test_how_a_server_failed_is_told(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, behaviour: Behaviour, causes: set[str]
) -> None:
    reply = gateway.get(blueprints.path(make_origin(behaviour)))
    told = explained(gateway, reply.request_id)
    verdict = told["verdict"]
    assert told["status"] == 502
    assert verdict["cause"] in causes
    assert verdict["evidence"]
    assert verdict["cure"]
    assert told["attempts"]
    check_line(gateway, reply.request_id, f"cause={verdict['cause']} hop={verdict['hop']} phase={verdict['phase']} ")


def test_requests_that_went_well_or_found_no_route_are_told_apart(gateway: Gateway, echo_path: str) -> None:
    good, lost = gateway.get(echo_path), gateway.get("/-/nothing-here")
    assert (good.status, lost.status) == (200, 404)
    assert explained(gateway, good.request_id)["kind"] == "sample"
    told = explained(gateway, lost.request_id)
    assert (told["kind"], told["verdict"]["cause"]) == ("refused", "no_route")
    check_line(gateway, lost.request_id, "[info]", f"request refused: status=404 cause=no_route hop={told['verdict']['hop']} ")
    until(lambda: good.request_id in [row["request_id"] for row in gateway.admin.get("/explain?kind=sample")["data"]], "the list")
    assert told["route"]["nearest"]
    newest = gateway.admin.get("/explain?kind=refused&cause=no_route")["data"][0]
    assert (newest["request_id"], newest["request"]["path"]) == (lost.request_id, "/-/nothing-here")


def test_no_secret_of_a_request_is_recorded(gateway: Gateway, blueprints: Blueprints) -> None:
    path = blueprints.path(f"http://127.0.0.1:{free_port()}/")
    body = f"{SECRET}-1"
    head = (
        f"POST {path}?key={SECRET}-2&name=x HTTP/1.1",
        "Host: gateway.test",
        f"Authorization: Bearer {SECRET}-3",
        f"Cookie: session={SECRET}-4",
        f"X-Own: {SECRET}-5",
        f"Referer: http://a.test/?{SECRET}-6",
        f"Content-Length: {len(body)}",
    )
    reply = gateway.send("\r\n".join((*head, "", body)).encode(), "POST")
    told = explained(gateway, reply.request_id)
    headers = {name.lower(): value for name, value in told["request"]["headers"]}
    assert headers["authorization"] is headers["cookie"] is headers["x-own"] is None
    assert sorted(told["request"]["query"]) == ["key", "name"]
    check_line(gateway, reply.request_id)
    assert SECRET not in json.dumps(told)
    assert SECRET not in json.dumps(gateway.admin.get("/explain"))
    assert SECRET not in "".join(line for line in gateway.error_log.lines() if "request failed" in line)


def test_failed_requests_are_counted(gateway: Gateway, blueprints: Blueprints) -> None:
    reply = gateway.get(blueprints.path(f"http://127.0.0.1:{free_port()}/"))
    service = explained(gateway, reply.request_id)["service"]
    with closing(Admin(gateway.status_port)) as status:
        metrics = status.call("GET", "/metrics").body.decode()
    labels = f'cause="connect_refused",side="upstream",service="{service["name"]}"'
    wanted = f"pylae_failed_requests_total{{{labels}}} 1"
    assert wanted in metrics.splitlines()


def test_what_control_kept_outlives_a_worker_and_not_control(gateway: Gateway, blueprints: Blueprints) -> None:
    reply = gateway.get(blueprints.path(f"http://127.0.0.1:{free_port()}/"))
    explained(gateway, reply.request_id)
    assert gateway.command("reload").returncode == 0
    gateway.settle()
    again = gateway.get(blueprints.path(f"http://127.0.0.1:{free_port()}/"))
    assert explained(gateway, again.request_id)["verdict"]["cause"] == "connect_refused"


def test_a_request_that_another_attempt_saved_is_told(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    upstream = blueprints.upstream(f"127.0.0.1:{free_port()}", f"127.0.0.1:{echo.port}", algorithm="round-robin")
    path = blueprints.path(f"http://{upstream['name']}/")
    told = [explained(gateway, gateway.get(path).request_id) for _ in range(4)]
    recovered = [one for one in told if one["kind"] == "recovered"]
    assert recovered
    for one in recovered:
        assert one["status"] == 200
        assert [attempt.get("fault") for attempt in one["attempts"]] == ["connect_refused", None]
    # Nothing failed for who asked: the error log says nothing above its level of information.
    ids = [one["request_id"] for one in recovered]
    assert not [line for line in gateway.error_log.containing("request failed") if any(id_ in line for id_ in ids)]


def test_a_header_that_comes_near_a_limit_is_warned_of(gateway: Gateway, echo_path: str) -> None:
    assert gateway.get(echo_path, f"X-Large: {SECRET}{'x' * 7000}").status == 200
    rows = until(lambda: gateway.admin.get("/warnings?kind=request_header_size")["data"], "the warning")
    assert rows[0]["facts"]["header"].lower() == "x-large"
    assert "`X-Large`" in rows[0]["text"]
    (line,) = gateway.error_log.wait_for(rows[0]["text"])
    assert "[warn]" in line
    with closing(Admin(gateway.status_port)) as status:
        assert rows[0]["key"] in [row["key"] for row in status.get("/status/warnings")["data"]]
    assert SECRET not in line + json.dumps(rows)
