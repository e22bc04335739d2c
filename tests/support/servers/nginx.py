# SPDX-License-Identifier: Apache-2.0
"""How does a real nginx take part: as the load balancer in front, or as an origin?"""

from __future__ import annotations

import signal

from tests.support import processes
from tests.support.servers.server import Server


class Nginx(Server):
    """One nginx worker with the given `http` block."""

    def __init__(self, http: str, ports: list[int]) -> None:
        """Prepare the folder.

        Args:
            http: inside of the `http { }` block; `{folder}` stands for its own folder.
            ports: what it will listen on.
        """
        super().__init__("nginx", ports)
        temporary = " ".join(
            f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "nginx.conf").write_text(
            f"worker_processes 1; daemon off; pid {self.folder}/pid; error_log {self.folder}/error.log warn;\n"
            "events { worker_connections 512; }\n"
            f"http {{ access_log off; default_type text/plain; {temporary}\n"
            f"{http.replace('{folder}', str(self.folder))}\n}}\n"
        )

    def arguments(self) -> list[str]:
        """Own prefix, configuration and error log; nothing of the system's is read."""
        folder = str(self.folder)
        return ["-p", folder, "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"]

    def reload(self) -> None:
        """Have a new worker take over; the old one leaves when it has answered what it took."""
        assert self.process
        processes.send(self.process.pid, signal.SIGHUP)

    @classmethod
    def origin(cls, port: int, keep_alive: str = "") -> Nginx:
        """Answers every request itself; `keep_alive` is nginx's directives, which has defaults of 75 s and 1,000 requests."""
        return cls(f'server {{ listen 127.0.0.1:{port}; {keep_alive} location / {{ return 200 "nginx"; }} }}', [port])

    @classmethod
    def load_balancer(cls, port: int, gateway_port: int) -> Nginx:
        """In front of the gateway, with kept connections and the usual forwarding headers."""
        return cls(
            f"upstream gateway {{ server 127.0.0.1:{gateway_port}; keepalive 8; }}\n"
            f"server {{ listen 127.0.0.1:{port}; client_max_body_size 0; location / {{\n"
            "  proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header Connection '';\n"
            "  proxy_set_header Host $http_host; proxy_set_header X-Real-IP $remote_addr;\n"
            "  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n"
            "  proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host;\n"
            f"  proxy_set_header X-Forwarded-Port {port}; proxy_request_buffering off; proxy_buffering off; }} }}",
            [port],
        )

    @classmethod
    def tls_origin(cls, port: int, certificate: str, key: str) -> Nginx:
        """The recorded TLS origin: answers `tls upstream ok`, and 400 to plain HTTP."""
        return cls(
            f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};\n"
            '  location / { return 200 "tls upstream ok\\n"; } }',
            [port],
        )
