# SPDX-License-Identifier: Apache-2.0
"""In which order does a request walk through plugins, without a gateway?

A `Walker` leads one exchange through the phases of several plugins as the data plane does (`phases/corridor.rs`):
by falling priority, equal ones by falling name; who answers ends the walk to the upstream, the filters and the log
of all run all the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal

import msgspec

from pylae.sdk.exchange import HeaderValue
from pylae.sdk.plugin import Plugin
from pylae.sdk.stand_in_exchange import (
    Guard,
    MemoryAnswer,
    MemoryClient,
    MemoryExchange,
    MemoryRequest,
    MemoryService,
    MemoryServiceRequest,
    MemoryServiceResponse,
)
from pylae.sdk.stand_in_fields import Fields


@dataclass
class Upstream:
    """What the stand-in upstream answers; `chunks` are the pieces its body comes in."""

    status: int = 200
    headers: Mapping[str, HeaderValue] = field(default_factory=lambda: {"Content-Type": "text/plain"})
    body: bytes = b"hello"
    chunks: Sequence[bytes] | None = None


@dataclass
class Outcome:
    """What came of a request."""

    status: int
    headers: dict[str, HeaderValue]
    body: bytes
    source: Literal["service", "exit", "error"]
    upstream: MemoryServiceRequest | None
    """What the upstream received; `None` when a plugin answered in its place."""
    exchange: MemoryExchange
    lines: list[tuple[str, str]]
    """What was logged for the request: (level, message)."""

    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, eq=False)
class Link:
    """One plugin of a chain.

    Attributes:
        config: what its phases get.
        id: of its configuration.
    """

    plugin: Plugin
    config: Any
    id: str

    def __repr__(self) -> str:
        return f"<link {self.plugin.name} {self.id}>"


def in_order(links: Iterable[Link]) -> list[Link]:
    """As the data plane runs them."""
    by_name = sorted(links, key=lambda link: link.plugin.name, reverse=True)
    return sorted(by_name, key=lambda link: link.plugin.priority, reverse=True)


class Walker:
    """Leads requests through plugins.

    Args:
        links: in the order they run; see `in_order`.
    """

    def __init__(self, links: Sequence[Link], upstream: Upstream | Callable[[MemoryServiceRequest], Upstream]) -> None:
        self.links = links
        self.upstream = upstream

    def __repr__(self) -> str:
        return f"<walker {' '.join(link.plugin.name for link in self.links)}>"

    async def walk(self, exchange: MemoryExchange) -> Outcome:
        """Walks one request through all phases."""
        life = [True]
        guarded = Guard(exchange, life)
        service: MemoryService = exchange.service
        upstream = None
        chunks: Sequence[bytes]
        answer = await self._run("rewrite", guarded) or await self._run("access", guarded)
        if answer is not None:
            chunks = [_answered(exchange, answer)]
        else:
            upstream = service.request
            chunks = self._proxied(exchange, upstream)
            answer = await self._run("response", guarded)
            if answer is not None:
                chunks = [_answered(exchange, answer)]
            elif exchange.response.body is not None:
                chunks = [exchange.response.body]
        exchange.response.lay_early()
        await self._run("header_filter", guarded)
        exchange.response.body = self._filtered(guarded, chunks)
        await self._run("log", guarded)
        life.clear()
        response = exchange.response
        return Outcome(
            response.status,
            response.get_headers(),
            response.body or b"",
            response.source,
            upstream,
            exchange,
            list(exchange.lines),
        )

    async def run_hook(self, link: Link, phase: str, hook: Callable[..., Any], exchange: Any) -> MemoryAnswer | None:
        """Runs one plugin's phase; a failure of it is raised. The exchange it is shown dies with the walk."""
        verdict = hook(exchange, link.config)
        if inspect.isawaitable(verdict):
            verdict = await verdict
        if verdict is not None and not isinstance(verdict, MemoryAnswer):
            raise TypeError(f"{link.plugin.name}.{phase} returned {verdict!r}, expected None or an Answer")
        if verdict is not None and phase in ("header_filter", "log"):
            raise TypeError(f"{link.plugin.name}.{phase} may not answer")
        return verdict

    def filter_chunk(self, link: Link, hook: Callable[..., Any], exchange: Any, chunk: bytes, *, is_last: bool) -> bytes:
        """Runs one plugin's body_filter over a piece; a failure of it is raised."""
        filtered = hook(exchange, link.config, chunk, is_last)
        if filtered is None:
            return chunk
        if not isinstance(filtered, bytes):
            if inspect.iscoroutine(filtered):
                filtered.close()
            raise TypeError(f"{link.plugin.name}.body_filter returned a `{type(filtered).__name__}`, expected bytes or None")
        return filtered

    async def _run(self, phase: str, guarded: Any) -> MemoryAnswer | None:
        exchange: MemoryExchange = guarded._target
        for link in self.links:
            hook = getattr(link.plugin, phase, None)
            if hook is None:
                continue
            exchange.request.body_limit = link.plugin.body_limit(link.config)
            exchange.response.phase = phase
            try:
                answer = await self.run_hook(link, phase, hook, guarded)
            finally:
                # Between phases the walker itself works on the answer.
                exchange.response.phase = ""
            if answer is not None:
                return answer
        return None

    def _proxied(self, exchange: MemoryExchange, upstream: MemoryServiceRequest) -> Sequence[bytes]:
        answer = self.upstream(upstream) if callable(self.upstream) else self.upstream
        chunks = answer.chunks if answer.chunks is not None else [answer.body]
        body = b"".join(chunks)
        fields = Fields(answer.headers)
        if fields.get_header("content-length") is None:
            fields.add_header("Content-Length", str(len(body)))
        is_whole = any(hasattr(link.plugin, "response") for link in self.links)
        exchange.service.response = MemoryServiceResponse(answer.status, fields, body if is_whole else None)
        response = exchange.response
        response.status = answer.status
        response.source = "service"
        response.lines = list(fields.lines)
        response.body = body if is_whole else None
        return chunks

    def _filtered(self, guarded: Any, chunks: Sequence[bytes]) -> bytes:
        filters = [(link, hook) for link in self.links if (hook := getattr(link.plugin, "body_filter", None)) is not None]
        if not filters:
            return b"".join(chunks)
        sent = bytearray()
        # The end may come with the last piece or after it, as on a real connection.
        for index, chunk in enumerate(chunks or [b""]):
            is_last = index == max(len(chunks), 1) - 1
            for link, hook in filters:
                chunk = self.filter_chunk(link, hook, guarded, chunk, is_last=is_last)
            sent += chunk
        return bytes(sent)


