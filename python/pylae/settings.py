# SPDX-License-Identifier: Apache-2.0
"""What was this gateway told to be, by file, environment and command line?

Precedence, lowest first: built-in default, file, `KONG_<NAME>`, `PYLAE_<NAME>`, command line. An empty value counts
as not given. A name in a file, or of a variable that begins with `PYLAE_`, that is not in the table is an error, because
it is a misspelling. Of variables that begin with `KONG_` only what looks like one is told: other programs have such
variables too. Two names of one property share a value: nginx's own name (`nginx_main_user`) wins over the other
(`nginx_user`) when both are given in one place.

A value, or an item of a list, may be a reference to a vault. It is resolved by each process that loads the settings,
and kept beside the secret: what is written or shown is the reference.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pylae.errors import SettingsError
from pylae.hiding import MASK
from pylae.pem import is_file, pem_of
from pylae.settings_table import DYNAMIC_PREFIXES, SETTINGS, Setting
from pylae.vaults import InvalidReference, Vaults, enabled_kinds, is_reference
from pylae.vaults import parse as parse_reference
from pylae.vaults.vaults import variable_of

DEFAULT_FILES: Final = ("/etc/pylae/pylae.conf", "/etc/pylae.conf", "/etc/kong/kong.conf", "/etc/kong.conf")
SYSTEM_PREFIX: Final = "/usr/local/pylae"
ENVIRONMENT_FILE: Final = ".kong_env"
DRAIN_TIMEOUT_S: Final = 3600.0
SHORTEST_TOKEN: Final = 8

NEAR_ENOUGH_TO_TELL: Final = 0.9
"""How like a setting's name that of a variable must be to be taken for a misspelling; 1 is equal."""
_OF_A_SERVICE: Final = re.compile(r"\w+_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
"""Variables that Kubernetes and Docker make from the names of services, such as one named `pylae-admin`."""

Purpose = Literal["proxy", "stream", "admin", "admin_gui", "status", "cluster"]
PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)

HTTP_FLAGS: Final = ("ssl", "http2", "proxy_protocol", "deferred", "bind", "reuseport", "backlog=%d+", "ipv6only=on")
STREAM_FLAGS: Final = ("udp", "ssl", "proxy_protocol", "bind", "reuseport", "backlog=%d+", "ipv6only=on")
_FLAG: Final = re.compile(
    r"ssl|http2|proxy_protocol|deferred|bind|reuseport|backlog=[0-9]+|ipv6only=(on|off)"
    r"|so_keepalive=(on|off|[0-9a-z]*:[0-9a-z]*:[0-9]*)\Z"
)

SERVER_TOKENS: Final = ("Server", "Via")
LATENCY_TOKENS: Final = (
    "X-Kong-Proxy-Latency",
    "X-Kong-Response-Latency",
    "X-Kong-Admin-Latency",
    "X-Kong-Upstream-Latency",
)
HEADER_TOKENS: Final = (*SERVER_TOKENS, *LATENCY_TOKENS, "X-Kong-Upstream-Status", "X-Kong-Request-Id")
UPSTREAM_HEADER_TOKENS: Final = ("X-Kong-Request-Id",)
DNS_TYPES: Final = ("LAST", "A", "AAAA", "CNAME", "SRV")
RESOLVER_TYPES: Final = ("A", "AAAA", "SRV")
_DNS_TIMES: Final = (
    "dns_valid_ttl",
    "dns_stale_ttl",
    "dns_not_found_ttl",
    "dns_error_ttl",
    "resolver_valid_ttl",
    "resolver_stale_ttl",
    "resolver_error_ttl",
)

