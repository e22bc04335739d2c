# SPDX-License-Identifier: Apache-2.0
"""Do warnings begin, stay and end when they should, and does what they say hold for whatever was seen?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from pylae.control.dns import Dns
from pylae.control.expiry import StaleNames
from pylae.control.explain import Explain
from pylae.control.line import WorkerState
from pylae.control.timeout_order import MAX_KEYS, REMEMBERED, TimeoutOrder
from pylae.control.warning_texts import TEXTS
from pylae.control.warnings import (
    FORGOTTEN_AFTER_S,
    LINES_PER_S,
    MAX_ACTIVE,
    MAX_ITEM_BYTES,
    WORKER_KINDS,
    Warned,
    Warnings,
)
from tests.unit.control.on_loop import on_loop
from tests.unit.control.test_explain import item

ADMIN = "http://localhost:8001"
BEGUN_S = 1_800_000_000.0


class Rig:
    """Warnings under a clock that a test turns."""

    def __init__(self) -> None:
        self.now_s = BEGUN_S
        self.lines: list[str] = []
        self.warnings = Warnings(self._log, ADMIN, lambda: self.now_s)

    def _log(self, level: str, text: str) -> None:
        self.lines.append(f"[{level}] {text}")

    def take(self, kind: str, key: str, **facts: Any) -> None:
        self.warnings.take(None, [json.dumps({"kind": kind, "key": key, "facts": facts}).encode()])

    def active(self) -> list[Warned]:
        return list(self.warnings.every())

    def keys(self) -> list[tuple[str, str]]:
        return [(one.kind, one.key) for one in self.active()]

    def only(self) -> Warned:
        (one,) = self.active()
        return one


@pytest.fixture
def rig() -> Rig:
    return Rig()


# === the life of a warning ===


def test_a_warning_is_one_line_and_stays_while_it_is_seen(rig: Rig) -> None:
    facts = {"address": "10.0.0.1:80", "idle_limit_ms": 5000, "our_idle_limit_ms": 60000}
    rig.take("idle_timeout", "10.0.0.1:80", **facts)
    rig.now_s += 60
    rig.take("idle_timeout", "10.0.0.1:80", **{**facts, "idle_limit_ms": 4000})
    one = rig.only()
    assert (one.since_s, one.last_seen_s, one.count) == (BEGUN_S, BEGUN_S + 60, 2)
    assert one.facts["idle_limit_ms"] == 4000
    assert rig.lines == [
        "[warn] the server at `10.0.0.1:80` closes connections that idled for 5000 ms, we keep them for 60.0 s: a request may "
        "meet a connection that is just being closed; hint: set upstream_keepalive_idle_timeout = 4, and reload"
    ]
    told = rig.warnings.told(one)
    assert told.cure[0] == "set upstream_keepalive_idle_timeout = 3, and reload"


def test_a_warning_that_is_not_seen_for_an_hour_is_forgotten_and_new_when_it_comes_back(rig: Rig) -> None:
    rig.take("idle_timeout", "a")
    rig.take("idle_timeout", "b")
    rig.now_s += FORGOTTEN_AFTER_S - 1
    rig.take("idle_timeout", "a")
    rig.now_s += 1
    assert rig.keys() == [("idle_timeout", "a")]
    rig.now_s += FORGOTTEN_AFTER_S
    assert rig.keys() == []
    assert not rig.warnings.counts().total()
    rig.take("idle_timeout", "a")
    assert rig.only().since_s == rig.now_s
    assert len(rig.lines) == 3


def test_what_is_still_so_is_not_counted_again(rig: Rig) -> None:
    for _ in range(3):
        rig.warnings.give("certificate", "id", {}, is_state=True)
        rig.now_s += 30
    assert (rig.only().count, rig.only().last_seen_s) == (1, BEGUN_S + 60)
    rig.warnings.take_back("certificate", "id")
    assert rig.active() == []


def test_warnings_stand_in_order_and_are_counted_by_kind(rig: Rig) -> None:
    for kind, key in (("idle_timeout", "b"), ("upstream_certificate", "a"), ("idle_timeout", "a")):
        rig.take(kind, key)
    assert rig.keys() == [("idle_timeout", "a"), ("idle_timeout", "b"), ("upstream_certificate", "a")]
    after = [(one.kind, one.key) for one in rig.warnings.every(("idle_timeout", "a"))]
    assert after == [("idle_timeout", "b"), ("upstream_certificate", "a")]
    counts = rig.warnings.counts()
    assert counts == {**dict.fromkeys(TEXTS, 0), "idle_timeout": 2, "upstream_certificate": 1}


# === what cannot be relied on ===


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"\x00",
        b"[]",
        b"{}",
        b'{"kind":"idle_timeout"}',
        b'{"kind":"idle_timeout","key":""}',
        b'{"kind":"idle_timeout","key":"a\\nb"}',
        b'{"kind":"idle_timeout","key":"' + b"x" * 181 + b'"}',
        b'{"kind":"certificate","key":"a"}',
        b'{"kind":"nothing","key":"a"}',
        b'{"kind":"idle_timeout","key":"a","facts":[]}',
        b'{"kind":"idle_timeout","key":"a","facts":{"a":{"b":1}}}',
        b'{"kind":"idle_timeout","key":"a","facts":{"a":"' + b"x" * 2049 + b'"}}',
        b'{"kind":"idle_timeout","key":"a","facts":{"a":"' + b"x" * MAX_ITEM_BYTES + b'"}}',
        b'{"kind":"idle_timeout","key":"a","facts":{"a":' + b"[" * 1000 + b"]" * 1000 + b"}}",
        b'{"kind":"idle_timeout","key":"\xff","facts":{}}',
    ],
    ids=range(16),
)
def test_rubbish_is_counted_and_dropped(rig: Rig, rubbish: bytes) -> None:
    rig.warnings.take(None, [rubbish, rubbish], 3)
    assert (rig.warnings.unreadable_count, rig.warnings.lost_count, rig.active()) == (2, 3, [])
    assert len(rig.lines) == 1
    rig.take("idle_timeout", "a")
    assert len(rig.active()) == 1


def test_a_certificate_with_long_names_in_another_script_is_warned_of(rig: Rig) -> None:
    name = "\\xD0\\x96" * 64  # as workers escape 64 letters of two bytes each
    subject = f"CN={name}, O={name}"
    facts = {"address": "192.0.2.7:443", "sni": "a.test", "subject": subject, "issuer": subject}
    rig.take("upstream_certificate", "a.test at 192.0.2.7:443", **facts, not_after="2027-01-31T12:00:00.000Z")
    assert rig.warnings.unreadable_count == 0
    assert rig.only().facts["subject"] == subject
    assert len(rig.lines[0]) < 1024


def test_a_flood_of_warnings_is_bounded_in_memory_and_lines(rig: Rig) -> None:
    for number in range(MAX_ACTIVE + 50):
        rig.take("idle_timeout", f"{number:05}")
    assert rig.keys()[0] == ("idle_timeout", "00050")
    assert len(rig.active()) == MAX_ACTIVE
    assert len(rig.lines) == LINES_PER_S
    rig.now_s += 1
    rig.take("upstream_certificate", "one")
    assert rig.lines[LINES_PER_S] == f"[warn] {MAX_ACTIVE + 50 - LINES_PER_S} more warnings; hint: GET /warnings"
    assert len(rig.lines) == LINES_PER_S + 2


NASTY = "x`y\"z\n\u202e\u2028\x1b[31m$(reboot);' /"


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("value", [None, NASTY, "", -1, 0, 1e308, True, [NASTY]])
def test_every_kind_has_words_whatever_the_facts_are(kind: str, value: Any) -> None:
    names = (
        *("address", "idle_limit_ms", "our_idle_limit_ms", "route", "name", "bytes", "limit_bytes", "whose", "subject"),
        *("not_after", "id", "expires_in_s", "snis", "stale_for_s", "usable_for_s", "error", "where", "peers", "service"),
        *(
            "service_id",
            "elapsed_ms",
            "ours_ms",
            "count",
            "written_by",
            "route_name",
            "header",
            "header_bytes",
            "is_of_line",
            "also",
        ),
    )
    for facts in ({}, dict.fromkeys(names, value), {**dict.fromkeys(names, value), "where": "behind"}):
        told = TEXTS[kind](NASTY, facts, ADMIN)
        for text in (told.text, *told.cure):
            assert text.isprintable()
            assert "None" not in text
        assert told.text
        assert told.cure
        for cure in told.cure:
            assert "$(" not in cure.partition("curl")[2]


def test_the_words_of_what_workers_notice() -> None:
    facts = {
        "route": "r-1",
        "route_name": "orders",
        "header": "Cookie",
        "header_bytes": 7000,
        "bytes": 7000,
        "limit_bytes": 8190,
        "is_of_line": True,
        "whose": "gunicorn",
        "also": ["nginx"],
    }
    assert TEXTS["request_header_size"]("k", facts, ADMIN).text == (
        "the header field `Cookie` of requests to the Route `orders` reached 7,000 bytes, 85% of the limit that `gunicorn` has "
        "by default (8,190 bytes); that is near the limit of `nginx` too"
    )
    of_head = {**facts, "bytes": 60_000, "limit_bytes": 65_536, "is_of_line": False, "whose": "ours", "also": []}
    assert TEXTS["response_header_size"]("k", of_head, ADMIN).text == (
        "the header of answers of the Route `orders` reached 60,000 bytes, 92% of our limit (65,536 bytes); its largest field is "
        "`Cookie` with 7,000 bytes"
    )
    told = TEXTS["upstream_certificate"]("k", {"address": "10.0.0.1:443", "subject": "CN=a", "not_after": "soon"}, ADMIN)
    assert told.text == "the certificate `CN=a` of the server at `10.0.0.1:443` ends at `soon`"
    assert set(WORKER_KINDS) < set(TEXTS)


# === names that are out of date ===


class Names(Rig):
    """Warnings of what two workers report of names."""

    def __init__(self) -> None:
        super().__init__()
        self.workers = [WorkerState(0, 1, 100, None), WorkerState(1, 1, 101, None)]
        self.dns = Dns(lambda: self.workers, self._log, lambda: self.now_s)
        self.dns.listeners.append(StaleNames(self.dns, self.warnings).heard)

    def report(self, worker: int, *, age_s: float, error: str | None = None, ttl_s: float = 30) -> None:
        found_ms = (self.now_s - age_s) * 1000
        made = {
            "name": "a.test",
            "kind": "A",
            "records": [{"address": "10.0.0.1"}],
            "ttl_s": ttl_s,
            "found_ms": found_ms,
            "expires_ms": found_ms + ttl_s * 1000,
            "stale_until_ms": found_ms + 3_600_000,
            "error": error,
        }
        self.dns.take(self.workers[worker], [json.dumps(made).encode()])


def test_a_name_that_no_server_answers_for_is_warned_of_until_one_does() -> None:
    rig = Names()
    rig.report(0, age_s=10)
    rig.report(1, age_s=35)
    assert rig.active() == []
    rig.report(1, age_s=40, error="timeout")
    # The other worker's answer is good.
    assert rig.active() == []
    rig.now_s += 40
    rig.report(0, age_s=50, error="timeout")
    one = rig.only()
    assert (one.kind, one.key) == ("dns_stale", "a.test")
    assert one.facts == {"name": "a.test", "stale_for_s": 20, "usable_for_s": 3550, "error": "timeout"}
    assert (
        rig.warnings.told(one).text
        == ("the addresses of `a.test` are out of date for 20.0 s: timeout; they are used for 59 min more, then requests fail")
        or "3550.0 s" in rig.warnings.told(one).text
    )
    rig.report(1, age_s=0)
    assert rig.active() == []


def test_a_name_that_is_just_asked_for_anew_is_not_warned_of() -> None:
    rig = Names()
    rig.report(0, age_s=89)
    assert rig.active() == []
    rig.report(0, age_s=91)
    assert rig.only().facts["error"] is None


# === timeouts in the wrong order ===


class Timeouts(Rig):
    """Warnings of what records teach."""

    def __init__(self) -> None:
        super().__init__()
        self.explain = Explain(self._log, None, lambda: self.now_s)
        self.order = TimeoutOrder(self.warnings)
        self.explain.listeners.append(self.order.take)
        self._number = 0

    async def keep(self, **fields: Any) -> None:
        self._number += 1
        self.explain.take(None, [item(self._number, **fields)])
        self.explain.look()

    async def leave(self, after_ms: float, peer: str = "10.0.0.7", **fields: Any) -> None:
        record = {
            "fault": "client_gone",
            "client": {"peer": peer, "departed_after_ms": after_ms},
            "route": {"id": "r-1", "name": "orders"},
            "service": {"id": "s-1", "name": "backend", "read_timeout_ms": 60_000, "retries": 5},
            "attempts": [{"ended": "closed: client gone"}],
        }
        await self.keep(**{**record, **fields})


@on_loop
async def test_callers_of_one_network_who_leave_after_the_same_time_have_a_timer() -> None:
    rig = Timeouts()
    await rig.leave(30_010)
    await rig.leave(29_995, peer="10.0.0.8:4711")
    assert rig.active() == []
    await rig.leave(30_400, peer="10.0.0.9")
    one = rig.only()
    assert (one.kind, one.key) == ("timeout_order", "before r-1 10.0.0.0/24")
    assert {name: one.facts[name] for name in ("where", "peers", "elapsed_ms", "ours_ms", "count")} == {
        "where": "before",
        "peers": "10.0.0.0/24",
        "elapsed_ms": 30_010,
        "ours_ms": 360_000,
        "count": 3,
    }
    told = rig.warnings.told(one)
    assert told.text == (
        "callers from `10.0.0.0/24` gave up on requests of the Route `orders` after about 30.0 s, 3 times lately; the Service "
        "`backend` may take 360.0 s: a client or a load balancer before us has the shorter timeout"
    )
    assert told.cure[1].endswith(f"curl -X PATCH {ADMIN}/services/s-1 --data read_timeout=27009 --data retries=0")


@on_loop
async def test_people_who_lose_patience_are_no_timer() -> None:
    rig = Timeouts()
    for after_ms in (5000, 8000, 13_000, 5100, 21_000, 34_000, 5050, 2000):
        await rig.leave(after_ms)
    assert rig.active() == []


@pytest.mark.parametrize(
    "fields",
    [
        {"client": {"peer": "10.0.0.7", "departed_after_ms": 500}},
        {"client": {"peer": "10.0.0.7", "departed_after_ms": 359_000}},
        {"client": {"peer": None, "departed_after_ms": 30_000}},
        {"client": {"peer": "nobody", "departed_after_ms": 30_000}},
        {"client": None},
        {"service": None},
        {"service": {"id": "s-1", "read_timeout_ms": 0}},
        {"service": {"id": "s-1", "read_timeout_ms": 30_000, "retries": 0}},
        {"attempts": []},
        {"attempts": [{"head_ms": 12.5}]},
        {"fault": "read_timeout"},
    ],
    ids=range(11),
)
def test_other_departures_teach_nothing(fields: dict[str, Any]) -> None:
    @on_loop
    async def test() -> None:
        rig = Timeouts()
        for _ in range(5):
            await rig.leave(30_000, **fields)
        assert rig.active() == []

    test()


@on_loop
async def test_departures_of_different_networks_routes_and_hours_are_not_added_up() -> None:
    rig = Timeouts()
    for number in range(3):
        await rig.leave(30_000, peer=f"10.0.{number}.1")
        await rig.leave(30_000, peer=f"2001:db8:{number}::1")
        await rig.leave(30_000, route={"id": f"other-{number}"})
    assert rig.active() == []
    rig = Timeouts()
    for _ in range(5):
        await rig.leave(30_000)
        rig.now_s += FORGOTTEN_AFTER_S / 2 + 1
    assert rig.active() == []
    rig = Timeouts()
    for peer in ("2001:db8::1", "[2001:db8::2]", "[2001:db8::3]:4711"):
        await rig.leave(30_000, peer=peer)
    assert rig.only().facts["peers"] == "2001:db8::/64"


@on_loop
async def test_what_is_remembered_of_departures_is_bounded() -> None:
    rig = Timeouts()
    for number in range(MAX_KEYS + 10):
        await rig.leave(30_000, route={"id": f"r-{number}"})
    assert repr(rig.order) == f"<timeout order watched={MAX_KEYS}>"
    for _ in range(3 * REMEMBERED):
        await rig.leave(30_000)
    assert rig.only().facts["count"] == REMEMBERED


@on_loop
async def test_a_load_balancer_behind_us_that_gives_up_first_is_warned_of() -> None:
    rig = Timeouts()
    record: dict[str, Any] = {
        "fault": "timeout_behind",
        "service": {"id": "s-1", "name": "backend", "read_timeout_ms": 60_000},
        "answer": {"written_by": "haproxy"},
        "attempts": [{"head_ms": 1.0}, {"head_ms": 30_002.0}],
    }
    for fields in (
        {"answer": {"written_by": "application"}},
        {"answer": {"written_by": "unknown"}},
        {"answer": None},
        {"attempts": [{"head_ms": 58_000.0}]},
        {"attempts": [{"head_ms": 20.0}]},
        {"attempts": None},
        {"service": None},
    ):
        await rig.keep(**{**record, **fields})
    assert rig.active() == []
    await rig.keep(**record)
    one = rig.only()
    assert (one.kind, one.key) == ("timeout_order", "behind s-1 haproxy")
    assert rig.warnings.told(one).text == (
        "`haproxy` behind the Service `backend` answers 504 after 30.0 s, we would wait 60.0 s: its timeout decides, ours never "
        "does"
    )
