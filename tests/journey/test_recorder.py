# SPDX-License-Identifier: Apache-2.0
"""What does the gateway remember of a request, whom does it tell, and what does it never tell?"""

from __future__ import annotations

import hashlib
import hmac
import json
import stat
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import ports
from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Origin, answer, early_close, good, send_then_close
from tests.support.wait import until

SETTINGS = {
    "plugins": "bundled,probe,probe-filter",
    "explain_sample_ratio": "0",
    "explain_headers": "trusted",
    "trusted_ips": "127.0.0.1/32",
}
MakeOrigin = Callable[[Behaviour], Origin]
SECRET = "hunter2-and-more"


def record_of(gateway: Gateway, request_id: str) -> dict[str, Any]:
    """The line of failures.jsonl of a request."""
    found = until(lambda: [one for one in gateway.failures.records() if one["request_id"] == request_id], "the record")
    assert len(found) == 1
    return found[0]


def explained(gateway: Gateway, request_id: str) -> dict[str, Any] | None:
    """What control knows of a request."""
    found = gateway.admin.call("GET", f"/explain/{request_id}")
    return found.json if found.status == 200 else None


@pytest.fixture(scope="module")
def dead_port() -> int:
    """A port nobody listens on."""
    return ports.free_port()


def test_a_refused_connection_is_recorded_from_the_client_to_the_last_attempt(
    gateway: Gateway, blueprints: Blueprints, dead_port: int
) -> None:
    service = blueprints.service(f"http://127.0.0.1:{dead_port}", retries=1, read_timeout=1234)
    route = blueprints.route(service)
    gateway.settle()
    reply = gateway.get(f"{route['paths'][0]}/orders?token={SECRET}&page", "User-Agent: a-test", f"Cookie: {SECRET}")
    assert reply.status == 502
    record = record_of(gateway, reply.request_id)
    assert (record["kind"], record["status"], record["fault"], record["side"]) == ("failed", 502, "connect_refused", "upstream")
    assert (record["phase"], record["between"]) == ("connect", f"gateway -> 127.0.0.1:{dead_port}")
    assert record["answered_by"] == "gateway"
    version = gateway.status()["pylae"]["version"]
    assert record["config"].rpartition(":")[2] == str(version["sequence"] if isinstance(version, dict) else version[1])
    request = record["request"]
    assert request["line"] == f"GET {route['paths'][0]}/orders?token=***&*** HTTP/1.1"
    assert (request["path"], request["query"]) == (f"{route['paths'][0]}/orders", ["token", "***"])
    assert (request["header_limit_bytes"], request["head_limit_bytes"]) == (8192, 32768)
    assert ["User-Agent", "a-test"] in request["headers"]
    assert ["Cookie", None] in request["headers"]
    assert request["head_bytes"] == request["received_bytes"]
    assert record["client"]["ip"] == "127.0.0.1"
    assert record["client"]["is_trusted"] is True
    assert (record["route"]["id"], record["route"]["strip_path"]) == (route["id"], True)
    assert record["route"]["path_prefix_bytes"] == len(route["paths"][0])
    assert (record["service"]["id"], record["service"]["port"]) == (service["id"], dead_port)
    assert (record["service"]["read_timeout_ms"], record["service"]["retries"]) == (1234, 1)
    assert [attempt["fault"] for attempt in record["attempts"]] == ["connect_refused"] * 2
    assert record["attempts"][0]["offset_ms"] <= record["attempts"][1]["offset_ms"] <= record["duration_ms"]
    assert record["milestones"]["attempt_ms"] <= record["milestones"]["answer_ms"]
    assert SECRET not in str(record)


def test_the_access_line_names_the_fault_and_that_of_a_good_request_ends_as_ever(
    gateway: Gateway, blueprints: Blueprints, echo_path: str, dead_port: int
) -> None:
    path = blueprints.path(f"http://127.0.0.1:{dead_port}", retries=0)
    failed, well = gateway.get(path), gateway.get(echo_path)
    (line,) = gateway.access_log.wait_for(failed.request_id)
    assert line.endswith(f' kong_request_id: "{failed.request_id}" fault: "connect_refused"')
    (line,) = gateway.access_log.wait_for(well.request_id)
    assert line.endswith(f' kong_request_id: "{well.request_id}"')


