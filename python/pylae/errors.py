# SPDX-License-Identifier: Apache-2.0
"""What can go wrong outside the data plane, under which code, name and text?

Codes, names and texts of the database errors are Kong's, because clients of the Admin API read them. The HTTP
status of each is looked up by the Admin API, in one table of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pylae.lua_text import lua_table, lua_value


class PylaeError(Exception):
    """Root of every exception that this package raises on purpose."""


class SettingsError(PylaeError):
    """A setting is unknown, malformed, or contradicts another; the gateway does not start."""


class DatabaseError(PylaeError):
    """An operation on entities failed; `code` and `name` are Kong's."""

    code: ClassVar[int] = 8
    name: ClassVar[str] = "database error"

    def __init__(self, message: str, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields: dict[str, Any] | None = None if fields is None else dict(fields)

    def body(self) -> dict[str, Any]:
        """The error as the Admin API sends it."""
        answer: dict[str, Any] = {"code": self.code, "name": self.name, "message": self.message}
        if self.fields is not None:
            answer["fields"] = self.fields
        return answer


class StrategyUnavailable(DatabaseError):
    """The database can't be reached or refused to work; nothing was stored."""


def _key_text(key: Mapping[str, Any]) -> str:
    """A key as Kong prints it: `{name="x"}`, sorted, null as `null`."""
    return "{" + ",".join(f"{name}={lua_value(key[name])}" for name in sorted(key)) + "}"


class InvalidPrimaryKey(DatabaseError):
    """A primary key is not one."""

    code = 1
    name = "invalid primary key"

    def __init__(self, key: Mapping[str, Any], fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"invalid primary key: '{_key_text(key)}'", key if fields is None else fields)


class SchemaViolation(DatabaseError):
    """An entity breaks its schema; `fields` mirrors the entity, rules between fields are listed under `@entity`."""

    code = 2
    name = "schema violation"

    def __init__(self, fields: Mapping[str, Any], message: str | None = None) -> None:
        if message is None:
            message = violation_message(fields)
        super().__init__(message, fields)


def violation_message(fields: Mapping[str, Any]) -> str:
    """Kong's one-line text for the errors of a schema violation."""
    texts: list[str] = [str(text) for text in fields.get("@entity", ())]
    for field_name in sorted(name for name in fields if name != "@entity"):
        errors = fields[field_name]
        nested: list[tuple[Any, Any]]
        if isinstance(errors, Mapping):
            nested = sorted(errors.items(), key=lambda item: str(item[0]))
        elif isinstance(errors, (list, tuple)):
            nested = [(position, error) for position, error in enumerate(errors, 1) if error is not None]
        else:
            texts.append(f"{field_name}: {errors}")
            continue
        for inner_name, error in nested:
            text = lua_table(error) if isinstance(error, (Mapping, list, tuple)) else str(error)
            texts.append(f"{field_name}.{inner_name}: {text}")
    if len(texts) == 1:
        return f"schema violation ({texts[0]})"
    return f"{len(texts)} schema violations ({'; '.join(texts)})"


class PrimaryKeyViolation(DatabaseError):
    """A row with this primary key exists."""

    code = 3
    name = "primary key violation"

    def __init__(self, key: Mapping[str, Any]) -> None:
        super().__init__(f"primary key violation on key '{_key_text(key)}'", key)


class ForeignKeyViolation(DatabaseError):
    """A reference points to nothing, or a row that is referred to was to go."""

    code = 4
    name = "foreign key violation"

    @classmethod
    def dangling(cls, field: str, key: Mapping[str, Any], parent_table: str) -> ForeignKeyViolation:
        """The row names a parent that does not exist."""
        message = f"the foreign key '{_key_text(key)}' does not reference an existing '{parent_table}' entity."
        return cls(message, {field: dict(key)})

    @classmethod
    def referenced(cls, table: str, child_table: str) -> ForeignKeyViolation:
        """The row to be deleted has children that forbid it."""
        message = f"an existing '{child_table}' entity references this '{table}' entity"
        return cls(message, {"@referenced_by": child_table})


class UniqueViolation(DatabaseError):
    """Another row has this value of a unique field."""

    code = 5
    name = "unique constraint violation"

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(f"UNIQUE violation detected on '{_key_text(fields)}'", fields)


class NotFound(DatabaseError):
    """There is no such row."""

    code = 6
    name = "not found"

    def __init__(self, key: Mapping[str, Any], *, is_primary_key: bool = True) -> None:
        what = "with primary key " if is_primary_key else "with "
        super().__init__(f"could not find the entity {what}'{_key_text(key)}'", key)


class InvalidOffset(DatabaseError):
    """The offset of a page was not made by this gateway."""

    code = 7
    name = "invalid offset"

    def __init__(self, offset: str, reason: str) -> None:
        super().__init__(f"'{offset}' is not a valid offset: {reason}")


class InvalidSize(DatabaseError):
    """The size of a page is out of range."""

    code = 9
    name = "invalid size"

    def __init__(self, message: str = "size must be an integer between 1 and 1000") -> None:
        super().__init__(message)


class InvalidUnique(DatabaseError):
    """A value given to find a row by is not one that its unique field may have."""

    code = 10

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason, {field: reason})
        self.field = field

    def body(self) -> dict[str, Any]:
        """The error as the Admin API sends it."""
        return {**super().body(), "name": f"invalid unique {self.field}"}


