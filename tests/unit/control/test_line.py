# SPDX-License-Identifier: Apache-2.0
"""Do workers and control keep to what they may say to each other? Over a real socket, with a real database."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pylae.control.control import Control, catalogue_of
from pylae.control.frames import FrameReader, LineError, frame, message
from pylae.database.dao import Dao
from pylae.database.strategies import Strategy
from pylae.database.strategies.off import FILE_NAME, OffStrategy
from pylae.database.strategies.sqlite import SqliteStrategy
from pylae.declarative import parse
from pylae.entities import enable_plugins, registry, use_router_flavor
from pylae.errors import SchemaViolation, StrategyUnavailable
from pylae.plugins.key_auth.plugin import KeyAuth
from pylae.plugins.redirect.plugin import Redirect
from pylae.sdk.plugin import Plugin
from pylae.sdk.shipping import Shipper

WITHIN_S = 5.0


class Shipped(Shipper):
    """Keeps what it is given."""

    taken: list[tuple[list[bytes], int]] = []

    async def ship(self, items: Sequence[bytes], lost_count: int = 0) -> None:
        Shipped.taken.append((list(items), lost_count))


class Shipping(Plugin):
    name = "shipping"
    Shipper = Shipped

    def log(self, exchange: object, config: object) -> None: ...


class Choosy(Plugin):
    name = "choosy"

    def access(self, exchange: object, config: object) -> None: ...

    @classmethod
    def check_config(cls, config: dict[str, Any]) -> None:
        raise SchemaViolation({"config": {"it": "is not for you"}})


PLUGINS = {"redirect": Redirect, "key-auth": KeyAuth, "shipping": Shipping, "choosy": Choosy}


class Worker:
    """The other end of the line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = FrameReader()
        self._received: list[list[Any]] = []
        self.told: list[tuple[str, Any]] = []

    def send(self, *parts: Any) -> None:
        self._writer.write(message(*parts))

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    def hello(self, version: list[Any] | None = None, index: int = 0) -> None:
        self.send("hello", {"worker": index, "generation": 1, "pid": 4711, "version": version})

    async def receive(self) -> list[Any]:
        async with asyncio.timeout(WITHIN_S):
            while not self._received:
                data = await self._reader.read(65536)
                assert data, "the line was closed"
                for parts in self._frames.feed(data):
                    # What an operator said of the running gateway goes beside the configuration.
                    if parts[0] == "log_level":
                        self.told.append((parts[0], parts[1]))
                    else:
                        self._received.append(parts)
        return self._received.pop(0)

    async def config(self) -> tuple[str, dict[str, Any]]:
        name, body = await self.receive()
        return name, body

    async def call(self, operation: str, **arguments: Any) -> tuple[bool, Any]:
        self.send("call", 1, 5000, operation, arguments)
        name, identifier, is_ok, value = await self.receive()
        assert (name, identifier) == ("reply", 1)
        return is_ok, value

    async def is_closed(self) -> bool:
        async with asyncio.timeout(WITHIN_S):
            while await self._reader.read(65536):
                pass
        return True

    def close(self) -> None:
        self._writer.close()


class Rig:
    """A control on a socket in a folder of its own."""

    def __init__(self, folder: Path, strategy: Strategy | None = None) -> None:
        self.socket_path = folder / "control.sock"
        self.lines: list[str] = []
        enable_plugins(PLUGINS)
        catalogue = catalogue_of(registry(), PLUGINS)
        self.strategy = strategy or SqliteStrategy(folder / "pylae.db", catalogue.tables)
        self.control = Control(self.strategy, catalogue, PLUGINS, self.socket_path, self._log)
        self._workers: list[Worker] = []

    def _log(self, level: str, text: str) -> None:
        self.lines.append(f"[{level}] {text}")

    async def connect(self) -> Worker:
        worker = Worker(*await asyncio.open_unix_connection(self.socket_path))
        self._workers.append(worker)
        return worker

    async def serving(self) -> Worker:
        """A worker that serves the newest configuration and has said so."""
        worker = await self.connect()
        worker.hello()
        _, body = await worker.config()
        worker.send("ack", body["version"])
        await self.until(lambda: any(state.version for state in self.control.line.workers()))
        return worker

    async def insert(self, table: str, **values: Any) -> dict[str, Any]:
        return await self.control.database.write(lambda dao: dao.insert(table, values))

    async def write(self, work: Callable[[Dao], Any]) -> Any:
        return await self.control.database.write(work)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                await asyncio.sleep(0)

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            await self.control.start()
            try:
                await test()
            finally:
                for worker in self._workers:
                    worker.close()
                await self.control.stop()

        asyncio.run(whole())


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    Shipped.taken.clear()
    return Rig(tmp_path)


