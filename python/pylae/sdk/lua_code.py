# SPDX-License-Identifier: Apache-2.0
"""How does an administrator give Lua code?

The code is kept as written. This version has no Lua to look at it with: a plugin that would have to run it refuses it
or refuses the request, and none takes it for something else.
"""

from __future__ import annotations

from typing import Final

from pylae.schema import kinds

CODE_BY_NAME: Final = kinds.map_of(kinds.string(len_min=1), kinds.string(len_min=1))
"""Names of values, each with the code that computes it."""
CHUNKS: Final = kinds.array(kinds.string())
"""Chunks of code that run one after the other."""
