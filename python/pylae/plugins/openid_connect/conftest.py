# SPDX-License-Identifier: Apache-2.0
"""Which issuer do the plugin's own tests trust? One that says what they tell it to, on a thread of its own."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

from pylae.plugins.openid_connect.plugin import OpenidConnect
from pylae.sdk.jose import sign
from pylae.sdk.testing import START_MS, Outcome, Scene

NOW_S = START_MS // 1000
ALICE: dict[str, Any] = {
    "id": "a1111111-1111-4111-8111-111111111111",
    "username": "alice",
    "custom_id": "42",
    "created_at": 1,
}
GUEST: dict[str, Any] = {"id": "a2222222-2222-4222-8222-222222222222", "username": "guest", "custom_id": None, "created_at": 1}
KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
JWK: dict[str, Any] = {**ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "one", "use": "sig"}


class Handler(BaseHTTPRequestHandler):
    """One request of the plugin's."""

    server: Issuer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Discovery, keys, userinfo."""
        self.do_POST()

    def do_POST(self) -> None:
        """Introspection and tokens."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        path = self.path.partition("?")[0]
        self.server.asked.append((path, {name: values[0] for name, values in parse_qs(body).items()}, dict(self.headers)))
        status, said = self.server.said.get(path, (404, {}))
        data = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Replayed", "yes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - of the standard library
        """Says nothing."""


class Issuer(ThreadingHTTPServer):
    """What the plugin asks.

    Attributes:
        said: Status and object by path.
        asked: Path, form and headers of what came.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        endpoints = ("token", "introspection", "userinfo", "revocation")
        document = {f"{name}_endpoint": f"{self.url}/{name}" for name in endpoints}
        document |= {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        self.said: dict[str, tuple[int, Any]] = {
            "/.well-known/openid-configuration": (200, document),
            "/jwks": (200, {"keys": [JWK]}),
        }
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(one[0] == path for one in self.asked)

    def token(self, **changes: Any) -> str:
        """A token that holds for ten minutes."""
        claims = {"iss": self.url, "sub": "alice", "exp": NOW_S + 600, **changes}
        said = {name: value for name, value in claims.items() if value is not None}
        return sign(said, PEM, "ES256", {"kid": "one"})

    def scene(self, *, rows: dict[str, Any] | None = None, **config: Any) -> Scene:
        """The plugin, asking this issuer; for signed tokens unless said otherwise."""
        known = {"issuer": self.url, "client_id": ["gateway"], "client_secret": ["gateways-own"], "auth_methods": ["bearer"]}
        return Scene(OpenidConnect, {**known, **config}, rows={"consumers": [ALICE, GUEST], **(rows or {})})


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer for one test."""
    server = Issuer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def bearer(scene: Scene, token: str, **headers: str) -> Outcome:
    """Shows a token."""
    return scene.send(headers={"Authorization": f"Bearer {token}", **headers})


def basic(scene: Scene, name: str, secret: str) -> Outcome:
    """Shows a name and a secret."""
    pair = base64.b64encode(f"{name}:{secret}".encode()).decode()
    return scene.send(headers={"Authorization": f"Basic {pair}"})


def upstream_header(outcome: Outcome, name: str) -> str | None:
    """What the upstream got under this name."""
    assert outcome.upstream is not None, outcome.lines
    return outcome.upstream.get_header(name)
