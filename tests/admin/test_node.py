# SPDX-License-Identifier: Apache-2.0
"""Does the node say of itself what Kong's clients ask for?"""

from __future__ import annotations

import asyncio
import json
import os
import re
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
        assert status["memory"].keys() == {"lua_shared_dicts", "workers_lua_vms"}
        assert status["memory"]["workers_lua_vms"] == []
        assert status["memory"]["lua_shared_dicts"]["kong"].keys() == {"allocated_slabs", "capacity"}
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
    pid = os.getpid()
    reader, writer = await asyncio.open_unix_connection(process.prefix / "sockets" / "control.sock")
    writer.write(message("hello", {"worker": 0, "generation": 1, "pid": pid, "version": None}))
    frames = FrameReader()
    received: list[list[object]] = []
    while not received:
        received += frames.feed(await reader.read(65536))
    version = process.admin.get("/status")["pylae"]["version"]
    worker = {"index": 0, "generation": 1, "pid": pid, "version": None}
    assert process.admin.get("/status")["pylae"]["workers"] == [worker]
    writer.write(message("ack", version))
    await writer.drain()
    until(lambda: process.admin.get("/status")["pylae"]["workers"] == [{**worker, "version": version}], "the ack")
    assert process.status.call("GET", "/status/ready").json == {"message": "ready"}
    for query, shape in (
        ("", r"\d+\.\d{2} MiB"),
        ("?unit=K&scale=0", r"\d+ KiB"),
        ("?unit=g&scale=5", r"\d+\.\d{5} GiB"),
        ("?unit=b", r"\d{6,}"),
    ):
        (worker_memory,) = process.admin.get(f"/status{query}")["memory"]["workers_lua_vms"]
        assert worker_memory["pid"] == pid
        assert re.fullmatch(shape, str(worker_memory["http_allocated_gc"])), query
    for query in ("unit=x", "unit=", "scale=-1", "scale=x", "scale=1000"):
        refused = process.admin.call("GET", f"/status?{query}")
        assert (refused.status, refused.json.keys()) == (400, {"message"}), query
    _drain(process)
    writer.close()


def _drain(process: ControlProcess) -> None:
    for body in ({}, {"status": "ready"}):
        assert process.status.call("POST", "/status/ready", body).status == 400
    assert process.status.call("GET", "/status/ready").status == 200
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert process.status.call("POST", "/status/ready", b"status=draining", form).status == 204
    answer = process.status.call("GET", "/status/ready")
    assert (answer.status, answer.json) == (503, {"message": "draining"})
    assert process.admin.call("POST", "/status/ready", {"status": "draining"}).status == 404


def test_the_status_listener_serves_nothing_else(control: ControlProcess) -> None:
    assert control.status.call("GET", "/status").status == 200
    assert control.status.call("GET", "/status/dns").status == 501
    for path in ("/", "/services", "/status/nothing", "/upstreams", "/explain", "/warnings"):
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


METRIC = re.compile(r'((?:kong|pylae)_\w+)(?:{((?:\w+="(?:[^"\\\\]|\\\\.)*",?)*)})? ([0-9.]+)')


def test_metrics_are_prometheus_text_with_kongs_names(control: ControlProcess) -> None:
    for api in (control.admin, control.status):
        answer = api.call("GET", "/metrics")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=UTF-8")
        kinds: dict[str, str] = {}
        samples: dict[str, list[tuple[str, float]]] = {}
        for line in answer.body.decode().splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name not in kinds
                kinds[name] = kind
            elif not line.startswith("# HELP "):
                found = METRIC.fullmatch(line)
                assert found is not None, line
                samples.setdefault(found.group(1), []).append((found.group(2) or "", float(found.group(3))))
        assert samples.keys() <= kinds.keys()
        assert samples["kong_datastore_reachable"] == [("", 1)]
        node_id = control.admin.get("/")["node_id"]
        assert samples["kong_node_info"] == [(f'node_id="{node_id}",version="3.10.0"', 1)]
        states = [labels.rpartition('state="')[2].rstrip('"') for labels, _ in samples["kong_nginx_connections_total"]]
        assert states == ["accepted", "active", "handled", "reading", "total", "waiting", "writing"]
        assert {"kong_nginx_requests_total", "kong_nginx_timers", "kong_nginx_metric_errors_total"} <= samples.keys()
        assert samples["kong_memory_lua_shared_dict_total_bytes"][0][1] > 0
        assert kinds["kong_nginx_metric_errors_total"] == "counter"


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
    enabled = admin.get("/plugins/enabled")["enabled_plugins"]
    assert enabled == sorted(set(enabled) | BUNDLED)


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
    control.admin.call("GET", '/services?size="b', headers={"User-Agent": 'x" 200 "y'})
    lines = (control.prefix / "logs" / "admin_access.log").read_text().splitlines()
    (line,) = [line for line in lines if "/services?size=" in line]
    assert line.startswith("127.0.0.1 - - [")
    assert r'"GET /services?size=\x22b HTTP/1.1" 400 ' in line
    assert line.endswith(r'"-" "x\x22 200 \x22y"')


def test_draining_outlives_the_process_and_ends_with_a_reload_or_a_start(tmp_path: Path) -> None:
    draining = {"message": "draining"}
    with ControlProcess(tmp_path) as process:
        assert process.status.call("POST", "/status/ready", {"status": "draining"}).status == 204
        process.kill()
        process.restart()
        assert process.status.call("GET", "/status/ready").json == draining
        process.kill()
        process.generation += 1
        process.restart()
        assert process.status.call("GET", "/status/ready").json != draining
        assert process.status.call("POST", "/status/ready", {"status": "draining"}).status == 204
    kept = tmp_path / "spool" / "draining"
    pid, begun, generation = kept.read_text().split(":")
    assert generation == "2"
    kept.write_text(f"{pid}:{int(begun) - 1}:1")
    with ControlProcess(tmp_path) as process:
        assert process.status.call("GET", "/status/ready").json != draining


def test_draining_that_cannot_be_kept_is_draining_nevertheless(tmp_path: Path) -> None:
    with ControlProcess(tmp_path) as process:
        (tmp_path / "spool" / "draining").mkdir()
        assert process.status.call("POST", "/status/ready", {"status": "draining"}).status == 204
        assert process.status.call("GET", "/status/ready").json == {"message": "draining"}
        assert "that this node is draining could not be kept" in process.error_log
        process.kill()
        process.restart()
        assert "whether this node is draining could not be read" in process.error_log
