# SPDX-License-Identifier: Apache-2.0
"""Which rules about single values have names, and what do they say?

A rule takes a value of the right type and returns the text of the breach, or `None`.
"""

from __future__ import annotations

import ipaddress
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pylae.schema.field import Rule

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

PORT_MAX: Final = 65535
RESERVED: Final = frozenset(b"!*'();:@&=+$,/?%#[]")
_DIGITS_AND_DOTS: Final = re.compile(r"[0-9.:]+")
_OCTET: Final = re.compile(r"[0-9]{1,3}")
_WITH_PORT: Final = re.compile(r"(.*):([0-9]+)", re.DOTALL)
_HOST_NAME: Final = re.compile(r"[0-9A-Za-z._-]+")
_PATH: Final = re.compile(r"/[A-Za-z0-9.\-_~/%:@!$&'()*+,;=]*")
_NOT_IN_A_TAG: Final = re.compile(r"[\x00-\x1f,/\x7f]")
_NAME: Final = re.compile(r"[0-9A-Za-z.\-_~]+")
_UTF8_NAME: Final = re.compile(r"[0-9A-Za-z.\-_~\u0080-\U0010ffff]+")
_HEADER_NAME: Final = re.compile(r"[0-9A-Za-z_-]+")
_COOKIE_NAME: Final = re.compile(r"[^\x00-\x1f\x7f\x80-\U0010ffff ()<>@,;:\\\"/?={}\[\]]+")
_HEX_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Host:
    """A host as it was parsed: what it is, how it is spelled, the port that came with it."""

    kind: str
    """`name`, `ipv4` or `ipv6`."""
    host: str
    """Lower-case groups of four digits in brackets for `ipv6`."""
    port: int | None


class NotAHost(ValueError):
    """The text is neither a host name nor an address."""


def parse_host(text: str) -> Host:
    """Splits `host`, `host:port`, an IPv4 address, an IPv6 address with or without brackets.

    Raises:
        NotAHost: it is none of these; the message is Kong's.
    """
    if text.count(":") > 1:
        return _parse_ipv6(text)
    if _DIGITS_AND_DOTS.fullmatch(text) and text != ":":
        return _parse_ipv4(text)
    return _parse_name(text)


def _parse_ipv4(text: str) -> Host:
    address, colon, port_text = text.partition(":")
    octets = address.split(".")
    well_formed = len(octets) == 4 and all(_OCTET.fullmatch(octet) for octet in octets)
    if not well_formed or any(int(octet) > 255 for octet in octets) or (colon and not port_text.isdigit()):
        raise NotAHost(f"invalid ipv4 address: {text}")
    port = int(port_text) if colon else None
    if port is not None and port > PORT_MAX:
        raise NotAHost("invalid port number")
    return Host("ipv4", address, port)


def _parse_ipv6(text: str) -> Host:
    address, port = text, None
    bracketed = re.fullmatch(r"\[(.*)\](?::([0-9]+))?", text)
    if bracketed:
        address = bracketed[1]
        port = None if bracketed[2] is None else int(bracketed[2])
    try:
        exploded = ipaddress.IPv6Address(address).exploded
    except ValueError as error:
        raise NotAHost(f"invalid ipv6 address: {text}") from error
    if "%" in address:
        raise NotAHost(f"invalid ipv6 address: {text}")
    if port is not None and port > PORT_MAX:
        raise NotAHost("invalid port number")
    return Host("ipv6", f"[{exploded}]", port)


def _parse_name(text: str) -> Host:
    name, port = text, None
    with_port = _WITH_PORT.fullmatch(text) if ":" in text else None
    if with_port:
        name, port = with_port[1], int(with_port[2])
        if port > PORT_MAX:
            raise NotAHost("invalid port number")
    # No label but the last may be empty, and none may end in a hyphen.
    if not _HOST_NAME.fullmatch(name) or name[0] == "." or ".." in name or "-." in name or name[-1] == "-":
        raise NotAHost(f"invalid hostname: {text}")
    return Host("name", name, port)


def host(value: str) -> str | None:
    """A host name or address without a port."""
    try:
        parsed = parse_host(value)
    except NotAHost as error:
        return "must not have a port" if str(error) == "invalid port number" else f"invalid value: {value}"
    return None if parsed.port is None else "must not have a port"


def host_with_optional_port(value: str) -> str | None:
    """A host name or address."""
    try:
        parse_host(value)
    except NotAHost as error:
        return str(error)
    return None


def route_host(value: str) -> str | None:
    """A host name or address, perhaps with a wildcard and a port."""
    return host_with_optional_port(value.replace("*", "abc"))


def sni(value: str) -> str | None:
    """A DNS name."""
    try:
        parsed = parse_host(value)
    except NotAHost as error:
        return "must not have a port" if str(error) == "invalid port number" else f"invalid value: {value}"
    if parsed.kind != "name":
        return "must not be an IP"
    return None if parsed.port is None else "must not have a port"