def test_what_plugins_did_stands_in_the_record(gateway: Gateway, blueprints: Blueprints, dead_port: int) -> None:
    service = blueprints.service(f"http://127.0.0.1:{dead_port}", retries=0)
    route = blueprints.route(service)
    consumer = blueprints.consumer()
    key = blueprints.key(consumer)
    plugin = blueprints.plugin("key-auth", route, "route")
    gateway.settle()
    reply = gateway.get(route["paths"][0], f"apikey: {key}")
    assert reply.status == 502
    record = record_of(gateway, reply.request_id)
    (step,) = [step for step in record["plugins"] if step["phase"] == "access"]
    assert (step["name"], step["id"], step["outcome"]) == ("key-auth", plugin["id"], "continue")
    assert 0 < step["took_us"] < 10_000_000
    assert record["client"]["consumer_id"] == consumer["id"]
    assert record["client"]["credential_id"]
    assert key not in str(record)


def test_a_plugin_that_waits_is_told_with_its_time(gateway: Gateway, blueprints: Blueprints, dead_port: int) -> None:
    route = blueprints.route(blueprints.service(f"http://127.0.0.1:{dead_port}", retries=0))
    blueprints.plugin("probe", route, "route", does="wait", ms=50)
    gateway.settle()
    record = record_of(gateway, gateway.get(route["paths"][0]).request_id)
    steps = {step["phase"]: step for step in record["plugins"] if step["name"] == "probe"}
    assert list(steps) == ["access", "header_filter", "log"]
    assert (steps["access"]["waited"], steps["access"]["outcome"]) == (True, "continue")
    assert steps["access"]["took_us"] >= 50_000
    assert steps["log"]["waited"] is False


def test_a_plugin_that_waits_while_the_client_leaves_is_told_as_cancelled(
    gateway: Gateway, blueprints: Blueprints, echo: Origin
) -> None:
    path = blueprints.plugged(echo, "probe", does="wait", ms=60_000)
    with gateway.connect() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.finish_sending()
    (record,) = until(gateway.failures.records, "the record")
    assert (record["fault"], record["phase"], record["answered_by"]) == ("client_gone", "access", "nobody")
    (step,) = [step for step in record["plugins"] if step["phase"] == "access"]
    assert (step["outcome"], step["waited"]) == ("cancelled", True)


