# SPDX-License-Identifier: Apache-2.0
"""Which configuration do the settings of a gateway without a database name, and who is told to read it?"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pylae.database.dao import Catalogue
from pylae.database.strategies.off import Holding
from pylae.declarative import parse
from pylae.declarative.document import Document
from pylae.declarative.faults import in_words, leaves
from pylae.errors import InvalidDeclarativeConfig, SettingsError
from pylae.settings import Settings

MAX_TOLD_ERRORS: Final = 5


def is_declared(settings: Settings) -> bool:
    """Whether the settings name a configuration."""
    return bool(settings.declarative_config or settings.declarative_config_string)


def read_declared(settings: Settings, catalogue: Catalogue) -> Holding:
    """The configuration that the settings name.

    Raises:
        SettingsError: it cannot be read, or is wrong; names lines and fields.
    """
    file = settings.declarative_config
    if file:
        what = f"declarative config file {file}"
        try:
            text = Path(file).read_bytes()
        except OSError as error:
            raise SettingsError(f"error parsing {what}: it cannot be read: {error.strerror}") from error
    else:
        what, text = "declarative config string", settings.declarative_config_string.encode()
    document: Document | None = None
    try:
        document = parse(text)
        return document.flatten(catalogue, hide_secrets=True)
    except InvalidDeclarativeConfig as error:
        raise SettingsError(f"error parsing {what}: {told(error, document)}") from error


def told(error: InvalidDeclarativeConfig, document: Document | None) -> str:
    """What is wrong, on one line: each error with its line and field."""
    fields = error.fields or {}
    if document is None:
        return "; ".join(str(text) for text in fields.values())
    found = list(leaves(fields))
    lines = document.lines(fields, MAX_TOLD_ERRORS)
    parts = [
        ("" if (line := lines.get(path)) is None else f"line {line}, ") + f"`{in_words(path)}`: {text}"
        for path, text in found[:MAX_TOLD_ERRORS]
    ]
    if len(found) > MAX_TOLD_ERRORS:
        parts.append(f"and {len(found) - MAX_TOLD_ERRORS} more")
    return "; ".join(parts)
