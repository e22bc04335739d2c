# SPDX-License-Identifier: Apache-2.0
"""How does a gateway without a database keep its configuration?"""

from pylae.database.strategies.off.holding import Holding
from pylae.database.strategies.off.store import FILE_NAME
from pylae.database.strategies.off.strategy import OffReader, OffStrategy

__all__ = ["FILE_NAME", "Holding", "OffReader", "OffStrategy"]
