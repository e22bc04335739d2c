# SPDX-License-Identifier: Apache-2.0
"""Are messages found in a stream of bytes, however they are cut?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae.control.frames import FrameReader, LineError, frame, message


def read(data: bytes, size: int) -> list[list[Any]]:
    reader = FrameReader()
    return [parts for start in range(0, len(data), size) for parts in reader.feed(data[start : start + size])]


@pytest.mark.parametrize("size", [1, 3, 5, 1000])
def test_messages_are_whole_however_the_bytes_come(size: int) -> None:
    data = message("ack", ["db", 1]) + message("stream", "log:x", [b"1", b"2"], 0) + message()
    assert read(data, size) == [["ack", ["db", 1]], ["stream", "log:x", [b"1", b"2"], 0], []]


@pytest.mark.parametrize("data", [frame(b"\xc1"), frame(b""), frame(b"\x80"), b"\xff\xff\xff\xff", frame(b"\x91" * 5000)])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(LineError):
        read(data, 1000)
