# SPDX-License-Identifier: Apache-2.0
"""Can anybody use a login, a session or a cookie that is another's, or make the gateway send a browser astray?"""

from __future__ import annotations

import base64
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.auth.browsing import Agent, Shop, open_shop
from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin
from tests.support.raw import Reply, exchange, request
from tests.support.servers import redis
from tests.support.servers.redis import RedisServer

WORKERS = 2
SECRET: Final = "sealed-with-this-in-several-places"


@pytest.fixture(scope="module")
def shop(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> Iterator[Shop]:
    with open_shop(gateway, blueprints, echo) as made:
        yield made


@pytest.fixture(scope="module")
def in_redis() -> Iterator[dict[str, Any]]:
    with RedisServer() as server:
        yield {"session_storage": "redis", "redis": {"port": server.port, "password": redis.PASSWORD}}


def argument(url: str | None, name: str) -> str:
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url or "").query))[name]


def with_arguments(url: str, **changed: str) -> str:
    """The address with other values for some of its arguments."""
    place = urllib.parse.urlsplit(url)
    query = {**dict(urllib.parse.parse_qsl(place.query)), **changed}
    return place._replace(query=urllib.parse.urlencode(query)).geturl()


def way_back(shop: Shop, agent: Agent, url: str, name: str = "alice") -> str:
    """Where the provider sends a browser whose user has logged in, before it gets there."""
    agent.log_in(url, name, until=shop.base)
    assert "code=" in agent.url
    return agent.url


def is_asked_to_log_in(shop: Shop, reply: Reply) -> bool:
    return reply.status == 302 and (reply.header("location") or "").startswith(f"{shop.provider.issuer}/auth?")


PATHS: Final = (
    "//evil.test/",
    "/%2f%2fevil.test",
    "/\\evil.test",
    "///evil.test/%0d%0aX-Injected:1",
    "/@evil.test",
    "/.evil.test",
)


def test_open_redirect_by_path_of_the_first_request(shop: Shop) -> None:
    bank = f"http://bank.test:{shop.gateway.proxy_port}"
    back = f"{shop.base}/page-0"
    shop.page(
        {"hosts": ["bank.test"], "paths": ["/"]}, login_action="redirect", login_tokens=[], redirect_uri=[back], scopes=["openid"]
    )
    for path in PATHS:
        agent = Agent()
        agent.log_in(bank + path, "alice", until=back)
        # The provider knows the shop's address; the cookie is the bank's.
        reply = agent.ask(agent.url.replace("shop.test", "bank.test"))
        where = reply.header("location") or ""
        assert (reply.status, reply.header("X-Injected")) == (302, None)
        # Neither a scheme, nor what a browser takes for the beginning of a host.
        assert re.match(r"/[^/\\\s]", where), where


def test_open_redirect_by_forwarded_host(shop: Shop) -> None:
    url = shop.page()
    reply = Agent().ask(
        url, "X-Forwarded-Host: evil.test", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443", "Forwarded: host=evil.test"
    )
    assert argument(reply.header("location"), "redirect_uri") == url


def test_open_redirect_by_arguments(shop: Shop) -> None:
    url = shop.page(login_action="redirect", login_tokens=[], logout_uri_suffix="/out", logout_methods=["GET"])
    evil = "https://evil.test/"
    agent = Agent()
    names = ("redirect_uri", "login_redirect_uri", "return_to", "next", "post_logout_redirect_uri", "logout_redirect_uri")
    query = urllib.parse.urlencode(dict.fromkeys(names, evil))
    assert argument(agent.ask(f"{url}?{query}").header("location"), "redirect_uri") == url
    back = way_back(shop, agent, f"{url}?{query}")
    where = agent.ask(with_arguments(back, redirect_uri=evil)).header("location")
    assert where == f"{urllib.parse.urlsplit(url).path}?{query}"
    assert "evil" not in (agent.ask(f"{url}/out?{query}").header("location") or "")


def test_state_mix_up_with_another_browser(shop: Shop) -> None:
    url = shop.page()
    attacker, victim = Agent(), Agent()
    back = way_back(shop, attacker, url, "mallory")
    victim.ask(url)
    shop.provider.control("forget")
    reply = victim.ask(back)
    # It is sent to log in by itself; the code was not even looked at.
    assert is_asked_to_log_in(shop, reply)
    assert argument(reply.header("location"), "state") != argument(back, "state")
    assert victim.cookie(url, "session") is None
    assert shop.provider.requests("/token") == 0


