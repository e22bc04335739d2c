# SPDX-License-Identifier: Apache-2.0
"""response-transformer: what should the client see instead of what the upstream answered?

For clients that cannot be changed. Works on headers and on the top-level names of a JSON object, in this order:
remove, rename, replace, add, append. A body that is not JSON, or does not parse, goes out as it came.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from pylae.plugins.response_transformer import config as declared
from pylae.sdk import Exchange, Instance, Plugin, bodies
from pylae.sdk.exchange import Response

CONTEXT_KEY: Final = "response-transformer"
MAX_BODY_BYTES: Final = 16_777_216
"""Longer bodies go out unchanged: a body cannot be transformed before its end is in memory."""


class Undefined:
    """A configured value that is not of its configured type."""


UNDEFINED: Final = Undefined()


def _pairs(entries: Iterable[str]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for entry in entries:
        name, _, value = entry.partition(":")
        pairs.append((name, value))
    return tuple(pairs)


def _cast(text: str, kind: str) -> Any:
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.strip().lower(), UNDEFINED)
    if kind == "number":
        try:
            return int(text)
        except ValueError:
            pass
        try:
            return float(text)
        except ValueError:
            return UNDEFINED
    return text


def _typed_pairs(entries: Sequence[str], kinds: Sequence[str]) -> tuple[tuple[str, Any], ...]:
    """Values in the types given beside them; an entry without a type is a string."""
    pairs = []
    for index, (name, text) in enumerate(_pairs(entries)):
        value = _cast(text, kinds[index] if index < len(kinds) else "string")
        if value is not UNDEFINED:
            pairs.append((name, value))
    return tuple(pairs)


class Prepared:
    """A configuration split into names and typed values."""

    __slots__ = (
        "add_headers",
        "add_json",
        "append_headers",
        "append_json",
        "remove_headers",
        "remove_json",
        "rename_headers",
        "rename_json",
        "replace_headers",
        "replace_json",
        "transforms_json",
    )

    def __init__(self, config: declared.Config) -> None:
        self.remove_headers = tuple(config.remove.headers)
        self.rename_headers = _pairs(config.rename.headers)
        self.replace_headers = _pairs(config.replace.headers)
        self.add_headers = _pairs(config.add.headers)
        self.append_headers = _pairs(config.append.headers)
        self.remove_json = tuple(config.remove.json)
        self.rename_json = _pairs(config.rename.json)
        self.replace_json = _typed_pairs(config.replace.json, config.replace.json_types)
        self.add_json = _typed_pairs(config.add.json, config.add.json_types)
        self.append_json = _typed_pairs(config.append.json, config.append.json_types)
        self.transforms_json = bool(
            self.remove_json or self.rename_json or self.replace_json or self.add_json or self.append_json
        )


class ResponseTransformer(Plugin):
    """Changes answers on their way to the client."""

    name = "response-transformer"
    version = "3.10.0"
    priority = 800
    is_pure = True
    Config = declared.Config

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Splits and casts entries once."""
        return Prepared(config)

    def header_filter(self, exchange: Exchange, config: Prepared) -> None:
        """Changes the head; a JSON body that will change loses its length."""
        response = exchange.response
        _transform_headers(response, config)
        if config.transforms_json and bodies.media_type(response.get_header("content-type")) == bodies.JSON:
            response.clear_header("Content-Length")
            exchange.ctx[CONTEXT_KEY] = bytearray()

    def body_filter(self, exchange: Exchange, config: Prepared, chunk: bytes, is_last: bool) -> bytes | None:  # noqa: FBT001 - the phase's form
        """Holds a JSON body back to its end, then sends it changed."""
        held: bytearray | None = exchange.ctx.get(CONTEXT_KEY)
        if held is None:
            return None
        if len(held) + len(chunk) > MAX_BODY_BYTES:
            exchange.log("warn", f"response body is larger than {MAX_BODY_BYTES} bytes and goes out unchanged")
            exchange.ctx[CONTEXT_KEY] = None
            return bytes(held) + chunk
        held += chunk
        if not is_last:
            return b""
        body = bytes(held)
        document = bodies.parse_json_object(body)
        if document is None:
            return body
        _transform_json(document, config)
        return bodies.encode_json(document)


def _transform_headers(response: Response, config: Prepared) -> None:
    for name in config.remove_headers:
        response.clear_header(name)
    for old, new in config.rename_headers:
        values = response.get_headers().get(old.lower())
        if values is not None:
            response.clear_header(old)
            response.set_header(new, values)
    for name, value in config.replace_headers:
        if response.get_header(name) is not None:
            response.set_header(name, value)
    for name, value in config.add_headers:
        if response.get_header(name) is None:
            response.set_header(name, value)
    for name, value in config.append_headers:
        response.add_header(name, value)


def _transform_json(document: dict[str, Any], config: Prepared) -> None:
    for name in config.remove_json:
        document.pop(name, None)
    for old, new in config.rename_json:
        if old in document:
            document[new] = document.pop(old)
    for name, value in config.replace_json:
        if name in document:
            document[name] = value
    for name, value in config.add_json:
        if name not in document:
            document[name] = value
    for name, value in config.append_json:
        present = document.get(name)
        if present is None:
            document[name] = [value]
        elif isinstance(present, list):
            present.append(value)
        else:
            document[name] = [present, value]
