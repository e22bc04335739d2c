# SPDX-License-Identifier: Apache-2.0
"""Does aio-kong, a client that others wrote for Kong, find in the gateway what it expects?"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from kong.client import Kong, KongResponseError

from tests.support.certificates import self_signed
from tests.support.gateway import Gateway

# `has` of the client leaves its answer unread, and so its connection open.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")

COMMAND = Path(sys.executable).with_name("kongfig")
Made = TypeVar("Made")

DECLARED: dict[str, Any] = {
    "services": [
        {
            "name": "declared",
            "host": "declared.test",
            "port": 8080,
            "routes": [
                {
                    "name": "declared-route",
                    "paths": "/declared",
                    "methods": ["GET", "POST"],
                    "service": {"name": "declared"},
                    "plugins": [{"name": "request-termination", "config": {"status_code": 418, "message": "a teapot"}}],
                }
            ],
            "plugins": [{"name": "rate-limiting", "config": {"minute": 5, "policy": "local"}}],
        },
        {"name": "gone", "ensure": "absent"},
    ],
    "consumers": [
        {
            "username": "declared",
            "custom_id": "d-1",
            "groups": ["first", "second"],
            "auths": [
                {"type": "key-auth", "config": {"key": "declared-key"}},
                {"type": "basic-auth", "config": {"username": "declared", "password": "secret"}},
            ],
        }
    ],
    "plugins": [{"name": "correlation-id", "config": {"header_name": "X-Id"}}],
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway() as started:
        yield started


@asynccontextmanager
async def client(gateway: Gateway) -> AsyncIterator[Kong]:
    async with Kong(url=f"http://127.0.0.1:{gateway.admin_port}") as kong:
        yield kong
    gc.collect()  # the connections that it left open are found now, while their warnings are expected


def run(gateway: Gateway, work: Callable[[Kong], Awaitable[Made]]) -> Made:
    async def within() -> Made:
        async with client(gateway) as kong:
            return await work(kong)

    return asyncio.run(within())


def test_services_and_routes_live_as_the_client_expects(gateway: Gateway) -> None:
    async def work(kong: Kong) -> None:
        service = await kong.services.create(name="live", host="live.test", port=8080)
        assert (service.name, service.host, service.protocol) == ("live", "live.test", "http")
        assert await kong.services.has("live")
        assert await kong.services.has(service.id)
        assert not await kong.services.has("nobody")
        assert (await kong.services.update("live", host="other.test"))["host"] == "other.test"

        route = await service.routes.create(name="live-route", paths=["/live"], methods=["GET"])
        assert route["service"]["id"] == service.id
        assert [one.id for one in await service.routes.get_full_list()] == [route.id]
        plugin = await route.plugins.create(name="request-termination", config={"status_code": 403})
        assert plugin["route"]["id"] == route.id
        assert [one["name"] for one in await route.plugins.get_list()] == ["request-termination"]

        # The client deletes plugins, then Routes, then the Service.
        assert await kong.services.delete(service.id)
        assert not await kong.services.has("live")
        assert not await kong.routes.has(route.id)

    run(gateway, work)


def test_errors_are_what_the_client_reads(gateway: Gateway) -> None:
    async def work(kong: Kong) -> None:
        await kong.consumers.create(username="twice")
        with pytest.raises(KongResponseError) as conflict:
            await kong.consumers.create(username="twice")
        assert conflict.value.status == 409
        assert conflict.value.message["message"] == "UNIQUE violation detected on '{username=\"twice\"}'"
        with pytest.raises(KongResponseError) as missing:
            await kong.services.get("nobody")
        assert missing.value.status == 404
        with pytest.raises(KongResponseError) as refused:
            await kong.plugins.create(name="nothing")
        assert refused.value.message["code"] == 2
        assert refused.value.message["fields"]["name"].startswith("plugin 'nothing' not enabled")
        await kong.consumers.delete("twice")

    run(gateway, work)


def test_pages_are_followed_to_the_end(gateway: Gateway) -> None:
    async def work(kong: Kong) -> None:
        names = {f"paged-{number:02}" for number in range(7)}
        for name in names:
            await kong.consumers.create(username=name, tags=["paged"])
        found = [one.username async for one in kong.consumers.paginate(size=2, tags="paged")]
        assert sorted(found) == sorted(names)
        assert await kong.consumers.delete_all() >= len(names)
        assert await kong.consumers.get_full_list() == []

    run(gateway, work)


def test_consumers_have_groups_and_credentials(gateway: Gateway) -> None:
    async def work(kong: Kong) -> None:
        consumer = await kong.consumers.create(username="keyed")
        assert (await consumer.acls.create(group="g"))["group"] == "g"
        made = await consumer.keyauths.create()
        assert len(made["key"]) == 32
        assert (await consumer.keyauths.get_or_create()).id == made.id
        # Forms, with the form's own content type.
        basic = await consumer.basicauths.create_or_update_credentials({"username": "u", "password": "p"})
        assert (await consumer.basicauths.create_or_update_credentials({"username": "u", "password": "q"})).id == basic.id
        assert (await consumer.jwts.create())["algorithm"] == "HS256"
        assert await kong.consumers.delete("keyed")
        assert await kong.acls.get_full_list() == []

    run(gateway, work)


def test_certificates_are_found_by_their_names(gateway: Gateway, tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "named.test")

    async def work(kong: Kong) -> None:
        certificate = await kong.certificates.create(cert=pair.certificate.read_text(), key=pair.key.read_text())
        sni = await certificate.snis.create(name="named.test")
        assert sni["certificate"]["id"] == certificate.id
        assert [one["name"] for one in await certificate.snis.get_full_list()] == ["named.test"]
        assert (await kong.certificates.get(certificate.id))["snis"] == ["named.test"]
        applied = await kong.snis.apply_json({"name": "named.test", "tags": ["again"]})
        assert (applied[0]["id"], applied[0]["tags"]) == (sni.id, ["again"])
        assert (await kong.snis.apply_json({"name": "more.test", "certificate": {"id": certificate.id}}))[0][
            "name"
        ] == "more.test"
        assert await kong.certificates.delete(certificate.id)
        assert not await kong.snis.has("named.test")

    run(gateway, work)


def stored(gateway: Gateway) -> dict[str, Any]:
    """What is stored, without ids and times, which the client's way of applying makes anew."""
    found = {}
    for path in ("services", "routes", "consumers", "plugins", "acls", "key-auths", "basic-auths"):
        rows = gateway.admin.get(f"/{path}")["data"]
        assert all(row.pop("id") for row in rows)
        for row in rows:
            for made in ("created_at", "updated_at", "service", "route", "consumer", "password"):
                row.pop(made, None)
        found[path] = sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))
    return found