def wildcard_host(value: str) -> str | None:
    """A DNS name with at most one wildcard, first or last."""
    if "*" in value:
        if value.index("*") not in (0, len(value) - 1):
            return "wildcard must be leftmost or rightmost character"
        if value.count("*") > 1:
            return "only one wildcard must be specified"
        value = value.replace("*", "wildcard")
    return sni(value)


def ip(value: str) -> str | None:
    """An IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return f"not an ip address: {value}"
    return None


def ip_or_cidr(value: str) -> str | None:
    """An address or a range of addresses."""
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return f"invalid ip or cidr range: '{value}'"
    return None


def cidr_v4(value: str) -> str | None:
    """An IPv4 address or range."""
    try:
        ipaddress.IPv4Network(value, strict=False)
    except ValueError:
        return f"invalid ipv4 cidr range: '{value}'"
    return None


def _bad_escape(value: str) -> str | None:
    if "%" not in value:
        return None
    found = re.search(r"%.?.?", re.sub(r"%[0-9A-Fa-f]{2}", "___", value), re.DOTALL)
    return None if found is None else f"invalid url-encoded value: '{found[0]}'"


def path(value: str) -> str | None:
    """Characters of RFC 3986 with proper escapes."""
    if not _PATH.fullmatch(value):
        return f"invalid path: '{value}' (characters outside of the reserved list of RFC 3986 found)"
    return _bad_escape(value)


def normalise_path(value: str) -> str:
    """The path without dot segments, doubled slashes and needless escapes."""

    def decode(escape: re.Match[bytes]) -> bytes:
        byte = int(escape[1], 16)
        return escape[0].upper() if byte in RESERVED else bytes((byte,))

    decoded = _HEX_ESCAPE.sub(decode, value.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")
    if "." not in decoded and "//" not in decoded:
        return decoded
    segments: list[str] = []
    parts = decoded.split("/")[1:]
    for part in parts:
        if part == "..":
            if segments:
                segments.pop()
        elif part not in (".", ""):
            segments.append(part)
    is_folder = bool(segments) and parts[-1] in (".", "..", "")
    return "/" + "/".join(segments) + ("/" if is_folder else "")


def router_path(value: str) -> str | None:
    """A normalised prefix, or `~` and a regular expression."""
    if not value.startswith("~"):
        if value.startswith("/") and "%" not in value and "/." not in value and "//" not in value:
            return None
        bad_escape = _bad_escape(value)
        if bad_escape is not None:
            return bad_escape
        normalised = normalise_path(value)
        return None if normalised == value else f"non-normalized path, consider use '{normalised}' instead"
    expression = value[1:]
    problem = regex_problem(expression)
    return None if problem is None else f"invalid regex: '{expression}' (PCRE returned: {problem})"


_UNKNOWN_TO_PYTHON: Final = (
    (re.compile(r"\(\?<(?=[A-Za-z_])"), "(?P<"),
    (re.compile(r"\\[pP](\{[^}]*\}|[A-Za-z])"), r"\\w"),
    (re.compile(r"\\z"), r"\\Z"),
    (re.compile(r"\[:\^?[a-z]+:\]"), "a-z"),
    (re.compile(r"\(\?[imsxU-]+\)"), ""),
)
"""What the router's expressions may hold and Python's may not, each with something alike."""

_UNKNOWN_TO_THE_ROUTER: Final = (
    (re.compile(r"\(\?<?[=!]"), "look-around, including look-ahead and look-behind, is not supported"),
    (re.compile(r"\\[1-9]|\\k<|\(\?P="), "backreferences are not supported"),
    (re.compile(r"\(\?>"), "atomic groups are not supported"),
    (re.compile(r"[*+?}]\+"), "possessive repetitions are not supported"),
)
_ESCAPED: Final = re.compile(r"\\(?:[pP]\{[^}]*\}|[^1-9k])")


@lru_cache(maxsize=1024)
def regex_problem(expression: str) -> str | None:
    """What is wrong with a regular expression, or `None`."""
    try:
        compiled(expression)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return None


def compiled(expression: str, flags: int = 0) -> re.Pattern[str]:
    """A regular expression as Kong's users write it, for plugins that match with it.

    Raises:
        re.error, OverflowError, RecursionError: it is none.
    """
    understood = expression
    for form, alike in _UNKNOWN_TO_PYTHON:
        understood = form.sub(alike, understood)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(understood, flags)


@lru_cache(maxsize=1024)
def router_regex_problem(expression: str) -> str | None:
    """What of a proper regular expression the router, whose expressions always end in linear time, can't do."""
    bare = re.sub(r"\[\^?\]?[^\]]*\]", "x", _ESCAPED.sub("x", expression))
    for form, problem in _UNKNOWN_TO_THE_ROUTER:
        if form.search(bare):
            return problem
    return None


def _bad_utf8_position(value: str) -> int | None:
    if value.isascii():
        return None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        return len(value[: error.start].encode("utf-8", "surrogatepass")) + 1
    return None


