# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for ldap-auth-advanced?"""

from __future__ import annotations

from pylae.schema import conditional
from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set; names and defaults as Kong Enterprise documents them."""

    checks = (
        conditional(
            "ldaps",
            {"eq": True},
            "start_tls",
            {"eq": False},
            then_error="'ldaps' and 'start_tls' cannot be enabled simultaneously",
        ),
    )

    ldap_host: str = field(kinds.string(), required=True, doc="Name or address of the LDAP server.")
    ldap_password: str | None = field(
        kinds.string(), referenceable=True, secret=True, doc="Password of the entry that looks users up."
    )
    ldap_port: int = field(kinds.integer(between=(0, 65_535)), default=389, doc="Port of the LDAP server.")
    bind_dn: str | None = field(
        kinds.string(),
        referenceable=True,
        doc="Name of the entry that looks users up; without it users bind by the name their own username makes.",
    )
    ldaps: bool = field(kinds.boolean(), required=True, default=False, doc="Speaks TLS to the LDAP server from the first byte.")
    start_tls: bool = field(kinds.boolean(), required=True, default=False, doc="Upgrades the connection to TLS with StartTLS.")
    verify_ldap_host: bool = field(
        kinds.boolean(),
        required=True,
        default=False,
        doc="Asks for a certificate that `lua_ssl_trusted_certificate` vouches for and that names the host.",
    )
    base_dn: str = field(kinds.string(), required=True, doc="Entry of the directory below which users are looked for.")
    attribute: str = field(kinds.string(), required=True, doc="Attribute of a user's entry that holds the username.")
    cache_ttl: float = field(
        kinds.number(), required=True, default=60, unit="seconds", doc="How long the LDAP server's answer is remembered."
    )
    hide_credentials: bool = field(
        kinds.boolean(), required=True, default=False, doc="Removes the credentials before the request goes upstream."
    )
    timeout: float = field(
        kinds.number(), default=10_000, unit="milliseconds", doc="How long connecting and each operation may take."
    )
    keepalive: float = field(
        kinds.number(), default=60_000, unit="milliseconds", doc="How long an idle connection is kept for the next request."
    )
    anonymous: str | None = field(
        kinds.string(len_min=0),
        default="",
        doc="Id or username of the Consumer to take a client for that cannot be authenticated.",
    )
    header_type: str = field(kinds.string(), default="ldap", doc="Scheme clients write before their credentials.")
    consumer_optional: bool = field(
        kinds.boolean(), default=False, doc="Looks for no Consumer; every user of the directory may pass."
    )
    consumer_by: list[str] = field(
        kinds.array(kinds.string(one_of=("username", "custom_id"))),
        default=["username", "custom_id"],
        doc="Fields of a Consumer that hold the username, in the order they are tried.",
    )
    group_base_dn: str | None = field(
        kinds.string(), doc="Entry right below which groups are; those elsewhere count for nothing. As `base_dn` when unset."
    )
    group_name_attribute: str | None = field(
        kinds.string(), doc="Attribute that holds a group's name. As `attribute` when unset."
    )
    group_member_attribute: str = field(
        kinds.string(),
        default="memberOf",
        doc="Attribute that joins users and groups: of the user's entry, else of the groups' entries.",
    )
    log_search_results: bool = field(
        kinds.boolean(), default=False, doc="Writes what searches find to `error.log`; not for production."
    )
    groups_required: list[str] | None = field(
        kinds.array(kinds.string()),
        doc="Groups one of which a user must be in; all of those that one text names with spaces between.",
    )
    realm: str | None = field(kinds.string(), doc="The protection space named in `WWW-Authenticate`.")
