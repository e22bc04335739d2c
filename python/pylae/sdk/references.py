# SPDX-License-Identifier: Apache-2.0
"""How does a plugin's configuration come by the secrets that it only names?

Fields declared `referenceable` may hold references to vaults. They are resolved at the moment a worker makes what
the phases get, looked at again from time to time, and made anew when a secret has changed.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pylae.hiding import forms_of, hidden
from pylae.schema import Field, Record
from pylae.vaults import InvalidReference, VaultRows, Vaults, is_reference
from pylae.vaults.reference import START

if TYPE_CHECKING:
    from pylae.sdk.plugin import Plugin

MARK: Final = START.encode()
"""An encoded configuration without these bytes holds no reference."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode

Resolve = Callable[[str], str]
Log = Callable[[str, str], None]


def _parts(declared: Field) -> Iterator[Field]:
    yield declared
    for part in (declared.elements, declared.values):
        if part is not None:
            yield from _parts(part)
    if declared.record is not None:
        for inner in declared.record.fields.values():
            yield from _parts(inner)


def may_refer(declared: type[Record]) -> bool:
    """Whether a configuration of this kind can hold references."""
    return any(part.referenceable for one in declared.fields.values() for part in _parts(one))


def resolved(declared: type[Record], values: Mapping[str, Any], resolve: Resolve) -> dict[str, Any]:
    """The values with what `resolve` makes of each reference in its place; what is not declared stays as it is."""
    return {
        name: _resolved(declared.fields[name], value, resolve) if name in declared.fields else value
        for name, value in values.items()
    }


def _resolved(declared: Field, value: Any, resolve: Resolve) -> Any:
    if isinstance(value, str):
        return resolve(value) if declared.referenceable and is_reference(value) else value
    if isinstance(value, Mapping):
        if declared.record is not None:
            return resolved(declared.record, value, resolve)
        if declared.values is not None:
            return {name: _resolved(declared.values, item, resolve) for name, item in value.items()}
    if isinstance(value, list) and declared.elements is not None:
        return [_resolved(declared.elements, item, resolve) for item in value]
    return value


def secrets_in(declared: type[Record], values: Mapping[str, Any]) -> Iterator[str]:
    """The texts in fields declared `secret`."""
    for name, value in values.items():
        field = declared.fields.get(name)
        if field is not None:
            yield from _secrets_in(field, value, is_secret=False)


def _secrets_in(declared: Field, value: Any, *, is_secret: bool) -> Iterator[str]:
    is_secret = is_secret or declared.secret
    if isinstance(value, str):
        if is_secret:
            yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            inner = declared.values if declared.record is None else declared.record.fields.get(name)
            if inner is not None:
                yield from _secrets_in(inner, item, is_secret=is_secret)
    elif isinstance(value, list) and declared.elements is not None:
        for item in value:
            yield from _secrets_in(declared.elements, item, is_secret=is_secret)


def concealed(error: Exception, secrets: Iterable[str]) -> Exception:
    """What may be raised in the place of an exception: its text is logged.

    Returns:
        The same, or when it tells a secret, one of the same name that does not: some kinds make their text of what
        nobody else can write to.
    """
    text = str(error)
    shown = hidden(text, forms_of(secrets))
    if shown == text:
        return error
    namesake: type[Exception] = type(type(error).__name__, (Exception,), {})
    return namesake(shown).with_traceback(error.__traceback__)


class Live:
    """What the phases get under one configuration that holds references; `current` changes with the secrets."""

    __slots__ = ("__weakref__", "_build", "_declared", "_found", "_refused", "_values", "current", "label")

    def __init__(self, label: str, declared: type[Record], values: dict[str, Any], build: Callable[[bytes], Any]) -> None:
        self.label = label
        self.current: Any = None
        self._declared = declared
        self._values = values
        self._build = build
        self._found: dict[str, Any] | None = None
        # What the plugin could not use is not tried again and again.
        self._refused: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<live {self.label}>"

    def refresh(self, resolve: Resolve) -> bool:
        """Makes `current` anew if a secret is not what it was; whether it was not.

        Raises:
            Exception: what the plugin raised, without any secret; what was current stays.
        """
        secrets: list[str] = []

        def noted(text: str) -> str:
            secrets.append(resolve(text))
            return secrets[-1]

        found = resolved(self._declared, self._values, noted)
        if found in (self._found, self._refused):
            return False
        try:
            self.current = self._build(_encode(found))
        except Exception as error:
            self._refused = found
            raise concealed(error, secrets) from None
        self._found, self._refused = found, None
        return True


class Resolver:
    """Secrets for references, with one warning for each that cannot be had.

    Args:
        vaults: where secrets are.
        log: takes lines for the error log.
    """

    def __init__(self, vaults: Vaults, log: Log) -> None:
        self._vaults = vaults
        self._log = log
        self._unresolved: set[str] = set()

    def __repr__(self) -> str:
        return f"<resolver unresolved={len(self._unresolved)}>"

    def get(self, text: str, rows: VaultRows | None = None) -> str:
        """The secret, or an empty text."""
        try:
            secret = self._vaults.get(text, rows)
        except InvalidReference as error:
            if text not in self._unresolved:
                self._unresolved.add(text)
                self._log("warn", f"a reference can't be resolved, an empty text stands in its place: {error}")
            return ""
        self._unresolved.discard(text)
        return secret


class References:
    """Builds configurations whose references are resolved, and keeps them fresh.

    Args:
        vaults: where secrets are.
        check_interval_s: how often they are looked at again.
        log: takes lines for the error log.
    """

    def __init__(self, vaults: Vaults, check_interval_s: float, log: Log) -> None:
        self._resolver = Resolver(vaults, log)
        self._check_interval_s = check_interval_s
        self._log = log
        # The data plane drops what it no longer serves.
        self._living: weakref.WeakSet[Live] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"<references in {len(self._living)} configurations>"

    def build(
        self, plugin: Plugin, config: bytes, plugin_id: str, route_id: str | None, service_id: str | None, consumer_id: str | None
    ) -> Any:
        """What `plugin.build_config` makes, or a `Live` around it when the configuration holds references."""
        if MARK not in config:
            return plugin.build_config(config, plugin_id, route_id, service_id, consumer_id)

        def build(found: bytes) -> Any:
            return plugin.build_config(found, plugin_id, route_id, service_id, consumer_id)

        live = Live(f"{plugin.name} {plugin_id}", plugin.Config, _decode(config), build)
        live.refresh(self._resolver.get)
        self._living.add(live)
        return live

    def check(self) -> None:
        """Looks at every secret again."""
        for live in list(self._living):
            try:
                has_changed = live.refresh(self._resolver.get)
            except Exception as error:
                self._log("error", f"plugin {live.label} keeps its secrets, the new ones can't be used: {error}")
            else:
                if has_changed:
                    self._log("notice", f"plugin {live.label} has new secrets")

    async def keep_checking(self) -> None:
        """Looks at every secret again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(self._check_interval_s)
            self.check()


def following(method: Callable[..., Any]) -> Callable[..., Any]:
    """A phase method that gets what is current of a `Live`."""

    def hook(exchange: Any, config: Any, *more: Any) -> Any:
        return method(exchange, config.current if config.__class__ is Live else config, *more)

    return hook


def body_limit_of(plugin: Plugin) -> Callable[[Any], int]:
    """`plugin.body_limit` of what is current of a `Live`."""
    return lambda config: plugin.body_limit(config.current if config.__class__ is Live else config)
