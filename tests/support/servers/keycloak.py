# SPDX-License-Identifier: Apache-2.0
"""How does Keycloak answer? For the slow tier: it takes half a minute to start.

Its distribution comes once, by Maven, into a folder of the user's cache that its version names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final

from tests.support.ports import free_port
from tests.support.servers.server import Server, accepts, find
from tests.support.wait import until

VERSION: Final = "26.5.6"
ARTIFACT: Final = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
INSTALL_WITHIN_S: Final = 600
START_WITHIN_S: Final = 180
GATEWAY: Final = "gateway"
GATEWAY_SECRET: Final = "gateways-own-and-long-enough-for-hs256"
PASSWORD: Final = "alices-own"
KEY_PROVIDERS: Final = "org.keycloak.keys.KeyProvider"

REALM: Final[dict[str, Any]] = {
    "realm": "shop",
    "enabled": True,
    "sslRequired": "none",
    "roles": {"realm": [{"name": "buyer"}]},
    "groups": [{"name": "dev"}],
    "users": [
        {
            "username": "alice",
            "enabled": True,
            "email": "alice@example.com",
            "firstName": "Alice",
            "lastName": "Adams",
            "emailVerified": True,
            "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
            "realmRoles": ["buyer"],
            "groups": ["dev"],
        }
    ],
    "clients": [
        {
            "clientId": GATEWAY,
            "secret": GATEWAY_SECRET,
            "publicClient": False,
            "serviceAccountsEnabled": True,
            "directAccessGrantsEnabled": True,
            "standardFlowEnabled": True,
            "redirectUris": ["http://127.0.0.1/*"],
            "protocolMappers": [
                {
                    "name": "groups",
                    "protocol": "openid-connect",
                    "protocolMapper": "oidc-group-membership-mapper",
                    "config": {"claim.name": "groups", "full.path": "false", "access.token.claim": "true"},
                }
            ],
        }
    ],
}
"""A realm with one user and one client, whose access tokens hold the user's groups."""


class Keycloak(Server):
    """A Keycloak with the realm `shop`, in memory."""

    def __init__(self) -> None:
        self.port, self.management_port = free_port(), free_port()
        super().__init__("java", [self.port])
        # It writes below its own folder.
        self.home = self.folder / "keycloak"
        shutil.copytree(installed(), self.home, symlinks=True)
        (self.home / "data" / "import").mkdir(parents=True, exist_ok=True)
        (self.home / "data" / "import" / "shop.json").write_text(json.dumps(REALM))
        self.program = str(self.home / "bin" / "kc.sh")
        self.url = f"http://127.0.0.1:{self.port}"
        self.issuer = f"{self.url}/realms/shop"

    def arguments(self) -> list[str]:
        """A server for development, on this machine only."""
        return [
            "start-dev",
            "--http-host=127.0.0.1",
            f"--http-port={self.port}",
            f"--http-management-port={self.management_port}",
            "--import-realm",
            "--cache=local",
        ]

    def start(self) -> None:
        """Start it and wait until the realm answers."""
        environment = {
            **os.environ,
            "JAVA_OPTS_KC_HEAP": "-Xms128m -Xmx512m",
            "JAVA_OPTS_GC": "-XX:+UseSerialGC",
            "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",
            "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
            "KC_BOOTSTRAP_ADMIN_PASSWORD": "admin",
        }
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [self.program, *self.arguments()], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )
        until(self._answers, "Keycloak to serve its realm", START_WITHIN_S)

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, f"Keycloak ended: {self.output()}"
        if not accepts(self.port):
            return False
        try:
            fetch(f"{self.issuer}/.well-known/openid-configuration")
        except OSError:
            return False
        return True

    def token(self, realm: str = "shop", **form: str) -> dict[str, Any]:
        """What the token endpoint answers; to the gateway's client unless said otherwise."""
        fields = {"client_id": GATEWAY, "client_secret": GATEWAY_SECRET, "scope": "openid", **form}
        url = f"{self.url}/realms/{realm}/protocol/openid-connect/token"
        said: dict[str, Any] = fetch(url, urllib.parse.urlencode(fields).encode())
        return said

    def user_token(self) -> dict[str, Any]:
        """Alice's tokens."""
        return self.token(grant_type="password", username="alice", password=PASSWORD)

    def log_out(self, refresh_token: str) -> None:
        """Ends the session that the tokens belong to."""
        fields = {"client_id": GATEWAY, "client_secret": GATEWAY_SECRET, "refresh_token": refresh_token}
        fetch(f"{self.issuer}/protocol/openid-connect/logout", urllib.parse.urlencode(fields).encode())

    def rotate(self, *, drops_old: bool = False) -> None:
        """Has the realm sign with a new key."""
        old = [one for one in self._admin("GET", "components?type=" + KEY_PROVIDERS) if one["providerId"] == "rsa-generated"]
        priority = 100 + max(int(one["config"].get("priority", ["0"])[0]) for one in old)
        made = {
            "name": f"key-{priority}",
            "providerId": "rsa-generated",
            "providerType": KEY_PROVIDERS,
            "config": {"priority": [str(priority)], "enabled": ["true"], "active": ["true"], "algorithm": ["RS256"]},
        }
        self._admin("POST", "components", made)
        for one in old if drops_old else ():
            self._admin("DELETE", f"components/{one['id']}")

    def _admin(self, method: str, path: str, body: Any = None) -> Any:
        own = self.token(
            "master", grant_type="password", client_id="admin-cli", client_secret="", username="admin", password="admin"
        )
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {own['access_token']}", "Content-Type": "application/json"}
        return fetch(f"{self.url}/admin/realms/shop/{path}", data, method=method, headers=headers)


def installed() -> Path:
    """The folder with the distribution."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pylae-tests"
    folder = cache / f"keycloak-{VERSION}"
    if not folder.exists():
        maven, unzip = find("mvn"), find("unzip")
        assert maven, "mvn is not installed; hint: apt-get install maven"
        assert unzip, "unzip is not installed; hint: apt-get install unzip"
        fresh = cache / f"keycloak-{VERSION}.{os.getpid()}"
        fresh.mkdir(parents=True)
        command = [maven, "-q", "-B", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={fresh}"]
        subprocess.run(command, cwd=fresh, check=True, capture_output=True, timeout=INSTALL_WITHIN_S)
        archive = fresh / f"keycloak-quarkus-dist-{VERSION}.zip"
        subprocess.run([unzip, "-q", str(archive)], cwd=fresh, check=True, timeout=INSTALL_WITHIN_S)
        (fresh / f"keycloak-{VERSION}").rename(folder)
        shutil.rmtree(fresh)
    return folder


def fetch(url: str, body: bytes | None = None, *, method: str | None = None, headers: dict[str, str] | None = None) -> Any:
    """A JSON answer; None for an empty one."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        data = answer.read()
    return json.loads(data) if data else None
