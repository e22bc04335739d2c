# SPDX-License-Identifier: Apache-2.0
"""Is the broken hop marked where it broke, in any terminal, whatever the document is?"""

from __future__ import annotations

import random
from typing import Any

import pytest

from pylae.explain.document import document_of
from pylae.explain.drawing import Style, draw
from pylae.explain.examples import ADMIN_URL as ADMIN
from pylae.explain.examples import attempt, record
from tests.unit.explain.golden import GOLDEN
from tests.unit.explain.golden.base import Golden, copied
from tests.unit.explain.test_verdict import corrupt, poisoned


def document(of: dict[str, Any], **given: Any) -> dict[str, Any]:
    return document_of(of, **{"admin_url": ADMIN, "route_explanation": None, "is_config_current": True, **given})


def path_of(of: dict[str, Any], **style: Any) -> list[str]:
    lines = draw(document(of), Style(**style)).splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("  client"))
    return lines[at : at + 2]


def by_finding(finding: str) -> dict[str, Any]:
    return next(golden.record for golden in GOLDEN if golden.finding == finding)


@pytest.mark.parametrize(
    ("finding", "drawn"),
    [
        ("first_lb_gave_up", "  client ──> first LB ──X gateway ··> upstream"),
        ("no_service", "  client ──> gateway X ··> upstream"),
        ("credential_missing", "  client ──> gateway ──> plugin X ··> upstream"),
        ("no_such_name", "  client ──> gateway ──X name server ··> upstream"),
        ("host_unreachable", "  client ──> gateway ──X network ··> upstream"),
        ("bad_gateway_of_load_balancer", "  client ──> gateway ──> second LB ──X upstream"),
        ("closed_at_reuse", "  client ──> gateway ──> [second LB] ──X upstream"),
        ("plain_http_to_tls", "  client ──> gateway ──X upstream"),
        ("client_gave_up", "  client ──X [first LB] ··> gateway ··> upstream"),
    ],
)
def test_the_broken_hop_is_marked(finding: str, drawn: str) -> None:
    line, mark = path_of(by_finding(finding), width=0)
    assert line == drawn
    assert mark.strip().startswith("^ here: ")


def test_what_a_load_balancer_passed_on_is_met_at_the_gateway() -> None:
    large = record("request_header_too_large", status=400, client={"ip": "192.0.2.9", "forwarded_for_count": 1})
    line, mark = path_of(large, width=0)
    assert line == "  client ──> first LB ──X gateway ··> upstream"
    assert line.index("gateway") == mark.index("^")


def test_a_trusted_network_alone_is_no_load_balancer() -> None:
    trusted = {"ip": "10.1.0.2", "peer": "10.1.0.2:40000", "is_trusted": True}
    gone = record("client_gone", attempt(None), status=499, duration_ms=7312.0, client=trusted)
    assert path_of(gone, width=0)[0] == "  client ──X [first LB] ··> gateway ··> upstream"
    refused = record("connect_refused", attempt("connect_refused"), client=trusted)
    assert path_of(refused, width=0)[0] == "  client ──> gateway ──> [second LB] ──X upstream"
    for behind in ({"forwarded_for_count": 1}, {"via": "1.1 lb"}, {"ip": "192.0.2.9"}):
        passed = record("client_gone", attempt(None), status=499, duration_ms=7312.0, client={**trusted, **behind})
        assert path_of(passed, width=0)[0] == "  client ──> first LB ──X gateway ··> upstream"


def test_the_mark_stands_below_the_hop() -> None:
    line, mark = path_of(by_finding("plain_http_to_tls"))
    assert line.index("upstream") == mark.index("^")


def test_a_wide_terminal_sees_who_it_was() -> None:
    line, _ = path_of(by_finding("bad_gateway_of_load_balancer"), width=100)
    assert line == "  client 192.0.2.9 ──> gateway ──> second LB nginx 10.0.0.7:8080 ──X upstream"


def test_a_plain_terminal_gets_plain_text() -> None:
    for golden in GOLDEN:
        assert draw(document(golden.record), Style(is_ascii=True)).isascii()
    assert path_of(by_finding("plain_http_to_tls"), is_ascii=True, width=50)[0] == "  client --> gateway --X upstream"


def test_colours_only_where_they_are_asked_for() -> None:
    found = document(by_finding("plain_http_to_tls"))
    assert "\x1b" not in draw(found, Style())
    assert "\x1b[31m^ here: " in draw(found, Style(is_coloured=True))


@pytest.mark.parametrize("width", [0, 40, 60, 80, 120])
def test_prose_and_tables_keep_to_the_width(width: int) -> None:
    for golden in GOLDEN:
        for line in draw(document(golden.record), Style(width=width)).splitlines():
            # What is to be copied stays whole, as does a word.
            is_table = line.startswith("  ") and not line.startswith(("  - ", "    "))
            if not line.startswith("    $ ") and not is_table:
                assert len(line) <= max(width, 40) or " " not in line.strip()[max(width, 40) :], line


def test_what_the_router_says_is_drawn() -> None:
    near = {"name": "orders", "failed": [{"condition": "methods", "wanted": ["POST"], "got": "GET"}]}
    found = document(record("no_route", route=None, status=404), route_explanation={"route": None, "nearest": [near]})
    assert "Route `orders` is near, and does not match: methods: wanted `POST`, got `GET`" in draw(found, Style(width=200))


def test_a_changed_configuration_is_said() -> None:
    assert "The configuration has changed since" in draw(document(record("no_service"), is_config_current=False), Style())


def test_a_good_answer_is_drawn_through() -> None:
    drawn = draw(document(record(None, attempt(None, status=200), status=200, kind="sample")), Style(width=0))
    assert "  client ──> gateway ──> upstream\n" in drawn
    assert "X" not in drawn.split("Attempts")[0].replace("HTTP", "")


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_nothing_of_strangers_reaches_the_terminal_raw(golden: Golden) -> None:
    drawn = draw(document(poisoned(copied(golden), "\x1b[2J\u202e\x00")), Style())
    assert not set(drawn) & set("\x1b\u202e\x00\r")


@pytest.mark.parametrize("seed", range(200))
def test_no_document_makes_it_fail(seed: int) -> None:
    dice = random.Random(seed)
    found = document(copied(dice.choice(GOLDEN)))
    for _ in range(dice.randint(1, 6)):
        corrupt(found, dice)
    draw(found, Style(width=dice.choice([0, 20, 80])))
