# SPDX-License-Identifier: Apache-2.0
"""How does a network between the gateway and an upstream lose, refuse and forget packets?"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.support import processes
from tests.support.servers.server import find

CLONE_NEWNET = 0x40000000
# 198.18.0.0/15 is set aside for tests of networks (RFC 2544): room for 32,768 links of four addresses.
FIRST_ADDRESS = int.from_bytes(socket.inet_aton("198.18.0.0"), "big")
LINKS = 1 << 15

# Names of namespaces begin so; the number of the process that made them follows.
PREFIX = "pylae-t"

T = TypeVar("T")
_numbers = itertools.count()


class Refused(AssertionError):
    """A command that should change the network failed."""


def is_allowed() -> bool:
    """Whether this process may make networks: root may, where nothing else forbids it."""
    name = f"{PREFIX}-{os.getpid()}-probe"
    try:
        _run("ip", "netns", "add", name)
    except Refused:
        return False
    _run("ip", "netns", "del", name)
    return True


def remove_left_over() -> None:
    """Remove the networks of test runs that were killed."""
    folder = Path("/run/netns")
    for found in folder.iterdir() if folder.exists() else ():
        prefix, _, numbers = found.name.rpartition(f"{PREFIX}-")
        pid, _, number = numbers.partition("-")
        if prefix or not pid.isdigit() or processes.is_alive(int(pid)):
            continue
        _remove(found.name, f"pto{pid}-{number}")


def _remove(name: str, outer_device: str) -> None:
    # Sockets that are still open keep a namespace alive without its name; the link goes by its own.
    for command in (["link", "del", outer_device], ["netns", "del", name]):
        subprocess.run([find("ip") or "ip", *command], capture_output=True, timeout=10, check=False)


def _run(program: str, *arguments: str, given: str = "") -> None:
    found = find(program)
    assert found, f"{program} is not installed (scripts/test-packages.sh lists the packages)"
    done = subprocess.run([found, *arguments], input=given, capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        raise Refused(f"{program} {' '.join(arguments)}: {done.stderr.strip()} {given}")


class Network:
    """A network namespace with one link to it.

    Attributes:
        address: inside.
        outer_address: ours.
    """

    def __init__(self) -> None:
        number = next(_numbers)
        # The process's number keeps the names and addresses of tests that run side by side apart.
        link = FIRST_ADDRESS + 4 * ((os.getpid() + 7919 * number) % LINKS)
        self.outer_address, self.address = (socket.inet_ntoa((link + n).to_bytes(4, "big")) for n in (1, 2))
        self.name = f"{PREFIX}-{os.getpid()}-{number}"
        self.outer_device, self.device = (f"pt{side}{os.getpid()}-{number}" for side in "oi")

    def __enter__(self) -> Self:
        remove_left_over()
        try:
            _run("ip", "netns", "add", self.name)
            _run("ip", "link", "add", self.outer_device, "type", "veth", "peer", "name", self.device, "netns", self.name)
            _run("ip", "addr", "add", f"{self.outer_address}/30", "dev", self.outer_device)
            _run("ip", "link", "set", self.outer_device, "up")
            _run("ip", "-n", self.name, "addr", "add", f"{self.address}/30", "dev", self.device)
            _run("ip", "-n", self.name, "link", "set", self.device, "up")
            _run("ip", "-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            _remove(self.name, self.outer_device)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _remove(self.name, self.outer_device)

    def rules(self, *incoming: str, outgoing: tuple[str, ...] = ()) -> None:
        """What becomes of packets from now on, in nft's words; none: all pass."""
        chains = "".join(
            f"chain {hook} {{ type filter hook {hook} priority 0; policy accept;\n"
            + "".join(f"{rule};\n" for rule in rules)
            + "}\n"
            for hook, rules in (("input", incoming), ("output", outgoing))
        )
        _run(
            "ip", "netns", "exec", self.name, find("nft") or "nft", "-f", "-",
            given=f"table inet faults\ndelete table inet faults\ntable inet faults {{\n{chains}}}\n",
        )  # fmt: skip

    @contextlib.contextmanager
    def throttled(self, bits_per_s: int) -> Iterator[None]:
        """No more passes in a second than this, towards the inside; what does not pass waits."""
        device = ("dev", self.outer_device, "root")
        _run("tc", "qdisc", "add", *device, "tbf", "rate", f"{bits_per_s}bit", "burst", "16kb", "latency", "20s")
        try:
            yield
        finally:
            _run("tc", "qdisc", "del", *device)

    def inside(self, work: Callable[[], T]) -> T:
        """Do something in the namespace; sockets made there stay there."""
        outcome: list[T] = []
        failures: list[BaseException] = []

        def enter() -> None:
            try:
                with (Path("/run/netns") / self.name).open("rb") as namespace:
                    library = ctypes.CDLL(None, use_errno=True)
                    if library.setns(namespace.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), f"setns {self.name}")
                outcome.append(work())
            except BaseException as error:
                failures.append(error)

        # A thread enters alone, and ends.
        thread = threading.Thread(target=enter, name=self.name)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        return outcome[0]

    def listen(self, port: int = 0) -> socket.socket:
        """A listening socket inside."""
        return self.inside(lambda: socket.create_server((self.address, port), backlog=1024))
