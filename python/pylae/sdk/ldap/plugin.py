# SPDX-License-Identifier: Apache-2.0
"""What do the plugins share that ask clients for a username and a password which a directory knows?"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Generic, Protocol, TypeVar

from pylae.schema import Field
from pylae.sdk.auth import UNAUTHORIZED, AuthPlugin, Identity, Outcome, Refusal, Verified, challenge, damping_of, facts_of
from pylae.sdk.exchange import Answer, Exchange
from pylae.sdk.host import Host
from pylae.sdk.ldap.credentials import HEADERS, Credentials, credentials_in
from pylae.sdk.ldap.directory import Directory, Server

MAX_REFUSALS: Final = 4_096
DEFAULT_TIMEOUT_MS: Final = 10_000
"""Refusals that are remembered, apart from what passes: who guesses must not push those out who know."""
MAX_DIRECTORIES: Final = 64
"""From here on those are forgotten that nobody has a connection to: their configurations are gone."""


class LdapConfig(Protocol):
    """The fields that both plugins have under the same names."""

    fields: ClassVar[dict[str, Field]]
    ldap_host: str
    ldap_port: int
    ldaps: bool
    start_tls: bool
    verify_ldap_host: bool
    base_dn: str
    attribute: str
    cache_ttl: float
    hide_credentials: bool
    timeout: float
    keepalive: float
    anonymous: str | None
    header_type: str
    realm: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the directory says of credentials.

    Args:
        username: as the directory writes it, or as the client did where the directory was not asked for it.
        name: the entry's distinguished name; None: it does not know the credentials.
        groups: whose member the entry is.
        identity: what the upstream is told where no Consumer is meant.
    """

    username: str
    name: str | None
    groups: tuple[str, ...] = ()
    identity: Identity | None = None


REFUSED: Final = Verdict("", None)


class PreparedLdap:
    """A configuration with everything computed that does not depend on the request; never kept in a log."""

    def __init__(self, config: LdapConfig) -> None:
        self.server = Server(
            host=config.ldap_host,
            port=config.ldap_port,
            ldaps=config.ldaps,
            start_tls=config.start_tls,
            verify=config.verify_ldap_host,
            timeout_ms=config.timeout or DEFAULT_TIMEOUT_MS,
            keepalive_ms=config.keepalive or 0,
        )
        self.base = config.base_dn
        self.attribute = config.attribute
        self.keeps_ms = int(config.cache_ttl * 1000)
        self.hide_credentials = config.hide_credentials
        self.anonymous = config.anonymous or None
        kind = config.header_type or "ldap"
        self.scheme = kind.lower()
        scheme = "LDAP" if self.scheme == "ldap" else kind
        self.unauthorized: Refusal = (401, UNAUTHORIZED, challenge(scheme, realm=config.realm))
        # A verdict is good for exactly this configuration; the same one on another Route shares it.
        self.fingerprint = Verified.digest(*(f"{name}={getattr(config, name)!r}" for name in sorted(type(config).fields)))

    def __repr__(self) -> str:
        return f"<prepared {self.server}>"


P = TypeVar("P", bound=PreparedLdap)


