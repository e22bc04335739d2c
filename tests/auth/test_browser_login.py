# SPDX-License-Identifier: Apache-2.0
"""Does a browser log in at a real provider, stay logged in on every worker, and get out again?"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.auth.browsing import Agent, Shop, bases_of, open_shop
from tests.support.blueprints import Blueprints
from tests.support.chromium import Browser, Page
from tests.support.gateway import Gateway
from tests.support.origin import Origin, answer
from tests.support.ports import free_port
from tests.support.raw import Client, Reply, request
from tests.support.servers import postgres, redis
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.redis import RedisServer
from tests.support.wait import until

WORKERS = 2
SETTINGS = {"trusted_ips": "127.0.0.1"}
SIGN_IN: Final = "return document.querySelector('input[name=password]') !== null"
# The access token stands for less than the gateway's margin: it is due for another at every request.
SHORT_S: Final = 3
MANY: Final = 6


@pytest.fixture(scope="module")
def shop(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> Iterator[Shop]:
    second = {"client_id": "second", "client_secret": "seconds-own", "redirect_uris": [f"{bases_of(gateway)[0]}/second"]}
    with open_shop(gateway, blueprints, echo, clients=[second]) as made:
        yield made


@pytest.fixture(scope="module")
def short_shop(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> Iterator[Shop]:
    with open_shop(gateway, blueprints, echo, "short", access_token_ttl_s=SHORT_S) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


@pytest.fixture(scope="module")
def in_redis() -> Iterator[dict[str, Any]]:
    """The configuration that keeps sessions in a real Redis server."""
    with RedisServer() as server:
        yield {"session_storage": "redis", "redis": {"port": server.port, "password": redis.PASSWORD, "prefix": "shop"}}


def query_of(url: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))


def log_in(page: Page, name: str) -> None:
    """Answers the provider's two questions."""
    page.leave(
        f"document.querySelector('input[name=login]').value = '{name}';"
        f"document.querySelector('input[name=password]').value = '{name}s-own'; document.querySelector('form').submit()"
    )
    page.leave("document.querySelector('form').submit()")


@pytest.mark.parametrize("storage", ["cookie", "redis"])
def test_browser_logs_in_calls_the_api_and_logs_out(
    storage: str, shop: Shop, browser: Browser, blueprints: Blueprints, in_redis: dict[str, Any]
) -> None:
    bye = f"{shop.base}/bye"
    blueprints.path(shop.origin, {"paths": ["/bye"]})
    url = shop.page(
        logout_query_arg="logout",
        logout_methods=["GET"],
        logout_redirect_uri=[bye],
        login_action="redirect",
        login_tokens=[],
        preserve_query_args=True,
        require_proof_key_for_code_exchange=True,
        session_cookie_name=f"session_{storage}",
        **(in_redis if storage == "redis" else {}),
    )
    page = browser.page(f"{url}?first=asked%20for")
    assert page.run(SIGN_IN)
    log_in(page, "alice")

    # It is where it wanted to be, as the one who it is.
    assert page.run("return location.href") == f"{url}?first=asked%20for"
    assert (shop.user, shop.origin.last.method) == ("alice", "GET")
    # Scripts of the page use the API, on every worker, and never see the cookie.
    calls = page.run(f"return Promise.all([...Array(8).keys()].map(async n => (await fetch('{url}/api?n=' + n)).status))")
    assert calls == [200] * 8
    assert page.run("return document.cookie") == ""
    cookie = page.cookies()[f"session_{storage}"]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Lax", False)
    assert len(cookie["value"]) < (300 if storage == "redis" else 3_800)

    page.go(f"{url}?logout")
    assert "sign-out" in page.run("return document.body.textContent")
    page.leave("document.querySelector('button[name=logout]').click()")
    assert page.run("return location.href") == bye
    assert f"session_{storage}" not in page.cookies()
    page.go(url)
    assert page.run(SIGN_IN)


