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
_GRACE_S: Final = 5.0
"""The gateway says first that time is over."""
_WHOLE: Final = "it stores all of the file or nothing; hint: see with `pylae config diff FILE`"
STILL_RUNNING: Final = f"Still importing:\nthe gateway needs more than {IMPORT_WITHIN_S:g} s and goes on; {_WHOLE}"
UNKNOWN: Final = f"Import not confirmed; {_WHOLE}:\nthe control process does not answer any more"
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
        strategy = self._strategy()
        try:
            if strategy is None:
                yield reader_of(Holding(self.catalogue.tables))
            else:
                with strategy.read() as reader:
                    yield reader
        finally:
            if strategy is not None:
                strategy.close()

    def _strategy(self) -> Strategy | None:
        """Where the configuration is, open, and left as it is; None when nothing was ever stored."""
        if not self.has_database:
            off = OffStrategy(self._prefix / FILE_NAME, self.catalogue.tables, "")
            off.open()
            return off
        path = self._prefix / DATABASE
        if not path.exists():
            return None
        from pylae.database.strategies.sqlite import SqliteView

        view = SqliteView(path, self.catalogue.tables)
        view.open()
        if view.is_blank:
            view.close()
            return None
        return view

    def store(self, text: bytes) -> None:
        """Stores all that a text declares, or nothing.

        Raises:
            DatabaseError: it cannot be.
            CommandFailed: the control process does not answer, or is not ready in time.
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
            connection.settimeout(IMPORT_WITHIN_S + _GRACE_S)
            try:
                connection.connect(str(self._prefix / "sockets" / "control.sock"))
            except OSError as error:
                raise CommandFailed(f"Failed importing:\nthe control process does not answer: {error}") from error
            try:
                connection.sendall(message("call", 1, int(IMPORT_WITHIN_S * 1000), "import", {"text": text}))
                reply = _reply(connection)
            except TimeoutError as error:
                raise CommandFailed(STILL_RUNNING) from error
            except (OSError, LineError) as error:
                raise CommandFailed(f"{UNKNOWN}: {error}") from error
            raise_refusal(reply)


def _reply(connection: socket.socket) -> list[Any]:
    reader = FrameReader()
    while data := connection.recv(_RECEIVED_BYTES):
        for parts in reader.feed(data):
            if parts[0] == "reply":
                return parts
    raise LineError("it closed the line")


def raise_refusal(parts: list[Any]) -> None:
    """Nothing when a reply says that all was stored.

    Raises:
        DatabaseError: nothing was.
        CommandFailed: that is not known yet.
    """
    match parts:
        case ["reply", 1, True, _]:
            return
        case ["reply", 1, False, {"error": "timeout"}]:
            # The gateway answers no more, but what it has begun it ends.
            raise CommandFailed(STILL_RUNNING)
        case ["reply", 1, False, Mapping() as refusal]:
            raise DatabaseError(str(refusal.get("message")))
    raise CommandFailed(f"{UNKNOWN}: an unknown reply of {len(parts)} parts")
