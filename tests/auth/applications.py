# SPDX-License-Identifier: Apache-2.0
"""How does an application get OAuth 2.0 tokens from a gateway's own endpoints, over TLS?"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.support import raw
from tests.support.blueprints import Blueprints, Entity, unique
from tests.support.gateway import Gateway
from tests.support.origin import Origin

FORM = "Content-Type: application/x-www-form-urlencoded"
PROVISION_KEY = "the-login-applications-own-key"
HOME, OTHER_HOME = "https://app.test/back", "https://app.test/other"
VERIFIER = "a-verifier-of-more-than-forty-three-characters"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
FLOWS = {f"enable_{name}": True for name in ("authorization_code", "implicit_grant", "client_credentials", "password_grant")}


class Application:
    """An application registered for a Consumer.

    Attributes:
        fields: what proves it in a form.
    """

    def __init__(self, blueprints: Blueprints, consumer: Entity | None = None, **fields: Any) -> None:
        self.consumer = consumer or blueprints.consumer()
        said = {
            "name": unique("app"),
            "redirect_uris": [HOME, OTHER_HOME],
            "client_secret": f"secret of {unique('app')}",
            **fields,
        }
        self.row: Entity = blueprints.admin.post(f"/consumers/{self.consumer['id']}/oauth2", said)
        self.secret = said["client_secret"]
        self.fields = {"client_id": self.row["client_id"]}
        if self.row["client_type"] == "confidential":
            self.fields["client_secret"] = self.secret

    @property
    def basic(self) -> str:
        """The same in a header."""
        return "Authorization: Basic " + base64.b64encode(f"{self.row['client_id']}:{self.secret}".encode()).decode()


class Door:
    """A Route with oauth2, as its clients and its owner's login application use it."""

    def __init__(self, gateway: Gateway, blueprints: Blueprints, echo: Origin, **config: Any) -> None:
        self.gateway = gateway
        settings = {"provision_key": PROVISION_KEY, **FLOWS, **config}
        self.path = blueprints.plugged(echo, "oauth2", **settings)

    def post(self, endpoint: str, fields: Mapping[str, Any] | bytes, *lines: str) -> raw.Reply:
        """One request to `authorize` or `token`, on a connection of its own."""
        sent = {name: value for name, value in fields.items() if value is not None} if isinstance(fields, Mapping) else fields
        body = sent if isinstance(sent, bytes) else urlencode(sent, doseq=True).encode()
        with raw.Client.tls(self.gateway.proxy_tls_port) as client:
            return client.send(raw.request("POST", f"{self.path}/oauth2/{endpoint}", FORM, *lines, body=body)).read_reply()

    def authorize(self, application: Application, **fields: Any) -> dict[str, str]:
        """What the address says that the user is sent back to; `address` is the rest of it, `status` that of the answer."""
        usual = {
            "client_id": application.row["client_id"],
            "response_type": "code",
            "provision_key": PROVISION_KEY,
            "authenticated_userid": "user-7",
        }
        reply = self.post("authorize", {**usual, **fields})
        parts = urlsplit(json.loads(reply.body)["redirect_uri"])
        said = {name: values[0] for name, values in parse_qs(parts.fragment or parts.query).items()}
        return {**said, "address": f"{parts.scheme}://{parts.netloc}{parts.path}", "status": str(reply.status)}

    def code(self, application: Application, **fields: Any) -> str:
        """A code."""
        return self.authorize(application, **fields)["code"]

    def ask(self, application: Application, grant: str, *lines: str, **fields: Any) -> raw.Reply:
        """What the token endpoint answers."""
        return self.post("token", {**application.fields, "grant_type": grant, **fields}, *lines)

    def exchange(self, application: Application, code: str, **fields: Any) -> raw.Reply:
        """What it answers to a code."""
        return self.ask(application, "authorization_code", code=code, **fields)

    def token(self, application: Application, **fields: Any) -> dict[str, Any]:
        """A token that a code was exchanged for."""
        reply = self.exchange(application, self.code(application), **fields)
        assert reply.status == 200, reply
        said: dict[str, Any] = json.loads(reply.body)
        return said

    def knock(self, token: str, *lines: str, query: str = "") -> raw.Reply:
        """A call with a token, in clear, on a connection of its own."""
        return self.gateway.get(f"{self.path}{query}", f"Authorization: Bearer {token}", *lines)

    def together(self, count: int, application: Application, grant: str, **fields: Any) -> list[int]:
        """Statuses of so many requests for a token that are sent at once."""
        with ThreadPoolExecutor(count) as pool:
            replies = [pool.submit(self.ask, application, grant, **fields) for _ in range(count)]
            return sorted(reply.result().status for reply in replies)


def refusal(reply: raw.Reply) -> tuple[int, str, str]:
    """Status, error and description."""
    said = json.loads(reply.body)
    return reply.status, said["error"], said["error_description"]
