# SPDX-License-Identifier: Apache-2.0
"""What must a token say, and whom does it name?"""

from __future__ import annotations

from typing import Any

from pylae.plugins.openid_connect.fields.credentials import Credentials
from pylae.plugins.openid_connect.fields.shapes import choices, flag, seconds, text, texts
from pylae.sdk import field, kinds


def _claim(what: str, *default: str) -> Any:
    return texts(f"Claim that holds {what}; several names lead into nested objects.", default=default or None)


def _required(what: str) -> Any:
    return texts(f"{what} of which a client needs one; an entry with spaces asks for all it names.")


class Claims(Credentials):
    """Verification of tokens, and Consumers found by them."""

    verify_claims: bool = flag("Verifies the standard claims of tokens.", default=True)
    verify_signature: bool = flag("Verifies the signature of tokens.", default=True)
    verify_nonce: bool = flag("Verifies the nonce of a login.", default=True)
    verify_parameters: bool = flag("Compares this configuration with what the provider says that it supports.")
    ignore_signature: list[str] = choices(
        "Grants whose tokens are believed without a look at their signature.",
        ("authorization_code", "client_credentials", "introspection", "password", "refresh_token", "session", "userinfo"),
        default=(),
    )
    enable_hs_signatures: bool = flag("Accepts signatures made with the client's secret (HS256 and its like).")
    leeway: float = seconds("How far the provider's clock may be from the gateway's.", default=0)
    max_age: float | None = seconds("How long ago the user may have logged in (`auth_time`).")
    domains: list[str] | None = texts("Values the claim `hd` may have.")
    claims_forbidden: list[str] | None = texts("Claims no token may have.")
    resolve_distributed_claims: bool = flag("Follows claims that stand elsewhere; not supported.")

    scopes_claim: list[str] = _claim("the scopes", "scope")
    scopes_required: list[str] | None = _required("Scopes")
    audience_claim: list[str] = _claim("the audience", "aud")
    audience_required: list[str] | None = _required("Audiences")
    roles_claim: list[str] = _claim("the roles", "roles")
    roles_required: list[str] | None = _required("Roles")
    groups_claim: list[str] = _claim("the groups", "groups")
    groups_required: list[str] | None = _required("Groups")
    authenticated_groups_claim: list[str] | None = _claim("the groups that `acl` and others go by")

    consumer_claim: list[str] | None = _claim("what names the Consumer")
    consumer_claims: list[list[str]] | None = field(
        kinds.array(kinds.array(kinds.string(), len_min=1)),
        doc="Claims that may name the Consumer, each the way to one; the first that is there counts.",
    )
    consumer_by: list[str] = choices(
        "Fields of a Consumer that the claim is compared with.",
        ("custom_id", "id", "username"),
        default=("custom_id", "username"),
    )
    consumer_optional: bool = flag("Lets clients pass for whom there is no Consumer.")
    by_username_ignore_case: bool = flag("Compares usernames whatever their case; not supported.")
    consumer_groups_claim: list[str] | None = _claim("Consumer groups; not supported")
    consumer_groups_optional: bool = flag("Lets clients pass for whom there is no Consumer group.")
    credential_claim: list[str] = _claim("what the client is called where no Consumer stands for it", "sub")

    unauthorized_error_message: str = text("What a client is told that is not authenticated.", default="Unauthorized")
    forbidden_error_message: str = text("What a client is told that lacks something required.", default="Forbidden")
    unauthorized_destroy_session: bool = flag("Ends the session of a client that is not authenticated.", default=True)
    forbidden_destroy_session: bool = flag("Ends the session of a client that lacks something required.", default=True)
    display_errors: bool = flag("Tells a refused client why.")
    expose_error_code: bool = flag("Names the error of RFC 6750 in `WWW-Authenticate`.", default=True)
