# SPDX-License-Identifier: Apache-2.0
"""Does a request ask for logout, and where does the browser go then? OpenID Connect RP-Initiated Logout 1.0; RFC 7009."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pylae.plugins.openid_connect import presented
from pylae.plugins.openid_connect.parts import Core, Grant, ProviderClient, Refused
from pylae.plugins.openid_connect.settings import Settings
from pylae.sdk.auth import SystemUnavailable
from pylae.sdk.exchange import Exchange


def is_asked(exchange: Exchange, settings: Settings) -> bool:
    """Does it?"""
    config, request = settings.config, exchange.request
    if request.method not in (config.logout_methods or ()):
        return False
    if config.logout_query_arg and request.raw_query and request.get_query_arg(config.logout_query_arg) is not None:
        return True
    if config.logout_post_arg and config.logout_post_arg in presented.arguments_of(exchange):
        return True
    return bool(config.logout_uri_suffix) and request.path.endswith(config.logout_uri_suffix or "")


async def revoke(core: Core, settings: Settings, grant: Grant, exchange: Exchange) -> None:
    """Gives the tokens back, if the configuration says so. That it fails keeps nobody logged in."""
    config = settings.config
    if not config.logout_revoke or grant.client is None:
        return
    wanted = (
        (config.logout_revoke_refresh_token, grant.refresh_token, "refresh_token"),
        (config.logout_revoke_access_token, grant.access_token, "access_token"),
    )
    for is_wanted, token, hint in wanted:
        if is_wanted is not False and token is not None:
            try:
                await core.revoke(settings, grant.client, token, hint)
            except (SystemUnavailable, Refused) as failure:
                exchange.log("warn", f"openid-connect: a token was not given back at logout: {failure}")


def destination(
    settings: Settings, metadata: Mapping[str, Any], client: ProviderClient | None, id_token: str | None
) -> str | None:
    """Where the browser is sent: the provider's own logout if it has one, which leads on to `logout_redirect_uri`."""
    uris = settings.config.logout_redirect_uri or []
    index = 0 if client is None else client.index
    own = uris[index] if 0 <= index < len(uris) else (uris[0] if uris else None)
    endpoint = metadata.get("end_session_endpoint")
    if not isinstance(endpoint, str):
        return own
    arguments = {"id_token_hint": id_token, "client_id": client and client.client_id, "post_logout_redirect_uri": own}
    said = urlencode({name: value for name, value in arguments.items() if value is not None})
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{said}" if said else endpoint
