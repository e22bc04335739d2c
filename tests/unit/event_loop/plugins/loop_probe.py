# SPDX-License-Identifier: Apache-2.0
"""loop-probe: does on each path what a plugin may do with the worker's event loop, and tells at `/seen` what came of it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from pylae.sdk import Answer, CallFailed, Exchange, Host, Plugin

BLOCK_S = 0.03
SOCKETS = 100


class LoopProbe(Plugin):
    name = "loop-probe"
    priority = 1000

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.seen: list[str] = []
        self.kept: list[Any] = []
        self.tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        await asyncio.sleep(0)
        # Control may be asked before the first request is taken.
        await self.host.entities.consume("started", "name", "loop-probe")
        self.seen.append("started")

    async def stop(self) -> None:
        await asyncio.sleep(0)
        print("stopped", flush=True)

    def access(self, exchange: Exchange, config: Any) -> Answer | Awaitable[Answer | None] | None:
        name = exchange.request.path.strip("/").replace("-", "_")
        return getattr(self, f"on_{name}")(exchange)  # type: ignore[no-any-return]

    def log(self, exchange: Exchange, config: Any) -> None:
        self.seen.append(f"log {exchange.request.path}")

    def on_seen(self, exchange: Exchange) -> Answer:
        return exchange.answer(200, {"seen": self.seen})

    def on_timer(self, exchange: Exchange) -> Answer:
        asyncio.get_running_loop().call_later(0.02, self.seen.append, "timer")
        return exchange.answer(200, "set")

    async def on_eager(self, exchange: Exchange) -> Answer:
        assert asyncio.current_task() is not None
        return exchange.answer(200, "eager")

    async def on_timeout(self, exchange: Exchange) -> Answer:
        try:
            async with asyncio.timeout(0.02):
                await asyncio.sleep(60)
        except TimeoutError:
            return exchange.answer(200, "timed out")
        return exchange.answer(500)

    async def on_group(self, exchange: Exchange) -> Answer:
        async def twice(number: int) -> int:
            await asyncio.sleep(0.001 * number)
            return 2 * number

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(twice(number)) for number in range(5)]
        return exchange.answer(200, json.dumps([task.result() for task in tasks]))

    async def on_group_fails(self, exchange: Exchange) -> Answer:
        async def fail() -> None:
            await asyncio.sleep(0)
            raise LookupError("one of them")

        answer = exchange.answer(500)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(60))
                group.create_task(fail())
        except* LookupError:
            answer = exchange.answer(200, "together")
        return answer

    def on_future(self, exchange: Exchange) -> Awaitable[Answer]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        loop.call_later(0.01, future.set_result, exchange.answer(200, "future"))
        return future

    def on_resolved(self, exchange: Exchange) -> Awaitable[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        future.set_result(exchange.answer(200, "resolved"))
        return future

    async def on_thread(self, exchange: Exchange) -> Answer:
        return exchange.answer(200, await asyncio.to_thread(_sleep_and_say, "thread"))

    async def on_call(self, exchange: Exchange) -> Answer:
        row = await self.host.entities.consume("things", "name", "x")
        return exchange.answer(200, row)

    async def on_call_refused(self, exchange: Exchange) -> Answer:
        try:
            await self.host.entities.consume("no-such-table", "name", "x")
        except CallFailed as failure:
            return exchange.answer(200, f"{failure.name}: {failure.message}")
        return exchange.answer(500)

    async def on_slow(self, exchange: Exchange) -> Answer:
        self.seen.append("slow began")
        await asyncio.sleep(0.3)
        return exchange.answer(200, "slow")

    async def on_bytes(self, exchange: Exchange) -> Answer:
        """Reads a socket that stays ready one byte at a time: the loop tells it again and again."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.sendall(b"x" * 50)
        loop = asyncio.get_running_loop()
        read: asyncio.Future[None] = loop.create_future()
        count = 0

        def take() -> None:
            nonlocal count
            count += len(ours.recv(1))
            if count == 50:
                read.set_result(None)

        loop.add_reader(ours, take)
        await read
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
        return exchange.answer(200, str(count))

    async def on_sockets(self, exchange: Exchange) -> Answer:
        """More sockets become ready at once than are told at once."""
        loop = asyncio.get_running_loop()
        pairs = [socket.socketpair() for _ in range(SOCKETS)]
        for ours, _ in pairs:
            ours.setblocking(False)
        waiting = [asyncio.ensure_future(loop.sock_recv(ours, 10)) for ours, _ in pairs]
        await asyncio.sleep(0)
        for _, theirs in pairs:
            theirs.send(b"ready")
        received = await asyncio.gather(*waiting)
        for pair in pairs:
            for end in pair:
                end.close()
        return exchange.answer(200, str(len(received)))

    async def on_leave(self, exchange: Exchange) -> None:
        self.seen.append("leave began")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.seen.append("leave cancelled")
            await asyncio.sleep(0.05)
            self.seen.append(f"leave cleaned up {len(exchange.id)}")
            raise

    async def on_leave_and_fail(self, exchange: Exchange) -> None:
        self.seen.append("leave-and-fail began")
        try:
            await asyncio.sleep(60)
        finally:
            raise LookupError("while cleaning up")

    def on_keep(self, exchange: Exchange) -> Answer:
        self.kept = [exchange, exchange.request, exchange.ctx]
        return exchange.answer(200)

    def on_kept(self, exchange: Exchange) -> Answer:
        texts = []
        for view, name in ((0, "id"), (1, "method"), (0, "ctx")):
            try:
                getattr(self.kept[view], name)
            except RuntimeError as error:
                texts.append(str(error))
        return exchange.answer(200, texts)

    def on_block(self, exchange: Exchange) -> Answer:
        time.sleep(BLOCK_S)
        return exchange.answer(200)

    async def on_block_later(self, exchange: Exchange) -> Answer:
        await asyncio.sleep(0.01)
        time.sleep(BLOCK_S)
        return exchange.answer(200)

    def on_block_in_callback(self, exchange: Exchange) -> Answer:
        asyncio.get_running_loop().call_soon(time.sleep, BLOCK_S)
        return exchange.answer(200)

    def on_raise(self, exchange: Exchange) -> Answer:
        raise LookupError("not\nhere")

    async def on_raise_later(self, exchange: Exchange) -> Answer:
        await asyncio.sleep(0)
        raise LookupError("nor there")

    def on_rubbish(self, exchange: Exchange) -> Any:
        return 42

    async def on_rubbish_later(self, exchange: Exchange) -> Any:
        await asyncio.sleep(0)
        return {"status": 200}

    async def on_cancel_itself(self, exchange: Exchange) -> Answer:
        raise asyncio.CancelledError

    async def on_litter(self, exchange: Exchange) -> Answer:
        """Leaves behind what only the end of the worker ends."""
        self.tasks.add(asyncio.create_task(asyncio.sleep(3600)))

        async def numbers() -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                print("generator closed", flush=True)

        generator = numbers()
        self.kept.append(generator)
        return exchange.answer(200, str(await anext(generator)))


def _sleep_and_say(text: str) -> str:
    time.sleep(0.02)
    return text
