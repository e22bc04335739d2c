# SPDX-License-Identifier: Apache-2.0
"""What comes of requests that meet the close of their upstream connection, and how often was each executed?

Targets and clients share one event loop: both read the same clock, and a loaded machine delays both alike, so that a
request and a close which are planned for the same moment stay together. What stands between them runs elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from tests.support.raw import request
from tests.support.wait import POLL_S

How = Literal["fin", "rst", "half", "notify"]

# The client's patience: far over whatever the gateway may need to send a request once more.
ANSWER_WITHIN_S = 15.0
READ_BYTES = 65536
MARK = b"\r\n\r\n"

_numbers = itertools.count()


async def moment(planned_s: float) -> None:
    """Come back at the planned moment of the loop's clock.

    When a request is sent is what these tests are about; this is no way to wait for anything to have happened.
    """
    await asyncio.sleep(planned_s - asyncio.get_running_loop().time())


# === the upstream's side ===


@dataclass
class Ledger:
    """What became of each request, by the id that its path ends with.

    Attributes:
        seen: on how many connections a whole head of it came.
        executed: how often the whole request was acted upon.
        failures: what went wrong in the targets themselves.
    """

    seen: Counter[str] = field(default_factory=Counter)
    executed: Counter[str] = field(default_factory=Counter)
    failures: list[Exception] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """How a target ends connections by its own rules.

    Attributes:
        idle_s: draws how long after an answer it closes; None: never.
        hows: one of them is drawn for each connection: `fin` closes, `rst` resets, `half` shuts the sending side only, and
            still reads and executes what comes. `notify`, of TLS alone, says close_notify, and does nothing more.
        answers: it closes without a word after so many; None: never.
        closing_delay_s: draws how long after the last of them.
        lines: header lines of its answers.
    """

    idle_s: Callable[[], float] | None = None
    hows: tuple[How, ...] = ("fin",)
    answers: int | None = None
    closing_delay_s: Callable[[], float] = lambda: 0.0
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mishap:
    """What a target does, once, to the next request on a connection that has carried one.

    Attributes:
        how: it ends the connection.
        after_bytes: of the request, read before that; None: all of it, and then the request is executed.
    """

    how: How
    after_bytes: int | None = None


class Target:
    """A server of one lane.

    Attributes:
        closes_at_s: when it will close the connection it answered last; None when it has none, or when it never does.
        closed_at_s: when it last closed one.
        closings: how many idle connections it closed, whatever lay unread in them.
        late: requests that came on a connection after its own FIN or close_notify (only `half` and `notify` can know).
        mishap: what happens to the next request on a used connection.
    """

    def __init__(self, ledger: Ledger, plan: Plan, address: str, tls: ssl.SSLContext | None = None) -> None:
        self.ledger, self.plan, self.tls = ledger, plan, tls
        self.closes_at_s: float | None = None
        self.closed_at_s = 0.0
        self.closings = self.late = self.connections = 0
        self.mishap: Mishap | None = None
        self._listener = socket.create_server((address, 0), backlog=64)
        self._listener.setblocking(False)
        self.address, self.port = self._listener.getsockname()
        self._open: set[Served] = set()

    @property
    def open_connections(self) -> int:
        """Those that neither side has closed."""
        return len(self._open)

    @property
    def url(self) -> str:
        """What a Service's `url` says."""
        return f"{'https' if self.tls else 'http'}://{self.address}:{self.port}/"

    def start(self) -> None:
        """Accept from now on, in the running loop."""
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            link, _ = self._listener.accept()
        except OSError:  # it was reset before it was taken
            return
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        served = Served(self, link)
        self._open.add(served)
        served.task = asyncio.create_task(served.run())

    def forget(self, served: Served) -> None:
        """One of its connections ended."""
        self._open.discard(served)

    def end_all(self) -> None:
        """Close all connections in one moment, as a restart does."""
        for served in list(self._open):
            served.leave("fin")

    async def stop(self) -> None:
        """Close everything."""
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()
        tasks = [served.task for served in self._open if served.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Sealed:
    """TLS on a connection of a target, apart from its socket."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._link = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def shake(self, data: bytes) -> tuple[bool, bytes]:
        """Whether hands are shaken once these bytes have come, and what to send."""
        self._incoming.write(data)
        try:
            self._link.do_handshake()
        except ssl.SSLWantReadError:
            return False, self._outgoing.read()
        return True, self._outgoing.read()

    def open(self, data: bytes) -> bytes:
        """What these bytes say."""
        self._incoming.write(data)
        plain = b""
        with contextlib.suppress(ssl.SSLError):
            while more := self._link.read(READ_BYTES):
                plain += more
        return plain

    def seal(self, plain: bytes) -> bytes:
        """The bytes that say this."""
        self._link.write(plain)
        return self._outgoing.read()

    def close_notify(self) -> bytes:
        """The bytes that say that nothing more will come."""
        with contextlib.suppress(ssl.SSLError):
            self._link.unwrap()
        return self._outgoing.read()


class Served:
    """One connection of a target."""

    def __init__(self, target: Target, link: socket.socket) -> None:
        self.target, self.link = target, link
        self.task: asyncio.Task[None] | None = None
        self.answers = 0
        self.is_half = False
        self._sealed = Sealed(target.tls) if target.tls else None
        self._unread = b""
        self._closing: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve until it ends."""
        try:
            await self._shake()
            while await self._serve_one():
                pass
        except (ConnectionError, EOFError):
            pass
        except Exception as error:
            self.target.ledger.failures.append(error)
            raise
        finally:
            self._end("fin")

    async def _shake(self) -> None:
        if not self._sealed:
            return
        loop, is_shaken = asyncio.get_running_loop(), False
        while not is_shaken:
            data = await loop.sock_recv(self.link, READ_BYTES)
            if not data:
                raise EOFError
            is_shaken, ours = self._sealed.shake(data)
            await loop.sock_sendall(self.link, ours)
        self._unread = self._sealed.open(b"")  # the request may have come with the last of the client's handshake

    async def _serve_one(self) -> bool:
        """One request; whether the connection goes on."""
        while not self._unread:
            await self._receive()  # idle: the timer may end the connection while it waits here
        self._stop_timer()
        mishap = None
        if self.answers and self.target.mishap:
            mishap, self.target.mishap = self.target.mishap, None
        if mishap and mishap.after_bytes is not None:
            while len(self._unread) < mishap.after_bytes:
                await self._receive(mishap.after_bytes - len(self._unread))
            if mishap.how != "half":
                self._end(mishap.how)
                return False
            self._half_close()
        head = await self._read_head()
        name = head.split(b" ", 2)[1].rsplit(b"/", 1)[1].decode()
        self.target.ledger.seen[name] += 1
        self.target.late += self.is_half
        await self._read_body(head)
        self.target.ledger.executed[name] += 1
        if mishap or self.is_half:
            self._end(mishap.how if mishap else "fin")
            return False
        self.answers += 1
        plan = self.target.plan
        lines = "".join(f"{line}\r\n" for line in plan.lines)
        answer = f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {len(name)}\r\n\r\n{name}".encode()
        await asyncio.get_running_loop().sock_sendall(self.link, self._sealed.seal(answer) if self._sealed else answer)
        self._plan_close()
        return True

    def _plan_close(self) -> None:
        loop, plan = asyncio.get_running_loop(), self.target.plan
        self.target.closes_at_s = None
        after_s = None
        if plan.answers is not None and self.answers >= plan.answers:
            after_s = plan.closing_delay_s()
        elif plan.idle_s:
            after_s = plan.idle_s()
        if after_s is not None:
            self.target.closes_at_s = loop.time() + after_s
            self._closing = loop.call_at(self.target.closes_at_s, self._close_idle)

    def _close_idle(self) -> None:
        """The timer's work, done at once: whether a request lies unread in the kernel is not looked at."""
        self._closing = None
        self.target.closings += 1
        self.target.closed_at_s = asyncio.get_running_loop().time()
        self.leave(random.choice(self.target.plan.hows))

    def leave(self, how: How) -> None:
        """End it at once, whatever lies unread in it."""
        if how == "half":
            self._half_close()
        elif how == "notify":
            self.is_half = True
            self._say_close_notify()
        else:
            self._end(how)
            if self.task:
                self.task.cancel()

    def _half_close(self) -> None:
        self.is_half = True
        self._say_close_notify()
        with contextlib.suppress(OSError):
            self.link.shutdown(socket.SHUT_WR)

    def _say_close_notify(self) -> None:
        if self._sealed:
            with contextlib.suppress(OSError):
                self.link.send(self._sealed.close_notify())

    def _end(self, how: How) -> None:
        self._stop_timer()
        if self.link.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self.link.fileno())
        if how == "fin" and not self.is_half:
            self._say_close_notify()
        if how == "rst":
            self.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.link.close()
        self.target.forget(self)

    def _stop_timer(self) -> None:
        if self._closing:
            self._closing.cancel()
            self._closing = None

    async def _receive(self, limit_bytes: int = READ_BYTES) -> None:
        data = await asyncio.get_running_loop().sock_recv(self.link, limit_bytes)
        if not data:
            raise EOFError
        self._unread += self._sealed.open(data) if self._sealed else data

    async def _read_head(self) -> bytes:
        while MARK not in self._unread:
            await self._receive()
        head, _, self._unread = self._unread.partition(MARK)
        return head

    async def _read_body(self, head: bytes) -> None:
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(self._unread) < length:
            await self._receive()
        self._unread = self._unread[length:]


