# SPDX-License-Identifier: Apache-2.0
"""mtls-auth: who is the client, by the certificate it shows in the TLS handshake?

For clients that hold a private key and a certificate of an authority the gateway trusts. The handshake proves that they
have the key; here the certificate is judged (RFC 5280), asked after at its authority, and led to a Consumer. A judgement
is kept as long as `cache_ttl` says, so that a request on a known connection waits for nobody.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Mapping
from typing import Any, Final

from pylae.plugins.mtls_auth import config as declared
from pylae.plugins.mtls_auth.authorities import Authority, Trust
from pylae.plugins.mtls_auth.certificates import Holder, Unreadable, holder_of, is_constrained
from pylae.plugins.mtls_auth.entities import MtlsAuthCredential, mapping_of
from pylae.plugins.mtls_auth.revocation import Revocation, Revoked
from pylae.sdk import MISSING, Answer, Exchange, Host, Instance
from pylae.sdk.auth import AuthPlugin, Identity, Outcome, Refusal, Verified, damping_of, facts_of
from pylae.sdk.auth.facts import set_groups
from pylae.sdk.entities import Lookup

ABSENT: Final[Refusal] = (401, "No required TLS certificate was sent", None)
UNTRUSTED: Final[Refusal] = (401, "TLS certificate failed verification", None)
DN_HEADER: Final = "X-Client-Cert-Dn"
SAN_HEADER: Final = "X-Client-Cert-San"
_CLAIMS: Final = frozenset((DN_HEADER.lower(), SAN_HEADER.lower()))
_CLAIM_LENGTHS: Final = frozenset(map(len, _CLAIMS))
_NO_LETTER: Final = re.compile(r"[^a-z0-9]")
REFUSAL_KEPT_MS: Final = 5_000
MAX_REFUSALS: Final = 1_024


class Prepared:
    """A configuration with everything computed that does not depend on the request."""

    __slots__ = (
        "allow_partial_chain",
        "anonymous",
        "authorities",
        "cache_ttl_ms",
        "cert_cache_ttl_ms",
        "consumer_by",
        "default_consumer",
        "group_by",
        "http_timeout_ms",
        "id",
        "proxies",
        "revocation_check_mode",
        "send_ca_dn",
        "skip_consumer_lookup",
        "ssl_verify",
        "trust",
    )

    def __init__(self, config: declared.Config, instance: Instance) -> None:
        self.id = instance.id
        self.anonymous = config.anonymous
        self.authorities = tuple(dict.fromkeys(config.ca_certificates))
        self.consumer_by = tuple(config.consumer_by or ())
        self.default_consumer = config.default_consumer
        self.skip_consumer_lookup = config.skip_consumer_lookup
        self.group_by = config.authenticated_group_by
        self.allow_partial_chain = config.allow_partial_chain
        self.cache_ttl_ms = int(config.cache_ttl * 1000)
        self.revocation_check_mode = config.revocation_check_mode or "IGNORE_CA_ERROR"
        self.http_timeout_ms = config.http_timeout or 30_000
        self.cert_cache_ttl_ms = config.cert_cache_ttl or 60_000
        self.ssl_verify = config.ssl_verify
        self.send_ca_dn = config.send_ca_dn
        self.proxies: dict[str, tuple[str, int]] = {}
        if config.http_proxy_host is not None and config.http_proxy_port is not None:
            self.proxies["http"] = config.http_proxy_host, config.http_proxy_port
        if config.https_proxy_host is not None and config.https_proxy_port is not None:
            self.proxies["https"] = config.https_proxy_host, config.https_proxy_port
        self.trust: Trust | None = None
        """Of the last look at the authorities."""


class Judgement:
    """A certificate that is trusted.

    Attributes:
        holder: whom it is about.
        issued_by: ids of the authorities on its way, the nearest first.
        identity: whom it led to last.
        row: the Consumer's row that this rests on.
    """

    __slots__ = ("holder", "identity", "issued_by", "row")

    def __init__(self, holder: Holder, issued_by: tuple[str, ...]) -> None:
        self.holder = holder
        self.issued_by = issued_by
        self.identity: Identity | None = None
        self.row: object = None


class MtlsAuth(AuthPlugin):
    """Authenticates clients by certificate."""

    name = "mtls-auth"
    version = "3.10.0"
    priority = 1600
    wants_client_certificate = True
    entities = (MtlsAuthCredential,)
    Config = declared.Config

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._authorities = host.entities.lookup("ca_certificates", "id", prepare=Authority)
        self._mappings = host.entities.lookup(
            "mtls_auth_credentials", "mapping", {"consumer": "consumers"}, Identity.of_credential
        )
        self._judgements: Verified[Judgement] = Verified(host.now_ms)
        self._refused: Verified[str] = Verified(host.now_ms, MAX_REFUSALS)
        self._revocation = Revocation(host)

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:
        """Splits the configuration into what `access` compares."""
        return Prepared(config, instance)

    async def certificate(self, exchange: Exchange, config: Prepared) -> None:
        """Names the authorities to a client that is asked for a certificate, where that is wanted."""
        if config.send_ca_dn:
            trust = self._known_trust(config) or await self._trust(config)
            exchange.client.offer_authorities([authority.name for authority in trust.authorities])

    def access(self, exchange: Exchange, config: Prepared) -> Outcome:
        """Authenticates from memory; waits only for a certificate that is not known, or not any more."""
        _clear_claims(exchange)
        if self.is_settled(exchange, config):
            return None
        presented = exchange.client.certificate_digest
        if presented is None:
            return self.refuse(exchange, config, ABSENT)
        trust = self._known_trust(config)
        if trust is not None:
            digest = Verified.digest(config.id, presented)
            judgement = self._judgements.get(digest, trust)
            if judgement is not None:
                return self._admit(exchange, config, judgement)
            if self._refused.get(digest, trust) is not None:
                return self._refuse_untrusted(exchange, config)
        return self._judge_later(exchange, config, presented)

    async def _judge_later(self, exchange: Exchange, config: Prepared, presented: bytes) -> Answer | None:
        trust = self._known_trust(config) or await self._trust(config)
        digest = Verified.digest(config.id, presented)
        chain = exchange.client.certificate_chain or []
        try:
            judgement, until_ms = await self._judge(chain, trust, config)
        except _Untrusted as error:
            # Only the log says why: whoever tries certificates learns nothing.
            exchange.log("info", f"[mtls-auth] certificate refused: {error}")
            self._refused.keep(digest, str(error), trust, self.host.now_ms() + min(REFUSAL_KEPT_MS, config.cache_ttl_ms))
            return await self.settle(self._refuse_untrusted(exchange, config))
        self._refused.forget(digest)
        self._judgements.keep(digest, judgement, trust, until_ms)
        return await self.settle(self._admit(exchange, config, judgement))

    async def _judge(self, chain: list[bytes], trust: Trust, config: Prepared) -> tuple[Judgement, int]:
        """What a chain is worth, and until when (ms since the epoch).

        Raises:
            _Untrusted: nothing.
        """
        from pylae._core import ChainRefused, verify_client_chain

        now_ms = self.host.now_ms()
        anchors = [authority.der for authority in trust.anchors]
        try:
            path, place = verify_client_chain(chain, anchors, at_s=now_ms // 1000, helpers=trust.helpers)
            anchor = anchors[place]
            holder = holder_of(path[0], has_checked_common_name=not is_constrained([*path[1:], anchor]))
            standing_ms = await self._revocation.check(path, anchor, config)
        except ChainRefused as refused:
            raise _Untrusted(refused.args[1]) from refused
        except (Unreadable, Revoked) as error:
            raise _Untrusted(str(error)) from error
        until_ms = min(now_ms + config.cache_ttl_ms, int(holder.not_after_s * 1000))
        if standing_ms:
            until_ms = min(until_ms, standing_ms)
        return Judgement(holder, trust.ids_of([*path[1:], anchor])), until_ms

    def _known_trust(self, config: Prepared) -> Trust | None:
        """The authorities, if all are known: the same object as long as none of them changes."""
        cached = self._authorities.cached
        found = []
        for id_ in config.authorities:
            authority = cached(id_)
            if authority is MISSING:
                return None
            if authority is not None:
                found.append(authority)
        trust = config.trust
        if trust is not None and len(found) == len(trust.authorities) and all(map(_is, found, trust.authorities)):
            return trust
        config.trust = Trust(found, allow_partial_chain=config.allow_partial_chain)
        return config.trust

    async def _trust(self, config: Prepared) -> Trust:
        # 40 ms, once a worker: not on the thread that everybody waits for.
        await asyncio.to_thread(importlib.import_module, "cryptography.x509")
        found = []
        for id_ in config.authorities:
            authority = await self._authorities.get(id_)
            if authority is not None:
                found.append(authority)
            else:
                self.host.log("warn", f"[mtls-auth] plugin {config.id}: there is no ca_certificates {id_}; it vouches for nobody")
        return self._known_trust(config) or Trust(found, allow_partial_chain=config.allow_partial_chain)

    def _refuse_untrusted(self, exchange: Exchange, config: Prepared) -> Outcome:
        if (damping := damping_of(exchange)) is not None:
            damping.failed(self.name, None)
        return self.refuse(exchange, config, UNTRUSTED)

    def _admit(self, exchange: Exchange, config: Prepared, judgement: Judgement) -> Outcome:
        """Lets a trusted client pass as whom its certificate stands for."""
        if config.skip_consumer_lookup:
            return self._admit_anyone(exchange, config, judgement)
        for lookup, value, name in self._ways(config, judgement):
            found = lookup.cached(value)
            if found is MISSING:
                return self._admit_later(exchange, config, judgement)
            if found is not None:
                return self._pass(exchange, judgement, found, name)
        return self._admit_nobody(exchange, config)

    async def _admit_later(self, exchange: Exchange, config: Prepared, judgement: Judgement) -> Answer | None:
        for lookup, value, name in self._ways(config, judgement):
            found = await lookup.get(value)
            if found is not None:
                return await self.settle(self._pass(exchange, judgement, found, name))
        return await self.settle(self._admit_nobody(exchange, config))

    def _ways(self, config: Prepared, judgement: Judgement) -> list[tuple[Lookup, str, str]]:
        """Where to look for whom the certificate stands, in order: the first that is found counts."""
        names = judgement.holder.names
        ways = [(self._mappings, mapping_of(id_, name), name) for name in names for id_ in judgement.issued_by]
        ways += [(self._mappings, mapping_of(None, name), name) for name in names]
        lookups = {"username": self.consumers_by_username, "custom_id": self.consumers_by_custom_id}
        ways += [(lookups[field], name, name) for name in names for field in config.consumer_by]
        if config.default_consumer is not None:
            by_id = (
                [(self.consumers_by_id, config.default_consumer, config.default_consumer)]
                if _is_uuid(config.default_consumer)
                else []
            )
            ways += [*by_id, (self.consumers_by_username, config.default_consumer, config.default_consumer)]
        return ways

    def _pass(self, exchange: Exchange, judgement: Judgement, found: Any, name: str) -> Outcome:
        if isinstance(found, Mapping):
            if judgement.row is not found or judgement.identity is None:
                judgement.row = found
                judgement.identity = Identity(found, {"id": judgement.holder.id}, name)
            found = judgement.identity
        self._tell(exchange, judgement)
        return self.accept(exchange, found)

    def _admit_nobody(self, exchange: Exchange, config: Prepared) -> Outcome:
        exchange.log("info", "[mtls-auth] certificate refused: it is trusted, and stands for no Consumer")
        return self.refuse(exchange, config, UNTRUSTED)

    def _admit_anyone(self, exchange: Exchange, config: Prepared, judgement: Judgement) -> Outcome:
        holder = judgement.holder
        if judgement.identity is None:
            judgement.identity = Identity(None, {"id": holder.id}, None)
        judgement.identity.impose(exchange)
        exchange.service.request.set_headers(((DN_HEADER, holder.dn), (SAN_HEADER, holder.san)))
        group = {"CN": holder.common_name, "DN": holder.dn}.get(config.group_by or "")
        if group:
            set_groups(exchange, [group])
        self._tell(exchange, judgement)
        return None

    def _tell(self, exchange: Exchange, judgement: Judgement) -> None:
        """Says to later plugins what is known of the client."""
        facts, holder = facts_of(exchange), judgement.holder
        facts.methods.append(self.name)
        facts.subject = holder.dn
        facts.issuer = holder.issuer
        facts.certificate_fingerprint = holder.fingerprint
        facts.expires_at_s = holder.not_after_s


class _Untrusted(Exception):
    """Nobody trusted vouches for the certificate; the message says why."""


def _clear_claims(exchange: Exchange) -> None:
    """Upstreams trust these fields: what a client sends under their names never gets there, however it spells them."""
    for name in exchange.request.get_headers():
        if len(name) in _CLAIM_LENGTHS and _NO_LETTER.sub("-", name.lower()) in _CLAIMS:
            exchange.service.request.clear_header(name)


def _is(one: object, other: object) -> bool:
    return one is other


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4
