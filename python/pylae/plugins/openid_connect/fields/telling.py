# SPDX-License-Identifier: Apache-2.0
"""What are the upstream and the client told of the token?"""

from __future__ import annotations

from typing import Any

from pylae.plugins.openid_connect.fields.claims import Claims
from pylae.plugins.openid_connect.fields.shapes import header, texts
from pylae.sdk import Record, field, kinds


class ClaimHeader(Record):
    """A claim and the header that carries it."""

    header: str = field(kinds.string(rule="header_name"), required=True, doc="Name of the header.")
    path: list[str] = field(kinds.array(kinds.string(), len_min=1), required=True, doc="Way to the claim, name by name.")


def _headers(doc: str) -> Any:
    return field(kinds.array(kinds.record(ClaimHeader)), doc=doc)


class Telling(Claims):
    """Headers upstream and downstream."""

    upstream_headers: list[ClaimHeader] | None = _headers("Headers the upstream gets, and the claims in them.")
    upstream_headers_claims: list[str] | None = texts("Claims the upstream gets in headers.")
    upstream_headers_names: list[str] | None = texts("Names of these headers, in the same order.")
    upstream_access_token_header: str | None = header(
        "Header in which the upstream gets the access token.", default="authorization:bearer"
    )
    upstream_access_token_jwk_header: str | None = header("Header in which the upstream gets the key it was verified with.")
    upstream_id_token_header: str | None = header("Header in which the upstream gets the id token.")
    upstream_id_token_jwk_header: str | None = header("Header in which the upstream gets the key of the id token.")
    upstream_refresh_token_header: str | None = header("Header in which the upstream gets the refresh token.")
    upstream_introspection_header: str | None = header("Header in which the upstream gets the answer of an introspection.")
    upstream_introspection_jwt_header: str | None = header("Header in which the upstream gets that answer as it was signed.")
    upstream_user_info_header: str | None = header("Header in which the upstream gets what userinfo says.")
    upstream_user_info_jwt_header: str | None = header("Header in which the upstream gets that as it was signed.")
    upstream_session_id_header: str | None = header("Header in which the upstream gets the id of the session.")

    downstream_headers: list[ClaimHeader] | None = _headers("Headers the client gets, and the claims in them.")
    downstream_headers_claims: list[str] | None = texts("Claims the client gets in headers.")
    downstream_headers_names: list[str] | None = texts("Names of these headers, in the same order.")
    downstream_access_token_header: str | None = header("Header in which the client gets the access token.")
    downstream_access_token_jwk_header: str | None = header("Header in which the client gets the key it was verified with.")
    downstream_id_token_header: str | None = header("Header in which the client gets the id token.")
    downstream_id_token_jwk_header: str | None = header("Header in which the client gets the key of the id token.")
    downstream_refresh_token_header: str | None = header("Header in which the client gets the refresh token.")
    downstream_introspection_header: str | None = header("Header in which the client gets the answer of an introspection.")
    downstream_introspection_jwt_header: str | None = header("Header in which the client gets that answer as it was signed.")
    downstream_user_info_header: str | None = header("Header in which the client gets what userinfo says.")
    downstream_user_info_jwt_header: str | None = header("Header in which the client gets that as it was signed.")
    downstream_session_id_header: str | None = header("Header in which the client gets the id of the session.")
