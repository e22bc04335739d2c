# SPDX-License-Identifier: Apache-2.0
"""Who reads the logs learns no credential: not from the access line, not from error.log, records or what log plugins send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.auth.test_combinations import SECRET, token
from tests.support.blueprints import Blueprints, unique
from tests.support.gateway import Gateway
from tests.support.origin import Origin, answer


@pytest.fixture(scope="module")
def collector() -> Iterator[Origin]:
    """Takes what http-log sends."""
    with Origin(answer(b"")) as server:
        yield server


def shown(gateway: Gateway, request_id: str) -> str:
    """All that our own files say of a request, once its access line is there."""
    lines = gateway.access_log.wait_for(request_id)
    return "\n".join(lines) + gateway.error_log.path.read_text() + gateway.failures.path.read_text()


@pytest.mark.parametrize("argument", ["apikey", "api%6bey"])
def test_key_in_the_query(gateway: Gateway, blueprints: Blueprints, echo: Origin, collector: Origin, argument: str) -> None:
    consumer, key = blueprints.consumer(), unique("a-key-of-the-query")
    blueprints.admin.post(f"/consumers/{consumer['id']}/key-auth", {"key": key})
    service = blueprints.service(echo)
    route = blueprints.route(service)
    blueprints.plugin("key-auth", route, "route")
    queue = {"max_coalescing_delay": 0.01}
    blueprints.plugin("http-log", route, "route", http_endpoint=collector.url, queue=queue)
    gateway.settle()
    collector.forget()
    reply = gateway.get(f"{route['paths'][0]}?a=1&{argument}={key}&b=2")
    assert reply.status == 200
    told = shown(gateway, reply.request_id)
    assert key not in told
    assert f"?a=1&{argument}=***&b=2 HTTP/1.1" in told
    (sent,) = collector.wait_requests(1)
    assert key not in sent.body.decode()
    record = json.loads(sent.body)
    assert record["request"]["querystring"] == {"a": "1", "apikey": "***", "b": "2"}
    assert record["request"]["uri"].endswith(f"?a=1&{argument}=***&b=2")
    # The upstream gets it all the same: hiding it there is `hide_credentials`.
    assert key in echo.last.target


def test_key_of_a_request_that_fails_upstream(gateway: Gateway, blueprints: Blueprints) -> None:
    consumer, key = blueprints.consumer(), unique("a-key-that-fails")
    blueprints.admin.post(f"/consumers/{consumer['id']}/key-auth", {"key": key})
    with Origin(answer(b"")) as gone:
        service = blueprints.service(gone)
    route = blueprints.route(service)
    blueprints.plugin("key-auth", route, "route")
    gateway.settle()
    reply = gateway.get(f"{route['paths'][0]}?apikey={key}")
    assert reply.status == 502
    gateway.failures.wait_for(reply.request_id)
    told = shown(gateway, reply.request_id)
    assert "upstream: " in told
    assert key not in told


def test_wrong_key_in_the_query(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    key = unique("a-key-mistyped")
    reply = gateway.get(f"{blueprints.plugged(echo, 'key-auth')}?apikey={key}")
    assert reply.status == 401
    assert key not in shown(gateway, reply.request_id)


def test_token_in_the_query(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    consumer, name = blueprints.consumer(), unique("issuer")
    blueprints.admin.post(f"/consumers/{consumer['id']}/jwt", {"key": name, "secret": SECRET})
    text = token(name)
    reply = gateway.get(f"{blueprints.plugged(echo, 'jwt')}?jwt={text}")
    assert reply.status == 200
    assert text not in shown(gateway, reply.request_id)


@pytest.mark.parametrize(
    ("plugin", "config"),
    [
        ("oauth2", {"enable_client_credentials": True, "accept_http_if_already_terminated": True}),
        (
            "oauth2-introspection",
            {"introspection_url": "http://127.0.0.1:9/", "authorization_value": "Basic c2VjcmV0LW9mLW91cnM="},
        ),
        ("openid-connect", {"issuer": "http://127.0.0.1:9", "auth_methods": ["bearer"]}),
    ],
)
def test_access_token_in_the_query(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, plugin: str, config: dict[str, Any]
) -> None:
    text = unique("an-access-token-of-somebody")
    reply = gateway.get(f"{blueprints.plugged(echo, plugin, **config)}?access_token={text}")
    assert reply.status in (401, 500)
    told = shown(gateway, reply.request_id)
    assert text not in told
    assert "c2VjcmV0LW9mLW91cnM" not in told


def test_authorization_code_in_the_query(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    code = unique("a-code-of-somebodys-login")
    config: dict[str, Any] = {
        "issuer": "http://127.0.0.1:9",
        "client_id": ["c"],
        "client_secret": ["s"],
        "auth_methods": ["authorization_code"],
    }
    reply = gateway.get(f"{blueprints.plugged(echo, 'openid-connect', **config)}?code={code}&state=unknown")
    assert reply.status == 500
    told = shown(gateway, reply.request_id)
    assert "code=***&state=unknown" in told
    assert code not in told
