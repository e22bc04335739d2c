# SPDX-License-Identifier: Apache-2.0
"""Who gives up first when the server is silent, and does everybody before it wait longer?

A hop that gives up before the one behind it gets no answer that says why: the client sees a 504 of the wrong hop, or
none, and the work goes on for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pylae.doctor.aims import Aim
from pylae.doctor.findings import Finding, Hop, Phase
from pylae.explain.words import count, ms

_MARGIN_MS: Final = 1000.0
"""What a hop needs beyond the one behind it, to take its answer."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a user says of the other hops, in ms; None: it is not known."""

    client_ms: float | None = None
    first_lb_ms: float | None = None
    second_lb_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """How long one hop waits for the next.

    Attributes:
        once_ms: for one attempt.
        all_ms: before it answers by itself, all attempts together.
    """

    hop: Hop
    name: str
    once_ms: float | None
    all_ms: float | None
    words: str = ""


def limits(aim: Aim, given: Given) -> list[Limit]:
    """Every hop's, from the client to the server."""
    retries = aim.service.get("retries")
    attempts = (int(retries) if isinstance(retries, int) else 5) + 1
    connect_ms, write_ms, read_ms = (float(aim.wait_ms(f"{name}_timeout")) for name in ("connect", "write", "read"))
    times = count(attempts, "attempt")
    return [
        Limit("client", "client", given.client_ms, given.client_ms),
        Limit("first_lb", "first load balancer", given.first_lb_ms, given.first_lb_ms),
        Limit("gateway", "gateway: connect_timeout", connect_ms, connect_ms * attempts, times),
        Limit("gateway", "gateway: write_timeout", write_ms, write_ms * attempts, f"{times}, if the request may be repeated"),
        Limit("gateway", "gateway: read_timeout", read_ms, read_ms * attempts, f"{times}, if the request may be repeated"),
        Limit("second_lb", "second load balancer", given.second_lb_ms, given.second_lb_ms),
    ]


def first_to_fire(table: Sequence[Limit]) -> Limit | None:
    """Who gives up first when the server takes a request and says nothing."""
    waiting = [limit for limit in table if limit.once_ms and "connect" not in limit.name and "write" not in limit.name]
    return min(waiting, key=lambda limit: limit.once_ms or 0, default=None)


def drawn(table: Sequence[Limit]) -> list[str]:
    """The table for people."""
    first = first_to_fire(table)
    width = max(len(limit.name) for limit in table)
    lines = []
    for limit in table:
        once = "not known" if limit.once_ms is None else ms(limit.once_ms)
        in_all = f"{ms(limit.all_ms)} in all: {limit.words}" if limit.words and limit.all_ms != limit.once_ms else ""
        mark = "  ◄ gives up first" if limit is first else ""
        lines.append(f"{limit.name.ljust(width)}  {once.rjust(10)}  {in_all}{mark}".rstrip())
    return lines


def judge(aim: Aim, given: Given) -> list[Finding]:
    """Times in the wrong order, of those that are known."""
    table = limits(aim, given)
    by_name = {limit.name: limit for limit in table}
    read = by_name["gateway: read_timeout"]
    assert read.once_ms is not None
    assert read.all_ms is not None
    found = []
    if given.second_lb_ms is not None and given.second_lb_ms >= read.once_ms:
        wanted_ms = int(given.second_lb_ms + _MARGIN_MS)
        found.append(
            _finding(
                "gateway",
                "wait_for_answer",
                "read_timeout",
                "gateway_before_second_lb",
                f"The gateway gives up after {ms(read.once_ms)}, the load balancer behind it after {ms(given.second_lb_ms)}.",
                [
                    "the 504 of the load balancer, which would say which server was slow, is never seen",
                    "the request is sent again while the first one is still worked on",
                ],
                [aim.patch(read_timeout=wanted_ms), f"or have the second load balancer give up before {ms(read.once_ms)}"],
                table,
            )
        )
    before: tuple[tuple[Hop, str, float | None], ...] = (
        ("first_lb", "first load balancer", given.first_lb_ms),
        ("client", "client", given.client_ms),
    )
    for hop, name, limit_ms in before:
        if limit_ms is None or limit_ms > read.all_ms:
            continue
        is_once = limit_ms <= read.once_ms
        attempts = round(read.all_ms / read.once_ms)
        share_ms = (
            max(int((limit_ms - _MARGIN_MS) / attempts), 1) if limit_ms > _MARGIN_MS else max(int(limit_ms / 2 / attempts), 1)
        )
        found.append(
            _finding(
                hop,
                "wait_for_answer",
                "client_gone",
                f"{hop}_before_gateway",
                f"The {name} gives up after {ms(limit_ms)}, the gateway after {ms(read.once_ms if is_once else read.all_ms)}.",
                [
                    "the gateway notes 499, and whoever asked sees a fault of the wrong hop, without a request id",
                    *([] if is_once else [f"one attempt of {ms(read.once_ms)} fits, {attempts} attempts do not"]),
                ],
                [
                    aim.patch(read_timeout=share_ms),
                    *_once(aim, read.once_ms, limit_ms, attempts),
                    f"or have the {name} wait for more than {ms(read.all_ms)}",
                ],
                table,
            )
        )
        break  # what holds for the first load balancer holds for the client before it
    if given.client_ms is not None and given.first_lb_ms is not None and given.client_ms <= given.first_lb_ms:
        found.append(
            _finding(
                "client",
                "wait_for_answer",
                "client_gone",
                "client_before_first_lb",
                f"The client gives up after {ms(given.client_ms)}, the first load balancer after {ms(given.first_lb_ms)}.",
                ["what the load balancer would answer is never seen"],
                [f"have the client wait for more than {ms(given.first_lb_ms)}"],
                table,
            )
        )
    return found


def _once(aim: Aim, once_ms: float, limit_ms: float, attempts: int) -> list[str]:
    """How a single attempt gets all of the time, where there are several."""
    if attempts < 2:
        return []
    if once_ms < limit_ms:
        return ["or try once, so that the one attempt has the whole time:", aim.patch(retries=0)]
    longest_ms = int(limit_ms - _MARGIN_MS) if limit_ms > _MARGIN_MS else max(int(limit_ms / 2), 1)
    return ["or try once, so that the one attempt has the whole time:", aim.patch(retries=0, read_timeout=longest_ms)]


def _finding(
    hop: Hop, phase: Phase, cause: str, finding: str, summary: str, evidence: list[str], cure: list[str], table: Sequence[Limit]
) -> Finding:
    return Finding(
        hop=hop,
        phase=phase,
        cause=cause,
        finding=finding,
        summary=summary,
        confidence=0.9,
        is_broken=False,
        evidence=(*evidence, *(f"{limit.name}: {ms(limit.once_ms)}" for limit in table if limit.once_ms is not None)),
        cure=tuple(cure),
    )
