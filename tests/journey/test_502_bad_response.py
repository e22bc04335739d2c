# SPDX-License-Identifier: Apache-2.0
"""Which answers of an upstream are none, beyond those that were recorded from Kong?"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Origin, send_then_close

MakeOrigin = Callable[[Behaviour], Origin]

NO_HTTP = {
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "SMTP": b"220 mail.test ESMTP\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "an empty line": b"\r\n\r\n",
}

BAD_STATUS_LINES = {
    "no status": b"HTTP/1.1 \r\n\r\n",
    "letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("case", [*NO_HTTP, *BAD_STATUS_LINES])
def test_what_is_not_http_is_502_and_said(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, case: str) -> None:
    origin = make_origin(send_then_close((NO_HTTP | BAD_STATUS_LINES)[case]))
    reply = gateway.get(blueprints.path(origin), "Accept: application/json")
    assert reply.status == 502
    assert json.loads(reply.body)["message"] == "An invalid response was received from the upstream server"
    gateway.error_log.wait_for("while reading response header from upstream")
    assert origin.connections == 1


def test_the_record_shows_the_first_bytes(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    reply = gateway.get(blueprints.path(make_origin(send_then_close(NO_HTTP["SSH"]))))
    gateway.failures.wait_for(reply.request_id)
    assert "SSH-2.0" in gateway.failures.lines()[0]
