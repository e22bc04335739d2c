# SPDX-License-Identifier: Apache-2.0
"""What does the identity provider say of itself, and which keys does it sign with?

The discovery document (OpenID Connect Discovery 1.0) and the key sets (RFC 7517) are fetched when they are first needed,
once for all who wait, and used for `cache_ttl`. After that, the next request has them fetched behind its back. An unknown
key has them fetched at once, since the provider may have changed keys, but only every `rediscovery_lifetime` seconds:
whoever floods the gateway with invented key ids reaches the provider no more often than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from pylae.plugins.openid_connect.config import Config
from pylae.sdk.auth import SystemUnavailable
from pylae.sdk.http import Endpoint, HttpAnswer, HttpClient, HttpFailed
from pylae.sdk.jose import Key, KeyRefused, KeySet, Token
from pylae.sdk.jose.encoding import decode_object

WELL_KNOWN: Final = "/.well-known/openid-configuration"
ENDPOINTS: Final = (
    "authorization_endpoint",
    "token_endpoint",
    "introspection_endpoint",
    "userinfo_endpoint",
    "revocation_endpoint",
    "end_session_endpoint",
    "pushed_authorization_request_endpoint",
    "jwks_uri",
)

MAX_QUOTED_CHARACTERS: Final = 200

Now = Callable[[], int]
Log = Callable[[str, str], None]


class Keys:
    """The keys of all key sets; another object once they have changed, so that decisions can rest on it.

    Args:
        sets: Each with the address it came from; the provider's own first, if it has one.
        issuers: All that tokens may come from.

    A further set whose address begins with the address of one of the issuers signs for that issuer alone, and nobody else
    does: so that of several issuers, none can make tokens of another. All other sets sign for all other issuers.
    """

    __slots__ = ("_owned", "_sets")

    def __init__(self, sets: Sequence[tuple[str, KeySet]], issuers: Collection[str], own: str | None = None) -> None:
        self._sets = tuple((None if url == own else _owner(url, issuers), key_set) for url, key_set in sets)
        self._owned = frozenset(owner for owner, _ in self._sets if owner is not None)

    def __repr__(self) -> str:
        return f"<keys of {len(self._sets)} sets>"

    def candidates(self, token: Token, issuer: object = None) -> list[Key]:
        """Those the token may be signed with, if it is from this issuer; None for any."""
        # A stranger says who issued it: it may be anything.
        owner = issuer if isinstance(issuer, str) and issuer in self._owned else None
        return [
            key for its_owner, key_set in self._sets if issuer is None or its_owner == owner for key in key_set.candidates(token)
        ]


def _owner(url: str, issuers: Collection[str]) -> str | None:
    owners = [issuer for issuer in issuers if url.startswith(issuer.rstrip("/") + "/")]
    return max(owners, key=len, default=None)


class Provider:
    """One issuer, as one configuration reaches it.

    Args:
        config: Where it is.
        http: Asks it.
        now_ms: Tells the time.
        log: Takes level and line.
    """

    def __init__(self, config: Config, http: HttpClient, now_ms: Now, log: Log) -> None:
        self._config = config
        self._http = http
        self._now_ms = now_ms
        self._log = log
        self.name = f"token issuer {config.issuer}"
        """What faults call it."""
        self._timeout_ms = config.timeout or 10_000
        self._ttl_ms = int((config.cache_ttl if config.cache_ttl is not None else 3_600) * 1000)
        grace_s = config.cache_ttl_resurrect
        self._grace_ms = self._ttl_ms if grace_s is None else int(grace_s * 1000)
        self._pause_ms = int((config.rediscovery_lifetime if config.rediscovery_lifetime is not None else 30) * 1000)
        self._metadata: Mapping[str, Any] | None = None
        self._keys: Keys | None = None
        self._documents: list[tuple[str, dict[str, Any]]] = []
        # All were fetched then, or at least asked for.
        self._fetched_at_ms = 0
        self._rediscovered_at_ms: int | None = None
        self._failed_at_ms: int | None = None
        self._failure: SystemUnavailable | None = None
        self._fetching: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<provider {self._config.issuer}>"

    @property
    def keys(self) -> Keys | None:
        """The keys at hand; None before they were first fetched. Never waits."""
        return self._keys

    async def metadata(self) -> Mapping[str, Any]:
        """The discovery document, the configuration's own endpoints laid over it.

        Raises:
            SystemUnavailable: it cannot be had, and there is none from before.
        """
        await self._be_ready()
        assert self._metadata is not None, "fetched or raised"
        return self._metadata

    async def current_keys(self) -> Keys:
        """The keys.

        Raises:
            SystemUnavailable: they cannot be had, and there are none from before.
        """
        await self._be_ready()
        assert self._keys is not None, "fetched or raised"
        return self._keys

    async def newer_keys(self, than: Keys) -> Keys | None:
        """Keys fetched since; None when there are none, or it is too early to ask again.

        Raises:
            SystemUnavailable: asking failed.
        """
        if self._keys is not than and self._keys is not None:
            return self._keys
        if self._fetching is None:
            now_ms = self._now_ms()
            if self._rediscovered_at_ms is not None and now_ms - self._rediscovered_at_ms < self._pause_ms:
                return None
            self._rediscovered_at_ms = now_ms
        await self._fetch_once()
        return None if self._keys is than else self._keys

    async def endpoint(self, name: str) -> Endpoint:
        """Where an endpoint is (`token_endpoint`).

        Raises:
            SystemUnavailable: the provider has none, or cannot be asked.
        """
        url = (await self.metadata()).get(name)
        if not isinstance(url, str):
            raise SystemUnavailable(self.name, f"has no `{name}`")
        return Endpoint.parse(url)

    async def ask(
        self,
        method: str,
        endpoint: Endpoint,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        is_repeatable: bool = True,
    ) -> HttpAnswer:
        """Asks an endpoint; any status below 500 is an answer.

        Raises:
            SystemUnavailable: no answer came, or one of 429 or 500 and above.
        """
        keepalive_ms = 0 if self._config.keepalive is False else 60_000
        where = f"{self.name} at {endpoint.scheme}://{endpoint.authority}{endpoint.path}"
        try:
            answer = await self._http.request(
                method,
                endpoint,
                headers,
                body,
                timeout_ms=self._timeout_ms,
                keepalive_ms=keepalive_ms,
                is_repeatable=is_repeatable,
            )
        except HttpFailed as failure:
            raise SystemUnavailable(where, str(failure)) from failure
        if answer.status >= 500 or answer.status == 429:
            raise SystemUnavailable(where, f"answered {answer.status}")
        return answer

    async def ask_json(self, method: str, endpoint: Endpoint, headers: Mapping[str, str], body: bytes = b"") -> dict[str, Any]:
        """Asks an endpoint for an object.

        Raises:
            SystemUnavailable: it did not answer 200 with one.
        """
        answer = await self.ask(method, endpoint, headers, body)
        where = f"{self.name} at {endpoint.scheme}://{endpoint.authority}{endpoint.path}"
        if answer.status != 200:
            raise SystemUnavailable(where, f"answered {answer.status}")
        try:
            return decode_object(answer.body)
        except ValueError:
            raise SystemUnavailable(where, "answered with no JSON object") from None

    async def _be_ready(self) -> None:
        now_ms = self._now_ms()
        if self._keys is not None:
            age_ms = now_ms - self._fetched_at_ms
            if age_ms < self._ttl_ms:
                return
            if age_ms < self._ttl_ms + self._grace_ms:
                # Old, yet good: others fetch newer ones meanwhile.
                if self._fetching is None and not self._has_just_failed(now_ms):
                    self._start_fetching().add_done_callback(_look_away)
                return
        elif self._fetching is None and self._failure is not None and self._has_just_failed(now_ms, within_ms=1_000):
            raise SystemUnavailable(self._failure.system, self._failure.reason)
        await self._fetch_once()

    def _has_just_failed(self, now_ms: int, within_ms: int | None = None) -> bool:
        pause_ms = self._pause_ms if within_ms is None else min(within_ms, self._pause_ms)
        return self._failed_at_ms is not None and now_ms - self._failed_at_ms < pause_ms

    async def _fetch_once(self) -> None:
        task = self._fetching or self._start_fetching()
        # A client that leaves must not cancel what others wait for.
        await asyncio.shield(task)

    def _start_fetching(self) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._fetch())
        self._fetching = task
        task.add_done_callback(_look_away)
        return task

    async def _fetch(self) -> None:
        try:
            metadata = await self._discover()
            documents = [(url, await self._key_document(url)) for url in self._key_set_urls(metadata)]
            if self._keys is None or documents != self._documents or self._is_another_issuer(metadata):
                # Else they stay the same object, and with it all that rests on it.
                keys = Keys(
                    [(url, await self._key_set(url, document)) for url, document in documents],
                    self._config.issuers_allowed or (),
                    metadata.get("jwks_uri"),
                )
            else:
                keys = self._keys
        except SystemUnavailable as failure:
            self._failed_at_ms = self._now_ms()
            self._failure = failure
            if self._keys is not None:
                self._log("warn", f"openid-connect: {failure}; goes on with what it said before")
            raise
        else:
            self._metadata, self._documents, self._keys = metadata, documents, keys
            self._fetched_at_ms = self._now_ms()
            self._failed_at_ms = self._failure = None
        finally:
            self._fetching = None

    def _key_set_urls(self, metadata: Mapping[str, Any]) -> list[str]:
        urls = [metadata["jwks_uri"]] if "jwks_uri" in metadata else []
        return urls + list(self._config.extra_jwks_uris or ())

    def _is_another_issuer(self, metadata: Mapping[str, Any]) -> bool:
        return self._metadata is None or metadata["issuer"] != self._metadata["issuer"]

    async def _key_document(self, url: str) -> dict[str, Any]:
        endpoint = _parsed(url, self.name, "jwks_uri")
        return await self.ask_json("GET", endpoint, {"Accept": "application/jwk-set+json, application/json"})

    async def _key_set(self, url: str, document: dict[str, Any]) -> KeySet:
        try:
            # The first key has cryptography imported, and hundreds may be listed: too long for the requests meanwhile.
            key_set = await asyncio.to_thread(KeySet.from_json, document)
        except KeyRefused as refusal:
            raise SystemUnavailable(self.name, f"its key set at {url} has {refusal}") from refusal
        for reason in key_set.refused:
            self._log("warn", f"openid-connect: {self.name}: a key at {url} is not used: {reason}")
        return key_set

    async def _discover(self) -> dict[str, Any]:
        config = self._config
        metadata: dict[str, Any] = {"issuer": config.issuer}
        if not config.using_pseudo_issuer:
            headers = dict(zip(config.discovery_headers_names or (), config.discovery_headers_values or (), strict=False))
            document = await self.ask_json("GET", discovery_endpoint(config.issuer), {"Accept": "application/json", **headers})
            metadata = _judged(document, self.name)
            self._check_issuer(metadata["issuer"])
        for name in ENDPOINTS:
            own = config.jwks_endpoint if name == "jwks_uri" else getattr(config, name)
            if own:
                metadata[name] = own
        return metadata

    def _check_issuer(self, said: str) -> None:
        """Discovery, section 4.3: it must be the one that was asked, or else keys of one issuer would pass for another's."""
        allowed = {issuer.rstrip("/") for issuer in (issuer_of(self._config.issuer), *(self._config.issuers_allowed or ()))}
        if said.rstrip("/") not in allowed:
            raise SystemUnavailable(self.name, f"says that it is another issuer, {said[:MAX_QUOTED_CHARACTERS]!r}")


