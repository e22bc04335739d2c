# SPDX-License-Identifier: Apache-2.0
"""How do asyncio and the data plane share the worker's one thread?

asyncio blocks in its selector; ours blocks in the data plane's runtime instead (`pylae._core.Reactor`), which serves
requests meanwhile and comes back when one of asyncio's descriptors is ready, a timer is due, or something was put
into asyncio's queue from inside a request.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any

from pylae import _core

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_ADD, _REMOVE = 1, 2
_IN, _OUT = 1, 4


class DataPlaneSelector(selectors._BaseSelectorImpl):
    """A selector whose waiting is the data plane's running."""

    def __init__(self, reactor: _core.Reactor) -> None:
        super().__init__()
        self._reactor = reactor

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watches a descriptor."""
        key: selectors.SelectorKey = super().register(fileobj, events, data)
        try:
            self._reactor.control(_ADD, key.fd, _mask(events))
        except BaseException:
            super().unregister(fileobj)
            raise
        return key

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Watches a descriptor no more."""
        key: selectors.SelectorKey = super().unregister(fileobj)
        try:
            self._reactor.control(_REMOVE, key.fd, 0)
        except OSError:
            # It was closed before: the kernel has forgotten it already (selectors.EpollSelector does the same).
            return key
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Runs the data plane until a descriptor is ready or `timeout` seconds are over."""
        ready = []
        for fd, mask in self._reactor.wait(timeout):
            key = self.get_map().get(fd)
            if key is not None:
                events = (selectors.EVENT_WRITE if mask & ~_IN else 0) | (selectors.EVENT_READ if mask & ~_OUT else 0)
                ready.append((key, events & key.events))
        return ready


def _mask(events: int) -> int:
    return (_IN if events & selectors.EVENT_READ else 0) | (_OUT if events & selectors.EVENT_WRITE else 0)


class DataPlaneLoop(asyncio.SelectorEventLoop):
    """An asyncio loop that notices what requests put into its queue while it waits."""

    def __init__(self) -> None:
        self._reactor = _core.Reactor()
        super().__init__(DataPlaneSelector(self._reactor))

    def call_soon(  # type: ignore[override]  # typeshed spells the arguments with a TypeVarTuple
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Queues a callback, also from inside a request."""
        handle = super().call_soon(callback, *args, context=context)
        self._reactor.wake()
        return handle

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Sets a timer, also from inside a request: the wait that goes on knows a later one only."""
        handle = super().call_at(when, callback, *args, context=context)
        self._reactor.wake()
        return handle


async def wait_for(awaitable: Awaitable[Any]) -> Any:
    """Makes a coroutine of any awaitable, for a task to run."""
    return await awaitable


def run(
    gateway: _core.Gateway,
    *,
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
    signals: Mapping[int, Callable[[], object]],
) -> None:
    """Runs plugins and data plane on this thread until the gateway has drained.

    Args:
        gateway: Not started yet.
        start: Awaited before the first request is taken; it may call control.
        stop: Awaited after the last one was served.
        signals: What to do on each signal.
    """
    loop = DataPlaneLoop()
    asyncio.set_event_loop(loop)
    try:
        for number, action in signals.items():
            loop.add_signal_handler(number, action)
        loop.run_until_complete(_serve(gateway, start, stop))
    finally:
        try:
            gateway.close()
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _serve(gateway: _core.Gateway, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> None:
    drained = asyncio.Event()
    gateway.start(asyncio.get_running_loop(), drained.set)
    await start()
    gateway.open()
    await drained.wait()
    await stop()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    for task in tasks:
        if not task.cancelled() and task.exception() is not None:
            loop.call_exception_handler(
                {"message": "a task failed while the worker was leaving", "exception": task.exception(), "task": task}
            )
