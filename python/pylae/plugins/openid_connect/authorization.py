# SPDX-License-Identifier: Apache-2.0
"""What is the provider asked through the browser, and what does it say the same way? OpenID Connect Core, section 3.1.2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pylae.plugins.openid_connect import presented
from pylae.plugins.openid_connect.login_state import Login, origin_of, plain_target
from pylae.plugins.openid_connect.parts import ProviderClient, Unauthorized
from pylae.plugins.openid_connect.settings import Settings
from pylae.sdk import bodies
from pylae.sdk.exchange import Exchange

OF_ANSWER: Final = ("code", "state", "iss", "session_state", "scope", "error", "error_description", "error_uri")
"""Arguments of an authorization response."""
MAX_CODE_CHARACTERS: Final = 4_096


def answer_in(exchange: Exchange, settings: Settings) -> dict[str, str] | None:
    """What the provider says in this request, in the place where it was asked to; None for any other request."""
    request = exchange.request
    said: Mapping[str, Any] = {}
    if settings.config.response_mode == "form_post":
        if request.method == "POST" and bodies.media_type(request.get_header("content-type")) == bodies.FORM:
            said = presented.arguments_of(exchange)
    elif request.method in ("GET", "HEAD") and request.raw_query:
        said = request.get_query()
        if "code" in said and "state" in said:
            # With it, and what the gateway knows, somebody could finish the login.
            request.conceal_argument("code")
    # Of a repeated argument nobody can say which one is meant.
    found = {name: said[name] for name in OF_ANSWER if isinstance(said.get(name), str)}
    return found if "state" in found and ("code" in found or "error" in found) else None


def check_issuer(answer: Mapping[str, str], metadata: Mapping[str, Any]) -> None:
    """Is it the provider that was asked? RFC 9207.

    Raises:
        Unauthorized: it is another, or does not say although it always does.
    """
    if "iss" in answer:
        if answer["iss"] != metadata.get("issuer"):
            raise Unauthorized("the answer to the login is another issuer's")
    elif metadata.get("authorization_response_iss_parameter_supported") is True:
        raise Unauthorized("the answer to the login does not say whose it is")


def code_of(answer: Mapping[str, str]) -> str:
    """The code; RFC 6749, appendix A.11.

    Raises:
        Unauthorized: the provider says that it gives none, or what it gives is no code.
    """
    if "error" in answer:
        raise Unauthorized(f"the provider answered `{_word(answer['error'])}` to the login")
    code = answer["code"]
    if not code or not code.isascii() or not code.isprintable() or len(code) > MAX_CODE_CHARACTERS:
        raise Unauthorized("malformed code")
    return code


def redirect_uri(exchange: Exchange, settings: Settings, client: ProviderClient) -> str:
    """Where the provider is to send the browser back to: as configured, else the address of this request."""
    uris = settings.config.redirect_uri or []
    if uris:
        return uris[client.index] if client.index < len(uris) else uris[0]
    return origin_of(exchange) + plain_target(exchange.request.raw_path)


def uses_pkce(settings: Settings, metadata: Mapping[str, Any]) -> bool:
    """As configured, else as the provider says that it can (RFC 8414, section 2)."""
    said = settings.config.require_proof_key_for_code_exchange
    return "S256" in (metadata.get("code_challenge_methods_supported") or ()) if said is None else said


def request_of(exchange: Exchange, settings: Settings, client: ProviderClient, login: Login) -> dict[str, str]:
    """The arguments of the authorization request."""
    config = settings.config
    asked = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": login.redirect_uri,
        "scope": " ".join(config.scopes or ("openid",)),
        "state": login.state,
        "nonce": login.nonce,
    }
    if login.verifier is not None:
        asked |= {"code_challenge": login.challenge, "code_challenge_method": "S256"}
    if config.response_mode == "form_post":
        asked["response_mode"] = "form_post"
    if config.audience:
        asked["audience"] = " ".join(config.audience)
    if config.max_age is not None:
        asked["max_age"] = str(int(config.max_age))
    own = dict(zip(config.authorization_query_args_names or (), config.authorization_query_args_values or (), strict=False))
    passed = {
        name: value
        for name in config.authorization_query_args_client or ()
        if (value := presented.find(exchange, name, ("query", "body"))) is not None
    }
    # Neither may change what the login rests on.
    return {**passed, **own, **asked}


def without_answer(query: str) -> str:
    """A query without what a provider said, the rest byte for byte."""
    for name in OF_ANSWER:
        query = bodies.without_argument(query, name)
    return query


def _word(text: str) -> str:
    """An error's name, which is for the log and may stand in a page; nothing else a browser brings."""
    is_name = text.isascii() and text.replace("_", "").replace("-", "").isalnum() and len(text) < 64
    return text if is_name else "something else"