def test_a_declaration_applied_twice_changes_nothing(gateway: Gateway) -> None:
    first = run(gateway, lambda kong: kong.apply_json(DECLARED))
    before = stored(gateway)
    assert [service["name"] for service in before["services"]] == ["declared"]
    assert [route["paths"] for route in before["routes"]] == [["/declared"]]
    assert {plugin["name"] for plugin in before["plugins"]} == {"rate-limiting", "request-termination", "correlation-id"}
    assert [acl["group"] for acl in before["acls"]] == ["first", "second"]
    assert [key["key"] for key in before["key-auths"]] == ["declared-key"]
    second = run(gateway, lambda kong: kong.apply_json(DECLARED))
    assert stored(gateway) == before
    # What is updated keeps its id; Routes the client makes anew by itself.
    for kind in ("consumers", "plugins"):
        assert [one["id"] for one in second[kind]] == [one["id"] for one in first[kind]]
    assert second["services"][0].id == first["services"][0].id


def test_its_command_applies_a_file(gateway: Gateway, tmp_path: Path) -> None:
    run(gateway, lambda kong: kong.apply_json(DECLARED))
    before = stored(gateway)
    file = tmp_path / "declared.yaml"
    file.write_text(yaml.safe_dump(DECLARED))
    url = f"http://127.0.0.1:{gateway.admin_port}"
    done = subprocess.run(
        [COMMAND, "yaml", str(file), "--clear", "--url", url], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["services"][0]["name"] == "declared"
    assert stored(gateway) == before
    listed = subprocess.run([COMMAND, "services", "--json", "--url", url], capture_output=True, text=True, timeout=30, check=True)
    assert [service["name"] for service in json.loads(listed.stdout)] == ["declared"]


def test_everything_can_be_deleted(gateway: Gateway) -> None:
    run(gateway, lambda kong: kong.apply_json(DECLARED))
    run(gateway, lambda kong: kong.delete_all())
    assert [rows for rows in stored(gateway).values() if rows] == []