def test_authorization_request_says_what_the_configuration_says(shop: Shop) -> None:
    url = shop.page(
        max_age=600,
        authorization_query_args_client=["login_hint", "state"],
    )
    reply = Agent().ask(f"{url}/deep?login_hint=al%FFice&state=chosen")
    assert (reply.status, reply.header("cache-control")) == (302, "no-store")
    where = reply.header("location") or ""
    assert where.startswith(f"{shop.provider.issuer}/auth?")
    asked = query_of(where)
    assert {name: asked[name] for name in ("response_type", "client_id", "redirect_uri", "scope", "max_age", "prompt")} == {
        "response_type": "code",
        "client_id": "gateway",
        "redirect_uri": f"{url}/deep",
        "scope": "openid profile offline_access",
        "max_age": "600",
        "prompt": "consent",
    }
    assert (asked["code_challenge_method"], len(asked["code_challenge"])) == ("S256", 43)
    assert asked["state"] != "chosen"
    assert len(asked["state"]) == len(asked["nonce"]) == 32
    assert "login_hint=al%FFice" in where


def test_address_is_the_one_that_a_trusted_proxy_names(shop: Shop) -> None:
    url = shop.page()
    lines = ("X-Forwarded-Proto: https", "X-Forwarded-Host: bank.test", "X-Forwarded-Port: 443")
    reply = Agent().ask(url, *lines)
    assert query_of(reply.header("location") or "")["redirect_uri"] == f"https://bank.test{urllib.parse.urlsplit(url).path}"
    assert (reply.header("set-cookie") or "").endswith("; Path=/; Secure; HttpOnly")


def test_login_without_proof_key_where_the_configuration_says_so(shop: Shop) -> None:
    url = shop.page(require_proof_key_for_code_exchange=False)
    agent = Agent()
    assert "code_challenge" not in query_of(agent.ask(url).header("location") or "")
    assert agent.log_in(url, "bob").status == 200
    assert shop.user == "bob"


def test_upstream_gets_neither_the_answer_of_the_provider_nor_our_cookies(shop: Shop) -> None:
    url = shop.page(preserve_query_args=True, session_request_headers=["id", "subject"])
    agent = Agent()
    agent.ask(url)
    agent.cookies[shop.base]["theirs"] = "kept"
    agent.log_in(f"{url}?a=%2F&b", "alice")
    last = shop.origin.last
    assert last.target == f"{urllib.parse.urlsplit(url).path}?a=%2F&b"
    assert last.header("cookie") == "theirs=kept"
    assert last.header("Session-Subject") == "alice"
    first_id = last.header("Session-Id")

    reply = agent.ask(f"{url}?code=of-the-upstream", "Session-Id: forged", "Session-Subject: forged")
    last = shop.origin.last
    assert (reply.status, last.header("cookie")) == (200, "theirs=kept")
    assert last.target.endswith("?code=of-the-upstream")
    assert (last.header("Session-Id"), last.header("Session-Subject")) == (first_id, "alice")


def test_cookies_of_the_upstream_reach_the_browser_beside_ours(shop: Shop) -> None:
    with Origin(answer(b"", "Set-Cookie: theirs=1; Path=/", "Set-Cookie: more=2")) as origin:
        reply = Agent().log_in(shop.page(origin=origin), "alice")
    names = [line.partition("=")[0] for line in reply.all("set-cookie")]
    assert sorted(names) == ["authorization", "more", "session", "theirs"]


def test_answer_by_form_is_a_get_to_the_upstream(shop: Shop) -> None:
    url = shop.page(response_mode="form_post", preserve_query_args=True)
    agent = Agent()
    posted = agent.log_in(f"{url}?a=1", "alice")
    assert agent.url.startswith(shop.provider.issuer)
    # What its page does by script.
    assert agent.submit(posted).status == 200
    last = shop.origin.last
    assert (last.method, last.target, last.body) == ("GET", f"{urllib.parse.urlsplit(url).path}?a=1", b"")
    assert last.header("content-type") is None
    assert agent.ask(url).status == 200


