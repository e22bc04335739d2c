# SPDX-License-Identifier: Apache-2.0
"""Does a worker get references that it can resolve, and get them again when the vault behind them has changed?"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pylae.control.expansion import Expansion
from pylae.control.feed import Feed
from pylae.database.changes import Change, Commit, Replacement
from pylae.sdk.loader import load

DATABASE = "db"
ENDPOINT = "{vault://apps/endpoint}"


def plugin(id_: str, **config: Any) -> dict[str, Any]:
    return {"id": id_, "name": "http-log", "config": {"http_endpoint": ENDPOINT, **config}}


def vault(prefix: str | None, id_: str = "v") -> dict[str, Any]:
    return {"id": id_, "prefix": "apps", "name": "env", "config": {"prefix": prefix}}


def commit(sequence: int, table: str, row: dict[str, Any] | None, id_: str = "v") -> Commit:
    return Commit([Change(sequence, table, "delete" if row is None else "upsert", id_ if row is None else row["id"], row, ())])


@pytest.fixture
def feed() -> Feed:
    rows = {"plugins": [plugin("p"), {"id": "plain", "name": "key-auth", "config": {}}]}
    made = Feed(DATABASE, 0, rows)
    made.expansion = Expansion(load(["bundled"]))
    return made


def body_of(frame: bytes) -> Any:
    return msgspec.msgpack.decode(frame[4:])[1]


def endpoint_of(feed: Feed) -> str:
    plugins = {row["id"]: row for row in body_of(feed.snapshot())["entities"]["plugins"]}
    endpoint: str = plugins["p"]["config"]["http_endpoint"]
    return endpoint


def test_a_row_is_worked_into_the_references_that_lead_to_it(feed: Feed) -> None:
    assert endpoint_of(feed) == ENDPOINT
    feed.apply(commit(1, "vaults", vault("APP_")))
    assert endpoint_of(feed) == "{vault://env/endpoint?prefix=APP_}"
    feed.apply(commit(2, "vaults", vault(None)))
    assert endpoint_of(feed) == "{vault://env/endpoint?prefix=}"
    feed.apply(commit(3, "vaults", None))
    assert endpoint_of(feed) == ENDPOINT


def test_a_row_is_known_by_the_prefix_that_it_has_now(feed: Feed) -> None:
    feed.apply(commit(1, "vaults", {**vault("APP_"), "prefix": "others"}))
    assert endpoint_of(feed) == ENDPOINT
    feed.apply(commit(2, "vaults", vault("APP_")))
    assert endpoint_of(feed) == "{vault://env/endpoint?prefix=APP_}"
    feed.apply(commit(3, "vaults", {**vault("APP_"), "prefix": "others"}))
    assert endpoint_of(feed) == ENDPOINT


def test_only_fields_that_may_refer_are_touched(feed: Feed) -> None:
    text = "{vault://apps/x}"
    feed.apply(commit(1, "vaults", vault("A_")))
    feed.apply(
        commit(2, "plugins", plugin("p", headers={"a": text, text: "b", "c": f"Bearer {text}"}, method=text, queue={"a": text}))
    )
    rows = body_of(feed.snapshot())["entities"]["plugins"]
    config = next(row["config"] for row in rows if row["id"] == "p")
    assert config["headers"] == {"a": "{vault://env/x?prefix=A_}", text: "b", "c": f"Bearer {text}"}
    assert (config["method"], config["queue"]) == (text, {"a": text})


def test_a_vault_that_changed_brings_the_plugins_that_refer_and_no_others(feed: Feed) -> None:
    feed.apply(commit(1, "routes", {"id": "r", "paths": ["/"]}))
    feed.apply(commit(2, "vaults", vault("APP_")))
    changes = body_of(feed.since((DATABASE, 0)))["changes"]
    assert [change[:3] for change in changes] == [["routes", "upsert", "r"], ["plugins", "upsert", "p"]]
    assert changes[1][3]["config"]["http_endpoint"] == "{vault://env/endpoint?prefix=APP_}"
    assert body_of(feed.since((DATABASE, 2)))["changes"] == []


def test_a_plugin_that_went_since_is_deleted_once(feed: Feed) -> None:
    feed.apply(commit(1, "vaults", vault("APP_")))
    feed.apply(commit(2, "plugins", None, "p"))
    assert [change[:3] for change in body_of(feed.since((DATABASE, 0)))["changes"]] == [["plugins", "delete", "p"]]


def test_a_control_that_began_again_still_knows_that_a_vault_changed() -> None:
    changes = [Change(7, "vaults", "upsert", "v", None, ())]
    feed = Feed(DATABASE, 7, {"plugins": [plugin("p")]}, changes)
    feed.expansion = Expansion(load(["bundled"]), [vault("APP_")])
    (change,) = body_of(feed.since((DATABASE, 6)))["changes"]
    assert change[3]["config"]["http_endpoint"] == "{vault://env/endpoint?prefix=APP_}"


def test_a_whole_configuration_brings_its_own_vaults(feed: Feed) -> None:
    feed.apply(commit(1, "vaults", vault("APP_")))
    encoded = {"plugins": {"p": msgspec.msgpack.encode(plugin("p"))}, "vaults": {"w": msgspec.msgpack.encode(vault("B_", "w"))}}
    feed.apply(Replacement([], 2, encoded, is_whole=True))
    assert endpoint_of(feed) == "{vault://env/endpoint?prefix=B_}"
    feed.apply(Replacement([], 3, {"plugins": encoded["plugins"]}, is_whole=True))
    assert endpoint_of(feed) == ENDPOINT


def test_what_is_no_plugin_of_ours_or_no_reference_stays_as_it_is() -> None:
    expansion = Expansion({}, [vault("APP_")])
    row = msgspec.msgpack.encode(plugin("p"))
    assert expansion.of_row(row) is row
    broken = msgspec.msgpack.encode(plugin("p", http_endpoint="{vault://apps/x#two}"))
    assert msgspec.msgpack.decode(Expansion(load(["bundled"]), [vault("APP_")]).of_row(broken)) == msgspec.msgpack.decode(broken)