class LdapPlugin(AuthPlugin, Generic[P]):
    """Base of the plugins that ask a directory."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._known: Verified[Verdict] = Verified(host.now_ms)
        self._refused: Verified[Verdict] = Verified(host.now_ms, MAX_REFUSALS)
        self._directories: dict[Server, Directory] = {}
        self._asking: dict[bytes, asyncio.Task[Verdict]] = {}

    @abstractmethod
    async def ask(self, directory: Directory, config: P, credentials: Credentials) -> Verdict:
        """Asks the directory.

        Raises:
            SystemUnavailable: it could not be asked.
        """

    def accept_verdict(self, exchange: Exchange, config: P, verdict: Verdict) -> Outcome:
        """Lets the client pass as whom the directory knows; there is a credential, and no Consumer."""
        assert verdict.identity is not None, "a verdict that lets pass has an identity"
        verdict.identity.impose(exchange)
        self.remember(exchange, config, verdict)
        return None

    def remember(self, exchange: Exchange, config: P, verdict: Verdict) -> None:
        """Tells later plugins who the client is to the directory."""
        facts = facts_of(exchange)
        facts.methods.append(self.name)
        facts.subject, facts.issuer = verdict.name, str(config.server)

    async def stop(self) -> None:
        """Ends what is asked and closes the connections."""
        for task in self._asking.values():
            task.cancel()
        for directory in self._directories.values():
            directory.close()

    def access(self, exchange: Exchange, config: P) -> Outcome:
        """Answers from memory; waits only for credentials that were not seen for `cache_ttl` seconds."""
        if self.is_settled(exchange, config):
            return None
        offered, is_claimed = credentials_in(exchange, config.scheme)
        damping = damping_of(exchange)
        for credentials in offered:
            # All of them, before the first is tried: one must not be asked for behind another.
            if damping is not None and damping.is_locked(self.name, credentials.username):
                return damping.refusal(exchange)
        for credentials in offered:
            digest = _digest(config, credentials)
            verdict = self._known.get(digest) or self._refused.get(digest)
            if verdict is None:
                return self._decide(exchange, config, offered)
            if verdict.name is not None:
                return self._pass(exchange, config, verdict)
        return self._refuse_unknown(exchange, config, offered, is_claimed=is_claimed)

    async def _decide(self, exchange: Exchange, config: P, offered: list[Credentials]) -> Answer | None:
        for credentials in offered:
            verdict = await self._verdict(config, credentials)
            if verdict.name is not None:
                return await self.settle(self._pass(exchange, config, verdict))
        return await self.settle(self._refuse_unknown(exchange, config, offered, is_claimed=True))

    async def _verdict(self, config: P, credentials: Credentials) -> Verdict:
        """From memory, or from the directory, asked once for all who wait."""
        digest = _digest(config, credentials)
        verdict = self._known.get(digest) or self._refused.get(digest)
        if verdict is not None:
            return verdict
        task = self._asking.get(digest)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(config, credentials, digest))
            self._asking[digest] = task
            task.add_done_callback(_retrieve)
        # A client that has gone ends its own waiting, not that of the others.
        return await asyncio.shield(task)

    async def _ask(self, config: P, credentials: Credentials, digest: bytes) -> Verdict:
        try:
            verdict = await self.ask(self._directory(config.server), config, credentials)
        finally:
            self._asking.pop(digest, None)
        if config.keeps_ms > 0:
            kept = self._refused if verdict.name is None else self._known
            kept.keep(digest, verdict, expires_at_ms=self.host.now_ms() + config.keeps_ms)
        return verdict

    def _pass(self, exchange: Exchange, config: P, verdict: Verdict) -> Outcome:
        if config.hide_credentials:
            _hide(exchange)
        return self.accept_verdict(exchange, config, verdict)

    def _refuse_unknown(self, exchange: Exchange, config: P, tried: Sequence[Credentials], *, is_claimed: bool) -> Outcome:
        if is_claimed:
            if config.hide_credentials:
                # Who passes as the anonymous Consumer all the same leaves them here.
                _hide(exchange)
            damping = damping_of(exchange)
            if damping is not None:
                for credentials in tried:
                    damping.failed(self.name, credentials.username)
                if not tried:
                    damping.failed(self.name, None)
        return self.refuse(exchange, config, config.unauthorized)

    def _directory(self, server: Server) -> Directory:
        directory = self._directories.get(server)
        if directory is None:
            if len(self._directories) >= MAX_DIRECTORIES:
                self._directories = {key: one for key, one in self._directories.items() if not one.is_unused}
            directory = self._directories[server] = Directory(server, self.host.trusted_certificates)
        return directory


def identity_of(username: str) -> Identity:
    """Of a user whom no Consumer stands for."""
    return Identity(None, {"id": username, "username": username}, username)


def _digest(config: PreparedLdap, credentials: Credentials) -> bytes:
    return Verified.digest(config.fingerprint, credentials.username, credentials.password)


def _hide(exchange: Exchange) -> None:
    for header in HEADERS:
        exchange.service.request.clear_header(header)


def _retrieve(task: asyncio.Task[Verdict]) -> None:
    # Who waited is told; that nobody waits any more is no reason for asyncio to complain.
    if not task.cancelled():
        task.exception()
