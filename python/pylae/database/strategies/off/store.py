# SPDX-License-Identifier: Apache-2.0
"""What of a configuration outlives the process that was given it?

One file: a head, then every row, each with its length before it. It is written beside the old one and renamed over
it once it is on the disk, so that a reader finds one or the other whole, whenever the writer is killed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from pylae.database.changes import Row
from pylae.database.strategies.off.holding import Holding, Rows, decode_row
from pylae.database.table import Tables
from pylae.errors import PrimaryKeyViolation, StrategyUnavailable, UniqueViolation

FILE_NAME: Final = "dbless.store"
"""In the prefix."""
FORMAT: Final = 1
_MAGIC: Final = b"pylae-dbless\0"
_LENGTH_BYTES: Final = 4
_BUFFER_BYTES: Final = 1 << 20
_FILE_MODE: Final = 0o600


class Head(msgspec.Struct):
    """What stands before the rows.

    Attributes:
        sequence: of the last change.
        hash: of the text that the rows were made of.
        source: who was told to read that text; see `OffStrategy`.
        row_counts: by table, in the order in which rows follow.
        format: of the file.
    """

    sequence: int
    hash: str
    source: str
    row_counts: dict[str, int]
    format: int = FORMAT


_encode_head = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Head).decode


def save(path: Path, holding: Holding, sequence: int, source: str) -> None:
    """Makes the file hold this configuration.

    Raises:
        StrategyUnavailable: it cannot be written; the old one stays.
    """
    temporary = path.with_name(f"{path.name}.new")
    head = Head(sequence, holding.hash, source, {name: len(rows.encoded) for name, rows in holding.items() if rows.encoded})
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE)
        with os.fdopen(descriptor, "wb", _BUFFER_BYTES) as file:
            file.write(_MAGIC)
            encoded = _encode_head(head)
            file.write(len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded)
            for name in head.row_counts:
                for piece in _pieces(holding[name]):
                    file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StrategyUnavailable(f"`{path}` cannot be written: {error.strerror}") from error


def _pieces(rows: Rows) -> Iterator[bytes]:
    expiring = rows.expires_at_s
    for id_, encoded in rows.encoded.items():
        expires_at = str(expiring[id_]).encode() if id_ in expiring else b""
        yield bytes((len(expires_at),)) + expires_at + len(encoded).to_bytes(_LENGTH_BYTES, "big")
        yield encoded


def load(path: Path, tables: Tables) -> tuple[Head, Holding] | None:
    """What the file holds; None when there is none.

    Raises:
        StrategyUnavailable: it is not such a file, or it cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StrategyUnavailable(f"`{path}` cannot be read: {error.strerror}") from error
    try:
        return _parsed(memoryview(data), tables)
    except (ValueError, KeyError, IndexError, TypeError, msgspec.MsgspecError) as error:
        reason = f"`{path}` does not hold a configuration: {error}; hint: remove it, the declarative file is read anew"
        raise StrategyUnavailable(reason) from error


def _parsed(data: memoryview, tables: Tables) -> tuple[Head, Holding]:
    if bytes(data[: len(_MAGIC)]) != _MAGIC:
        raise ValueError("it begins otherwise")
    cursor = _Cursor(data, len(_MAGIC))
    head = _decode_head(cursor.sized())
    if head.format != FORMAT:
        raise ValueError(f"format {head.format}, expected {FORMAT}")
    holding = Holding(tables, head.hash)
    for name, count in head.row_counts.items():
        # Rows of a plugin that is not configured any more have no table; they are left out.
        add = _adder(holding[name]) if name in tables else None
        for _ in range(count):
            expires_at = bytes(cursor.take(cursor.take(1)[0]))
            encoded = bytes(cursor.sized())
            if add is not None:
                add(decode_row(encoded), encoded, float(expires_at) if expires_at else None)
    holding.finish()
    return head, holding


def _adder(rows: Rows) -> Callable[[Row, bytes, float | None], None]:
    """Takes in a row of any age: fields that were not declared when it was written are null."""
    missing = {column.field: None for column in rows.table.columns}

    def add(row: Row, encoded: bytes, expires_at_s: float | None) -> None:
        try:
            rows.add({**missing, **row}, encoded, expires_at_s)
        except (UniqueViolation, PrimaryKeyViolation) as error:
            # Without the values: they may be secrets, and this text is logged.
            raise ValueError(f"two rows of {rows.table.name} have the same {', '.join(error.fields or ())}") from error

    return add


class _Cursor:
    """A place in the file."""

    def __init__(self, data: memoryview, at: int) -> None:
        self._data = data
        self._at = at

    def take(self, count: int) -> memoryview:
        """The next bytes."""
        end = self._at + count
        if end > len(self._data):
            raise ValueError("it ends too early")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def sized(self) -> memoryview:
        """The next piece that has its length before it."""
        return self.take(int.from_bytes(self.take(_LENGTH_BYTES), "big"))
