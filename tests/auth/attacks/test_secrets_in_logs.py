# SPDX-License-Identifier: Apache-2.0
"""Does whoever reads the logs learn how to pass?

Credentials of the query, right or wrong, are in no access line, no line of `error.log`, no entry that a log plugin sends and
no record of a failure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.auth.test_combinations import token
from tests.support.blueprints import Blueprints, unique
from tests.support.gateway import Gateway
from tests.support.log_collector import LogCollector
from tests.support.origin import Origin
from tests.support.ports import free_port
from tests.support.raw import Reply, request
from tests.support.wait import until

SETTINGS = {"log_level": "debug", "trusted_ips": "127.0.0.1"}
SECRET = "ThisIsTheSecret"
HIDDEN = "REDACTED"


class Reader:
    """Reads all that is kept of a request."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.collector = LogCollector()

    def entry(self, reply: Reply) -> dict[str, Any]:
        """What the log plugin sent."""

        def found() -> list[dict[str, Any]]:
            return [entry for entry in self.collector.entries if entry["request"]["id"] == reply.request_id]

        return until(found, "the entry")[0]

    def read(self, reply: Reply) -> tuple[str, dict[str, Any]]:
        """The access line and the entry, after it was seen that no log holds the secret.

        Every test has a secret of its own that begins like all the others.
        """
        entry = self.entry(reply)
        (line,) = self.gateway.access_log.wait_for(str(reply.request_id))
        explained = self.gateway.admin.call("GET", f"/explain/{reply.request_id}")
        kept = [line, json.dumps(entry), explained.body.decode("utf-8", "replace")]
        for log in (self.gateway.access_log, self.gateway.error_log, self.gateway.failures):
            kept += log.lines()
        assert [text for text in kept if SECRET in text] == []
        return line, entry


@pytest.fixture(scope="module")
def reader(gateway: Gateway, blueprints: Blueprints) -> Iterator[Reader]:
    reader = Reader(gateway)
    with Origin(reader.collector) as endpoint:
        blueprints.plugin("http-log", http_endpoint=endpoint.url)
        gateway.settle()
        yield reader


@pytest.fixture(scope="module")
def key(blueprints: Blueprints) -> str:
    return blueprints.key(blueprints.consumer(), key=unique(SECRET))


@pytest.fixture(scope="module")
def protected(reader: Reader, key: str, blueprints: Blueprints, echo: Origin) -> str:
    del reader, key
    return blueprints.plugged(echo, "key-auth")


def test_key_in_the_query(gateway: Gateway, reader: Reader, protected: str, key: str, echo: Origin) -> None:
    reply = gateway.get(f"{protected}/a?b=c&apikey={key}&d")
    assert (reply.status, echo.last.target) == (200, f"/a?b=c&apikey={key}&d")
    line, entry = reader.read(reply)
    assert f'"GET {protected}/a?b=c&apikey=***&d HTTP/1.1" 200' in line
    asked = entry["request"]
    assert asked["uri"] == f"{protected}/a?b=c&apikey=***&d"
    assert asked["url"].endswith(asked["uri"])
    assert asked["querystring"] == {"b": "c", "apikey": "***", "d": True}
    assert entry["upstream_uri"] == "/a?b=c&apikey=***&d"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (f"apikey={SECRET}", "apikey=***"),
        (f"apikey={SECRET}1&apikey={SECRET}2", "apikey=***&apikey=***"),
        (f"apike%79={SECRET}", "apike%79=***"),
        (f"apikey={SECRET}?apikey={SECRET}", "apikey=***"),
        (f"apikey=%00%ff{SECRET}", "apikey=***"),
        (f"&&apikey=={SECRET}&", "&&apikey=***&"),
    ],
    ids=["plain", "twice", "escaped", "two marks", "bytes", "odd signs"],
)
def test_wrong_key_in_the_query(gateway: Gateway, reader: Reader, protected: str, query: str, shown: str) -> None:
    reply = gateway.get(f"{protected}?{query}")
    assert reply.status == 401
    line, entry = reader.read(reply)
    assert f"?{shown} HTTP/1.1" in line
    assert entry["request"]["uri"].endswith(f"?{shown}")


def test_key_in_the_query_beside_one_in_a_header(gateway: Gateway, reader: Reader, protected: str, key: str) -> None:
    reply = gateway.get(f"{protected}?apikey={SECRET}", f"apikey: {key}")
    assert reply.status == 200
    (line,) = gateway.access_log.wait_for(str(reply.request_id))
    assert "?apikey=*** " in line
    assert reader.entry(reply)["request"]["querystring"] == {"apikey": "***"}