# === config ===


def test_the_socket_is_for_this_user_only(rig: Rig) -> None:
    async def test() -> None:
        assert stat.S_IMODE(rig.socket_path.stat().st_mode) == 0o600

    rig.run(test)


def test_a_new_worker_gets_a_snapshot(rig: Rig) -> None:
    async def test() -> None:
        service = await rig.insert("services", name="s", url="http://origin.test/")
        await rig.insert("consumers", username="c")
        worker = await rig.connect()
        worker.hello()
        name, body = await worker.config()
        assert (name, body["version"]) == ("snapshot", [rig.strategy.database_id, 2])
        assert body["entities"]["services"] == [service]
        assert set(body["entities"]) == {"services", "routes", "plugins", "upstreams", "targets"}

    rig.run(test)


def test_a_commit_is_pushed_at_once(rig: Rig) -> None:
    async def test() -> None:
        worker = await rig.serving()
        service = await rig.insert("services", name="s", url="http://origin.test/")
        name, body = await worker.config()
        assert (name, body["from"], body["to"]) == ("delta", 0, 1)
        assert body["changes"] == [["services", "upsert", service["id"], service]]

    rig.run(test)


def test_what_changes_while_a_worker_is_busy_comes_in_one_delta(rig: Rig) -> None:
    async def test() -> None:
        worker = await rig.serving()
        for number in range(5):
            await rig.insert("services", name=f"s{number}", url="http://origin.test/")
        _, first = await worker.config()
        assert (first["from"], first["to"]) == (0, 1)
        worker.send("ack", [rig.strategy.database_id, 1])
        _, rest = await worker.config()
        assert (rest["from"], rest["to"], len(rest["changes"])) == (1, 5, 4)

    rig.run(test)


def test_a_write_does_not_wait_for_a_worker_that_hangs(rig: Rig) -> None:
    async def test() -> None:
        await rig.serving()
        for number in range(50):
            await rig.insert("services", name=f"s{number}", url="http://origin.test/")

    rig.run(test)


