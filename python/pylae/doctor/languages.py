# SPDX-License-Identifier: Apache-2.0
"""Which language does a port speak, when it does not answer in the one it was spoken to?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from pylae.doctor import handshakes
from pylae.doctor.answers import Answer, Question, ask
from pylae.doctor.authors import says_it_wants_tls
from pylae.doctor.links import HandshakeFailed, Link, LinkEnded, Place

NO_PROXY_LINE: Final = (
    "turn the PROXY protocol off on that port (HAProxy: no `accept-proxy`; nginx: no `proxy_protocol` on listen)"
)
"""The cure where it is expected."""
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS: Final = 4
_FRAME_HEAD_BYTES: Final = 9
_TLS_RECORDS: Final = (20, 21, 22)
_HTTP_ERRORS: Final = (400, 408, 426, 505)


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a port understands; each was tried on a connection of its own.

    Attributes:
        tls: it shook hands, or refused in TLS.
        http: it answered HTTP/1 in the clear.
        http2: it answered the preface of HTTP/2 in the clear.
        after_proxy_line: it answered once a line of the PROXY protocol went before, and not without.
    """

    tls: bool = False
    http: bool = False
    http2: bool = False
    after_proxy_line: bool = False


async def spoken_at(place: Place, host: str, path: str, patience_s: float) -> Spoken:
    """Tries each language."""
    question = Question("GET", path, host)  # a refusal tells why in its body
    async with asyncio.TaskGroup() as group:
        tls = group.create_task(_speaks_tls(place, patience_s))
        http = group.create_task(_speaks_http(place, question, patience_s))
        http2 = group.create_task(_speaks_http2(place, patience_s))
        proxied = group.create_task(_speaks_http(place, question, patience_s, has_proxy_line=True))
        proxied_tls = group.create_task(_speaks_tls(place, patience_s, has_proxy_line=True))
    after_proxy_line = (proxied.result() and not http.result()) or (proxied_tls.result() and not tls.result())
    return Spoken(tls.result(), http.result(), http2.result(), after_proxy_line and not http2.result())


def looks_like_tls(data: bytes) -> bool:
    """Whether these are the first bytes of TLS records."""
    return len(data) >= 3 and data[0] in _TLS_RECORDS and data[1] == 3 and data[2] <= 4


def looks_like_http2(data: bytes) -> bool:
    """Whether these are the first bytes of a server that speaks HTTP/2."""
    return len(data) >= _FRAME_HEAD_BYTES and data[0] == 0 and data[3] == _SETTINGS and data[5:9] == b"\0\0\0\0"


def proxy_line(link: Link) -> bytes:
    """What a load balancer would say of us, in version 1 of the PROXY protocol."""
    family = "TCP6" if ":" in link.place.ip else "TCP4"
    return f"PROXY {family} {link.local.ip} {link.place.ip} {link.local.port} {link.place.port}\r\n".encode()


async def _speaks_tls(place: Place, patience_s: float, *, has_proxy_line: bool = False) -> bool:
    try:
        with await Link.connect(place, patience_s) as link:
            if has_proxy_line:
                await link.send(proxy_line(link))
            try:
                await link.start_tls(handshakes.context(is_lenient=True), None)
            except HandshakeFailed:
                # A refusal in TLS is TLS, too.
                return looks_like_tls(link.first_bytes)
            return True
    except LinkEnded:
        return False


async def _speaks_http(place: Place, question: Question, patience_s: float, *, has_proxy_line: bool = False) -> bool:
    try:
        with await Link.connect(place, patience_s) as link:
            if has_proxy_line:
                await link.send(proxy_line(link))
            answer = await ask(link, question)
    except LinkEnded:
        return False
    if not isinstance(answer, Answer):
        return False
    # Who does not know the line takes it for a bad request, and so does a TLS port with plain HTTP.
    return not (has_proxy_line and answer.status in _HTTP_ERRORS) and not says_it_wants_tls(answer)


async def _speaks_http2(place: Place, patience_s: float) -> bool:
    data = b""
    try:
        with await Link.connect(place, patience_s) as link:
            await link.send(_PREFACE)
            while len(data) < _FRAME_HEAD_BYTES:
                more = await link.receive()
                if not more:
                    break
                data += more
    except (LinkEnded, HandshakeFailed):
        return False
    return looks_like_http2(data)
