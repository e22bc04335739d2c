# SPDX-License-Identifier: Apache-2.0
"""Is there a spelling of a path that the gateway takes for an open one, and the server behind for the guarded one?

The server is a real nginx, which decodes a path, merges its slashes and follows its dots before it looks what it leads to.
One Route is open and leads everywhere, the other asks for a key; both lead to that server.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.ports import free_port
from tests.support.servers.nginx import Nginx

TRICKS = {
    "as it is": "/secure/file",
    "slashes": "//secure/file",
    "many slashes": "////secure///file",
    "slash after": "/secure//file",
    "dot": "/./secure/file",
    "encoded dot": "/%2e/secure/file",
    "dots": "/open/../secure/file",
    "encoded dots": "/open/%2e%2e/secure/file",
    "half encoded dots": "/open/.%2E/secure/file",
    "dots above the root": "/../../secure/file",
    "dots within": "/secure/open/../file",
    "letter encoded": "/%73ecure/file",
    "upper case of the encoding": "/%53ecure/file",
    "letter encoded twice": "/%2573ecure/file",
    "slash encoded": "/%2fsecure/file",
    "slash encoded in upper case": "/%2Fsecure/file",
    "slash encoded after": "/secure%2ffile",
    "slash encoded between dots": "/open%2f..%2fsecure/file",
    "dots and slash encoded": "/open/%2e%2e%2fsecure/file",
    "backslash": "/open/..\\secure/file",
    "backslash encoded": "/open/..%5csecure/file",
    "parameter": "/secure;x=1/file",
    "parameter before": "/;x=1/secure/file",
    "parameter encoded": "/secure%3bx/file",
    "upper case": "/SECURE/file",
    "fragment": "/open#/../secure/file",
    "question mark encoded": "/secure%3f/file",
    "blank encoded": "/%20/../secure/file",
    "NUL encoded": "/secure%00/file",
    "absolute form": "http://gateway.test/secure/file",
    "absolute form with slashes": "http://gateway.test//secure/file",
    "absolute form with dots": "http://gateway.test/open/../secure/file",
    "UTF-8 of too many bytes": "/open/%c0%ae%c0%ae/secure/file",
    "full width": "/%ef%bd%93ecure/file",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Nginx]:
    port = free_port()
    locations = 'location /secure { return 200 "guarded $uri"; } location / { return 200 "open $uri"; }'
    with Nginx(f"server {{ listen 127.0.0.1:{port}; {locations} }}", [port]) as started:
        yield started


@pytest.fixture(scope="module")
def key(gateway: Gateway, blueprints: Blueprints, server: Nginx) -> str:
    service = blueprints.service(f"http://127.0.0.1:{server.ports[0]}")
    blueprints.route(service, paths=["/"], strip_path=False)
    guarded = blueprints.route(service, paths=["/secure"], strip_path=False)
    blueprints.plugin("key-auth", guarded, "route")
    made = blueprints.key(blueprints.consumer())
    gateway.settle()
    return made


def test_the_server_is_guarded_and_open(gateway: Gateway, key: str) -> None:
    assert gateway.get("/secure/file").status == 401
    assert gateway.get("/secure/file", f"apikey: {key}").body == b"guarded /secure/file"
    assert gateway.get("/open").body == b"open /open"


@pytest.mark.parametrize("trick", TRICKS)
def test_path_trick(gateway: Gateway, key: str, trick: str) -> None:
    reply = gateway.get(TRICKS[trick])
    assert not reply.body.startswith(b"guarded"), reply.body
    assert reply.status in (200, 400, 401, 404), reply