def ended_login(shop: Shop, url: str) -> Reply:
    """What the gateway answers to the way back."""
    agent = Agent()
    agent.log_in(url, "alice", until=shop.base)
    return agent.ask(agent.url)


def test_login_leads_elsewhere_with_the_tokens(shop: Shop) -> None:
    landing = "https://elsewhere.test/landing?x=1"
    chosen: dict[str, Any] = {"login_action": "redirect", "login_redirect_uri": [landing]}
    where = ended_login(shop, shop.page(**chosen)).header("location") or ""
    assert where.startswith(f"{landing}#id_token=ey")
    chosen["login_redirect_mode"] = "query"
    where = ended_login(shop, shop.page(login_tokens=["access_token"], **chosen)).header("location") or ""
    assert where.startswith(f"{landing}&access_token=")


def test_login_is_answered_with_the_tokens(shop: Shop) -> None:
    reply = ended_login(shop, shop.page(login_action="response", login_tokens=["id_token", "tokens"]))
    assert (reply.status, reply.header("cache-control")) == (200, "no-store")
    assert {"id_token", "access_token", "refresh_token", "expires_in"} <= json.loads(reply.body).keys()


def test_several_logins_at_once(shop: Shop) -> None:
    url = shop.page(preserve_query_args=True)
    agent = Agent()
    first = agent.ask(f"{url}?first").header("location")
    second = agent.ask(f"{url}?second").header("location")
    assert first
    assert second
    agent.log_in(second, "alice", until=shop.base)
    back = agent.url
    # The one that was begun first ends before it.
    assert agent.log_in(first, "alice").status == 200
    assert shop.origin.last.target.endswith("?first")
    assert agent.ask(back).status == 200
    assert shop.origin.last.target.endswith("?second")
    assert agent.cookie(url, "authorization") is None


def test_one_of_several_clients(shop: Shop) -> None:
    url = shop.page(
        {"paths": ["/second"]},
        client_id=["gateway", "second"],
        client_secret=["of-nobody", "seconds-own"],
        redirect_uri=[f"{shop.base}/first", f"{shop.base}/second"],
        scopes=["openid"],
        logout_uri_suffix="/out",
        logout_redirect_uri=[f"{shop.base}/bye/first", f"{shop.base}/bye/second"],
    )
    place = url.replace(urllib.parse.urlsplit(url).path, "/second")
    agent = Agent()
    assert query_of(agent.ask(place).header("location") or "")["client_id"] == "gateway"
    assert agent.log_in(f"{place}?client_id=second", "alice").status == 200
    assert agent.ask(place).status == 200
    said = query_of(agent.ask(f"{place}/out", method="POST").header("location") or "")
    assert (said["client_id"], said["post_logout_redirect_uri"]) == ("second", f"{shop.base}/bye/second")


def test_login_that_took_too_long(shop: Shop) -> None:
    url = shop.page(authorization_rolling_timeout=1)
    agent = Agent()
    agent.log_in(url, "alice", until=shop.base)
    back, kept = agent.url, dict(agent.cookies[shop.base])

    def is_forgotten() -> bool:
        agent.cookies[shop.base] = dict(kept)
        # Without its code it asks for nothing at the provider.
        reply = agent.ask(back.replace("code=", "error=late&no="))
        return reply.status == 302

    until(is_forgotten, "the login to be forgotten", 3)


def test_login_that_the_provider_refuses(shop: Shop) -> None:
    agent = Agent()
    url = shop.page(unauthorized_redirect_uri=["https://elsewhere.test/no"])
    state = query_of(agent.ask(url).header("location") or "")["state"]
    issuer = urllib.parse.quote(shop.provider.issuer, safe="")
    reply = agent.ask(f"{url}?error=access_denied&state={state}&iss={issuer}")
    assert (reply.status, reply.header("location")) == (302, "https://elsewhere.test/no")
    assert agent.cookie(url, "authorization") is None


