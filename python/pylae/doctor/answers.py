# SPDX-License-Identifier: Apache-2.0
"""What does a server answer to one HTTP request? Whatever it sends is looked at, never believed."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pylae.doctor.findings import shown_bytes
from pylae.doctor.links import HandshakeFailed, Link, LinkEnded

MOST_HEAD_BYTES: Final = 128 * 1024
MOST_BODY_BYTES: Final = 16 * 1024
MOST_INTERIM: Final = 16
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: ([^\r\n]*))?\Z")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_LINE_ENDS: Final = re.compile(rb"\r?\n\r?\n")
_ANSWER: Final = b"HTTP/1."
AGENT: Final = "pylae-doctor"

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A head, and the beginning of its body.

    Attributes:
        problem: what HTTP does not allow in the head; empty when nothing is wrong.
        body: at most `MOST_BODY_BYTES`, as sent: chunked bodies with their sizes.
        is_whole: whether the body ended where the head said.
        took_ms: from the request to the head.
    """

    status: int
    reason: str = ""
    version: str = "1.1"
    headers: tuple[Header, ...] = ()
    head_bytes: int = 0
    body: bytes = b""
    is_whole: bool = True
    problem: str = ""
    took_ms: float = 0.0

    def header(self, name: str) -> str | None:
        """Its values, joined; None when absent."""
        values = [value for key, value in self.headers if key.lower() == name]
        return ", ".join(values) if values else None

    @property
    def stays_open(self) -> bool:
        """Whether the server says, or implies, that another request may follow."""
        connection = (self.header("connection") or "").lower()
        return "close" not in connection if self.version == "1.1" else "keep-alive" in connection

    @property
    def largest_header(self) -> tuple[str, int]:
        """Name and size of the largest line."""
        sizes = [(name, len(name) + 2 + len(value)) for name, value in self.headers]
        return max(sizes, key=lambda pair: pair[1], default=("", 0))


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """There was none.

    Attributes:
        how: how the connection ended; `not_http`, `handshake`, or an `End` of `links.py`.
        detail: the words for it.
        received: what came instead, a few bytes.
    """

    how: str
    detail: str = ""
    received: bytes = b""
    took_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """One request."""

    method: str = "HEAD"
    path: str = "/"
    host: str = ""
    headers: Sequence[Header] = field(default=())
    body: bytes = b""

    def written(self) -> bytes:
        """Its bytes."""
        given = {name.lower() for name, _ in self.headers}
        lines = [f"{self.method} {self.path} HTTP/1.1"]
        for name, value in (("Host", self.host), ("User-Agent", AGENT), ("Accept", "*/*")):
            if name.lower() not in given:
                lines.append(f"{name}: {value}")
        lines += [f"{name}: {value}" for name, value in self.headers if name.lower() != "content-length"]
        if self.body or self.method not in ("GET", "HEAD", "OPTIONS"):
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + self.body


async def ask(link: Link, question: Question) -> Answer | NoAnswer:
    """The answer to a request on a connection; never raises for what a server does."""
    started_s = time.monotonic()
    data = b""

    def failed(how: str, detail: str = "") -> NoAnswer:
        return NoAnswer(how, detail, data[:64], (time.monotonic() - started_s) * 1000)

    try:
        await _send(link, question.written())
        for _ in range(MOST_INTERIM):
            while (end := _LINE_ENDS.search(data)) is None:
                if data and not (data.startswith(_ANSWER) or _ANSWER.startswith(data)):
                    return failed("not_http")
                if len(data) > MOST_HEAD_BYTES:
                    return failed("too_much", f"a head of more than {MOST_HEAD_BYTES} bytes")
                more = await link.receive()
                if not more:
                    return failed("fin", "in the head" if data else "without a byte")
                data += more
            head, data = data[: end.start()], data[end.end() :]
            answer = read_head(head, end.end(), (time.monotonic() - started_s) * 1000)
            if answer is None:
                data = head
                return failed("not_http")
            if not 100 <= answer.status < 200 or answer.status == 101:
                return await _with_body(link, question, answer, data)
        return failed("too_much", f"more than {MOST_INTERIM} answers of 1xx")
    except LinkEnded as ended:
        return failed(ended.how, ended.detail)
    except HandshakeFailed as error:
        return failed("handshake", f"{error.reason} {error.detail}".strip())


async def _send(link: Link, data: bytes) -> None:
    try:
        await link.send(data)
    except LinkEnded as ended:
        if ended.how != "rst":
            raise
        # It may have answered before it closed: what came tells more than that we could not send.


def read_head(head: bytes, head_bytes: int, took_ms: float = 0.0) -> Answer | None:
    """An answer of a head without its blank line; None: this is no HTTP."""
    lines = re.split(rb"\r?\n", head)
    status = _STATUS_LINE.match(lines[0])
    if status is None:
        return None
    headers: list[Header] = []
    problem = ""
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.match(name):
            problem = problem or f"a line of the head is no header: {shown_bytes(line)}"
            continue
        if any(byte in value for byte in b"\0\r"):
            problem = problem or f"the value of {shown_bytes(name)} has a byte that is not allowed"
        headers.append((name.decode("ascii"), value.strip().decode("utf-8", "replace")))
    lengths = {value for name, value in headers if name.lower() == "content-length"}
    if len(lengths) > 1:
        problem = problem or f"two lengths: {', '.join(sorted(lengths))}"
    if any(not value.isascii() or not value.isdigit() for value in lengths):
        problem = problem or f"a length that is no number: {', '.join(sorted(lengths))}"
    if lengths and any(name.lower() == "transfer-encoding" for name, _ in headers):
        problem = problem or "Content-Length beside Transfer-Encoding"
    return Answer(
        status=int(status[2]),
        reason=(status[3] or b"").decode("utf-8", "replace"),
        version=f"1.{status[1].decode()}",
        headers=tuple(headers),
        head_bytes=head_bytes,
        problem=problem,
        took_ms=took_ms,
    )


async def _with_body(link: Link, question: Question, answer: Answer, data: bytes) -> Answer:
    """The same with the beginning of its body; that is not waited for longer than a moment beyond the head."""
    is_chunked = "chunked" in (answer.header("transfer-encoding") or "").lower()
    length = answer.header("content-length")
    if question.method == "HEAD" or answer.status in (101, 204, 304) or answer.problem:
        return answer
    wanted = int(length) if length is not None and length.isdigit() and len(length) < 16 else None

    def is_whole() -> bool:
        return (is_chunked and data.endswith(b"0\r\n\r\n")) or (not is_chunked and wanted is not None and len(data) >= wanted)

    ended = False
    try:
        while len(data) < MOST_BODY_BYTES and not is_whole():
            more = await link.receive()
            if not more:
                ended = True
                break
            data += more
    except (LinkEnded, HandshakeFailed):
        return _copy(answer, data, is_whole=False)
    ends_with_connection = not is_chunked and wanted is None
    return _copy(answer, data, is_whole=is_whole() or not ended or ends_with_connection)


def _copy(answer: Answer, body: bytes, *, is_whole: bool) -> Answer:
    return Answer(
        status=answer.status,
        reason=answer.reason,
        version=answer.version,
        headers=answer.headers,
        head_bytes=answer.head_bytes,
        body=body[:MOST_BODY_BYTES],
        is_whole=is_whole,
        problem=answer.problem,
        took_ms=answer.took_ms,
    )