IN_EFFECT: Final = frozenset(
    {
        "lua_ssl_trusted_certificate",
        "admin_access_log",
        "admin_allow_remote_without_auth",
        "admin_auth_token",
        "admin_client_ca",
        "admin_error_log",
        "admin_gui_url",
        "admin_hosts",
        "admin_listen",
        "admin_ssl_cert",
        "admin_ssl_cert_key",
        "allow_debug_header",
        "anonymous_reports",
        "client_body_buffer_size",
        "database",
        "declarative_config",
        "declarative_config_string",
        "dns_cache_size",
        "dns_error_ttl",
        "dns_hostsfile",
        "dns_no_sync",
        "dns_not_found_ttl",
        "dns_order",
        "dns_resolv_conf",
        "dns_resolver",
        "dns_stale_ttl",
        "dns_valid_ttl",
        "error_default_type",
        "explain_headers",
        "explain_keep_count",
        "explain_keep_s",
        "explain_keep_size",
        "explain_sample_ratio",
        "headers",
        "headers_upstream",
        "log_level",
        "nginx_admin_client_max_body_size",
        "nginx_daemon",
        "nginx_events_worker_connections",
        "nginx_http_client_body_buffer_size",
        "nginx_http_client_body_timeout",
        "nginx_http_client_header_buffer_size",
        "nginx_http_client_header_timeout",
        "nginx_http_client_max_body_size",
        "nginx_http_keepalive_requests",
        "nginx_http_keepalive_timeout",
        "nginx_http_large_client_header_buffers",
        "nginx_http_send_timeout",
        "nginx_main_daemon",
        "nginx_main_user",
        "nginx_main_worker_processes",
        "nginx_main_worker_shutdown_timeout",
        "nginx_proxy_client_body_buffer_size",
        "nginx_proxy_client_max_body_size",
        "nginx_proxy_real_ip_header",
        "nginx_proxy_real_ip_recursive",
        "nginx_user",
        "nginx_worker_processes",
        "new_dns_client",
        "node_id",
        "plugin_path",
        "plugins",
        "port_maps",
        "prefix",
        "proxy_access_log",
        "proxy_error_log",
        "proxy_listen",
        "real_ip_header",
        "real_ip_recursive",
        "resolver_address",
        "resolver_error_ttl",
        "resolver_family",
        "resolver_hosts_file",
        "resolver_lru_cache_size",
        "resolver_stale_ttl",
        "resolver_valid_ttl",
        "router_flavor",
        "router_ranking",
        "ssl_cert",
        "ssl_cert_key",
        "status_access_log",
        "status_error_log",
        "status_listen",
        "status_ssl_cert",
        "status_ssl_cert_key",
        "trusted_ips",
        "upstream_keepalive_idle_timeout",
        "upstream_keepalive_max_requests",
        "upstream_keepalive_pool_size",
        "vault_env_prefix",
        "vaults",
        "vaults_check_interval",
        "worker_hang_timeout",
    }
)
"""The settings that change what the gateway does; the others are read and checked, and told about once at start."""

_FORMS: Final[dict[str, tuple[str, str]]] = {
    "nginx_worker_processes": (r"auto|[1-9][0-9]*", "auto, or a number above 0"),
    "nginx_events_worker_connections": (r"auto|[1-9][0-9]*", "auto, or a number above 0"),
    "nginx_http_keepalive_requests": (r"[0-9]+", "a number"),
    "nginx_http_large_client_header_buffers": (r"[1-9][0-9]*\s+[1-9][0-9]*[kKmM]?", "a number and a size: 4 8k"),
}
"""Texts that are more than text: how they must look, and how that is said."""

_DURATIONS: Final = (
    "nginx_http_client_body_timeout",
    "nginx_http_client_header_timeout",
    "nginx_http_keepalive_timeout",
    "nginx_http_send_timeout",
    "nginx_main_worker_shutdown_timeout",
)
_SIZES: Final = ("nginx_proxy_client_body_buffer_size", "nginx_proxy_client_max_body_size")

PARTLY_IN_EFFECT: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("ssl_cipher_suite", "ssl_ciphers", "ssl_prefer_server_ciphers", "ssl_protocols", "ssl_session_tickets"),
        "holds for the TLS of Admin API and Status API only",
    ),
}
"""Settings that do less than they say, and what they do."""

_TRUE_ANYWAY: Final[dict[str, tuple[Any, ...]]] = {
    "admin_gui_listen": (["off"],),
    "stream_listen": (["off"],),
}
"""Values of settings without effect that ask for what is the case anyway."""


@dataclass(frozen=True, slots=True)
class Listener:
    """An address to listen on."""

    address: str
    """A host name or an address; IPv6 without brackets."""
    port: int
    flags: tuple[str, ...] = ()
    """As they stand in the setting: `ssl`, `http2`, `backlog=16384` ..."""

    @property
    def is_tls(self) -> bool:
        """Whether the address speaks TLS."""
        return "ssl" in self.flags

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.address == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            return False

    def as_dict(self, purpose: Purpose) -> dict[str, Any]:
        """The listener as clients of `GET /` read it: every flag there could be, and whether it is set."""
        ip = f"[{self.address}]" if ":" in self.address else self.address
        given = {"backlog=%d+" if flag.startswith("backlog=") else flag for flag in self.flags}
        shown = {flag: flag in given for flag in (STREAM_FLAGS if purpose == "stream" else HTTP_FLAGS)}
        return {"ip": ip, "port": self.port, "listener": " ".join([f"{ip}:{self.port}", *self.flags]), **shown}

    def flag(self, name: str) -> str | None:
        """The value of a flag such as `backlog=16384`; empty for one without value, `None` when it is not there."""
        for flag in self.flags:
            key, _, value = flag.partition("=")
            if key == name:
                return value
        return None

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return " ".join((f"{host}:{self.port}", *self.flags))


def default_prefix() -> str:
    """The system's place when this user may write it, else one in the user's home."""
    place = Path(SYSTEM_PREFIX)
    probe = place
    while not probe.exists():
        probe = probe.parent
    if probe.is_dir() and os.access(probe, os.W_OK | os.X_OK):
        return str(place)
    return str(Path("~/.local/share/pylae").expanduser())


