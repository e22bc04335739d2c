# SPDX-License-Identifier: Apache-2.0
"""culprit: does as badly as its configuration says."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import Any

from pylae.sdk import Answer, Exchange, Host, Plugin, Record, field, kinds


class Culprit(Plugin):
    """Fails in access, if the header it waits for goes upstream; or in a later phase."""

    name = "culprit"
    priority = 10
    is_pure = True
    reads_body = 1000

    class Config(Record):
        does: str = field(kinds.string(), required=True, doc="What it does.")
        when: str | None = field(kinds.string(), doc="Header that must go upstream for it to do so.")
        secret: str | None = field(kinds.string(), secret=True, doc="A text that no report may hold.")
        path: str | None = field(kinds.string(), doc="File it writes to.")

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._tickets = host.entities.lookup("tickets", "code")

    @classmethod
    def prepare(cls, config: Any, instance: object) -> Any:
        """Fails where it should."""
        if config.does == "fail_to_prepare":
            raise RuntimeError("cannot be prepared")
        if config.does == "prepare_for_ever":
            while True:
                pass
        return config

    async def _later(self, exchange: Exchange, does: str) -> Answer | None:
        if does == "wait_for_ever":
            await asyncio.Event().wait()
        if does == "answer_later":
            await asyncio.sleep(0)
            return exchange.error(403, "no")
        await self._tickets.get("x")
        return None

    def access(self, exchange: Exchange, config: Any) -> Any:
        """Fails."""
        if config.when is not None and exchange.service.request.get_header(config.when) is None:
            return None
        if config.does in ("wait_for_ever", "answer_later", "look_up"):
            return self._later(exchange, config.does)
        action = getattr(self, f"_{config.does}", None)
        return action(exchange, config) if action is not None else None

    def _raise(self, exchange: Exchange, config: Any) -> None:
        raise KeyError("team")

    def _tell(self, exchange: Exchange, config: Any) -> None:
        raise ValueError(f"{exchange.request.get_header('authorization')} {exchange.request.raw_query} {config.secret}")

    def _tell_secret(self, exchange: Exchange, config: Any) -> None:
        raise ValueError(f"key is {config.secret}")

    def _exit(self, exchange: Exchange, config: Any) -> None:
        raise SystemExit(3)

    def _refuse(self, exchange: Exchange, config: Any) -> Answer:
        return exchange.error(403, "no")

    def _demand(self, exchange: Exchange, config: Any) -> Answer | None:
        return exchange.error(400, "no") if exchange.service.request.get_header("x-team") is None else None

    def _redirect(self, exchange: Exchange, config: Any) -> Answer:
        return exchange.answer(302, None, {"Location": "/there"})

    def _answer_rubbish(self, exchange: Exchange, config: Any) -> int:
        return 3

    def _spin(self, exchange: Exchange, config: Any) -> None:
        while True:
            pass

    def _sleep(self, exchange: Exchange, config: Any) -> None:
        time.sleep(1000)

    def _resist(self, exchange: Exchange, config: Any) -> None:
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                continue

    def _die(self, exchange: Exchange, config: Any) -> None:
        os._exit(7)

    def _connect(self, exchange: Exchange, config: Any) -> None:
        socket.create_connection(("127.0.0.1", 9))

    def _connect_quietly(self, exchange: Exchange, config: Any) -> Answer | None:
        try:
            socket.create_connection(("127.0.0.1", 9))
        except BaseException:
            return exchange.error(503, "made up")
        return None

    def _write(self, exchange: Exchange, config: Any) -> None:
        Path(config.path).write_text("no")

    def _count(self, exchange: Exchange, config: Any) -> None:
        self.host.counters_take(b"x", [(1, 0, 1)], 1)

    def _stream(self, exchange: Exchange, config: Any) -> None:
        self.host.stream("log:culprit", b"x")

    def _bad_host(self, exchange: Exchange, config: Any) -> None:
        exchange.service.set_target("https://orders.internal/", 443)

    def _bad_upstream(self, exchange: Exchange, config: Any) -> None:
        exchange.service.set_upstream("nonesuch")

    def _bad_scheme(self, exchange: Exchange, config: Any) -> None:
        exchange.service.request.set_scheme("ftp")  # type: ignore[arg-type]  # the mistake

    def _bad_value(self, exchange: Exchange, config: Any) -> None:
        exchange.service.request.set_header("X-Trace", "one\r\ntwo")

    def _bad_name(self, exchange: Exchange, config: Any) -> None:
        exchange.service.request.set_header("X Trace", "one")

    def _control(self, exchange: Exchange, config: Any) -> None:
        exchange.service.request.set_header("X-Trace", "one\x01two")

    def _two_hosts(self, exchange: Exchange, config: Any) -> None:
        exchange.service.request.add_header("Host", "two.test")

    def _long(self, exchange: Exchange, config: Any) -> None:
        exchange.service.request.set_header("X-Token", "x" * 9000)

    def _double(self, exchange: Exchange, config: Any) -> None:
        exchange.service.request.set_header("X-Grown", (exchange.service.request.get_header("x-grown") or "x" * 5000) * 2)

    def _read_header(self, exchange: Exchange, config: Any) -> Answer | None:
        return None if exchange.request.get_header("authorization") == "Bearer good" else exchange.error(401, "no")

    def _read_header_quietly(self, exchange: Exchange, config: Any) -> Answer | None:
        try:
            token = exchange.request.get_headers().get("authorization")
        except BaseException:
            token = None
        return None if token else exchange.error(401, "no")

    def _read_query(self, exchange: Exchange, config: Any) -> Answer | None:
        return None if exchange.request.get_query_arg("id") == "1" else exchange.error(400, "no")

    def _read_body(self, exchange: Exchange, config: Any) -> Answer | None:
        return None if exchange.request.body == b"good" else exchange.error(400, "no")

    def _need_user(self, exchange: Exchange, config: Any) -> Answer | None:
        consumer = exchange.client.consumer
        return None if consumer is not None and consumer["username"] == "alice" else exchange.error(403, "no")

    def _need_somebody(self, exchange: Exchange, config: Any) -> Answer | None:
        consumer = exchange.client.consumer
        return None if consumer is not None and consumer["id"] else exchange.error(403, "no")

    def _fail_for_bob(self, exchange: Exchange, config: Any) -> None:
        consumer = exchange.client.consumer
        if consumer is not None and consumer["username"] == "bob" and exchange.service.request.get_header("X-Consumer-Username"):
            raise LookupError("nobody maps bob")

    def _alternate(self, exchange: Exchange, config: Any) -> None:
        self.has_run = not getattr(self, "has_run", False)
        if self.has_run:
            raise RuntimeError("every other time")

    def header_filter(self, exchange: Exchange, config: Any) -> Any:
        """Fails."""
        if config.does == "spoil_status":
            exchange.response.status = 502
        if config.does == "raise_in_header_filter":
            raise KeyError("late")
        if config.does == "answer_in_header_filter":
            return exchange.answer(200)
        return None

    def body_filter(self, exchange: Exchange, config: Any, chunk: bytes, is_last: bool) -> Any:  # noqa: FBT001 - the phase's form
        """Fails."""
        if config.does == "raise_in_body_filter":
            raise KeyError("later")
        return "text" if config.does == "rubbish_in_body_filter" else None

    def log(self, exchange: Exchange, config: Any) -> None:
        """Fails."""
        if config.does == "raise_in_log":
            raise KeyError("last")
