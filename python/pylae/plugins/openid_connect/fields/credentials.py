# SPDX-License-Identifier: Apache-2.0
"""What may a client show, and where is it looked for?"""

from __future__ import annotations

from pylae.plugins.openid_connect.fields.provider import Provider
from pylae.plugins.openid_connect.fields.shapes import METHODS, PLACES, choices, flag, seconds, text, texts
from pylae.sdk import field, kinds


class Credentials(Provider):
    """Methods of authentication and their places in a request."""

    auth_methods: list[str] = choices("Ways by which a client may say who it is.", METHODS, default=METHODS)
    bearer_token_param_type: list[str] = choices(
        "Where a token is looked for.", ("body", "cookie", "header", "query"), default=PLACES
    )
    bearer_token_cookie_name: str | None = text("Cookie a token is looked for in.")
    bearer_token_header_name: str | None = field(
        kinds.string(rule="header_name"), doc="The only header a token is looked for in, in place of `Authorization` and others."
    )
    client_credentials_param_type: list[str] = choices(
        "Where the client's own id and secret are looked for.", PLACES, default=PLACES
    )
    password_param_type: list[str] = choices("Where username and password are looked for.", PLACES, default=PLACES)
    refresh_token_param_name: str | None = text("Header, argument or field that holds a refresh token.")
    refresh_token_param_type: list[str] = choices("Where a refresh token is looked for.", PLACES, default=PLACES)
    id_token_param_name: str | None = text("Header, argument or field that holds an id token.")
    id_token_param_type: list[str] = choices("Where an id token is looked for.", PLACES, default=PLACES)
    hide_credentials: bool = flag("Removes what authenticated the client before the request goes upstream.")
    run_on_preflight: bool = flag("Asks for authentication on OPTIONS requests as well.", default=True)
    anonymous: str | None = text("Id or username of the Consumer to take a client for that cannot be authenticated.")
    jwt_session_cookie: str | None = text("Cookie whose value must be the token's `jwt_session_claim`.")
    jwt_session_claim: str = text("Claim that cookie is compared with.", default="sid")
    proof_of_possession_mtls: str = text(
        "Which tokens must be bound to the client's certificate; `optional` asks those that say so.",
        default="off",
        one_of=("off", "optional", "strict"),
    )
    proof_of_possession_dpop: str = text(
        "Which tokens need a DPoP proof; not supported.", default="off", one_of=("off", "optional", "strict")
    )
    proof_of_possession_auth_methods_validation: bool = flag(
        "Refuses methods of authentication that no proof of possession goes with.", default=True
    )
    dpop_proof_lifetime: float = seconds("How long a DPoP proof is good for.", default=300)
    dpop_use_nonce: bool = flag("Asks for a nonce in DPoP proofs.")

    scopes: list[str] = texts("Scopes asked for at the provider.", default=("openid",), is_referenceable=True)
    audience: list[str] | None = texts("Audiences asked for at the provider.")
    token_post_args_names: list[str] | None = texts("Names of arguments sent to the token endpoint.")
    token_post_args_values: list[str] | None = texts("Their values, in the same order.")
    token_post_args_client: list[str] | None = texts("Arguments of the client's that are passed to the token endpoint.")
    token_headers_names: list[str] | None = texts("Names of headers sent to the token endpoint.")
    token_headers_values: list[str] | None = texts("Their values, in the same order.")
    token_headers_client: list[str] | None = texts("Headers of the client's that are passed to the token endpoint.")
    token_headers_replay: list[str] | None = texts("Headers of the token endpoint's answer that the client gets.")
    token_headers_prefix: str | None = text("Put before the names of these.")
    token_headers_grants: list[str] | None = choices(
        "Grants after which the client gets them; all when unset.",
        ("authorization_code", "client_credentials", "password", "refresh_token"),
    )

    introspect_jwt_tokens: bool = flag("Asks the introspection endpoint about signed tokens, too.")
    introspection_check_active: bool = flag(
        "Refuses tokens of which the endpoint does not say that they are active.", default=True
    )
    introspection_accept: str = text(
        "In which form the introspection endpoint is to answer.",
        default="application/json",
        one_of=("application/json", "application/jwt", "application/token-introspection+jwt"),
    )
    introspection_hint: str = text("What the endpoint is told that the token is.", default="access_token")
    introspection_token_param_name: str = text("Argument the token is sent in.", default="token")
    introspection_headers_names: list[str] | None = texts("Names of headers sent to the introspection endpoint.")
    introspection_headers_values: list[str] | None = texts(
        "Their values, in the same order.", is_referenceable=True, is_secret=True
    )
    introspection_headers_client: list[str] | None = texts("Headers of the client's that are passed to it.")
    introspection_post_args_names: list[str] | None = texts("Names of arguments sent to the introspection endpoint.")
    introspection_post_args_values: list[str] | None = texts("Their values, in the same order.")
    introspection_post_args_client: list[str] | None = texts("Arguments of the client's that are passed to it.")
    introspection_post_args_client_headers: list[str] | None = texts("Headers of the client's that are passed as arguments.")
    revocation_token_param_name: str = text("Argument a token to give back is sent in.", default="token")

    search_user_info: bool = flag("Looks for claims in what the userinfo endpoint says, too.")
    userinfo_accept: str = text(
        "In which form the userinfo endpoint is to answer.",
        default="application/json",
        one_of=("application/json", "application/jwt"),
    )
    userinfo_headers_names: list[str] | None = texts("Names of headers sent to the userinfo endpoint.")
    userinfo_headers_values: list[str] | None = texts("Their values, in the same order.")
    userinfo_headers_client: list[str] | None = texts("Headers of the client's that are passed to it.")
    userinfo_query_args_names: list[str] | None = texts("Names of arguments sent to the userinfo endpoint.")
    userinfo_query_args_values: list[str] | None = texts("Their values, in the same order.")
    userinfo_query_args_client: list[str] | None = texts("Arguments of the client's that are passed to it.")
