# SPDX-License-Identifier: Apache-2.0
"""Where would this request go, and what would become of those of late if the configuration were another one?

Beyond Kong's endpoints. Both are answered by the workers' own router, which control reads its configuration into.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import Refusal, answer, message
from pylae.admin.bodies import read_body, read_values
from pylae.admin.crud import Handlers
from pylae.admin.declarative import text_in
from pylae.admin.queries import page_size
from pylae.admin.rehearsal import rehearse, wanted_of
from pylae.control import redaction
from pylae.control.control import Control
from pylae.control.dry_run import Differences, compare, differing
from pylae.control.explain import Kept
from pylae.control.feed import Feed
from pylae.control.line import Log
from pylae.database.changes import SNAPSHOT_TABLES, Commit, Replacement
from pylae.database.dao import ReadDao
from pylae.database.strategies.off.holding import Holding, encode_row
from pylae.declarative import parse
from pylae.errors import SchemaViolation, StrategyUnavailable

ROUTE_PATH: Final = "/explain/route"
DRY_RUN_PATH: Final = "/explain/dry-run"
FIELDS: Final = frozenset(
    {"url", "method", "scheme", "host", "path", "query", "headers", "client_ip", "sni", "port", "consumer_id", "is_trusted"}
)
OF_URL: Final = ("scheme", "host", "path", "query")
MAX_PORT: Final = 65535
MOST_TRIES: Final = 3
EXPECTED_CONFIGURATION: Final = "expected a declarative configuration, or a record with `changes`"
NOTHING_YET: Final = "there is no configuration yet"
BUSY: Final = "another dry run is under way"
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")

_decode_json = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def endpoints(control: Control, max_body_bytes: int, log: Log) -> dict[str, Handlers]:
    """Handlers by path.

    Args:
        control: has the records, and the database.
        max_body_bytes: largest body of a request.
        log: takes lines for the error log.
    """

    async def explain_route(request: Request) -> Response:
        values, is_form = await read_values(request, max_body_bytes)
        described = described_of(values, is_form=is_form)
        consumer = described.get("consumer_id")
        if consumer is not None:
            row = await control.database.read(lambda dao: dao.select("consumers", consumer))
            if row is None:
                raise SchemaViolation({"consumer_id": "there is no such Consumer"})
            described["consumer_id"] = row["id"]
        configuration, feed = await control.configurations.current(), control.feed
        if configuration is None or feed is None:
            return message(503, NOTHING_YET)
        try:
            found = await asyncio.to_thread(configuration.explain, described)
        except ValueError as error:
            name, _, text = str(error).partition(": ")
            raise SchemaViolation({name: text}) from error
        # Ids of what `unknown` says in words.
        del found["open"]
        return answer(200, {**found, "config": f"{feed.database_id}:{feed.sequence}"})

    dry_run = DryRun(control, max_body_bytes, log)
    return {ROUTE_PATH: {"POST": explain_route}, DRY_RUN_PATH: {"POST": dry_run.post}}


# === one described request ===


def described_of(values: Mapping[str, Any], *, is_form: bool = False) -> dict[str, Any]:
    """A request as a body describes it, in the terms of `Configuration.explain`.

    Raises:
        SchemaViolation: 400.
    """
    errors = {name: "unknown field" for name in values if name not in FIELDS}
    given = {name: value for name, value in values.items() if name in FIELDS}
    if is_form:
        given |= {name: _typed(name, given[name]) for name in ("port", "is_trusted") if name in given}
    for name in ("url", "method", "scheme", "host", "path", "client_ip", "consumer_id"):
        if not isinstance(given.get(name, ""), str):
            errors[name] = "expected a string"
    if errors:
        raise SchemaViolation(errors)
    if "url" in given:
        given = _of_url(given)
    described = {
        "method": given.get("method", "GET"),
        "scheme": given.get("scheme", "http"),
        "path": given.get("path"),
        "is_trusted": given.get("is_trusted", False),
        "headers": _headers(given.get("headers", {}), errors),
    }
    if "host" in given:
        described["host"] = given["host"]
    if described["path"] is None:
        errors["path"] = "required field missing"
    if _TOKEN.fullmatch(described["method"]) is None:
        errors["method"] = "expected a method, such as GET"
    if described["scheme"] not in ("http", "https"):
        errors["scheme"] = "expected one of: http, https"
    if described["path"] is not None and not described["path"].startswith("/"):
        errors["path"] = "should start with: /"
    if not isinstance(described["is_trusted"], bool):
        errors["is_trusted"] = "expected a boolean"
    _add_query(described, given, errors)
    _add_connection(described, given, errors)
    if errors:
        raise SchemaViolation(errors)
    described["path"] = quote(described["path"], safe="%/:@!$&'()*+,;=~-._[]|\"<>\\^`{}")
    return described


def _typed(name: str, text: Any) -> Any:
    """A value of a form."""
    if name == "port":
        return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else text
    return {"true": True, "false": False}.get(text, text) if isinstance(text, str) else text


def _of_url(given: Mapping[str, Any]) -> dict[str, Any]:
    errors = {name: "cannot be set together with `url`" for name in OF_URL if name in given}
    try:
        parts = urlsplit(given["url"])
        is_one = parts.scheme in ("http", "https") and bool(parts.netloc) and "@" not in parts.netloc
    except ValueError:
        is_one = False
    if not is_one:
        errors["url"] = "expected a URL, such as http://a.test/b"
    if errors:
        raise SchemaViolation(errors)
    found = {**given, "scheme": parts.scheme, "host": parts.netloc, "path": parts.path or "/"}
    if parts.query:
        found["query"] = parts.query
    return found


def _headers(given: Any, errors: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Names and values; null stands for a value that is not known."""
    if not isinstance(given, Mapping):
        errors["headers"] = "expected a map of names and values"
        return []
    found: list[tuple[str, str | None]] = []
    wrong = {}
    for name, values in given.items():
        listed = values if isinstance(values, list) else [values]
        if _TOKEN.fullmatch(name) is None:
            wrong[name] = "expected the name of a header"
        elif not all(value is None or (isinstance(value, str) and _VALUE.fullmatch(value)) for value in listed):
            wrong[name] = "expected a string, an array of strings, or null for a value that is not known"
        found += [(name, value) for value in listed]
    if wrong:
        errors["headers"] = wrong
    return found


