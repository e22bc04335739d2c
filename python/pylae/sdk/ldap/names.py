# SPDX-License-Identifier: Apache-2.0
"""How are names of entries written and read, so that no client can write more than a value? RFC 4514."""

from __future__ import annotations

from typing import Final

ESCAPED: Final = frozenset('"+,;<>\\=')
"""Escaped with a backslash wherever they stand; `=` needs it not, but may have it (section 2.4)."""

Name = tuple[frozenset[tuple[str, str]], ...]
"""A name to compare: relative names from the entry upwards, each the set of its (type, value), in lower case."""


class InvalidName(ValueError):
    """A text that is no distinguished name."""


def escape_value(value: str) -> str:
    r"""The value of an attribute as part of a name: `a,b` becomes `a\,b`."""
    last = len(value) - 1
    return "".join(_escape(character, is_first=at == 0, is_last=at == last) for at, character in enumerate(value))


def _escape(character: str, *, is_first: bool, is_last: bool) -> str:
    if character < " " or character == "\x7f":
        return f"\\{ord(character):02x}"
    if character in ESCAPED or (character == "#" and is_first) or (character == " " and (is_first or is_last)):
        return "\\" + character
    return character


def child_of(parent: str, attribute: str, value: str) -> str:
    """The name of the entry below `parent` that is called so: `uid=alice,dc=example`; the value is escaped."""
    return f"{attribute}={escape_value(value)},{parent}" if parent else f"{attribute}={escape_value(value)}"


def parse_name(text: str) -> Name:
    """Reads a name so that it can be compared with another; case and spaces round separators don't count.

    Raises:
        InvalidName: it is none.
    """
    return tuple(
        frozenset((kind.casefold(), " ".join(value.split()).casefold()) for kind, value in parts) for parts in _read(text)
    )


def first_value(text: str, attribute: str) -> str | None:
    """What the entry's own relative name says for an attribute: `dev` of `cn=dev,ou=groups` for `CN`; None for another.

    Raises:
        InvalidName: the text is no name.
    """
    wanted = attribute.casefold()
    relative = next(iter(_read(text)), [])
    return next((value for kind, value in relative if kind.casefold() == wanted), None)


def _read(text: str) -> list[list[tuple[str, str]]]:
    """Relative names, each a list of (type, value)."""
    names: list[list[tuple[str, str]]] = []
    if not text.strip():
        return names
    parts: list[tuple[str, str]] = []
    at = 0
    while True:
        equals = text.find("=", at)
        kind = text[at:equals].strip() if equals >= 0 else ""
        if not kind or not all(character.isalnum() or character in ".-" for character in kind):
            raise InvalidName(f"expected a type and `=` at character {at} of a distinguished name")
        value, at = _value(text, equals + 1)
        parts.append((kind, value))
        if at == len(text) or text[at] in ",;":
            names.append(parts)
            parts = []
        if at == len(text):
            return names
        at += 1


def _value(text: str, at: int) -> tuple[str, int]:
    """A value and where it ends. Spaces round it that are not escaped are none of its own."""
    octets = bytearray()
    # Up to here nothing may be taken off the end: it was escaped.
    kept = 0
    while at < len(text) and text[at] in " ":
        at += 1
    while at < len(text) and text[at] not in ",;+":
        if text[at] == "\\":
            pair = text[at + 1 : at + 3]
            if len(pair) == 2 and all(character in "0123456789abcdefABCDEF" for character in pair):
                octets.append(int(pair, 16))
                at += 3
            elif pair:
                octets += pair[0].encode("utf-8", "surrogatepass")
                at += 2
            else:
                raise InvalidName("a distinguished name ends with `\\`")
            kept = len(octets)
        else:
            octets += text[at].encode("utf-8", "surrogatepass")
            at += 1
    own = bytes(octets[:kept]) + bytes(octets[kept:]).rstrip(b" ")
    try:
        return own.decode(), at
    except UnicodeDecodeError:
        raise InvalidName("a value of a distinguished name is no UTF-8") from None