class InvalidOptions(DatabaseError):
    """A query argument is malformed."""

    code = 11
    name = "invalid options"

    def __init__(self, options: Mapping[str, str]) -> None:
        texts = [f"{option}: {options[option]}" for option in sorted(options)]
        listed = "; ".join(texts)
        super().__init__(f"invalid option ({listed})" if len(texts) == 1 else f"{len(texts)} option violations ({listed})")
        self.options = dict(options)

    def body(self) -> dict[str, Any]:
        """The error as the Admin API sends it."""
        return {**super().body(), "options": self.options}


class OperationUnsupported(DatabaseError):
    """This kind of write is not possible with this database setting."""

    code = 12
    name = "operation unsupported"


class ForeignKeysUnresolved(DatabaseError):
    """A parent was named by its endpoint key, and there is none of that name."""

    code = 13
    name = "foreign keys unresolved"

    def __init__(self, field: str, key: Mapping[str, Any], parent_table: str) -> None:
        reason = f"the foreign key cannot be resolved with '{_key_text(key)}' for an existing '{parent_table}' entity"
        details = {
            field: [{"name": name, "message": reason, "value": value, "parent": parent_table} for name, value in key.items()]
        }
        super().__init__(f"foreign key unresolved ({field}.{next(iter(key))}: {reason})", details)


class InvalidDeclarativeConfig(DatabaseError):
    """A declarative configuration breaks the schema; `fields` mirrors the document."""

    code = 14
    name = "invalid declarative configuration"

    def __init__(
        self, message: str, fields: Mapping[str, Any] | None = None, flattened: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        super().__init__(message, fields)
        self.flattened = flattened
        """The errors of entities one by one, when they were asked for so."""

    def body(self) -> dict[str, Any]:
        """The error as the Admin API sends it."""
        body = super().body()
        return body if self.flattened is None else {**body, "flattened_errors": list(self.flattened)}


class TransformationError(DatabaseError):
    """A value could not be made fit for storing."""

    code = 15
    name = "transformation error"


class InvalidWorkspace(DatabaseError):
    """There is no such workspace."""

    code = 17
    name = "invalid workspace"


class ReferencedByOthers(DatabaseError):
    """A CA certificate is in use."""

    code = 19
    name = "referenced by others"


class InvalidSearchQuery(DatabaseError):
    """A search can't be understood."""

    code = 20
    name = "invalid search query"


DATABASE_ERRORS: tuple[type[DatabaseError], ...] = (
    InvalidPrimaryKey,
    SchemaViolation,
    PrimaryKeyViolation,
    ForeignKeyViolation,
    UniqueViolation,
    NotFound,
    InvalidOffset,
    DatabaseError,
    InvalidSize,
    InvalidUnique,
    InvalidOptions,
    OperationUnsupported,
    ForeignKeysUnresolved,
    InvalidDeclarativeConfig,
    TransformationError,
    InvalidWorkspace,
    ReferencedByOthers,
    InvalidSearchQuery,
)
"""One class for each code, in the order of the codes."""