def tag(value: str) -> str | None:
    """Printable text without comma and slash."""
    position = _bad_utf8_position(value)
    if position is not None:
        return f"invalid utf-8 character sequence detected at position {position}"
    if _NOT_IN_A_TAG.search(value):
        return f"invalid tag '{value}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
    return None


def name(value: str) -> str | None:
    """ASCII letters, digits and a few signs."""
    if _NAME.fullmatch(value):
        return None
    return f"invalid value '{value}': it must only contain alphanumeric and '., -, _, ~' characters"


def utf8_name(value: str) -> str | None:
    """Letters of any script, digits and a few signs."""
    position = _bad_utf8_position(value)
    if position is not None:
        return f"invalid utf-8 character sequence detected at position {position}"
    if _UTF8_NAME.fullmatch(value):
        return None
    return f"invalid value '{value}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"


def header_name(value: str) -> str | None:
    """A header name of letters, digits, `-` and `_`."""
    if not value:
        return "no header name provided"
    if _HEADER_NAME.fullmatch(value):
        return None
    return f"bad header name '{value}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"


def cookie_name(value: str) -> str | None:
    """A token of RFC 2616."""
    if not value:
        return "no token provided"
    if _COOKIE_NAME.fullmatch(value):
        return None
    return (
        "contains one or more invalid characters. ASCII control characters (0-31;127), space, tab and the characters "
        '()<>@,;:\\"/?={}[] are not allowed.'
    )


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of a URL that Kong looks at."""

    scheme: str | None
    host: str | None
    port: str | None
    path: str | None


def parse_url(text: str) -> Url:
    """Splits a URL as leniently as Kong does: what is not there is `None`, user info and query are dropped."""
    rest = text.split("#", 1)[0]
    scheme = None
    with_scheme = re.match(r"([A-Za-z0-9][A-Za-z0-9+.-]*):", rest)
    if with_scheme:
        scheme, rest = with_scheme[1], rest[with_scheme.end() :]
    authority = None
    with_authority = re.match(r"//([^/]*)", rest)
    if with_authority:
        authority, rest = with_authority[1], rest[with_authority.end() :]
    rest = rest.split("?", 1)[0].split(";", 1)[0]
    path_text = rest or None
    if authority is None:
        return Url(scheme, None, None, path_text)
    authority = authority.split("?", 1)[0].split("@", 1)[-1]
    port = None
    with_port = re.fullmatch(r"(.*):([^:\]]*)", authority)
    if with_port:
        authority, port = with_port[1], with_port[2]
    bracketed = re.fullmatch(r"\[(.+)\]", authority)
    return Url(scheme, (bracketed[1] if bracketed else authority) or None, port or None, path_text)


def url(value: str) -> str | None:
    """A URL with a scheme and a host."""
    parsed = parse_url(value)
    if parsed.host is None:
        return "missing host in url"
    return "missing scheme in url" if parsed.scheme is None else None


def target(value: str) -> str | None:
    """A host with an optional port."""
    try:
        parse_host(value)
    except NotAHost:
        return "Invalid target; not a valid hostname or ip address"
    return None


def upstream_name(value: str) -> str | None:
    """A host name without a port."""
    try:
        parsed = parse_host(value)
    except NotAHost:
        return f"Invalid name ('{value}'); must be a valid hostname"
    if parsed.kind != "name":
        return f"Invalid name ('{value}'); no ip addresses allowed"
    return None if parsed.port is None else f"Invalid name ('{value}'); no port allowed"


_PRIVATE_KEY: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")


def certificate(value: str) -> str | None:
    """An X.509 certificate in PEM."""
    from cryptography import x509

    try:
        x509.load_pem_x509_certificate(value.encode())
    except (ValueError, x509.InvalidVersion):
        is_block = "-----BEGIN CERTIFICATE-----" in value
        return f"invalid certificate: {'it cannot be read' if is_block else 'no PEM block CERTIFICATE'}"
    return None


def key(value: str) -> str | None:
    """A private key in PEM."""
    try:
        load_private_key(value)
    except ValueError as error:
        return f"invalid key: {error}"
    return None


def load_private_key(value: str) -> PrivateKeyTypes:
    """The private key that a PEM text holds.

    Raises:
        ValueError: it holds none; says in a few words why.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(value.encode(), password=None)
    except TypeError as error:
        raise ValueError("it is encrypted") from error
    except UnsupportedAlgorithm as error:
        raise ValueError("its algorithm is not supported") from error
    except ValueError as error:
        is_block = _PRIVATE_KEY.search(value) is not None
        raise ValueError("it cannot be read" if is_block else "no PEM block PRIVATE KEY") from error


RULES: Final[dict[str, Rule]] = {
    rule.__name__: rule
    for rule in (
        certificate,
        cidr_v4,
        cookie_name,
        header_name,
        host,
        host_with_optional_port,
        ip,
        ip_or_cidr,
        key,
        name,
        path,
        route_host,
        router_path,
        sni,
        tag,
        target,
        upstream_name,
        url,
        utf8_name,
        wildcard_host,
    )
}
"""The rules that `rule="..."` may name."""
