# SPDX-License-Identifier: Apache-2.0
"""Do the gateway's own warnings stand beside the Service they are about?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae.admin.warnings import shown
from pylae.control.warning_texts import TEXTS
from pylae.control.warnings import Warnings
from pylae.doctor.configured import Subject
from pylae.doctor.findings import Finding
from pylae.doctor.warned import KINDS, judge

ORDERS = Subject(
    {"id": "s1", "name": "orders", "host": "orders.test", "port": 80},
    [{"id": "r1", "name": "shop"}],
    {"id": "u1", "name": "orders.test"},
    [{"target": "10.0.0.1:8080", "weight": 1}],
)
OTHER = Subject({"id": "s2", "name": "other", "host": "other.test", "port": 80})


def warned(kind: str, key: str, **facts: Any) -> list[Finding]:
    """What the doctor makes of a warning, as the Admin API shows it, when it looks at both Services."""
    warnings = Warnings(lambda level, text: None, "http://localhost:8001")
    warnings.give(kind, key, facts)
    rows = [shown(warnings, one) for one in warnings.every()]
    return judge(rows, [ORDERS, OTHER], {"s2": ["10.0.0.9:80"]}, is_everything=False)


def test_every_kind_of_warning_is_known() -> None:
    assert set(KINDS) == set(TEXTS)


@pytest.mark.parametrize("kind", sorted(TEXTS))
def test_a_warning_is_told_in_the_gateways_own_words_and_breaks_nothing_yet(kind: str) -> None:
    (finding,) = warned(kind, "orders.test")
    assert finding.document()["status"] is None
    assert finding.summary
    assert finding.document()["verdict"]["cure"]


def test_a_warning_belongs_to_the_route_or_the_address_it_names() -> None:
    (finding,) = warned("response_header_size", "r1", route="r1", header="Set-Cookie", bytes=60_000, limit_bytes=65_536)
    assert (finding.service, finding.route) == (ORDERS.service, ORDERS.routes[0])
    assert finding.cause == "response_header_too_large"
    (finding,) = warned("idle_timeout", "10.0.0.1:8080", address="10.0.0.1:8080", idle_limit_ms=5000, our_idle_limit_ms=60_000)
    assert finding.service == ORDERS.service
    assert (finding.cause, finding.finding) == ("closed_before_headers", "idle_timeout_below_ours")
    (finding,) = warned("idle_timeout", "10.0.0.9:80", address="10.0.0.9:80")
    assert finding.service == OTHER.service
    assert warned("idle_timeout", "10.0.0.8:80", address="10.0.0.8:80") == []


def test_a_warning_of_a_route_that_is_not_looked_at_is_left_out() -> None:
    assert warned("request_header_size", "r9", route="r9", header="Cookie", bytes=8000, limit_bytes=8192) == []


def test_a_limit_of_what_stands_behind_is_not_blamed_on_the_gateway() -> None:
    facts = {"route": "r1", "header": "Cookie", "bytes": 8000, "limit_bytes": 8192}
    (finding,) = warned("request_header_size", "r1", **facts, whose="nginx")
    assert (finding.hop, finding.cause) == ("second_lb", "header_too_large_behind")
    (finding,) = warned("request_header_size", "r1", **facts, whose="gateway")
    assert finding.cause == "request_header_too_large"
    (finding,) = warned("timeout_order", "s1", service_id="s1", where="behind", written_by="nginx", elapsed_ms=1000)
    assert (finding.hop, finding.cause) == ("second_lb", "timeout_behind")
    (finding,) = warned("timeout_order", "r1", service_id="s1", route="r1", elapsed_ms=1000)
    assert (finding.hop, finding.cause) == ("first_lb", "client_gone")


@pytest.mark.parametrize(("year", "word"), [(2001, "ended"), (2999, "ends")])
def test_a_certificate_is_told_to_have_ended_once_it_has(year: int, word: str) -> None:
    address, not_after = "10.0.0.9:80", f"{year}-01-02T03:04:05.000Z"
    (finding,) = warned("upstream_certificate", address, address=address, subject="CN=a", not_after=not_after)
    assert f" {word} at `{year}-01-02" in finding.summary
    assert finding.evidence[0].startswith("the gateway noticed it once, ")
