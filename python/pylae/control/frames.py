# SPDX-License-Identifier: Apache-2.0
"""Where does one message on a worker's line end, and the next begin?

A frame is a big-endian u32 with the length, then one MessagePack array of that many bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from pylae.errors import PylaeError

MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
HEAD_BYTES: Final = 4

encode_value = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode


class LineError(PylaeError):
    """The other side of a line does not keep to the protocol."""


def frame(body: bytes) -> bytes:
    """An encoded message with its length before it."""
    return len(body).to_bytes(HEAD_BYTES, "big") + body


def message(*parts: Any) -> bytes:
    r"""A whole frame that holds these parts.

    >>> message("ack", ["db", 7])
    b'\x00\x00\x00\n\x92\xa3ack\x92\xa2db\x07'
    """
    return frame(encode_value(parts))


class FrameReader:
    """Collects bytes as they come and yields whole messages."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_frame_bytes = max_frame_bytes

    def feed(self, data: bytes) -> Iterator[list[Any]]:
        """Messages completed by these bytes.

        Raises:
            LineError: a length above the limit, or a body that is no MessagePack array.
        """
        buffer = self._buffer
        buffer += data
        offset = 0
        try:
            while len(buffer) - offset >= HEAD_BYTES:
                length = int.from_bytes(buffer[offset : offset + HEAD_BYTES], "big")
                if length > self._max_frame_bytes:
                    raise LineError(f"a frame of {length} bytes, expected at most {self._max_frame_bytes}")
                end = offset + HEAD_BYTES + length
                if len(buffer) < end:
                    break
                body = bytes(buffer[offset + HEAD_BYTES : end])
                offset = end
                try:
                    parts = _decode(body)
                except (msgspec.DecodeError, RecursionError) as error:
                    raise LineError(f"a frame that is no MessagePack array: {error}") from error
                yield parts
        finally:
            del buffer[:offset]