def test_csrf_on_the_login(shop: Shop) -> None:
    url = shop.page()
    back = way_back(shop, Agent(), url, "mallory")
    for address in (
        back,
        with_arguments(back, state=""),
        with_arguments(back, state="guessed"),
        f"{url}?code=1",
        f"{url}?state=1",
    ):
        victim = Agent()
        assert is_asked_to_log_in(shop, victim.ask(address))
        assert victim.cookie(url, "session") is None


def test_csrf_on_the_login_of_one_who_is_logged_in(shop: Shop) -> None:
    url = shop.page()
    victim = Agent()
    victim.log_in(url, "alice")
    before = victim.cookie(url, "session")
    assert victim.ask(way_back(shop, Agent(), url, "mallory")).status == 200
    assert (shop.user, victim.cookie(url, "session")) == ("alice", before)


@pytest.mark.parametrize("uses_pkce", [True, False], ids=["verifier", "nonce"])
def test_code_injection(shop: Shop, *, uses_pkce: bool) -> None:
    """A stolen code, in a login of the thief's own: its verifier is another, and if there is none, its nonce."""
    url = shop.page(require_proof_key_for_code_exchange=uses_pkce)
    stolen = argument(way_back(shop, Agent(), url, "alice"), "code")
    attacker = Agent()
    state = argument(attacker.ask(url).header("location"), "state")
    reply = attacker.ask(f"{url}?code={stolen}&state={state}&iss={urllib.parse.quote(shop.provider.issuer, safe='')}")
    assert (reply.status, attacker.cookie(url, "session")) == (401, None)
    why = "invalid_grant" if uses_pkce else "`nonce`: of another login"
    assert any(why in line for line in shop.gateway.error_log.lines())


def test_nonce_mix_up_between_two_logins_of_one_browser(shop: Shop) -> None:
    url = shop.page(require_proof_key_for_code_exchange=False)
    agent = Agent()
    other = argument(agent.ask(url).header("location"), "state")
    reply = agent.ask(with_arguments(way_back(shop, agent, url), state=other))
    assert (reply.status, agent.cookie(url, "session")) == (401, None)


def test_code_replay(shop: Shop) -> None:
    url = shop.page()
    agent, thief = Agent(), Agent()
    back = way_back(shop, agent, url)
    thief.cookies = {origin: dict(cookies) for origin, cookies in agent.cookies.items()}
    assert agent.ask(back).status == 200
    # With everything that the browser had, but late.
    reply = thief.ask(back)
    assert (reply.status, thief.cookie(url, "session")) == (401, None)
    del agent.cookies[shop.base]["session"]
    assert is_asked_to_log_in(shop, agent.ask(back))


def test_issuer_mix_up(shop: Shop) -> None:
    url = shop.page()
    for issuer in ("https://evil.test", shop.provider.issuer + "/", None):
        agent = Agent()
        back = way_back(shop, agent, url)
        changed = with_arguments(back, iss=issuer) if issuer else back.partition("&iss=")[0]
        shop.provider.control("forget")
        reply = agent.ask(changed)
        assert (reply.status, agent.cookie(url, "session"), shop.provider.requests("/token")) == (401, None, 0)


def test_error_of_the_provider_is_not_reflected(shop: Shop) -> None:
    url = shop.page(display_errors=True)
    agent = Agent()
    state = argument(agent.ask(url).header("location"), "state")
    script = "<script>alert(1)</script>"
    arguments = {"error": script, "error_description": script, "iss": shop.provider.issuer, "state": state}
    reply = agent.ask(f"{url}?{urllib.parse.urlencode(arguments)}", "Accept: text/html")
    assert reply.status == 401
    assert "alert" not in reply.text


