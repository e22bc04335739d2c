# SPDX-License-Identifier: Apache-2.0
"""By which id is this node known?"""

from __future__ import annotations

import uuid
from pathlib import Path


def node_id_of(prefix: Path) -> str:
    """The node's id, made once per prefix."""
    path = prefix / "kong.id"
    try:
        found = path.read_text().strip()
        return str(uuid.UUID(found))
    except (OSError, ValueError):
        made = str(uuid.uuid4())
    try:
        path.touch(0o600)
        path.write_text(made)
    except OSError:
        # A full disk: the id lasts as long as this process.
        return made
    return made


def database_id_of(node_id: str) -> str:
    """The id of the configuration of a node without a database."""
    return str(uuid.uuid5(uuid.UUID(node_id), "configuration"))
