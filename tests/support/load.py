# SPDX-License-Identifier: Apache-2.0
"""What do clients notice while something happens to the gateway?"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.support.raw import Client, ClosedEarly, request
from tests.support.wait import until


@dataclass
class Failure:
    """A request that got no answer, or not the one expected.

    Attributes:
        reason: what the client saw.
        first: whether it was the first request on its connection, so that no close of an idle connection excuses it.
        sent: whether its bytes had gone out.
    """

    reason: str
    first: bool
    sent: bool


class Load:
    """Clients that send one request after the other until told to stop.

    Attributes:
        answered: how many requests got status 200.
    """

    def __init__(self, port: int, path: str, *, clients: int = 4, keep_alive: bool = True, lines: tuple[str, ...] = ()) -> None:
        self.port, self.keep_alive = port, keep_alive
        self.answered = 0
        self.failures: list[Failure] = []
        self._bytes = request("GET", path, *lines, *(() if keep_alive else ("Connection: close",)))
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, name=f"load-{n}", daemon=True) for n in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_for(len(self._threads))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Let every client finish its request and leave."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client still waits for its answer"

    def wait_for(self, count: int, within_s: float = 10.0) -> None:
        """Wait until so many more requests were answered."""
        goal = self.answered + count
        until(lambda: self.answered >= goal, f"{count} answers, failures so far: {self.failures[:5]}", within_s)

    def _run(self) -> None:
        client: Client | None = None
        served = 0
        while not self._stopping.is_set():
            sent = False
            try:
                if client is None:
                    client, served = Client(self.port), 0
                client.send(self._bytes)
                sent = True
                reply = client.read_reply()
            except (OSError, ClosedEarly) as error:
                self._fail(Failure(f"{type(error).__name__}: {error}", first=served == 0, sent=sent))
                reply = None
            if reply is not None:
                served += 1
                if reply.status == 200:
                    with self._lock:
                        self.answered += 1
                else:
                    self._fail(Failure(f"{reply.status} {reply.text[:200]}", first=served == 1, sent=True))
            if client and (reply is None or not self.keep_alive or reply.header("Connection") == "close"):
                client.close()
                client = None
        if client:
            with contextlib.suppress(OSError):
                client.close()

    def _fail(self, failure: Failure) -> None:
        with self._lock:
            self.failures.append(failure)
