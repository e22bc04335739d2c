# SPDX-License-Identifier: Apache-2.0
"""What do the halves of the plugin hand each other?

The core (`plugin.py`) knows the provider, verifies tokens and decides who may pass. The browser half (`code_flow.Flow`)
knows cookies: sessions, the login with an authorization code, logout. One request goes:

    intercept   the browser half may answer at once (logout, a login that failed) or bring the Grant of a finished login
    resume      else it may bring the Grant of a session, refreshed if need be
    (the core)  else a credential of the request brings a Grant
    begin       else a browser is sent to log in
    (the core)  requirements, Consumer, headers
    establish   a Grant that may pass: begin or renew the session; login actions
    end         a client that may not: end its session, if the configuration says so
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pylae.sdk.exchange import Answer, Exchange

if TYPE_CHECKING:
    from pylae.plugins.openid_connect.settings import Settings

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProviderClient:
    """One of the clients under which the provider knows the gateway.

    Attributes:
        index: Its place in `client_id`, from 0; `redirect_uri` and others have a value for each place.
        auth_method: `client_secret_basic` and others; None when the configuration does not say.
    """

    index: int
    client_id: str
    secret: str | None = field(default=None, repr=False)
    auth_method: str | None = None
    algorithm: str | None = None
    jwk: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(slots=True)
class Grant:
    """What proves who the client is; each of its tokens as it was sent, and what it says once it was verified.

    Attributes:
        method: One of `auth_methods`: how the client proved it this time.
        granted_by: One of `auth_methods`: how it was proved at first, where `method` is `session`.
        expires_at_s: When the access token ends, seconds since the epoch; None when nobody said.
        introspection: What the introspection endpoint answered.
        user_info: What the userinfo endpoint answered.
        response: What the token endpoint answered, whole.
        access_key: The public key (JWK) of the access token's signature.
        consumer_id: Of a token that was issued by this gateway itself (`kong_oauth2`).
    """

    method: str
    client: ProviderClient | None = None
    granted_by: str | None = None
    access_token: str | None = field(default=None, repr=False)
    access_claims: Claims | None = field(default=None, repr=False)
    access_key: Mapping[str, Any] | None = None
    id_token: str | None = field(default=None, repr=False)
    id_claims: Claims | None = field(default=None, repr=False)
    id_key: Mapping[str, Any] | None = None
    refresh_token: str | None = field(default=None, repr=False)
    introspection: Claims | None = field(default=None, repr=False)
    introspection_jwt: str | None = field(default=None, repr=False)
    user_info: Claims | None = field(default=None, repr=False)
    user_info_jwt: str | None = field(default=None, repr=False)
    response: Mapping[str, Any] | None = field(default=None, repr=False)
    replayed_headers: Mapping[str, str] = field(default_factory=dict)
    expires_at_s: float | None = None
    consumer_id: str | None = None


class Locked(Exception):
    """Attempts under the client's name failed too often: not even the right secret passes (`auth-damping`)."""


class Refused(Exception):
    """The client may not pass.

    Attributes:
        reason: For the log and, with `display_errors`, for the client; never a secret.
        name: Who the client said it was, with a password or a secret.
    """

    status = 401
    error: str | None = "invalid_token"
    name: str | None = None

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unauthorized(Refused):
    """It is not known who the client is."""


class Forbidden(Refused):
    """It is known, and lacks something required."""

    status = 403
    error = "insufficient_scope"


class TokenRefused(Unauthorized):
    """The token endpoint said no.

    Attributes:
        code: Its `error` (RFC 6749, section 5.2): `invalid_grant`.
    """

    def __init__(self, code: str) -> None:
        super().__init__(f"the token endpoint answered `{code}`")
        self.code = code


class Core(Protocol):
    """What the browser half may ask of the core. All of it may raise `Refused` and `SystemUnavailable`."""

    def now_s(self) -> float:
        """Seconds since the epoch."""
        ...

    def client_of(self, exchange: Exchange, settings: Settings) -> ProviderClient:
        """The client of the provider's that this request is for (`client_arg`)."""
        ...

    async def metadata(self, settings: Settings) -> Mapping[str, Any]:
        """The provider's metadata (OpenID Connect Discovery, section 3), the configuration's own endpoints laid over it.

        Its text members are texts and its list members lists: a lying provider is refused before.
        """
        ...

    async def redeem(
        self,
        exchange: Exchange,
        settings: Settings,
        client: ProviderClient,
        method: str,
        arguments: Mapping[str, str],
        *,
        nonce: str | None = None,
    ) -> Grant:
        """Asks the token endpoint, verifies what it answers.

        Args:
            exchange: The request it is for; arguments and headers of the client's may be passed on.
            settings: The configuration.
            client: Who asks.
            method: `authorization_code` or `refresh_token` of `auth_methods`; `Grant.method` will say so.
            arguments: The form: `grant_type`, `code`, `redirect_uri`, `code_verifier`, `refresh_token` ...
            nonce: What the id token must repeat, if there is one.

        Raises:
            TokenRefused: the endpoint said no.
        """
        ...

    async def read(self, settings: Settings, grant: Grant, *, verify: bool) -> Grant:
        """Fills in the claims of a Grant made of tokens alone, as kept in a session.

        Args:
            settings: The configuration.
            grant: Its tokens are set; it is filled in place and returned.
            verify: Verifies signatures and claims once more (`reverify`); else the tokens are believed and only read.
        """
        ...

    async def revoke(self, settings: Settings, client: ProviderClient, token: str, hint: str) -> None:
        """Gives a token back; that the provider does not know it (any more) is no error."""
        ...


class BrowserFlow(Protocol):
    """What the core asks of the browser half: `code_flow.Flow`, made once per worker as `Flow(host, core)`."""

    async def intercept(self, exchange: Exchange, settings: Settings) -> Answer | Grant | None:
        """A logout, or the way back from the provider; None for any other request."""
        ...

    async def resume(self, exchange: Exchange, settings: Settings) -> Grant | None:
        """The Grant of the session that the request's cookie names, `method` being `session`."""
        ...

    async def begin(self, exchange: Exchange, settings: Settings) -> Answer:
        """Sends the browser to the provider."""
        ...

    async def establish(self, exchange: Exchange, settings: Settings, grant: Grant) -> Answer | None:
        """The client may pass: its session begins or goes on, `login_action` may answer."""
        ...

    async def end(self, exchange: Exchange, settings: Settings) -> None:
        """The client may not pass, and its session ends with that."""
        ...

    async def close(self) -> None:
        """Closes connections."""
        ...
