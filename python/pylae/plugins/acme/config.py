# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for acme?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from pylae.schema import Check, Pattern, conditional, custom, deprecated_shorthand
from pylae.sdk import Record, field, kinds
from pylae.sdk.redis_config import Redis

RESERVED_WORDS: Final = ("kong_acme", "renew_config")


def _judge_namespace(namespace: str) -> str | None:
    """Keys of our own begin with a word that no namespace may begin with."""
    for word in RESERVED_WORDS:
        if namespace.startswith(word):
            return f"namespace can't be prefixed with reserved word: {word}"
    return None


def _judge_storage(row: Mapping[str, Any]) -> str | None:
    """A node without a database keeps nothing there."""
    return '"kong" storage can\'t be used with dbless mode' if row["config.storage"] == "kong" else None


class AccountKey(Record):
    """Key the account is registered with, taken from the keys of this node."""

    key_id: str = field(kinds.string(), required=True, doc="Name (`kid`) of the account's key.")
    key_set: str | None = field(kinds.string(), doc="Name of the Key Set the account's key is in.")


class Shm(Record):
    """Keeps everything in this node's memory."""

    shm_name: str = field(kinds.string(), default="kong", doc="Name of the shared memory zone.")


class Kong(Record):
    """Keeps everything in the database; it has no settings."""


class ExtraOptions(Record):
    """Settings of Redis that only this plugin has."""

    namespace: str = field(
        kinds.string(len_min=0, rule=_judge_namespace), required=True, default="", doc="Prefix of every Redis key written."
    )
    scan_count: float = field(kinds.number(), default=10, unit="keys", doc="Keys asked for in one `SCAN`.")


class StorageRedis(Redis):
    """Keeps everything in Redis."""

    shorthands = (
        deprecated_shorthand("auth", kinds.string(len_min=0), "password", doc="Old name of `password`."),
        deprecated_shorthand("ssl_server_name", kinds.string(), "server_name", doc="Old name of `server_name`."),
        deprecated_shorthand(
            "namespace", kinds.string(len_min=0), "extra_options.namespace", doc="Old name of `extra_options.namespace`."
        ),
        deprecated_shorthand(
            "scan_count", kinds.integer(), "extra_options.scan_count", doc="Old name of `extra_options.scan_count`."
        ),
    )

    extra_options: ExtraOptions = field(
        kinds.record(ExtraOptions), required=True, doc="Settings of Redis that only this plugin has."
    )


class Consul(Record):
    """Keeps everything in Consul's key-value store."""

    https: bool = field(kinds.boolean(), default=False, doc="Speaks HTTPS to Consul.")
    host: str | None = field(kinds.string(rule="host"), doc="Name or address of the Consul server.")
    port: int | None = field(kinds.integer(between=(0, 65_535)), doc="Port of the Consul server.")
    kv_path: str | None = field(kinds.string(), doc="Path in the key-value store under which everything is kept.")
    timeout: float | None = field(kinds.number(), unit="milliseconds", doc="How long one request to Consul may take.")
    token: str | None = field(kinds.string(), referenceable=True, secret=True, encrypted=False, doc="Token Consul is asked with.")


class Vault(Record):
    """Keeps everything in HashiCorp Vault."""

    https: bool = field(kinds.boolean(), default=False, doc="Speaks HTTPS to Vault.")
    host: str | None = field(kinds.string(rule="host"), doc="Name or address of the Vault server.")
    port: int | None = field(kinds.integer(between=(0, 65_535)), doc="Port of the Vault server.")
    kv_path: str | None = field(kinds.string(), doc="Path in the key-value store under which everything is kept.")
    timeout: float | None = field(kinds.number(), unit="milliseconds", doc="How long one request to Vault may take.")
    token: str | None = field(kinds.string(), referenceable=True, secret=True, encrypted=False, doc="Token Vault is asked with.")
    tls_verify: bool = field(kinds.boolean(), default=True, doc="Verifies the Vault server's certificate.")
    tls_server_name: str | None = field(kinds.string(), doc="Name the Vault server's certificate must carry.")
    auth_method: str = field(
        kinds.string(one_of=("token", "kubernetes")), default="token", doc="How the node proves to Vault who it is."
    )
    auth_path: str | None = field(kinds.string(), doc="Path of Vault's Kubernetes login.")
    auth_role: str | None = field(kinds.string(), doc="Role to log in to Vault as, with `auth_method` = `kubernetes`.")
    jwt_path: str | None = field(kinds.string(), doc="File with the Kubernetes service account's token.")


