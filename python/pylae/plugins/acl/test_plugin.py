# SPDX-License-Identifier: Apache-2.0
"""Whom does acl let in, by which groups, and what is the upstream told?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pylae.plugins.acl.plugin import Acl
from pylae.sdk import SchemaViolation
from pylae.sdk.auth.facts import set_groups
from pylae.sdk.testing import MemoryExchange, Outcome, Scene, validated

ALICE: dict[str, Any] = {"id": "a1111111-1111-4111-8111-111111111111", "username": "alice", "created_at": 1}
NOBODY: dict[str, Any] = {"id": "a2222222-2222-4222-8222-222222222222", "username": "nobody", "created_at": 1}
CREDENTIAL = {"id": "c1111111-1111-4111-8111-111111111111"}
ROWS = {
    "consumers": [ALICE, NOBODY],
    "acls": [
        {"id": "d1111111-1111-4111-8111-111111111111", "consumer": {"id": ALICE["id"]}, "group": "staff"},
        {"id": "d2222222-2222-4222-8222-222222222222", "consumer": {"id": ALICE["id"]}, "group": "admins"},
    ],
}


def as_(
    consumer: dict[str, Any] | None, credential: dict[str, Any] | None = CREDENTIAL, groups: list[str] | None = None
) -> Callable[[MemoryExchange], None]:
    def say(exchange: MemoryExchange) -> None:
        if consumer is not None or credential is not None:
            exchange.client.authenticate(consumer, credential)
        if groups is not None:
            set_groups(exchange, groups)

    return say


def sent(config: dict[str, Any], who: Callable[[MemoryExchange], None], **request: Any) -> Outcome:
    with Scene(Acl, config, rows=ROWS, prepare_exchange=who) as scene:
        return scene.send(**request)


@pytest.mark.parametrize(
    ("config", "status"),
    [
        ({"allow": ["staff"]}, 200),
        ({"allow": ["staff", "others"]}, 200),
        ({"allow": ["others"]}, 403),
        ({"allow": ["STAFF"]}, 403),
        ({"allow": ["staf"]}, 403),
        ({"deny": ["others"]}, 200),
        ({"deny": ["staff"]}, 403),
        ({"deny": ["others", "admins"]}, 403),
    ],
)
def test_groups_of_the_consumer(config: dict[str, Any], status: int) -> None:
    outcome = sent(config, as_(ALICE))
    assert outcome.status == status
    if status == 403:
        assert outcome.json()["message"] == "You cannot consume this service"
    else:
        assert outcome.upstream is not None
        assert outcome.upstream.get_header("X-Consumer-Groups") == "admins, staff"


@pytest.mark.parametrize(("config", "status"), [({"allow": ["staff"]}, 403), ({"deny": ["staff"]}, 200)])
def test_consumer_without_groups(config: dict[str, Any], status: int) -> None:
    outcome = sent(config, as_(NOBODY), headers={"X-Consumer-Groups": "staff"})
    assert outcome.status == status
    if outcome.upstream is not None:
        assert outcome.upstream.get_header("X-Consumer-Groups") is None


def test_nobody_is_known() -> None:
    for config in ({"allow": ["staff"]}, {"deny": ["staff"]}):
        outcome = sent(config, as_(None, None), headers={"X-Consumer-Groups": "staff", "X-Authenticated-Groups": "staff"})
        assert (outcome.status, outcome.json()["message"]) == (401, "Unauthorized")


def test_credential_without_consumer_and_groups() -> None:
    for config in ({"allow": ["staff"]}, {"deny": ["staff"]}):
        outcome = sent(config, as_(None, CREDENTIAL))
        assert (outcome.status, outcome.json()["message"]) == (403, "You cannot consume this service")


@pytest.mark.parametrize("groups", [["staff"], ["staff", "others"]])
def test_authenticated_groups_without_consumer(groups: list[str]) -> None:
    outcome = sent({"allow": ["staff"]}, as_(None, CREDENTIAL, groups), headers={"X-Consumer-Groups": "forged"})
    assert outcome.status == 200
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-Authenticated-Groups") == ", ".join(groups)
    assert outcome.upstream.get_header("X-Consumer-Groups") is None
    assert sent({"deny": ["staff"]}, as_(None, None, groups)).status == 403


def test_which_groups_count() -> None:
    # A real Consumer's own groups, unless it is said otherwise; of the anonymous one those that are authenticated.
    assert sent({"allow": ["others"]}, as_(ALICE, CREDENTIAL, ["others"])).status == 403
    assert sent({"allow": ["others"], "always_use_authenticated_groups": True}, as_(ALICE, CREDENTIAL, ["others"])).status == 200
    assert sent({"allow": ["staff"], "always_use_authenticated_groups": True}, as_(ALICE, CREDENTIAL, ["others"])).status == 403
    assert sent({"allow": ["staff"], "always_use_authenticated_groups": True}, as_(ALICE)).status == 200
    assert sent({"allow": ["others"]}, as_(NOBODY, None, ["others"])).status == 200
    assert sent({"allow": ["staff"]}, as_(ALICE, None)).status == 200


def test_hidden_groups() -> None:
    outcome = sent({"allow": ["staff"], "hide_groups_header": True}, as_(ALICE), headers={"X-Consumer-Groups": "forged"})
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-Consumer-Groups") is None


def test_changes_count_at_once_and_what_is_known_is_not_asked_again() -> None:
    with Scene(Acl, {"allow": ["staff"]}, rows=ROWS, prepare_exchange=as_(ALICE)) as scene:
        assert [scene.send().status for _ in range(3)] == [200] * 3
        assert len(scene.host.calls) == 1
        scene.host.remove("acls", "d2222222-2222-4222-8222-222222222222")
        assert scene.send().status == 200
        scene.host.remove("acls", "d1111111-1111-4111-8111-111111111111")
        assert scene.send().status == 403
        row: dict[str, Any] = {"id": "d3333333-3333-4333-8333-333333333333", "consumer": {"id": ALICE["id"]}, "group": "staff"}
        scene.host.rows["acls"].append(row)
        scene.host.change("acls", row["id"], tags=None)
        assert scene.send().status == 200


@pytest.mark.parametrize("config", [{}, {"allow": ["a"], "deny": ["b"]}, {"allow": []}])
def test_one_of_allow_and_deny(config: dict[str, Any]) -> None:
    with pytest.raises(SchemaViolation):
        validated(Acl, config)
