# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for mtls-auth?"""

from __future__ import annotations

from pylae.schema import mutually_required
from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    plugin_checks = (
        mutually_required("config.http_proxy_host", "config.http_proxy_port"),
        mutually_required("config.https_proxy_host", "config.https_proxy_port"),
    )

    anonymous: str | None = field(
        kinds.string(), doc="Id or username of the Consumer to take a client for that cannot be authenticated."
    )
    consumer_by: list[str] | None = field(
        kinds.array(kinds.string(one_of=("username", "custom_id"))),
        default=["username", "custom_id"],
        doc="Fields of a Consumer that are compared with the names in the certificate; none switches that off.",
    )
    ca_certificates: list[str] = field(
        kinds.array(kinds.string(uuid=True), len_min=1),
        required=True,
        doc="Ids of the `ca_certificates` that are trusted to say who a client is.",
    )
    cache_ttl: float = field(
        kinds.number(gt=0),
        required=True,
        default=60,
        unit="seconds",
        doc="How long a certificate is known before it is verified again.",
    )
    skip_consumer_lookup: bool = field(
        kinds.boolean(), required=True, default=False, doc="Lets every trusted certificate pass, without a Consumer."
    )
    allow_partial_chain: bool = field(
        kinds.boolean(),
        required=True,
        default=False,
        doc="Takes an intermediate authority of `ca_certificates` for a root: whoever it vouches for is trusted.",
    )
    authenticated_group_by: str | None = field(
        kinds.string(one_of=("CN", "DN")),
        default="CN",
        doc="What of the certificate's subject `acl` compares with its groups when no Consumer is looked up.",
    )
    revocation_check_mode: str | None = field(
        kinds.string(one_of=("SKIP", "IGNORE_CA_ERROR", "STRICT")),
        default="IGNORE_CA_ERROR",
        doc="Whether the authority is asked if it revoked the certificate, and what if it does not answer.",
    )
    http_timeout: float | None = field(
        kinds.number(gt=0),
        default=30000,
        unit="milliseconds",
        doc="How long an OCSP responder or a CRL's server may take to answer.",
    )
    cert_cache_ttl: float | None = field(
        kinds.number(gt=0),
        default=60000,
        unit="milliseconds",
        doc="How long the answer is kept whether a certificate was revoked.",
    )
    send_ca_dn: bool = field(
        kinds.boolean(),
        required=True,
        default=False,
        doc="Tells clients the names of the trusted authorities, so that they can choose among their certificates.",
    )
    http_proxy_host: str | None = field(
        kinds.string(rule="host"), doc="Host of the proxy for OCSP responders and CRLs under http."
    )
    http_proxy_port: int | None = field(kinds.integer(between=(0, 65535)), doc="Its port.")
    https_proxy_host: str | None = field(kinds.string(rule="host"), doc="Host of the proxy for those under https.")
    https_proxy_port: int | None = field(kinds.integer(between=(0, 65535)), doc="Its port.")
    ssl_verify: bool = field(
        kinds.boolean(),
        required=True,
        default=True,
        doc="Verifies the certificates of OCSP responders and CRL servers under https.",
    )
    default_consumer: str | None = field(
        kinds.string(), doc="Id or username of the Consumer for a trusted certificate that stands for no other."
    )
