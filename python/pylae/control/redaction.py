# SPDX-License-Identifier: Apache-2.0
"""Which words of a request may no log ever show?

Fields declared `secret` name them: their values in bodies, and in paths where such a field is an entity's key. The
words of a request are kept with its task (`contextvars`), so that whatever is logged on its behalf can be searched
for them, the text of an exception too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import unquote

from pylae.hiding import MASK, SHORTEST_WORD, forms_of, hidden
from pylae.schema import Entity, Field, Record
from pylae.schema.validate import is_uuid

MAX_WORDS: Final = 10_000
"""Of one request; past it, nothing is told of what went wrong but the kind."""
PLAIN_ARGUMENTS: Final = frozenset(
    {
        "all",
        "balancer_health",
        "check_hash",
        "custom_id",
        "flatten_errors",
        "interval",
        "offset",
        "scan",
        "size",
        "tags",
        "timeout",
    }
)
"""Arguments of a query whose values are shown: what else stands there was meant for a body."""


class Secrets:
    """What is secret in requests of the Admin API.

    Args:
        declarations: every entity and every plugin's configuration.
    """

    def __init__(self, declarations: Iterable[type[Record]]) -> None:
        names: set[str] = set()
        collections: set[str] = set()
        for declared in declarations:
            names.update(_secret_names(declared))
            key = declared.endpoint_key if issubclass(declared, Entity) else None
            if issubclass(declared, Entity) and key is not None and declared.fields[key].secret:
                collections.update((declared.path_name(), declared.nested_name(), declared.table))
        self._names = frozenset(names)
        self._collections = frozenset(collections)

    def __repr__(self) -> str:
        return f"<secrets {' '.join(sorted(self._names))}>"

    def words_of(self, values: Any) -> Iterator[str]:
        """Every text under a secret name, at any depth."""
        if isinstance(values, Mapping):
            for name, value in values.items():
                yield from _texts(value) if name in self._names else self.words_of(value)
        elif isinstance(values, list):
            for value in values:
                yield from self.words_of(value)

    def target(self, raw_path: str, query: str = "") -> tuple[str, list[str]]:
        """Path and query as a log may show them, and the words that were hidden, as sent and decoded."""
        words: list[str] = []
        segments = raw_path.split("/")
        is_key = False
        for position, segment in enumerate(segments):
            plain = unquote(segment)
            if is_key and segment and not is_uuid(plain):
                words += (segment, plain)
                segments[position] = MASK
            is_key = plain in self._collections or (is_key and not segment)
        shown = "/".join(segments)
        if not query:
            return shown, words
        pieces = []
        for piece in query.split("&"):
            name, equals, value = piece.partition("=")
            if value and unquote(name) not in PLAIN_ARGUMENTS:
                words += (value, unquote(value.replace("+", " ")))
                piece = f"{name}={MASK}"
            elif not equals and piece not in PLAIN_ARGUMENTS:
                words.append(piece)
                piece = MASK
            pieces.append(piece)
        return f"{shown}?{'&'.join(pieces)}", words


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _secret_names(declared: type[Record]) -> Iterator[str]:
    todo: list[Field] = list(declared.fields.values())
    while todo:
        one = todo.pop()
        if one.secret and one.name:
            yield one.name
        todo += (part for part in (one.elements, one.keys, one.values) if part is not None)
        if one.record is not None:
            todo += one.record.fields.values()


class HiddenWords:
    """The words that lines written on behalf of one request do not show."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._words: set[str] = set()
        self._forms: list[str] | None = None
        self.are_all = True
        """Whether there is room for every word that was to be hidden."""

    def __repr__(self) -> str:
        return f"<hidden words {len(self._words)}>"

    def add(self, words: Iterable[str]) -> None:
        """Hides these too."""
        for word in words:
            if len(word) >= SHORTEST_WORD and word not in self._words:
                if len(self._words) == MAX_WORDS:
                    self.are_all = False
                    return
                self._words.add(word)
                self._forms = None

    def add_values(self, values: Any) -> None:
        """Hides what is secret in the values of a body."""
        self.add(self._secrets.words_of(values))

    def hide(self, text: str) -> str:
        """The text with a mask in the place of every hidden word."""
        if self._forms is None:
            self._forms = forms_of(self._words)
        return hidden(text, self._forms)


_current: ContextVar[HiddenWords | None] = ContextVar("hidden_words", default=None)


def begin(secrets: Secrets) -> HiddenWords:
    """Begins to hide words in lines of this task."""
    words = HiddenWords(secrets)
    _current.set(words)
    return words


def note_values(values: Any) -> None:
    """Hides what is secret in the values of a body, if this task serves a request."""
    words = _current.get()
    if words is not None:
        words.add_values(values)


def redacted(text: str) -> str:
    """A line as it may be written."""
    words = _current.get()
    return text if words is None else words.hide(text)


def told(error: Exception) -> str:
    """What a line says of an exception: its kind and its text, or its kind alone when the text may hold any secret."""
    words = _current.get()
    kind = type(error).__name__
    return kind if words is not None and not words.are_all else f"{kind}: {error}"