def test_a_body_filter_is_one_step_however_many_pieces_it_saw(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    pieces = "".join(f"5\r\n{number:05}\r\n" for number in range(100))
    breaks_off = send_then_close(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{pieces}".encode())
    path = blueprints.plugged(make_origin(breaks_off), "probe-filter")
    with gateway.connect() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.read_to_end()
    (record,) = until(gateway.failures.records, "the record")
    assert (record["fault"], record["phase"]) == ("closed_in_body", "read_answer")
    assert [step["name"] for step in record["plugins"] if step["phase"] == "body_filter"] == ["probe-filter"]


def test_a_plugins_refusal_is_told_to_control_and_named_in_the_access_line_alone(
    gateway: Gateway, blueprints: Blueprints, echo: Origin
) -> None:
    path = blueprints.plugged(echo, "key-auth")
    reply = gateway.get(path)
    assert reply.status == 401
    told = until(lambda: explained(gateway, reply.request_id), "the record at control")
    assert (told["kind"], told["status"]) == ("refused", 401)
    assert [step["outcome"] for step in told["plugins"] if step["name"] == "key-auth"] == ["answered"]
    (line,) = gateway.access_log.wait_for(reply.request_id)
    assert line.endswith('fault: "plugin_refused"')
    assert reply.request_id not in [record["request_id"] for record in gateway.failures.records()]


def test_a_plugin_that_raises_is_named_with_its_line(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    reply = gateway.get(blueprints.plugged(echo, "redirect", location="https://a.test"))
    record = record_of(gateway, reply.request_id)
    (step,) = [step for step in record["plugins"] if step["outcome"] == "failed"]
    assert (step["name"], step["phase"], record["plugin"], record["phase"]) == ("redirect", "access", "redirect", "access")
    assert "redirect" in step["detail"]


def test_an_attempt_that_failed_before_one_that_answered_is_a_recovery(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, dead_port: int
) -> None:
    upstream = blueprints.upstream(f"127.0.0.1:{dead_port}", f"127.0.0.1:{echo.port}")
    path = blueprints.path(f"http://{upstream['name']}/")
    replies = [gateway.get(path) for _ in range(8)]
    assert {reply.status for reply in replies} == {200}
    # Each Target is met by some of them first.
    told = until(lambda: [one for reply in replies if (one := explained(gateway, reply.request_id))], "a recovery at control")
    assert {one["kind"] for one in told} == {"recovered"}
    assert [attempt.get("fault") for attempt in told[0]["attempts"]] == ["connect_refused", None]
    assert not gateway.failures.records()


def test_the_state_of_an_upstream_stands_in_the_record(gateway: Gateway, blueprints: Blueprints, dead_port: int) -> None:
    upstream = blueprints.upstream(f"127.0.0.1:{dead_port}", algorithm="least-connections")
    reply = gateway.get(blueprints.path(f"http://{upstream['name']}/", retries=0))
    record = record_of(gateway, reply.request_id)
    assert record["upstream"] == {
        "id": upstream["id"],
        "name": upstream["name"],
        "algorithm": "least-connections",
        "targets": 1,
        "candidates": 1,
        "healthy": 1,
    }


def test_a_client_that_leaves_is_recorded_with_when_and_where(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    def waits(connection: Any) -> None:
        connection.read_head()
        connection.wait_gone()

    origin = make_origin(waits)
    path = blueprints.path(origin)
    with gateway.connect() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        origin.wait_requests(1)
    (record,) = until(gateway.failures.records, "the record")
    assert (record["kind"], record["status"], record["fault"]) == ("failed", 499, "client_gone")
    assert record["phase"] == "wait_for_answer"
    assert record["client"]["departed_after_ms"] <= record["duration_ms"]
    assert record["attempts"][0]["ended"] == "closed: client gone"


def test_a_head_that_is_too_large_is_told_with_the_name_of_the_field(gateway: Gateway, echo_path: str) -> None:
    with gateway.connect() as client:
        client.send(f"GET {echo_path} HTTP/1.1\r\nHost: a\r\nX-Large: {'a' * 9000}\r\n\r\n".encode())
        reply = client.read_reply()
    assert reply.status == 400
    record = record_of(gateway, reply.request_id)
    assert (record["kind"], record["fault"], record["phase"]) == ("refused", "request_header_too_large", "read_request")
    assert record["request"]["largest_header"]["name"] == "X-Large"
    assert record["request"]["largest_header"]["bytes"] > 8192
    assert "aaaaa" not in str(record)


@pytest.mark.parametrize(
    "head",
    [
        b'GET /\x01"{}\\ HTTP/1.1\r\nHost: a\r\n\r\n',
        b'GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[2J{"request_id": "forged"}\r\nContent-Length: x\r\n\r\n',
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"Authorization: Basic aHVudGVyMi1hbmQtbW9yZQ==\r\n\r\n",
    ],
    ids=["control bytes", "escape in a value", "TLS in the clear", "a header in the place of the line"],
)
def test_log_forging_by_a_client_leaves_one_line_of_ascii(gateway: Gateway, head: bytes) -> None:
    with gateway.connect() as client:
        client.send(head)
        reply = client.read_reply()
    record = record_of(gateway, reply.request_id)
    assert record["kind"] == "refused"
    (line,) = gateway.failures.containing(reply.request_id)
    assert line.isascii()
    assert line.isprintable()
    assert "aHVudGVy" not in line


@pytest.mark.parametrize(
    "line", [b"Set-Cookie: sid=hunter2\x01", b"Set-Cookie : sid=hunter2", b"Authorization: hunter2\0", b" hunter2 folded"]
)
def test_a_secret_in_a_header_line_that_is_refused_stands_in_no_log(
    gateway: Gateway, blueprints: Blueprints, make_origin: Callable[[Behaviour], Origin], line: bytes
) -> None:
    origin = make_origin(send_then_close(b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 0\r\n\r\n"))
    reply = gateway.get(blueprints.path(origin, retries=0))
    assert reply.status == 502
    record = record_of(gateway, str(reply.request_id))
    assert record["fault"] == "bad_response"
    assert "hunter2" not in json.dumps(record)
    assert not any("hunter2" in said for said in gateway.error_log.lines())


@pytest.mark.parametrize("first", [b"\x16\x03\x01\x02\x00\x01" + bytes(60), b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c" + bytes(12)])
def test_bytes_that_are_no_http_are_refused_before_their_line_ends(gateway: Gateway, first: bytes) -> None:
    reply = gateway.send(first)
    assert reply.status == 400
    record = record_of(gateway, str(reply.request_id))
    assert record["fault"] == "bad_framing"
    assert record["request"]["line"].startswith(("\\x16\\x03\\x01", "\\x00\\x0D\\x0AQUIT"))


def test_peers_that_are_trusted_are_told_of_a_fault_in_the_head(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, echo_path: str
) -> None:
    reply = gateway.get(blueprints.path(make_origin(early_close), retries=0))
    assert reply.status == 502
    status = reply.header("Proxy-Status")
    assert status
    assert status.startswith('pylae; error=connection_terminated; details="')
    assert reply.header("X-Pylae-Fault") == "closed_before_headers"
    well = gateway.get(echo_path)
    assert (well.header("Proxy-Status"), well.header("X-Pylae-Fault")) == (None, None)


def test_a_fault_of_a_gateway_behind_is_replaced_by_ours_and_its_status_list_kept(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    behind = answer(b"", "Proxy-Status: inner; error=dns_error", "X-Pylae-Fault: dns_failed", status="502 Bad Gateway")
    reply = gateway.get(blueprints.path(make_origin(behind)))
    assert reply.status == 502
    assert reply.header("X-Pylae-Fault") == "bad_gateway_behind"
    behind_said, ours = reply.all("Proxy-Status")
    assert behind_said == "inner; error=dns_error"
    assert ours.startswith('pylae; received-status=502; details="')


def signed(key: str, method: str, path: str, at_s: int) -> str:
    """A probe's field."""
    text = f"v1|{at_s}|0123456789abcdef|{method}|{path}"
    tag = hmac.new(bytes.fromhex(key), text.encode(), hashlib.sha256).hexdigest()
    return f"X-Pylae-Probe: v1;{at_s};0123456789abcdef;{tag}"


def test_a_signed_probe_is_recorded_though_it_went_well_and_passed_on(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    place = gateway.prefix / "probe.key"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    key = place.read_text().strip()
    probe = signed(key, "GET", echo_path, int(time.time()))
    reply = gateway.get(echo_path, probe)
    assert reply.status == 200
    told = until(lambda: explained(gateway, reply.request_id), "the record of the probe")
    assert told["kind"] == "probe"
    assert f"X-Pylae-Probe: {echo.last.header('X-Pylae-Probe')}" == probe


def test_a_forged_probe_is_an_ordinary_request(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    forged = signed("00" * 32, "GET", echo_path, int(time.time()))
    reply = gateway.get(echo_path, forged)
    assert reply.status == 200
    assert echo.last.header("X-Pylae-Probe")
    # What comes later has arrived: so would this one have.
    refused = gateway.get("/-/no-such-route")
    until(lambda: explained(gateway, refused.request_id), "the record of the next request")
    assert explained(gateway, reply.request_id) is None


def test_a_large_head_is_warned_of_with_the_name_of_the_field(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    route = blueprints.route(blueprints.service(echo))
    gateway.settle()
    reply = gateway.get(route["paths"][0], f"Cookie: {SECRET}{'a' * 7000}")
    assert reply.status == 200

    def warned() -> list[dict[str, Any]]:
        rows = gateway.admin.get("/warnings")["data"]
        return [row for row in rows if row["kind"] == "request_header_size" and row["facts"]["route"] == route["id"]]

    (row,) = until(warned, "the warning")
    assert (row["facts"]["header"], row["facts"]["whose"], row["facts"]["limit_bytes"]) == ("Cookie", "ours", 8192)
    assert SECRET not in str(row)


def test_strangers_are_told_nothing_and_every_good_request_is_kept_where_it_is_asked_for() -> None:
    with Gateway({"explain_sample_ratio": "1", "explain_headers": "trusted"}) as gateway, Origin(good) as origin:
        blueprints = Blueprints(gateway)
        well = gateway.get(blueprints.path(origin))
        told = until(lambda: explained(gateway, well.request_id), "the sample")
        assert (told["kind"], told["status"]) == ("sample", 200)
        assert well.request_id not in [record["request_id"] for record in gateway.failures.records()]
        failed = gateway.get(blueprints.path(f"http://127.0.0.1:{ports.free_port()}", retries=0))
        assert failed.status == 502
        assert (failed.header("Proxy-Status"), failed.header("X-Pylae-Fault")) == (None, None)
