# SPDX-License-Identifier: Apache-2.0
"""Who still needs a CA certificate?

Services and plugins name CA certificates in lists, which no foreign key of a database looks after.
"""

from __future__ import annotations

from pylae.database.changes import Row
from pylae.database.strategies import Reader
from pylae.errors import ReferencedByOthers

_FIELD = "ca_certificates"


def check_ca_certificate_is_unused(reader: Reader, id_: str) -> None:
    """Refuses the deletion of a CA certificate that a row names.

    Raises:
        ReferencedByOthers: 400.
    """
    for table in ("services", "plugins"):
        for row in reader.each(table):
            if id_ in _named(table, row):
                raise ReferencedByOthers(f"ca certificate {id_} is still referenced by {table} (id = {row['id']})")


def _named(table: str, row: Row) -> list[str]:
    holder = row if table == "services" else row["config"]
    return [id_.lower() for id_ in holder.get(_FIELD) or () if isinstance(id_, str)]