# === the client's side ===


class Asker:
    """One client connection, opened anew when it was closed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._link: socket.socket | None = None
        self._unread = b""

    async def ask(self, data: bytes) -> int:
        """Send a request; the status of its answer, 0 when the connection ended without one."""
        loop = asyncio.get_running_loop()
        if self._link is None:
            self._link = socket.socket()
            self._link.setblocking(False)
            self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(self._link, ("127.0.0.1", self.port))
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await loop.sock_sendall(self._link, data)
                head = (await self._until(lambda: MARK in self._unread)).partition(MARK)[0]
                lines = [line.lower() for line in head.split(b"\r\n")]
                lengths = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
                whole = len(head) + len(MARK) + sum(lengths)
                await self._until(lambda: len(self._unread) >= whole)
                self._unread = self._unread[whole:]
                if b"connection: close" in lines:
                    self.close()
                return int(lines[0].split(b" ", 2)[1])
        except (ConnectionError, EOFError):
            self.close()
            return 0

    async def _until(self, enough: Callable[[], bool]) -> bytes:
        assert self._link
        while not enough():
            data = await asyncio.get_running_loop().sock_recv(self._link, READ_BYTES)
            if not data:
                raise EOFError
            self._unread += data
        return self._unread

    def close(self) -> None:
        """Leave."""
        if self._link:
            self._link.close()
        self._link, self._unread = None, b""


class Lane:
    """A target of its own behind a path of its own, and one client connection, so that one worker serves it all.

    Attributes:
        asked: tries so far.
    """

    def __init__(self, number: int, target: Target) -> None:
        self.number, self.target = number, target
        self.asked = 0
        self.client: Asker | None = None
        self.path = ""

    async def ask(self, method: str = "GET", *lines: str, body: bytes = b"") -> tuple[str, int]:
        """One request; its id and the status of its answer."""
        assert self.client, "the lane leads through nothing yet"
        self.asked += 1
        name = f"{method.lower()}-{self.number}-{self.asked}"
        keyed = [line.replace("{id}", name) for line in lines]
        data = request(method, f"{self.path}/{name}", *keyed, body=body if body or method != "GET" else None)
        return name, await self.client.ask(data)

    async def warm(self) -> None:
        """Have a connection lie idle, whose target will close it."""
        for _ in range(3):
            _, status = await self.ask()
            if status == 200:
                return
        raise AssertionError(f"lane {self.number} gets no answer: {status}")


@dataclass
class Try:
    """One request that met a close.

    Attributes:
        name: the request's id.
        status: of its answer.
        gap_s: from the close to the sending; negative: it was sent first; infinite: the target did not come to close.
        took_s: from the sending to the end of the answer.
    """

    name: str
    status: int
    gap_s: float
    took_s: float


class Lanes:
    """Many lanes, each raced on its own."""

    def __init__(self, count: int, plan: Plan, tls: ssl.SSLContext | None = None) -> None:
        self.ledger = Ledger()
        # An address of their own: whatever a gateway learned of a port in an earlier test, it does not know these targets.
        high, low = divmod(next(_numbers), 250)
        self.all = [Lane(number, Target(self.ledger, plan, f"127.1.{high}.{low + 1}", tls)) for number in range(count)]
        self.random = random.Random(count)

    def lead(self, port: int, paths: Iterable[str]) -> None:
        """Say through whose port and under which path each lane's target is reached."""
        for lane, path in zip(self.all, paths, strict=True):
            lane.path, lane.client = path, Asker(port)

    async def __aenter__(self) -> Self:
        for lane in self.all:
            lane.target.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for lane in self.all:
            if lane.client:
                lane.client.close()
            await lane.target.stop()
        assert not self.ledger.failures, f"targets failed: {self.ledger.failures[:3]}"

    async def until_closed(self) -> None:
        """Have a connection lie idle in every lane until one side or the other closes it."""

        async def one(lane: Lane) -> None:
            closings = lane.target.closings
            await lane.warm()
            async with asyncio.timeout(ANSWER_WITHIN_S):
                while lane.target.closings == closings and lane.target.open_connections:
                    await asyncio.sleep(POLL_S)

        await asyncio.gather(*map(one, self.all))

    async def race(self, tries_each: int, spread_s: float, method: str = "GET", *lines: str) -> list[Try]:
        """In every lane, so many requests, each sent within the spread around the planned close of the lane's connection."""

        async def one(lane: Lane) -> list[Try]:
            loop = asyncio.get_running_loop()
            made: list[Try] = []
            for _ in range(tries_each):
                if lane.target.closes_at_s is None or lane.target.closes_at_s < loop.time() + spread_s:
                    await lane.warm()
                assert lane.target.closes_at_s, "the target plans no close"
                closes_at_s = lane.target.closes_at_s
                await moment(closes_at_s + self.random.uniform(-spread_s, spread_s))
                sent_at_s = loop.time()
                name, status = await lane.ask(method, *lines, body=b"" if method == "GET" else b"once only")
                took_s, closed_at_s = loop.time() - sent_at_s, lane.target.closed_at_s
                made.append(Try(name, status, sent_at_s - closed_at_s if closed_at_s >= closes_at_s else math.inf, took_s))
            return made

        return [each for many in await asyncio.gather(*map(one, self.all)) for each in many]

    async def everywhere(self, times: int, method: str = "GET", *lines: str, mishap: Mishap | None = None) -> list[Try]:
        """In every lane, so many requests, one after the other; each meets the mishap on a connection that was used before."""

        async def one(lane: Lane) -> list[Try]:
            made: list[Try] = []
            for number in range(times):
                if mishap:
                    # Never twice after the same number of answers: that could be a rule of the target.
                    for _ in range(1 + number):
                        await lane.warm()
                    lane.target.mishap = mishap
                name, status = await lane.ask(method, *lines, body=b"" if method == "GET" else b"once only")
                assert not (mishap and lane.target.mishap), f"{name} did not meet the mishap"
                made.append(Try(name, status, 0.0, 0.0))
            return made

        return [each for many in await asyncio.gather(*map(one, self.all)) for each in many]
