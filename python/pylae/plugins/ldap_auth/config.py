# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for ldap-auth?"""

from __future__ import annotations

from pylae.schema import conditional
from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    checks = (
        conditional(
            "ldaps",
            {"eq": True},
            "start_tls",
            {"eq": False},
            then_error="'ldaps' and 'start_tls' cannot be enabled simultaneously",
        ),
    )

    ldap_host: str = field(kinds.string(rule="host"), required=True, doc="Name or address of the LDAP server.")
    ldap_port: int = field(kinds.integer(between=(0, 65_535)), required=True, default=389, doc="Port of the LDAP server.")
    ldaps: bool = field(kinds.boolean(), required=True, default=False, doc="Speaks TLS to the LDAP server from the first byte.")
    start_tls: bool = field(kinds.boolean(), required=True, default=False, doc="Upgrades the connection to TLS with StartTLS.")
    verify_ldap_host: bool = field(kinds.boolean(), required=True, default=False, doc="Verifies the LDAP server's certificate.")
    base_dn: str = field(kinds.string(), required=True, doc="Entry of the directory below which users are.")
    attribute: str = field(kinds.string(), required=True, doc="Attribute that holds the username in a user's distinguished name.")
    cache_ttl: float = field(
        kinds.number(), required=True, default=60, unit="seconds", doc="How long the LDAP server's answer is remembered."
    )
    hide_credentials: bool = field(
        kinds.boolean(), required=True, default=False, doc="Removes the credentials before the request goes upstream."
    )
    timeout: float = field(
        kinds.number(), default=10_000, unit="milliseconds", doc="How long connecting, sending and receiving may each take."
    )
    keepalive: float = field(
        kinds.number(), default=60_000, unit="milliseconds", doc="How long an idle connection is kept for the next request."
    )
    anonymous: str | None = field(
        kinds.string(), doc="Id or username of the Consumer to take a client for that cannot be authenticated."
    )
    header_type: str = field(kinds.string(), default="ldap", doc="Scheme clients write before their credentials.")
    realm: str | None = field(kinds.string(), doc="The protection space named in `WWW-Authenticate`.")
