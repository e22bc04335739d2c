# SPDX-License-Identifier: Apache-2.0
"""What does each way of saying who calls cost a request, and how much do a million Consumers?

Each plugin alone on the Route, 100 Consumers whose credentials come in random order; nginx carries the same requests and
looks at none of them. All decisions are warm, as they are in service: a password is hashed and a signature verified when a
worker meets it first.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import RSAAlgorithm

from pylae.sdk.jose import sign
from tests.support.admin import Admin

CONSUMERS: Final = 100
HOST: Final = "127.0.0.1"
AGES_S: Final = 36_000
PLUGINS: Final = {
    "auth1": "key-auth",
    "basic": "basic-auth",
    "jwt_hs": "jwt",
    "jwt_rs": "jwt",
    "hmac": "hmac-auth",
    "oidc": "openid-connect",
}
"""Profiles, and the plugin of each."""

Credentials = list[dict[str, str]]
"""The headers of each Consumer."""


def configure(profile: str, admin: Admin, plugins: str) -> Credentials:
    """Puts the plugin and its Consumers under a collection (`/services/bench/plugins`).

    Returns:
        What each Consumer sends.
    """
    config: dict[str, Any] = {}
    if profile == "oidc":
        config = {"issuer": _issuer(), "auth_methods": ["bearer"], "consumer_claim": ["sub"]}
    elif profile == "hmac":
        config = {"clock_skew": AGES_S}
    admin.post(plugins, {"name": PLUGINS[profile], "config": config})
    credentials: Credentials = []
    for number in range(CONSUMERS):
        name = f"c{number}"
        admin.post("/consumers", {"username": name})
        path, row, headers = _CREDENTIALS[profile](name)
        if path:
            admin.post(f"/consumers/{name}/{path}", row)
        credentials.append(headers)
    return credentials


def write_script(folder: Path, credentials: Credentials) -> Path:
    """The Lua table that wrk reads."""
    rows = ",\n".join(
        "{" + ", ".join(f"[{json.dumps(name)}]={json.dumps(value)}" for name, value in row.items()) + "}" for row in credentials
    )
    file = folder / "headers.lua"
    file.write_text(f"return {{\n{rows}\n}}\n")
    return file


Made = tuple[str, dict[str, Any], dict[str, str]]


def _key(name: str) -> Made:
    return "key-auth", {"key": f"key-{name}"}, {"apikey": f"key-{name}"}


def _basic(name: str) -> Made:
    pair = base64.b64encode(f"{name}:password-of-{name}".encode()).decode()
    return "basic-auth", {"username": name, "password": f"password-of-{name}"}, {"Authorization": f"Basic {pair}"}


def _claims(name: str, issuer: str) -> dict[str, Any]:
    return {
        "iss": issuer,
        "sub": name,
        "aud": "bench",
        "exp": int(time.time()) + AGES_S,
        "iat": int(time.time()),
        "scope": "read write",
    }


def _jwt_hs(name: str) -> Made:
    secret = hashlib.sha256(name.encode()).hexdigest()
    token = sign(_claims(name, name), secret, "HS256")
    return "jwt", {"key": name, "secret": secret}, {"Authorization": f"Bearer {token}"}


def _jwt_rs(name: str) -> Made:
    token = sign(_claims(name, name), _private_pem(), "RS256")
    public = _rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return "jwt", {"key": name, "algorithm": "RS256", "rsa_public_key": public}, {"Authorization": f"Bearer {token}"}


def _hmac(name: str) -> Made:
    secret, date = f"secret-of-{name}", formatdate(usegmt=True)
    signed = f"x-date: {date}\nGET / HTTP/1.1"
    signature = base64.b64encode(hmac.digest(secret.encode(), signed.encode(), "sha256")).decode()
    proof = f'hmac username="{name}", algorithm="hmac-sha256", headers="x-date request-line", signature="{signature}"'
    return "hmac-auth", {"username": name, "secret": secret}, {"X-Date": date, "Authorization": proof}


def _oidc(name: str) -> Made:
    token = sign(_claims(name, _issuer()), _private_pem(), "RS256", {"kid": "bench"})
    return "", {}, {"Authorization": f"Bearer {token}"}


_CREDENTIALS: Final[dict[str, Callable[[str], Made]]] = {
    "auth1": _key,
    "basic": _basic,
    "jwt_hs": _jwt_hs,
    "jwt_rs": _jwt_rs,
    "hmac": _hmac,
    "oidc": _oidc,
}


@cache
def _rsa_key() -> RSAPrivateKey:
    return generate_private_key(65_537, 2_048)


@cache
def _private_pem() -> bytes:
    return _rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@cache
def _issuer() -> str:
    """Address of an issuer with one key, served until the bench ends; it is asked once per worker."""
    documents: dict[str, Any] = {}

    class Documents(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(documents.get(self.path)).encode()
            self.send_response(200 if self.path in documents else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's own name
            """Says nothing."""

    server = ThreadingHTTPServer((HOST, 0), Documents)
    threading.Thread(target=server.serve_forever, name="issuer", daemon=True).start()
    issuer = f"http://{HOST}:{server.server_address[1]}"
    key = {**RSAAlgorithm.to_jwk(_rsa_key().public_key(), as_dict=True), "kid": "bench", "use": "sig", "alg": "RS256"}
    documents["/.well-known/openid-configuration"] = {"issuer": issuer, "jwks_uri": f"{issuer}/jwks"}
    documents["/jwks"] = {"keys": [key]}
    return issuer
