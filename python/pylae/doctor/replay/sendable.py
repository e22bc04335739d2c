# SPDX-License-Identifier: Apache-2.0
"""Can what goes upstream work there at all?

Only what no plugin is kept from: the gateway itself refuses header names that are no tokens, values with line breaks,
and schemes it does not speak; a plugin that tries raises.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from pylae.doctor.replay.exchange import WatchedServiceRequest
from pylae.doctor.replay.watching import Absent
from pylae.sdk.stand_in_exchange import MemoryExchange

MOST_LINE_BYTES: Final = 8_190
"""What the commonest servers take of one line: nginx 8 KiB, gunicorn and Apache 8190."""
MOST_HEAD_BYTES: Final = 65_536
"""More than any common server or load balancer takes of a whole head."""

_HOST: Final = re.compile(r"(?=.{1,253}\.?\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?)+\Z")
_AUTHORITY: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]+)(?::[0-9]{0,5})?\Z")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_IN_PATH: Final = re.compile(r"[\x00-\x20\x7f#?]")
_OURS: Final = frozenset(
    {
        *(
            "connection",
            "content-length",
            "expect",
            "keep-alive",
            "proxy",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
        ),
        *("upgrade", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-path", "x-forwarded-port", "x-forwarded-prefix"),
        *("x-forwarded-proto", "x-kong-request-id", "x-real-ip"),
    }
)
"""Fields that the gateway writes itself, whatever a plugin sets."""


def flaws(exchange: MemoryExchange, head_bytes: int = 0) -> dict[str, str]:
    """What can't work upstream, by a key that stays the same from run to run, each in a sentence.

    `head_bytes` is the length of what is not kept of the head, as far as it is known.
    """
    request: WatchedServiceRequest = exchange.service.request  # type: ignore[assignment]  # of a replay's own exchange
    found: dict[str, str] = {}
    target = exchange.service.target
    if target is not None:
        host, port = target
        if not _is_host(host):
            found["bad_target_host"] = f"the host `{host}` that it is sent to is no name and no address"
        if port == 0:
            found["bad_target_port"] = f"port 0 of `{host}`, which it is sent to, can't be connected to"
    if _NOT_IN_PATH.search(request.path):
        found["bad_path"] = "the path that is sent holds a space, a control byte, `?` or `#`"
    hosts = 0
    total = head_bytes + len(request.method) + len(request.path) + request.query_bytes + 14
    if total - head_bytes > MOST_LINE_BYTES:
        found["request_line_too_long"] = f"the request line that is sent has {total - head_bytes} bytes"
    for name, value in request.lines:
        lower_name = name.lower()
        if lower_name in _OURS or isinstance(value, Absent):
            continue
        line_bytes = len(name) + 4 + len(value.encode("utf-8", "surrogateescape"))
        total += line_bytes
        if line_bytes > MOST_LINE_BYTES:
            found[f"header_too_long:{lower_name}"] = f"the header `{name}` that is sent has {line_bytes} bytes"
        if _CONTROL.search(value):
            found[f"malformed_header:{lower_name}"] = f"the value of the header `{name}` that is sent holds a control byte"
        if lower_name == "host":
            hosts += 1
            if _AUTHORITY.match(value) is None:
                found["bad_host_header"] = "the header `Host` that is sent names no host"
    if hosts > 1:
        found["several_host_headers"] = f"{hosts} headers `Host` are sent, where one may be"
    if total > MOST_HEAD_BYTES:
        found["head_too_long"] = f"the head that is sent has {total} bytes"
    return found


def bytes_of(exchange: MemoryExchange) -> int:
    """Length of the client's head as far as it is known."""
    request: WatchedServiceRequest = exchange.service.request  # type: ignore[assignment]  # of a replay's own exchange
    lines = sum(len(name) + 4 + len(value.encode("utf-8", "surrogateescape")) for name, value in request.lines)
    return lines + len(request.method) + len(request.path) + request.query_bytes + 14


def hidden_count(exchange: MemoryExchange) -> int:
    """How many fields are sent whose values are not kept."""
    return sum(isinstance(value, Absent) for _, value in exchange.service.request.lines)


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return _HOST.match(host) is not None
    return True
