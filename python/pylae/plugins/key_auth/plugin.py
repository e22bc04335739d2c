# SPDX-License-Identifier: Apache-2.0
"""key-auth: who is the client, by a key it sends in a header, the query or the body?

For APIs whose clients each hold a secret key. A key belongs to a Consumer; what is known of it is kept in the
worker, so that a request with a known key waits for nobody. Challenges follow RFC 9110, section 11.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

from pylae.plugins.key_auth import config as declared
from pylae.plugins.key_auth.entities import KeyauthCredential
from pylae.sdk import MISSING, Answer, Exchange, Host, Instance, Lookup, Plugin, bodies

Row = dict[str, Any]
Refusal = tuple[int, str, dict[str, str] | None]
"""Status, message, headers."""

MAX_BODY_BYTES: Final = 1_048_576


class Prepared:
    """A configuration with everything computed that does not depend on the request."""

    __slots__ = (
        "anonymous",
        "duplicate",
        "hide_credentials",
        "in_body",
        "in_header",
        "in_query",
        "missing",
        "names",
        "only_header",
        "skips_preflight",
        "unknown",
    )

    def __init__(self, config: declared.Config) -> None:
        challenge = {"WWW-Authenticate": "Key" if config.realm is None else f'Key realm="{config.realm}"'}
        self.names = tuple(config.key_names)
        has_only_header = len(self.names) == 1 and config.key_in_header and not config.hide_credentials
        self.only_header = self.names[0] if has_only_header else None
        self.in_header = config.key_in_header
        self.in_query = config.key_in_query
        self.in_body = config.key_in_body
        self.hide_credentials = config.hide_credentials
        self.anonymous = config.anonymous
        self.skips_preflight = not config.run_on_preflight
        self.missing: Refusal = (401, "No API key found in request", challenge)
        self.duplicate: Refusal = (401, "Duplicate API key found", challenge)
        self.unknown: Refusal = (401, "Unauthorized", challenge)


NO_CONSUMER: Final[Refusal] = (500, "An unexpected error occurred", None)


class KeyAuth(Plugin):
    """Authenticates clients by API key."""

    name = "key-auth"
    version = "3.10.0"
    priority = 1250
    scopes = ("global", "service", "route")
    reads_body = MAX_BODY_BYTES
    entities = (KeyauthCredential,)
    Config = declared.Config

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._credentials: Lookup = host.entities.lookup("keyauth_credentials", "key", {"consumer": "consumers"})

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Splits the configuration into what `access` compares."""
        return Prepared(config)

    @classmethod
    def body_limit(cls, config: Prepared) -> int:
        """Bodies are read only where a key may be in one."""
        return MAX_BODY_BYTES if config.in_body else 0

    def access(self, exchange: Exchange, config: Prepared) -> Answer | Awaitable[Answer | None] | None:
        """Authenticates from memory; waits only for a key never seen before."""
        if config.skips_preflight and exchange.request.method == "OPTIONS":
            return None
        if config.anonymous is not None and exchange.client.credential is not None:
            return None
        found: Any = None
        if config.only_header is not None:
            # The usual request: one name, sent once, in a header.
            values = exchange.request.get_header_values(config.only_header)
            if len(values) == 1:
                found = values[0]
        if not found:
            found = _find_key(exchange, config)
            if type(found) is not str:
                return self._refuse(exchange, config, found)
        credential = self._credentials.cached(found)
        if credential is MISSING:
            return self._authenticate_later(exchange, config, found)
        return self._authenticate(exchange, config, credential)

    async def _authenticate_later(self, exchange: Exchange, config: Prepared, key: str) -> Answer | None:
        verdict = self._authenticate(exchange, config, await self._credentials.get(key))
        return verdict if verdict is None or not isinstance(verdict, Awaitable) else await verdict

    def _authenticate(self, exchange: Exchange, config: Prepared, credential: Any) -> Answer | Awaitable[Answer | None] | None:
        if credential is None:
            return self._refuse(exchange, config, config.unknown)
        consumer = credential["consumer"]
        if consumer is None or "created_at" not in consumer:
            return self._refuse(exchange, config, NO_CONSUMER)
        _identify(exchange, consumer, credential)
        return None

    def _refuse(self, exchange: Exchange, config: Prepared, refusal: Refusal) -> Answer | Awaitable[Answer | None] | None:
        if config.anonymous is not None:
            return self._let_pass_as(exchange, config.anonymous)
        status, message, headers = refusal
        return exchange.error(status, message, headers)

    async def _let_pass_as(self, exchange: Exchange, anonymous: str) -> Answer | None:
        entities = self.host.entities
        consumer = None
        if _is_uuid(anonymous):
            consumer = await entities.lookup("consumers", "id").get(anonymous)
        if consumer is None:
            consumer = await entities.lookup("consumers", "username").get(anonymous)
        if consumer is None:
            return exchange.error(500, f"anonymous consumer {anonymous} is configured but doesn't exist")
        _identify(exchange, consumer, None)
        return None


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4


