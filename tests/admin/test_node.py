# SPDX-License-Identifier: Apache-2.0
"""Does the node say of itself what Kong's clients ask for?"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from pylae.control.frames import FrameReader, message
from tests.admin.process import ControlProcess
from tests.support.admin import Admin
from tests.support.wait import until

BUNDLED = {"http-log", "key-auth", "rate-limiting", "request-transformer", "response-transformer"}


def test_the_root_tells_versions_plugins_and_settings(tmp_path: Path) -> None:
    with ControlProcess(tmp_path, {"pg_password": "secret"}) as process:
        process.admin.post("/plugins", {"name": "key-auth"})
        root = process.admin.get("/")
        assert (root["version"], root["edition"], bool(root["pylae_version"])) == ("3.10.0", "community", True)
        assert root["plugins"]["available_on_server"].keys() >= BUNDLED
        assert root["plugins"]["available_on_server"]["key-auth"]["priority"] == 1250
        assert root["plugins"]["enabled_in_cluster"] == ["key-auth"]
        assert root["configuration"]["admin_listen"] == [f"127.0.0.1:{process.admin_port}"]
        assert root["configuration"]["pg_password"] == "******"
        assert "secret" not in json.dumps(root)
        assert root["lua_version"].startswith("LuaJIT")
        node_id = root["node_id"]
        process.kill()
        process.restart()
        assert process.admin.get("/")["node_id"] == node_id


def test_the_status_is_kongs_with_the_versions_that_workers_serve(tmp_path: Path) -> None:
    with ControlProcess(tmp_path, {"nginx_worker_processes": "1"}) as process:
        status = process.admin.get("/status")
        assert status["database"] == {"reachable": True}
        assert status["memory"] == {"lua_shared_dicts": {}, "workers_lua_vms": []}
        assert status["server"].keys() == {
            *(f"connections_{what}" for what in ("accepted", "active", "handled", "reading", "waiting", "writing")),
            "total_requests",
        }
        assert status["pylae"]["workers"] == []
        answer = process.status.call("GET", "/status/ready")
        assert answer.status == 503
        assert answer.json == {"message": "router builds not yet complete, router ready in 0 of 1 workers"}
        asyncio.run(_serve_as_worker(process))


async def _serve_as_worker(process: ControlProcess) -> None:
    reader, writer = await asyncio.open_unix_connection(process.prefix / "sockets" / "control.sock")
    writer.write(message("hello", {"worker": 0, "generation": 1, "pid": 4711, "version": None}))
    frames = FrameReader()
    received: list[list[object]] = []
    while not received:
        received += frames.feed(await reader.read(65536))
    version = process.admin.get("/status")["pylae"]["version"]
    worker = {"index": 0, "generation": 1, "pid": 4711, "version": None}
    assert process.admin.get("/status")["pylae"]["workers"] == [worker]
    writer.write(message("ack", version))
    await writer.drain()
    until(lambda: process.admin.get("/status")["pylae"]["workers"] == [{**worker, "version": version}], "the ack")
    assert process.status.call("GET", "/status/ready").json == {"message": "ready"}
    writer.close()


def test_the_status_listener_serves_nothing_else(control: ControlProcess) -> None:
    assert control.status.call("GET", "/status").status == 200
    for path in ("/", "/services", "/status/nothing"):
        assert control.status.call("GET", path).status == 404
    assert control.status.call("POST", "/services", {"host": "h.test"}).status == 404


def test_endpoints_are_listed_parents_first(admin: Admin) -> None:
    paths = admin.get("/endpoints")["data"]
    assert {
        "/",
        "/services/{services}/routes/{routes}",
        "/routes/{routes}/service",
        "/consumers/{consumers}/key-auth",
        "/key-auths/{keyauth_credentials}/consumer",
        "/upstreams/{upstreams}/targets/{targets}",
        "/plugins/{plugins}/route",
        "/schemas/plugins/{name}",
    } <= set(paths)
    assert paths.index("/services") < paths.index("/services/{services}") < paths.index("/services/{services}/plugins")


def test_schemas_are_shown(admin: Admin) -> None:
    shown = admin.get("/schemas/services")
    assert {"host": {"type": "string", "required": True}}.items() <= {
        name: {key: field[key] for key in ("type", "required") if key in field}
        for declared in shown["fields"]
        for name, field in declared.items()
    }.items()
    assert admin.call("GET", "/schemas/nothing").json == {"message": "No entity named 'nothing'"}
    names = [next(iter(declared)) for declared in admin.get("/schemas/plugins/key-auth")["fields"]]
    assert "config" in names
    assert admin.call("GET", "/schemas/plugins/nothing").json == {"message": "No plugin named 'nothing'"}
    assert admin.get("/plugins/enabled")["enabled_plugins"] == sorted(BUNDLED)


def test_what_would_be_stored_can_be_validated_without_storing(admin: Admin) -> None:
    version = admin.get("/status")["pylae"]["version"]
    assert admin.post("/schemas/services/validate", {"host": "h.test"}) == {"message": "schema validation successful"}
    assert admin.call("POST", "/schemas/services/validate", {}).json["code"] == 2
    assert admin.post("/schemas/plugins/validate", {"name": "key-auth"})
    assert admin.call("POST", "/schemas/plugins/validate", {"name": "nothing"}).status == 400
    bad = {"name": "rate-limiting", "config": {"minute": 1, "policy": "cluster"}}
    assert admin.call("POST", "/schemas/plugins/validate", bad).status == 400
    assert admin.call("POST", "/schemas/nothing/validate", {}).status == 404
    assert admin.get("/status")["pylae"]["version"] == version


def test_the_access_log_is_nginxs_and_cannot_be_forged(control: ControlProcess) -> None:
    control.admin.call("GET", '/services?a="b', headers={"User-Agent": 'x" 200 "y'})
    line = (control.prefix / "logs" / "admin_access.log").read_text().splitlines()[-1]
    assert line.startswith("127.0.0.1 - - [")
    assert r'"GET /services?a=\x22b HTTP/1.1" 200 ' in line
    assert line.endswith(r'"-" "x\x22 200 \x22y"')
