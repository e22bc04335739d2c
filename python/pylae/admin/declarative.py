# SPDX-License-Identifier: Apache-2.0
"""How is the whole configuration read and replaced through the Admin API?

A configuration is parsed, judged and put in place in threads, so that other requests are answered meanwhile; one at
a time, and whatever goes wrong on the way leaves the present one.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pylae.admin.answers import JSON, Refusal, empty, message, of_error, page
from pylae.admin.bodies import MAX_ARGUMENTS, read_body
from pylae.admin.crud import Handlers
from pylae.control.control import Control
from pylae.database.strategies.off import Holding, OffStrategy
from pylae.database.strategies.off.holding import decode_row
from pylae.declarative import hash_of, parse
from pylae.declarative.export import pieces
from pylae.errors import InvalidDeclarativeConfig
from pylae.sdk.bodies import parse_multipart

NEEDS_NO_DATABASE: Final = "this endpoint is only available when Kong is configured to not use a database"
EXPECTED: Final = "expected a declarative configuration"
BUSY: Final = "Currently loading previous configuration"
TOO_MANY: Final = "Too many arguments"
_WHITE: Final = re.compile(rb"[ \n]")
_TRUE: Final = frozenset({"true", "1", "on", "yes"})
_TEXT_TYPES: Final = ("application/yaml", "text/yaml", "application/x-yaml", "text/x-yaml")
_SLICE_BYTES: Final = 1 << 18
"""How much of a long answer is made before it is sent."""

T = TypeVar("T")

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


def endpoints(control: Control, max_body_bytes: int) -> dict[str, Handlers]:
    """Handlers by path."""
    config = Config(control, max_body_bytes)
    return {"/config": {"GET": config.get, "POST": config.post}}


class Config:
    """The whole configuration as one thing.

    Args:
        control: keeps it.
        max_body_bytes: largest text.
    """

    def __init__(self, control: Control, max_body_bytes: int) -> None:
        self._control = control
        self._max_body_bytes = max_body_bytes
        self._loading = asyncio.Lock()
        # One thread for all that loads: each thread that ever makes so many objects keeps an arena of memory of its
        # own. Reading makes one row after the other, and does not wait for a load.
        self._thread = ThreadPoolExecutor(1, "declarative")
        self._reading = ThreadPoolExecutor(1, "declarative-reading")
        self._took_s = 1.0

    async def get(self, request: Request) -> Response:
        """Everything, as YAML in JSON."""
        del request
        off = self._off()

        def made() -> Iterator[bytes]:
            with off.read() as reader:
                yield b'{"config":"'
                for piece in pieces(reader, self._control.catalogue):
                    yield _encode_json(piece)[1:-1]
                yield b'"}'

        return await self._answer(200, made(), self._reading)

    async def post(self, request: Request) -> Response:
        """Puts another configuration in the place of this one.

        Raises:
            Refusal: 400, 413, 415 or 429.
        """
        off = self._off()
        text = await self._text(request)
        checks_hash = request.query_params.get("check_hash") == "1"
        flatten_errors = request.query_params.get("flatten_errors", "").lower() in _TRUE
        if self._loading.locked():
            busy = message(429, BUSY)
            busy.headers["Retry-After"] = str(math.ceil(self._took_s))
            raise Refusal(busy)
        async with self._loading:
            begun_s = time.monotonic()

            def judge() -> Holding | None:
                if checks_hash and hash_of(text) == off.holding.hash:
                    return None
                try:
                    return parse(text).flatten(self._control.catalogue, keep=off.holding, flatten_errors=flatten_errors)
                except InvalidDeclarativeConfig as error:
                    # Here, not on the loop: there may be megabytes of errors.
                    raise Refusal(of_error(error)) from error

            holding = await self._in_thread(judge)
            if holding is None:
                return empty(304)
            await self._control.database.replace(lambda: off.replace(holding))
            self._took_s = time.monotonic() - begun_s
        return await self._answer(201, _flattened(holding), self._thread)

    async def _in_thread(self, work: Callable[[], T], thread: ThreadPoolExecutor | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread or self._thread, work)

    async def _answer(self, status: int, made: Iterator[bytes], thread: ThreadPoolExecutor) -> Response:
        """A JSON answer that is made in a thread, slice by slice; whole when it is short."""
        sliced = _slices(made)
        first = await self._in_thread(lambda: next(sliced), thread)
        second = await self._in_thread(lambda: next(sliced, None), thread)
        if second is None:
            return Response(first, status, media_type=JSON)

        async def slices() -> AsyncIterator[bytes]:
            yield first
            following: bytes | None = second
            while following is not None:
                yield following
                following = await self._in_thread(lambda: next(sliced, None), thread)

        return StreamingResponse(slices(), status, media_type=JSON)

    def _off(self) -> OffStrategy:
        if self._control.off is None:
            raise Refusal(message(400, NEEDS_NO_DATABASE))
        return self._control.off

    async def _text(self, request: Request) -> bytes:
        """The configuration's text: the whole body, or the field `config` of a form or of a JSON object."""
        types = request.headers.getlist("content-type")
        if len(types) > 1:
            raise Refusal(Response("Multiple Content-Type headers not allowed", 400, media_type="text/plain"))
        body = await read_body(request, self._max_body_bytes)
        if not body:
            raise Refusal(message(400, EXPECTED))
        content_type = types[0] if types else ""
        # Not in the thread that loads: whoever comes meanwhile is told so at once.
        text = await self._in_thread(lambda: text_in(body, content_type), self._reading)
        if not text:
            raise Refusal(message(400, EXPECTED))
        return text


