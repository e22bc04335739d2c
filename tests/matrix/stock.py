# SPDX-License-Identifier: Apache-2.0
"""What does nginx as it is say of the same cause, in the gateway's place?"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.matrix.case import Broken, Variant
from tests.support import raw
from tests.support.ports import free_port
from tests.support.servers.nginx import Nginx
from tests.support.wait import until

if TYPE_CHECKING:
    from tests.matrix.bed import Bed

DEFAULT_MS = 60_000
SHOWN = re.compile(r"^(?:\S+ ){3}\S+ (?:\*\d+ )?(.*?)(?:, client: .*|, request_id: .*)?$")
# A case has names of its own, which differ from run to run.
NAMES = re.compile(r"\b(?:host|orders)-\d+(?:\.matrix\.test)?")
# Long enough for all of our times, short for an answer that never ends.
PATIENCE_S = 1.5
NUMBERS = re.compile(r"(?<![\w.])(?:\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?)(?![\w.])")


@dataclass(frozen=True)
class Said:
    """What the client got, and the last line of error.log without what changes from run to run."""

    client: str
    phrase: str


def phrase(line: str) -> str:
    """What a line of nginx's error.log says, without time, process, connection and addresses."""
    match = SHOWN.match(line)
    assert match, line
    return NAMES.sub("NAME", NUMBERS.sub("ADDRESS", match[1])).strip()


def ask(bed: Bed, broken: Broken, variant: Variant) -> Said:
    """Send the same request through an nginx that proxies to the same place within the same times."""
    port = free_port()
    with Nginx(_configuration(bed, broken, port), [port]) as nginx:
        if broken.armed:
            broken.armed.clear()
        if variant.reused:
            warm = raw.get(port, "/ok")
            assert warm.status == 200, f"the good request before met {warm.status}"
        if broken.armed:
            broken.armed.set()
        client = _send(broken, port)
        log = nginx.folder / "error.log"

        def lines() -> list[str]:
            text = log.read_text(errors="replace") if log.exists() else ""
            return [line for line in text.splitlines() if ", client: " in line]

        if (client.startswith("2") and "closed" not in client) or client == "left":
            found = lines()
        else:
            with contextlib.suppress(AssertionError):  # some ends are no line
                until(lines, "nginx to say why", 0.5)
            found = lines()
        return Said(client, phrase(found[-1]) if found else "")


def _send(broken: Broken, port: int) -> str:
    path = "/stock" + broken.suffix
    data = broken.data(path) if broken.data else raw.request(broken.method, path, *broken.lines, body=broken.body)
    with raw.Client(port, timeout_s=PATIENCE_S) as client:
        # One that is answered early may not take the rest.
        with contextlib.suppress(ConnectionError):
            client.send(data)
        if broken.leave_after:
            broken.leave_after()
            return "left"
        try:
            return str(client.read_reply(broken.method).status)
        except raw.ClosedEarly as error:
            if error.reply is not None:
                return f"{error.reply.status}, closed"
            return "not HTTP" if _is_rubbish(client.received) else "closed"
        except (TimeoutError, AssertionError):
            if _is_rubbish(client.received):
                return "not HTTP"
            return f"{client.received[9:12].decode()}, hangs" if client.received else "hangs"


def _is_rubbish(received: bytes) -> bool:
    return bool(received) and raw.STATUS_LINE.match(received) is None


def _configuration(bed: Bed, broken: Broken, port: int) -> str:
    url = urlsplit(broken.url)
    host, upstream_port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    is_address = bool(NUMBERS.fullmatch(host))
    times = " ".join(
        f"proxy_{ours}_timeout {broken.service.get(f'{theirs}_timeout', DEFAULT_MS)}ms;"
        for ours, theirs in (("connect", "connect"), ("send", "write"), ("read", "read"))
    )
    checked = (
        f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {bed.authority.certificate};"
        if broken.service.get("tls_verify")
        else ""
    )
    upstream = f"upstream behind {{ server {host}:{upstream_port}; keepalive 8; }}\n" if is_address else ""
    target = (
        f"proxy_pass {url.scheme}://behind;" if is_address else f"set $to {url.scheme}://{host}:{upstream_port}; proxy_pass $to;"
    )
    return (
        f"{upstream}resolver {bed.names.address} ipv6=off; resolver_timeout 1s;\n"
        f"server {{ listen 127.0.0.1:{port}; client_max_body_size 0; client_body_buffer_size 64k; location / {{ {target}\n"
        f"  proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host {host}; {times}\n"
        f"  proxy_next_upstream off; proxy_ssl_server_name on; proxy_ssl_name {host}; {checked} }} }}"
    )
