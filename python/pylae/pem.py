# SPDX-License-Identifier: Apache-2.0
"""Where does a program that wants a file find a certificate or key that is text in memory?

In a file that has no place on any disk (`memfd_create`, memfd_create(2)): a key that came from a vault stays in
memory, and is gone with the process.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Final

BEGIN: Final = "-----BEGIN"


def pem_of(text: str) -> str | None:
    """The PEM that a text is, plainly or in base64; None when it is neither."""
    if BEGIN in text:
        return text
    try:
        decoded = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return decoded if BEGIN in decoded else None


def is_file(text: str) -> bool:
    """Whether a text is the path of a file."""
    try:
        return BEGIN not in text and Path(text).is_file()
    except OSError:
        return False  # longer than any name may be


def as_path(text: str) -> str:
    """A path to read from, for a text that is one already or that is PEM; good for as long as this process lives."""
    if is_file(text):
        return text
    pem = pem_of(text)
    if pem is None:
        return text
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as file:
        file.write(pem if pem.endswith("\n") else f"{pem}\n")
    return f"/proc/self/fd/{descriptor}"
