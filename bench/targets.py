# SPDX-License-Identifier: Apache-2.0
"""Which proxies are compared, and how is each set for a profile?

Profiles: `plain` (one route `/`), `log` (plain, access log on), `auth` (100 keys and a limit that never bites),
`routes` (N hosts h<i>.bench.test with path /r<i>). One worker or thread each, bodies streamed, X-Forwarded-For
set, connections to the backend kept, access log off unless the profile says so.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import authentication
from bench.machine import LOAD_CORE, PROXY_CORE, find, pinned
from tests.support import processes
from tests.support.gateway import Gateway
from tests.support.ports import free_port
from tests.support.wait import until

HOST = "127.0.0.1"
BODY = "x" * 100
# Of a gateway that logs no requests and never ends a kept connection by itself.
UNLOGGED: dict[str, str | int] = {
    "log_level": "warn",
    "proxy_access_log": "off",
    "admin_access_log": "off",
    "nginx_http_keepalive_requests": 1_000_000_000,
}
OPEN_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """One GET on a connection of its own; status 0 when there was no answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


class Target:
    """One server under a folder of its own."""

    name = ""
    program = ""
    profiles: tuple[str, ...] = ("plain", "log", "auth", "routes", *authentication.PLUGINS)
    core = PROXY_CORE

    def __init__(self, backend_port: int, routes: int = 1) -> None:
        self.backend_port, self.routes = backend_port, routes
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"pylae-bench-{self.name}-"))
        self.folder.chmod(0o755)
        self.process: subprocess.Popen[bytes] | None = None
        self.credentials: authentication.Credentials = []
        """What its Consumers send."""

    @classmethod
    def absent(cls) -> str | None:
        """Why it cannot run here."""
        return None if find(cls.program) else f"{cls.program} is not installed"

    def arguments(self, profile: str) -> list[str]:
        """Write the configuration; the command line."""
        raise NotImplementedError

    def start(self, profile: str) -> None:
        """Start it for a profile and check that the profile is in force."""
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                pinned(self.core, self.arguments(profile)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment()},
            )
        self.check(profile)

    def environment(self) -> dict[str, str]:
        """In addition to ours."""
        return {}

    def check(self, profile: str) -> None:
        """A request that must pass passes, one that must not does not."""
        last = self.routes - 1
        path, headers = {
            "auth": ("/", {"apikey": "key-99"}),
            "room:key-auth": ("/", {"apikey": "key-99"}),
            "routes": (f"/r{last}/x", {"Host": f"h{last}.bench.test"}),
        }.get(profile, ("/", self.credentials[-1] if self.credentials else {}))
        until(lambda: get(self.port, path, headers) == (200, BODY.encode()), f"{self.name}: {self.output()}", 60)
        wrong = {"auth": ("/", {"apikey": "wrong"}), "routes": ("/nope", {"Host": "h0.bench.test"})}.get(profile)
        if self.credentials:
            wrong = "/", {}
        if wrong:
            status, _ = get(self.port, *wrong)
            assert status in (401, 404, 503), f"{self.name}: a request that must be refused got {status}"

    def output(self) -> str:
        """What it wrote."""
        path = self.folder / "output"
        return path.read_text(errors="replace")[-1000:] if path.exists() else ""

    @property
    def root(self) -> int:
        """Root of its process tree."""
        assert self.process
        return self.process.pid

    def stop(self) -> None:
        """End it, remove its folder."""
        if self.process:
            processes.stop_tree(self.process.pid, 5)
            self.process.wait()
            self.process = None
        shutil.rmtree(self.folder, ignore_errors=True)


class Backend(Target):
    """nginx, one worker, on the load's core: 100 bytes at /, 1 MiB at /1m, a sink for uploads."""

    name, program, core = "backend", "nginx", LOAD_CORE

    def __init__(self) -> None:
        super().__init__(0)

    def arguments(self, profile: str) -> list[str]:
        """The same for every profile."""
        del profile
        (self.folder / "www").mkdir()
        (self.folder / "www" / "1m").write_bytes(os.urandom(1 << 20))
        return nginx(
            self.folder,
            f"""
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; keepalive_timeout 3600;
  server {{
    listen {HOST}:{self.port} backlog=4096;
    location / {{ return 200 "{BODY}"; }}
    location = /1m {{ root {self.folder}/www; open_file_cache max=10; }}
    # reads the whole body into memory, then answers: proxies see an upload that is really consumed
    location = /sink {{ client_max_body_size 0; client_body_buffer_size 2m; proxy_pass_request_body off;
      proxy_set_header Content-Length ""; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_pass http://unix:{self.folder}/ok.sock:/; }}
  }}
  server {{ listen unix:{self.folder}/ok.sock; location / {{ return 200 "ok"; }} }}""",
        )


