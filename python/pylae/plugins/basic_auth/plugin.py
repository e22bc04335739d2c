# SPDX-License-Identifier: Apache-2.0
"""basic-auth: who calls, by username and password?

For APIs whose clients can do no more than HTTP Basic authentication (RFC 7617). A password is compared with its hash
once; then a keyed digest of the whole field stands for the decision, until the credential changes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from pylae.plugins.basic_auth import config as declared
from pylae.plugins.basic_auth.entities import BasicauthCredential
from pylae.sdk import MISSING, Answer, Exchange, Host, Instance
from pylae.sdk.auth import UNAUTHORIZED, AuthPlugin, Identity, Outcome, Refusal, Remembered, challenge, damping_of, equals
from pylae.sdk.entities import Missing, Row

FIELDS: Final = ("proxy-authorization", "authorization")
"""Where credentials are looked for, in order."""
NOBODYS_ID: Final = "00000000-0000-0000-0000-000000000000"
"""Salt of the hash that is made for a username that does not exist, so that both cost the same."""


class Prepared:
    """A configuration with its refusal made."""

    __slots__ = ("anonymous", "hide_credentials", "refusal")

    def __init__(self, config: declared.Config) -> None:
        self.anonymous = config.anonymous
        self.hide_credentials = config.hide_credentials
        self.refusal: Refusal = (401, UNAUTHORIZED, challenge("Basic", realm=config.realm))


class Given:
    """Credentials as they were sent."""

    __slots__ = ("field", "password", "username")

    def __init__(self, field: str, username: bytes, password: bytes) -> None:
        self.field = field
        self.username = username.decode("utf-8", "replace")
        self.password = password


def given_in(field: str, values: list[str]) -> Given | None:
    """The username and password of a field, which comes once; None for anything else."""
    if len(values) != 1:
        return None
    scheme, _, encoded = values[0].partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(" "), validate=True)
    except (binascii.Error, ValueError):
        return None
    username, colon, password = decoded.partition(b":")
    return Given(field, username, password) if colon and username else None


def _identity_of(credential: Row) -> Identity:
    return Identity.of_credential(credential, credential["username"])


class BasicAuth(AuthPlugin):
    """Asks clients for a username and a password."""

    name = "basic-auth"
    version = "3.10.0"
    priority = 1100
    Config = declared.Config
    entities = (BasicauthCredential,)

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._credentials = host.entities.lookup("basicauth_credentials", "username", {"consumer": "consumers"}, _identity_of)
        # Of the field: the username, and whose it is. The identity is what the look-up answered.
        self._remembered = Remembered()

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Makes the refusal."""
        return Prepared(config)

    def access(self, exchange: Exchange, config: Prepared) -> Outcome:
        """Authenticates from memory; waits only for a username never seen before."""
        if self.is_settled(exchange, config):
            return None
        request = exchange.request
        known = request.recognize(self._remembered, "authorization")
        if known is not None and request.get_header("proxy-authorization") is None and damping_of(exchange) is None:
            # The usual request: one field, seen before.
            username, identity = known
            if self._credentials.cached(username) is identity:
                return self._accept(exchange, config, identity, "authorization")
        return self._judge(exchange, config)

    def _judge(self, exchange: Exchange, config: Prepared, begin: int = 0, asked: Identity | Missing | None = MISSING) -> Outcome:
        """Tries one field after the other, from `begin` on; `asked` is whose the first one's username is, if that was asked."""
        damping = damping_of(exchange)
        for index in range(begin, len(FIELDS)):
            given = given_in(FIELDS[index], exchange.request.get_header_values(FIELDS[index]))
            if given is None:
                continue
            if damping is not None and damping.is_locked(self.name, given.username):
                return damping.refusal(exchange)
            identity = asked if index == begin else MISSING
            if isinstance(identity, Missing):
                identity = None if "\0" in given.username else self._credentials.cached(given.username)
            if isinstance(identity, Missing):
                return self._judge_later(exchange, config, index, given.username)
            if _is_right(given, identity) and identity is not None:
                if given.field == "authorization":
                    exchange.request.remember(self._remembered, given.field, (given.username, identity))
                return self._accept(exchange, config, identity, given.field)
            if damping is not None:
                damping.failed(self.name, given.username)
        return self.refuse(exchange, config, config.refusal)

    async def _judge_later(self, exchange: Exchange, config: Prepared, index: int, username: str) -> Answer | None:
        identity = await self._credentials.get(username)
        return await self.settle(self._judge(exchange, config, index, identity))

    def _accept(self, exchange: Exchange, config: Prepared, identity: Identity, field: str) -> Outcome:
        if config.hide_credentials:
            exchange.service.request.clear_header(field)
        return self.accept(exchange, identity)


def _is_right(given: Given, identity: Identity | None) -> bool:
    """Compares the password; of a username that does not exist with nothing, at the same cost."""
    consumer_id, expected = NOBODYS_ID, ""
    if identity is not None and identity.credential is not None:
        consumer_id, expected = identity.credential["consumer"]["id"], identity.credential["password"]
    hashed = hashlib.sha1(given.password + consumer_id.encode(), usedforsecurity=False).hexdigest()
    return equals(hashed, expected) and identity is not None
