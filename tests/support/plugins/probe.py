# SPDX-License-Identifier: Apache-2.0
"""What does a plugin see of a request, and what becomes of the others when it misbehaves?"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable
from typing import Any

from pylae.sdk import Answer, Exchange, Plugin, Record, field, kinds

PHASES = ["rewrite", "access", "header_filter", "log"]
DEEDS = ["nothing", "wait", "raise", "rubbish", "block", "loop", "answer", "log_value"]


class Probe(Plugin):
    """In the phase named by its config it does what its config says; every log hook leaves a line in `file`."""

    name = "probe"
    version = "1.0.0"
    priority = 1500

    class Config(Record):
        """What to do, where."""

        phase: str = field(kinds.string(one_of=PHASES), default="access", doc="Phase in which it acts.")
        does: str = field(kinds.string(one_of=DEEDS), default="nothing", doc="What it does there.")
        file: str | None = field(kinds.string(), doc="File to which every log hook appends one JSON line.")
        ms: int = field(kinds.integer(), default=0, unit="ms", doc="How long it waits or blocks.")

    def rewrite(self, exchange: Exchange, config: Config) -> Any:
        """Act if this is the phase."""
        return self._act("rewrite", exchange, config)

    def access(self, exchange: Exchange, config: Config) -> Any:
        """Act if this is the phase."""
        return self._act("access", exchange, config)

    def header_filter(self, exchange: Exchange, config: Config) -> Any:
        """Act if this is the phase, and leave a header that says the filter ran."""
        exchange.response.set_header("X-Probe", "filtered")
        return self._act("header_filter", exchange, config)

    def log(self, exchange: Exchange, config: Config) -> Any:
        """Leave the line, then act if this is the phase."""
        if config.file:
            entry = {
                "id": exchange.id,
                "status": exchange.response.status,
                "pid": os.getpid(),
                "tasks": _unfinished_tasks(),
            }
            _append(config.file, entry)
        return self._act("log", exchange, config)

    def _act(self, phase: str, exchange: Exchange, config: Config) -> Any:
        if config.phase != phase or config.does == "nothing":
            return None
        if config.does == "raise":
            raise ValueError("the probe was told to raise")
        if config.does == "rubbish":
            return {"neither": "an answer nor None"}
        if config.does == "block":
            time.sleep(config.ms / 1000)
            return None
        if config.does == "loop":
            while True:
                pass
        if config.does == "answer":
            return exchange.answer(418, {"probe": phase})
        if config.does == "log_value":
            exchange.set_log_value("probe", phase)
            return None
        return self._wait(config)

    def _wait(self, config: Config) -> Awaitable[Answer | None]:
        async def wait() -> Answer | None:
            try:
                await asyncio.sleep(config.ms / 1000)
            except asyncio.CancelledError:
                if config.file:
                    _append(config.file, {"cancelled": True})
                raise
            return None

        return wait()


def _append(file: str, entry: dict[str, Any]) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, json.dumps(entry).encode() + b"\n")
    os.close(descriptor)


def _unfinished_tasks() -> int:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.get_event_loop_policy().get_event_loop()
    return sum(not task.done() for task in asyncio.all_tasks(loop))