def nginx(folder: Path, http_block: str) -> list[str]:
    """Command line of an nginx that reads nothing of the system's."""
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log crit;\n"
        f"events {{ worker_connections {min(OPEN_FILES, 60000) - 100}; }}\n"
        f"http {{ default_type text/plain; {temporary}\n{http_block}\n}}\n"
    )
    program = find("nginx")
    assert program
    return [program, "-p", str(folder), "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"]


class Nginx(Target):
    """What all others are compared with."""

    name = program = "nginx"

    def arguments(self, profile: str) -> list[str]:
        """Its own key map and limit_req in `auth`."""
        more, guard = "", ""
        if profile == "auth":
            keys = " ".join(f"key-{i} c{i};" for i in range(100))
            more = (
                f'map $http_apikey $consumer {{ default ""; {keys} }}\n'
                "limit_req_zone $consumer zone=z:1m rate=1000000r/s; proxy_set_header X-Consumer $consumer;\n"
            )
            guard = 'if ($consumer = "") { return 401; } limit_req zone=z burst=1000000 nodelay;'
        names = [("_", "/")]
        if profile == "routes":
            names = [(f"h{i}.bench.test", f"/r{i}") for i in range(self.routes)]
        servers = "".join(
            f"server {{ listen {HOST}:{self.port}{' backlog=4096' if n == 0 else ''}; server_name {host}; "
            f"location {path} {{ {guard} proxy_pass http://backend; }} }}\n"
            for n, (host, path) in enumerate(names)
        )
        log = f"access_log {self.folder}/access.log kong;" if profile == "log" else "access_log off;"
        return nginx(
            self.folder,
            f"""
  log_format kong '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" '
                  '"$http_user_agent" kong_request_id: "$request_id"';
  {log} keepalive_requests 1000000000; keepalive_timeout 3600;
  server_names_hash_max_size 131072; server_names_hash_bucket_size 128; map_hash_max_size 4096;
  client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
  upstream backend {{ server {HOST}:{self.backend_port}; keepalive 512; keepalive_requests 1000000000; }}
  {more}{servers}""",
        )


class Haproxy(Target):
    """One thread; its access log would need a syslog server, so it has no `log`."""

    name = program = "haproxy"
    profiles = ("plain", "auth", "routes")

    def arguments(self, profile: str) -> list[str]:
        """Maps for keys and routes."""
        routes = "".join(f"h{i}.bench.test/r{i} backend\n" for i in range(self.routes))
        (self.folder / "routes.map").write_text(routes)
        (self.folder / "keys.map").write_text("".join(f"key-{i} c{i}\n" for i in range(100)))
        rules = {
            "plain": "  default_backend backend",
            "routes": f"  use_backend %[base,map_beg({self.folder}/routes.map)] if "
            f"{{ base,map_beg({self.folder}/routes.map) -m found }}",
            "auth": f"  http-request set-var(txn.c) req.hdr(apikey),map_str({self.folder}/keys.map)\n"
            "  http-request deny deny_status 401 unless { var(txn.c) -m found }\n"
            "  http-request set-header X-Consumer %[var(txn.c)]\n"
            "  http-request track-sc0 var(txn.c) table counts\n"
            "  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 100000000 }\n"
            "  default_backend backend",
        }[profile]
        (self.folder / "haproxy.cfg").write_text(
            f"global\n  nbthread 1\n  maxconn {min(OPEN_FILES, 40000) // 2 - 100}\n  no log\n"
            "defaults\n  mode http\n  option forwardfor\n"
            "  timeout connect 5s\n  timeout client 3600s\n  timeout server 3600s\n"
            "backend counts\n  stick-table type string len 32 size 1k expire 2m store http_req_rate(60s)\n"
            f"backend backend\n  http-reuse always\n  server s {HOST}:{self.backend_port}\n"
            f"frontend front\n  bind {HOST}:{self.port} backlog 4096\n{rules}\n"
        )
        program = find("haproxy")
        assert program
        return [program, "-db", "-f", f"{self.folder}/haproxy.cfg"]


