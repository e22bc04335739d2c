# SPDX-License-Identifier: Apache-2.0
"""Does the Admin API answer wrong requests as a recorded Kong did?"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

import pytest

from tests.admin.process import ControlProcess
from tests.support.raw import Reply, exchange
from tests.support.transcripts import FOLDER

RECORDED = (FOLDER / "admin_errors.txt").read_text()
SECTIONS = [section.partition("\n") for section in RECORDED.split("\n### ")[1:]]
HEAD = re.compile(r"HTTP/1\.1 (\d{3} .*?)\n(.*?)\n\n(.*?)\n\[curl exit 0\]", re.DOTALL)

# Ours differ on purpose: the server is who it is. The date and the latency are never the same. HTTP/1.1 connections
# are kept without being asked.
NOT_COMPARED = {"server", "date", "x-kong-admin-latency"}
# Of the recorded Kong's own making: which ids, when, and so how long.
MADE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|WyI[\w-]+|(?<=_at\":)\d+")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    """What the recorded Kong held before the first request: a used Service, and one more for the page."""
    with ControlProcess(tmp_path_factory.mktemp("prefix")) as process:
        process.admin.post("/services", {"name": "good", "url": "http://a.b"})
        process.admin.post("/services/good/routes", {"paths": ["/good"]})
        process.admin.post(
            "/services",
            {"id": "00000000-0000-4000-8000-00000000000a", "name": "http_to_tls_port", "url": "http://127.0.0.1:18709/"},
        )
        yield process


def send(command: str, port: int) -> Reply:
    """The request of a recorded curl line."""
    words = shlex.split(command)[2:]
    method, target, fields, body = "", "", [], ""
    while words:
        word = words.pop(0)
        if word == "-X":
            method = words.pop(0)
        elif word == "-H":
            fields.append(words.pop(0))
        elif word == "-d":
            body += ("&" if body else "") + words.pop(0)
        else:
            target = word.partition("/")[2]
    if body and not fields:
        fields.append("Content-Type: application/x-www-form-urlencoded")
    method = method or "GET"
    head = [f"{method} /{target} HTTP/1.1", f"Host: 127.0.0.1:{port}", *fields]
    head += [f"Content-Length: {len(body)}"] if body else []
    return exchange(port, "\r\n".join([*head, "", body]).encode(), method)


@pytest.mark.parametrize("section", SECTIONS, ids=[title for title, _, _ in SECTIONS])
def test_replay(replayed: ControlProcess, section: tuple[str, str, str]) -> None:
    _, _, text = section
    command = text.partition("\n")[0].removeprefix("$ ")
    recorded = HEAD.search(text)
    assert recorded
    status, head, body = recorded.groups()
    reply = send(command, replayed.admin_port)
    assert f"{reply.status} {reply.reason}" == status

    expected = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head.splitlines()}
    got = {name.lower(): value for name, value in reply.headers}
    if reply.status == 405:
        # Kong leaves it out; RFC 9110, section 15.5.6, demands it.
        assert got.pop("allow") == "GET, HEAD, OPTIONS, POST"
    # No page is let in without being asked for: decision 0009.
    assert not [name for name in got if name.startswith("access-control-")]
    expected = {name: value for name, value in expected.items() if not name.startswith("access-control-")}
    assert {name for name in got if name not in NOT_COMPARED} == {name for name in expected if name not in NOT_COMPARED}
    assert got["server"].startswith("pylae/")
    assert got.get("content-type") == expected.get("content-type")

    ours = reply.body.decode()
    if "json" in expected.get("content-type", ""):
        assert json.loads(MADE.sub("1", ours)) == json.loads(MADE.sub("1", body))
    else:
        assert ours.replace("\r\n", "\n").strip() == body.strip()