def parse_file(text: str) -> dict[str, tuple[str, int]]:
    """The names of a file in the syntax of `kong.conf`, each with its text and line.

    Raises:
        SettingsError: a line is not `name = value`.
    """
    found: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = re.split(r"(?<!\\)#", line, maxsplit=1)[0].replace("\\#", "#").strip()
        if not stripped:
            continue
        name, equals, value = stripped.partition("=")
        if not equals or not name.strip():
            raise SettingsError(f"line {number}: `{stripped}` is not `name = value`")
        found[name.strip()] = (value.strip(), number)
    return found


def parse_listeners(values: Iterable[str], name: str, flags: tuple[str, ...] = HTTP_FLAGS) -> list[Listener]:
    """The addresses of a listen setting; none for `off`.

    Raises:
        SettingsError: one is malformed.
    """
    texts = list(values)
    if texts == ["off"]:
        return []
    form = SettingsError(f"{name} must be of form: [off] | <ip>:<port> [{'] ['.join(flags)}], [... next entry ...]")
    listeners: list[Listener] = []
    for text in texts:
        address, *given = text.split()
        matched = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z._-]+)):([0-9]{1,5})", address)
        if matched is None or int(matched[3]) > 65535:
            raise form
        if not all(_FLAG.fullmatch(flag) or (flag == "udp" and "udp" in flags) for flag in given):
            raise form
        listeners.append(Listener(matched[1] or matched[2], int(matched[3]), tuple(given)))
    return listeners