class Envoy(Target):
    """One worker thread; ENVOY names the binary where it is not in PATH."""

    name = "envoy"
    profiles = ("plain",)

    @classmethod
    def absent(cls) -> str | None:
        """Only where somebody installed it."""
        return None if cls.binary() else "no envoy in PATH and none named by ENVOY"

    @staticmethod
    def binary() -> str | None:
        """Where it is."""
        return os.environ.get("ENVOY") or find("envoy")

    def arguments(self, profile: str) -> list[str]:
        """One route for all."""
        del profile
        kind = "type.googleapis.com/envoy.extensions."
        address = {"socket_address": {"address": HOST, "port_value": self.backend_port}}
        routes = {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}}],
                }
            ]
        }
        router = {
            "name": "router",
            "typed_config": {"@type": kind + "filters.http.router.v3.Router"},
        }
        manager = {
            "@type": kind + "filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "bench",
            "generate_request_id": False,
            "use_remote_address": True,
            "route_config": routes,
            "http_filters": [router],
        }
        configuration: dict[str, Any] = {
            "static_resources": {
                "listeners": [
                    {
                        "name": "http",
                        "address": {"socket_address": {"address": HOST, "port_value": self.port}},
                        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
                    }
                ],
                "clusters": [
                    {
                        "name": "backend",
                        "type": "STATIC",
                        "load_assignment": {
                            "cluster_name": "backend",
                            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                        },
                    }
                ],
            }
        }
        (self.folder / "envoy.json").write_text(json.dumps(configuration))
        binary = self.binary()
        assert binary
        return [binary, "-c", f"{self.folder}/envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


class Pylae(Target):
    """Ourselves: the whole tree counts, supervisor and control included."""

    name = "pylae"
    profiles = (*Target.profiles, *(f"room:{room}" for room in ("key-auth", "rate-limiting")))

    def __init__(self, backend_port: int, routes: int = 1, *, workers: int = 1, core: int | None = PROXY_CORE) -> None:
        super().__init__(backend_port, routes)
        self.workers, self.pin = workers, core
        self.gateway: Gateway | None = None

    @classmethod
    def absent(cls) -> str | None:
        """Built and migrated, or not."""
        from tests.support.gateway import COMMAND

        return None if COMMAND.exists() else f"{COMMAND} does not exist: make build"

    def start(self, profile: str) -> None:
        """Start a gateway and configure it through the Admin API."""
        self.gateway = self.make(profile)
        self.gateway.start()
        self.port = self.gateway.proxy_port
        self.configure(profile)
        self.check(profile)

    def make(self, profile: str) -> Gateway:
        """A gateway with this profile's settings, not started."""
        settings = {**UNLOGGED, "upstream_keepalive_max_requests": 0}
        if profile == "log":
            settings["proxy_access_log"] = "logs/access.log"
        gateway = Gateway(settings, workers=self.workers)
        if self.pin is not None:
            gateway.wrapper = pinned(self.pin, [])
        return gateway

    def configure(self, profile: str) -> None:
        """The calls that a user would make."""
        assert self.gateway
        admin = self.gateway.admin
        admin.post("/services", {"name": "bench", "url": f"http://{HOST}:{self.backend_port}"})
        common = {"strip_path": False, "request_buffering": False}
        if profile == "routes":
            for i in range(self.routes):
                self.add_route(i)
        else:
            admin.post("/services/bench/routes", {"name": "all", "paths": ["/"], **common})
        if profile in ("auth", "room:key-auth"):
            admin.post("/services/bench/plugins", {"name": "key-auth"})
            for i in range(100):
                admin.post("/consumers", {"username": f"c{i}"})
                admin.post(f"/consumers/c{i}/key-auth", {"key": f"key-{i}"})
        if profile in authentication.PLUGINS:
            self.credentials = authentication.configure(profile, admin, "/services/bench/plugins")
        if profile in ("auth", "room:rate-limiting"):
            limit_by = "consumer" if profile == "auth" else "ip"
            config = {"minute": 100_000_000, "policy": "local", "limit_by": limit_by}
            admin.post("/services/bench/plugins", {"name": "rate-limiting", "config": config})
        self.gateway.settle(60)

    def add_route(self, number: int) -> None:
        """One more route with a host and a path of its own."""
        assert self.gateway
        body = {"name": f"r{number}", "hosts": [f"h{number}.bench.test"], "paths": [f"/r{number}"], "strip_path": False}
        self.gateway.admin.post("/services/bench/routes", body)

    @property
    def root(self) -> int:
        """The supervisor, or the command that stays before it."""
        assert self.gateway
        assert self.gateway.process
        return self.gateway.process.pid

    def stop(self) -> None:
        """End the gateway."""
        if self.gateway:
            self.gateway.stop()
            self.gateway = None
        super().stop()


PEERS: dict[str, type[Target]] = {target.name: target for target in (Nginx, Haproxy, Envoy, Pylae)}


def elapsed_ms(since_s: float) -> float:
    """Milliseconds since a `time.perf_counter()`."""
    return (time.perf_counter() - since_s) * 1e3
