# SPDX-License-Identifier: Apache-2.0
"""key-auth: who is the client, by a key it sends in a header, the query or the body?

For APIs whose clients each hold a secret key. A key belongs to a Consumer; what is known of it is kept in the
worker, so that a request with a known key waits for nobody. Challenges follow RFC 9110, section 11.
"""

from __future__ import annotations

from typing import Any, Final

from pylae.plugins.key_auth import config as declared
from pylae.plugins.key_auth.entities import KeyauthCredential
from pylae.sdk import MISSING, Answer, Exchange, Host, Instance, bodies
from pylae.sdk.auth import AuthPlugin, Identity, Outcome, Refusal, challenge, damping_of

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
        asked = challenge("Key", realm=config.realm)
        self.names = tuple(config.key_names)
        has_only_header = len(self.names) == 1 and config.key_in_header and not config.hide_credentials
        self.only_header = self.names[0] if has_only_header else None
        self.in_header = config.key_in_header
        self.in_query = config.key_in_query
        self.in_body = config.key_in_body
        self.hide_credentials = config.hide_credentials
        self.anonymous = config.anonymous
        self.skips_preflight = not config.run_on_preflight
        self.missing: Refusal = (401, "No API key found in request", asked)
        self.duplicate: Refusal = (401, "Duplicate API key found", asked)
        self.unknown: Refusal = (401, "Unauthorized", asked)


class KeyAuth(AuthPlugin):
    """Authenticates clients by API key."""

    name = "key-auth"
    version = "3.10.0"
    priority = 1250
    reads_body = MAX_BODY_BYTES
    entities = (KeyauthCredential,)
    Config = declared.Config

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._credentials = host.entities.lookup("keyauth_credentials", "key", {"consumer": "consumers"}, Identity.of_credential)

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Splits the configuration into what `access` compares."""
        return Prepared(config)

    @classmethod
    def body_limit(cls, config: Prepared) -> int:
        """Bodies are read only where a key may be in one."""
        return MAX_BODY_BYTES if config.in_body else 0

    def access(self, exchange: Exchange, config: Prepared) -> Outcome:
        """Authenticates from memory; waits only for a key never seen before."""
        if config.in_query and exchange.request.raw_query:
            # Wherever the key is found, and whoever says who calls: the client may send another in the query, or one that is
            # nearly right.
            for name in config.names:
                exchange.request.conceal_argument(name)
        if config.skips_preflight and exchange.request.method == "OPTIONS":
            return None
        if config.anonymous is not None and self.is_settled(exchange, config):
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
        identity = self._credentials.cached(found)
        if identity is MISSING:
            return self._authenticate_later(exchange, config, found)
        return self._authenticate(exchange, config, identity)

    async def _authenticate_later(self, exchange: Exchange, config: Prepared, key: str) -> Answer | None:
        if not key.isascii():
            # Bytes that are no text are no key either, yet must not break the look-up.
            key = key.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return await self.settle(self._authenticate(exchange, config, await self._credentials.get(key)))

    def _authenticate(self, exchange: Exchange, config: Prepared, identity: Identity | None) -> Outcome:
        if identity is None:
            return self._refuse(exchange, config, config.unknown)
        return self.accept(exchange, identity)

    def _refuse(self, exchange: Exchange, config: Prepared, refusal: Refusal) -> Outcome:
        if refusal is not config.missing and (damping := damping_of(exchange)) is not None:
            damping.failed(self.name, None)
        return self.refuse(exchange, config, refusal)


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
    exchange.request.conceal_header(name)
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
