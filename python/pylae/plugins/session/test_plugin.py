# SPDX-License-Identifier: Apache-2.0
"""When is a cookie given out, and whom does it open for?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from pylae.plugins.acl.plugin import Acl
from pylae.plugins.key_auth.plugin import KeyAuth
from pylae.plugins.session.plugin import Session
from pylae.sdk import Exchange, Plugin, Record
from pylae.sdk.auth.facts import set_groups
from pylae.sdk.testing import Chain, Outcome

ALICE: dict[str, Any] = {"id": "a1111111-1111-4111-8111-111111111111", "username": "alice", "custom_id": None, "created_at": 1}
GUEST: dict[str, Any] = {"id": "a2222222-2222-4222-8222-222222222222", "username": "guest", "custom_id": None, "created_at": 1}
KEY: dict[str, Any] = {
    "id": "c1111111-1111-4111-8111-111111111111",
    "key": "secret",
    "consumer": {"id": ALICE["id"]},
    "tags": None,
}
ROWS: dict[str, Any] = {"consumers": [ALICE, GUEST], "keyauth_credentials": [KEY]}
WITH_KEY = {"apikey": "secret"}


def chain(**config: Any) -> Chain:
    """session before a key-auth that lets everybody pass."""
    return Chain([(Session, {"secret": "s", **config}), (KeyAuth, {"anonymous": "guest"})], rows=ROWS)


def set_cookies(outcome: Outcome) -> list[str]:
    """The `Set-Cookie` values of an answer."""
    found = outcome.exchange.response.get_header_values("set-cookie")
    return list(found)


def cookie(lines: Iterable[str]) -> str:
    """What a browser sends after these."""
    return "; ".join(line.partition(";")[0] for line in lines)


def caller(outcome: Outcome) -> str | None:
    """Who the upstream thinks it is."""
    assert outcome.upstream is not None
    return outcome.upstream.get_header("x-consumer-username")


def log_in(scene: Chain) -> str:
    return cookie(set_cookies(scene.send(headers=WITH_KEY)))


@pytest.mark.parametrize("storage", ["cookie", "kong"])
def test_session_opens_for_whom_it_was_begun(storage: str) -> None:
    with chain(storage=storage) as scene:
        sent = log_in(scene)
        again = scene.send(headers={"cookie": sent})
        assert (caller(again), set_cookies(again)) == ("alice", [])
        assert again.upstream is not None
        assert again.upstream.get_header("x-credential-identifier") == KEY["id"]
        assert again.upstream.get_header("x-anonymous-consumer") is None
        assert caller(scene.send()) == "guest"


def test_anonymous_get_no_cookie() -> None:
    with chain() as scene:
        assert set_cookies(scene.send()) == []


def test_cookie_flags() -> None:
    with chain() as scene:
        (line,) = set_cookies(scene.send(headers=WITH_KEY))
    assert line.partition("; ")[2] == "Path=/; SameSite=Strict; Secure; HttpOnly"
    config = {"cookie_name": "mine", "cookie_path": "/a", "cookie_domain": "x.org", "cookie_same_site": "None"}
    with chain(**config, cookie_secure=False, cookie_http_only=False) as scene:
        (line,) = set_cookies(scene.send(headers=WITH_KEY))
    assert line.startswith("mine=")
    assert line.partition("; ")[2] == "Path=/a; Domain=x.org; SameSite=None"


def test_session_tampering() -> None:
    with chain() as scene:
        sent = log_in(scene)
        name, _, value = sent.partition("=")
        middle = len(value) // 2
        other = "A" if value[middle] != "A" else "B"
        for bad in (
            value[:middle] + other + value[middle + 1 :],
            value[:-1],
            value + "AAAA",
            value[::-1],
            "",
            "2." + value,
            "9.x",
            ".",
        ):
            assert caller(scene.send(headers={"cookie": f"{name}={bad}"})) == "guest", bad


@pytest.mark.parametrize("other", [{"secret": "another"}, {"cookie_name": "another"}, {"audience": "another"}])
def test_session_of_another_configuration(other: dict[str, Any]) -> None:
    with chain() as scene:
        value = log_in(scene).partition("=")[2]
    with chain(**other) as scene:
        assert caller(scene.send(headers={"cookie": f"{other.get('cookie_name', 'session')}={value}"})) == "guest"


def test_session_fixation() -> None:
    with chain(storage="kong", request_headers=["id"]) as scene:
        attackers = log_in(scene)
        known = scene.send(headers={"cookie": attackers}).upstream
        # The victim logs in with the attacker's cookie in its browser.
        scene.host.remove("sessions", scene.host.rows["sessions"][0]["id"])
        victims = cookie(set_cookies(scene.send(headers={**WITH_KEY, "cookie": attackers})))
        new = scene.send(headers={"cookie": victims}).upstream
        assert known is not None
        assert new is not None
        assert known.get_header("session-id") != new.get_header("session-id")
        assert caller(scene.send(headers={"cookie": attackers})) == "guest"


def test_stolen_cookie_after_logout() -> None:
    with chain(storage="kong") as scene:
        sent = log_in(scene)
        over = scene.send(method="DELETE", target="/?session_logout=1", headers={"cookie": sent})
        assert (over.status, over.upstream, over.body) == (200, None, b"")
        assert all("Max-Age=0" in line for line in set_cookies(over))
        assert caller(scene.send(headers={"cookie": sent})) == "guest"


def test_logout_needs_its_method_argument_and_session() -> None:
    with chain() as scene:
        sent = {"cookie": log_in(scene)}
        assert caller(scene.send(target="/?session_logout=1", headers=sent)) == "alice"
        assert caller(scene.send(method="POST", headers=sent)) == "alice"
        assert caller(scene.send(method="POST", target="/?session_logout=1")) == "guest"
        form = {**sent, "content-type": "application/x-www-form-urlencoded"}
        assert caller(scene.send(method="POST", headers=form, body=b"session_logout=1")) == "alice"
    with chain(read_body_for_logout=True) as scene:
        sent = {"cookie": log_in(scene)}
        for kind, body in (
            ("application/x-www-form-urlencoded", b"session_logout"),
            ("application/json", b'{"session_logout":1}'),
        ):
            assert scene.send(method="POST", headers={**sent, "content-type": kind}, body=body).upstream is None
        for kind, body in (("application/json", b"["), ("application/json", b"\xff"), ("text/plain", b"session_logout")):
            assert caller(scene.send(method="POST", headers={**sent, "content-type": kind}, body=body)) == "alice"


@pytest.mark.parametrize("storage", ["cookie", "kong"])
def test_session_ends_unused_and_is_renewed_by_use(storage: str) -> None:
    with chain(storage=storage, idling_timeout=100, rolling_timeout=1_000, absolute_timeout=1_900) as scene:
        sent = log_in(scene)
        scene.clock.turn(seconds=101)
        assert caller(scene.send(headers={"cookie": sent})) == "guest"
        sent = log_in(scene)
        ids = 0
        for _ in range(20):
            scene.clock.turn(seconds=90)
            outcome = scene.send(headers={"cookie": sent})
            assert caller(outcome) == "alice"
            ids += bool(set_cookies(outcome))
            sent = cookie(set_cookies(outcome)) or sent
        assert ids == 20
        scene.clock.turn(seconds=90)
        scene.send(headers={"cookie": sent})
        scene.clock.turn(seconds=11)
        # However much it was used: `absolute_timeout`.
        assert caller(scene.send(headers={"cookie": sent})) == "guest"


@pytest.mark.parametrize("storage", ["cookie", "kong"])
def test_renewed_session_keeps_its_id(storage: str) -> None:
    with chain(storage=storage, idling_timeout=0, rolling_timeout=100, request_headers=["id"]) as scene:
        old = log_in(scene)
        scene.clock.turn(seconds=80)
        outcome = scene.send(headers={"cookie": old})
        new = cookie(set_cookies(outcome))
        assert new not in ("", old)
        ids = [scene.send(headers={"cookie": sent}).upstream for sent in (old, new)]
        assert ids[0] is not None
        assert ids[1] is not None
        assert ids[0].get_header("session-id") == ids[1].get_header("session-id")
        scene.clock.turn(seconds=30)
        assert caller(scene.send(headers={"cookie": old})) == "guest"
        assert caller(scene.send(headers={"cookie": new})) == "alice"


def test_session_forked_by_a_thief_at_renewal_ends_with_the_logout() -> None:
    with chain(storage="kong", idling_timeout=0) as scene:
        stolen = log_in(scene)
        scene.clock.turn(seconds=2_800)
        victims = cookie(set_cookies(scene.send(headers={"cookie": stolen})))
        thiefs = cookie(set_cookies(scene.send(headers={"cookie": stolen})))
        assert len({stolen, victims, thiefs}) == 3
        assert scene.send(method="DELETE", target="/?session_logout=1", headers={"cookie": victims}).status == 200
        for sent in (stolen, victims, thiefs):
            assert caller(scene.send(headers={"cookie": sent})) == "guest"


def test_renewed_session_stays_in_the_list_of_its_subject() -> None:
    with chain(storage="kong", store_metadata=True, idling_timeout=0) as scene:
        sent = log_in(scene)
        scene.clock.turn(seconds=2_800)
        assert caller(scene.send(headers={"cookie": sent})) == "alice"
        (row,) = scene.host.rows["sessions"]
        (metadata,) = scene.host.rows["session_metadatas"]
        assert (metadata["subject"], metadata["session"]["id"]) == (ALICE["id"], row["id"])


def test_huge_count_of_cookies_is_no_cookie() -> None:
    with chain() as scene:
        for count in ("9" * 4_301, "10", "02", "\u0662"):
            assert caller(scene.send(headers={"cookie": f"session={count}.x"})) == "guest"


def test_remembered_session_outlives_the_browser() -> None:
    with chain(remember=True) as scene:
        (line,) = set_cookies(scene.send(headers=WITH_KEY))
        assert line.startswith("remember=")
        assert "Max-Age=60" in line
        scene.clock.turn(seconds=604_000 * 0.7)
        assert caller(scene.send(headers={"cookie": cookie([line])})) == "alice"


def test_headers_tell_of_the_session_and_cannot_be_forged() -> None:
    names = ["id", "audience", "subject", "timeout", "idling-timeout", "rolling-timeout", "absolute-timeout"]
    with chain(request_headers=names, response_headers=["timeout"], hash_subject=True) as scene:
        sent = log_in(scene)
        outcome = scene.send(headers={"cookie": sent, "Session-Id": "forged"})
        assert outcome.upstream is not None
        assert outcome.upstream.get_header("session-id") != "forged"
        assert outcome.upstream.get_header("session-audience") == "default"
        assert outcome.upstream.get_header("session-idling-timeout") == "900"
        assert outcome.upstream.get_header("session-subject") not in (None, ALICE["id"])
        assert outcome.exchange.response.get_header("session-timeout") == "900"
        alone = scene.send(headers={"Session-Id": "forged"}).upstream
        assert alone is not None
        assert alone.get_header("session-id") is None


def test_session_of_a_deleted_consumer_is_over() -> None:
    with chain(storage="kong") as scene:
        sent = log_in(scene)
        scene.host.remove("consumers", ALICE["id"])
        outcome = scene.send(headers={"cookie": sent})
        assert caller(outcome) == "guest"
        assert "Max-Age=0" in set_cookies(outcome)[0]


def test_session_that_an_administrator_deletes_is_over() -> None:
    with chain(storage="kong", store_metadata=True) as scene:
        sent = log_in(scene)
        assert caller(scene.send(headers={"cookie": sent})) == "alice"
        (row,) = scene.host.rows["sessions"]
        (metadata,) = scene.host.rows["session_metadatas"]
        assert (metadata["subject"], metadata["session"]["id"]) == (ALICE["id"], row["id"])
        assert sent.partition("=")[2] not in str(row)
        scene.host.remove("sessions", row["id"])
        assert caller(scene.send(headers={"cookie": sent})) == "guest"


class Directory(Plugin):
    """Stands where ldap-auth-advanced does: knows groups of whom key-auth let pass."""

    name = "directory"
    priority = 1200
    Config = Record

    async def access(self, exchange: Exchange, config: Record) -> None:
        if exchange.request.get_header("apikey"):
            set_groups(exchange, ["staff"])


@pytest.mark.parametrize("storage", ["cookie", "kong"])
def test_groups_last_with_the_session(storage: str) -> None:
    acl = {"allow": ["staff"], "always_use_authenticated_groups": True}
    plugins: list[tuple[type[Plugin], dict[str, Any]]] = [
        (Session, {"secret": "s", "storage": storage}),
        (KeyAuth, {"anonymous": "guest"}),
        (Directory, {}),
        (Acl, acl),
    ]
    with Chain(plugins, rows=ROWS) as scene:
        sent = log_in(scene)
        outcome = scene.send(headers={"cookie": sent, "X-Authenticated-Groups": "admins"})
        assert outcome.status == 200
        assert outcome.upstream is not None
        assert outcome.upstream.get_header("x-authenticated-groups") == "staff"
        assert scene.send().status == 403


def test_log_names_no_secret() -> None:
    with chain(secret="do-not-tell") as scene:  # of this test alone
        sent = log_in(scene)
        outcome = scene.send(headers={"cookie": sent + "x"})
        told = repr(outcome.exchange) + str(outcome.exchange.lines)
    assert "do-not-tell" not in told
