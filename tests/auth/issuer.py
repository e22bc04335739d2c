# SPDX-License-Identifier: Apache-2.0
"""How does an issuer of tokens behave whose every byte a test decides? A well-behaved one, unless told otherwise."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.api_jws import PyJWS

from tests.auth.keys import private_key
from tests.support.gateway import Gateway
from tests.support.origin import Connection, Origin, Received
from tests.support.raw import Client, Reply

Answering = Callable[[Connection, Received], None]

DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/jwks"
INTROSPECTION = "/introspection"
USERINFO = "/userinfo"
TOKEN = "/token"
CLIENT_SECRET = "clients-own-and-long-enough-for-hs256"

Protect = Callable[..., str]
"""Makes a path that asks an issuer."""


def text_of(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk_of(key: Any, kid: str) -> dict[str, Any]:
    """The public half of an RSA key."""
    numbers = key.public_key().public_numbers()
    n = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
    return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": text_of(n), "e": "AQAB"}


class Issuer:
    """Answers discovery, its keys, and what else it is told to.

    Attributes:
        keys: By `kid`; the first signs.
    """

    def __init__(self, **keys: Any) -> None:
        self.keys: dict[str, Any] = keys or {"first": private_key("RS256")}
        self._answers: dict[str, Answering] = {}
        self.origin = Origin(self._serve)
        self.url = self.origin.url.rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.origin.stop()

    def document(self, **changes: Any) -> dict[str, Any]:
        """What discovery says; None leaves a member out."""
        said = {
            "issuer": self.url,
            "jwks_uri": self.url + JWKS,
            "introspection_endpoint": self.url + INTROSPECTION,
            "userinfo_endpoint": self.url + USERINFO,
            "token_endpoint": self.url + TOKEN,
            **changes,
        }
        return {name: value for name, value in said.items() if value is not None}

    def key_set(self) -> dict[str, Any]:
        """Its keys."""
        return {"keys": [jwk_of(key, kid) for kid, key in self.keys.items()]}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Of a token that holds; None leaves a claim out."""
        now_s = int(time.time())
        said = {"iss": self.url, "sub": "alice", "exp": now_s + 300, "iat": now_s, "nbf": now_s, **changes}
        return {name: value for name, value in said.items() if value is not None}

    def token(self, *, kid: str | None = None, header: Any = None, key: Any = None, **changes: Any) -> str:
        """A token; signed with its first key unless said otherwise."""
        first = next(iter(self.keys))
        named = {"kid": first if kid is None else kid, **(header or {})}
        material = self.keys[first] if key is None else key
        # Not as a token of PyJWT's, which refuses to say nonsense.
        return PyJWS().encode(json.dumps(self.claims(**changes)).encode(), material, "RS256", {"typ": "JWT", **named})

    def say(self, path: str, body: Any, status: str = "200 OK", *lines: str) -> None:
        """Answers a path with this: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", *(lines or ("Content-Type: application/json",))]
        raw = "\r\n".join([*head, "", ""]).encode() + data
        self._answers[path] = lambda connection, _: connection.send(raw)

    def behave(self, path: str, answering: Answering) -> None:
        """Does this for a path, once its request was read."""
        self._answers[path] = answering

    def asked(self, path: str) -> int:
        """How often."""
        return sum(received.target.partition("?")[0] == path for received in list(self.origin.requests))

    def _serve(self, connection: Connection) -> None:
        while True:
            received = connection.read_head()
            connection.read_body(received)
            path = received.target.partition("?")[0]
            answering = self._answers.get(path)
            if answering is None:
                known = {DISCOVERY: self.document, JWKS: self.key_set}.get(path)
                data = json.dumps(known() if known else {"error": "not_found"}).encode()
                status = "200 OK" if known else "404 Not Found"
                head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
                connection.send(head.encode() + data)
            else:
                answering(connection, received)


def weak_key(bits: int) -> Any:
    """An RSA key of a size that nobody should use."""
    return rsa.generate_private_key(65537, bits)


def knock(gateway: Gateway, path: str, token: str) -> int:
    """The status that a token gets."""
    return gateway.get(path, f"Authorization: Bearer {token}").status


class Crowd:
    """Requests under way at once, each on a connection of its own."""

    def __init__(self, gateway: Gateway, path: str, *authorizations: str) -> None:
        self.clients: list[Client] = []
        for authorization in authorizations:
            head = f"GET {path} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: {authorization}\r\n\r\n"
            self.clients.append(gateway.connect().send(head.encode()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for client in self.clients:
            client.close()

    def replies(self) -> list[Reply]:
        """What all of them got."""
        return [client.read_reply() for client in self.clients]
