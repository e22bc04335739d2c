# SPDX-License-Identifier: Apache-2.0
"""What follows a login, for the browser and for the upstream?"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from pylae.plugins.openid_connect.authorization import without_answer
from pylae.plugins.openid_connect.login_state import Login
from pylae.plugins.openid_connect.parts import Grant
from pylae.plugins.openid_connect.settings import Settings
from pylae.sdk.exchange import Answer, Exchange


def act(exchange: Exchange, settings: Settings, grant: Grant, login: Login | None) -> Answer | None:
    """The answer that `login_action` asks for; None for the upstream's.

    Args:
        exchange: The request that ended the login, or brought a credential.
        settings: The configuration.
        grant: What was granted.
        login: The login that ended, where there was one.
    """
    config = settings.config
    if grant.method not in (config.login_methods or ()):
        return None
    if config.login_action == "response":
        return exchange.answer(200, tokens_of(settings, grant), {"Cache-Control": "no-store"})
    if config.login_action != "redirect":
        return None
    uris = config.login_redirect_uri or []
    index = 0 if grant.client is None else max(grant.client.index, 0)
    if uris:
        where = uris[index] if index < len(uris) else uris[0]
    elif login is not None:
        # A path, as only the browser knows for sure by which name it came; never another origin (`plain_target`).
        where = login.target
    else:
        return None
    tokens = urlencode({name: value for name, value in tokens_of(settings, grant).items() if isinstance(value, str)})
    if tokens:
        mark = "#" if config.login_redirect_mode != "query" else "&" if "?" in where else "?"
        where = f"{where}{mark}{tokens}"
    return exchange.answer(302, None, {"Location": where, "Cache-Control": "no-store"})


def clean(exchange: Exchange, settings: Settings, login: Login) -> None:
    """Keeps the provider's answer from the upstream, and gives it what was first asked for."""
    request = exchange.service.request
    if settings.config.response_mode == "form_post":
        # The browser posted for the provider: to the upstream it is what `redirect` would make of it.
        request.set_method("GET")
        request.set_body(b"")
        request.set_headers([("content-type", None), ("content-length", None)])
        query = request.raw_query
    else:
        query = without_answer(request.raw_query)
    if settings.config.preserve_query_args:
        query = "&".join(part for part in (query, login.target.partition("?")[2]) if part)
    request.set_raw_query(query)


def tokens_of(settings: Settings, grant: Grant) -> dict[str, Any]:
    """The tokens that `login_tokens` names."""
    found: dict[str, Any] = {}
    for name in settings.config.login_tokens or ():
        match name:
            case "tokens":
                found |= dict(grant.response or {})
            case "introspection" if grant.introspection is not None:
                found["introspection"] = dict(grant.introspection)
            case "id_token" | "access_token" | "refresh_token" if getattr(grant, name) is not None:
                found[name] = getattr(grant, name)
    return found
