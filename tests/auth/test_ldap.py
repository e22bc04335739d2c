# SPDX-License-Identifier: Apache-2.0
"""Do the LDAP plugins let in whom a real directory knows, over LDAP, LDAPS and StartTLS, and in its groups?"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.blueprints import Blueprints
from tests.support.certificates import Authority
from tests.support.gateway import Gateway
from tests.support.origin import Origin
from tests.support.raw import Reply
from tests.support.servers.slapd import BASE, GROUPS, PEOPLE, SERVICE, SERVICE_PASSWORD, Slapd

ALICE, BOB = ("alice", "alices-own"), ("bob", "bobs:own")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "directory-authority")


@pytest.fixture(scope="module")
def slapd(authority: Authority) -> Iterator[Slapd]:
    with Slapd(authority.sign("directory", "127.0.0.1", valid_in=-_day())) as started:
        yield started


@pytest.fixture(scope="module")
def gateway(authority: Authority) -> Iterator[Gateway]:
    with Gateway({"lua_ssl_trusted_certificate": f"system,{authority.certificate}"}) as started:
        yield started


@pytest.fixture
def to_slapd(slapd: Slapd) -> dict[str, Any]:
    return {"ldap_host": "127.0.0.1", "ldap_port": slapd.port, "base_dn": PEOPLE, "attribute": "uid"}


@pytest.fixture
def advanced(to_slapd: dict[str, Any]) -> dict[str, Any]:
    return {
        **to_slapd,
        "bind_dn": SERVICE,
        "ldap_password": SERVICE_PASSWORD,
        "group_base_dn": GROUPS,
        "group_name_attribute": "cn",
        "consumer_optional": True,
    }


def _day() -> Any:
    import datetime

    return datetime.timedelta(days=1)


def line(user: tuple[str, str], scheme: str = "ldap", header: str = "Authorization") -> str:
    return f"{header}: {scheme} {base64.b64encode(':'.join(user).encode()).decode()}"


def ask(gateway: Gateway, path: str, user: tuple[str, str], *lines: str) -> Reply:
    return gateway.get(path, line(user), "Accept: application/json", *lines)


# === ldap-auth ===


def test_user_below_the_base_passes_and_is_told(gateway: Gateway, blueprints: Blueprints, echo: Origin, to_slapd: Any) -> None:
    path = blueprints.plugged(echo, "ldap-auth", **to_slapd)
    assert ask(gateway, path, ALICE, "X-Consumer-Username: root", "X-Credential-Identifier: root").status == 200
    assert echo.last.header("X-Credential-Identifier") == "alice"
    assert echo.last.header("X-Consumer-Username") is None
    assert echo.last.header("Authorization") is not None
    for wrong in (("alice", "alice's"), ("nobody", "alices-own"), BOB):
        reply = ask(gateway, path, wrong)
        assert (reply.status, reply.header("WWW-Authenticate")) == (401, "LDAP")
        assert '"message":"Unauthorized"' in reply.text.replace(": ", ":")


def test_either_header_will_do_and_both_are_hidden(gateway: Gateway, blueprints: Blueprints, echo: Origin, to_slapd: Any) -> None:
    path = blueprints.plugged(echo, "ldap-auth", **to_slapd, header_type="basic", hide_credentials=True)
    wrong = line(("alice", "other"), "Basic", "Proxy-Authorization")
    assert gateway.get(path, line(ALICE, "BASIC", "Proxy-Authorization")).status == 200
    assert gateway.get(path, wrong, line(ALICE, "basic")).status == 200
    assert echo.last.header("Proxy-Authorization") is None
    assert echo.last.header("Authorization") is None
    assert gateway.get(path, wrong).status == 401


@pytest.mark.parametrize("way", ["ldaps", "start_tls"])
def test_password_goes_over_tls(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, slapd: Slapd, to_slapd: Any, way: str
) -> None:
    port = slapd.tls_port if way == "ldaps" else slapd.port
    config: dict[str, Any] = {**to_slapd, "ldap_port": port, way: True, "verify_ldap_host": True, "timeout": 3_000}
    path = blueprints.plugged(echo, "ldap-auth", **config)
    assert ask(gateway, path, ALICE).status == 200
    assert ask(gateway, path, ("alice", "other")).status == 401
    # The certificate is for the address only.
    named = blueprints.plugged(echo, "ldap-auth", **{**config, "ldap_host": "localhost"})
    assert ask(gateway, named, ALICE).status == 500
    unverified = blueprints.plugged(echo, "ldap-auth", **{**config, "ldap_host": "localhost", "verify_ldap_host": False})
    assert ask(gateway, unverified, ALICE).status == 200


def test_answers_are_remembered_and_connections_kept(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, slapd: Slapd, to_slapd: Any
) -> None:
    path = blueprints.plugged(echo, "ldap-auth", **to_slapd, realm="remembered")
    before = slapd.log()
    assert {ask(gateway, path, ALICE).status for _ in range(5)} == {200}
    assert {ask(gateway, path, ("alice", "guessed")).status for _ in range(5)} == {401}
    since = slapd.log()[len(before) :]
    assert since.count(' BIND dn="uid=alice') == 3  # slapd logs a bind that succeeds twice
    assert since.count(" ACCEPT ") <= 1


def test_directory_down_fails_closed_until_it_is_back_but_for_whom_it_knew(
    gateway: Gateway, blueprints: Blueprints, echo: Origin
) -> None:
    with Slapd() as own:
        config: dict[str, Any] = {"ldap_host": "127.0.0.1", "ldap_port": own.port, "base_dn": PEOPLE, "attribute": "uid"}
        path = blueprints.plugged(echo, "ldap-auth", **config, timeout=2_000)
        assert ask(gateway, path, ALICE).status == 200
        assert ask(gateway, path, ("alice", "guessed")).status == 401
        own._end()
        assert ask(gateway, path, ALICE).status == 200
        assert ask(gateway, path, ("alice", "guessed")).status == 401
        reply = ask(gateway, path, ("twin", "twins-own"))
        assert (reply.status, "An unexpected error occurred" in reply.text) == (500, True)
        record = gateway.failures.wait_for(reply.request_id)[0]
        assert "identity_system_failed" in record
        assert f"ldap://127.0.0.1:{own.port}" in record
        assert "twins-own" not in gateway.error_log.path.read_text() + gateway.failures.path.read_text()
        own.start()
        assert ask(gateway, path, ("twin", "twins-own")).status == 200


# === ldap-auth-advanced ===


def test_user_anywhere_below_the_base_is_found(gateway: Gateway, blueprints: Blueprints, echo: Origin, advanced: Any) -> None:
    path = blueprints.plugged(echo, "ldap-auth-advanced", **advanced, hide_credentials=True)
    assert ask(gateway, path, BOB).status == 200
    assert echo.last.header("X-Credential-Identifier") == "bob"
    assert echo.last.header("X-Authenticated-Groups") == "dev"
    assert echo.last.header("Authorization") is None
    assert ask(gateway, path, ("ALICE", "alices-own"), "X-Authenticated-Groups: admins").status == 200
    assert echo.last.header("X-Credential-Identifier") == "alice"
    assert echo.last.header("X-Authenticated-Groups") == "dev, ops"
    for wrong in (("bob", "bobs"), ("nobody", "bobs:own"), ("twin", "twins-own")):
        assert ask(gateway, path, wrong).status == 401


def test_groups_are_found_by_their_members(gateway: Gateway, blueprints: Blueprints, echo: Origin, advanced: Any) -> None:
    path = blueprints.plugged(echo, "ldap-auth-advanced", **{**advanced, "group_member_attribute": "member"})
    assert ask(gateway, path, ALICE).status == 200
    assert echo.last.header("X-Authenticated-Groups") == "dev, ops"


def test_groups_that_are_required(gateway: Gateway, blueprints: Blueprints, echo: Origin, advanced: Any) -> None:
    both = blueprints.plugged(echo, "ldap-auth-advanced", **advanced, groups_required=["dev ops"])
    assert ask(gateway, both, ALICE).status == 200
    reply = ask(gateway, both, BOB)
    assert (reply.status, "User not in authorized LDAP Group" in reply.text) == (403, True)
    assert ask(gateway, both, ("bob", "other")).status == 401
    either = blueprints.plugged(echo, "ldap-auth-advanced", **advanced, groups_required=["admins", "dev"])
    assert {ask(gateway, either, user).status for user in (ALICE, BOB)} == {200}
    admins = blueprints.plugged(echo, "ldap-auth-advanced", **advanced, groups_required=["admins"])
    assert ask(gateway, admins, BOB).status == 403


def test_users_are_consumers(gateway: Gateway, blueprints: Blueprints, echo: Origin, advanced: Any) -> None:
    advanced["consumer_optional"] = False
    path = blueprints.plugged(echo, "ldap-auth-advanced", **advanced)
    assert ask(gateway, path, ALICE).status == 401
    consumer = blueprints.consumer(username="alice")
    blueprints.consumer(username="robert", custom_id="bob")
    gateway.settle()
    assert ask(gateway, path, ALICE).status == 200
    assert echo.last.header("X-Consumer-ID") == consumer["id"]
    assert echo.last.header("X-Credential-Identifier") == "alice"
    assert ask(gateway, path, BOB).status == 200
    assert echo.last.header("X-Consumer-Username") == "robert"
    by_username = blueprints.plugged(echo, "ldap-auth-advanced", **advanced, consumer_by=["username"])
    assert ask(gateway, by_username, BOB).status == 401


def test_without_bind_dn_users_bind_by_their_own_name(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, advanced: Any
) -> None:
    del advanced["bind_dn"], advanced["ldap_password"]
    path = blueprints.plugged(echo, "ldap-auth-advanced", **advanced)
    assert ask(gateway, path, ALICE).status == 200
    assert echo.last.header("X-Authenticated-Groups") == "dev, ops"
    assert ask(gateway, path, BOB).status == 401


def test_bind_dn_that_is_not_let_in_fails_closed(gateway: Gateway, blueprints: Blueprints, echo: Origin, advanced: Any) -> None:
    path = blueprints.plugged(echo, "ldap-auth-advanced", **{**advanced, "ldap_password": "another-5512"})
    reply = ask(gateway, path, ALICE)
    assert reply.status == 500
    assert "does not let `bind_dn` in" in gateway.failures.wait_for(reply.request_id)[0]
    assert "another-5512" not in gateway.error_log.path.read_text() + gateway.failures.path.read_text()


def test_search_results_are_logged_only_on_demand(gateway: Gateway, blueprints: Blueprints, echo: Origin, advanced: Any) -> None:
    quiet = blueprints.plugged(echo, "ldap-auth-advanced", **advanced, realm="quiet")
    assert ask(gateway, quiet, ALICE).status == 200
    loud = blueprints.plugged(echo, "ldap-auth-advanced", **advanced, log_search_results=True)
    assert ask(gateway, loud, BOB).status == 200
    gateway.error_log.wait_for("uid=bob,ou=abroad")
    assert not gateway.error_log.containing("uid=alice")
    assert not gateway.error_log.containing("bobs:own")
    assert not gateway.error_log.containing(BASE.upper())
