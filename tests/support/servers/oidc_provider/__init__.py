# SPDX-License-Identifier: Apache-2.0
"""How does a certified OpenID provider answer?

`oidc-provider` of npm, in a version that package-lock.json names. Its packages are installed once, into a folder of the
user's cache that the lock file names; only that first time needs the registry.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final

from tests.support.certificates import Certificate
from tests.support.ports import free_port
from tests.support.servers.server import Server, find

HERE: Final = Path(__file__).parent
API: Final = "https://api.example.com/"
"""A resource: tokens for it are signed (JWT), all others are opaque."""
GATEWAY: Final = "gateway"
GATEWAY_SECRET: Final = "gateways-own-and-long-enough-for-hs256"
SERVICE: Final = "service"
SERVICE_SECRET: Final = "services-own"
INSTALL_WITHIN_S: Final = 120


class OidcProvider(Server):
    """One provider with two clients: the gateway, with every grant, and a service, with its own credentials only."""

    def __init__(
        self,
        *,
        redirect_uris: list[str] | None = None,
        post_logout_redirect_uris: list[str] | None = None,
        gateway: dict[str, Any] | None = None,
        clients: list[dict[str, Any]] | None = None,
        access_token_ttl_s: int = 600,
        certificate: Certificate | None = None,
    ) -> None:
        """Prepare the script.

        Args:
            redirect_uris: of the gateway's client; the provider compares them whole.
            post_logout_redirect_uris: likewise, after a logout.
            gateway: more of the gateway's client: `token_endpoint_auth_method`, `jwks` ...
            clients: further clients.
            access_token_ttl_s: how long access tokens last.
            certificate: speaks TLS with it.
        """
        self.port, self.control_port = free_port(), free_port()
        super().__init__("node", [self.port, self.control_port])
        scheme = "https" if certificate else "http"
        self.issuer = f"{scheme}://localhost:{self.port}" if certificate else f"{scheme}://127.0.0.1:{self.port}"
        own = {
            "client_id": GATEWAY,
            "client_secret": GATEWAY_SECRET,
            "grant_types": ["authorization_code", "client_credentials", "refresh_token", "password"],
            "response_types": ["code"],
            "redirect_uris": redirect_uris or ["http://127.0.0.1:8000/callback"],
            "post_logout_redirect_uris": post_logout_redirect_uris or [],
            "scope": "openid profile email groups offline_access read write",
            **(gateway or {}),
        }
        service = {
            "client_id": SERVICE,
            "client_secret": SERVICE_SECRET,
            "grant_types": ["client_credentials"],
            "response_types": [],
            "redirect_uris": [],
            "scope": "read write",
        }
        self._options = {
            "port": self.port,
            "controlPort": self.control_port,
            "issuer": self.issuer,
            "clients": [own, service, *(clients or [])],
            "accessTokenTtlS": access_token_ttl_s,
            "tls": certificate and {"cert": str(certificate.certificate), "key": str(certificate.key)},
        }
        shutil.copy(HERE / "server.mjs", self.folder / "server.mjs")
        (self.folder / "node_modules").symlink_to(installed() / "node_modules")

    def arguments(self) -> list[str]:
        """The script and what it is told."""
        return [str(self.folder / "server.mjs"), json.dumps(self._options)]

    def control(self, path: str, /, **arguments: str | int) -> Any:
        """Ask for a trouble, or its end: `rotate`, `delay`, `fail`, `heal`, `revoke-all`, `forget`, `requests`."""
        query = urllib.parse.urlencode(arguments)
        return _fetch(f"http://127.0.0.1:{self.control_port}/{path}?{query}", b"")

    def requests(self, path: str | None = None) -> int:
        """How many requests came in since the last `forget`, to a path if one is given."""
        return sum(path in (None, request["path"]) for request in self.control("requests"))

    def token(self, *, client: tuple[str, str] = (SERVICE, SERVICE_SECRET), **form: str) -> dict[str, Any]:
        """What the token endpoint answers; client credentials unless said otherwise, a signed token with `resource=API`."""
        fields = {"grant_type": "client_credentials", "client_id": client[0], "client_secret": client[1], **form}
        answered: dict[str, Any] = _fetch(f"{self.issuer}/token", urllib.parse.urlencode(fields).encode())
        return answered

    def user_token(self, name: str, scope: str = "openid", **form: str) -> dict[str, Any]:
        """A user's token, got by the gateway's client with the user's password."""
        fields = {"grant_type": "password", "username": name, "password": f"{name}s-own", "scope": scope, **form}
        return self.token(client=(GATEWAY, GATEWAY_SECRET), **fields)


def installed() -> Path:
    """The folder with `node_modules`, as the lock file asks."""
    lock = HERE / "package-lock.json"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "pylae-tests" / f"oidc-provider-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not (folder / "node_modules").exists():
        npm = find("npm")
        assert npm, "npm is not installed; hint: scripts/test-packages.sh"
        fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
        fresh.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, fresh / name)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=fresh, check=True, capture_output=True, timeout=INSTALL_WITHIN_S)
        try:
            fresh.rename(folder)
        except OSError:
            # Another run was faster; what it has is the same.
            shutil.rmtree(fresh)
    return folder


def _fetch(url: str, body: bytes) -> Any:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)
