# SPDX-License-Identifier: Apache-2.0
"""Which rows of another table are written and shown with an entity's own?

The list `snis` of a Certificate is no column: it stands for rows of `snis` that refer to it, made and removed in the
transaction that writes the Certificate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from pylae.errors import SchemaViolation

if TYPE_CHECKING:
    from pylae.database.changes import Row
    from pylae.database.dao import Dao
    from pylae.database.strategies import Reader

MAX_SNIS: Final = 1_000_000


class Companion(Protocol):
    """A field of an entity that stands for rows of another table.

    Attributes:
        field: a transient one.
        table: that has the rows.
    """

    field: str
    table: str

    def check(self, reader: Reader, row_id: str, value: Any) -> None:
        """Refuses a value before anything is written.

        Raises:
            SchemaViolation: it cannot be.
        """
        ...

    def store(self, dao: Dao, row_id: str, value: Any) -> None:
        """Makes the rows be those that the value names."""
        ...

    def value(self, reader: Reader, row_id: str) -> Any:
        """What the field shows."""
        ...

    def remove(self, dao: Dao, row_id: str) -> None:
        """Removes the rows, for one that is about to go."""
        ...


class CertificateSnis:
    """`snis` of a Certificate: the server names that it is shown for."""

    field = "snis"
    table = "snis"

    def check(self, reader: Reader, row_id: str, value: Any) -> None:
        """See `Companion`."""
        seen: set[str] = set()
        for name in value:
            if name in seen:
                raise SchemaViolation({"snis": f"{name} is duplicated"})
            seen.add(name)
            owner = reader.find("snis", {"name": name})
            if owner is not None and owner["certificate"]["id"] != row_id:
                reason = f"{name} already associated with existing certificate '{owner['certificate']['id']}'"
                raise SchemaViolation({"snis": reason})

    def store(self, dao: Dao, row_id: str, value: Any) -> None:
        """See `Companion`."""
        present = {row["name"]: row for row in self._rows(dao.reader, row_id)}
        wanted = frozenset(value)
        for name, row in present.items():
            if name not in wanted:
                dao.delete("snis", row)
        for name in value:
            if name not in present:
                dao.insert("snis", {"name": name, "certificate": {"id": row_id}})

    def value(self, reader: Reader, row_id: str) -> list[str]:
        """See `Companion`."""
        return sorted(row["name"] for row in self._rows(reader, row_id))

    def remove(self, dao: Dao, row_id: str) -> None:
        """See `Companion`."""
        self.store(dao, row_id, ())

    def _rows(self, reader: Reader, row_id: str) -> list[Row]:
        return reader.page("snis", limit=MAX_SNIS, where={"certificate": row_id})


COMPANIONS: Final[Mapping[str, Companion]] = {"certificates": CertificateSnis()}
"""By the table of the entity that has the field."""
