# SPDX-License-Identifier: Apache-2.0
"""When is a plugin's configuration made anew, and what does it never tell?"""

from __future__ import annotations

import gc
from typing import Any

import msgspec
import pytest

from pylae.sdk import Exchange, Instance, Plugin, Record, field, kinds
from pylae.sdk.host import Host, definition_of
from pylae.sdk.references import Live, References, concealed, may_refer, secrets_in
from pylae.vaults import Vaults

PLACE = ("00000000-0000-4000-8000-000000000001", None, None, None)


class Nested(Record):
    password: str | None = field(kinds.string(), secret=True, referenceable=True, doc="Secret.")
    port: int | None = field(kinds.integer(), doc="Not.")


class Refers(Plugin):
    """Keeps how often it was prepared."""

    name = "refers"
    prepared: list[str] = []

    class Config(Record):
        token: str = field(kinds.string(), required=True, secret=True, referenceable=True, doc="Secret.")
        nested: Nested = field(kinds.record(Nested), doc="A record.")
        limit: int = field(kinds.integer(), default=7, doc="Bytes.")

    @classmethod
    def prepare(cls, config: Config, instance: Instance) -> Any:
        cls.prepared.append(config.token)
        if config.token == "bad-token":
            raise KeyError("bad-token", 5)
        return config

    @classmethod
    def body_limit(cls, config: Config) -> int:
        return config.limit

    def access(self, exchange: Exchange, config: Config) -> str:
        return f"{config.token} {config.nested.password}"


class Plain(Plugin):
    name = "plain"

    def access(self, exchange: Exchange, config: Any) -> None:
        return None


@pytest.fixture
def environ() -> dict[str, str]:
    Refers.prepared.clear()
    return {"A": "first", "B": "second"}