def _find_key(exchange: Exchange, config: Prepared) -> Any:
    """The key, or the refusal that its absence calls for."""
    request = exchange.request
    query = None
    fields = None
    for name in config.names:
        value: Any = None
        if config.in_header:
            values = request.get_header_values(name)
            if values:
                value = values[0] if len(values) == 1 else values
        if value is None and config.in_query and request.raw_query:
            if query is None:
                query = request.get_query()
            value = query.get(name)
        if value is None and config.in_body:
            if fields is None:
                fields = _body_fields(exchange)
            value = fields.get(name)
            if isinstance(value, str):
                # Bytes that are no text are no key either, yet must not break the look-up.
                value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if isinstance(value, str):
            if config.hide_credentials:
                _hide(exchange, config, name)
            return value or config.missing
        if isinstance(value, (list, dict)):
            return config.duplicate
    return config.missing


def _body_fields(exchange: Exchange) -> dict[str, Any]:
    body = exchange.request.body
    if not body:
        return {}
    content_type = exchange.request.get_header("content-type") or ""
    kind = bodies.media_type(content_type)
    if kind == bodies.FORM:
        return dict(bodies.parse_form(body))
    if kind == bodies.JSON:
        return bodies.parse_json_object(body) or {}
    if kind == bodies.MULTIPART:
        form = bodies.parse_multipart(body, content_type)
        if form is not None:
            fields: dict[str, Any] = {}
            for part in form.parts:
                if part.name is not None:
                    bodies.add_argument(fields, part.name, part.content.decode("utf-8", "surrogateescape"))
            return fields
    return {}


def _hide(exchange: Exchange, config: Prepared, name: str) -> None:
    upstream = exchange.service.request
    upstream.clear_header(name)
    if upstream.raw_query:
        upstream.set_raw_query(bodies.without_argument(upstream.raw_query, name))
    if config.in_body and exchange.request.body:
        content_type = exchange.request.get_header("content-type") or ""
        body = _body_without(exchange.request.body, content_type, name)
        if body is not None:
            upstream.set_body(body)


def _body_without(body: bytes, content_type: str, name: str) -> bytes | None:
    kind = bodies.media_type(content_type)
    if kind == bodies.FORM:
        return bodies.without_argument(body.decode("utf-8", "surrogateescape"), name).encode("utf-8", "surrogateescape")
    if kind == bodies.JSON:
        fields = bodies.parse_json_object(body)
        if fields is not None and name in fields:
            del fields[name]
            return bodies.encode_json(fields)
    if kind == bodies.MULTIPART:
        form = bodies.parse_multipart(body, content_type)
        if form is not None:
            form.delete(name)
            return form.encode()
    return None


def _identify(exchange: Exchange, consumer: Row, credential: Row | None) -> None:
    """Tells the gateway and the upstream who the client is; a client's own claims are overwritten or removed."""
    exchange.client.authenticate(consumer, credential)
    upstream = exchange.service.request
    upstream.set_header("X-Consumer-ID", consumer["id"])
    custom_id = consumer.get("custom_id")
    if custom_id is None:
        upstream.clear_header("X-Consumer-Custom-ID")
    else:
        upstream.set_header("X-Consumer-Custom-ID", custom_id)
    username = consumer.get("username")
    if username is None:
        upstream.clear_header("X-Consumer-Username")
    else:
        upstream.set_header("X-Consumer-Username", username)
    if credential is None:
        upstream.clear_header("X-Credential-Identifier")
        upstream.set_header("X-Anonymous-Consumer", "true")
    else:
        upstream.set_header("X-Credential-Identifier", credential["id"])
        upstream.clear_header("X-Anonymous-Consumer")