def _add_query(described: dict[str, Any], given: Mapping[str, Any], errors: dict[str, Any]) -> None:
    query = given.get("query")
    path = described["path"]
    if path is not None and "?" in path:
        if query is not None:
            errors["path"] = "cannot have a query together with `query`"
        described["path"], _, query = path.partition("?")
    if query is None:
        return
    if isinstance(query, str):
        described["query"] = query
        return
    if not isinstance(query, Mapping):
        errors["query"] = "expected a string, or a map of names and values"
        return
    known, hidden = [], []
    for name, values in query.items():
        for value in values if isinstance(values, list) else [values]:
            if value is None:
                hidden.append(quote(name, safe=""))
            elif isinstance(value, str):
                known.append(f"{quote(name, safe='')}={quote(value, safe='')}")
            else:
                errors["query"] = {name: "expected a string, an array of strings, or null for a value that is not known"}
    described |= {"query": "&".join(known), "hidden_query": hidden}


def _add_connection(described: dict[str, Any], given: Mapping[str, Any], errors: dict[str, Any]) -> None:
    for name in ("client_ip", "consumer_id"):
        if name in given:
            described[name] = given[name]
    port = given.get("port")
    if port is not None:
        if type(port) is not int or not 1 <= port <= MAX_PORT:
            errors["port"] = f"value should be between 1 and {MAX_PORT}"
        described["listen_port"] = port
    if "sni" in given:
        if not isinstance(given["sni"], str | None):
            errors["sni"] = "expected a string"
        described["sni"] = given["sni"]
    elif described["scheme"] == "https" and described.get("host"):
        # What a client asks for that was given a URL.
        described["sni"] = _name_in(described["host"])


