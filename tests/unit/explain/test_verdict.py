# SPDX-License-Identifier: Apache-2.0
"""Does each kind of fault get the verdict that its facts bear, and never a confident wrong one?"""

from __future__ import annotations

import json
import random
import shlex
from typing import Any

import msgspec
import pytest

from pylae.explain import facts
from pylae.explain.document import document_of
from pylae.explain.examples import ADMIN_URL as ADMIN
from pylae.explain.examples import attempt, pooled, record, request
from pylae.explain.flags import table
from pylae.explain.phases import OF_FAULTS, PHASES
from pylae.explain.rules import RULES
from pylae.explain.verdict import SURE, Verdict, verdict_of
from tests.unit.explain.golden import GOLDEN
from tests.unit.explain.golden.base import FIRST_LB, Golden, copied

HOPS = {"client", "first_lb", "gateway", "plugin", "dns", "network", "second_lb", "upstream"}


def verdict(of: Any) -> Verdict:
    return verdict_of(facts.read(of), admin_url=ADMIN)


def text_of(found: Verdict) -> str:
    return "\n".join((found.summary, *found.evidence, *found.cure, *found.probes))


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_the_verdict_is_what_the_facts_bear(golden: Golden) -> None:
    found = verdict(golden.record)
    assert (found.cause, found.finding, found.hop) == (golden.fault, golden.finding, golden.hop)
    assert ("sure" if found.confidence >= SURE else "thin") == golden.claim, found.confidence
    for text in golden.says:
        assert text in text_of(found), text_of(found)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_a_verdict_is_whole(golden: Golden) -> None:
    found = verdict(golden.record)
    assert found.hop in HOPS
    assert found.phase in PHASES
    assert found.summary.endswith("."), found.summary
    assert found.cure, "no cure"
    assert all(found.evidence), found.evidence
    assert bool(found.probes) == (found.confidence < SURE), found.probes
    assert "None" not in text_of(found), text_of(found)


def test_every_fault_has_a_rule_a_phase_and_a_golden_record() -> None:
    names = set(table())
    assert names <= set(RULES)
    assert names <= set(OF_FAULTS)
    assert names <= {golden.fault for golden in GOLDEN}


def test_a_fault_of_a_later_version_is_told_as_its_worker_told_it() -> None:
    found = verdict(record("of_tomorrow", side="upstream", cure="do this", phrase="it broke"))
    assert (found.cause, found.hop, found.finding) == ("of_tomorrow", "upstream", "not_known_here")
    assert found.confidence < SURE
    assert found.cure == ["do this"]


def test_a_good_answer_is_told_as_one() -> None:
    found = verdict(record(None, attempt(None, status=200), status=200, kind="sample"))
    assert (found.hop, found.cause, found.finding) == (None, None, "nothing_failed")
    assert "200" in found.summary


def test_a_bad_answer_without_a_fault_is_not_told_as_well() -> None:
    found = verdict(record(None, attempt(None, status=503), status=503))
    assert (found.hop, found.cause, found.finding) == ("upstream", None, "answered_without_a_fault")
    assert found.confidence < SURE
    assert found.probes


def test_a_saved_request_tells_what_it_was_saved_from() -> None:
    saved = record(
        None, pooled("closed_before_headers", ended="fin"), attempt(None, offset_ms=2.5, status=200), kind="recovered", status=200
    )
    found = verdict(saved)
    assert found.cause == "closed_before_headers"
    assert found.summary.startswith("Answered 200 by another attempt")


def test_a_reset_from_this_machine_is_surer_than_one_that_crossed_a_network() -> None:
    near = attempt("reset", host="127.0.0.1", address="127.0.0.1:80", ended="rst")
    far = attempt("reset", ended="rst")
    assert verdict(record("reset", far)).confidence < verdict(record("reset", near)).confidence < SURE


def test_an_idle_timeout_is_not_blamed_for_a_connection_that_hardly_idled() -> None:
    young = pooled("closed_before_headers", ended="fin", idle_ms=0.5, idle_limit_ms=59_000.0, our_idle_limit_ms=60_000.0)
    found = verdict(record("closed_before_headers", young, duration_ms=1.0))
    assert found.finding == "closed_at_reuse"
    assert "something else than the idle timeout" in text_of(found)
    assert "after so many requests" in found.cure[0]


def test_a_limit_of_requests_is_never_told_as_none() -> None:
    for carried in (0, 1, 50):
        one = pooled("closed_before_headers", ended="fin", reused=carried)
        said = text_of(verdict(record("closed_before_headers", one, duration_ms=1.0)))
        assert ("upstream_keepalive_max_requests" in said) == (carried > 0)
        assert carried == 0 or f"`upstream_keepalive_max_requests` to at most {carried}" in said
        assert "below that number" not in said


def test_a_large_header_is_probed_as_it_came_and_without_it() -> None:
    large = request(method="POST", path="/a b", largest_header={"name": "X-It's", "bytes": 3000})
    found = verdict(record("header_too_large_behind", attempt(None, status=431), status=431, request=large))
    (with_it, without, bare, _) = found.probes
    assert without == "the same without that header:"
    given = shlex.split(with_it)
    assert given[:4] == ["curl", "-v", "-H", "X-It's: $(head -c 2992 /dev/zero | tr '\\0' a)"]
    assert given[4:] == ["-X", "POST", "-H", "Host: shop.test", "http://10.0.0.7:8080/a b"]
    assert shlex.split(bare) == [*given[:2], *given[4:]]


