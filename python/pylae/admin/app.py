# SPDX-License-Identifier: Apache-2.0
"""How does a request of the Admin API become an answer?"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pylae import __version__
from pylae.admin.answers import Refusal, empty, message, not_allowed, not_found, of_error
from pylae.admin.crud import Handlers
from pylae.admin.gate import CHALLENGE, Gate, shown_tokens
from pylae.admin.guard import Guard
from pylae.control import redaction
from pylae.control.line import Log
from pylae.control.log import LogFile
from pylae.control.redaction import Secrets
from pylae.errors import DatabaseError, OperationUnsupported

SERVER: Final = f"pylae/{__version__}".encode()
MAX_LOGGED_CHARACTERS: Final = 2048
"""Of one text that a client sent, such as the target of its request."""
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Those that change nothing."""
_MS: Final = 1000
_TARGET: Final = "pylae.target"
"""Of a scope: the request's target as logs show it."""
_ABSOLUTE_FORM: Final = re.compile(rb"https?://([^/]+)(/.*)?\Z", re.IGNORECASE | re.DOTALL)


class Endpoint:
    """One path, whatever the method."""

    def __init__(self, handlers: Handlers, log: Log) -> None:
        self._log = log
        if "GET" in handlers:
            handlers = {**handlers, "HEAD": handlers["GET"]}
        self._handlers = handlers
        self._methods = frozenset({*handlers, "OPTIONS"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, also when the handler refuses or the database does."""
        request = Request(scope, receive)
        handler = self._handlers.get(request.method)
        if handler is not None:
            try:
                response = await handler(request)
            except Refusal as refusal:
                response = refusal.response
            except DatabaseError as error:
                response = of_error(error)
                if response.status_code >= 500:
                    self._log("error", f"{request.method} {scope.get(_TARGET, request.url.path)}: {error}")
                if isinstance(error, OperationUnsupported):
                    # Whatever is refused in this way can only be read.
                    response.headers["Allow"] = _listed(self._methods & SAFE_METHODS)
        elif request.method == "OPTIONS":
            response = self._options(request)
        else:
            response = not_allowed()
        if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers.setdefault("Allow", _listed(self._methods - {request.method}))
        await response(scope, receive, send)

    def _options(self, request: Request) -> Response:
        response = empty()
        response.headers["Allow"] = response.headers["Access-Control-Allow-Methods"] = _listed(self._methods)
        response.headers["Access-Control-Allow-Headers"] = request.headers.get("access-control-request-headers", "Content-Type")
        return response


def router_of(endpoints: Mapping[str, Handlers], log: Log) -> Router:
    """A router of all paths, those without parameters first."""
    paths = sorted(endpoints, key=lambda path: (path.count("{"), path))
    routes = [Route(path, Endpoint(endpoints[path], log)) for path in paths]
    return Router(routes, redirect_slashes=False, default=_nothing_here)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    await not_found()(scope, receive, send)


class Face:
    """What stands before the endpoints: the guard, the gate, Kong's header fields, the access log.

    Args:
        inner: the endpoints.
        guard: says which requests a web page is behind; None serves all.
        shown: names of the gateway's own fields that clients are shown, lower case.
        gate: asks for a token; None asks nobody.
        secrets: what no log shows.
        is_public: anybody may read, whatever page is behind it, and no page is told that it may: the guard judges only
            what changes something.
    """

    def __init__(
        self,
        inner: ASGIApp,
        guard: Guard | None,
        access_log: LogFile,
        log: Log,
        shown: frozenset[str],
        gate: Gate | None = None,
        secrets: Secrets | None = None,
        *,
        is_public: bool = False,
    ) -> None:
        self._inner = inner
        self._guard = guard
        self._gate = gate
        self._is_public = is_public
        self._secrets = secrets or Secrets(())
        self._access_log = access_log
        self._log = log
        self._shows_server = "server" in shown
        self._shows_latency = "x-kong-admin-latency" in shown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        begun_s = time.perf_counter()
        scope = in_origin_form(scope)
        fields = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin = fields.get(b"origin")
        shown_origin = None
        if self._guard is not None and not self._is_public:
            shown_origin = self._guard.shown_origin(origin, fields.get(b"host"), scope["scheme"])
        shown_target = scope[_TARGET] = _cut(self._hide_secrets(scope))
        has_begun = False
        status, length = 500, 0

        async def send_on(part: Message) -> None:
            nonlocal has_begun, status, length
            if part["type"] == "http.response.start":
                has_begun = True
                status = part["status"]
                latency_ms = int((time.perf_counter() - begun_s) * _MS)
                part["headers"] = self._fields(part["headers"], shown_origin, latency_ms)
            else:
                length += len(part.get("body", b""))
            await send(part)

        try:
            await self._serve(scope, receive, send_on, fields, origin)
        except Exception as error:
            self._log("error", f"{scope['method']} {shown_target}: {redaction.told(error)} ({_where(error)})")
            if has_begun:
                raise
            await message(500, "An unexpected error occurred")(scope, receive, send_on)
        finally:
            self._access_log.write(_access_line(scope, shown_target, status, length, fields))

    def _hide_secrets(self, scope: Scope) -> str:
        """The request's target as logs show it; from now on they show no secret of its."""
        words = redaction.begin(self._secrets)
        path, query = scope.get("raw_path", b"").decode("latin-1"), scope.get("query_string", b"").decode("latin-1")
        target, hidden = self._secrets.target(path or scope["path"], query)
        words.add(hidden)
        words.add(token.decode("latin-1") for token in shown_tokens(scope))
        return target

    async def _serve(self, scope: Scope, receive: Receive, send: Send, fields: Mapping[bytes, str], origin: str | None) -> None:
        if self._guard is not None and not (self._is_public and scope["method"] in SAFE_METHODS):
            host, fetch_site = fields.get(b"host"), fields.get(b"sec-fetch-site")
            reason = self._guard.refusal(host, origin, fetch_site, scope["scheme"])
            if reason is not None:
                self._log("warn", f"{scope['method']} {scope[_TARGET]} refused: {reason}")
                await message(403, reason)(scope, receive, send)
                return
        if self._gate is not None and not self._gate.admits(scope):
            refused = message(401, "Unauthorized")
            refused.headers["WWW-Authenticate"] = CHALLENGE
            await refused(scope, receive, send)
            return
        # Matched undecoded: a key in a path may hold an encoded slash. A slash at the end says nothing.
        path = scope.get("raw_path", b"").decode("latin-1") or scope["path"]
        await self._inner({**scope, "path": path.rstrip("/") or "/"}, receive, send)

    def _fields(self, given: list[tuple[bytes, bytes]], shown_origin: str | None, latency_ms: int) -> list[tuple[bytes, bytes]]:
        """The header of an answer, in Kong's spelling and order."""
        named = {name.lower(): value for name, value in given}
        fields = [(b"Date", formatdate(usegmt=True).encode())]
        if b"content-type" in named:
            fields.append((b"Content-Type", named.pop(b"content-type")))
        fields.append((b"Connection", b"keep-alive"))
        if shown_origin is not None:
            fields.append((b"Access-Control-Allow-Origin", shown_origin.encode("latin-1")))
            fields.append((b"Access-Control-Allow-Credentials", b"true"))
            fields.append((b"Vary", b"Origin"))
        if b"content-length" in named:
            fields.append((b"Content-Length", named.pop(b"content-length")))
        fields += [(b"WWW-Authenticate" if name == b"www-authenticate" else name.title(), value) for name, value in named.items()]
        if self._shows_latency:
            fields.append((b"X-Kong-Admin-Latency", str(latency_ms).encode()))
        if self._shows_server:
            fields.append((b"Server", SERVER))
        return fields


def in_origin_form(scope: Scope) -> Scope:
    """A request whose target names scheme and host too, as one that does not.

    The host of the target takes the place of the field Host, which means nothing then (RFC 9112, section 3.2.2): it is
    the one that is judged.
    """
    found = _ABSOLUTE_FORM.match(scope.get("raw_path", b""))
    if found is None:
        return scope
    authority, path = found[1], found[2] or b"/"
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    headers.append((b"host", authority))
    return {**scope, "raw_path": path, "path": unquote(path.decode("latin-1")), "headers": headers}


def _listed(methods: Iterable[str]) -> str:
    return ", ".join(sorted(methods))


def _cut(text: str) -> str:
    """A text of the client's, as much of it as a log shows."""
    return text if len(text) <= MAX_LOGGED_CHARACTERS else f"{text[:MAX_LOGGED_CHARACTERS]}..."


def _where(error: BaseException) -> str:
    """File and line where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "nowhere" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def _access_line(scope: Scope, target: str, status: int, length: int, fields: Mapping[bytes, str]) -> str:
    """One line as nginx writes it, without the header's bytes."""
    client = scope.get("client")
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z")
    address = client[0] if client else "-"
    # The address of a page may hold what was typed into it.
    referer, agent = fields.get(b"referer", "-").partition("?")[0], fields.get(b"user-agent", "-")
    request_line = f"{scope['method']} {target} HTTP/{scope['http_version']}"
    quoted = [_quoted(text) for text in (request_line, _cut(referer), _cut(agent))]
    return f"{address} - - [{stamp}] {quoted[0]} {status} {length} {quoted[1]} {quoted[2]}"


def _quoted(text: str) -> str:
    """A text of the client's as nginx escapes it, so that it cannot forge a line."""
    escaped = "".join(
        character if character.isprintable() and character not in '"\\' else f"\\x{ord(character):02X}" for character in text
    )
    return f'"{escaped}"'