def test_a_worker_that_could_not_use_a_change_gets_the_whole_with_the_next(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pylae.control.line.ACK_WITHIN_S", 0.0)

    async def test() -> None:
        worker = await rig.serving()
        await rig.insert("services", name="strange", url="http://origin.test/")
        assert (await worker.config())[0] == "delta"
        await rig.insert("services", name="s", url="http://origin.test/")
        assert (await worker.config())[0] == "snapshot"

    rig.run(test)


def test_a_worker_that_hangs_is_sent_the_whole_once_however_often_it_is_wanted(rig: Rig) -> None:
    async def test() -> None:
        worker = await rig.serving()
        await rig.insert("services", name="a", url="http://origin.test/")
        assert (await worker.config())[0] == "delta"
        for _ in range(3):
            rig.control.line.forget_lookups()
        await rig.insert("services", name="b", url="http://origin.test/")
        # Nothing of all that was sent: what comes next is the answer to a call.
        assert await worker.call("select_by", table="services", field="name", value="none") == (True, None)
        worker.send("ack", [rig.strategy.database_id, 1])
        name, body = await worker.config()
        assert (name, body["version"], len(body["entities"]["services"])) == ("snapshot", [rig.strategy.database_id, 2], 2)
        await rig.insert("services", name="c", url="http://origin.test/")
        assert await worker.call("select_by", table="services", field="name", value="none") == (True, None)
        worker.send("ack", [rig.strategy.database_id, 2])
        assert (await worker.config())[0] == "delta"

    rig.run(test)


def test_a_worker_that_is_free_is_sent_the_whole_at_once(rig: Rig) -> None:
    async def test() -> None:
        worker = await rig.serving()
        rig.control.line.forget_lookups()
        assert (await worker.config())[0] == "snapshot"
        worker.send("ack", [rig.strategy.database_id, 0])
        await rig.insert("services", name="a", url="http://origin.test/")
        assert (await worker.config())[0] == "delta"

    rig.run(test)


def test_an_upstream_whose_limits_are_null_reaches_workers(rig: Rig) -> None:
    async def test() -> None:
        worker = await rig.serving()
        nothing = dict.fromkeys(("tcp_failures", "timeouts", "http_failures"))
        checks = {"active": {"healthy": {"interval": None}, "unhealthy": {"interval": None}}, "passive": {"unhealthy": nothing}}
        row = await rig.insert("upstreams", name="u.test", healthchecks=checks)
        _, body = await worker.config()
        assert body["changes"] == [["upstreams", "upsert", row["id"], row]]

    rig.run(test)


# === what is kept and does nothing ===


@pytest.fixture
def another_flavor() -> Iterator[None]:
    yield
    use_router_flavor("traditional_compatible")


@pytest.mark.usefixtures("another_flavor")
@pytest.mark.parametrize("flavor", ["traditional", "traditional_compatible"])
def test_a_route_of_an_expression_takes_no_request_under_another_flavor(tmp_path: Path, flavor: str) -> None:
    use_router_flavor("expressions")
    before = Rig(tmp_path)
    ids: list[str] = []

    async def write() -> None:
        row = await before.insert("routes", name="told", expression='http.path == "/a"')
        ids.append(row["id"])
        await before.insert("routes", name="classic", paths=["/b"])

    before.run(write)
    assert before.lines == []
    use_router_flavor(flavor)
    after = Rig(tmp_path)

    async def look() -> None:
        worker = await after.connect()
        worker.hello()
        _, body = await worker.config()
        assert [row["name"] for row in body["entities"]["routes"]] == ["classic"]
        assert "expression" not in body["entities"]["routes"][0]
        row = await after.control.database.read(lambda dao: dao.get("routes", ids[0]))
        assert row is not None
        assert (row["name"], row["paths"]) == ("told", None)

    after.run(look)
    assert after.lines == [f"[warn] no request reaches the Routes `{ids[0]}`: they have nothing to match by"]


def test_a_plugin_without_its_work_is_named_once_at_every_start(tmp_path: Path) -> None:
    warning = f"[warn] {Redirect.warning()}"
    first = Rig(tmp_path)
    ids: list[str] = []

    async def write() -> None:
        for _ in range(2):
            service = await first.insert("services", url="http://origin.test/")
            row = await first.insert(
                "plugins", name="redirect", service={"id": service["id"]}, config={"location": "https://a.test"}
            )
            ids.append(row["id"])
        await first.insert("plugins", name="key-auth")

    first.run(write)
    assert first.lines == [f"{warning} (plugin {id_})" for id_ in ids]
    second = Rig(tmp_path)
    second.run(lambda: asyncio.sleep(0))
    assert second.lines == [warning]


def test_what_a_declared_configuration_cannot_bring_about_is_told_at_the_start(tmp_path: Path) -> None:
    enable_plugins(PLUGINS, has_database=False)
    catalogue = catalogue_of(registry(), PLUGINS)
    text = json.dumps(
        {
            "_format_version": "3.0",
            "plugins": [{"name": "redirect", "config": {"location": "https://a.test"}}, {"name": "key-auth"}],
        }
    )
    strategy = OffStrategy(
        tmp_path / FILE_NAME, catalogue.tables, "node", "start", lambda: parse(text.encode()).flatten(catalogue)
    )
    rig = Rig(tmp_path, strategy)
    rig.run(lambda: asyncio.sleep(0))
    assert rig.lines == [f"[warn] {Redirect.warning()}"]


def test_a_worker_that_missed_a_push_gets_the_delta_from_the_log(tmp_path: Path) -> None:
    """Control was killed between commit and push: the change arrives all the same."""
    first = Rig(tmp_path)

    async def write() -> None:
        await first.insert("services", name="before", url="http://origin.test/")
        # As the end of the process would have it: committed, told to nobody.
        first.control.line.feed = None
        await first.insert("services", name="after", url="http://origin.test/")

    first.run(write)
    second = Rig(tmp_path)

    async def test() -> None:
        worker = await second.connect()
        worker.hello([second.strategy.database_id, 1])
        name, body = await worker.config()
        assert (name, body["from"], body["to"]) == ("delta", 1, 2)
        assert [change[3]["name"] for change in body["changes"]] == ["after"]
        assert ["services", "name", "after"] in body["invalidations"]

    second.run(test)


def test_a_worker_of_another_database_gets_a_snapshot(rig: Rig) -> None:
    async def test() -> None:
        worker = await rig.connect()
        worker.hello(["00000000-0000-4000-8000-000000000000", 0])
        assert (await worker.config())[0] == "snapshot"

    rig.run(test)


def test_a_second_hello_begins_anew(rig: Rig) -> None:
    async def test() -> None:
        worker = await rig.serving()
        await rig.insert("services", name="s", url="http://origin.test/")
        assert (await worker.config())[0] == "delta"
        worker.hello()
        assert (await worker.config())[0] == "snapshot"

    rig.run(test)


def test_the_versions_that_workers_serve_are_known(rig: Rig) -> None:
    async def test() -> None:
        worker = await rig.serving()
        version = (rig.strategy.database_id, 0)
        assert [(w.index, w.generation, w.pid, w.version) for w in rig.control.line.workers()] == [(0, 1, 4711, version)]
        worker.close()
        await rig.until(lambda: not rig.control.line.workers())

    rig.run(test)


# === the database is not there ===


class Broken(SqliteStrategy):
    """A database that cannot be reached until a test says so."""

    is_broken = True

    def open(self) -> None:
        if self.is_broken:
            raise StrategyUnavailable("the disk is on fire")
        super().open()


def test_workers_hear_that_the_database_cannot_be_reached_and_then_that_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pylae.control.control.OPEN_AGAIN_AFTER_S", 0.01)
    enable_plugins(PLUGINS)
    strategy = Broken(tmp_path / "pylae.db", catalogue_of(registry(), PLUGINS).tables)
    rig = Rig(tmp_path, strategy)

    async def test() -> None:
        worker = await rig.connect()
        worker.hello()
        assert await worker.receive() == ["unavailable", {"database_id": None, "reason": "the disk is on fire"}]
        assert await worker.call("select_by", table="services", field="name", value="s") == (
            False,
            {"error": "unavailable", "message": "the database is not open"},
        )
        strategy.is_broken = False
        assert (await worker.config())[0] == "snapshot"

    rig.run(test)
    assert rig.lines == [
        "[crit] the database cannot be reached: the disk is on fire",
        "[notice] the database can be reached now",
    ]


# === calls ===


def test_a_row_is_selected_with_its_parent(rig: Rig) -> None:
    async def test() -> None:
        consumer = await rig.insert("consumers", username="c")
        key = await rig.insert("keyauth_credentials", consumer={"id": consumer["id"]}, key="k")
        worker = await rig.connect()
        found = await worker.call("select_by", table="keyauth_credentials", field="key", value="k", **{"with": ["consumer"]})
        assert found == (True, {**key, "consumer": consumer})
        assert await worker.call("select_by", table="keyauth_credentials", field="key", value="x") == (True, None)

    rig.run(test)


def test_an_inserted_row_is_seen_by_another_worker_and_consumed_once(rig: Rig) -> None:
    async def test() -> None:
        one, other = await rig.connect(), await rig.connect()
        consumer = await rig.insert("consumers", username="c")
        is_ok, row = await one.call(
            "insert", table="keyauth_credentials", row={"consumer": {"id": consumer["id"]}, "key": "once"}, ttl=60
        )
        assert is_ok
        assert 0 < row["ttl"] <= 60
        consume = {"table": "keyauth_credentials", "field": "key", "value": "once"}
        answers = await asyncio.gather(one.call("consume", **consume), other.call("consume", **consume))
        assert sorted(value is None for _, value in answers) == [False, True]

    rig.run(test)


def test_a_deletion_invalidates_what_workers_hold(rig: Rig) -> None:
    async def test() -> None:
        consumer = await rig.insert("consumers", username="c")
        key = await rig.insert("keyauth_credentials", consumer={"id": consumer["id"]}, key="k")
        worker, caller = await rig.serving(), await rig.connect()
        assert await caller.call("delete", table="keyauth_credentials", id=key["id"]) == (True, None)
        assert await caller.call("delete", table="keyauth_credentials", id=key["id"]) == (True, None)
        _, body = await worker.config()
        assert sorted(body["invalidations"]) == [
            ["keyauth_credentials", "id", key["id"]],
            ["keyauth_credentials", "key", "k"],
        ]

    rig.run(test)


@pytest.mark.parametrize(
    ("operation", "arguments", "name"),
    [
        ("nonsense", {}, "call refused"),
        ("select_by", {"table": "services"}, "call refused"),
        ("select_by", {"table": "services", "field": "name", "value": "s", "with": ["nothing"]}, "call refused"),
        ("insert", {"table": "nothing", "row": {}}, "call refused"),
        ("insert", {"table": "services", "row": {"url": 5}}, "schema violation"),
        ("insert", {"table": "services", "row": {"name": "s", "host": "h.test"}}, "unique constraint violation"),
        ("consume", {"table": "services", "field": "host", "value": "h.test"}, "invalid unique host"),
    ],
)
def test_a_call_that_cannot_be_done_is_refused_by_name(rig: Rig, operation: str, arguments: dict[str, Any], name: str) -> None:
    async def test() -> None:
        await rig.insert("services", name="s", host="h.test")
        worker = await rig.connect()
        is_ok, value = await worker.call(operation, **arguments)
        assert not is_ok
        assert value["error"] == name

    rig.run(test)


def test_a_plugin_judges_its_configuration(rig: Rig) -> None:
    async def test() -> None:
        with pytest.raises(SchemaViolation):
            await rig.insert("plugins", name="choosy")
        await rig.insert("plugins", name="key-auth")

    rig.run(test)


def test_a_call_ends_at_its_deadline(rig: Rig) -> None:
    async def test() -> None:
        worker = await rig.connect()
        worker.send("call", 7, 0, "select_by", {"table": "services", "field": "name", "value": "s"})
        assert (await worker.receive())[:3] == ["reply", 7, False]

    rig.run(test)


# === streams, and those who do not keep to the protocol ===


def test_what_a_shipper_cannot_take_is_counted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pylae.control.streams.MAX_WAITING_BATCHES", 1)

    async def test() -> None:
        for item in (b"1", b"2", b"3"):
            rig.control.streams.take("log:shipping", [item], 0)
        await rig.until(lambda: bool(Shipped.taken))
        rig.control.streams.take("log:shipping", [b"4"], 1)
        await rig.until(lambda: len(Shipped.taken) > 1)
        assert Shipped.taken == [([b"1"], 0), ([b"4"], 3)]

    rig.run(test)


def test_log_batches_reach_the_shipper_of_their_plugin(rig: Rig) -> None:
    async def test() -> None:
        worker = await rig.connect()
        worker.send("stream", "log:shipping", [b"1", b"2"], 3)
        worker.send("stream", "log:nobody", [b"x"], 0)
        await rig.until(lambda: bool(Shipped.taken) and rig.control.streams.untaken_count == 1)
        assert Shipped.taken == [([b"1", b"2"], 3)]

    rig.run(test)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        frame(b"\xc1"),
        message("nonsense"),
        message("ack", ["db", 1]),
        message("hello", {"worker": "x"}),
        message("call", 1, 1, 2, 3),
        message("call", [], 1, "select_by", {}),
    ],
)
def test_who_does_not_keep_to_the_protocol_is_cut_off_alone(rig: Rig, data: bytes) -> None:
    async def test() -> None:
        good, bad = await rig.serving(), await rig.connect()
        bad.send_bytes(data)
        assert await bad.is_closed()
        await rig.insert("services", name="s", url="http://origin.test/")
        assert (await good.config())[0] == "delta"
        assert len(rig.lines) == 1

    rig.run(test)


def test_processes_of_other_users_are_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr("pylae.control.line._peer_uid", lambda _: 65534)
        worker = await rig.connect()
        assert await worker.is_closed()
        assert rig.lines == ["[warn] control line: a process of user 65534 was refused"]

    rig.run(test)


def test_a_prefix_too_deep_for_a_socket_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    with pytest.raises(LineError, match=r"control\.sock` cannot be listened on: AF_UNIX path too long"):
        Rig(folder).run(lambda: asyncio.sleep(0))
