# SPDX-License-Identifier: Apache-2.0
"""Does a scene behave as the gateway does?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae.sdk import Answer, Exchange, Plugin
from pylae.sdk.testing import ExchangeIsOver, Outcome, Scene, Upstream


class Walker(Plugin):
    """Notes every phase; answers where the request says so."""

    name = "walker"
    kept: Any = None

    def rewrite(self, exchange: Exchange, config: object) -> None:
        exchange.ctx["walk"] = ["rewrite"]

    async def access(self, exchange: Exchange, config: object) -> Answer | None:
        exchange.ctx["walk"].append("access")
        if exchange.request.get_header("answer") is not None:
            return exchange.answer(201, {"a": 1}, {"X-A": ["1", "2"]})
        if exchange.request.get_header("error") is not None:
            return exchange.error(418)
        return None

    def header_filter(self, exchange: Exchange, config: object) -> None:
        exchange.ctx["walk"].append("header_filter")
        exchange.response.set_header("X-Source", exchange.response.source)

    def body_filter(self, exchange: Exchange, config: object, chunk: bytes, is_last: bool) -> bytes | None:  # noqa: FBT001 - the phase's form
        exchange.ctx["walk"].append("body_filter")
        return chunk.upper() if exchange.response.source == "service" else None

    def log(self, exchange: Exchange, config: object) -> None:
        exchange.ctx["walk"].append("log")
        Walker.kept = exchange.request


def send(**request: Any) -> Outcome:
    with Scene(Walker, upstream=Upstream(chunks=[b"a", b"b"])) as scene:
        return scene.send(**request)


def exchange_of(outcome: Outcome) -> Exchange:
    """The stand-in, which the type checker holds to what plugins are promised."""
    return outcome.exchange


def test_stand_in_is_an_exchange() -> None:
    assert len(exchange_of(send()).id) == 32


def test_phases_run_in_order_over_every_chunk() -> None:
    outcome = send()
    assert outcome.exchange.ctx["walk"] == ["rewrite", "access", "header_filter", "body_filter", "body_filter", "log"]
    assert (outcome.status, outcome.body, outcome.source) == (200, b"AB", "service")
    assert outcome.headers["x-source"] == "service"


def test_answer_is_compact_json_and_later_phases_see_it() -> None:
    outcome = send(headers={"answer": "1"})
    assert (outcome.status, outcome.body, outcome.upstream) == (201, b'{"a":1}', None)
    assert outcome.headers["content-type"] == "application/json; charset=utf-8"
    assert outcome.headers["x-a"] == ["1", "2"]
    assert outcome.headers["x-source"] == "exit"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/json"),
        ("text/html", "text/html"),
        ("text/*;q=0.5, application/xml", "application/xml"),
        ("text/*", "text/plain"),
        ("image/png", "application/json"),
        ("text/html;q=nonsense", "application/json"),
    ],
)
def test_error_body_follows_accept(accept: str | None, content_type: str) -> None:
    headers = {"error": "1"} if accept is None else {"error": "1", "accept": accept}
    outcome = send(headers=headers)
    assert outcome.status == 418
    assert outcome.headers["content-type"] == f"{content_type}; charset=utf-8"
    assert outcome.exchange.id.encode() in outcome.body


def test_exchange_dies_after_the_log_phase() -> None:
    send()
    with pytest.raises(ExchangeIsOver):
        _ = Walker.kept.method


def test_rubbish_from_a_phase_is_told() -> None:
    class Rubbish(Plugin):
        name = "rubbish"

        def access(self, exchange: Exchange, config: object) -> int:
            return 3

    with Scene(Rubbish) as scene, pytest.raises(TypeError, match=r"rubbish\.access returned 3"):
        scene.send()


def test_fields_set_in_access_are_laid_over_whatever_is_answered() -> None:
    class Early(Plugin):
        name = "early"

        def access(self, exchange: Exchange, config: object) -> Answer | None:
            exchange.response.set_headers([("X-Early", "1"), ("Content-Type", "text/early"), ("X-Absent", None)])
            return exchange.error(403) if exchange.request.path == "/refused" else None

    with Scene(Early) as scene:
        for target, source in (("/", "service"), ("/refused", "error")):
            outcome = scene.send(target=target)
            assert outcome.source == source
            assert outcome.headers["x-early"] == "1"
            assert outcome.headers["content-type"] == "text/early"


def test_answer_cannot_be_changed_in_the_log_phase() -> None:
    class Late(Plugin):
        name = "late"

        def log(self, exchange: Exchange, config: object) -> None:
            exchange.response.set_header("X-Late", "1")

    with Scene(Late) as scene, pytest.raises(RuntimeError, match="log phase"):
        scene.send()


def test_response_phase_sees_and_replaces_the_whole_answer() -> None:
    class Whole(Plugin):
        name = "whole"

        def response(self, exchange: Exchange, config: object) -> None:
            assert exchange.service.response.body == b"ab"
            exchange.response.status = 203
            exchange.response.set_body(b"whole")

    with Scene(Whole, upstream=Upstream(chunks=[b"a", b"b"])) as scene:
        outcome = scene.send()
    assert (outcome.status, outcome.body) == (203, b"whole")


def test_what_is_concealed_is_not_serialized() -> None:
    entries: list[dict[str, Any]] = []

    class Concealing(Plugin):
        name = "concealing"

        def access(self, exchange: Exchange, config: object) -> None:
            exchange.request.conceal_argument("a b")
            exchange.request.conceal_header("X-Key")

        def log(self, exchange: Exchange, config: object) -> None:
            entries.append(exchange.serialize())

    with Scene(Concealing) as scene:
        scene.send(target="/x?a%20b=secret&c=d&a+b", headers={"X-KEY": "secret", "Authorization": "secret"})
    asked = entries[0]["request"]
    assert asked["uri"] == "/x?a%20b=***&c=d&a+b"
    assert asked["querystring"] == {"a b": ["***", True], "c": "d"}
    assert (asked["headers"]["x-key"], asked["headers"]["authorization"]) == ("REDACTED", "REDACTED")
