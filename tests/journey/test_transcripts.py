# SPDX-License-Identifier: Apache-2.0
"""Do we answer failing upstreams and bad clients to the letter as a real Kong 3.10 did?"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import origin as origins
from tests.support import transcripts
from tests.support.blueprints import Blueprints
from tests.support.certificates import self_signed
from tests.support.gateway import Gateway
from tests.support.origin import FullBacklog, Origin
from tests.support.ports import free_port
from tests.support.raw import Client, ClosedEarly, Reply
from tests.support.servers.dns import NameServer
from tests.support.servers.nginx import Nginx
from tests.support.servers.server import find
from tests.support.transcripts import Section, Terms
from tests.support.wait import until

# Recorded port of each origin, by the transcript it plays in.
RECORDED_PORTS = {
    18701: "good",
    18702: "close_on_accept",
    18703: "early_close",
    18704: "partial_header",
    18705: "truncated_body",
    18706: "reset",
    18707: "read_timeout",
    18708: "big_headers",
    18710: "garbage_status",
    18712: "bad_header",
    18713: "truncated_chunked",
    18714: "bad_chunk",
    18715: "dup_content_length",
    18716: "cl_and_te",
    18717: "https_to_plain_port",
}
TLS_NGINX_PORT, FULL_PORT, REFUSED_PORT = 18709, 18711, 18799

# Origins of which the recording counted the requests that they could read.
COUNT_REQUESTS = (origins.good, origins.plain_to_tls)

LEFT_OUT = {
    "client_errors: request-size-limiting 413": "the plugin is not bundled yet",
    "upstream_one_dead: GET": "recorded while that Kong knew only the dead Target (eventual consistency); with both "
    "known every attempt picks anew, see test_a_dead_target_costs_an_attempt_not_the_request",
}

# Answers whose status line has no reason in the recording, because its nginx knows none.
REASONS = {426: {"", "Upgrade Required"}}

SECTIONS = [section for section in transcripts.load() if section.name not in LEFT_OUT]


@dataclass
class Rig:
    """The gateway with every recorded origin behind it."""

    gateway: Gateway
    terms: Terms
    origins: dict[str, Origin] = field(default_factory=dict)

    def attempts(self, section: Section) -> int:
        """What the recorded origin would have counted: connections, or requests where it answered them."""
        name = "good" if section.service is None else section.file
        name = {"early_close_noretry": "early_close", "read_timeout_noretry": "read_timeout"}.get(name, name)
        origin = self.origins.get(name)
        if origin is None:
            return 0
        return len(origin.requests) if origin.behaviour in COUNT_REQUESTS else origin.connections


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Origins as recorded, and the configuration that the recording had."""
    names, full = NameServer(), FullBacklog()
    certificate = self_signed(tmp_path_factory.mktemp("tls"), "127.0.0.1")
    tls_port = free_port()
    started = {name: Origin(origins.RECORDED[name]) for name in RECORDED_PORTS.values()}
    gateway = Gateway({"dns_resolver": f"127.0.0.1:{names.port}"})
    ports = {recorded: started[name].port for recorded, name in RECORDED_PORTS.items()}
    ports |= {TLS_NGINX_PORT: tls_port, FULL_PORT: full.port, REFUSED_PORT: free_port(), 18000: gateway.proxy_port}
    with Nginx.tls_origin(tls_port, str(certificate.certificate), str(certificate.key)), gateway:
        made = Rig(gateway, Terms(ports, _nginx_version()), started)
        _configure(made)
        yield made
    for origin in started.values():
        origin.stop()
    names.stop()
    full.stop()


def _nginx_version() -> str:
    nginx = find("nginx")
    assert nginx
    talk = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr
    return talk.split(": ", 1)[1].split()[0]


def _configure(rig: Rig) -> None:
    admin, blueprints = rig.gateway.admin, Blueprints(rig.gateway)
    for section in SECTIONS:
        if section.service is None or section.title != _first_title(section.file):
            continue
        service = {key: rig.terms.translate(value) if isinstance(value, str) else value for key, value in section.service.items()}
        admin.post("/services", {"name": section.file, **service})
        admin.post(f"/services/{section.file}/routes", {"name": section.file, "paths": [f"/{section.file}"]})
    admin.post("/upstreams", {"name": "empty.upstream"})
    admin.post("/services", {"name": "good", "url": rig.origins["good"].url})
    routes: dict[str, dict[str, Any]] = {
        "good": {},
        "tlsonly": {"protocols": ["https"]},
        "tlsredir": {"protocols": ["https"], "https_redirect_status_code": 301},
        "onlyget": {"methods": ["GET"]},
        "keyauth": {},
        "rl": {},
    }
    for name, fields in routes.items():
        admin.post("/services/good/routes", {"name": name, "paths": [f"/{name}"], **fields})
    blueprints.plugin("key-auth", admin.get("/routes/keyauth"), "route")
    blueprints.plugin("rate-limiting", admin.get("/routes/rl"), "route", minute=1)
    rig.gateway.settle()