def test_key_in_the_query_of_a_request_that_fails(gateway: Gateway, reader: Reader, key: str, blueprints: Blueprints) -> None:
    path = blueprints.plugged(f"http://127.0.0.1:{free_port()}", "key-auth")
    reply = gateway.get(f"{path}/x?apikey={key}")
    assert reply.status == 502
    reader.read(reply)
    lines = gateway.error_log.wait_for(str(reply.request_id))
    assert any(f'request: "GET {path}/x?apikey=*** HTTP/1.1"' in line and '/x?apikey=***", host:' in line for line in lines), (
        lines
    )


def test_hidden_key_in_a_header(gateway: Gateway, reader: Reader, key: str, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.plugged(echo, "key-auth", hide_credentials=True)
    reply = gateway.get(path, f"APIKey: {key}", "Cookie: theme=dark")
    assert reply.status == 200
    _, entry = reader.read(reply)
    assert entry["request"]["headers"]["apikey"] == HIDDEN
    assert entry["request"]["headers"]["cookie"] == "theme=dark"


@pytest.mark.parametrize("field", ["Authorization", "Proxy-Authorization", "AUTHORIZATION"])
def test_password_in_a_header(gateway: Gateway, reader: Reader, protected: str, field: str) -> None:
    reply = gateway.get(protected, f"{field}: Basic {SECRET}", f"{field}: {SECRET}")
    assert reply.status == 401
    _, entry = reader.read(reply)
    assert entry["request"]["headers"][field.lower()] == HIDDEN


def test_token_in_the_query(gateway: Gateway, reader: Reader, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.plugged(echo, "jwt")
    consumer, name = blueprints.consumer(), unique("issuer")
    gateway.admin.post(f"/consumers/{consumer['id']}/jwt", {"key": name, "secret": "a-secret-of-thirty-two-characters"})
    gateway.settle()
    good = token(name)
    for sent, status in ((good, 200), (f"a.b.{SECRET}", 401), (f"{SECRET}&jwt={SECRET}2", 401)):
        reply = gateway.get(f"{path}?jwt={sent}")
        assert reply.status == status
        line, entry = reader.read(reply)
        assert "?jwt=***" in line
        assert good not in f"{line}{entry}"


@pytest.mark.parametrize("query", [{"access_token": SECRET}, {"access_token": [SECRET, SECRET]}])
@pytest.mark.parametrize(
    ("plugin", "config"),
    [
        ("oauth2", {"scopes": ["read"], "enable_client_credentials": True}),
        ("oauth2-introspection", {"introspection_url": "http://127.0.0.1:1/", "authorization_value": f"Basic {SECRET}"}),
        ("openid-connect", {"issuer": "http://127.0.0.1:1/", "auth_methods": ["bearer"], "bearer_token_param_type": ["query"]}),
    ],
)
def test_access_token_in_the_query(
    gateway: Gateway,
    reader: Reader,
    blueprints: Blueprints,
    echo: Origin,
    plugin: str,
    config: dict[str, Any],
    query: dict[str, Any],
) -> None:
    path = blueprints.plugged(echo, plugin, **config)
    reply = gateway.get(f"{path}?{urlencode(query, doseq=True)}")
    assert reply.status in (401, 500)
    line, _ = reader.read(reply)
    assert "?access_token=***" in line


def test_application_s_secret_in_the_query(gateway: Gateway, reader: Reader, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.plugged(
        echo,
        "oauth2",
        route={"protocols": ["http"]},
        scopes=["read"],
        enable_client_credentials=True,
        accept_http_if_already_terminated=True,
    )
    names = ("client_secret", "code", "refresh_token", "password", "provision_key", "code_verifier")
    query = urlencode({"grant_type": "client_credentials", "client_id": "app", **dict.fromkeys(names, SECRET)})
    lines = ("X-Forwarded-Proto: https", "Content-Length: 0")
    reply = gateway.send(request("POST", f"{path}/oauth2/token?{query}", *lines))
    assert reply.status == 400
    line, _ = reader.read(reply)
    assert "client_id=app&" + "&".join(f"{name}=***" for name in names) in line


def test_authorization_code_in_the_query(gateway: Gateway, reader: Reader, blueprints: Blueprints, echo: Origin) -> None:
    config: dict[str, Any] = {
        "issuer": "http://127.0.0.1:9",
        "client_id": ["c"],
        "client_secret": ["s"],
        "auth_methods": ["authorization_code"],
    }
    reply = gateway.get(f"{blueprints.plugged(echo, 'openid-connect', **config)}?code={SECRET}&state=unknown")
    assert reply.status == 500
    line, _ = reader.read(reply)
    assert "?code=***&state=unknown " in line
