# SPDX-License-Identifier: Apache-2.0
"""Which protocol do the first bytes of a connection belong to?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Banner:
    """What spoke."""

    key: str
    """As a finding names it."""
    protocol: str
    is_tls: bool = False
    is_http: bool = False


_TLS: Final = Banner("plain_http_to_tls", "TLS", is_tls=True)
_HTTP2: Final = Banner("http2_only", "HTTP/2")
_BEGINNINGS: Final = (
    (b"HTTP/", Banner("bad_status_line", "HTTP", is_http=True)),
    (b"PRI * HTTP/2", _HTTP2),
    (b"SSH-", Banner("ssh", "SSH")),
    (b"RFB ", Banner("vnc", "VNC")),
    (b"AMQP", Banner("amqp", "AMQP (a message broker)")),
    (b"* OK", Banner("imap", "IMAP")),
    (b"+OK", Banner("pop3_or_redis", "POP3 or Redis")),
    (b"-ERR", Banner("redis", "Redis")),
    (b"-NOAUTH", Banner("redis", "Redis")),
    (b"-DENIED", Banner("redis", "Redis")),
    (b"-MISCONF", Banner("redis", "Redis")),
    (b"RTSP/", Banner("rtsp", "RTSP")),
    (b"ICY ", Banner("icy", "Shoutcast")),
    (b"SIP/", Banner("sip", "SIP")),
    (b"PROXY ", Banner("proxy_protocol", "the PROXY protocol")),
    (b"ERROR\r\n", Banner("memcached", "memcached")),
    (b"It looks like you are trying to access MongoDB", Banner("mongodb", "MongoDB")),
    (b"E\x00\x00\x00", Banner("postgresql", "PostgreSQL")),
    (b"<?xml", Banner("http_0_9", "HTTP/0.9 (a body without a head)")),
    (b"<", Banner("http_0_9", "HTTP/0.9 (a body without a head)")),
    (b"{", Banner("http_0_9", "HTTP/0.9 (a body without a head)")),
)
_ESCAPE: Final = re.compile(r"\\x([0-9A-Fa-f]{2})")
_MYSQL_HEAD_BYTES: Final = 5
_H2_HEAD_BYTES: Final = 9
_REQUEST: Final = re.compile(rb"(GET|POST|PUT|HEAD|PATCH|DELETE|OPTIONS) [^ ]* ?HTTP/1")
_MAIL: Final = re.compile(rb"(220|421|554)[ -]")


def unescaped(text: str | None) -> bytes:
    r"""Bytes of a text in which a worker wrote what is not printable as `\xHH`."""
    if not text:
        return b""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text.removesuffix("...")).encode("latin-1", "replace")


def told(first: bytes, text: str | None) -> Banner | None:
    """Which protocol; `None` when the bytes tell none.

    Args:
        first: the first 16 bytes at most, as they came.
        text: the first 64 at most, printable.
    """
    said = max((first, unescaped(text)), key=len)
    if len(said) > 1 and said[0] in (0x14, 0x15, 0x16) and said[1] == 3:
        return _TLS
    if len(said) >= _H2_HEAD_BYTES and said[3] in (4, 7) and said[5:9] == b"\x00\x00\x00\x00" and said[0] == 0:
        # A SETTINGS or GOAWAY frame of stream 0: length (3), type (1), flags (1), stream (4). RFC 9113 section 4.1.
        return _HTTP2
    for beginning, banner in _BEGINNINGS:
        if said.startswith(beginning):
            return banner
    if _MAIL.match(said):
        return Banner("smtp_or_ftp", "SMTP or FTP")
    if _REQUEST.match(said):
        return Banner("echo", "something that sends requests back (an echo server, or a client)")
    if len(said) > _MYSQL_HEAD_BYTES and said[3] == 0 and said[4] in (9, 10, 255):
        return Banner("mysql", "MySQL")
    return None
