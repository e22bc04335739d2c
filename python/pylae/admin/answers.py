# SPDX-License-Identifier: Apache-2.0
"""What does the Admin API answer, and with which status?"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.responses import Response

from pylae.errors import DATABASE_ERRORS, DatabaseError, OperationUnsupported, UniqueViolation
from pylae.errors import NotFound as EntityNotFound

JSON: Final = "application/json; charset=utf-8"
HTML: Final = "text/html; charset=UTF-8"

_CONFLICTS: Final = {UniqueViolation.code: 409, EntityNotFound.code: 404, OperationUnsupported.code: 405}
_GATEWAY_FAULTS: Final = frozenset({DatabaseError.code, 15})

STATUS_OF_CODE: Final[dict[int, int]] = {
    error.code: 500 if error.code in _GATEWAY_FAULTS else _CONFLICTS.get(error.code, 400) for error in DATABASE_ERRORS
}
"""HTTP status of each database error; whatever is not listed is the client's."""

_encode_json = msgspec.json.Encoder().encode


class Refusal(Exception):
    """Ends a request with an answer that is not its result."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def answer(status: int, body: Any) -> Response:
    """A JSON answer."""
    return Response(_encode_json(body), status, media_type=JSON)


def message(status: int, text: str) -> Response:
    """An answer that is one sentence."""
    return answer(status, {"message": text})


def empty(status: int = HTTPStatus.NO_CONTENT) -> Response:
    """An answer without a body."""
    return Response(None, status)


def not_found() -> Response:
    """404."""
    return message(404, "Not found")


def not_allowed() -> Response:
    """405; the endpoint adds what it allows."""
    return message(405, "Method not allowed")


def page(status: int) -> Response:
    """The page that nginx sends where Kong lets it answer."""
    title = f"{status} {HTTPStatus(status).phrase}"
    lines = (
        "<html>",
        f"<head><title>{title}</title></head>",
        "<body>",
        f"<center><h1>{title}</h1></center>",
        "</body>",
        "</html>",
        "",
    )
    return Response("\r\n".join(lines), status, media_type=HTML)


def of_error(error: DatabaseError) -> Response:
    """The answer to an operation that failed; what went wrong inside the gateway is for its log only."""
    status = STATUS_OF_CODE.get(error.code, 400)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return message(status, "An unexpected error occurred")
    return answer(status, error.body())
