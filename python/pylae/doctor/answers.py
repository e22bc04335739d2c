# SPDX-License-Identifier: Apache-2.0
"""What does a server answer to one HTTP request? Whatever it sends is looked at, never believed."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pylae.doctor.findings import shown_bytes
from pylae.doctor.links import HandshakeFailed, Link, LinkEnded

MOST_HEAD_BYTES: Final = 128 * 1024
MOST_BODY_BYTES: Final = 16 * 1024
MOST_INTERIM: Final = 16
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: ([^\r\n]*))?\Z")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_LINE_ENDS: Final = re.compile(rb"\r?\n\r?\n")
_HEX: Final = b"0123456789abcdefABCDEF"
_MOST_SIZE_LINE: Final = 4096
_ANSWER: Final = b"HTTP/1."
AGENT: Final = "pylae-doctor"

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A head, and the beginning of its body.

    Attributes:
        problem: what HTTP does not allow in the head; empty when nothing is wrong.
        body: at most `MOST_BODY_BYTES`, as sent: chunked bodies with their sizes.
        body_end: `whole`, `enough` (no more was asked for), `bad_chunk`, or how the connection ended before.
        has_more: whether bytes came that belong to no answer.
        took_ms: from the request to the head.
    """

    status: int
    reason: str = ""
    version: str = "1.1"
    headers: tuple[Header, ...] = ()
    head_bytes: int = 0
    body: bytes = b""
    body_end: str = "whole"
    has_more: bool = False
    problem: str = ""
    took_ms: float = 0.0

    def header(self, name: str) -> str | None:
        """Its values, joined; None when absent."""
        values = [value for key, value in self.headers if key.lower() == name]
        return ", ".join(values) if values else None

    @property
    def is_whole(self) -> bool:
        """Whether the body, as far as it was read, is as the head says."""
        return self.body_end in ("whole", "enough")

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
    codings = [value.lower() for name, value in headers if name.lower() == "transfer-encoding"]
    if codings and codings != ["chunked"]:
        problem = problem or f"Transfer-Encoding is not `chunked`: {', '.join(codings)}"
    if int(status[2]) == 101:
        problem = problem or "another protocol, which was not asked for"
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
    """The same with the beginning of its body."""
    is_chunked = "chunked" in (answer.header("transfer-encoding") or "").lower()
    length = answer.header("content-length")
    if question.method == "HEAD" or answer.status in (204, 304) or answer.problem:
        return replace(answer, has_more=bool(data))
    wanted = int(length) if length is not None and length.isdigit() and len(length) < 16 else None
    while True:
        end = _end_of_chunks(data) if is_chunked else "whole" if wanted is not None and len(data) >= wanted else ""
        if end or len(data) >= MOST_BODY_BYTES:
            return replace(answer, body=data[:MOST_BODY_BYTES], body_end=end or "enough")
        try:
            more = await link.receive()
        except LinkEnded as ended:
            return replace(answer, body=data, body_end=ended.how)
        except HandshakeFailed:
            return replace(answer, body=data, body_end="failed")
        if not more:
            ends_with_connection = not is_chunked and wanted is None
            return replace(answer, body=data, body_end="whole" if ends_with_connection else "fin")
        data += more


def _end_of_chunks(data: bytes) -> str:
    """How a chunked body ends: `whole`, `bad_chunk`; empty while it has not."""
    at = 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return "bad_chunk" if len(data) - at > _MOST_SIZE_LINE else ""
        size = data[at:end].partition(b";")[0].strip()
        if not size or len(size) > 16 or not all(byte in _HEX for byte in size):
            return "bad_chunk"
        count, at = int(size, 16), end + 2
        if count == 0:
            # Trailers, if any, end with an empty line.
            return "whole" if data.startswith(b"\r\n", at) or b"\r\n\r\n" in data[at:] else ""
        at += count
        if len(data) < at + 2:
            return ""
        if data[at : at + 2] != b"\r\n":
            return "bad_chunk"
        at += 2
