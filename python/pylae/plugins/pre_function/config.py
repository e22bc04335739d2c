# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for pre-function?"""

from __future__ import annotations

from pylae.sdk.lua_code import ChunksByPhase


class Config(ChunksByPhase):
    """What an administrator may set."""
