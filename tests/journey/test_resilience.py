# SPDX-License-Identifier: Apache-2.0
"""Does the plugin `resilience` do what it promises, and nothing unless it is asked?"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.blueprints import Blueprints, Entity
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Connection, Origin, Received, answer, early_close
from tests.support.ports import free_port
from tests.support.raw import Client, ClosedEarly, Reply, request
from tests.support.wait import until

SETTINGS = {
    "log_level": "debug",
    "headers": "server_tokens, latency_tokens, X-Kong-Request-Id",
    "plugins": "bundled,probe-filter,probe-response",
}
# What is remembered of a host is each worker's own.
WORKERS = 1
PATIENCE_S = 10

MakeOrigin = Callable[[Behaviour], Origin]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nill"


def silent(connection: Connection) -> None:
    """Read one request, say nothing until the gateway leaves."""
    connection.read_head()
    connection.wait_gone(PATIENCE_S)


def by_turns(*behaviours: Behaviour) -> Behaviour:
    """The first connection meets the first behaviour and so on; the last is for all that follow."""

    def serve(connection: Connection) -> None:
        behaviours[min(connection.number, len(behaviours)) - 1](connection)

    return serve


def stalling(reply: bytes, finish: threading.Event) -> Behaviour:
    """Answer each request, but keep the last byte back until it is told to finish."""

    def serve(connection: Connection) -> None:
        while True:
            connection.read_head()
            connection.send(reply[:-1])
            assert finish.wait(PATIENCE_S)
            connection.send(reply[-1:])

    return serve


class Gate:
    """Answers a request when it is told to."""

    def __init__(self) -> None:
        self.turns = threading.Semaphore(0)

    def __call__(self, connection: Connection) -> None:
        while True:
            connection.read_body(connection.read_head())
            assert self.turns.acquire(timeout=PATIENCE_S)
            connection.send(OK)

    def open(self, count: int = 1) -> None:
        self.turns.release(count)


class Moody:
    """Answers 503 while it is ill."""

    is_ill = True

    def __call__(self, connection: Connection) -> None:
        while True:
            connection.read_body(connection.read_head())
            connection.send(UNAVAILABLE if self.is_ill else OK)


opened: list[Client] = []


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    """Clients that a test left open are closed after it."""
    yield
    while opened:
        opened.pop().close()


class Guarded:
    """A path to a Service that has the plugin."""

    def __init__(
        self, blueprints: Blueprints, origin: Origin | str, service: dict[str, Any] | None = None, **config: Any
    ) -> None:
        self.gateway, self.blueprints = blueprints.gateway, blueprints
        self.service: Entity = blueprints.service(origin, **(service or {}))
        self.path: str = blueprints.route(self.service)["paths"][0]
        self.plugin = blueprints.plugin("resilience", self.service, "service", **config)
        self.gateway.settle()

    def get(self, *lines: str) -> Reply:
        return self.gateway.get(self.path, *lines)

    def begin(self, method: str = "GET", query: str = "") -> Client:
        """A request whose answer is read later."""
        client = self.gateway.connect().send(request(method, self.path + query))
        opened.append(client)
        return client

    def record(self, reply: Reply) -> dict[str, Any]:
        """What is kept of a request that failed."""
        (line,) = self.gateway.failures.wait_for(reply.request_id)
        (found,) = [record for record in self.gateway.failures.records() if record["request_id"] == reply.request_id]
        assert line
        return dict(found)

    def decisions(self, word: str, count: int) -> list[str]:
        return self.gateway.error_log.wait_for(word, count)


# === nothing unless it is asked ===


@pytest.mark.parametrize("plugins", [[], ["resilience"]], ids=["without", "with_an_empty_one"])
def test_all_of_it_is_off_by_default(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, plugins: list[str]
) -> None:
    failing, slow = make_origin(early_close), make_origin(silent)
    paths = []
    for origin, service in ((failing, {"retries": 2}), (slow, {"retries": 0, "read_timeout": 300})):
        created = blueprints.service(origin, **service)
        for name in plugins:
            blueprints.plugin(name, created, "service")
        paths.append(blueprints.route(created)["paths"][0])
    gateway.settle()
    assert {gateway.get(paths[0]).status for _ in range(20)} == {502}
    assert len(failing.requests) == 60, "every try that the Service allows"
    assert gateway.get(paths[1]).status == 504
    assert len(slow.requests) == 1, "nothing is asked twice"
    for word in ("hedge.", "queue.", "reason=budget", "circuit"):
        assert not gateway.error_log.containing(word)


def test_a_route_turns_off_what_its_service_asks_for(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    guarded = Guarded(blueprints, make_origin(Moody()), circuit_breaker={"failures": 1, "open_s": 60})
    route = blueprints.route(guarded.service)
    blueprints.plugin("resilience", route, "route")
    guarded.gateway.settle()
    assert guarded.get().body == b"ill"
    assert guarded.get().header("Retry-After")
    assert {guarded.gateway.get(route["paths"][0]).body for _ in range(3)} == {b"ill"}


# === retry budget ===


def test_total_failure_makes_no_storm_of_retries(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(early_close)
    budget = {"percent": 10, "least_per_s": 0, "window_s": 300}
    guarded = Guarded(blueprints, origin, {"retries": 5}, retry_budget=budget)
    replies = [guarded.get() for _ in range(50)]
    assert {reply.status for reply in replies} == {502}
    assert len(origin.requests) == 55, "50 requests, and a tenth of them again"
    refused = guarded.decisions("retry.refused reason=budget", 1)
    assert all("tried=" in line for line in refused)
    assert guarded.record(replies[0])["attempts"][-1]["again"] == "not sent again: the budget of retries is spent"


def test_a_few_retries_are_allowed_however_few_the_requests(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(early_close)
    budget = {"percent": 0, "least_per_s": 0.01, "window_s": 300}
    guarded = Guarded(blueprints, origin, {"retries": 5}, retry_budget=budget)
    assert guarded.get().status == guarded.get().status == 502
    assert len(origin.requests) == 2 + 3


# === per-try timeout ===


def test_a_try_that_is_slow_is_given_up_for_another(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(by_turns(silent, silent, answer(b"ok")))
    guarded = Guarded(blueprints, origin, {"retries": 2}, per_try_timeout={"first_byte_ms": 100})
    assert guarded.get().status == 200
    assert [received.connection for received in origin.requests] == [1, 2, 3]


def test_a_try_that_may_have_acted_is_not_made_twice(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(silent)
    guarded = Guarded(blueprints, origin, {"retries": 2}, per_try_timeout={"first_byte_ms": 100})
    reply = guarded.gateway.send(request("POST", guarded.path, body=b"once"))
    assert reply.status == 504
    assert len(origin.requests) == 1
    (attempt,) = guarded.record(reply)["attempts"]
    assert attempt["fault"] == "read_timeout"
    assert attempt["detail"] == "no head within 100 ms, as per_try_timeout of the plugin resilience says"


def test_an_answer_that_has_begun_may_take_longer_than_a_try(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    finish = threading.Event()
    origin = make_origin(by_turns(stalling(OK, finish), silent))
    guarded = Guarded(blueprints, origin, {"retries": 0}, per_try_timeout={"first_byte_ms": 200})
    client = guarded.begin()
    assert client.read_head().status == 200
    assert guarded.get().status == 504, "a try's time has passed since"
    finish.set()
    assert client.read_exactly(2) == b"ok"


# === circuit breaker ===


def test_a_circuit_opens_says_why_and_closes_when_the_host_is_well(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    mood = Moody()
    origin = make_origin(mood)
    guarded = Guarded(blueprints, origin, circuit_breaker={"failures": 3, "open_s": 1})
    assert [guarded.get().body for _ in range(3)] == [b"ill"] * 3
    reply = guarded.get()
    assert (reply.status, reply.header("Retry-After")) == (503, "1")
    assert "the upstream failed and is left alone for a while" in reply.text
    record = guarded.record(reply)
    assert (record["fault"], record["room"], record["attempts"]) == ("circuit_open", "resilience", [])
    found = r"opened \d+ s ago after 3 failures in a row, the last: status 503; tries again in 1 s"
    assert re.fullmatch(found, record["detail"])
    assert len(origin.requests) == 3, "a host whose circuit is open is left alone"
    mood.is_ill = False
    until(lambda: guarded.get().status == 200, "the circuit to close")
    assert len(origin.requests) == 4
    name = guarded.service["name"]
    opened, closed = guarded.decisions(f"the circuit of Service {name}", 2)
    assert f"Service {name} opened after 3 failures in a row, the last: status 503; tries again in 1 s" in opened
    assert f"Service {name} closed: 1 of 1 requests that tried succeeded" in closed
    assert "[warn]" in opened
    (refused, *_) = guarded.decisions(f"Service {name} was asked for nothing, circuit_open: opened", 1)
    assert "[warn]" in refused


def test_a_connection_refused_opens_a_circuit_and_ends_the_retries(blueprints: Blueprints) -> None:
    guarded = Guarded(
        blueprints, f"http://127.0.0.1:{free_port()}/", {"retries": 9}, circuit_breaker={"failures": 2, "open_s": 60}
    )
    first = guarded.record(guarded.get())
    assert (first["fault"], len(first["attempts"])) == ("connect_refused", 2)
    assert first["attempts"][-1]["again"] == "not sent again: the circuit is open"
    found = guarded.record(guarded.get())["detail"]
    assert re.fullmatch(
        r"opened \d s ago after 2 failures in a row, the last: connect\(\) failed \(111: Connection refused\); "
        r"tries again in \d+ s",
        found,
    )


def test_who_tries_and_fails_opens_the_circuit_again(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(Moody())
    guarded = Guarded(blueprints, origin, circuit_breaker={"failures": 1, "open_s": 1})
    assert guarded.get().body == b"ill"
    until(lambda: guarded.get().body == b"ill", "somebody to try")
    assert len(origin.requests) == 2
    assert "a request that tried it failed: status 503" in guarded.record(guarded.get())["detail"]
    assert len(origin.requests) == 2


def let_through(guarded: Guarded, origin: Origin) -> Client:
    """A request that an open circuit lets try, at last."""
    failures = guarded.gateway.failures
    while True:
        made, refused = len(origin.requests), len(failures.lines())
        client = guarded.begin()
        until(lambda: len(origin.requests) > made or len(failures.lines()) > refused, "a trial, or the refusal of one")  # noqa: B023 - called before they change
        if len(origin.requests) > made:
            return client
        client.close()


def test_half_open_lets_so_many_try_and_no_more(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    gate = Gate()
    origin = make_origin(by_turns(early_close, gate))
    guarded = Guarded(blueprints, origin, {"retries": 0}, circuit_breaker={"failures": 1, "open_s": 1, "half_open_requests": 2})
    assert guarded.get().status == 502

    trials = [let_through(guarded, origin) for _ in range(2)]
    assert "half-open: 2 of 2 requests try" in guarded.record(guarded.get())["detail"]
    gate.open(3)
    assert [client.read_reply().status for client in trials] == [200, 200]
    assert guarded.get().status == 200


def test_a_trial_whose_client_leaves_makes_room_for_another(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(by_turns(early_close, silent, answer(b"ok")))
    guarded = Guarded(blueprints, origin, {"retries": 0}, circuit_breaker={"failures": 1, "open_s": 1})
    assert guarded.get().status == 502

    let_through(guarded, origin).close()
    until(lambda: guarded.get().status == 200, "another to try")


def test_a_circuit_stays_open_when_other_things_change(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(Moody())
    guarded = Guarded(blueprints, origin, circuit_breaker={"failures": 1, "open_s": 60})
    guarded.get()
    blueprints.path(origin)
    assert guarded.record(guarded.get())["fault"] == "circuit_open"
    changed = {"config": {"circuit_breaker": {"failures": 2, "open_s": 60}}}
    guarded.gateway.admin.call("PATCH", f"/plugins/{guarded.plugin['id']}", changed)
    guarded.gateway.settle()
    assert guarded.get().body == b"ill", "a plugin that was changed begins anew"


# === hedge ===


def test_a_slow_target_is_hedged_by_another_and_its_connection_is_closed(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    slow, fast = make_origin(silent), make_origin(answer(b"fast"))
    upstream = blueprints.upstream(f"127.0.0.1:{slow.port}", f"127.0.0.1:{fast.port}")
    guarded = Guarded(blueprints, f"http://{upstream['name']}/", hedge={"after_ms": 50})
    assert {guarded.get().body for _ in range(6)} == {b"fast"}
    assert len(slow.requests) == slow.connections >= 2, "a connection that was given up serves nobody again"
    slow.wait_idle()
    assert len(fast.requests) == 6
    assert fast.connections == 1
    won = guarded.decisions("hedge.won", len(slow.requests))
    assert all(f"address=127.0.0.1:{fast.port} given_up=1" in line for line in won)


def test_a_host_of_one_address_is_hedged_on_a_fresh_connection(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    def slow_the_second_time(connection: Connection) -> None:
        connection.read_head()
        connection.send(OK)
        silent(connection)

    origin = make_origin(by_turns(slow_the_second_time, answer(b"hedged")))
    guarded = Guarded(blueprints, origin, hedge={"after_ms": 50})
    assert guarded.get().body == b"ok"
    assert guarded.get().body == b"hedged"
    assert [received.connection for received in origin.requests] == [1, 1, 2]
    until(lambda: origin.open_connections == 1, "the slow connection to be closed")


@pytest.mark.parametrize(("method", "body"), [("POST", b""), ("GET", b"x")], ids=["POST", "body"])
def test_what_may_not_be_asked_twice_is_not_hedged(
    blueprints: Blueprints, make_origin: MakeOrigin, method: str, body: bytes
) -> None:
    origin = make_origin(by_turns(silent, answer(b"hedged")))
    guarded = Guarded(blueprints, origin, {"retries": 0, "read_timeout": 300}, hedge={"after_ms": 50})
    assert guarded.gateway.send(request(method, guarded.path, body=body)).status == 504
    assert len(origin.requests) == 1


def test_the_first_good_head_wins_not_the_first(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    asked, answered = threading.Event(), threading.Event()

    def ill(connection: Connection) -> None:
        connection.read_head()
        assert asked.wait(PATIENCE_S)
        connection.send(UNAVAILABLE)
        answered.set()
        connection.wait_gone(PATIENCE_S)

    def well(connection: Connection) -> None:
        connection.read_head()
        asked.set()
        assert answered.wait(PATIENCE_S)
        connection.send(OK)
        connection.wait_gone(PATIENCE_S)

    guarded = Guarded(blueprints, make_origin(by_turns(ill, well)), hedge={"after_ms": 1_000})
    assert guarded.get().body == b"ok"


def test_a_bad_head_is_better_than_none(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    asked = threading.Event()

    def ill(connection: Connection) -> None:
        connection.read_head()
        assert asked.wait(PATIENCE_S)
        connection.send(UNAVAILABLE)
        connection.wait_gone(PATIENCE_S)

    def late(connection: Connection) -> None:
        connection.read_head()
        asked.set()
        connection.wait_gone(PATIENCE_S)

    guarded = Guarded(blueprints, make_origin(by_turns(ill, late)), hedge={"after_ms": 100})
    assert guarded.get().body == b"ill"


def test_both_attempts_stand_in_the_record(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    guarded = Guarded(blueprints, make_origin(silent), {"retries": 0, "read_timeout": 300}, hedge={"after_ms": 50})
    record = guarded.record(guarded.get())
    assert record["fault"] == "read_timeout"
    assert [attempt["fault"] for attempt in record["attempts"]] == ["read_timeout"] * 2
    assert [attempt["again"] for attempt in record["attempts"]] == [
        "not sent again: another attempt goes on",
        "not sent again: no try is left",
    ]
    offsets = [attempt["offset_ms"] for attempt in record["attempts"]]
    assert offsets[1] - offsets[0] >= 50


def test_an_attempt_that_was_given_up_stands_in_the_record(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    def breaks_off(connection: Connection) -> None:
        connection.read_head()
        connection.send(OK[:-1])
        connection.close()

    guarded = Guarded(blueprints, make_origin(by_turns(silent, breaks_off)), hedge={"after_ms": 50})
    with guarded.begin() as client, pytest.raises(ClosedEarly):
        client.read_reply()
    (line,) = guarded.gateway.failures.wait_for('"fault":"closed_in_body"')
    given_up, won = json.loads(line)["attempts"]
    assert (given_up["ended"], given_up["again"]) == ("closed by us", "given up: another attempt was answered first")
    assert given_up["sent_bytes"] == won["sent_bytes"] > 0
    assert won["status"] == 200


def test_an_attempt_that_fails_leaves_the_other_alone(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    asked, failed = threading.Event(), threading.Event()

    def breaks(connection: Connection) -> None:
        connection.read_head()
        assert asked.wait(PATIENCE_S)
        connection.reset()
        failed.set()

    def answers(connection: Connection) -> None:
        connection.read_head()
        asked.set()
        assert failed.wait(PATIENCE_S)
        connection.send(OK)
        connection.wait_gone(PATIENCE_S)

    guarded = Guarded(blueprints, make_origin(by_turns(breaks, answers)), {"retries": 0}, hedge={"after_ms": 50})
    assert guarded.get().body == b"ok"


def test_hedges_are_retries_of_the_budget(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    gate = Gate()
    origin = make_origin(gate)
    guarded = Guarded(blueprints, origin, hedge={"after_ms": 50}, retry_budget={"percent": 0, "least_per_s": 0})
    client = guarded.begin()
    guarded.decisions("hedge.refused reason=budget", 1)
    gate.open()
    assert client.read_reply().status == 200
    assert len(origin.requests) == 1


def test_a_hedge_needs_a_place_of_its_own(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    guarded, origin, gate = queued(blueprints, make_origin, hedge={"after_ms": 50})
    client = guarded.begin()
    guarded.decisions("hedge.refused reason=queue", 1)
    gate.open(2)
    assert client.read_reply().status == guarded.get().status == 200
    assert len(origin.requests) == 2


def test_a_client_that_leaves_takes_all_attempts_with_it(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(silent)
    guarded = Guarded(blueprints, origin, hedge={"after_ms": 50, "most": 2})
    with guarded.begin():
        origin.wait_requests(3)
    origin.wait_idle()
    (line,) = guarded.gateway.failures.wait_for('"fault":"client_gone"')
    assert line.count("closed: client gone") == 3


# === queue ===


def queued(
    blueprints: Blueprints, make_origin: MakeOrigin, hedge: dict[str, Any] | None = None, **queue: Any
) -> tuple[Guarded, Origin, Gate]:
    """A host that is given one request at a time."""
    gate = Gate()
    origin = make_origin(gate)
    queue = {"most_connections": 1, "deadline_ms": 8_000, **queue}
    return Guarded(blueprints, origin, hedge=hedge, queue=queue), origin, gate


def test_requests_wait_their_turn_in_the_order_they_came(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    guarded, origin, gate = queued(blueprints, make_origin)
    clients = [guarded.begin(query="?0")]
    origin.wait_requests(1)
    for number in range(1, 4):
        clients.append(guarded.begin(query=f"?{number}"))
        guarded.decisions("queue.entered", number)
    assert len(origin.requests) == 1
    for number, client in enumerate(clients):
        origin.wait_requests(number + 1)
        gate.open()
        assert client.read_reply().status == 200
    assert [received.target for received in origin.requests] == ["/?0", "/?1", "/?2", "/?3"]
    assert origin.connections == 1


def test_who_waits_too_long_is_refused(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    guarded, origin, gate = queued(blueprints, make_origin, deadline_ms=100)
    first = guarded.begin()
    origin.wait_requests(1)
    reply = guarded.get()
    record = guarded.record(reply)
    assert (reply.status, reply.header("Retry-After")) == (503, "1")
    assert (record["fault"], record["attempts"]) == ("queue_timeout", [])
    assert record["detail"] == "waited 100 ms; 1 requests are in flight, and 0 others wait"
    assert "queue.deadline_ms" in record["cure"]
    gate.open(2)
    assert first.read_reply().status == 200
    assert guarded.get().status == 200
    assert len(origin.requests) == 2


def test_one_too_many_is_refused_at_once(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    guarded, origin, gate = queued(blueprints, make_origin, most_waiting=1)
    clients = [guarded.begin()]
    origin.wait_requests(1)
    clients.append(guarded.begin())
    guarded.decisions("queue.entered", 1)
    reply = guarded.get()
    record = guarded.record(reply)
    assert (reply.status, reply.header("Retry-After"), record["fault"]) == (503, "1", "queue_full")
    (told,) = guarded.decisions("was asked for nothing, queue_full: 1 requests wait, and 1 are in flight", 1)
    assert "[warn]" in told
    assert record["detail"] == "1 requests wait, and 1 are in flight"
    assert "queue.most_waiting" in record["cure"]
    gate.open(2)
    assert [client.read_reply().status for client in clients] == [200, 200]


def test_a_client_that_leaves_leaves_the_queue(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    guarded, origin, gate = queued(blueprints, make_origin, most_waiting=1)
    first = guarded.begin(query="?first")
    origin.wait_requests(1)
    guarded.begin(query="?gone").close()
    (line,) = guarded.gateway.failures.wait_for('"fault":"client_gone"')
    assert "while waiting for its turn at the upstream" in line
    last = guarded.begin(query="?last")
    guarded.decisions("queue.entered", 2)
    gate.open(2)
    assert [client.read_reply().status for client in (first, last)] == [200, 200]
    assert [received.target for received in origin.requests] == ["/?first", "/?last"]


def test_a_place_is_kept_until_the_answer_is_through(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    finish = threading.Event()
    origin = make_origin(stalling(OK, finish))
    guarded = Guarded(blueprints, origin, queue={"most_connections": 1, "deadline_ms": 8_000})
    first = guarded.begin()
    assert first.read_head().status == 200
    second = guarded.begin()
    guarded.decisions("queue.entered", 1)
    assert len(origin.requests) == 1
    finish.set()
    assert first.read_exactly(2) == b"ok"
    assert second.read_reply().body == b"ok"


def test_a_failed_attempt_gives_its_place_back(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    guarded = Guarded(blueprints, make_origin(early_close), {"retries": 1}, queue={"most_connections": 1, "most_waiting": 0})
    assert [guarded.get().status for _ in range(5)] == [502] * 5


def test_who_would_be_refused_does_not_wait(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    finish = threading.Event()
    origin = make_origin(stalling(UNAVAILABLE, finish))
    queue = {"most_connections": 1, "deadline_ms": 8_000}
    guarded = Guarded(blueprints, origin, circuit_breaker={"failures": 1, "open_s": 60}, queue=queue)
    first = guarded.begin()
    assert first.read_head().status == 503, "its head opens the circuit, and its body keeps the place"
    assert guarded.record(guarded.get())["fault"] == "circuit_open"
    assert not guarded.gateway.error_log.containing("queue.entered")
    finish.set()
    assert first.read_exactly(3) == b"ill"


def test_a_client_that_takes_its_time_keeps_no_place(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    length_bytes = 32 * 1024 * 1024

    def large_or_small(connection: Connection) -> None:
        while True:
            if connection.read_head().target == "/?large":
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length_bytes + bytes(length_bytes))
            else:
                connection.send(OK)

    origin = make_origin(large_or_small)
    guarded = Guarded(blueprints, origin, queue={"most_connections": 1, "deadline_ms": 8_000})
    slow = guarded.begin(query="?large")
    assert slow.read_head().status == 200
    assert guarded.get().body == b"ok"
    assert len(slow.read_exactly(length_bytes)) == length_bytes


def test_a_client_that_sent_more_than_is_read_leaves_the_queue_too(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    guarded, origin, gate = queued(blueprints, make_origin, most_waiting=1)
    first = guarded.begin(query="?first")
    origin.wait_requests(1)
    leaving = guarded.begin(query="?gone")
    guarded.decisions("queue.entered", 1)
    leaving.send(request("GET", guarded.path, "X-Pad: " + "x" * 8_000) * 12).close()
    guarded.gateway.failures.wait_for("while waiting for its turn at the upstream")
    last = guarded.begin(query="?last")
    guarded.decisions("queue.entered", 2)
    gate.open(2)
    assert [client.read_reply().status for client in (first, last)] == [200, 200]


@pytest.mark.parametrize("way", ["client_gone", "upstream_broken"])
def test_an_answer_that_breaks_off_gives_its_place_back(blueprints: Blueprints, make_origin: MakeOrigin, way: str) -> None:
    broken, finish = threading.Event(), threading.Event()

    def breaks(connection: Connection) -> None:
        connection.read_head()
        connection.send(OK[:-1])
        assert broken.wait(PATIENCE_S)

    origin = make_origin(by_turns(stalling(OK, finish) if way == "client_gone" else breaks, answer(b"ok")))
    guarded = Guarded(blueprints, origin, queue={"most_connections": 1, "deadline_ms": 8_000})
    client = guarded.begin()
    assert client.read_head().status == 200
    if way == "client_gone":
        client.close()
    else:
        broken.set()
    assert guarded.get().body == b"ok"
    finish.set()


@pytest.mark.parametrize(
    ("plugin", "config", "reply", "status"),
    [
        ("probe-response", {}, OK, 200),
        ("probe-response", {}, OK[:-1], 502),
        ("probe-filter", {"does": "raise_in_header"}, OK, 500),
        ("probe-filter", {"does": "raise_in_header"}, OK[:-1], 500),
    ],
    ids=["response_phase", "response_phase_broken", "header_filter", "header_filter_unread"],
)
def test_an_answer_that_plugins_take_gives_its_place_back(
    blueprints: Blueprints, make_origin: MakeOrigin, plugin: str, config: dict[str, Any], reply: bytes, status: int
) -> None:
    def serve(connection: Connection) -> None:
        connection.read_head()
        connection.send(reply)

    queue = {"most_connections": 1, "most_waiting": 0}
    guarded = Guarded(blueprints, make_origin(serve), {"retries": 0}, queue=queue)
    blueprints.plugin(plugin, guarded.service, "service", **config)
    guarded.gateway.settle()
    assert [guarded.get().status for _ in range(3)] == [status] * 3


def test_hedges_that_win_or_lose_give_their_places_back(blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    finish = threading.Event()

    def serve(connection: Connection) -> None:
        while True:
            target = connection.read_head().target
            is_hedge = received_for(connection.origin, target)[0].connection != connection.number
            if target == "/?both":
                assert finish.wait(PATIENCE_S)
            elif target.startswith("/?lost") == is_hedge:
                connection.wait_gone(PATIENCE_S)
                return
            else:
                until(lambda: len(received_for(connection.origin, target)) == 2, "the hedge to be made")  # noqa: B023 - called before it changes
            connection.send(OK)

    origin = make_origin(serve)
    queue = {"most_connections": 2, "most_waiting": 0}
    guarded = Guarded(blueprints, origin, {"retries": 0}, hedge={"after_ms": 50}, queue=queue)
    for query in ("?won", "?lost", "?won-again", "?lost-again"):
        assert guarded.begin(query=query).read_reply().status == 200
    clients = [guarded.begin("POST", "?both") for _ in range(2)]
    until(lambda: len(received_for(origin, "/?both")) == 2, "both to be in flight")
    finish.set()
    assert [client.read_reply().status for client in clients] == [200, 200]


def received_for(origin: Origin, target: str) -> list[Received]:
    """The requests of one target."""
    return [received for received in origin.requests if received.target == target]
