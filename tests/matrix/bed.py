# SPDX-License-Identifier: Apache-2.0
"""What do all cases share: gateway, name server, certificates, network?"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.matrix.case import Broken, Variant
from tests.support.blueprints import Blueprints, unique
from tests.support.certificates import Authority, Certificate
from tests.support.gateway import Gateway
from tests.support.netns import Network
from tests.support.origin import Behaviour, Connection, Gone, Origin, Received
from tests.support.servers.dns import NameServer

# What is given up by the clock is given up soon.
TIMEOUT_MS = 300
SHORT = dict.fromkeys(("connect_timeout", "write_timeout", "read_timeout"), TIMEOUT_MS)
# What must not end by the clock.
LONG = dict.fromkeys(("connect_timeout", "write_timeout", "read_timeout"), 20_000)
PATIENCE_S = 10.0
# Where the first load balancer calls from, which the gateway trusts.
LOAD_BALANCER = "127.0.0.2"

# A POST takes no connection that lay idle for long, unless the server says how long it keeps it.
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=60\r\n\r\nok"

Fault = Callable[[Connection, Received], None]


class Bed:
    """A gateway with one worker, and what stands around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self.names = NameServer()
        self.authority = Authority(folder, "matrix-authority")
        self.certificate = self.authority.sign("127.0.0.1", "127.0.0.1", "localhost")
        (folder / "resolv.conf").write_text("options timeout:1 attempts:1\n")
        self.gateway = Gateway(
            {
                "plugins": "bundled,probe,matrix-probe",
                "dns_resolver": self.names.address,
                "dns_resolv_conf": str(folder / "resolv.conf"),
                "dns_hostsfile": "/dev/null",
                "lua_ssl_trusted_certificate": str(self.authority.certificate),
                "trusted_ips": LOAD_BALANCER,
                "real_ip_header": "X-Forwarded-For",
                "nginx_http_client_max_body_size": "16m",
                "nginx_http_client_header_timeout": "1s",
                "nginx_http_client_body_timeout": "400ms",
                "upstream_keepalive_idle_timeout": 120,
            }
        )

    def __enter__(self) -> Self:
        self._stack.callback(self.names.stop)
        self._stack.enter_context(self.gateway)
        self.blueprints = Blueprints(self.gateway)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    @cached_property
    def network(self) -> Network:
        """One namespace that cases use in turn."""
        made = self._stack.enter_context(Network())
        # The kernel would else send one ICMP error a second to each host.
        made.inside(lambda: Path("/proc/sys/net/ipv4/icmp_ratelimit").write_text("0"))
        return made

    # === certificates ===

    def context(self, variant: Variant, certificate: Certificate | None = None) -> ssl.SSLContext | None:
        """What an origin of this variant listens with."""
        if variant.scheme == "http":
            return None
        context = (certificate or self.certificate).server_context()
        if variant.mutual:
            context.load_verify_locations(self.authority.certificate)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    # === what stands behind the gateway ===

    @contextmanager
    def behind(self, behaviour: Behaviour, tls: ssl.SSLContext | None = None, **more: Any) -> Iterator[Origin]:
        """An origin for a while; what its behaviour itself got wrong fails the case."""
        with Origin(behaviour, tls=tls, **more) as origin:
            yield origin
        assert not origin.failures, origin.failures

    @contextmanager
    def faulty(self, variant: Variant, fault: Fault, **broken: Any) -> Iterator[Broken]:
        """An origin that answers well, and meets requests with the fault once it is armed.

        Args:
            variant: how it is spoken with.
            fault: what it does.
            **broken: more of `Broken`; `listener`: its socket; `leaves`: the client leaves when the request has arrived.
        """
        armed = threading.Event()

        def serve(connection: Connection) -> None:
            while True:
                received = connection.read_head()
                if armed.is_set():
                    fault(connection, received)
                    return
                connection.read_body(received)
                connection.send(OK)

        listener, leaves = broken.pop("listener", None), broken.pop("leaves", False)
        with self.behind(serve, self.context(variant), listener=listener) as origin:
            made = Broken(origin.url, armed=armed, **broken)
            if leaves:
                made.leave_after = when_asked(origin)
            yield made

    def name(self, *addresses: str, ttl_s: int = 30) -> str:
        """A host name of the case's own."""
        name = f"{unique('host')}.matrix.test"
        if addresses:
            self.names.set_a(name, *addresses, ttl_s=ttl_s)
        return name


def when_asked(origin: Origin) -> Callable[[], object]:
    """Wait, each time it is called, until the origin has one more request."""
    seen = [0]

    def wait() -> None:
        seen[0] += 1
        origin.wait_requests(seen[0])

    return wait


# === faults ===


def sends(data: bytes, *then: Callable[[Connection], object]) -> Fault:
    """Read the body, send these bytes, then do this."""

    def fault(connection: Connection, received: Received) -> None:
        connection.read_body(received)
        if data:
            connection.send(data)
        for act in then:
            act(connection)

    return fault


def fin(connection: Connection) -> None:
    """Close."""
    connection.close()


def rst(connection: Connection) -> None:
    """Reset, once what was sent has arrived: a reset overtakes it else."""
    connection.pause(0.1)
    connection.reset()


def hangs(connection: Connection) -> None:
    """Say nothing more until the gateway leaves."""
    try:
        connection.wait_gone(PATIENCE_S)
    except Gone:
        return


def reply(status: str, body: bytes = b"", *lines: str) -> bytes:
    """A whole answer."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body
