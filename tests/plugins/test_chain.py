# SPDX-License-Identifier: Apache-2.0
"""Do several plugins walk over one exchange as they do in the gateway?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae.plugins.key_auth.plugin import KeyAuth
from pylae.plugins.request_transformer.plugin import RequestTransformer
from pylae.plugins.response_transformer.plugin import ResponseTransformer
from pylae.sdk import Answer, Exchange, Plugin, Record, field, kinds
from pylae.sdk.testing import Chain, Upstream


class Noting(Plugin):
    """Notes its phases; answers where its configuration says so."""

    class Config(Record):
        answers: bool = field(kinds.boolean(), default=False, doc="Answers in access.")

    def access(self, exchange: Exchange, config: Any) -> Answer | None:
        self._note(exchange, "access")
        return exchange.answer(202, self.name) if config.answers else None

    def header_filter(self, exchange: Exchange, config: Any) -> None:
        self._note(exchange, "header_filter")

    def body_filter(self, exchange: Exchange, config: Any, chunk: bytes, is_last: bool) -> bytes | None:  # noqa: FBT001 - the phase's form
        return chunk + self.name[-1:].encode()

    def log(self, exchange: Exchange, config: Any) -> None:
        self._note(exchange, "log")

    def _note(self, exchange: Exchange, phase: str) -> None:
        exchange.ctx.setdefault("walk", []).append(f"{self.name}.{phase}")


class First(Noting):
    name = "note-a"
    priority = 900


class Second(Noting):
    name = "note-c"
    priority = 10


class Third(Noting):
    name = "note-b"
    priority = 10


def test_plugins_run_by_falling_priority_then_falling_name() -> None:
    with Chain([(Third, {}), (First, {}), (Second, {})], upstream=Upstream(chunks=[b"1", b"2"])) as chain:
        outcome = chain.send()
    order = ("note-a", "note-c", "note-b")
    assert outcome.exchange.ctx["walk"] == [f"{name}.{phase}" for phase in ("access", "header_filter", "log") for name in order]
    assert outcome.body == b"1acb2acb"


def test_who_answers_ends_the_access_of_later_ones_and_no_other_phase() -> None:
    with Chain([(First, {"answers": True}), (Second, {})]) as chain:
        outcome = chain.send()
    assert (outcome.status, outcome.body, outcome.upstream) == (202, b"note-aac", None)
    assert outcome.exchange.ctx["walk"] == [
        "note-a.access",
        "note-a.header_filter",
        "note-c.header_filter",
        "note-a.log",
        "note-c.log",
    ]


def test_bundled_plugins_see_what_earlier_ones_did() -> None:
    rows: dict[str, list[dict[str, Any]]] = {
        "consumers": [{"id": "6a1", "username": "alice", "created_at": 1}],
        "keyauth_credentials": [{"id": "7b2", "key": "k", "consumer": {"id": "6a1"}}],
    }
    plugins = [
        (ResponseTransformer, {"add": {"headers": ["X-Answered:yes"]}}),
        (RequestTransformer, {"rename": {"headers": ["X-Consumer-Username:X-User"]}}),
        (KeyAuth, {}),
    ]
    with Chain(plugins, rows=rows) as chain:
        outcome = chain.send(headers={"apikey": "k"})
        refused = chain.send()
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-User") == "alice"
    assert outcome.headers["x-answered"] == "yes"
    assert (refused.status, refused.upstream, refused.headers["x-answered"]) == (401, None, "yes")


def test_every_plugin_reads_as_much_of_the_body_as_it_asked_for() -> None:
    class Reader(Plugin):
        name = "reader"
        reads_body = 10

        def access(self, exchange: Exchange, config: object) -> None:
            exchange.ctx[self.name] = exchange.request.body

    class Greedy(Reader):
        name = "greedy"
        reads_body = 100

    with Chain([(Reader, {}), (Greedy, {})]) as chain:
        outcome = chain.send("POST", body=b"x" * 50)
    assert outcome.exchange.ctx == {"reader": None, "greedy": b"x" * 50}


@pytest.mark.parametrize(
    ("value", "kind"), [(None, "NoneType"), (True, "bool"), (b"x", "bytes")], ids=["nothing", "truth", "bytes"]
)
def test_header_value_is_text_or_a_number_as_in_the_data_plane(value: Any, kind: str) -> None:
    class Setter(Plugin):
        name = "setter"

        def access(self, exchange: Exchange, config: object) -> None:
            exchange.service.request.add_header("X-Number", 5)  # type: ignore[arg-type]  # numbers are written out
            exchange.service.request.add_header("X-Value", value)

    with Chain([(Setter, {})]) as chain, pytest.raises(TypeError, match=f"a header value is a `{kind}`, expected a str"):
        chain.send()
