# SPDX-License-Identifier: Apache-2.0
"""What follows from the configuration, and from it and a request together?"""

from __future__ import annotations

import math
from typing import Final

from pylae.plugins.oauth2 import config as declared
from pylae.plugins.oauth2.answers import GLOBAL_TOKEN, INVALID_TOKEN, MISSING_TOKEN, SEVERAL_TOKENS, Refused, TokenRefusal
from pylae.plugins.oauth2.parameters import Parameters, shown
from pylae.plugins.oauth2.tokens import is_header_value
from pylae.sdk import Exchange, Instance
from pylae.sdk.auth import equals

MAX_STATE_CHARACTERS: Final = 8_192


class Settings:
    """A configuration with everything computed that does not depend on the request; never kept in a log."""

    def __init__(self, config: declared.Config, instance: Instance) -> None:
        self.plugin_id = instance.id
        self.anonymous = config.anonymous
        self.header = config.auth_header_name or "authorization"
        self.hide_credentials = config.hide_credentials
        self.is_global = config.global_credentials
        self.pkce = config.pkce
        self.gives_codes = config.enable_authorization_code
        self.gives_implicit = config.enable_implicit_grant
        self.gives_to_clients = config.enable_client_credentials
        self.gives_for_passwords = config.enable_password_grant
        # 0 stands for ever: less than a second is no such wish.
        self.token_expiration_s = math.ceil(config.token_expiration) if config.token_expiration >= 0 else 1
        self.refresh_token_ttl_s = config.refresh_token_ttl
        self.reuses_refresh_tokens = config.reuse_refresh_token
        self._provision_key = config.provision_key
        self._scopes = None if config.scopes is None else frozenset(config.scopes)
        self._needs_scope = config.mandatory_scope
        self._trusts_proxies = config.accept_http_if_already_terminated
        realm = config.realm
        self.missing = TokenRefusal("invalid_request", MISSING_TOKEN, realm, is_told=False)
        self.several = TokenRefusal("invalid_request", SEVERAL_TOKENS, realm, status=400)
        self.invalid = TokenRefusal("invalid_token", INVALID_TOKEN, realm)
        self.is_of_all = TokenRefusal("invalid_token", GLOBAL_TOKEN, realm)

    def __repr__(self) -> str:
        return f"<oauth2 settings {self.plugin_id}>"

    def service_of(self, exchange: Exchange) -> str | None:
        """For which Service codes and tokens are given; None for all that have global credentials.

        Raises:
            Refused: the Route has no Service, and a token that is for none would be one for all.
        """
        if self.is_global:
            return None
        if exchange.service.id is None:
            raise Refused("invalid_request", "A route without a service needs global_credentials")
        return exchange.service.id

    def require_https(self, exchange: Exchange) -> None:
        """Refuses what others could read on its way.

        Raises:
            Refused: it came in clear.
        """
        client = exchange.client
        if client.protocol != "https" and not (self._trusts_proxies and client.forwarded_protocol == "https"):
            raise Refused("access_denied", "You must use HTTPS")

    def require_provision_key(self, parameters: Parameters) -> None:
        """Refuses who is not the login application.

        Raises:
            Refused: another key, or none.
        """
        key = parameters.text("provision_key")
        if key is None or not equals(key, self._provision_key):
            raise Refused("invalid_provision_key", "Invalid provision_key")

    def user_in(self, parameters: Parameters) -> str:
        """The user that the login application vouches for.

        Raises:
            Refused: it is not that, or names none.
        """
        self.require_provision_key(parameters)
        user_id = parameters.key("authenticated_userid")
        if user_id is None or not is_header_value(user_id):
            raise Refused("invalid_authenticated_userid", "Missing authenticated_userid parameter")
        return user_id

    def scope_in(self, parameters: Parameters) -> str | None:
        """The scopes that are asked for, one space between them; None for none.

        Raises:
            Refused: one of them is not on offer, or there has to be one.
        """
        asked = parameters.raw("scope")
        names: list[str] = []
        if self._scopes is not None and asked is not None:
            if not isinstance(asked, str):
                raise Refused("invalid_scope", "scope must be a string")
            names = asked.split()
            for name in names:
                if name not in self._scopes:
                    raise Refused("invalid_scope", f'"{shown(name)}" is an invalid scope')
        if not names and self._needs_scope:
            raise Refused("invalid_scope", "You must specify a scope")
        return " ".join(names) or None

    @staticmethod
    def state_in(parameters: Parameters) -> str | None:
        """What the client wants to get back, as it came; None where that can't be said again."""
        state = parameters.raw("state")
        return shown(state) if isinstance(state, str) and len(state) <= MAX_STATE_CHARACTERS else None