def test_user_who_lacks_a_role_has_no_session(shop: Shop) -> None:
    url = shop.page(
        scopes=["openid", "groups"],
        groups_claim=["groups"],
        groups_required=["ops"],
        forbidden_redirect_uri=["https://elsewhere.test/no"],
    )
    agent = Agent()
    agent.log_in(url, "bob", until=shop.base)
    reply = agent.ask(agent.url)
    assert (reply.status, reply.header("location")) == (302, "https://elsewhere.test/no")
    assert agent.cookie(url, "session") is None
    assert Agent().log_in(url, "alice").status == 200


def test_scope_of_an_opaque_token_is_known_to_its_session(shop: Shop, short_shop: Shop) -> None:
    for one in (shop, short_shop):
        url = one.page(scopes_required=["profile openid"])
        agent = Agent()
        assert agent.log_in(url, "alice").status == 200
        assert [agent.ask(url).status for _ in range(3)] == [200] * 3


def test_session_outlives_the_browser(shop: Shop) -> None:
    url = shop.page(session_remember=True, upstream_session_id_header="X-Session", downstream_session_id_header="X-Session")
    agent = Agent()
    reply = agent.log_in(url, "alice")
    (line,) = [line for line in reply.all("set-cookie") if line.startswith("remember=")]
    assert "Max-Age=6048" in line
    again = agent.ask(url, "X-Session: forged")
    assert again.header("X-Session") == shop.origin.last.header("X-Session") == reply.header("X-Session") != "forged"
    assert agent.ask(url).status == 200


def test_password_begins_a_session_unless_it_may_not(shop: Shop) -> None:
    basic = "Authorization: Basic YWxpY2U6YWxpY2VzLW93bg=="
    methods: dict[str, Any] = {"auth_methods": ["password", "session"], "scopes": ["openid"]}
    url = shop.page(**methods)
    agent = Agent()
    assert agent.ask(url).status == 401
    assert agent.ask(url, basic).status == 200
    assert agent.ask(url).status == 200
    agent = Agent()
    assert agent.ask(shop.page(disable_session=["password"], **methods), basic).status == 200
    assert not any(agent.cookies.values())


@pytest.mark.parametrize(
    ("config", "method", "suffix", "form"),
    [
        ({"logout_query_arg": "out"}, "POST", "?out=1", None),
        ({"logout_query_arg": "out"}, "DELETE", "?out", None),
        ({"logout_uri_suffix": "/out"}, "POST", "/out", None),
        ({"logout_post_arg": "out"}, "POST", "", {"out": "now"}),
    ],
)
def test_logout_gives_tokens_back(shop: Shop, config: dict[str, Any], method: str, suffix: str, form: Any) -> None:
    url = shop.page(logout_revoke=True, logout_redirect_uri=[f"{shop.base}/bye"], **config)
    agent = Agent()
    assert agent.log_in(url, "alice").status == 200
    shop.provider.control("forget")
    reply = agent.ask(url + suffix, method=method, form=form)
    assert reply.status == (303 if method == "DELETE" else 302)
    where = reply.header("location") or ""
    assert where.startswith(f"{shop.provider.issuer}/session/end?")
    said = query_of(where)
    assert (said["post_logout_redirect_uri"], said["client_id"]) == (f"{shop.base}/bye", "gateway")
    assert said["id_token_hint"].startswith("ey")
    assert shop.provider.requests("/token/revocation") == 2
    assert agent.cookie(url, "session") is None
    assert agent.ask(url).status == 302


def test_logout_of_nobody(shop: Shop) -> None:
    url = shop.page(logout_uri_suffix="/out", logout_revoke=True)
    shop.provider.control("forget")
    reply = Agent().ask(f"{url}/out", method="POST")
    assert (reply.status, query_of(reply.header("location") or "")) == (302, {"client_id": "gateway"})
    assert shop.provider.requests("/token/revocation") == 0


