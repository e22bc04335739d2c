# SPDX-License-Identifier: Apache-2.0
"""Is a Certificate warned of when its end comes near, though nobody writes it?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from pylae.control.expiry import MAX_READ_ONE_BY_ONE, NEAR_S, READ_ALL_EVERY_S, CertificateWatch
from pylae.control.warnings import Warnings
from pylae.database.changes import Commit, Replacement
from pylae.database.dao import Catalogue
from pylae.database.database import Database
from pylae.database.strategies.sqlite import SqliteStrategy
from pylae.entities import registry
from tests.admin.test_warnings import pair

DAY_S = 86_400.0


class Rig:
    """A watch over a real database, under a clock that a test turns."""

    def __init__(self, folder: Path) -> None:
        self.later_s = 0.0
        self.lines: list[str] = []
        catalogue = Catalogue(registry())
        self._path = folder / "pylae.db"
        self.database = Database(SqliteStrategy(self._path, catalogue.tables), catalogue, self._committed)
        # The clock of the certificates that are made for a test is the machine's.
        self.warnings = Warnings(self._log, "http://localhost:8001")
        real_s = self.warnings.now_s
        self.warnings.now_s = lambda: real_s() + self.later_s
        self.watch = CertificateWatch(self.database, self.warnings, self._log)
        self.commits = 0

    def _log(self, level: str, text: str) -> None:
        self.lines.append(f"[{level}] {text}")

    def _committed(self, commit: Commit | Replacement) -> None:
        self.commits += 1
        self.watch.committed(commit)

    async def insert(self, days: float, **fields: Any) -> str:
        certificate, key = pair("a.test", days)
        row = await self.write(lambda dao: dao.insert("certificates", {"cert": certificate, "key": key, **fields}))
        return str(row["id"])

    async def write(self, work: Callable[[Any], Any]) -> Any:
        """Returns when the watch has been told."""
        before = self.commits
        made = await self.database.write(work)
        while self.commits == before:
            await asyncio.sleep(0)
        return made

    def other(self) -> Database:
        """The same database, as another process has it."""
        catalogue = self.database.catalogue
        return Database(SqliteStrategy(self._path, catalogue.tables), catalogue, lambda commit: None)

    async def wait_for_warned(self, count: int) -> None:
        """Until so many Certificates are warned of."""
        while len(self.warned()) < count:
            await asyncio.sleep(0)

    def warned(self) -> list[str]:
        return [one.key for one in self.warnings.every()]

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            await self.database.open()
            try:
                await test()
            finally:
                await self.watch.stop()
                await self.database.close()

        asyncio.run(whole())


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_the_end_comes_near_by_the_clock(rig: Rig) -> None:
    async def test() -> None:
        id_ = await rig.insert(40)
        await rig.watch.read()
        assert rig.warned() == []
        rig.later_s = 40 * DAY_S - NEAR_S - 60
        rig.watch.look()
        assert rig.warned() == []
        rig.later_s += 120
        rig.watch.look()
        assert rig.warned() == [id_]
        # It stays as long as it is so.
        for _ in range(5):
            rig.later_s += 3000
            rig.watch.look()
            rig.warnings.forget_old()
        (one,) = rig.warnings.every()
        assert (one.count, len(rig.lines)) == (1, 1)
        assert 29 * DAY_S < one.facts["expires_in_s"] < 30 * DAY_S

    rig.run(test)


def test_what_is_written_is_read_and_what_is_gone_is_forgotten(rig: Rig) -> None:
    async def test() -> None:
        first = await rig.insert(3)
        second = await rig.insert(5, snis=["a.test", "b.test"])
        await rig.watch.read()
        assert rig.warned() == sorted([first, second])
        told = {one.key: rig.warnings.told(one).text for one in rig.warnings.every()}
        assert "shown for `a.test`, `b.test`, ends at" in told[second]
        certificate, key = pair("a.test", 300)
        await rig.write(lambda dao: dao.update("certificates", dao.get("certificates", first), {"cert": certificate, "key": key}))
        await rig.watch.read()
        assert rig.warned() == [second]
        await rig.write(lambda dao: dao.delete("certificates", dao.get("certificates", second)))
        await rig.watch.read()
        assert rig.warned() == []

    rig.run(test)


def test_the_one_of_two_that_ends_first_counts(rig: Rig) -> None:
    async def test() -> None:
        certificate, key = pair("other.test", 5, rsa.generate_private_key(65537, 2048))
        await rig.insert(90, cert_alt=certificate, key_alt=key)
        await rig.watch.read()
        (one,) = rig.warnings.every()
        assert one.facts["subject"] == "CN=other.test"

    rig.run(test)


def test_what_a_vault_holds_is_left_to_the_vault(rig: Rig) -> None:
    async def test() -> None:
        await rig.insert(5, cert="{vault://env/cert}", key="{vault://env/key}")
        await rig.watch.read()
        assert rig.warned() == []

    rig.run(test)


def test_many_that_were_written_at_once_are_read_together(rig: Rig) -> None:
    async def test() -> None:
        certificate, key = pair("a.test", 3)
        count = MAX_READ_ONE_BY_ONE + 5

        def insert(dao: Any) -> None:
            for _ in range(count):
                dao.insert("certificates", {"cert": certificate, "key": key})

        await rig.write(insert)
        await rig.watch.read()
        assert len(rig.warned()) == count
        # One line each would hide the rest of the log.
        assert len(rig.lines) == 10

    rig.run(test)


def test_what_another_process_wrote_is_read_within_the_hour(rig: Rig) -> None:
    async def test() -> None:
        other = rig.other()
        await other.open()
        rig.watch.start()
        # Read by now: what was there when it began.
        await rig.insert(3)
        await rig.wait_for_warned(1)
        certificate, key = pair("b.test", 3)
        await other.write(lambda dao: dao.insert("certificates", {"cert": certificate, "key": key}))
        await other.close()
        rig.watch.look()
        assert len(rig.warned()) == 1
        rig.later_s += READ_ALL_EVERY_S
        rig.watch.look()
        await rig.wait_for_warned(2)

    rig.run(test)