def exchange_of(
    request: MemoryRequest, ip: str, route: dict[str, Any] | None, service: dict[str, Any] | None, now_ms: int
) -> MemoryExchange:
    """The exchange of a request that came from `ip`."""
    return MemoryExchange(request, MemoryClient(ip), MemoryService(service, MemoryServiceRequest(request)), route, now_ms)


def _answered(exchange: MemoryExchange, answer: MemoryAnswer) -> bytes:
    response = exchange.response
    response.lines = []
    response.status = answer.status
    response.source = answer.source
    body = answer.body
    if body is None:
        message = answer.message or _default_message(answer.status)
        content_type, body = _error_body(exchange.request.get_header("accept"), message, exchange.id)
        response.set_header("Content-Type", content_type)
    for name, value in answer.headers.items():
        response.set_header(name, value)
    response.set_header("Content-Length", str(len(body)))
    return body


def _default_message(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "An unexpected error occurred"


_TEMPLATES: Final = {
    "application/json": '{{\n  "message":"{message}",\n  "request_id":"{id}"\n}}',
    "text/plain": "{message}\nrequest_id: {id}\n",
    "application/xml": '<?xml version="1.0" encoding="UTF-8"?>\n<error>\n  <message>{message}</message>\n'
    "  <requestid>{id}</requestid>\n</error>\n",
    "text/html": "<!doctype html>\n<html><body><h1>Error</h1><p>{message}.</p><p>request_id: {id}</p></body></html>\n",
}


def _error_body(accept: str | None, message: str, request_id: str) -> tuple[str, bytes]:
    kind = _negotiated(accept or "")
    return f"{kind}; charset=utf-8", _TEMPLATES[kind].format(message=message, id=request_id).encode()


def _negotiated(accept: str) -> str:
    best, best_quality = "application/json", 0.0
    for entry in accept.split(","):
        kind, *parameters = (piece.strip() for piece in entry.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = _quality(value)
        if quality > best_quality:
            best, best_quality = kind.lower(), quality
    if best == "text/*":
        return "text/plain"
    return best if best in _TEMPLATES else "application/json"


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
