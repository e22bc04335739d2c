# SPDX-License-Identifier: Apache-2.0
"""What does ldap-auth-advanced make of its configuration and of groups, without asking any server?"""

from __future__ import annotations

import pytest

from pylae.plugins.ldap_auth_advanced.groups import Groups
from pylae.plugins.ldap_auth_advanced.plugin import LdapAuthAdvanced
from pylae.sdk import SchemaViolation
from pylae.sdk.ldap.entries import Entry
from pylae.sdk.testing import Scene, validated

CONFIG = {"ldap_host": "127.0.0.1", "ldap_port": 1, "base_dn": "dc=example,dc=com", "attribute": "uid"}
GUEST = {"id": "a2222222-2222-4222-8222-222222222222", "username": "guest", "custom_id": None, "created_at": 1}
BASE = "ou=groups,dc=example,dc=com"


def test_defaults_are_those_of_kongs_documentation() -> None:
    stored = validated(LdapAuthAdvanced, CONFIG)
    assert {name: value for name, value in stored.items() if name not in CONFIG} == {
        "ldap_password": None,
        "bind_dn": None,
        "ldaps": False,
        "start_tls": False,
        "verify_ldap_host": False,
        "cache_ttl": 60,
        "hide_credentials": False,
        "timeout": 10_000,
        "keepalive": 60_000,
        "anonymous": "",
        "header_type": "ldap",
        "consumer_optional": False,
        "consumer_by": ["username", "custom_id"],
        "group_base_dn": None,
        "group_name_attribute": None,
        "group_member_attribute": "memberOf",
        "log_search_results": False,
        "groups_required": None,
        "realm": None,
    }


@pytest.mark.parametrize("config", [{"ldaps": True, "start_tls": True}, {"consumer_by": ["id"]}, {"ldap_port": 65_536}])
def test_what_cannot_be_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(SchemaViolation):
        validated(LdapAuthAdvanced, {**CONFIG, **config})


def test_client_without_credentials_is_refused_with_a_challenge() -> None:
    with Scene(LdapAuthAdvanced, {**CONFIG, "realm": "staff"}) as scene:
        outcome = scene.send()
    assert (outcome.status, outcome.json()["message"]) == (401, "Unauthorized")
    assert outcome.headers["www-authenticate"] == 'LDAP realm="staff"'


def test_anonymous_consumer_is_in_no_group_whatever_the_client_says() -> None:
    with Scene(LdapAuthAdvanced, {**CONFIG, "anonymous": "guest"}, rows={"consumers": [GUEST]}) as scene:
        outcome = scene.send(headers={"X-Authenticated-Groups": "admins"})
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-Authenticated-Groups") is None


@pytest.mark.parametrize(
    ("required", "groups", "are_enough"),
    [
        (None, [], True),
        ([], [], True),
        (["dev"], [], False),
        (["dev"], ["dev"], True),
        (["dev ops"], ["dev"], False),
        (["dev ops"], ["ops", "dev"], True),
        (["dev", "ops"], ["ops"], True),
        (["dev"], ["Dev"], False),
        ([" "], ["dev"], False),
        (["*Dev"], ["*Dev"], True),
    ],
)
def test_groups_are_joined_by_and_within_a_text_and_by_or_between(
    required: list[str] | None, groups: list[str], *, are_enough: bool
) -> None:
    assert Groups(BASE, "cn", "memberOf", required).are_enough(groups) is are_enough


def test_only_groups_right_below_the_base_count() -> None:
    names = [
        "cn=dev,ou=groups,dc=example,dc=com",
        "CN=Ops, OU=Groups, DC=example, DC=com",
        "cn=nested,ou=more,ou=groups,dc=example,dc=com",
        "cn=admins,ou=people,dc=example,dc=com",
        "ou=unit,ou=groups,dc=example,dc=com",
        "cn=admins\\,ou\\=groups\\,dc\\=example\\,dc\\=com,ou=people,dc=example,dc=com",
        "cn=with\\, comma,ou=groups,dc=example,dc=com",
        "cn=a\\0d\\0ab,ou=groups,dc=example,dc=com",
        "no name",
        "",
    ]
    groups = Groups(BASE, "cn", "memberOf", None)
    assert groups.of_user(Entry("uid=a", {"memberof": names})) == ("dev", "Ops", "with, comma")
    assert groups.of_user(Entry("uid=a", {})) is None