def _first_title(file: str) -> str:
    return next(section.title for section in SECTIONS if section.file == file)


def _exchange(rig: Rig, section: Section) -> tuple[Reply | None, bytes]:
    """Send the section's request; the reply with its head, if one came, and the bytes of the body."""
    gateway = rig.gateway
    method, data = section.request(f"127.0.0.1:{gateway.proxy_port}")
    port = gateway.proxy_tls_port if section.title.endswith("plain HTTP to TLS port") else gateway.proxy_port
    with Client(port) as client:
        client.send(data)
        if not section.ending:  # the client left
            rig.origins["read_timeout"].wait_requests(1)
            return None, b""
        if not section.reply.startswith("HTTP/"):
            return None, _read_all(client)
        if section.ending == "curl exit 18":
            with pytest.raises(ClosedEarly) as early:
                client.read_reply(method)
            partial = early.value.reply
            assert partial, "it broke off before its head was whole"
            return partial, partial.body
        reply = client.read_reply(method)
        if section.ending == "server closed the connection":
            assert client.is_closed(), "the connection was to be closed"
        elif section.ending.startswith("no more data"):
            assert client.is_silent(), "the connection was to stay open"
        return reply, reply.body


def _read_all(client: Client) -> bytes:
    try:
        return client.read_to_end()
    except ClosedEarly as early:
        return early.received


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_the_recorded_answer_is_ours(rig: Rig, section: Section) -> None:
    gateway = rig.gateway
    if section.title == "rate limit second":
        # So that this one is over the limit even when it runs alone or in a new minute.
        gateway.access_log.mark()
        gateway.get("/rl")
        gateway.access_log.wait_for("/rl")
    for origin in rig.origins.values():
        origin.forget()
    gateway.access_log.mark()
    gateway.error_log.mark()

    reply, body = _exchange(rig, section)

    access = gateway.access_log.wait_for("kong_request_id", len(section.access_lines))
    found = transcripts.ACCESS_LINE.fullmatch(access[0])
    assert found, access[0]
    rig.terms.request_id = found["id"]
    expected = transcripts.expect(section, rig.terms)
    if expected.head is None:
        assert reply is None, f"no head was to come, got {reply}"
    else:
        assert reply is not None
        assert (reply.status, reply.interim) == (expected.head.status, list(expected.interim))
        assert reply.reason in REASONS.get(reply.status, {expected.head.reason})
        assert transcripts.comparable_headers(reply) == transcripts.comparable_headers(expected.head)
        assert reply.request_id == found["id"], "the log speaks of another request"
    assert transcripts.comparable_body(body) == transcripts.comparable_body(expected.body)
    assert [transcripts.comparable_access(line) for line in access] == [
        transcripts.comparable_access(rig.terms.translate(line, transcripts.recorded_request_id(section)), expected.growth_bytes)
        for line in section.access_lines
    ]
    assert [transcripts.comparable_error(line) for line in gateway.error_log.grave_lines()] == [
        transcripts.comparable_error(rig.terms.translate(line, transcripts.recorded_request_id(section)))
        for line in section.error_lines
    ]
    if section.attempts is not None:
        assert rig.attempts(section) == section.attempts


def test_a_dead_target_costs_an_attempt_not_the_request(rig: Rig) -> None:
    blueprints = Blueprints(rig.gateway)
    dead = rig.terms.ports[REFUSED_PORT]
    good = rig.origins["good"]
    upstream = blueprints.upstream(f"127.0.0.1:{good.port}", f"127.0.0.1:{dead}")
    path = blueprints.path(f"http://{upstream['name']}/")
    rig.gateway.error_log.mark()
    statuses = [rig.gateway.get(path).status for _ in range(8)]
    assert statuses == [200] * 8
    refused = rig.gateway.error_log.containing("connect() failed (111: Connection refused)")
    assert 1 <= len(refused) <= 8, f"each request may meet the dead Target once at most: {refused}"


def test_every_recorded_file_is_replayed_or_left_out_with_a_reason() -> None:
    files = {path.stem for path in Path(transcripts.FOLDER).glob("*.txt")}
    replayed = {section.file for section in SECTIONS} | {name.partition(":")[0] for name in LEFT_OUT}
    assert files - replayed == {"admin_errors"}, "admin_errors is replayed by tests/admin"


def test_the_client_that_left_is_let_go_upstream_too(rig: Rig) -> None:
    origin = rig.origins["read_timeout"]
    origin.forget()
    with rig.gateway.connect() as client:
        client.send(b"GET /read_timeout_noretry HTTP/1.1\r\nHost: a\r\n\r\n")
        origin.wait_requests(1)
    rig.gateway.access_log.wait_for('" 499 0 ')
    until(lambda: len(origin.requests) == 1, "no further attempt")
