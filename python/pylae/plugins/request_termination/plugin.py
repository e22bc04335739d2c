# SPDX-License-Identifier: Apache-2.0
"""request-termination: what is answered without asking the upstream?

For Services that are out of order for a while, for Routes that are gone, for Consumers that are to be turned away, and
to see what a request looks like here.
"""

from __future__ import annotations

import base64
import os
import socket
from typing import Any, Final

from pylae.plugins.request_termination import config as declared
from pylae.sdk import Answer, Exchange, Instance, Plugin, bodies

MESSAGES: Final = {
    401: "Unauthorized",
    404: "Not found",
    405: "Method not allowed",
    500: "An unexpected error occurred",
    502: "Bad Gateway",
    503: "Service unavailable",
}
"""What is said when nothing is configured; of other statuses nothing."""
JSON_TYPE: Final = "application/json; charset=utf-8"
MAX_BODY_BYTES: Final = 1_048_576
"""Larger bodies are not echoed."""


class Prepared:
    """A configuration with its answer made."""

    __slots__ = ("body", "echoes", "headers", "message", "status", "trigger")

    def __init__(self, config: declared.Config) -> None:
        self.status = config.status_code
        self.trigger = config.trigger
        self.echoes = config.echo
        self.message = config.message or MESSAGES.get(config.status_code)
        self.headers: dict[str, str] | None = None
        self.body: str | dict[str, Any] | None
        if config.body is not None:
            self.body = config.body
            self.headers = {"Content-Type": config.content_type or JSON_TYPE}
        else:
            self.body = None if self.message is None else {"message": self.message}


class RequestTermination(Plugin):
    """Answers requests itself, with a fixed status and message, without an upstream."""

    name = "request-termination"
    version = "3.10.0"
    priority = 2
    reads_body = MAX_BODY_BYTES
    Config = declared.Config

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Makes the answer."""
        return Prepared(config)

    @classmethod
    def body_limit(cls, config: Prepared) -> int:
        """Bodies are read only to be echoed."""
        return MAX_BODY_BYTES if config.echoes else 0

    def access(self, exchange: Exchange, config: Prepared) -> Answer | None:
        """Answers, if the trigger is there or none is needed."""
        if config.trigger is not None and not _is_triggered(exchange, config.trigger):
            return None
        if config.echoes:
            return exchange.answer(config.status, self._seen(exchange, config))
        return exchange.answer(config.status, config.body, config.headers)

    def _seen(self, exchange: Exchange, config: Prepared) -> dict[str, Any]:
        """The request as it was received."""
        request = exchange.request
        captures = request.uri_captures
        return {
            "message": config.message,
            "kong": {"node_id": self.host.node_id, "worker_pid": os.getpid(), "hostname": socket.gethostname()},
            "request": {
                "scheme": request.scheme,
                "host": request.host,
                "port": request.port,
                "headers": _readable(request.get_headers()),
                "query": _readable(request.get_query()),
                "body": _readable(_parsed(request.body, request.get_header("content-type") or "")),
                "raw_body": None if request.body is None else _text(request.body),
                "method": request.method,
                "path": _readable(request.path),
                "uri_captures": None if captures is None else _readable({str(name): value for name, value in captures.items()}),
            },
            "matched_route": exchange.route,
            "matched_service": exchange.service.entity,
        }


def _is_triggered(exchange: Exchange, name: str) -> bool:
    if exchange.request.get_header(name) is not None:
        return True
    return bool(exchange.request.raw_query) and exchange.request.get_query_arg(name) is not None


def _parsed(body: bytes | None, content_type: str) -> Any:
    """The fields of a form or a JSON body; None for anything else."""
    if not body:
        return None
    kind = bodies.media_type(content_type)
    if kind == bodies.FORM:
        return dict(bodies.parse_form(body))
    if kind == bodies.JSON:
        return bodies.parse_json_object(body)
    if kind == bodies.MULTIPART:
        form = bodies.parse_multipart(body, content_type)
        if form is not None:
            return {part.name: _text(part.content) for part in form.parts if part.name is not None}
    return None


def _text(body: bytes) -> str:
    """Text as it is; of other bytes their Base64, as JSON cannot hold them."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return base64.b64encode(body).decode()


def _readable(value: Any) -> Any:
    """What JSON can hold: bytes that are no UTF-8 become U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_readable(name): _readable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_readable(one) for one in value]
    return value