@pytest.mark.parametrize("storage", ["cookie", "redis"])
def test_session_fixation(shop: Shop, in_redis: dict[str, Any], storage: str) -> None:
    url = shop.page(session_response_headers=["id"], **(in_redis if storage == "redis" else {}))
    attacker, victim = Agent(), Agent()
    attacker.log_in(url, "mallory")
    planted = attacker.cookie(url, "session")
    assert planted
    planted_id = attacker.ask(url).header("Session-Id")
    # The victim logs in with the attacker's cookie in its jar.
    back = way_back(shop, victim, url)
    victim.cookies[shop.base]["session"] = planted
    reply = victim.ask(back)
    assert (reply.status, shop.user) == (200, "alice")
    assert victim.cookie(url, "session") != planted
    assert reply.header("Session-Id") != planted_id
    attacker.ask(url)
    assert shop.user == "mallory"


def test_cookie_flags(shop: Shop) -> None:
    url = shop.page().replace(shop.base, shop.base_tls)
    agent = Agent()
    reply = agent.ask(url)
    assert flags_of(reply, "authorization") == ["Path=/", "Secure", "HttpOnly"]
    agent.log_in(url, "alice", until=shop.base_tls)
    assert flags_of(agent.ask(agent.url), "session") == ["Path=/", "SameSite=Lax", "Secure", "HttpOnly"]
    # Over TLS the cookie comes along with the form that the provider's page posts.
    url = shop.page(response_mode="form_post").replace(shop.base, shop.base_tls)
    assert flags_of(Agent().ask(url), "authorization") == ["Path=/", "SameSite=None", "Secure", "HttpOnly"]
    url = shop.page(
        session_cookie_name="__Host-session", session_cookie_same_site="Strict", session_cookie_secure=True, session_remember=True
    )
    agent = Agent()
    back = way_back(shop, agent, url)
    remember = flags_of(agent.ask(back), "remember")
    assert remember[0] == "Path=/"
    assert remember[1].startswith("Max-Age=")
    assert remember[2:] == ["SameSite=Strict", "Secure", "HttpOnly"]


def flags_of(reply: Reply, name: str) -> list[str]:
    (line,) = [line for line in reply.all("set-cookie") if line.startswith(f"{name}=")]
    return line.split("; ")[1:]


