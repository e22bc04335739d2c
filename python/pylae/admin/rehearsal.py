# SPDX-License-Identifier: Apache-2.0
"""What would the database hold after these requests to the Admin API, which nobody makes?

Each is answered by the very handlers of the Admin API, within one transaction that is rolled back. No handler waits for
anything but the database, which is there already, so that they run to their end on the thread of the transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import Message

from pylae.admin import certificates, consumers, targets
from pylae.admin.answers import Refusal, answer
from pylae.admin.app import router_of
from pylae.admin.crud import Crud
from pylae.control.line import Log
from pylae.database.changes import Change
from pylae.database.dao import Catalogue, Dao, ReadDao
from pylae.database.database import Database
from pylae.errors import SchemaViolation

MAX_CHANGES: Final = 1000
METHODS: Final = ("POST", "PUT", "PATCH", "DELETE")
FIELDS: Final = ("method", "path", "body")
_FIRST_ERROR: Final = 400

T = TypeVar("T")

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request that would change something."""

    method: str
    path: str
    body: Any


def wanted_of(values: Any) -> list[Wanted]:
    """The requests that the field `changes` of a body holds.

    Raises:
        SchemaViolation: 400.
    """
    if not isinstance(values, list) or not values:
        raise SchemaViolation({"changes": "expected an array of changes"})
    if len(values) > MAX_CHANGES:
        raise SchemaViolation({"changes": f"expected at most {MAX_CHANGES} changes"})
    found, errors = [], {}
    for number, value in enumerate(values, 1):
        wrong = _wrong_with(value)
        if wrong:
            errors[number] = wrong
        else:
            found.append(Wanted(value["method"], value["path"], value.get("body")))
    if errors:
        raise SchemaViolation({"changes": errors})
    return found


def _wrong_with(value: Any) -> dict[str, str] | str:
    if not isinstance(value, dict):
        return "expected a record"
    wrong = {str(name): "unknown field" for name in value if name not in FIELDS}
    if value.get("method") not in METHODS:
        wrong["method"] = f"expected one of: {', '.join(METHODS)}"
    path = value.get("path")
    if not isinstance(path, str) or not path.startswith("/") or not path.isascii() or "?" in path or "#" in path:
        wrong["path"] = "expected the path of an entity, such as /services/a"
    if value.get("body") is not None and not isinstance(value["body"], dict):
        wrong["body"] = "expected a record"
    return wrong


class _Stage(Database):
    """A database of which there is one transaction, which is under way."""

    def __init__(self, dao: Dao, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._dao = dao

    def __repr__(self) -> str:
        return "<stage>"

    async def read(self, work: Callable[[ReadDao], T]) -> T:
        return work(self._dao)

    async def write(self, work: Callable[[Dao], T]) -> T:
        return work(self._dao)


async def rehearse(database: Database, changes: Sequence[Wanted], max_body_bytes: int, log: Log) -> tuple[list[Change], int]:
    """What these requests would change, and the sequence of the newest change that is there.

    Raises:
        Refusal: the answer to the first of them that would be refused, with its number.
        DatabaseError: there is no database to write to, or it cannot be reached.
    """

    def work(dao: Dao) -> None:
        crud = Crud(_Stage(dao, database.catalogue), max_body_bytes)
        handlers = crud.endpoints()
        for more in (certificates.endpoints(crud), consumers.endpoints(crud), targets.endpoints(crud)):
            handlers.update(more)
        router = router_of(handlers, log)
        for number, change in enumerate(changes, 1):
            status, body = _ask(router, change)
            if status >= _FIRST_ERROR:
                raise Refusal(_refused(status, body, number))

    _, changed, sequence = await database.rehearse(work)
    return changed, sequence


def _refused(status: int, body: bytes, number: int) -> Response:
    try:
        values = _decode_json(body)
    except msgspec.MsgspecError:
        values = {}
    return answer(status, {**(values if isinstance(values, dict) else {}), "change": number})


def _ask(router: Router, change: Wanted) -> tuple[int, bytes]:
    """Status and body of the answer."""
    body = b"" if change.body is None else _encode_json(change.body)
    path = change.path.encode()
    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": change.method,
        "path": change.path.rstrip("/") or "/",
        "raw_path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        "server": None,
        "client": None,
    }
    status, pieces = 500, []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            pieces.append(message.get("body", b""))

    _run(router(scope, receive, send))
    return status, b"".join(pieces)


def _run(work: Awaitable[None]) -> None:
    """Runs what never has to wait."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration:
        return
    raise RuntimeError("a handler of the Admin API waits for more than the database")
