# SPDX-License-Identifier: Apache-2.0
"""How do log entries reach their endpoint?

One queue per configured plugin: entries are batched, sent in order, and sent again with growing pauses until the
endpoint takes them or `max_retry_time` is over. A queue never holds more than `max_entries` entries or
`max_bytes` bytes: the oldest give way, are counted, and the loss is logged.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pylae.plugins.http_log.config import Config
from pylae.sdk import Shipper, ShipperHost
from pylae.sdk.http import Endpoint, HttpClient, HttpFailed

DEFAULT_MAX_BYTES: Final = 67_108_864
"""Bytes a queue holds when `max_bytes` is not set."""
MAX_CONCURRENT_BATCHES: Final = 64
"""Batches under way at once when `concurrency_limit` is -1."""
CONFIG_REFRESH_S: Final = 1.0
IDLE_S: Final = 60.0
"""A queue without entries for this long is given up; the next entry makes a new one."""
STOP_TIMEOUT_S: Final = 5.0
UNKNOWN_MAX_ENTRIES: Final = 10_000

_decode_item = msgspec.msgpack.Decoder(tuple[str, bytes]).decode


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


class Delivery:
    """How one configuration wants its entries: computed once per configuration."""

    def __init__(self, config: Config) -> None:
        endpoint = Endpoint.parse(config.http_endpoint)
        # The endpoint's own query string is not sent.
        self.endpoint = Endpoint(endpoint.scheme, endpoint.host, endpoint.port, endpoint.path, "")
        # A null takes the default: the fields are optional, sending is not.
        self.method = config.method or "POST"
        self.timeout_ms = _given(config.timeout, 10_000)
        self.keepalive_ms = _given(config.keepalive, 60_000)
        self.headers = {"Content-Type": config.content_type or "application/json", **(config.headers or {})}
        if endpoint.user is not None:
            pair = f"{endpoint.user}:{endpoint.password or ''}"
            self.headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        queue = config.queue
        self.max_batch_size = _given(queue.max_batch_size, 1)
        self.max_coalescing_delay_s = _given(queue.max_coalescing_delay, 1)
        if config.queue_size is not None and config.queue_size != 1:
            self.max_batch_size = max(1, config.queue_size)
        if config.flush_timeout is not None and config.flush_timeout != 2:
            self.max_coalescing_delay_s = config.flush_timeout
        self.max_entries = _given(queue.max_entries, UNKNOWN_MAX_ENTRIES)
        self.max_bytes = queue.max_bytes or DEFAULT_MAX_BYTES
        self.max_retry_time_s = _given(queue.max_retry_time, 60)
        self.initial_retry_delay_s = _given(queue.initial_retry_delay, 0.01)
        self.max_retry_delay_s = _given(queue.max_retry_delay, 60)
        self.concurrency = 1 if queue.concurrency_limit == 1 else MAX_CONCURRENT_BATCHES

    def __repr__(self) -> str:
        # Without the path: collectors put tokens there.
        return f"<delivery {self.method} {self.endpoint.scheme}://{self.endpoint.authority}>"

    def body_of(self, entries: Sequence[bytes]) -> bytes:
        """One object, or an array where batches may hold more than one."""
        if self.max_batch_size == 1:
            return entries[0]
        return b"[" + b",".join(entries) + b"]"


class Queue:
    """Entries of one configured plugin on their way out."""

    def __init__(self, plugin_id: str, host: ShipperHost, client: HttpClient) -> None:
        self.plugin_id = plugin_id
        self._host = host
        self._client = client
        self._delivery: Delivery | None = None
        self._config: dict[str, Any] | None = None
        self._config_read_s = 0.0
        # Invariant: _pending_bytes and _flying_bytes are the sums over entries waiting and being sent.
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._flying_count = 0
        self._flying_bytes = 0
        self._lost_count = 0
        self._changed = asyncio.Event()
        self._is_stopping = False
        self._is_over = False
        self._sending: set[asyncio.Task[None]] = set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"http-log {plugin_id}")
        self._task.add_done_callback(_retrieve)

    def __repr__(self) -> str:
        return f"<queue {self.plugin_id} pending={len(self._pending)} sending={self._flying_count}>"

    @property
    def is_over(self) -> bool:
        """Whether it takes no more entries."""
        return self._is_over or self._task.done()

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it is under way any more."""
        return self._task.done() and not self._sending

    def put(self, entry: bytes) -> None:
        """Takes one entry; when the queue is full the oldest gives way."""
        max_entries, max_bytes = UNKNOWN_MAX_ENTRIES, DEFAULT_MAX_BYTES
        if self._delivery is not None:
            max_entries, max_bytes = self._delivery.max_entries, self._delivery.max_bytes
        self._pending.append(entry)
        self._pending_bytes += len(entry)
        while self._pending and (
            len(self._pending) + self._flying_count > max_entries or self._pending_bytes + self._flying_bytes > max_bytes
        ):
            self._pending_bytes -= len(self._pending.popleft())
            if self._lost_count == 0:
                self._host.log("error", f"http-log {self.plugin_id}: queue full, the oldest entries are dropped")
            self._lost_count += 1
        self._changed.set()

    async def _run(self) -> None:
        try:
            await self._work()
        except Exception as error:
            self._lose(len(self._pending), f"{type(error).__name__}: {error}")
            self._pending.clear()
            raise
        finally:
            self._is_over = True

    async def _work(self) -> None:
        while not (self._is_stopping and not self._pending):
            if not self._pending:
                if not await self._wait_for_entries():
                    break
                continue
            delivery = await self._refresh()
            if delivery is None:
                self._lose(len(self._pending), "its configuration is gone or cannot be used")
                self._pending.clear()
                self._pending_bytes = 0
                continue
            await self._fill(delivery)
            batch = [self._pending.popleft() for _ in range(min(delivery.max_batch_size, len(self._pending)))]
            size_bytes = sum(map(len, batch))
            self._pending_bytes -= size_bytes
            self._flying_count += len(batch)
            self._flying_bytes += size_bytes
            task = asyncio.get_running_loop().create_task(self._send(delivery, batch, size_bytes))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            while len(self._sending) >= delivery.concurrency:
                await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
        self._is_over = True
        if self._sending:
            await asyncio.wait(self._sending)

    async def _wait_for_entries(self) -> bool:
        self._changed.clear()
        try:
            async with asyncio.timeout(IDLE_S):
                await self._changed.wait()
        except TimeoutError:
            return bool(self._pending)
        return True

    async def _refresh(self) -> Delivery | None:
        """The configuration as it is now; the last one known when its row is gone."""
        if self._delivery is not None and time.monotonic() - self._config_read_s < CONFIG_REFRESH_S:
            return self._delivery
        config = await self._host.plugin_config(self.plugin_id)
        self._config_read_s = time.monotonic()
        if config is not None and config != self._config:
            self._config = config
            try:
                self._delivery = Delivery(Config.load(config))
            except ValueError as error:
                self._host.log("error", f"http-log {self.plugin_id}: `http_endpoint`: {error}")
                return None
            if config.get("retry_count") not in (None, 10):
                self._host.log(
                    "warn",
                    f"http-log {self.plugin_id}: `retry_count` has no effect, "
                    "use `queue.initial_retry_delay` and `queue.max_retry_time`",
                )
        return self._delivery

    async def _fill(self, delivery: Delivery) -> None:
        """Waits until a batch is full, or until its first entry has waited long enough."""
        if len(self._pending) >= delivery.max_batch_size or self._is_stopping:
            return
        try:
            async with asyncio.timeout(delivery.max_coalescing_delay_s):
                while len(self._pending) < delivery.max_batch_size and not self._is_stopping:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    async def _send(self, delivery: Delivery, batch: list[bytes], size_bytes: int) -> None:
        try:
            if await self._deliver(delivery, delivery.body_of(batch)):
                self._report_recovery()
            else:
                self._lose(len(batch), f"the endpoint took none within {delivery.max_retry_time_s:g} s")
        except BaseException as error:
            stops = isinstance(error, asyncio.CancelledError)
            self._lose(len(batch), "the gateway stops" if stops else f"{type(error).__name__}: {error}")
            raise
        finally:
            self._flying_count -= len(batch)
            self._flying_bytes -= size_bytes

    async def _deliver(self, delivery: Delivery, body: bytes) -> bool:
        give_up_s = time.monotonic() + delivery.max_retry_time_s
        delay_s = delivery.initial_retry_delay_s
        while True:
            try:
                answer = await self._client.request(
                    delivery.method,
                    delivery.endpoint,
                    delivery.headers,
                    body,
                    timeout_ms=delivery.timeout_ms,
                    keepalive_ms=delivery.keepalive_ms,
                )
            except HttpFailed as failure:
                reason = str(failure)
            else:
                if answer.status < 300:
                    return True
                reason = f"status {answer.status}"
            self._host.log("warn", f"http-log {self.plugin_id}: {delivery!r} failed: {reason}")
            if time.monotonic() + delay_s > give_up_s:
                return False
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, delivery.max_retry_delay_s)

    def _lose(self, count: int, reason: str) -> None:
        if count:
            self._host.log("error", f"http-log {self.plugin_id}: {count} entries were lost: {reason}")

    def _report_recovery(self) -> None:
        if self._lost_count:
            self._lose(self._lost_count, "the queue was full")
            self._lost_count = 0

    def stop(self) -> None:
        """Sends what is there without waiting for full batches, then ends."""
        self._is_stopping = True
        self._changed.set()

    async def ended(self) -> None:
        """Returns when everything has been sent or lost."""
        await asyncio.wait([self._task])

    async def cancel(self) -> None:
        """Gives up."""
        tasks = [self._task, *self._sending]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._lose(len(self._pending) + self._lost_count, "the gateway stops")