@pytest.mark.parametrize("seconds", [2, 5, 15, 20, 75])
def test_a_keep_alive_time_is_not_blamed_for_the_end_of_a_request_in_flight(seconds: int) -> None:
    given_up = record("client_gone", attempt(None), status=499, duration_ms=seconds * 1000.0 + 3, **FIRST_LB)
    closed = record("closed_before_headers", attempt("closed_before_headers", ended="fin"), duration_ms=seconds * 1000.0 + 3)
    for one in (given_up, closed):
        said = text_of(verdict(one)).lower()
        assert f"round {seconds} s" in said
        assert "keep-alive" not in said
        assert "keepalive" not in said
    idle = pooled("closed_before_headers", ended="fin", idle_ms=seconds * 1000.0 + 3)
    assert f"round {seconds} s: somebody's timeout (" in text_of(verdict(record("closed_before_headers", idle, duration_ms=1.0)))


def test_the_limit_of_a_head_that_counts_comes_first() -> None:
    line = request(head_bytes=9300, largest_header={"name": "Cookie", "bytes": 9014})
    head = request(head_bytes=33_000, largest_header={"name": "Cookie", "bytes": 8000})
    for asked, limit in ((line, "8,192 bytes"), (head, "32,768 bytes")):
        found = verdict(record("request_header_too_large", status=400, request=asked))
        assert limit in found.evidence[0]


def test_who_shook_hands_is_not_said_to_speak_no_tls() -> None:
    shaken = attempt("closed_before_headers", ended="fin", tls_ms=1.0, tls={"version": "TLSv1.3"})
    said = text_of(verdict(record("closed_before_headers", shaken, duration_ms=3.0)))
    assert "protocol=https" not in said
    assert "PROXY protocol" not in said
    assert "--haproxy-protocol" not in said


def test_a_client_that_left_before_the_handshake_was_over_is_not_told_of_read_timeout() -> None:
    for finding, phase in (("gone_in_tls_handshake", "tls_handshake"), ("gone_while_connecting", "connect")):
        for golden in GOLDEN:
            if golden.finding == finding:
                found = verdict(golden.record)
                assert found.phase == phase
                assert "read_timeout" not in text_of(found)
                assert "had been asked" not in text_of(found)


def test_less_is_claimed_of_a_client_behind_a_load_balancer() -> None:
    alone = record("bad_framing", status=400)
    behind = {**alone, "client": {"via": "1.1 haproxy"}}
    assert verdict(behind).confidence < SURE <= verdict(alone).confidence


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("golden", GOLDEN[:: max(1, len(GOLDEN) // 30)], ids=lambda golden: golden.name)
def test_no_record_makes_it_fail(golden: Golden, seed: int) -> None:
    dice = random.Random(f"{golden.name} {seed}")
    made = copied(golden)
    for _ in range(dice.randint(1, 8)):
        corrupt(made, dice)
    document = document_of(made, admin_url=ADMIN, route_explanation=None, is_config_current=False)
    msgspec.json.encode(document)
    assert document["verdict"]["hop"] in {*HOPS, None}


def corrupt(made: Any, dice: random.Random) -> None:
    """Deletes or spoils one value somewhere."""
    at = made
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return
        key = dice.choice(keys)
        if isinstance(at[key], dict | list) and at[key] and dice.random() < 0.8:
            at = at[key]
            continue
        if dice.random() < 0.3:
            del at[key]
        else:
            at[key] = dice.choice(ABSURD)
        return


ABSURD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**70,
    1e300,
    float("inf"),
    float("nan"),
    "",
    "x" * 100_000,
    "\x1b[31m\u202e\x00`$(reboot)`",
    "\ud800",
    [],
    {},
    [[[]]],
    {"name": {"name": []}},
    ["a", 1, None],
)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_what_strangers_send_is_escaped(golden: Golden) -> None:
    evil = "\x1b[2J\u202e\r\nX: y\x00"
    found = verdict(poisoned(copied(golden), evil))
    for line in (found.summary, *found.evidence, *found.cure, *found.probes):
        assert not set(line) & set("\x1b\u202e\r\n\x00"), line


def poisoned(value: Any, evil: str, key: str = "") -> Any:
    """The same with something evil at the end of every text that names no fault, phase or time."""
    if isinstance(value, dict):
        return {name: poisoned(one, evil, name) for name, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one, evil, key) for one in value]
    if isinstance(value, str) and key not in ("fault", "kind", "state", "written_by", "ended"):
        return value + evil
    return value


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_a_call_can_be_typed_whatever_the_names_are(golden: Golden) -> None:
    evil = "'; reboot; $(reboot) `reboot` \"&|>x"
    found = verdict(poisoned(copied(golden), evil))
    for line in (*found.cure, *found.probes):
        if line.startswith(("curl ", "nc ", "openssl ", "pylae ", "dig ")):
            words = shlex.split(line.removesuffix(" </dev/null"))
            assert "reboot" not in words, line
            assert not any(word.startswith((";", "&", "|", "`", ">")) for word in words), line


def test_the_verdict_is_the_same_from_bytes() -> None:
    for golden in GOLDEN:
        assert verdict(golden.record) == verdict(json.dumps(golden.record).encode())