def test_tampered_session_cookie(shop: Shop) -> None:
    url = shop.page()
    agent = Agent()
    agent.log_in(url, "alice")
    good = agent.cookie(url, "session")
    assert good
    sealed = base64.urlsafe_b64decode(good + "=" * (-len(good) % 4))
    for at in (0, 1, 12, 13, len(sealed) // 2, len(sealed) - 1):
        bad = bytearray(sealed)
        bad[at] ^= 1
        agent.cookies[shop.base]["session"] = base64.urlsafe_b64encode(bad).decode().rstrip("=")
        assert is_asked_to_log_in(shop, agent.ask(url))
    agent.cookies[shop.base]["session"] = good
    assert agent.ask(url).status == 200


def test_cookie_of_a_login_is_no_session(shop: Shop) -> None:
    url = shop.page()
    agent = Agent()
    agent.ask(url)
    login = agent.cookie(url, "authorization")
    assert login
    agent.cookies[shop.base] = {"session": login}
    assert is_asked_to_log_in(shop, agent.ask(url))


def test_session_of_another_place_under_one_secret(shop: Shop) -> None:
    here, purpose = shop.page(session_secret=SECRET), shop.page(session_secret=SECRET, session_audience="other")
    same = shop.page(session_secret=SECRET)
    elsewhere = shop.page(session_secret=SECRET, issuer=shop.provider.issuer.replace("127.0.0.1", "localhost"))
    agent = Agent()
    agent.log_in(here, "alice")
    assert agent.ask(same).status == 200
    assert agent.ask(purpose).status == 302
    assert agent.ask(elsewhere).status != 200


def test_session_bound_to_the_browser(shop: Shop) -> None:
    url = shop.page(session_bind=["user-agent", "ip"])
    agent = Agent()
    back = way_back(shop, agent, url)
    assert agent.ask(back, "User-Agent: one\xff").status == 200
    assert agent.ask(url, "User-Agent: one\xff").status == 200
    assert agent.ask(url, "User-Agent: another").status == 302


def test_stolen_cookie_after_logout(shop: Shop, in_redis: dict[str, Any]) -> None:
    url = shop.page(logout_uri_suffix="/out", **in_redis)
    agent = Agent()
    agent.log_in(url, "alice")
    thief = Agent()
    thief.cookies = {shop.base: dict(agent.cookies[shop.base])}
    assert thief.ask(url).status == 200
    agent.ask(f"{url}/out", method="POST")
    for _ in range(4):
        assert is_asked_to_log_in(shop, thief.ask(url))


def test_logout_by_a_link_of_another_site(shop: Shop) -> None:
    url = shop.page(logout_uri_suffix="/out", logout_query_arg="out")
    agent = Agent()
    agent.log_in(url, "alice")
    for method in ("GET", "HEAD", "OPTIONS"):
        assert agent.ask(f"{url}/out?out", method=method).status == 200
    assert agent.ask(url).status == 200


def test_cookies_of_the_gateway_at_the_upstream(shop: Shop, blueprints: Blueprints) -> None:
    guest = blueprints.consumer()
    url = shop.page(anonymous=guest["id"])
    path = urllib.parse.urlsplit(url).path
    names = "session=x; a=1; session2=y; authorization=z; session10=10; authorization9=w; sessions=b"
    lines = (f"Cookie: {names}", "Cookie: session=q")
    reply = exchange(shop.gateway.proxy_port, request("GET", path, *lines))
    assert reply.status == 200
    assert shop.origin.last.header("cookie") == "a=1; session10=10; sessions=b"


BAD_VALUES: Final = (
    "",
    "AAAA",
    "A" * 7_000,
    "9." + "A" * 100,
    "2.A",
    "99999999999999999999.A",
    "\u0662.A".encode().decode("latin-1"),
    "\xff\xfe",
    "%00%0d%0a",
    '"',
    "AQ" + "A" * 60,
    "=" * 50,
    "a;b;;=;c",
)


def test_huge_and_malformed_cookies(shop: Shop) -> None:
    url = shop.page(logout_uri_suffix="/out", logout_methods=["GET"])
    path = urllib.parse.urlsplit(url).path
    for value in BAD_VALUES:
        lines = f"Cookie: session={value}; remember={value[:100]}", f"Cookie: authorization={value}; session2={value[:200]}"
        for target in (path, f"{path}?code=1&state=2", f"{path}/out"):
            reply = exchange(shop.gateway.proxy_port, request("GET", target, *lines))
            assert reply.status == 302, (value, target, reply)
    many = "; ".join(f"session{number}=x" for number in range(600))
    assert exchange(shop.gateway.proxy_port, request("GET", path, f"Cookie: {many[:7_900]}")).status == 302


def test_malformed_answers_of_the_provider(shop: Shop) -> None:
    url = shop.page()
    issuer = urllib.parse.quote(shop.provider.issuer, safe="")
    for arguments in (
        "code=%ff&state={}",
        "code=%00&state={}",
        "code=&state={}",
        "code=" + "A" * 5_000 + "&state={}",
        "error=%ff%00&state={}",
        "error=&state={}",
        "code=\xff&state={}",
    ):
        agent = Agent()
        state = argument(agent.ask(url).header("location"), "state")
        reply = agent.ask(f"{url}?{arguments.format(state)}&iss={issuer}")
        assert (reply.status, agent.cookie(url, "session")) == (401, None), arguments
    for arguments in (
        "code=a&code=b&state={}",
        "code&state={}",
        "code=a&state={}&state={}",
        "code=a&state={}\xff",
        "code[]=1&state={}",
    ):
        agent = Agent()
        state = argument(agent.ask(url).header("location"), "state")
        assert is_asked_to_log_in(shop, agent.ask(f"{url}?{arguments.format(state, state)}&iss={issuer}")), arguments


def test_bytes_of_no_character_set_in_the_first_request(shop: Shop) -> None:
    url = shop.page(login_action="redirect", login_tokens=[], redirect_uri=[f"{shop.base}/page-1"])
    path = urllib.parse.urlsplit(url).path
    reply = exchange(shop.gateway.proxy_port, request("GET", f"{path}/\xff\xe4?a=\xfe%fe"))
    assert is_asked_to_log_in(shop, reply)
    reply = exchange(shop.gateway.proxy_port, request("GET", path, host="shop.test\xff"))
    assert reply.status < 500