def parse_size(text: str) -> int:
    """Bytes of a size such as `8k`, `10m`, `1g` or `0`.

    Raises:
        ValueError: it is not one.
    """
    matched = re.fullmatch(r"([0-9]+)([kKmMgG]?)", text.strip())
    if matched is None:
        raise ValueError(text)
    return int(matched[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[matched[2].lower()]


_DURATION_UNITS_S: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000, "y": 31536000, "": 1}


def parse_duration_s(text: str) -> float:
    """Seconds of a duration such as `60`, `1d`, `1h 30m` or `500ms`.

    Raises:
        ValueError: it is not one.
    """
    parts = re.findall(r"([0-9]+)(ms|[smhdwMy]?)\s*", text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != re.sub(r"\s", "", text):
        raise ValueError(text)
    return sum(int(number) * _DURATION_UNITS_S[unit] for number, unit in parts)


class Settings:
    """The settings of one node; each property of the table is an attribute.

    Texts, enumerations, sizes (`"8k"`), durations and nginx's booleans (`"on"`, `"off"`) are `str`, or `None` when
    there is no default; arrays are lists; booleans and numbers are what they say.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        directives: Mapping[str, str],
        given: Iterable[str],
        references: Mapping[str, str] | None = None,
        misspelt: Iterable[str] = (),
    ) -> None:
        self._values = dict(values)
        self.directives: dict[str, str] = dict(directives)
        """What was given under names of the user's choice: `nginx_http_gzip` and the like."""
        self.given: frozenset[str] = frozenset(given)
        """The names that file, environment or command line gave a value."""
        self.references: dict[str, str] = dict(references or {})
        """The texts of settings and directives that hold references."""
        self.misspelt: tuple[str, ...] = tuple(misspelt)
        """What to say about variables that have no effect and look like those of a setting, one line each."""

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("_values", {})
        if name in values:
            return values[name]
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"<settings of {self._values.get('prefix')}>"

    @classmethod
    def load(
        cls,
        conf_file: str | os.PathLike[str] | None = None,
        prefix: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, str] | None = None,
        *,
        resolves: bool = True,
        knows_variables: bool | None = None,
    ) -> Settings:
        """Reads every source and checks the whole.

        Args:
            conf_file: the file named by the user; else the first of `DEFAULT_FILES` that exists, if any.
            prefix: the prefix named by the user.
            environ: the process's own environment when not given.
            overrides: values of the command line, by name.
            resolves: whether references to vaults are resolved; else a setting that holds one has its default, and
                whether settings go together is not checked.
            knows_variables: whether an unknown variable that begins with `PYLAE_` is an error; as `resolves` if not given.

        Raises:
            SettingsError: all that is wrong, one line each.
        """
        texts: dict[str, str] = {}
        environ = os.environ if environ is None else environ
        path = _find_file(conf_file)
        if path is not None:
            _take(texts, _read_file(path))
        _take(texts, _from_environment(environ, "KONG_"))
        _take(texts, _from_environment(environ, "PYLAE_"))
        _take(texts, dict(overrides or {}))
        if prefix is not None:
            texts["prefix"] = os.fspath(prefix)
        unknown, misspelt = _unknown_variables(environ, texts)
        is_strict = resolves if knows_variables is None else knows_variables
        return cls._checked(texts, environ if resolves else None, unknown if is_strict else (), misspelt)

    @classmethod
    def from_prefix(cls, prefix: str | os.PathLike[str]) -> Settings:
        """The settings that the supervisor wrote; the environment is looked at for secrets only.

        Raises:
            SettingsError: there are none, or they are not readable.
        """
        path = Path(prefix) / ENVIRONMENT_FILE
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"`{path}` can't be read: {error.strerror}") from error
        texts = {name: _unescaped(value) for name, (value, _) in parse_file(text).items()}
        texts["prefix"] = os.fspath(prefix)
        return cls._checked(texts, os.environ, misspelt=_unknown_variables(os.environ, texts)[1])

    @classmethod
    def _checked(
        cls,
        texts: Mapping[str, str],
        environ: Mapping[str, str] | None,
        unknown: Iterable[str] = (),
        misspelt: Iterable[str] = (),
    ) -> Settings:
        texts = {name: text.strip() for name, text in texts.items()}
        given = {name for name, text in texts.items() if text != "" and name in SETTINGS}
        errors = list(unknown)
        values: dict[str, Any] = {}
        references = {name: text for name, text in texts.items() if _holds_reference(name, text)}
        texts, lists, secrets = _resolved(texts, references, environ, errors)
        for name, setting in SETTINGS.items():
            text = texts.get(name) or setting.default
            try:
                values[name] = lists.get(name) or (_default(setting) if text is None else _parse(setting, text))
            except SettingsError as error:
                errors.append(str(error))
                values[name] = _default(setting)
        for name, setting in SETTINGS.items():
            for other in setting.also_sets:
                if other in SETTINGS and other not in given:
                    values[other] = values[name]
                    if name in references:
                        references[other] = references[name]
        prefix = texts.get("prefix") or default_prefix()
        values["prefix"] = str(Path(prefix).expanduser().absolute())
        directives = {name: text for name, text in texts.items() if name not in SETTINGS and text != ""}
        settings = cls(values, directives, given, references, misspelt)
        if environ is not None or not references:
            errors += settings._contradictions()
        if errors:
            raise SettingsError(_without("\n".join(errors), secrets))
        return settings

    def listeners(self, purpose: Purpose) -> list[Listener]:
        """The addresses to listen on for a purpose, in the order of the setting."""
        flags = STREAM_FLAGS if purpose == "stream" else HTTP_FLAGS
        return parse_listeners(self._values[f"{purpose}_listen"], f"{purpose}_listen", flags)

    def size_bytes(self, name: str) -> int:
        """Bytes of a size property, or of a directive of the user's choice; 0 when it is unset."""
        text = self._values.get(name) or self.directives.get(name)
        return 0 if text is None else parse_size(text)

    def duration_s(self, name: str) -> float:
        """Seconds of a duration property, or of a directive of the user's choice; 0 when it is unset."""
        text = self._values.get(name) or self.directives.get(name)
        return 0 if text is None else parse_duration_s(text)

    @property
    def client_max_body_size_bytes(self) -> int:
        """Largest request body on the proxy; 0 for no limit."""
        name = "nginx_proxy_client_max_body_size"
        return self.size_bytes(name if name in self.directives else "nginx_http_client_max_body_size")

    @property
    def client_body_buffer_size_bytes(self) -> int:
        """Size up to which a request body is kept in memory."""
        name = "nginx_proxy_client_body_buffer_size"
        return self.size_bytes(name if name in self.directives else "nginx_http_client_body_buffer_size")

    @property
    def admin_url(self) -> str:
        """Where the Admin API is called from this machine: its first address without TLS, else its first."""
        listeners = sorted(self.listeners("admin"), key=lambda listener: listener.is_tls)
        if not listeners:
            return "http://localhost:8001"
        first = listeners[0]
        host = {"0.0.0.0": "localhost", "127.0.0.1": "localhost", "::": "localhost"}.get(first.address, first.address)
        return f"{'https' if first.is_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{first.port}"

    @property
    def worker_count(self) -> int:
        """The number of workers."""
        text = self._values["nginx_worker_processes"]
        return len(os.sched_getaffinity(0)) if text == "auto" else int(text)

    @property
    def is_daemon(self) -> bool:
        """Whether `start` leaves the gateway running in the background."""
        return bool(self._values["nginx_daemon"] == "on")

    @property
    def drain_timeout_s(self) -> float:
        """How long a worker that leaves may serve what is in flight."""
        return self.duration_s("nginx_main_worker_shutdown_timeout") or DRAIN_TIMEOUT_S

    @property
    def published_ports(self) -> dict[int, int]:
        """The port that the world sees, by the port that is listened on."""
        pairs = (text.split(":") for text in self._values["port_maps"])
        return {int(listened): int(published) for published, listened in pairs}

    @property
    def enabled_headers(self) -> frozenset[str]:
        """The gateway's own headers that go to clients, lower case."""
        return _header_names(self._values["headers"])

    @property
    def enabled_headers_upstream(self) -> frozenset[str]:
        """The gateway's own headers that go upstream, lower case."""
        return _header_names(self._values["headers_upstream"])

    def log_path(self, name: str) -> Path | None:
        """The file of a log property, absolute; `None` when the log is off."""
        text = self._values[name] or "off"
        return None if text == "off" else Path(self._values["prefix"]) / text.split()[0]

    def without_effect(self) -> list[str]:
        """The names that were given a value other than the default and change nothing yet, in the table's order."""
        names = [
            name
            for name, setting in SETTINGS.items()
            if name in self.given
            and name not in IN_EFFECT
            and self._values[name] != _default(setting)
            and self._values[name] not in _TRUE_ANYWAY.get(name, ())
        ]
        return names + [name for name in self.directives if name not in IN_EFFECT]

    def warnings(self) -> list[str]:
        """What whoever set these should know: which have no effect, or less than they say, or are not safe."""
        told = [
            f"the setting `{name}` {PARTLY_IN_EFFECT.get(name, 'has no effect in this version')}"
            for name in self.without_effect()
        ]
        told += self.misspelt
        listeners = self.listeners("admin")
        if self._values["admin_auth_token"]:
            told += [
                f"admin_listen {listener}: tokens of the Admin API cross the network unencrypted; hint: the flag `ssl`"
                for listener in listeners
                if not listener.is_tls and not listener.is_loopback
            ]
        if self._values["admin_client_ca"] and not self._values["admin_auth_token"]:
            told += [
                f"admin_listen {listener} speaks no TLS: whoever reaches it needs no client certificate"
                for listener in listeners
                if not listener.is_tls
            ]
        return told

    def as_dict(self, *, hide_secrets: bool = True) -> dict[str, Any]:
        """Every property and directive, as `GET /` shows them."""
        shown: dict[str, Any] = {**self._values, **self.directives}
        for name, text in self.references.items():
            shown[name] = _listed(text) if isinstance(self._values.get(name), list) else text
        if hide_secrets:
            for name, value in shown.items():
                if value and _is_secret(name):
                    shown[name] = MASK
        for purpose in PURPOSES:
            shown[f"{purpose}_listeners"] = [listener.as_dict(purpose) for listener in self.listeners(purpose)]
        return shown

    def write_env(self, path: str | os.PathLike[str]) -> None:
        """Writes what differs from the defaults, readable by this user only, in one step."""
        target = Path(path)
        lines = ["# Written by `pylae start`; read by the gateway's processes. Changes here do not last."]
        for name, value in self._values.items():
            if name not in self.references and (name == "prefix" or (name in self.given and value != _default(SETTINGS[name]))):
                lines.append(f"{name} = {_escaped(_text(value))}")
        lines += [f"{name} = {_escaped(value)}" for name, value in self.directives.items() if name not in self.references]
        lines += [
            f"{name} = {_escaped(text)}" for name, text in self.references.items() if name in self.given or name not in SETTINGS
        ]
        descriptor, temporary = tempfile.mkstemp(prefix=".kong_env.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _contradictions(self) -> list[str]:
        """What is wrong with the settings taken together."""
        errors: list[str] = []
        for purpose in PURPOSES:
            try:
                self.listeners(purpose)
            except SettingsError as error:
                errors.append(str(error))
        errors += self._certificate_errors()
        errors += self._entry_errors()
        errors += self._range_errors()
        errors += self._role_errors()
        if not errors:
            errors += self._exposure_errors()
        return errors

    def _certificate_errors(self) -> list[str]:
        errors: list[str] = []
        for scope in ("", "admin_", "admin_gui_", "status_"):
            certificates, keys = self._values[f"{scope}ssl_cert"], self._values[f"{scope}ssl_cert_key"]
            if keys and not certificates:
                errors.append(f"{scope}ssl_cert must be specified")
            elif certificates and not keys:
                errors.append(f"{scope}ssl_cert_key must be specified")
            elif len(certificates) != len(keys):
                errors.append(
                    f"{scope}ssl_cert was specified {len(certificates)} times while {scope}ssl_cert_key was specified "
                    f"{len(keys)} times"
                )
            for name, texts in ((f"{scope}ssl_cert", certificates), (f"{scope}ssl_cert_key", keys)):
                what = "certificate" if name.endswith("cert") else "key"
                # What a vault holds, or what may be a key that is not quite PEM, is not repeated.
                shown = "its value" if name in self.references or what == "key" else None
                errors += [f"{name}: failed loading {what} from {shown or text}" for text in texts if not _is_pem_or_file(text)]
        errors += [
            f"admin_client_ca: failed loading certificate from {text}"
            for text in self._values["admin_client_ca"]
            if not _is_pem_or_file(text)
        ]
        return errors

    def _entry_errors(self) -> list[str]:
        values = self._values
        errors: list[str] = []
        for text in values["trusted_ips"]:
            if text != "unix:" and not _is_network(text):
                errors.append(
                    "trusted_ips must be a comma separated list in the form of IPv4 or IPv6 address or CIDR block or "
                    f"'unix:', got '{text}'"
                )
        accepted = {name.lower() for name in (*HEADER_TOKENS, "server_tokens", "latency_tokens", "off")}
        errors += [f"headers: invalid entry '{text}'" for text in values["headers"] if text.lower() not in accepted]
        upstream = {name.lower() for name in (*UPSTREAM_HEADER_TOKENS, "off")}
        errors += [
            f"headers_upstream: invalid entry '{text}'" for text in values["headers_upstream"] if text.lower() not in upstream
        ]
        errors += [f"dns_order: invalid entry '{text}'" for text in values["dns_order"] if text.upper() not in DNS_TYPES]
        errors += [
            f"resolver_family: invalid entry '{text}'" for text in values["resolver_family"] if text.upper() not in RESOLVER_TYPES
        ]
        errors += [
            f"invalid port mapping (`port_maps`): {text}"
            for text in values["port_maps"]
            if re.fullmatch(r"[0-9]{1,5}:[0-9]{1,5}", text) is None
        ]
        for name in ("dns_resolver", "resolver_address"):
            errors += [
                f"{name} must be a comma separated list in the form of IPv4/6 or IPv4/6:port, got '{text}'"
                for text in values[name]
                if not _is_name_server(text)
            ]
        if values["node_id"] is not None and not _is_uuid(values["node_id"]):
            errors.append("node_id must be a valid UUID")
        errors += [
            f"{name} has an invalid value: '{values[name]}' ({meant})"
            for name, (form, meant) in _FORMS.items()
            if re.fullmatch(form, values[name]) is None
        ]
        try:
            enabled_kinds(values["vaults"])
        except SettingsError as error:
            errors.append(str(error))
        if "admin_auth_token" in self.given and not values["admin_auth_token"]:
            errors.append("admin_auth_token holds no token")
        if any(len(token) < SHORTEST_TOKEN for token in values["admin_auth_token"]):
            errors.append(f"admin_auth_token: a token has fewer than {SHORTEST_TOKEN} characters, and can be guessed")
        return errors + self._directive_errors()

    def _directive_errors(self) -> list[str]:
        """What is wrong with nginx's directives that have an effect."""
        errors: list[str] = []
        for names, kind, parse in ((_DURATIONS, "duration", parse_duration_s), (_SIZES, "size", parse_size)):
            for name in names:
                try:
                    parse(self.directives.get(name, "0"))
                except ValueError:
                    errors.append(f"{name} is not a {kind}: '{self.directives[name]}'")
        return errors

    def _range_errors(self) -> list[str]:
        values = self._values
        errors = [
            f"{name} must be an integer between 1 and 1000"
            for name in ("lua_max_req_headers", "lua_max_resp_headers", "lua_max_uri_args", "lua_max_post_args")
            if not (isinstance(values[name], int) and 1 <= values[name] <= 1000)
        ]
        for name in ("upstream_keepalive_pool_size", "upstream_keepalive_max_requests", "upstream_keepalive_idle_timeout"):
            if values[name] < 0:
                errors.append(f"{name} must be 0 or greater")
        errors += [f"{name} must be 0 or greater" for name in _DNS_TIMES if values[name] is not None and values[name] < 0]
        for name in ("dns_cache_size", "resolver_lru_cache_size"):
            if values[name] < 1:
                errors.append(f"{name} must be 1 or greater")
        for name in ("worker_state_update_frequency", "worker_hang_timeout", "vaults_check_interval", "explain_keep_s"):
            if values[name] <= 0:
                errors.append(f"{name} must be greater than 0")
        if not (isinstance(values["explain_keep_count"], int) and values["explain_keep_count"] >= 0):
            errors.append("explain_keep_count must be an integer, 0 or greater")
        errors += [
            f"{name} must be between 0 and 1"
            for name in ("tracing_sampling_rate", "explain_sample_ratio")
            if not 0 <= values[name] <= 1
        ]
        if values["cluster_data_plane_purge_delay"] < 60:
            errors.append("cluster_data_plane_purge_delay must be 60 or greater")
        if values["cluster_max_payload"] < 4194304:
            errors.append("cluster_max_payload must be 4194304 (4MB) or greater")
        return errors

    def _role_errors(self) -> list[str]:
        values = self._values
        role = values["role"]
        if role == "traditional":
            return ["cluster_dp_labels can only be used on a data plane"] if values["cluster_dp_labels"] else []
        errors: list[str] = []
        if role == "control_plane":
            errors += [
                f'{name} must be specified when role = "control_plane"'
                for name in ("admin_listen", "cluster_listen")
                if values[name] == ["off"]
            ]
            if values["database"] == "off":
                errors.append('in-memory storage can not be used when role = "control_plane"')
            if values["cluster_use_proxy"]:
                errors.append('cluster_use_proxy can not be used when role = "control_plane"')
            if values["cluster_dp_labels"]:
                errors.append('cluster_dp_labels can not be used when role = "control_plane"')
            if values["cluster_mtls"] == "pki" and values["cluster_ca_cert"] is None:
                errors.append('cluster_ca_cert must be specified when cluster_mtls = "pki"')
        else:
            if values["proxy_listen"] == ["off"]:
                errors.append('proxy_listen must be specified when role = "data_plane"')
            if values["database"] != "off":
                errors.append('only in-memory storage can be used when role = "data_plane"\nhint: set database = off')
        if values["cluster_cert"] is None or values["cluster_cert_key"] is None:
            errors.append("cluster certificate and key must be provided to use Hybrid mode")
        return errors

    def _exposure_errors(self) -> list[str]:
        if self._values["admin_allow_remote_without_auth"] or self._values["admin_auth_token"]:
            return []
        return [
            f"admin_listen {listener} can be reached from beyond this machine, and the Admin API asks for no "
            "authentication; hint: listen on 127.0.0.1, set admin_auth_token, or admin_client_ca where it speaks TLS, or "
            "admin_allow_remote_without_auth = on"
            for listener in self.listeners("admin")
            if not listener.is_loopback and not (listener.is_tls and self._values["admin_client_ca"])
        ]


def _find_file(named: str | os.PathLike[str] | None) -> Path | None:
    if named is not None:
        path = Path(named)
        if not path.is_file():
            raise SettingsError(f"no file at: {path}")
        return path
    for default in DEFAULT_FILES:
        if Path(default).is_file():
            return Path(default)
    return None


def _read_file(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"`{path}` can't be read: {error}") from error
    try:
        found = parse_file(text)
    except SettingsError as error:
        raise SettingsError(f"`{path}`, {error}") from error
    unknown = [
        f"`{path}`, line {line}: there is no setting `{name}`{_nearest(name)}"
        for name, (_, line) in found.items()
        if name not in SETTINGS and not _is_dynamic(name)
    ]
    if unknown:
        raise SettingsError("\n".join(unknown))
    is_written_by_us = path.name == ENVIRONMENT_FILE
    return {name: _unescaped(value) if is_written_by_us else value for name, (value, _) in found.items()}


def _nearest(name: str, start: str = "", cutoff: float = 0.6) -> str:
    near = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=cutoff)
    if not near:
        return ""
    return f"; hint: the nearest is `{start}{near[0].upper() if start else near[0]}`"