def _name_in(host: str) -> str | None:
    """The name that a client asks for in its handshake; an address is none."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]*\Z", host) and not host.endswith("]") else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name
    return None


# === requests of late ===


class DryRun:
    """Asks what another configuration would have done; one at a time, and nothing of it stays."""

    def __init__(self, control: Control, max_body_bytes: int, log: Log) -> None:
        self._control = control
        self._configurations = control.configurations
        self._max_body_bytes = max_body_bytes
        self._log = log
        self._running = asyncio.Lock()

    async def post(self, request: Request) -> Response:
        """Answers for the newest records.

        Raises:
            Refusal: 400, 413, 415, 429 or 503, or what the Admin API refuses one of the changes with.
            DatabaseError: 400.
        """
        size = page_size(request.query_params)
        types = request.headers.getlist("content-type")
        if len(types) > 1:
            raise Refusal(Response("Multiple Content-Type headers not allowed", 400, media_type="text/plain"))
        body = await read_body(request, self._max_body_bytes)
        if not body:
            raise Refusal(message(400, EXPECTED_CONFIGURATION))
        if self._running.locked():
            busy = message(429, BUSY)
            busy.headers["Retry-After"] = "1"
            raise Refusal(busy)
        async with self._running:
            feed = self._control.feed
            if feed is None:
                return message(503, NOTHING_YET)
            changes = _changes_in(body, types[0] if types else "")
            if changes is not None:
                redaction.note_values({"changes": changes})
                feed, after_feed, elsewhere = await self._changed(changes)
            else:
                after_feed, elsewhere = await self._replaced(feed, body, types[0] if types else "")
            # All of one moment; from the next on the feed may go on.
            version, rows, sent = feed.version, feed.rows(), feed.since(None)
            records = _current_or_not(islice(self._control.explain.records(), size), feed)
            before = await self._configurations.current()
            is_as_then = self._control.feed is feed and feed.version == version

            def look() -> dict[str, Any]:
                now = before if before is not None and is_as_then else self._configurations.of(sent)
                after = self._configurations.of(after_feed.since(None))
                differences = Differences.between(rows, after_feed.rows(), elsewhere)
                return compare(now, after, differences, records, self._configurations.pure).shown()

            return answer(200, await asyncio.to_thread(look))

    async def _changed(self, changes: Any) -> tuple[Feed, Feed, frozenset[str]]:
        """The feed as it is, as it would be after requests to the Admin API, and the other tables that they change."""
        wanted = wanted_of(changes)
        for _ in range(MOST_TRIES):
            changed, sequence = await rehearse(self._control.database, wanted, self._max_body_bytes, self._log)
            feed = self._control.feed
            if feed is not None and feed.sequence == sequence:
                break
        else:
            raise StrategyUnavailable("the configuration changes faster than it can be looked at")
        elsewhere = frozenset(change.table for change in changed) - {*SNAPSHOT_TABLES}
        return feed, feed.hypothetical(Commit(changed)) if changed else feed, elsewhere

    async def _replaced(self, feed: Feed, body: bytes, content_type: str) -> tuple[Feed, frozenset[str]]:
        """The feed as it would be with a whole configuration, and the other tables that differ."""
        catalogue = self._control.catalogue

        def judge(dao: ReadDao) -> tuple[Holding, frozenset[str]]:
            text = text_in(body, content_type)
            if not text:
                raise Refusal(message(400, EXPECTED_CONFIGURATION))
            off = self._control.off
            present = _held(dao, catalogue.tables) if off is None else off.holding
            holding = parse(text).flatten(catalogue, keep=present, present=dao.reader if off is None else None)
            others = [table for table in holding if table not in SNAPSHOT_TABLES]
            found = (table for table in others if differing(present[table].encoded, holding[table].encoded))
            return holding, frozenset(found)

        holding, elsewhere = await self._control.database.read(judge)
        rows = {name: held.encoded for name, held in holding.items()}
        return feed.hypothetical(Replacement((), feed.sequence + 1, rows, is_whole=True)), elsewhere


def _current_or_not(found: Iterator[Kept], feed: Feed) -> Iterator[tuple[dict[str, Any], bool]]:
    """Records, each with whether it was served with the rows that workers have now."""
    kept = list(found)
    database_id, since, until = feed.database_id, feed.same_since(), feed.sequence

    def is_current(config: object) -> bool:
        id_, _, sequence = str(config).rpartition(":")
        return id_ == database_id and sequence.isascii() and sequence.isdigit() and since <= int(sequence) <= until

    # Decoded when its turn comes: each may be large.
    return ((record, is_current(record.get("config"))) for record in (one.record() for one in kept))


def _held(dao: ReadDao, tables: Any) -> Holding:
    """All rows by table and id, for looking them up by that."""
    held = Holding(tables)
    for table in tables:
        for row in dao.each(table):
            row.pop("ttl", None)
            held[table].encoded[row["id"]] = encode_row(row)
    return held


def _changes_in(body: bytes, content_type: str) -> Any | None:
    """The field `changes` of a body; None: it is a whole configuration."""
    if not content_type.lower().startswith("application/json"):
        return None
    try:
        values = _decode_json(body)
        if "changes" not in values or "_format_version" in values:
            return None
        errors = {name: "unknown field" for name in values if name != "changes"}
        if errors:
            raise SchemaViolation(errors)
        return msgspec.json.decode(values["changes"])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Whoever parses it says what is wrong.
        return None
