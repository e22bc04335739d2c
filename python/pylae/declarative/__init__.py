# SPDX-License-Identifier: Apache-2.0
"""How is a whole configuration written as one text, and read from it?"""

from pylae.declarative.diff import Difference, differences
from pylae.declarative.document import Document, hash_of, parse
from pylae.declarative.export import dump

__all__ = ["Difference", "Document", "differences", "dump", "hash_of", "parse"]
