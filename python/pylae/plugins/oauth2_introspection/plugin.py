# SPDX-License-Identifier: Apache-2.0
"""oauth2-introspection: who calls, by what an authorization server of somebody else's says of its token? RFC 7662.

For APIs whose clients get opaque tokens elsewhere. An answer is remembered, by a digest of the token, for `ttl` and never
longer than the token lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from pylae.plugins.oauth2_introspection import config as declared
from pylae.sdk import Answer, Exchange, Host, Instance, bodies
from pylae.sdk.auth import AuthPlugin, Identity, Outcome, Refusal, SystemUnavailable, Verified, challenge, damping_of, facts_of
from pylae.sdk.auth.plugin import MayBeAnonymous
from pylae.sdk.entities import Lookup
from pylae.sdk.http import Endpoint, HttpClient, HttpFailed
from pylae.sdk.jose import JoseError, check_times, numeric_date
from pylae.sdk.jose.encoding import decode_object

MAX_BODY_BYTES: Final = 65_536
MAX_ANSWER_BYTES: Final = 65_536
MAX_TOKEN_CHARACTERS: Final = 16_384
MAX_REMEMBERED: Final = 8_192
MAX_HEADER_CHARACTERS: Final = 8_192
ARGUMENT: Final = "access_token"
SCHEMES: Final = ("bearer", "token")
CLAIM_HEADERS: Final = (
    ("scope", "X-Credential-Scope"),
    ("client_id", "X-Credential-Client-ID"),
    ("username", "X-Credential-Identifier"),
    ("token_type", "X-Credential-Token-Type"),
    ("exp", "X-Credential-Exp"),
    ("iat", "X-Credential-Iat"),
    ("nbf", "X-Credential-Nbf"),
    ("sub", "X-Credential-Sub"),
    ("aud", "X-Credential-Aud"),
    ("iss", "X-Credential-Iss"),
    ("jti", "X-Credential-Jti"),
)
"""Members of an answer (RFC 7662, section 2.2) and the headers that tell the upstream of them."""


class Prepared:
    """A configuration with everything computed that does not depend on the request."""

    def __init__(self, config: declared.Config, instance: Instance) -> None:
        self.anonymous = config.anonymous or None
        self.skips_preflight = not config.run_on_preflight
        self.hides = config.hide_credentials
        self.endpoint = Endpoint.parse(config.introspection_url)
        self.system = f"introspection endpoint {self.endpoint.scheme}://{self.endpoint.authority}{self.endpoint.path}"
        self.ttl_ms = int((config.ttl or 0) * 1000)
        self.hint = config.token_type_hint
        self.timeout_ms = config.timeout or 10_000
        self.keepalive_ms = config.keepalive or 0
        self.tells_request = config.introspect_request
        self.by_username = config.consumer_by != "client_id"
        self.headers = {
            **(config.custom_introspection_headers or {}),
            "Authorization": config.authorization_value,
            "Accept": "application/json",
            "Content-Type": bodies.FORM,
        }
        forwarded = tuple((claim, f"X-Credential-{claim}") for claim in config.custom_claims_forward or ())
        self.claim_headers = (*CLAIM_HEADERS, *forwarded)
        self.tag = instance.id
        self.missing: Refusal = 401, "The access token is missing", challenge("Bearer", realm="service")
        invalid = "The access token is invalid or has expired"
        self.invalid: Refusal = (
            401,
            invalid,
            challenge("Bearer", realm="service", error="invalid_token", error_description=invalid),
        )

    def __repr__(self) -> str:
        return f"<oauth2-introspection at {self.endpoint.authority}>"


class Decision:
    """A token that is active, and what the upstream is told of it."""

    __slots__ = ("claims", "fields", "name")

    def __init__(self, config: Prepared, claims: Mapping[str, Any]) -> None:
        self.claims = claims
        self.fields = [(header, _text(claims.get(claim))) for claim, header in config.claim_headers]
        name = claims.get("username" if config.by_username else "client_id")
        self.name = name if isinstance(name, str) and name and "\0" not in name else None


class Oauth2Introspection(AuthPlugin):
    """Asks an authorization server whether a token is active."""

    name = "oauth2-introspection"
    version = "3.10.0"
    priority = 1700
    reads_body = MAX_BODY_BYTES
    Config = declared.Config

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._http = HttpClient(trusted_certificates=host.trusted_certificates, max_answer_bytes=MAX_ANSWER_BYTES, is_cut=False)
        self._decisions: Verified[Decision] = Verified(host.now_ms, MAX_REMEMBERED)

    async def stop(self) -> None:
        """Closes idle connections."""
        await self._http.close()

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:
        """Splits the configuration into what `access` needs."""
        return Prepared(config, instance)

    def access(self, exchange: Exchange, config: Prepared) -> Outcome:
        """Authenticates by what was answered before; waits only for an answer that is not known, or not any more."""
        if config.skips_preflight and exchange.request.method == "OPTIONS":
            return None
        # What a client says of itself under these names would be believed.
        exchange.service.request.set_headers([(header, None) for _, header in config.claim_headers])
        if self.is_settled(exchange, config):
            return None
        found = _token_of(exchange)
        if found is None:
            return self.refuse(exchange, config, config.missing)
        if not found or len(found) > MAX_TOKEN_CHARACTERS or not found.isascii() or not found.isprintable() or " " in found:
            return self._refuse(exchange, config)
        if config.hides:
            _hide(exchange)
        if config.tells_request:
            # The answer may depend on the request.
            digest = self._decisions.digest(config.tag, found, exchange.request.method, exchange.request.raw_path)
        else:
            digest = self._decisions.digest(config.tag, found)
        decision = self._decisions.get(digest, config)
        if decision is not None:
            lookup = self._lookup(config)
            row = None if decision.name is None else lookup.cached(decision.name)
            if row is None or isinstance(row, Mapping):
                return self._accept(exchange, decision, row)
        return self._ask(exchange, config, found, digest, decision)

    def _lookup(self, config: Prepared) -> Lookup:
        return self.consumers_by_username if config.by_username else self.consumers_by_custom_id

    async def _ask(
        self, exchange: Exchange, config: Prepared, token: str, digest: bytes, decision: Decision | None
    ) -> Answer | None:
        if decision is None:
            claims = await self._introspect(exchange, config, token)
            if claims is None:
                return await self.settle(self._refuse(exchange, config))
            decision = Decision(config, claims)
            ends_ms = self._ends_ms(config, claims)
            if ends_ms is None or ends_ms > self.host.now_ms():
                self._decisions.keep(digest, decision, config, ends_ms or 0)
        row = None if decision.name is None else await self._lookup(config).get(decision.name)
        return await self.settle(self._accept(exchange, decision, row))

    async def _introspect(self, exchange: Exchange, config: Prepared, token: str) -> dict[str, Any] | None:
        """What the server says of a token that is active; None for any other.

        Raises:
            SystemUnavailable: it could not be asked, or did not answer as RFC 7662 says.
        """
        form = {"token": token} if config.hint is None else {"token": token, "token_type_hint": config.hint}
        headers = config.headers
        if config.tells_request:
            headers = {**headers, "X-Request-Path": exchange.request.raw_path, "X-Request-Http-Method": exchange.request.method}
        try:
            answer = await self._http.request(
                "POST",
                config.endpoint,
                headers,
                urlencode(form).encode(),
                timeout_ms=config.timeout_ms,
                keepalive_ms=config.keepalive_ms,
            )
        except HttpFailed as failure:
            raise SystemUnavailable(config.system, str(failure)) from failure
        if answer.status != 200:
            raise SystemUnavailable(config.system, f"answered {answer.status}")
        try:
            claims = decode_object(answer.body)
        except ValueError:
            raise SystemUnavailable(config.system, "answered with no JSON object") from None
        if not isinstance(claims.get("active"), bool):
            raise SystemUnavailable(config.system, "does not say whether the token is active")
        if not claims["active"]:
            return None
        try:
            check_times(claims, self.host.now_ms() / 1000)
        except JoseError:
            return None
        return claims

    def _ends_ms(self, config: Prepared, claims: Mapping[str, Any]) -> int | None:
        """When an answer is not good any more, in milliseconds since the epoch; None for never."""
        ends_s = numeric_date(claims, "exp")
        ends = [] if ends_s is None else [int(ends_s * 1000)]
        if config.ttl_ms:
            ends.append(self.host.now_ms() + config.ttl_ms)
        return min(ends, default=None)

    def _accept(self, exchange: Exchange, decision: Decision, row: Any) -> Outcome:
        claims = decision.claims
        identifier = _text(claims.get("username"))
        credential = {"id": identifier or _text(claims.get("client_id")) or _text(claims.get("sub")) or "unnamed"}
        Identity(row, credential, identifier).impose(exchange)
        exchange.service.request.set_headers(decision.fields)
        facts = facts_of(exchange)
        facts.methods.append(self.name)
        facts.claims = claims
        facts.subject, facts.issuer = _text(claims.get("sub")), _text(claims.get("iss"))
        scope = claims.get("scope")
        facts.scopes = scope.split() if isinstance(scope, str) else ()
        facts.expires_at_s = numeric_date(claims, "exp")
        return None

    def _refuse(self, exchange: Exchange, config: Prepared) -> Outcome:
        if (damping := damping_of(exchange)) is not None:
            damping.failed(self.name, None)
        return self.refuse(exchange, config, config.invalid)

    def refuse(self, exchange: Exchange, config: MayBeAnonymous, refusal: Refusal) -> Outcome:
        """Refuses in the words of RFC 6750, or lets the client pass as the anonymous Consumer."""
        if config.anonymous is not None:
            return super().refuse(exchange, config, refusal)
        status, message, headers = refusal
        error = "invalid_token" if "error=" in (headers or {}).get("WWW-Authenticate", "") else "invalid_request"
        return exchange.answer(status, {"error": error, "error_description": message}, headers)


def _token_of(exchange: Exchange) -> str | None:
    """The token of a request; None for none, an empty text for what cannot be meant."""
    request = exchange.request
    values = request.get_header_values("authorization")
    for value in values:
        scheme, _, token = value.partition(" ")
        if scheme.lower() in SCHEMES:
            # Two of them, and nobody can say which is meant.
            return token.strip() if len(values) == 1 else ""
    for found in (request.get_query().get(ARGUMENT) if request.raw_query else None, _arguments(exchange).get(ARGUMENT)):
        if found is not None:
            return found if isinstance(found, str) else ""
    return None


def _arguments(exchange: Exchange) -> Mapping[str, Any]:
    body = exchange.request.body
    if not body:
        return {}
    kind = bodies.media_type(exchange.request.get_header("content-type"))
    if kind == bodies.FORM:
        return bodies.parse_form(body)
    return (bodies.parse_json_object(body) or {}) if kind == bodies.JSON else {}


def _hide(exchange: Exchange) -> None:
    """Keeps the token from the upstream, in every place."""
    upstream, request = exchange.service.request, exchange.request
    value = request.get_header("authorization") or ""
    if value.partition(" ")[0].lower() in SCHEMES:
        upstream.clear_header("authorization")
    if upstream.raw_query:
        upstream.set_raw_query(bodies.without_argument(upstream.raw_query, ARGUMENT))
    fields = dict(_arguments(exchange))
    if ARGUMENT in fields:
        if bodies.media_type(request.get_header("content-type")) == bodies.FORM:
            text = (request.body or b"").decode("utf-8", "surrogateescape")
            upstream.set_body(bodies.without_argument(text, ARGUMENT).encode("utf-8", "surrogateescape"))
        else:
            del fields[ARGUMENT]
            upstream.set_body(bodies.encode_json(fields))


def _text(value: Any) -> str | None:
    """A claim as a header carries it; None for what none can."""
    if value is None:
        return None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = " ".join(value)
    text = value if isinstance(value, str) else bodies.encode_json(value).decode()
    # A line feed would begin a header of the server's choice.
    if len(text) > MAX_HEADER_CHARACTERS or any(ord(one) < 0x20 or ord(one) == 0x7F for one in text):
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text
