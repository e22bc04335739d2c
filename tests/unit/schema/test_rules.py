# SPDX-License-Identifier: Apache-2.0
"""Which single values do the named rules take, and what do they say of the others?"""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from pylae import entities
from pylae.errors import SchemaViolation
from pylae.schema import rules
from pylae.schema.rules import Url
from tests.support.certificates import self_signed

PEM = "-----BEGIN {0}-----\nAAAA\n-----END {0}-----\n"
ENCRYPTED = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))
    .decode()
)


@pytest.mark.parametrize(
    ("rule", "value", "text"),
    [
        ("host", "example.com.", None),
        ("host", "a_b.c-d", None),
        ("host", "a..b", "invalid value: a..b"),
        ("host", "300.1.1.1", "invalid value: 300.1.1.1"),
        ("host", "1.2.3", "invalid value: 1.2.3"),
        ("host", "1.2.3.4:80", "must not have a port"),
        ("host", "a:99999", "must not have a port"),
        ("host", "::g", "invalid value: ::g"),
        ("host", "[::1]:80", "must not have a port"),
        ("host_with_optional_port", "1.2.3.4:80", None),
        ("host_with_optional_port", "1.2.3.4:65536", "invalid port number"),
        ("host_with_optional_port", "1.2.3.456", "invalid ipv4 address: 1.2.3.456"),
        ("host_with_optional_port", "[::1]:70000", "invalid port number"),
        ("host_with_optional_port", "a b", "invalid hostname: a b"),
        ("route_host", "*.example.com:80", None),
        ("wildcard_host", "*.a.com", None),
        ("wildcard_host", "a.com.*", None),
        ("wildcard_host", "**", "only one wildcard must be specified"),
        ("wildcard_host", "a.*.com", "wildcard must be leftmost or rightmost character"),
        ("sni", "::1", "must not be an IP"),
        ("sni", "a b", "invalid value: a b"),
        ("ip", "1.2.3.4", None),
        ("ip", "1.2.3.4/8", "not an ip address: 1.2.3.4/8"),
        ("ip_or_cidr", "10.0.0.1/8", None),
        ("ip_or_cidr", "ten", "invalid ip or cidr range: 'ten'"),
        ("cidr_v4", "::1", "invalid ipv4 cidr range: '::1'"),
        ("path", "/a-._~!$&'()*+,;=:@%20", None),
        ("path", "/a b", "invalid path: '/a b' (characters outside of the reserved list of RFC 3986 found)"),
        ("path", "/%2", "invalid url-encoded value: '%2'"),
        ("router_path", "/ä", None),
        ("router_path", "/a%20b", "non-normalized path, consider use '/a b' instead"),
        ("router_path", "/a%2fb", "non-normalized path, consider use '/a%2Fb' instead"),
        ("router_path", "/a%2Fb", None),
        ("router_path", "/a/..", "non-normalized path, consider use '/' instead"),
        ("router_path", "/a/./", "non-normalized path, consider use '/a/' instead"),
        ("router_path", "/v1.2/a...b/.c", None),
        ("router_path", r"~/a/(?<id>\d+)$", None),
        ("name", "a-._~1", None),
        ("name", "a b", "invalid value 'a b': it must only contain alphanumeric and '., -, _, ~' characters"),
        ("utf8_name", "grüße~1", None),
        ("tag", "a b", None),
        ("tag", "grüße", None),
        ("tag", "a/b", "invalid tag 'a/b': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"),
        ("tag", "a\ud800", "invalid utf-8 character sequence detected at position 2"),
        ("header_name", "X_a-1", None),
        ("header_name", "", "no header name provided"),
        ("cookie_name", "a b", "contains one or more invalid characters."),
        ("cookie_name", "session", None),
        ("url", "http://a", None),
        ("url", "//a", "missing scheme in url"),
        ("url", "a.com", "missing host in url"),
        ("target", "a b", "Invalid target; not a valid hostname or ip address"),
        ("upstream_name", "1.2.3.4", "Invalid name ('1.2.3.4'); no ip addresses allowed"),
        ("certificate", "c", "invalid certificate: no PEM block CERTIFICATE"),
        ("certificate", PEM.format("CERTIFICATE"), "invalid certificate: it cannot be read"),
        ("key", "k", "invalid key: no PEM block PRIVATE KEY"),
        ("key", PEM.format("PRIVATE KEY"), "invalid key: it cannot be read"),
        ("key", PEM.format("EC PRIVATE KEY"), "invalid key: it cannot be read"),
        ("key", ENCRYPTED, "invalid key: it is encrypted"),
    ],
)
def test_a_rule_takes_a_value_or_says_why_not(rule: str, value: str, text: str | None) -> None:
    answer = rules.RULES[rule](value)
    assert answer is None if text is None else answer is not None and answer.startswith(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("http://u:p@a.com:80/p?x=1#f", Url("http", "a.com", "80", "/p")),
        ("https://[::1]:8443/", Url("https", "::1", "8443", "/")),
        ("http://a.com?x=1", Url("http", "a.com", None, None)),
        ("a.com/x", Url(None, None, None, "a.com/x")),
        ("http://", Url("http", None, None, None)),
        ("grpc://a:/", Url("grpc", "a", None, "/")),
    ],
)
def test_a_url_is_split_as_leniently_as_kong_does(text: str, parts: Url) -> None:
    assert rules.parse_url(text) == parts


@pytest.mark.parametrize(
    "expression",
    [r"/a(?=b)", r"/(?<!a)b", r"/(a)\1", r"/(?>a)", r"/a++", r"/(?P<x>a)(?P=x)"],
)
def test_what_the_router_can_not_do_is_told(expression: str) -> None:
    assert rules.router_regex_problem(expression) is not None


@pytest.mark.parametrize(
    "expression",
    [
        *(
            r"/a/(?<id>[0-9]+)$",
            r"/\p{L}+/\z",
            r"/[[:alpha:]]+",
            r"/(?i)a",
            r"/a\+\+b",
            r"/[a++]b",
            r"/a+?b",
            r"/\(\?=x",
            r"/a{2,3}\/",
        ),
        r"/[^/]+/\d+",
    ],
)
def test_what_the_router_can_do_is_taken(expression: str) -> None:
    assert rules.regex_problem(expression) is None
    assert rules.router_regex_problem(expression) is None


def test_a_pattern_that_ends_does_not_let_a_line_feed_pass() -> None:
    with pytest.raises(SchemaViolation, match="invalid value: GET\n"):
        entities.schema("routes").insert({"paths": ["/a"], "methods": ["GET\n"]})


def test_a_certificate_of_a_version_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    lines = self_signed(tmp_path, "a.test").certificate.read_text().splitlines()
    encoded = base64.b64decode("".join(lines[1:-1]))
    version = b"\xa0\x03\x02\x01"
    assert encoded.count(version + b"\x02") == 1
    encoded = encoded.replace(version + b"\x02", version + b"\x07")
    pem = "\n".join([lines[0], base64.encodebytes(encoded).decode().strip(), lines[-1]])
    assert rules.certificate(pem) == "invalid certificate: it cannot be read"