def _retrieve(task: asyncio.Task[None]) -> None:
    # What went wrong has been logged with the entries it cost.
    if not task.cancelled():
        task.exception()


class HttpLogShipper(Shipper):
    """Sends entries of all workers, one queue per configured plugin."""

    def __init__(self, host: ShipperHost) -> None:
        super().__init__(host)
        # The endpoint's certificate is not verified.
        self._client = HttpClient(verify=False)
        self._queues: dict[str, Queue] = {}

    def __repr__(self) -> str:
        return f"<http-log shipper queues={len(self._queues)}>"

    async def ship(self, items: Sequence[bytes], lost_count: int = 0) -> None:
        """Queues entries and returns at once."""
        if lost_count:
            self.host.log("error", f"http-log: a worker dropped {lost_count} entries")
        self._queues = {plugin_id: queue for plugin_id, queue in self._queues.items() if not queue.has_ended}
        for item in items:
            plugin_id, entry = _decode_item(item)
            queue = self._queues.get(plugin_id)
            if queue is None or queue.is_over:
                queue = self._queues[plugin_id] = Queue(plugin_id, self.host, self._client)
            queue.put(entry)

    async def stop(self) -> None:
        """Delivers what it can within 5 s, then gives up."""
        queues = list(self._queues.values())
        for queue in queues:
            queue.stop()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                for queue in queues:
                    await queue.ended()
        except TimeoutError:
            for queue in queues:
                await queue.cancel()
        await self._client.close()
