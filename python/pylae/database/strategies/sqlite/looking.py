# SPDX-License-Identifier: Apache-2.0
"""How does a command read a file that a gateway may be writing to?"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote as quote_path

from pylae.database.strategies.sqlite.statements import quoted
from pylae.database.strategies.sqlite.strategy import BUSY_TIMEOUT_S, SqliteStrategy, translating
from pylae.errors import StrategyUnavailable

_MAX_TOLD: Final = 5


class SqliteView(SqliteStrategy):
    """The configuration in one file, which is left as it is: nothing is made, brought up to date or written.

    Attributes:
        is_blank: whether nothing was ever stored.
    """

    is_blank = False

    def open(self) -> None:
        """See `Strategy`.

        Raises:
            StrategyUnavailable: the file cannot be read, or has not today's shape.
        """
        missing: list[str] = []
        with translating():
            self._writer = self._connect()
            has_steps = "SELECT 1 FROM sqlite_master WHERE name = 'migrations'"
            self.is_blank = self._writer.execute(has_steps).fetchone() is None
            if not self.is_blank:
                missing += self._missing(self._writer)
        if missing:
            self.close()
            more = "" if len(missing) <= _MAX_TOLD else f" and {len(missing) - _MAX_TOLD} more"
            raise StrategyUnavailable(
                f"`{self._path}` was written with another version or other plugins, and has not {', '.join(missing[:_MAX_TOLD])}"
                f"{more}; hint: start the gateway with these settings, which brings it up to date"
            )

    def _missing(self, connection: sqlite3.Connection) -> Iterator[str]:
        for name, statements in self.statements.items():
            columns = {column[1] for column in connection.execute(f"PRAGMA table_info({quoted(name)})")}
            if not columns:
                yield f"the table `{name}`"
            else:
                yield from (f"the column `{name}.{column}`" for column in statements.columns if column not in columns)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{quote_path(str(self._path))}?mode=ro",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