def issuer_of(url: str) -> str:
    """The issuer whose discovery document this may be the address of."""
    return url.partition("/.well-known/")[0] if "/.well-known/" in url else url


def discovery_endpoint(issuer: str) -> Endpoint:
    """Where the discovery document is; an address with `/.well-known/` is taken as it is."""
    return Endpoint.parse(issuer if "/.well-known/" in issuer else issuer.rstrip("/") + WELL_KNOWN)


def _judged(document: dict[str, Any], name: str) -> dict[str, Any]:
    """What can be used of a discovery document; texts are texts, lists hold texts, endpoints are addresses."""
    if not isinstance(document.get("issuer"), str):
        raise SystemUnavailable(name, "its discovery document names no `issuer`")
    metadata: dict[str, Any] = {}
    for member, value in document.items():
        if member.endswith("_supported") and isinstance(value, list):
            metadata[member] = [item for item in value if isinstance(item, str)]
        elif member in ENDPOINTS:
            metadata[member] = value
            _parsed(value, name, member)
        elif isinstance(value, (str, bool)):
            metadata[member] = value
    return metadata


def _parsed(url: Any, name: str, member: str) -> Endpoint:
    try:
        return Endpoint.parse(url)
    except (ValueError, TypeError, AttributeError):
        raise SystemUnavailable(name, f"its `{member}` is no address") from None


def _look_away(task: asyncio.Task[None]) -> None:
    # Everyone who waited may be gone; asyncio would complain of an exception nobody saw. It was logged or will be raised again.
    if not task.cancelled():
        task.exception()
