# SPDX-License-Identifier: Apache-2.0
"""How does a browser log in and out?"""

from __future__ import annotations

from pylae.plugins.openid_connect.fields.shapes import METHODS, SAME_SITE, choices, flag, seconds, text, texts, urls
from pylae.plugins.openid_connect.fields.telling import Telling


class Login(Telling):
    """The authorization code flow and logout."""

    redirect_uri: list[str] | None = urls(
        "Where the provider sends browsers back to, one for each client; the address of the request when unset."
    )
    response_type: list[str] = texts("What the provider is to answer with; `code` only.", default=("code",))
    response_mode: str = text(
        "How the provider passes its answer through the browser; `query` and `form_post` are supported.",
        default="query",
        one_of=("form_post", "form_post.jwt", "fragment", "fragment.jwt", "jwt", "query", "query.jwt"),
    )
    require_proof_key_for_code_exchange: bool | None = flag("Uses PKCE or not; as the provider says when unset.", default=None)
    require_pushed_authorization_requests: bool | None = flag("Pushes authorization requests; not supported.", default=None)
    require_signed_request_object: bool | None = flag("Signs authorization requests; not supported.", default=None)
    authorization_query_args_names: list[str] | None = texts("Names of arguments sent to the authorization endpoint.")
    authorization_query_args_values: list[str] | None = texts("Their values, in the same order.")
    authorization_query_args_client: list[str] | None = texts("Arguments of the client's that are passed to it.")
    authorization_cookie_name: str = text("Name of the cookie that a login goes by.", default="authorization")
    authorization_cookie_path: str = text("Path of that cookie.", default="/")
    authorization_cookie_domain: str | None = text("Domain of that cookie.")
    authorization_cookie_same_site: str = text(
        "Whether that cookie comes along from other sites.", default="Default", one_of=SAME_SITE
    )
    authorization_cookie_http_only: bool = flag("Keeps that cookie from scripts.", default=True)
    authorization_cookie_secure: bool | None = flag(
        "Sends that cookie over TLS only; as the request came when unset.", default=None
    )
    authorization_rolling_timeout: float = seconds("How long a login may take.", default=600)
    preserve_query_args: bool = flag("Keeps the arguments of the request over the login.")

    login_action: str = text("What follows a login.", default="upstream", one_of=("redirect", "response", "upstream"))
    login_methods: list[str] = choices("Ways of authentication after which it follows.", METHODS, default=("authorization_code",))
    login_redirect_uri: list[str] | None = urls("Where a login leads with the action `redirect`.", is_referenceable=True)
    login_redirect_mode: str = text("Where in that address the tokens stand.", default="fragment", one_of=("fragment", "query"))
    login_tokens: list[str] = choices(
        "Tokens that `response` and `redirect` hand over.",
        ("access_token", "id_token", "introspection", "refresh_token", "tokens"),
        default=("id_token",),
    )
    unauthorized_redirect_uri: list[str] | None = urls("Where clients are sent that are not authenticated.")
    forbidden_redirect_uri: list[str] | None = urls("Where clients are sent that lack something required.")
    unexpected_redirect_uri: list[str] | None = urls("Where clients are sent when something else fails.")

    logout_query_arg: str | None = text("Argument that asks for logout.")
    logout_post_arg: str | None = text("Field of a form that asks for logout.")
    logout_uri_suffix: str | None = text("End of the path that asks for logout.")
    logout_methods: list[str] = choices("Methods that may log out.", ("DELETE", "GET", "POST"), default=("DELETE", "POST"))
    logout_redirect_uri: list[str] | None = urls("Where a logout leads, one for each client.", is_referenceable=True)
    logout_revoke: bool = flag("Gives tokens back to the provider at logout.")
    logout_revoke_access_token: bool = flag("Gives back the access token then.", default=True)
    logout_revoke_refresh_token: bool = flag("Gives back the refresh token then.", default=True)
    refresh_tokens: bool = flag("Gets a new access token with the refresh token when one is about to end.", default=True)
