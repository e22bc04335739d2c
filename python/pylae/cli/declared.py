# SPDX-License-Identifier: Apache-2.0
"""Where is the configuration of a gateway, and how does a command read and change it?

Reading goes to the files of the prefix, whether the gateway runs or not: they are whole at any moment. A change goes
through the control process when there is one, over the line that workers use, so that they learn of it at once; else
into the file, under the lock of the prefix, so that no gateway starts meanwhile.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pylae.cli import node
from pylae.cli.talk import CommandFailed, explain
from pylae.control.control import prepared
from pylae.control.frames import FrameReader, LineError, message
from pylae.database.dao import Catalogue, Dao
from pylae.database.strategies import Reader, Strategy
from pylae.database.strategies.off import FILE_NAME, Holding, OffStrategy
from pylae.declarative.document import reader_of
from pylae.declarative.importing import import_text
from pylae.errors import DatabaseError, InvalidDeclarativeConfig
from pylae.settings import Settings
from pylae.supervisor import prefix as prefix_directory

IMPORT_WITHIN_S: Final = 60.0
"""The most that a call may take."""
DATABASE: Final = "pylae.db"
_RECEIVED_BYTES: Final = 1 << 16


class Place:
    """The configuration of one gateway.

    Attributes:
        catalogue: what it may hold.
        has_database: whether rows can be stored one by one.
    """

    invalid: Final = InvalidDeclarativeConfig

    def __init__(self, settings: Settings) -> None:
        self._prefix = Path(settings.prefix)
        self.has_database = settings.database != "off"
        self.catalogue: Catalogue = prepared(settings)[1]

    def __repr__(self) -> str:
        return f"<place {self._prefix}>"

    @contextmanager
    def look(self) -> Iterator[Reader]:
        """A consistent look; empty when nothing was ever stored.

        Raises:
            StrategyUnavailable: the file cannot be read.
        """
        if self.has_database and not (self._prefix / DATABASE).exists():
            yield reader_of(Holding(self.catalogue.tables))
            return
        strategy = self._strategy()
        strategy.open()
        try:
            with strategy.read() as reader:
                yield reader
        finally:
            strategy.close()

    def _strategy(self) -> Strategy:
        if self.has_database:
            from pylae.database.strategies.sqlite import SqliteStrategy

            return SqliteStrategy(self._prefix / DATABASE, self.catalogue.tables)
        return OffStrategy(self._prefix / FILE_NAME, self.catalogue.tables, "")

    def store(self, text: bytes) -> None:
        """Stores all that a text declares, or nothing.

        Raises:
            DatabaseError: it cannot be.
            CommandFailed: the control process does not answer.
        """
        prefix_directory.prepare(self._prefix)
        if node.pid_of(self._prefix) is not None:
            self._store_through_control(text)
            return
        from pylae.database.strategies.sqlite import SqliteStrategy

        lock_fd = prefix_directory.lock(self._prefix)
        try:
            strategy = SqliteStrategy(self._prefix / DATABASE, self.catalogue.tables)
            strategy.open()
            try:
                with strategy.write() as transaction:
                    dao = Dao(transaction, self.catalogue)
                    import_text(dao, self.catalogue, text)
                    transaction.log(dao.changes)
            finally:
                strategy.close()
        finally:
            os.close(lock_fd)

    def _store_through_control(self, text: bytes) -> None:
        explain("the gateway runs: its control process does the import")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(IMPORT_WITHIN_S)
            try:
                connection.connect(str(self._prefix / "sockets" / "control.sock"))
                connection.sendall(message("call", 1, int(IMPORT_WITHIN_S * 1000), "import", {"text": text}))
                _raise_refusal(_reply(connection))
            except (OSError, LineError) as error:
                raise CommandFailed(f"Failed importing:\nthe control process does not answer: {error}") from error


def _reply(connection: socket.socket) -> list[Any]:
    reader = FrameReader()
    while data := connection.recv(_RECEIVED_BYTES):
        for parts in reader.feed(data):
            if parts[0] == "reply":
                return parts
    raise LineError("it closed the line")


def _raise_refusal(parts: list[Any]) -> None:
    match parts:
        case ["reply", 1, True, _]:
            return
        case ["reply", 1, False, Mapping() as refusal]:
            raise DatabaseError(str(refusal.get("message")))
    raise LineError(f"an unknown reply of {len(parts)} parts")