class StorageConfig(Record):
    """Settings of each kind of storage; only the chosen one's are used."""

    shm: Shm = field(kinds.record(Shm), required=True, doc="Keeps everything in this node's memory.")
    kong: Kong = field(kinds.record(Kong), required=True, doc="Keeps everything in the database; it has no settings.")
    redis: StorageRedis = field(kinds.record(StorageRedis), required=True, doc="Keeps everything in Redis.")
    consul: Consul = field(kinds.record(Consul), required=True, doc="Keeps everything in Consul's key-value store.")
    vault: Vault = field(kinds.record(Vault), required=True, doc="Keeps everything in HashiCorp Vault.")


class Config(Record):
    """What an administrator may set."""

    plugin_checks: ClassVar[Sequence[Check]] = (
        conditional(
            "config.api_uri",
            {"one_of": ("https://acme-v02.api.letsencrypt.org", "https://acme-staging-v02.api.letsencrypt.org")},
            "config.tos_accepted",
            {"eq": True},
            then_error="terms of service must be accepted, see https://letsencrypt.org/repository/",
        ),
        conditional("config.storage", {"eq": "redis"}, "config.storage_config.redis.host", {"required": True}),
        conditional("config.storage", {"eq": "redis"}, "config.storage_config.redis.port", {"required": True}),
    )

    account_email: str = field(
        kinds.string(match=Pattern("%w*%p*@+%w*%.?%w*", r"[A-Za-z0-9]*[!-/:-@\[-`{-~]*@+[A-Za-z0-9]*\.?[A-Za-z0-9]*")),
        required=True,
        referenceable=True,
        secret=True,
        doc="Address the authority writes to about the account.",
    )
    account_key: AccountKey | None = field(
        kinds.record(AccountKey), required=False, doc="Key the account is registered with, taken from the keys of this node."
    )
    api_uri: str = field(
        kinds.string(rule="url"),
        default="https://acme-v02.api.letsencrypt.org/directory",
        doc="Address of the authority's directory.",
    )
    tos_accepted: bool = field(kinds.boolean(), default=False, doc="Accepts the authority's terms of service.")
    eab_kid: str | None = field(
        kinds.string(), referenceable=True, secret=True, doc="Key id for binding the account to one outside of ACME."
    )
    eab_hmac_key: str | None = field(
        kinds.string(),
        referenceable=True,
        secret=True,
        doc="HMAC key, in base64url, for binding the account to one outside of ACME.",
    )
    cert_type: str = field(kinds.string(one_of=("rsa", "ecc")), default="rsa", doc="Kind of key a certificate is made for.")
    rsa_key_size: float = field(kinds.number(one_of=(2048, 3072, 4096)), default=4096, unit="bits", doc="Size of an RSA key.")
    renew_threshold_days: float = field(
        kinds.number(), default=14, unit="days", doc="How long before its end a certificate is renewed."
    )
    domains: list[str] | None = field(
        kinds.array(
            kinds.string(
                match_all=[(Pattern("^[^*]*%*?[^*]*$", r"^[^*]*\*?[^*]*$"), "invalid wildcard: must have at most one wildcard")],
                match_any=(
                    (
                        Pattern("^%*%.", r"^\*\."),
                        Pattern("%.%*$", r"\.\*$"),
                        "^[^*]*$",
                    ),
                    "invalid wildcard: must be placed at leftmost or rightmost label",
                ),
                rule="route_host",
            )
        ),
        doc="Names certificates are made for; one leading or trailing `*` stands for any label.",
    )
    allow_any_domain: bool = field(
        kinds.boolean(), default=False, doc="Makes certificates for every name a client asks for, whatever `domains` says."
    )
    fail_backoff_minutes: float = field(
        kinds.number(), default=5, unit="minutes", doc="How long a name is left alone after a failure."
    )
    storage: str = field(
        kinds.string(one_of=("kong", "shm", "redis", "consul", "vault")),
        default="shm",
        doc="Where certificates, keys and challenges are kept.",
    )
    storage_config: StorageConfig = field(
        kinds.record(StorageConfig), required=True, doc="Settings of each kind of storage; only the chosen one's are used."
    )
    preferred_chain: str | None = field(
        kinds.string(), doc="Issuer's common name of the chain to take when the authority offers several."
    )
    enable_ipv4_common_name: bool = field(
        kinds.boolean(), default=True, doc="Makes certificates for names that are IPv4 addresses as well."
    )


class ConfigWithoutDatabase(Config):
    """The same without a storage in the database."""

    plugin_checks = (*Config.plugin_checks, custom("config.storage", rule=_judge_storage))
