# SPDX-License-Identifier: Apache-2.0
"""How is the configuration kept in one SQLite file?"""

from pylae.database.strategies.sqlite.looking import SqliteView
from pylae.database.strategies.sqlite.strategy import SqliteStrategy

__all__ = ["SqliteStrategy", "SqliteView"]
