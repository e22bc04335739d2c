# SPDX-License-Identifier: Apache-2.0
"""Which pages may read an answer? The origins of a configuration, and how one of a request is compared with them.

An origin is a scheme, a host and a port (RFC 6454); the scheme's own port says the same as none. It is compared whole,
never as a part of a longer text: `https://shop.test` is not `https://shop.test.evil.test`.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final
from urllib.parse import urlsplit

from pylae.schema.rules import compiled

ANY: Final = "*"
NULL: Final = "null"
"""What a page without an origin of its own sends: a file, a sandboxed frame."""
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MAX_REMEMBERED: Final = 1_024
MAX_CHARACTERS: Final = 1_024
"""Longer ones match nothing: a host has 253 characters at most."""
_PLAIN: Final = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]*://)?[A-Za-z0-9.-]+(?::[0-9]{1,5})?$")
_VISIBLE: Final = re.compile(r"^[\x21-\x7e]+$")


def normalised(origin: str) -> str | None:
    """`scheme://host[:port]` in lower case, without the scheme's own port; None for what is no origin."""
    if origin == NULL:
        return NULL
    if len(origin) > MAX_CHARACTERS or _VISIBLE.match(origin) is None:
        return None
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not parts.scheme or not host or parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        return None
    authority = f"[{host}]" if ":" in host else host
    shown = "" if port is None or port == DEFAULT_PORTS.get(parts.scheme) else f":{port}"
    return f"{parts.scheme}://{authority}{shown}"


def _host_of(origin: str) -> str:
    return urlsplit(origin).hostname or origin


class Origins:
    """The origins of one configuration.

    Attributes:
        is_any: every page may read.
        only: the one plain origin that is configured, as written; it is said whoever asks.
    """

    __slots__ = ("_hosts", "_patterns", "_verdicts", "is_any", "only")

    def __init__(self, configured: list[str] | None) -> None:
        entries = configured or [ANY]
        self.is_any = entries == [ANY]
        self.only = entries[0] if len(entries) == 1 and _PLAIN.match(entries[0]) is not None else None
        self._patterns: list[re.Pattern[str]] = []
        self._hosts: list[re.Pattern[str]] = []
        for entry in entries:
            if entry == ANY:
                self._patterns.append(re.compile(".*"))
            elif ":" not in entry and entry != NULL:
                self._hosts.append(_whole(entry, is_plain=_PLAIN.match(entry) is not None))
            else:
                plain = normalised(entry) if _PLAIN.match(entry) or entry == NULL else None
                self._patterns.append(_whole(plain or entry, is_plain=plain is not None))
        self._verdicts: OrderedDict[str, str | None] = OrderedDict()

    def match(self, origin: str) -> str | None:
        """The origin as it is to be said back; None if its pages may not read."""
        if len(origin) > MAX_CHARACTERS:
            return None
        if origin in self._verdicts:
            return self._verdicts[origin]
        verdict = self._judge(origin)
        self._verdicts[origin] = verdict
        if len(self._verdicts) > MAX_REMEMBERED:
            self._verdicts.popitem(last=False)
        return verdict

    def _judge(self, origin: str) -> str | None:
        known = normalised(origin)
        if known is None:
            return None
        if any(pattern.fullmatch(known) for pattern in self._patterns):
            return known
        if known != NULL and any(pattern.fullmatch(_host_of(known)) for pattern in self._hosts):
            return known
        return None


def _whole(text: str, *, is_plain: bool) -> re.Pattern[str]:
    """A pattern that matches whole texts only; of a plain one its dots are dots."""
    if is_plain:
        return re.compile(re.escape(text), re.IGNORECASE)
    return compiled(text)