class Stage:
    """A worker's view of the plugin, without the worker."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.lines: list[tuple[str, str]] = []
        self.host = Host(vaults=Vaults(environ=environ))
        self.host.log = lambda level, text: self.lines.append((level, text))
        self.definition = definition_of(Refers(self.host))

    def build(self, **config: Any) -> Any:
        return self.definition["build_config"](msgspec.msgpack.encode(config), *PLACE)

    def access(self, config: Any) -> Any:
        return self.definition["phases"]["access"](None, config)

    def check(self) -> None:
        self.host.references.check()


def test_a_configuration_without_references_costs_nothing_more(environ: dict[str, str]) -> None:
    stage = Stage(environ)
    built = stage.build(token="clear", nested={})
    assert isinstance(built, Refers.Config)
    assert stage.access(built) == "clear None"
    plugin = Plain(stage.host)
    assert definition_of(plugin)["phases"] == {"access": plugin.access}
    assert may_refer(Refers.Config)
    assert not may_refer(Plain.Config)


def test_it_is_made_anew_when_a_secret_changes_and_only_then(environ: dict[str, str]) -> None:
    stage = Stage(environ)
    built = stage.build(token="{vault://env/a}", nested={"password": "{vault://env/b}"}, limit=9)
    assert isinstance(built, Live)
    assert (stage.access(built), stage.definition["body_limit"](built)) == ("first second", 9)
    stage.check()
    assert Refers.prepared == ["first"]
    environ["B"] = "third"
    stage.check()
    assert stage.access(built) == "first third"
    del environ["A"]
    stage.check()
    stage.check()
    assert stage.access(built) == " third"
    assert [line for line in stage.lines if line[0] == "warn"] == [
        (
            "warn",
            "a reference can't be resolved, an empty text stands in its place: "
            "{vault://env/a}: the environment has no variable A",
        )
    ]
    assert Refers.prepared == ["first", "first", ""]


def test_a_secret_that_cannot_be_used_is_tried_once_and_not_told(environ: dict[str, str]) -> None:
    stage = Stage(environ)
    built = stage.build(token="{vault://env/a}", nested={})
    environ["A"] = "bad-token"
    stage.check()
    stage.check()
    assert stage.access(built) == "first None"
    assert [text for level, text in stage.lines if level == "error"] == [
        f"plugin refers {PLACE[0]} keeps its secrets, the new ones can't be used: ('******', 5)"
    ]
    environ["A"] = "good-token"
    stage.check()
    assert stage.access(built) == "good-token None"


def test_what_the_data_plane_has_dropped_is_not_looked_at(environ: dict[str, str]) -> None:
    stage = Stage(environ)
    built = stage.build(token="{vault://env/a}", nested={})
    assert repr(stage.host.references) == "<references in 1 configurations>"
    del built
    gc.collect()
    assert repr(stage.host.references) == "<references in 0 configurations>"


def test_no_repr_shows_a_secret(environ: dict[str, str]) -> None:
    stage = Stage(environ)
    built = stage.build(token="{vault://env/a}", nested={"password": "{vault://env/b}"})
    shown = f"{built!r} {built.current!r} {stage.host!r} {stage.host.references!r} {Vaults(environ=environ)!r}"
    assert "first" not in shown
    assert "second" not in shown


def test_an_exception_loses_the_secrets_of_its_configuration() -> None:
    values = {"token": "long-secret", "nested": {"password": "long-secret-and-more", "port": 5}, "limit": 3}
    assert set(secrets_in(Refers.Config, values)) == {"long-secret", "long-secret-and-more"}
    error = ValueError("long-secret-and-more, long-secret and abc")
    told = concealed(error, ["long-secret", "long-secret-and-more", "abc"])
    assert (type(told).__name__, str(told)) == ("ValueError", "******, ****** and abc")
    harmless = ValueError("abc")
    assert concealed(harmless, ["long-secret"]) is harmless


SECRET = "long-secret\nand 'more'"


class Own(Exception):
    def __init__(self, inner: list[str]) -> None:
        super().__init__()
        self.inner = inner

    def __str__(self) -> str:
        return f"not {self.inner}"


@pytest.mark.parametrize(
    "error",
    [
        OSError(2, "No such file", SECRET),
        FileNotFoundError(2, SECRET),
        OSError(18, "Not there", "a", None, SECRET),
        UnicodeEncodeError("ascii", SECRET, 0, 1, SECRET),
        UnicodeDecodeError("utf-8", b"a", 0, 1, f"no {SECRET}"),
        ImportError(f"no {SECRET}", name=SECRET),
        SyntaxError(SECRET, ("file", 1, 1, SECRET)),
        KeyError(SECRET),
        ValueError([SECRET], {"a": SECRET}),
        Own([SECRET]),
    ],
)
def test_no_kind_of_exception_keeps_a_secret(error: Exception) -> None:
    told = concealed(error, [SECRET])
    assert "long-secret" in str(error)
    assert "long-secret" not in str(told)
    assert "******" in str(told)
    assert type(told).__name__ == type(error).__name__


def test_an_exception_that_lost_its_secrets_still_says_where_it_was_raised(environ: dict[str, str]) -> None:
    built = Stage(environ)
    with pytest.raises(Exception, match=r"\*{6}") as caught:
        built.build(token="bad-token", nested={})
    assert caught.type.__name__ == "KeyError"
    assert [entry.name for entry in caught.traceback][-1] == "prepare"
    assert caught.value.__suppress_context__


def test_references_of_an_unfinished_gateway_are_resolved_by_what_is_there() -> None:
    lines: list[str] = []
    references = References(Vaults(()), 60, lambda level, text: lines.append(text))
    built = references.build(Refers(Host()), msgspec.msgpack.encode({"token": "{vault://env/a}", "nested": {}}), *PLACE)
    assert built.current.token == ""
    assert lines == [
        "a reference can't be resolved, an empty text stands in its place: {vault://env/a}: the vault `env` is switched off"
    ]
