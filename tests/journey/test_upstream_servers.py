# SPDX-License-Identifier: Apache-2.0
"""Do nginx, HAProxy, Node and gunicorn close their idle connections without that a client notices?"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import pytest

from tests.support import processes
from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.load import Load
from tests.support.ports import free_port
from tests.support.racing import Asker, moment
from tests.support.raw import request
from tests.support.servers.gunicorn import Gunicorn
from tests.support.servers.haproxy import HaproxyOrigin
from tests.support.servers.nginx import Nginx
from tests.support.servers.node import Node
from tests.support.servers.server import Server
from tests.support.wait import until

# Longer than whatever the servers keep by default: the gateway must not be saved by its own setting.
SETTINGS = {"upstream_keepalive_idle_timeout": 120}
WORKERS = 2

CLIENTS = 12
# No Service retries: what is sent again is sent again for the connection's sake.
RETRIES = 0


@dataclass(frozen=True)
class Kind:
    """A server, and after how long it closes an idle connection.

    Attributes:
        short: starts it on a port with a timeout of a second.
        usual: the same with its defaults.
        closes_after_s: from and to, with the short timeout; gunicorn looks for idle connections once a second.
        usually_closes_after_s: the same with its defaults.
    """

    short: Callable[[int], Server]
    usual: Callable[[int], Server]
    closes_after_s: tuple[float, float]
    usually_closes_after_s: tuple[float, float]


KINDS = {
    "nginx": Kind(
        lambda port: Nginx.origin(port, "keepalive_timeout 1s; keepalive_requests 5;"), Nginx.origin, (1.0, 1.0), (75.0, 75.0)
    ),
    # HAProxy has no default; 10 s is what its documentation's examples use.
    "haproxy": Kind(lambda port: HaproxyOrigin(port, 1), lambda port: HaproxyOrigin(port, 10), (1.0, 1.0), (10.0, 10.0)),
    "node": Kind(lambda port: Node(port, 1000), Node, (1.0, 1.0), (5.0, 5.0)),
    "gunicorn": Kind(lambda port: Gunicorn(port, 1), Gunicorn, (1.0, 2.0), (2.0, 3.0)),
}


def started(starts: dict[str, Callable[[int], Server]], blueprints: Blueprints) -> Iterator[dict[str, str]]:
    """Paths to the servers, by name."""
    with ExitStack() as stack:
        paths = {}
        for name, start in starts.items():
            port = free_port()
            stack.enter_context(start(port))
            paths[name] = blueprints.path(f"http://127.0.0.1:{port}/", retries=RETRIES)
        yield paths


@pytest.fixture(scope="module")
def short(blueprints: Blueprints) -> Iterator[dict[str, str]]:
    yield from started({name: kind.short for name, kind in KINDS.items()}, blueprints)


@pytest.fixture(scope="module")
def usual(blueprints: Blueprints) -> Iterator[dict[str, str]]:
    yield from started({name: kind.usual for name, kind in KINDS.items()}, blueprints)


async def in_gaps(port: int, path: str, closes_after_s: tuple[float, float], rounds: int, method: str = "GET") -> Counter[int]:
    """Clients that all ask together, then all again about when the server closes what lay idle; statuses of the answers."""
    loop = asyncio.get_running_loop()
    clients = [Asker(port) for _ in range(CLIENTS)]
    statuses: Counter[int] = Counter()

    async def ask(client: Asker, planned_s: float) -> None:
        await moment(planned_s)
        statuses[await client.ask(request(method, path, body=b"once only" if method == "POST" else None))] += 1

    await asyncio.gather(*(ask(client, 0.0) for client in clients))
    for _ in range(rounds):
        idle_since_s, (least_s, most_s) = loop.time(), closes_after_s
        planned = [idle_since_s + random.uniform(least_s - 0.005, most_s + 0.005) for _ in clients]
        await asyncio.gather(*map(ask, clients, planned))
    for client in clients:
        client.close()
    return statuses


def gaps_everywhere(
    gateway: Gateway, paths: dict[str, str], closes: dict[str, tuple[float, float]], rounds: dict[str, int]
) -> dict[str, Counter[int]]:
    """`in_gaps` for all servers at once."""

    async def run() -> dict[str, Counter[int]]:
        works = [in_gaps(gateway.proxy_port, path, closes[name], rounds[name]) for name, path in paths.items()]
        return dict(zip(paths, await asyncio.gather(*works), strict=True))

    return asyncio.run(run())


def test_no_get_fails_about_the_servers_idle_timeouts(gateway: Gateway, short: dict[str, str]) -> None:
    rounds = 3
    closes = {name: kind.closes_after_s for name, kind in KINDS.items()}
    statuses = gaps_everywhere(gateway, short, closes, dict.fromkeys(KINDS, rounds))
    assert statuses == {name: {200: CLIENTS * (rounds + 1)} for name in KINDS}


@pytest.mark.nightly
@pytest.mark.timeout(400)
def test_no_get_fails_about_the_servers_usual_idle_timeouts(gateway: Gateway, usual: dict[str, str]) -> None:
    closes = {name: kind.usually_closes_after_s for name, kind in KINDS.items()}
    rounds = {name: int(160 / closes_after_s) for name, (closes_after_s, _) in closes.items()}
    statuses = gaps_everywhere(gateway, usual, closes, rounds)
    assert statuses == {name: {200: CLIENTS * (rounds[name] + 1)} for name in KINDS}


def test_no_post_fails_where_the_server_announces_its_timeout(gateway: Gateway, short: dict[str, str]) -> None:
    """Node says `Keep-Alive: timeout=1`: the gateway closes first, from the first connection on."""
    statuses = asyncio.run(in_gaps(gateway.proxy_port, short["node"], (1.0, 1.0), 1, "POST"))
    assert statuses == {200: CLIENTS * 2}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", list(KINDS))
def test_no_request_of_many_fails(gateway: Gateway, short: dict[str, str], name: str, method: str) -> None:
    """nginx closes after every fifth, and says so."""
    body = b"once only" if method == "POST" else None
    with gateway.connect() as client:
        replies = [client.send(request(method, short[name], body=body)).read_reply() for _ in range(42)]
    assert {(reply.status, reply.text) for reply in replies} == {(200, name)}


def _have_left(master: int, workers: set[int]) -> bool:
    return not workers & set(processes.children(master))


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_a_reload_of_the_server_under_load_costs_no_get(gateway: Gateway, blueprints: Blueprints, name: str) -> None:
    port = free_port()
    with Nginx.origin(port) if name == "nginx" else HaproxyOrigin(port, 10) as server:
        assert server.process
        master = server.process.pid
        path = blueprints.path(f"http://127.0.0.1:{port}/")
        with Load(gateway.proxy_port, path) as load:
            load.wait_for(50)
            for _ in range(3):
                before = set(processes.children(master))
                server.reload()
                until(partial(_have_left, master, before), "the old worker to leave", 15)
                load.wait_for(50)
        assert load.failures == []


@pytest.mark.parametrize("name", list(KINDS))
def test_a_restart_of_the_server_costs_no_later_get(gateway: Gateway, blueprints: Blueprints, name: str) -> None:
    """Killed outright while connections lie in the pool, and up again: the next GETs meet dead connections."""
    port = free_port()
    with KINDS[name].short(port) as server:
        path = blueprints.path(f"http://127.0.0.1:{port}/", retries=RETRIES)
        assert [gateway.get(path).status for _ in range(4)] == [200] * 4
        assert server.process
        for pid in processes.tree(server.process.pid):
            processes.send(pid, signal.SIGKILL)
        server.restart()
        assert [gateway.get(path).status for _ in range(10)] == [200] * 10
