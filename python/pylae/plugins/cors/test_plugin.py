# SPDX-License-Identifier: Apache-2.0
"""Which pages may read, and what is a preflight told?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae.plugins.cors.plugin import Cors
from pylae.sdk import SchemaViolation
from pylae.sdk.testing import Outcome, Scene, Upstream, validated

ALL_METHODS = "GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT"
SHOP = "https://shop.test"


def sent(config: dict[str, Any], origin: str | None = SHOP, method: str = "GET", **headers: str) -> Outcome:
    fields = {} if origin is None else {"Origin": origin}
    with Scene(Cors, config) as scene:
        return scene.send(method, headers={**fields, **{name.replace("_", "-"): value for name, value in headers.items()}})


def preflight(config: dict[str, Any], origin: str | None = SHOP, **headers: str) -> Outcome:
    return sent(config, origin, "OPTIONS", **{"Access_Control_Request_Method": "PUT", **headers})


def test_preflight_is_answered_here() -> None:
    outcome = preflight({})
    assert (outcome.status, outcome.body, outcome.upstream) == (200, b"", None)
    assert outcome.headers["access-control-allow-origin"] == "*"
    assert outcome.headers["access-control-allow-methods"] == ALL_METHODS
    for name in ("access-control-allow-credentials", "access-control-allow-headers", "access-control-max-age", "vary"):
        assert name not in outcome.headers, name


def test_preflight_says_all_that_is_configured() -> None:
    config = {
        "origins": [SHOP],
        "methods": ["GET", "PUT"],
        "headers": ["X-One", "X-Two"],
        "exposed_headers": ["X-Three"],
        "credentials": True,
        "max_age": 23,
        "private_network": True,
    }
    outcome = preflight(config, Access_Control_Request_Private_Network="true", Access_Control_Request_Headers="x-other")
    assert outcome.headers["access-control-allow-origin"] == SHOP
    assert outcome.headers["access-control-allow-methods"] == "GET,PUT"
    assert outcome.headers["access-control-allow-headers"] == "X-One,X-Two"
    assert outcome.headers["access-control-allow-credentials"] == "true"
    assert outcome.headers["access-control-max-age"] == "23"
    assert outcome.headers["access-control-allow-private-network"] == "true"
    assert outcome.headers["vary"] == "Origin"
    assert "access-control-expose-headers" not in outcome.headers


def test_preflight_is_told_the_headers_it_asks_for() -> None:
    assert preflight({}, Access_Control_Request_Headers="x-a, x-b").headers["access-control-allow-headers"] == "x-a, x-b"


@pytest.mark.parametrize("asked", ["x-a\u00e4", "<script>", "x" * 5_000, "a: b"])
def test_header_reflection(asked: str) -> None:
    assert "access-control-allow-headers" not in preflight({}, Access_Control_Request_Headers=asked).headers


@pytest.mark.parametrize("headers", [{"Origin": SHOP}, {"Access-Control-Request-Method": "PUT"}, {}])
def test_options_that_is_no_preflight_goes_on(headers: dict[str, str]) -> None:
    with Scene(Cors, {}) as scene:
        outcome = scene.send("OPTIONS", headers=headers)
    assert outcome.upstream is not None
    assert outcome.headers["access-control-allow-origin"] == "*"


def test_preflight_of_the_upstream() -> None:
    upstream = Upstream(headers={"Access-Control-Allow-Origin": "https://theirs.test"})
    with Scene(Cors, {"preflight_continue": True}, upstream=upstream) as scene:
        outcome = scene.send("OPTIONS", headers={"Origin": SHOP, "Access-Control-Request-Method": "PUT"})
        assert outcome.upstream is not None
        assert outcome.headers["access-control-allow-origin"] == "https://theirs.test"
        assert scene.send("GET", headers={"Origin": SHOP}).headers["access-control-allow-origin"] == "*"


def test_answer_to_a_page() -> None:
    outcome = sent({"exposed_headers": ["X-One", "X-Two"]})
    assert outcome.headers["access-control-allow-origin"] == "*"
    assert outcome.headers["access-control-expose-headers"] == "X-One,X-Two"
    assert "vary" not in outcome.headers


@pytest.mark.parametrize(("origin", "expected", "vary"), [(SHOP, SHOP, "Origin"), (None, "*", None)])
def test_any_origin_with_credentials(origin: str | None, expected: str, vary: str | None) -> None:
    outcome = sent({"credentials": True}, origin)
    assert outcome.headers["access-control-allow-origin"] == expected
    assert outcome.headers.get("vary") == vary
    assert outcome.headers.get("access-control-allow-credentials") == ("true" if origin else None)


def test_one_origin_is_said_whoever_asks() -> None:
    for origin in (SHOP, "https://other.test", None):
        outcome = sent({"origins": [SHOP]}, origin)
        assert (outcome.headers["access-control-allow-origin"], outcome.headers["vary"]) == (SHOP, "Origin")


def test_one_origin_without_an_origin() -> None:
    outcome = sent({"origins": [SHOP], "allow_origin_absent": False}, None)
    assert "access-control-allow-origin" not in outcome.headers
    assert "vary" not in outcome.headers


MANY = {"origins": ["https://shop.test", "http://plain.test:8080", r"https://[a-z]+\.apps\.test", "host.test", r".*\.wild\.test"]}


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://shop.test", "https://shop.test"),
        ("https://shop.test:443", "https://shop.test"),
        ("HTTPS://Shop.Test", "https://shop.test"),
        ("http://plain.test:8080", "http://plain.test:8080"),
        ("https://one.apps.test", "https://one.apps.test"),
        ("https://host.test", "https://host.test"),
        ("http://host.test:1234", "http://host.test:1234"),
        ("http://a.wild.test", "http://a.wild.test"),
    ],
)
def test_origin_that_matches(origin: str, expected: str) -> None:
    outcome = sent(MANY, origin)
    assert outcome.headers["access-control-allow-origin"] == expected
    assert outcome.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    [
        "https://shop.test.evil.test",
        "https://evilshop.test",
        "https://shopxtest",
        "https://shop.test@evil.test",
        "https://shop.test:444",
        "http://shop.test",
        "https://shop.test/",
        "https://shop.test/path",
        "https://shop.test?x",
        "https://evil.test#https://shop.test",
        "https://shop.test\\@evil.test",
        "https://shop.test\udcff",
        "https://shop.test, https://evil.test",
        "https://one.apps.test.evil.test",
        "https://one.two.apps.test",
        "https://hostxtest",
        "https://host.test.evil.test",
        "https://evilhost.test",
        "null",
        "file://",
        "https://" + "a" * 5_000 + ".wild.test",
        "javascript:alert(1)",
        "",
    ],
)
def test_origin_reflection(origin: str) -> None:
    upstream = Upstream(headers={"Access-Control-Allow-Origin": "*"})
    with Scene(Cors, {**MANY, "credentials": True}, upstream=upstream) as scene:
        outcome = scene.send(headers={"Origin": origin})
    if origin == "https://shop.test/":
        # A slash alone says nothing more; what is said back is the origin.
        assert outcome.headers["access-control-allow-origin"] == "https://shop.test"
        return
    assert "access-control-allow-origin" not in outcome.headers
    assert "access-control-allow-credentials" not in outcome.headers
    assert "access-control-allow-origin" not in preflight({**MANY, "credentials": True}, origin).headers


def test_null_is_an_origin_only_where_it_is_named() -> None:
    assert sent({"origins": ["null", SHOP]}, "null").headers["access-control-allow-origin"] == "null"
    assert "access-control-allow-origin" not in sent({"origins": [SHOP, "https://b.test"]}, "null").headers
    assert "access-control-allow-origin" not in sent({"origins": [r".*\.test", SHOP]}, "null").headers


@pytest.mark.parametrize("origin", ["not an origin", "https://a.test@b.test", "https://a.test\udc00", "x" * 2_000])
def test_what_is_no_origin_is_not_said_back_even_where_any_may_read(origin: str) -> None:
    assert "access-control-allow-origin" not in sent({"credentials": True}, origin).headers


def test_vary_of_the_upstream_stays() -> None:
    with Scene(Cors, {"origins": [SHOP]}, upstream=Upstream(headers={"Vary": "Accept-Encoding"})) as scene:
        assert scene.send(headers={"Origin": SHOP}).headers["vary"] == ["Accept-Encoding", "Origin"]


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(SchemaViolation):
        validated(Cors, {"origins": ["["]})


def test_many_origins_are_forgotten_again() -> None:
    with Scene(Cors, MANY) as scene:
        for number in range(3_000):
            scene.config.origins.match(f"https://x{number}.test")
        assert len(scene.config.origins._verdicts) <= 1_024