def text_in(body: bytes, content_type: str) -> bytes | None:
    """The configuration's text in a body; None: it has no such field.

    Raises:
        Refusal: 400 or 415.
    """
    kind = content_type.lower()
    if kind.startswith("multipart/form-data"):
        return _of_multipart(body, content_type)
    if kind.startswith("application/x-www-form-urlencoded"):
        # `curl --data-binary @kong.yml` says that it is a form.
        return _of_form(body) if _is_form(body) else body
    if kind.startswith("application/json"):
        return _of_json(body)
    if kind.startswith(_TEXT_TYPES):
        return body
    raise Refusal(page(415))


def _of_multipart(body: bytes, content_type: str) -> bytes | None:
    form = parse_multipart(body, content_type)
    if form is None:
        raise Refusal(message(400, "Cannot parse multipart body"))
    if len(form.parts) > MAX_ARGUMENTS:
        raise Refusal(message(400, TOO_MANY))
    return next((part.content for part in form.parts if part.name == "config"), None)


def _is_form(body: bytes) -> bool:
    """Whether a body is a form, and not a configuration: a form is encoded, a configuration is JSON or has spaces or lines."""
    if body.startswith(b"config="):
        return True
    return b"=" in body and not body.startswith((b"{", b"[")) and _WHITE.search(body) is None


def _of_form(body: bytes) -> bytes | None:
    try:
        # As Latin-1 every byte comes back as it was.
        fields = parse_qs(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1", max_num_fields=MAX_ARGUMENTS)
    except ValueError as error:
        raise Refusal(message(400, TOO_MANY)) from error
    found = fields.get("config")
    return None if found is None else found[0].encode("latin-1")


def _of_json(body: bytes) -> bytes:
    """The text that a JSON object has in its field `config`; a document has none, and is the text itself."""
    try:
        values = _decode_json(body)
        if "_format_version" not in values and "config" in values:
            return _decode_text(values["config"]).encode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Whoever parses it says what is wrong.
        return body
    return body


def _flattened(holding: Holding) -> Iterator[bytes]:
    """The rows by table and id, as JSON."""
    yield b"{"
    comma = b""
    for name, rows in holding.items():
        if rows.encoded:
            yield comma + _encode_json(name) + b":{"
            inner_comma = b""
            for id_, encoded in rows.encoded.items():
                yield inner_comma + _encode_json(id_) + b":" + _encode_json(decode_row(encoded))
                inner_comma = b","
            yield b"}"
            comma = b","
    yield b"}"


def _slices(made: Iterator[bytes]) -> Iterator[bytes]:
    gathered: list[bytes] = []
    length = 0
    for piece in made:
        gathered.append(piece)
        length += len(piece)
        if length >= _SLICE_BYTES:
            yield b"".join(gathered)
            gathered.clear()
            length = 0
    if gathered:
        yield b"".join(gathered)