def _is_dynamic(name: str) -> bool:
    return any(name.startswith(prefix) and len(name) > len(prefix) for prefix in DYNAMIC_PREFIXES)


def _from_environment(environ: Mapping[str, str], start: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for variable, value in environ.items():
        if variable.startswith(start):
            name = variable[len(start) :].lower()
            if name in SETTINGS or _is_dynamic(name):
                found[name] = value
    return found


def _unknown_variables(environ: Mapping[str, str], texts: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What is wrong with the variables that begin with `PYLAE_`; what is to be told of those that begin with `KONG_`."""
    errors: list[str] = []
    told: list[str] = []
    secrets = {variable for text in texts.values() for variable in _secrets_of(text, texts.get("vault_env_prefix") or "")}
    secrets_start = variable_of("", texts.get("vault_env_prefix") or "")
    for variable in sorted(environ):
        start, separator, rest = variable.partition("_")
        name = rest.lower()
        if start not in ("PYLAE", "KONG") or not separator or name in SETTINGS or _is_dynamic(name):
            continue
        is_secret = variable in secrets or (secrets_start != "" and variable.startswith(secrets_start))
        if is_secret or _OF_A_SERVICE.fullmatch(variable):
            continue
        if start == "PYLAE":
            hint = _nearest(name, "PYLAE_") or "; hint: a variable that is no setting needs a name that begins otherwise"
            errors.append(f"the environment has {variable}, and there is no setting `{name}`{hint}")
        elif nearest := _nearest(name, "KONG_", NEAR_ENOUGH_TO_TELL):
            told.append(f"the environment has {variable}, which is no setting and has no effect{nearest}")
    return errors, told


def _secrets_of(text: str, env_prefix: str) -> Iterable[str]:
    """The variables that a setting refers to."""
    for item in _listed(text):
        if is_reference(item):
            try:
                reference = parse_reference(item)
            except InvalidReference:
                continue  # told where references are resolved
            yield variable_of(reference.resource, reference.options.get("prefix", env_prefix), reference.version)


def _take(texts: dict[str, str], source: Mapping[str, str]) -> None:
    """Lays one source over those before it; names of one property get one value."""
    given = {name: value for name, value in source.items() if value.strip() != ""}
    for name, setting in SETTINGS.items():
        partner = setting.alias_of
        if partner is None:
            continue
        if partner in given:
            given[name] = given[partner]
        elif name in given:
            given[partner] = given[name]
    for name, value in source.items():
        if value.strip() == "":
            texts.pop(name, None)
    texts.update(given)


def _holds_reference(name: str, text: str) -> bool:
    if name in ("vaults", "vault_env_prefix", "prefix"):
        return False  # must be known before a reference can be resolved
    setting = SETTINGS.get(name)
    return any(map(is_reference, _listed(text) if setting is not None and setting.type == "array" else (text,)))


def _resolved(
    texts: Mapping[str, str], references: Mapping[str, str], environ: Mapping[str, str] | None, errors: list[str]
) -> tuple[dict[str, str], dict[str, list[str]], set[str]]:
    """The texts with secrets in the place of references; the lists among them that may not be split; the secrets.

    Without an environment to look in, what holds a reference is left out.
    """
    errors += [
        f"{name}: `{text}` begins like a reference to a vault and is none; hint: write `\\#` for `#`"
        for name, text in texts.items()
        if text.startswith("{vault://") and name not in references
    ]
    resolved = dict(texts)
    lists: dict[str, list[str]] = {}
    secrets: set[str] = set()
    try:
        kinds = enabled_kinds(_listed(texts.get("vaults") or "bundled"))
    except SettingsError:
        kinds = ()  # told where all settings are checked
    vaults = Vaults(kinds, texts.get("vault_env_prefix"), environ)
    for name, text in references.items():
        del resolved[name]
        if environ is None:
            continue
        setting = SETTINGS.get(name)
        is_list = setting is not None and setting.type == "array"
        found = []
        for item in _listed(text) if is_list else [text]:
            try:
                found.append(vaults.get(item).strip() if is_reference(item) else item)
            except InvalidReference as error:
                errors.append(f"{name} can't be resolved: {error}")
                continue
            if not found[-1]:
                errors.append(f"{name} can't be resolved: {item}: the secret is empty")
            elif found[-1] != item:
                secrets.add(found[-1])
        if is_list and setting is not None and setting.secret:
            lists[name] = found
        else:
            resolved[name] = ", ".join(found)
    return resolved, lists, secrets


def _without(text: str, secrets: set[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _default(setting: Setting) -> Any:
    if setting.default is not None:
        return _parse(setting, setting.default)
    return [] if setting.type == "array" else None


def _parse(setting: Setting, text: str) -> Any:
    """The value that a text stands for.

    Raises:
        SettingsError: it does not.
    """
    match setting.type:
        case "boolean":
            return text.lower() in ("on", "true")
        case "array":
            return _listed(text)
        case "number":
            return _number(setting, text)
        case "enum":
            if text not in setting.enum:
                raise SettingsError(f"{setting.name} has an invalid value: '{text}' ({', '.join(setting.enum)})")
            return text
        case "ngx_boolean":
            if text not in ("on", "off"):
                raise SettingsError(f"{setting.name} is not a ngx_boolean: '{text}'")
            return text
        case "size" | "duration":
            try:
                parse_size(text) if setting.type == "size" else parse_duration_s(text)
            except ValueError as error:
                raise SettingsError(f"{setting.name} is not a {setting.type}: '{text}'") from error
            return text
        case "string":
            return text


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _number(setting: Setting, text: str) -> int | float:
    try:
        number = float(text)
    except ValueError as error:
        raise SettingsError(f"{setting.name} is not a number: '{text}'") from error
    if number != number or number in (float("inf"), float("-inf")):
        raise SettingsError(f"{setting.name} is not a number: '{text}'")
    return int(number) if number.is_integer() else number


def _header_names(tokens: Iterable[str]) -> frozenset[str]:
    names: set[str] = set()
    for token in tokens:
        lowered = token.lower()
        if lowered == "server_tokens":
            names.update(name.lower() for name in SERVER_TOKENS)
        elif lowered == "latency_tokens":
            names.update(name.lower() for name in LATENCY_TOKENS)
        elif lowered != "off":
            names.add(lowered)
    return frozenset(names)


def _is_secret(name: str) -> bool:
    setting = SETTINGS.get(name)
    if setting is not None:
        return setting.secret
    return name.startswith(("vault_", "pluginserver_")) and re.search(r"password|secret|token|key", name) is not None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _escaped(text: str) -> str:
    """A value fit for one line of the environment file."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A").replace("#", "\\#")


def _unescaped(text: str) -> str:
    return text.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")


def _is_pem_or_file(text: str) -> bool:
    return is_file(text) or pem_of(text) is not None


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _is_name_server(text: str) -> bool:
    matched = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)", text)
    if matched is None:
        return False
    try:
        ipaddress.ip_address(next(group for group in matched.groups() if group is not None))
    except ValueError:
        return False
    return True


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