def test_session_in_postgres_is_known_to_every_worker_until_logout(shop: Shop) -> None:
    with PostgresServer() as server:
        place = {"port": server.port, "user": postgres.USER, "password": postgres.PASSWORD, "database": "postgres"}
        url = shop.page(session_storage="postgres", postgres=place, logout_uri_suffix="/out", logout_methods=["POST"])
        agent = Agent()
        assert agent.log_in(url, "alice").status == 200
        cookie = agent.cookie(url, "session")
        assert cookie is not None
        assert len(cookie) < 300
        assert {agent.ask(url).status for _ in range(8)} == {200}
        assert agent.ask(f"{url}/out", method="POST").status == 302
        # Whoever stole the cookie has nothing of it.
        path = urllib.parse.urlsplit(url).path
        assert {shop.gateway.get(path, f"Cookie: session={cookie}").status for _ in range(8)} == {302}


def test_login_while_postgres_is_down_says_so(shop: Shop) -> None:
    port = free_port()
    url = shop.page(session_storage="postgres", postgres={"port": port, "password": "own-of-the-gateway"})
    agent = Agent()
    agent.log_in(url, "alice", until=shop.base)
    assert agent.ask(agent.url).status == 500
    record = shop.gateway.failures.wait_for(f"PostgreSQL 127.0.0.1:{port}/pylae")[-1]
    assert "identity_system_failed" in record
    assert "own-of-the-gateway" not in record


@pytest.mark.parametrize("storage", ["cookie", "redis"])
def test_tokens_are_refreshed_once_for_all_who_wait(storage: str, short_shop: Shop, in_redis: dict[str, Any]) -> None:
    shop = short_shop
    url = shop.page(**(in_redis if storage == "redis" else {}))
    agent = Agent()
    assert agent.log_in(url, "alice").status == 200
    line = f"Cookie: session={agent.cookie(url, 'session')}"
    shop.provider.control("forget")
    shop.provider.control("delay", ms=100)
    path = urllib.parse.urlsplit(url).path
    clients = [Client(shop.gateway.proxy_port) for _ in range(MANY)]
    for client in clients:
        client.send(request("GET", path, line))
    replies = [client.read_reply() for client in clients]
    for client in clients:
        client.close()
    shop.provider.control("heal")
    assert [reply.status for reply in replies] == [200] * MANY
    assert all(reply.header("set-cookie") for reply in replies)
    tokens = {received.header("authorization") for received in shop.origin.requests[-MANY:]}
    assert shop.provider.requests("/token") == len(tokens) <= WORKERS


def test_login_while_redis_is_down_says_so(shop: Shop) -> None:
    port = free_port()
    url = shop.page(session_storage="redis", redis={"port": port})
    agent = Agent()
    agent.log_in(url, "alice", until=shop.base)
    assert agent.ask(agent.url).status == 500
    assert not any(name.startswith("session") for name in agent.cookies[shop.base])
    record = shop.gateway.failures.wait_for("identity_system_failed")[-1]
    assert f"Redis redis://127.0.0.1:{port}/0" in record


def test_session_ends_when_the_provider_gives_no_more_tokens(short_shop: Shop) -> None:
    shop = short_shop
    url = shop.page()
    agent = Agent()
    assert agent.log_in(url, "alice").status == 200
    # It cannot be asked now, and the old token still stands.
    shop.provider.control("fail", path="/token", status=500)
    assert agent.ask(url).status == 200
    shop.provider.control("heal")
    shop.provider.control("revoke-all")
    until(lambda: agent.ask(url).status == 302, "a new login to be asked for", SHORT_S + 2)
    assert agent.cookie(url, "session") is None
    assert agent.cookie(url, "authorization")


def test_reverified_session_ends_with_the_keys_of_the_provider(shop: Shop) -> None:
    url = shop.page(reverify=True, rediscovery_lifetime=0)
    agent = Agent()
    assert agent.log_in(url, "alice").status == 200
    assert agent.ask(url).status == 200
    shop.provider.control("rotate", drop=1)
    # The gateway hears of it by a token with the new key; each worker has keys of its own.
    until(lambda: Agent().log_in(url, "bob") and agent.ask(url).status == 302, "a new login to be asked for")
    assert agent.cookie(url, "session") is None
    assert shop.gateway.error_log.containing("openid-connect: a session ends:")
