# SPDX-License-Identifier: Apache-2.0
"""What does a client that manages a whole configuration write, and what does it then expect to read?

The configuration is the same each time, with ids of its own, so that it can be written in any way: row by row, or whole
where there is no database.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.admin.entities import PATHS, Row, declared, own_fields, pem
from tests.support.admin import Admin

TAG = "managed-by-client"
_NAMESPACE = uuid.UUID("5f0c4c1e-8f3c-4f5e-9f0e-3a2b1c0d9e8f")

Rows = Mapping[str, Sequence[Row]]


def id_of(table: str, at: int) -> str:
    """The id of a row, the same in every run."""
    return str(uuid.uuid5(_NAMESPACE, f"{table}:{at}"))


def _row(table: str, at: int, **fields: Any) -> Row:
    return {**own_fields(table), **fields, "id": id_of(table, at), "tags": [TAG, f"{table}-{at % 2}"]}


def _ref(table: str, at: int) -> dict[str, str]:
    return {"id": id_of(table, at)}


def configuration(size: int = 6) -> Rows:
    """Some rows of every table that has tags, parents first."""
    numbers = range(size)
    certificate, key = pem("scenario.test")
    return {
        "ca_certificates": [_row("ca_certificates", 0, cert=pem("scenario-ca.test", is_authority=True)[0])],
        "certificates": [_row("certificates", at, cert=certificate, key=key) for at in range(2)],
        "snis": [_row("snis", at, name=f"s{at}.scenario.test", certificate=_ref("certificates", at % 2)) for at in numbers],
        "services": [
            _row("services", at, name=f"scenario-{at}", client_certificate=_ref("certificates", 0) if at == 0 else None)
            for at in numbers
        ],
        "routes": [
            _row("routes", at, name=f"scenario-{at}", paths=[f"/scenario/{at}"], service=_ref("services", at % size))
            for at in range(size * 2)
        ],
        "consumers": [_row("consumers", at, username=f"scenario-{at}", custom_id=f"custom/{at}") for at in numbers],
        "upstreams": [_row("upstreams", at, name=f"scenario-{at}.test") for at in numbers],
        "targets": [
            _row("targets", at, target=f"10.0.0.{at}:80", weight=at, upstream=_ref("upstreams", at % size))
            for at in range(size * 2)
        ],
        "plugins": [
            *(
                _row(
                    "plugins",
                    at,
                    name="rate-limiting",
                    instance_name=f"of-route-{at}",
                    route=_ref("routes", at),
                    config={"minute": 5},
                )
                for at in numbers
            ),
            *(
                _row(
                    "plugins",
                    size + at,
                    name="key-auth",
                    instance_name=f"of-service-{at}",
                    service=_ref("services", at),
                    config={},
                )
                for at in numbers
            ),
            _row(
                "plugins",
                2 * size,
                name="request-transformer",
                instance_name="of-consumer",
                consumer=_ref("consumers", 0),
                config={"add": {"headers": ["x-a:b"]}},
            ),
            _row("plugins", 2 * size + 1, name="http-log", instance_name="global", config={"http_endpoint": "http://h.test/"}),
        ],
        "keyauth_credentials": [
            _row("keyauth_credentials", at, key=f"scenario/{at}", consumer=_ref("consumers", at)) for at in numbers
        ],
        "basicauth_credentials": [
            _row("basicauth_credentials", at, username=f"scenario-{at}", password="p", consumer=_ref("consumers", at))
            for at in numbers
        ],
        "acls": [_row("acls", at, group=f"g{at}", consumer=_ref("consumers", 0)) for at in numbers],
        "jwt_secrets": [
            _row("jwt_secrets", at, key=f"scenario-{at}", secret="s", consumer=_ref("consumers", at)) for at in numbers
        ],
        "hmacauth_credentials": [
            _row("hmacauth_credentials", at, username=f"scenario-{at}", secret="s", consumer=_ref("consumers", at))
            for at in numbers
        ],
        "oauth2_credentials": [
            _row(
                "oauth2_credentials",
                at,
                name=f"scenario-{at}",
                client_id=f"scenario-{at}",
                client_secret="s",
                consumer=_ref("consumers", at),
            )
            for at in numbers
        ],
        "key_sets": [_row("key_sets", at, name=f"scenario-{at}") for at in range(2)],
        "keys": [_row("keys", at, name=f"scenario-{at}", kid=f"scenario-{at}", set=_ref("key_sets", at % 2)) for at in numbers],
        "vaults": [_row("vaults", 0, name="env", prefix="scenario-vault", config={"prefix": "scenario_"})],
    }


def path_of(table: str, row: Row) -> str:
    """Where a client puts a row: credentials and Targets below their parents, as decK does."""
    if table == "targets":
        return f"/upstreams/{row['upstream']['id']}/targets/{row['id']}"
    if "consumer" in row and table != "plugins":
        return f"/consumers/{row['consumer']['id']}/{declared()[table]['admin_api']['nested_path_name']}/{row['id']}"
    return f"/{PATHS[table]}/{row['id']}"


def put(admin: Admin, rows: Rows) -> Iterator[tuple[str, Row]]:
    """Writes every row by its id; each with its table as it was answered."""
    for table, of_table in rows.items():
        for row in of_table:
            path = path_of(table, row)
            if table == "targets" and admin.call("GET", path).status == 404:
                yield table, admin.post(path.rpartition("/")[0], row)
            else:
                yield table, admin.put(path, row)


def declarative(rows: Rows) -> Row:
    """The same configuration as one document."""
    document: Row = {"_format_version": "3.0"}
    for table, of_table in rows.items():
        document[table] = [
            {name: value["id"] if isinstance(value, dict) and value.keys() == {"id"} else value for name, value in row.items()}
            for row in of_table
        ]
    return document


def every(admin: Admin, path: str, size: int = 1000, tags: str | None = None) -> list[Row]:
    """All rows of a collection, page by page."""
    found: list[Row] = []
    follow: str | None = f"{path}?size={size}" + (f"&tags={tags}" if tags else "")
    while follow is not None:
        page = admin.get(follow)
        found += page["data"]
        follow = page["next"]
        if follow is not None and "size=" not in follow:
            follow += f"&size={size}"
    return found


def check_reads(admin: Admin, rows: Rows) -> None:
    """Everything that was written is found in every way in which a client looks for it."""
    for table, of_table in rows.items():
        ids = sorted(row["id"] for row in of_table)
        if table == "targets":
            _check_targets(admin, of_table)
            continue
        top = f"/{PATHS[table]}"
        for size in (1000, 4):
            assert [row["id"] for row in every(admin, top, size, TAG)] == ids, (table, size)
        halves = [every(admin, top, 1000, f"{TAG},{table}-{half}") for half in (0, 1)]
        assert sorted(row["id"] for half in halves for row in half) == ids
        assert len(every(admin, top, 1000, f"{table}-0/{table}-1")) == len(ids)
        assert every(admin, top, 1000, f"nothing,{TAG}") == []
        endpoint_key = declared()[table]["endpoint_key"]
        for row in of_table:
            _check_row(admin, table, row, endpoint_key)
    _check_children(admin, rows)
    tagged = {(one["entity_name"], one["entity_id"]) for one in every(admin, f"/tags/{TAG}", 50)}
    assert tagged == {(table, row["id"]) for table, of_table in rows.items() for row in of_table}
    assert {(one["entity_name"], one["entity_id"]) for one in every(admin, "/tags", 50) if one["tag"] == TAG} == tagged
    for row in rows["consumers"]:
        found = admin.get(f"/consumers?custom_id={row['custom_id'].replace('/', '%2F')}")
        assert ([one["id"] for one in found["data"]], found["next"]) == ([row["id"]], None)
    assert admin.get("/consumers?custom_id=nobody") == {"data": [], "next": None}
    assert admin.call("GET", "/consumers?custom_id=").json == {"message": "custom_id must be an unempty string"}


def _check_row(admin: Admin, table: str, row: Row, endpoint_key: str | None) -> None:
    shown = admin.get(f"/{PATHS[table]}/{row['id']}")
    for name, value in row.items():
        if (table, name) not in {
            ("basicauth_credentials", "password"),
            ("plugins", "config"),
            ("upstreams", "healthchecks"),
            ("keys", "pem"),
        }:
            assert shown[name] == value, (table, name)
    if endpoint_key is not None:
        assert admin.get(f"/{PATHS[table]}/{shown[endpoint_key].replace('/', '%2F')}") == shown
    if "consumer" in row and table != "plugins":
        assert admin.get(path_of(table, row)) == shown
        assert admin.get(f"/{PATHS[table]}/{row['id']}/consumer")["id"] == row["consumer"]["id"]


def _check_targets(admin: Admin, targets: Sequence[Row]) -> None:
    for upstream_id in {row["upstream"]["id"] for row in targets}:
        expected = sorted(row["id"] for row in targets if row["upstream"]["id"] == upstream_id)
        for path in ("targets", "targets/all"):
            for size in (1000, 1):
                assert [row["id"] for row in every(admin, f"/upstreams/{upstream_id}/{path}", size)] == expected
        health = admin.get(f"/upstreams/{upstream_id}/health")["data"]
        assert [row["id"] for row in health] == expected
    for row in targets:
        by_name = admin.get(f"/upstreams/{row['upstream']['id']}/targets/{row['target']}")
        assert (by_name["id"], by_name["weight"]) == (row["id"], row["weight"])


def _check_children(admin: Admin, rows: Rows) -> None:
    for parent_table, child_table, field in (
        ("services", "routes", "service"),
        ("services", "plugins", "service"),
        ("routes", "plugins", "route"),
        ("consumers", "plugins", "consumer"),
        ("consumers", "acls", "consumer"),
        ("certificates", "snis", "certificate"),
        ("key_sets", "keys", "set"),
    ):
        nested = declared()[child_table]["admin_api"]["nested_path_name"]
        for parent in rows[parent_table]:
            expected = sorted(row["id"] for row in rows[child_table] if (row.get(field) or {}).get("id") == parent["id"])
            path = f"/{PATHS[parent_table]}/{parent['id']}/{nested}"
            assert [row["id"] for row in every(admin, path)] == expected, path
    for certificate in rows["certificates"]:
        names = sorted(sni["name"] for sni in rows["snis"] if sni["certificate"]["id"] == certificate["id"])
        assert admin.get(f"/certificates/{names[0]}")["snis"] == names
