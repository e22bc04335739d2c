# SPDX-License-Identifier: Apache-2.0
"""Do http-log's entries reach their endpoint, and what happens when they cannot?"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import h11
import msgspec
import pytest

from pylae.plugins.http_log.plugin import HttpLog
from pylae.plugins.http_log.shipper import HttpLogShipper
from pylae.sdk import SchemaViolation
from pylae.sdk.testing import PLUGIN_ID, Scene, validated


class Endpoint:
    """A log collector that answers with the statuses it is given, then with 200; `None` closes without an answer."""

    def __init__(self, *statuses: int | None) -> None:
        self.statuses = list(statuses)
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.connection_count = 0
        self.changed = asyncio.Condition()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __aenter__(self) -> Endpoint:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        state = h11.Connection(h11.SERVER)
        body = b""
        request: h11.Request | None = None
        while True:
            event = state.next_event()
            if event is h11.NEED_DATA:
                state.receive_data(await reader.read(65_536))
            elif isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                await self.gate.wait()
                status = self.statuses.pop(0) if self.statuses else 200
                headers = {name.decode(): value.decode() for name, value in request.headers}
                async with self.changed:
                    self.requests.append((request.method.decode(), request.target.decode(), headers, msgspec.json.decode(body)))
                    self.changed.notify_all()
                if status is None:
                    break
                writer.write(state.send(h11.Response(status_code=status, headers=[("Content-Length", "0")])) or b"")
                state.send(h11.EndOfMessage())
                await writer.drain()
                state.start_next_cycle()
            else:
                break
        writer.close()

    async def wait_for(self, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.requests) >= count)

    @property
    def bodies(self) -> list[Any]:
        return [body for _, _, _, body in self.requests]


class ControlHost:
    """The control process, as far as a shipper sees it."""

    def __init__(self, config: dict[str, Any] | None) -> None:
        self.config = config
        self.lines: list[tuple[str, str]] = []

    def log(self, level: str, message: str) -> None:
        self.lines.append((level, message))

    async def plugin_config(self, plugin_id: str) -> dict[str, Any] | None:
        assert plugin_id == PLUGIN_ID
        return self.config


def item(entry: Any) -> bytes:
    return msgspec.msgpack.encode([PLUGIN_ID, msgspec.json.encode(entry)])


def run(
    test: Callable[[HttpLogShipper, Endpoint, ControlHost], Awaitable[None]],
    *statuses: int | None,
    path: str = "/logs",
    user: str = "",
    **config: Any,
) -> ControlHost:
    async def main() -> ControlHost:
        async with Endpoint(*statuses) as endpoint:
            url = f"http://{user}127.0.0.1:{endpoint.port}{path}"
            host = ControlHost(validated(HttpLog, {"http_endpoint": url, **config}))
            shipper = HttpLogShipper(host)
            await shipper.start()
            await test(shipper, endpoint, host)
            await shipper.stop()
            return host

    return asyncio.run(main())


def test_hook_hands_the_serialized_request_to_control() -> None:
    with Scene(HttpLog, {"http_endpoint": "http://127.0.0.1:1/logs"}) as scene:
        outcome = scene.send("GET", "/orders?a=1", headers={"Authorization": "secret"})
        [(channel, sent)] = scene.host.streamed
    plugin_id, entry = msgspec.msgpack.decode(sent)
    assert (channel, plugin_id) == ("log:http-log", PLUGIN_ID)
    decoded = msgspec.json.decode(entry)
    assert decoded["request"]["id"] == outcome.exchange.id
    assert decoded["request"]["headers"]["authorization"] == "REDACTED"
    assert decoded["response"]["status"] == 200


def test_bytes_that_are_no_text_do_not_cost_the_entry() -> None:
    with Scene(HttpLog, {"http_endpoint": "http://127.0.0.1:1/logs"}) as scene:
        scene.send(headers={"X-Odd": "a\udcffb"})
        [(_, sent)] = scene.host.streamed
    assert msgspec.json.decode(msgspec.msgpack.decode(sent)[1])["request"]["headers"]["x-odd"] == "a\ufffdb"


def test_each_entry_is_sent_as_one_object_over_one_connection() -> None:
    async def test(shipper: HttpLogShipper, endpoint: Endpoint, host: ControlHost) -> None:
        await shipper.ship([item({"n": 1}), item({"n": 2})])
        await endpoint.wait_for(2)
        assert endpoint.bodies == [{"n": 1}, {"n": 2}]
        method, target, headers, _ = endpoint.requests[0]
        assert (method, target) == ("POST", "/logs")
        assert headers["content-type"] == "application/json"
        assert headers["x-source"] == "test"
        assert headers["host"] == f"127.0.0.1:{endpoint.port}"
        assert endpoint.connection_count == 1

    assert run(test, headers={"X-Source": "test"}).lines == []


def test_user_info_becomes_basic_and_the_query_is_not_sent() -> None:
    async def test(shipper: HttpLogShipper, endpoint: Endpoint, host: ControlHost) -> None:
        await shipper.ship([item({})])
        await endpoint.wait_for(1)
        method, target, headers, _ = endpoint.requests[0]
        assert (method, target) == ("PUT", "/logs")
        assert headers["authorization"] == "Basic " + base64.b64encode(b"u:p@").decode()

    run(test, path="/logs?token=1", user="u:p%40@", method="PUT")


def test_batches_are_arrays_and_go_out_full_or_after_the_coalescing_delay() -> None:
    async def test(shipper: HttpLogShipper, endpoint: Endpoint, host: ControlHost) -> None:
        await shipper.ship([item(n) for n in range(5)])
        await endpoint.wait_for(3)
        assert endpoint.bodies == [[0, 1], [2, 3], [4]]

    run(test, queue={"max_batch_size": 2, "max_coalescing_delay": 0.02})


def test_deprecated_fields_set_the_batch() -> None:
    async def test(shipper: HttpLogShipper, endpoint: Endpoint, host: ControlHost) -> None:
        await shipper.ship([item(n) for n in range(3)])
        await endpoint.wait_for(1)
        assert endpoint.bodies == [[0, 1, 2]]
        [(level, line)] = host.lines
        assert level == "warn"
        assert "retry_count" in line

    run(test, queue_size=3, flush_timeout=0.02, retry_count=3)


@pytest.mark.parametrize("failure", [500, 302, None])
def test_refused_entries_are_sent_again_in_order(failure: int | None) -> None:
    async def test(shipper: HttpLogShipper, endpoint: Endpoint, host: ControlHost) -> None:
        await shipper.ship([item(1), item(2)])
        await endpoint.wait_for(4)
        assert endpoint.bodies == [1, 1, 1, 2]

    host = run(test, failure, failure, queue={"initial_retry_delay": 0.001})
    assert [level for level, _ in host.lines] == ["warn", "warn"]


def test_entries_are_lost_and_counted_when_the_retry_time_is_over() -> None:
    async def test(shipper: HttpLogShipper, endpoint: Endpoint, host: ControlHost) -> None:
        await shipper.ship([item(1), item(2)])
        await endpoint.wait_for(2)
        assert endpoint.bodies == [1, 2]

    host = run(test, 500, queue={"max_retry_time": 0})
    assert [line for level, line in host.lines if level == "error"] == [
        f"http-log {PLUGIN_ID}: 1 entries were lost: the endpoint took none within 0 s"
    ]


def test_full_queue_drops_its_oldest_entries_and_counts_them() -> None:
    async def test(shipper: HttpLogShipper, endpoint: Endpoint, host: ControlHost) -> None:
        endpoint.gate.clear()
        await shipper.ship([item(0)])
        async with asyncio.timeout(5):
            # The bounds of a configuration hold once it has been read; one entry is being sent then.
            while not shipper._queues[PLUGIN_ID]._flying_count:
                await asyncio.sleep(0)
        await shipper.ship([item(n) for n in range(1, 10)])
        endpoint.gate.set()
        await endpoint.wait_for(3)
        assert endpoint.bodies == [0, 8, 9]

    host = run(test, queue={"max_entries": 3})
    assert host.lines == [
        ("error", f"http-log {PLUGIN_ID}: queue full, the oldest entries are dropped"),
        ("error", f"http-log {PLUGIN_ID}: 7 entries were lost: the queue was full"),
    ]


def test_unlimited_concurrency_does_not_wait_for_a_slow_answer() -> None:
    async def test(shipper: HttpLogShipper, endpoint: Endpoint, host: ControlHost) -> None:
        endpoint.gate.clear()
        await shipper.ship([item(1), item(2), item(3)])
        async with asyncio.timeout(5):
            while endpoint.connection_count < 3:
                await asyncio.sleep(0)
        endpoint.gate.set()
        await endpoint.wait_for(3)

    run(test, queue={"concurrency_limit": -1})


def test_losses_of_a_worker_are_logged() -> None:
    async def test(shipper: HttpLogShipper, endpoint: Endpoint, host: ControlHost) -> None:
        await shipper.ship([], 4)

    assert run(test).lines == [("error", "http-log: a worker dropped 4 entries")]


def test_entries_of_a_plugin_that_is_gone_are_lost_and_counted() -> None:
    async def test(shipper: HttpLogShipper, endpoint: Endpoint, host: ControlHost) -> None:
        host.config = None
        await shipper.ship([item(1)])

    [(level, line)] = run(test).lines
    assert level == "error"
    assert line.endswith("1 entries were lost: its configuration is gone or cannot be used")


def test_queue_that_breaks_tells_its_losses_and_the_next_entry_makes_a_new_one() -> None:
    async def test(shipper: HttpLogShipper, endpoint: Endpoint, host: ControlHost) -> None:
        config, host.config = host.config, {"queue": 3}
        await shipper.ship([item(1)])
        await shipper._queues[PLUGIN_ID].ended()
        host.config = config
        await shipper.ship([item(2)])
        await endpoint.wait_for(1)
        assert endpoint.bodies == [2]

    [(level, line)] = run(test).lines
    assert level == "error"
    assert "1 entries were lost: " in line


def test_stop_sends_what_waits_for_a_full_batch() -> None:
    bodies: list[Any] = []

    async def test(shipper: HttpLogShipper, endpoint: Endpoint, host: ControlHost) -> None:
        await shipper.ship([item(1)])
        await shipper.stop()
        bodies.extend(endpoint.bodies)

    run(test, queue={"max_batch_size": 100, "max_coalescing_delay": 3600})
    assert bodies == [[1]]


def test_slow_endpoint_is_given_up_after_the_timeout() -> None:
    async def test(shipper: HttpLogShipper, endpoint: Endpoint, host: ControlHost) -> None:
        endpoint.gate.clear()
        await shipper.ship([item(1)])
        await shipper.stop()
        endpoint.gate.set()

    host = run(test, timeout=20, queue={"max_retry_time": 0})
    assert "timeout after 20 ms" in host.lines[0][1]


def test_lua_code_is_refused_by_name() -> None:
    with pytest.raises(SchemaViolation) as refused:
        validated(HttpLog, {"http_endpoint": "http://h/x", "custom_fields_by_lua": {"a": "return 1"}})
    assert "Lua" in str(refused.value.body()["fields"]["config"]["custom_fields_by_lua"])


def test_authorization_may_not_be_given_twice() -> None:
    with pytest.raises(SchemaViolation):
        validated(HttpLog, {"http_endpoint": "http://u:p@h/x", "headers": {"authorization": "b"}})
