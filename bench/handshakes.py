# SPDX-License-Identifier: Apache-2.0
"""What does a TLS handshake with a client certificate cost, beside nginx with `ssl_verify_client on`?

`openssl s_time -new -www /`: one connection after the other, each with a whole handshake (TLS 1.3, ECDSA P-256 on both sides) and
one request, since mtls-auth judges the certificate when a request comes. What the proxy's process tree used is divided by the
handshakes.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from bench.machine import LOAD_CORE, cpu_us, pinned
from bench.scenarios import Bench, say
from bench.targets import HOST, Nginx, Pylae, Target, nginx
from tests.support.servers.server import accepts
from tests.support.wait import until

WARM_UP_S: Final = 1


class Authority:
    """A CA, a server's certificate and a client's, by openssl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._run("req", "-x509", *self._new("ca"), "-subj", "/CN=bench authority", "-days", "2")
        for name in ("server", "client"):
            self._run("req", *self._new(name), "-subj", f"/CN={name}", "-out", str(folder / f"{name}.csr"))
            issued = ("-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial", "-days", "2")
            self._run("x509", "-req", "-in", str(folder / f"{name}.csr"), *issued, "-out", str(folder / f"{name}.pem"))

    def _new(self, name: str) -> tuple[str, ...]:
        out = ("-out", str(self.folder / f"{name}.pem")) if name == "ca" else ()
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(self.folder / f"{name}.key"))
        return (*key, *out)

    def _run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    def text(self, name: str) -> str:
        """A file's text."""
        return (self.folder / name).read_text()


class TlsNginx(Nginx):
    """Wants a client certificate of this authority."""

    def __init__(self, backend_port: int, authority: Authority) -> None:
        super().__init__(backend_port)
        self.authority = authority

    def arguments(self, profile: str) -> list[str]:
        """No session is resumed."""
        del profile
        folder = self.authority.folder
        return nginx(
            self.folder,
            f"""
  access_log off;
  server {{
    listen {HOST}:{self.port} ssl backlog=4096; ssl_protocols TLSv1.3; ssl_session_cache off; ssl_session_tickets off;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
    ssl_client_certificate {folder}/ca.pem; ssl_verify_client on;
    location / {{ proxy_pass http://{HOST}:{self.backend_port}; }}
  }}""",
        )

    def check(self, profile: str) -> None:  # noqa: ARG002 - there is one
        """It listens; the rest is shown by the first handshake."""
        until(lambda: accepts(self.port), f"{self.name}: {self.output()}")


class TlsPylae(Pylae):
    """mtls-auth on its only Route."""

    def __init__(self, backend_port: int, authority: Authority) -> None:
        super().__init__(backend_port)
        self.authority = authority

    def configure(self, profile: str) -> None:
        """The authority, the plugin, and whom the certificate stands for."""
        assert self.gateway
        folder = self.authority.folder
        super().configure(profile)
        admin = self.gateway.admin
        stored = admin.post("/ca_certificates", {"cert": self.authority.text("ca.pem")})
        certificate = {"cert": (folder / "server.pem").read_text(), "key": (folder / "server.key").read_text()}
        admin.post("/certificates", {**certificate, "snis": ["bench.test"]})
        admin.post("/consumers", {"username": "client"})
        admin.post("/services/bench/plugins", {"name": "mtls-auth", "config": {"ca_certificates": [stored["id"]]}})
        self.gateway.settle(60)
        self.port = self.gateway.proxy_tls_port

    def check(self, profile: str) -> None:
        """Shown by the first handshake."""


def handshakes(bench: Bench) -> dict[str, dict[str, float]]:
    """CPU per handshake, nginx and ourselves by turns."""
    folder = Path(tempfile.mkdtemp(prefix="pylae-bench-mtls-"))
    folder.chmod(0o755)
    authority = Authority(folder)
    targets: dict[str, Target] = {
        "nginx": TlsNginx(bench.backend.port, authority),
        "pylae": TlsPylae(bench.backend.port, authority),
    }
    found: dict[str, list[float]] = {name: [] for name in targets}
    counted: dict[str, list[float]] = {name: [] for name in targets}
    try:
        for target in targets.values():
            target.start("plain")
            _connect(target.port, authority, WARM_UP_S)
        for number in range(bench.options.rounds):
            for name, target in targets.items():
                before = cpu_us(target.root)
                made = _connect(target.port, authority, bench.options.seconds)
                used = (cpu_us(target.root) - before) / made
                found[name].append(used)
                counted[name].append(made / bench.options.seconds)
                say(f"  mtls round {number + 1} {name}: {made} handshakes, {used:.0f} us each")
    finally:
        for target in targets.values():
            target.stop()
        shutil.rmtree(folder, ignore_errors=True)
    ratios = [ours / theirs for ours, theirs in zip(found["pylae"], found["nginx"], strict=True)]
    told = {
        name: {"CPU µs/handshake, median": statistics.median(used), "handshakes/s": statistics.median(counted[name])}
        for name, used in found.items()
    }
    told["pylae"]["x nginx, median of the rounds"] = statistics.median(ratios)
    return told


def _connect(port: int, authority: Authority, for_s: int) -> int:
    """How many handshakes were made.

    Raises:
        RuntimeError: openssl said nothing of it.
    """
    folder = authority.folder
    shown = ("-cert", f"{folder}/client.pem", "-key", f"{folder}/client.key", "-CAfile", f"{folder}/ca.pem")
    command = ["openssl", "s_time", "-connect", f"{HOST}:{port}", "-new", "-www", "/", "-time", str(for_s), *shown]
    run = subprocess.run(pinned(LOAD_CORE, command), capture_output=True, text=True, check=False, timeout=for_s + 60)
    said = re.search(r"^(\d+) connections in \d+ real seconds", run.stdout, re.MULTILINE)
    if not said or not int(said[1]):
        raise RuntimeError(f"openssl s_time: {(run.stdout + run.stderr)[-500:]}")
    return int(said[1])
