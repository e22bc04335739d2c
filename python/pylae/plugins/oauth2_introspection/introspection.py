# SPDX-License-Identifier: Apache-2.0
"""What does the authorization server say of a token, and how long is that good for? RFC 7662.

It is asked once for all who come with a token at the same time. That a token is active is remembered for `ttl` and never
longer than the token lasts; that it is not, apart from that, so that nobody pushes out good tokens by guessing, and for a short
while, so that nobody has the server asked over and over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from pylae.plugins.oauth2_introspection.settings import Decision, Settings
from pylae.sdk import Exchange, Host
from pylae.sdk.auth import SystemUnavailable, Verified
from pylae.sdk.http import HttpClient, HttpFailed
from pylae.sdk.jose import numeric_date
from pylae.sdk.jose.encoding import decode_object
from pylae.sdk.jose.errors import ClaimRefused

MAX_ANSWER_BYTES: Final = 65_536
MAX_REMEMBERED: Final = 8_192
MAX_REFUSALS: Final = 4_096
REFUSAL_TTL_MS: Final = 30_000
SKEW_S: Final = 60
"""How far the server's clock may be ahead: the server calls tokens active that begin now."""
_SAFE: Final = "/!$&'()*+,;=:@~-._%"
"""What stands in paths as it is."""


class Introspection:
    """Asks, and remembers."""

    def __init__(self, host: Host) -> None:
        self._now_ms = host.now_ms
        self._http = HttpClient(trusted_certificates=host.trusted_certificates, max_answer_bytes=MAX_ANSWER_BYTES, is_cut=False)
        self._active: Verified[Decision] = Verified(host.now_ms, MAX_REMEMBERED)
        self._inactive: Verified[bool] = Verified(host.now_ms, MAX_REFUSALS)
        self._asking: dict[bytes, asyncio.Task[Decision | None]] = {}

    def __repr__(self) -> str:
        return f"<introspection {self._active}>"

    async def close(self) -> None:
        """Ends what is asked and closes idle connections."""
        for task in self._asking.values():
            task.cancel()
        await self._http.close()

    def digest(self, exchange: Exchange, config: Settings, token: str) -> bytes:
        """What stands for the token; where the server is told of the request, its answer may depend on that."""
        if config.tells_request:
            return Verified.digest(config.tag, token, exchange.request.method, exchange.request.raw_path)
        return Verified.digest(config.tag, token)

    def known(self, digest: bytes, config: Settings) -> Decision | bool | None:
        """What was decided before: a token that is active, False for one that is not; None if it has to be asked."""
        decision = self._active.get(digest, config)
        return self._inactive.get(digest, config) if decision is None else decision

    async def ask(self, exchange: Exchange, config: Settings, token: str, digest: bytes) -> Decision | None:
        """What the server says; None: the token is not active.

        Raises:
            SystemUnavailable: it could not be asked, or did not answer as RFC 7662 says.
        """
        task = self._asking.get(digest)
        if task is None:
            headers = config.headers
            if config.tells_request:
                # As it came; bytes that may not stand there are encoded, and begin no header of the client's choice.
                path = quote(exchange.request.raw_path, safe=_SAFE, errors="surrogateescape")
                headers = {**headers, "X-Request-Path": path, "X-Request-Http-Method": exchange.request.method}
            task = asyncio.get_running_loop().create_task(self._ask(config, headers, token, digest))
            self._asking[digest] = task
            task.add_done_callback(_retrieve)
        # A client that leaves must not end what others wait for.
        return await asyncio.shield(task)

    async def _ask(self, config: Settings, headers: Mapping[str, str], token: str, digest: bytes) -> Decision | None:
        try:
            claims = await self._introspect(config, headers, token)
        finally:
            self._asking.pop(digest, None)
        if claims is None:
            refusal_ttl_ms = min(config.ttl_ms or REFUSAL_TTL_MS, REFUSAL_TTL_MS)
            self._inactive.keep(digest, False, config, self._now_ms() + refusal_ttl_ms)  # noqa: FBT003 - the decision
            return None
        decision = Decision(config, claims)
        ends_at_ms = self._ends_at_ms(config, decision)
        if not ends_at_ms or ends_at_ms > self._now_ms():
            self._active.keep(digest, decision, config, ends_at_ms)
        return decision

    async def _introspect(self, config: Settings, headers: Mapping[str, str], token: str) -> dict[str, Any] | None:
        form = {"token": token} if config.hint is None else {"token": token, "token_type_hint": config.hint}
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
        return claims if claims["active"] and self._is_time(claims) else None

    def _is_time(self, claims: Mapping[str, Any]) -> bool:
        """Does the token last, whatever else the server says?"""
        now_s = self._now_ms() / 1000
        try:
            ends_s, begins_s = numeric_date(claims, "exp"), numeric_date(claims, "nbf")
        except ClaimRefused:
            return False
        return (ends_s is None or ends_s > now_s) and (begins_s is None or begins_s <= now_s + SKEW_S)

    def _ends_at_ms(self, config: Settings, decision: Decision) -> int:
        """When a decision is not good any more, in milliseconds since the epoch; 0: never."""
        ends = [] if decision.ends_at_s is None else [int(decision.ends_at_s * 1000)]
        if config.ttl_ms:
            ends.append(self._now_ms() + config.ttl_ms)
        return min(ends, default=0)


def _retrieve(task: asyncio.Task[Decision | None]) -> None:
    # Everyone who waited may be gone; asyncio would complain of an exception nobody saw.
    if not task.cancelled():
        task.exception()
