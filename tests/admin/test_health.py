# SPDX-License-Identifier: Apache-2.0
"""How do Targets do, and do workers see what an operator says of them?"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.admin.entities import Maker, Row
from tests.admin.process import ControlProcess
from tests.support.admin import Admin

CHECKED: Row = {"healthchecks": {"passive": {"unhealthy": {"http_failures": 1}}}}
OFF: Row = {"healthchecks": {}}


@pytest.fixture
def maker(admin: Admin) -> Maker:
    return Maker(admin)


def upstream_with(maker: Maker, *targets: str, weight: int = 100, **fields: Any) -> tuple[str, list[Row]]:
    """The path of an Upstream, and its Targets."""
    upstream = maker.row("upstreams", **fields)
    parent = {"id": upstream["id"]}
    return f"/upstreams/{upstream['name']}", [maker.row("targets", upstream=parent, target=one, weight=weight) for one in targets]


def health(admin: Admin, path: str) -> dict[str, str]:
    """Of each Target."""
    return {target["target"]: target["health"] for target in admin.get(f"{path}/health")["data"]}


def table(control: ControlProcess, target: Row) -> dict[str, bool]:
    """What workers read of a Target: by address whether it is healthy."""
    return {row["address"]: row["is_healthy"] for row in control.shared.health() if row["target"] == target["id"]}


@pytest.mark.parametrize(
    ("healthchecks", "expected"),
    [
        ({}, "HEALTHCHECKS_OFF"),
        ({"active": {"healthy": {"successes": 3}}, "passive": {"healthy": {"successes": 3}}}, "HEALTHCHECKS_OFF"),
        ({"active": {"unhealthy": {"http_failures": 3}}}, "HEALTHCHECKS_OFF"),
        ({"active": {"healthy": {"interval": 1}}}, "HEALTHY"),
        ({"active": {"unhealthy": {"interval": 1}}}, "HEALTHY"),
        ({"passive": {"unhealthy": {"http_failures": 1}}}, "HEALTHY"),
        ({"passive": {"unhealthy": {"tcp_failures": 1}}}, "HEALTHY"),
        ({"passive": {"unhealthy": {"timeouts": 1}}}, "HEALTHY"),
    ],
)
def test_targets_are_healthy_until_marked_where_they_are_watched(
    admin: Admin, maker: Maker, healthchecks: Row, expected: str
) -> None:
    path, _ = upstream_with(maker, "127.0.0.1:80", "[::1]:81", healthchecks=healthchecks)
    assert set(health(admin, path).values()) == {expected}


def test_the_answer_has_kongs_shape(admin: Admin, maker: Maker) -> None:
    path, (target,) = upstream_with(maker, "127.0.0.1:80", **CHECKED)
    body = admin.get(f"{path}/health")
    assert body["next"] is None
    assert body["node_id"] == admin.get("/")["node_id"]
    assert body["data"] == [
        {
            **target,
            "health": "HEALTHY",
            "data": {
                "host": "127.0.0.1",
                "port": 80,
                "dns": "A",
                "nodeWeight": 100,
                "weight": {"total": 100, "available": 100, "unavailable": 0},
                "addresses": [{"ip": "127.0.0.1", "port": 80, "weight": 100, "health": "HEALTHY"}],
            },
        }
    ]
    assert admin.get(f"{path}/health?balancer_health=1")["data"] == {
        "id": target["upstream"]["id"],
        "health": "HEALTHY",
        "balancer_health": "HEALTHY",
        "details": {
            "healthy": True,
            "weight": {"total": 100, "available": 100, "unavailable": 0},
            "hosts": [body["data"][0]["data"]],
        },
    }


def test_a_name_that_nobody_knows_is_an_error_of_dns(admin: Admin, maker: Maker) -> None:
    path, _ = upstream_with(maker, "nobody.invalid:80", "localhost:81", **OFF)
    assert health(admin, path) == {"nobody.invalid:80": "DNS_ERROR", "localhost:81": "HEALTHCHECKS_OFF"}
    (failed,) = [row for row in admin.get(f"{path}/health")["data"] if row["health"] == "DNS_ERROR"]
    assert failed["data"]["addresses"] == []
    assert "dns server error" in failed["data"]["dns"]


def test_pages(admin: Admin, maker: Maker) -> None:
    path, targets = upstream_with(maker, *(f"127.0.0.1:{port}" for port in range(1, 6)), **OFF)
    seen, follow = [], f"{path}/health?size=2"
    for _ in range(3):
        page = admin.get(follow)
        assert page["node_id"]
        seen += [row["id"] for row in page["data"]]
        if page["next"] is None:
            break
        assert page["next"] == f"/upstreams/{targets[0]['upstream']['id']}/health?offset={page['offset']}"
        follow = page["next"] + "&size=2"
    assert seen == sorted(target["id"] for target in targets)
    assert admin.call("GET", f"{path}/health?size=0").json["code"] == 9
    assert admin.call("GET", f"{path}/health?offset=x").json["code"] == 7
    assert len(admin.get(f"{path}/health?balancer_health=1&size=1")["data"]["details"]["hosts"]) == 5


def test_a_mark_is_shown_and_seen_by_workers(control: ControlProcess, maker: Maker) -> None:
    admin = control.admin
    path, (first, second) = upstream_with(maker, "127.0.0.1:80", "127.0.0.2:80", **CHECKED)
    assert table(control, first) == table(control, second) == {}
    assert admin.call("PUT", f"{path}/targets/{first['id']}/unhealthy").status == 204
    assert table(control, first) == {"127.0.0.1": False}
    (row,) = [row for row in control.shared.health() if row["target"] == first["id"]]
    assert (row["upstream"], row["port"], row["why"]) == (first["upstream"]["id"], 80, "marked by an operator")
    assert health(admin, path) == {"127.0.0.1:80": "UNHEALTHY", "127.0.0.2:80": "HEALTHY"}
    whole = admin.get(f"{path}/health?balancer_health=1")["data"]
    assert whole["details"]["weight"] == {"total": 200, "available": 100, "unavailable": 100}
    assert whole["balancer_health"] == "HEALTHY"
    assert admin.call("PUT", f"{path}/targets/127.0.0.2:80/127.0.0.2:80/unhealthy").status == 204
    assert (table(control, first), table(control, second)) == ({"127.0.0.1": False}, {"127.0.0.2": False})
    whole = admin.get(f"{path}/health?balancer_health=1")["data"]
    assert (whole["balancer_health"], whole["health"], whole["details"]["healthy"]) == ("UNHEALTHY", "UNHEALTHY", False)
    for target in (first, second):
        assert admin.call("PUT", f"{path}/targets/{target['id']}/healthy").status == 204
    assert (table(control, first), table(control, second)) == ({"127.0.0.1": True}, {"127.0.0.2": True})
    assert set(health(admin, path).values()) == {"HEALTHY"}


def test_what_checks_found_is_shown_with_its_evidence(control: ControlProcess, maker: Maker) -> None:
    admin = control.admin
    path, (target, _) = upstream_with(maker, "[::1]:80", "[::1]:81", **CHECKED)
    # A worker's word, as far as it can be said without one.
    control.shared.mark_health(target["upstream"]["id"], target["id"], "::1", 80, is_healthy=False)
    data = {row["data"]["port"]: row["data"] for row in admin.get(f"{path}/health")["data"]}
    (address,) = data[80]["addresses"]
    (row,) = [row for row in control.shared.health() if row["target"] == target["id"]]
    shown = address.pop("pylae")
    assert address == {"ip": "::1", "port": 80, "weight": 100, "health": "UNHEALTHY"}
    assert shown == {name: row[name] for name in row if name not in ("upstream", "target", "address", "port", "is_healthy")}
    assert (shown["state"], shown["why"], shown["evidence"]) == ("unhealthy", "marked by an operator", "")
    assert "pylae" not in data[81]["addresses"][0]
    assert data[80]["weight"] == {"total": 100, "available": 0, "unavailable": 100}


def test_one_address_of_a_name_comes_back_alone(control: ControlProcess, maker: Maker) -> None:
    admin = control.admin
    path, (target,) = upstream_with(maker, "localhost:80", **CHECKED)
    addresses = [one["ip"] for one in admin.get(f"{path}/health")["data"][0]["data"]["addresses"]]
    admin.call("PUT", f"{path}/targets/{target['id']}/unhealthy")
    assert table(control, target) == dict.fromkeys(addresses, False)
    for address in addresses:
        shown = f"[{address}]" if ":" in address else address
        assert admin.call("PUT", f"{path}/targets/localhost:80/{shown}:80/healthy").status == 204
        assert table(control, target)[address]
        assert health(admin, path) == {"localhost:80": "HEALTHY"}
    assert table(control, target) == dict.fromkeys(addresses, True)


def test_a_mark_reaches_addresses_that_only_workers_have_for_a_name(control: ControlProcess, maker: Maker) -> None:
    admin = control.admin
    path, (target,) = upstream_with(maker, "localhost:80", **CHECKED)
    control.shared.mark_health(target["upstream"]["id"], target["id"], "127.0.0.77", 80, is_healthy=True)
    admin.call("PUT", f"{path}/targets/{target['id']}/unhealthy")
    assert not any(table(control, target).values())
    assert admin.call("PUT", f"{path}/targets/{target['id']}/127.0.0.77/healthy").status == 204
    assert [address for address, is_healthy in table(control, target).items() if is_healthy] == ["127.0.0.77"]


def test_a_mark_goes_with_what_it_is_on(control: ControlProcess, maker: Maker) -> None:
    admin = control.admin
    path, (gone, moved, unwatched) = upstream_with(maker, "127.0.0.1:80", "127.0.0.2:80", "127.0.0.3:80", **CHECKED)
    for target in (gone, moved, unwatched):
        admin.call("PUT", f"{path}/targets/{target['id']}/unhealthy")
    admin.patch(f"{path}/targets/{unwatched['id']}", {"weight": 5})
    admin.delete(f"{path}/targets/{gone['id']}")
    assert health(admin, path) == {"127.0.0.2:80": "UNHEALTHY", "127.0.0.3:80": "UNHEALTHY"}
    admin.patch(f"{path}/targets/{moved['id']}", {"target": "127.0.0.9:80"})
    again = maker.row("targets", upstream=gone["upstream"], target="127.0.0.1:80")
    assert again["id"] != gone["id"]
    assert health(admin, path) == {"127.0.0.1:80": "HEALTHY", "127.0.0.9:80": "HEALTHY", "127.0.0.3:80": "UNHEALTHY"}
    other, (still,) = upstream_with(maker, "127.0.0.3:80", **CHECKED)
    admin.call("PUT", f"{other}/targets/{still['id']}/unhealthy")
    admin.patch(path, {"healthchecks": {"passive": {"unhealthy": {"http_failures": 0}}}})
    assert set(health(admin, path).values()) == {"HEALTHCHECKS_OFF"}
    assert admin.get(f"{path}/health?balancer_health=1")["data"]["balancer_health"] == "HEALTHY"
    admin.patch(path, CHECKED)
    assert set(health(admin, path).values()) == {"HEALTHY"}
    assert health(admin, other) == {"127.0.0.3:80": "UNHEALTHY"}


def test_a_full_table_refuses_a_mark(tmp_path: Path) -> None:
    with ControlProcess(tmp_path, health_slots=1) as process:
        path, (first, second) = upstream_with(Maker(process.admin), "127.0.0.1:80", "127.0.0.2:80", **CHECKED)
        assert process.admin.call("PUT", f"{path}/targets/{first['id']}/unhealthy").status == 204
        refused = process.admin.call("PUT", f"{path}/targets/{second['id']}/unhealthy")
        assert (refused.status, refused.json) == (503, {"message": "there is no room for the health of 127.0.0.2"})
        assert health(process.admin, path) == {"127.0.0.1:80": "UNHEALTHY", "127.0.0.2:80": "HEALTHY"}


def test_what_cannot_be_marked(admin: Admin, maker: Maker) -> None:
    path, (target,) = upstream_with(maker, "127.0.0.1:80", **OFF)
    name = path.rpartition("/")[2]
    for where in (f"{path}/targets/{target['id']}", f"{path}/targets/{target['id']}/127.0.0.1:80"):
        answer = admin.call("PUT", f"{where}/unhealthy")
        assert (answer.status, answer.json) == (400, {"message": f"no healthchecker found for {name}"})
    checked, _ = upstream_with(maker, "127.0.0.1:80", **CHECKED)
    for where in (
        f"{checked}/targets/127.0.0.7:80",
        f"{checked}/targets/{target['id']}",
        f"{checked}/targets/127.0.0.1:80/127.0.0.1:81",
        f"{checked}/targets/127.0.0.1:80/x",
        "/upstreams/nothing/targets/127.0.0.1:80",
    ):
        answer = admin.call("PUT", f"{where}/healthy")
        assert (answer.status, answer.json) == (404, {"message": "Not found"}), where
    assert admin.call("GET", "/upstreams/nothing/health").status == 404


def test_a_threshold_makes_the_whole_unhealthy(admin: Admin, maker: Maker) -> None:
    path, (first, _) = upstream_with(
        maker, "127.0.0.1:80", "127.0.0.2:80", healthchecks={**CHECKED["healthchecks"], "threshold": 50}
    )
    assert admin.get(f"{path}/health?balancer_health=1")["data"]["balancer_health"] == "HEALTHY"
    admin.call("PUT", f"{path}/targets/{first['id']}/unhealthy")
    assert admin.get(f"{path}/health?balancer_health=1")["data"]["balancer_health"] == "UNHEALTHY"


def test_an_upstream_without_weight_is_unhealthy(admin: Admin, maker: Maker) -> None:
    for path, _ in (upstream_with(maker, **OFF), upstream_with(maker, "127.0.0.1:80", weight=0, **OFF)):
        data = admin.get(f"{path}/health?balancer_health=1")["data"]
        assert (data["health"], data["balancer_health"]) == ("HEALTHCHECKS_OFF", "UNHEALTHY")


def test_a_mark_outlives_control_but_not_what_it_is_on(tmp_path: Path) -> None:
    with ControlProcess(tmp_path) as process:
        maker = Maker(process.admin)
        path, (kept, gone) = upstream_with(maker, "127.0.0.1:80", "127.0.0.2:80", **CHECKED)
        for target in (kept, gone):
            process.admin.call("PUT", f"{path}/targets/{target['id']}/unhealthy")
        process.kill()
        with closing(sqlite3.connect(tmp_path / "pylae.db")) as connection, connection:
            connection.execute("DELETE FROM targets WHERE id = ?", (gone["id"],))
        process.restart()
        assert health(process.admin, path) == {"127.0.0.1:80": "UNHEALTHY"}
        assert process.admin.call("PUT", f"{path}/targets/{kept['id']}/healthy").status == 204
        assert health(process.admin, path) == {"127.0.0.1:80": "HEALTHY"}
    # Another run of the gateway, whose supervisor made another segment.
    with ControlProcess(tmp_path) as process:
        assert health(process.admin, path) == {"127.0.0.1:80": "HEALTHY"}
