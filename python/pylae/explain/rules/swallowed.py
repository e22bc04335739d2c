# SPDX-License-Identifier: Apache-2.0
"""Did what we sent arrive? A server that hangs still acknowledges: its kernel does. A network that swallows packets doesn't."""

from __future__ import annotations

from pylae.explain import calls
from pylae.explain.case import Case, Finding
from pylae.explain.words import ms

_PART = 0.8
"""Of the time that was waited, so much without an acknowledgement shows that nothing arrives; retransmissions take some."""


def swallowed(case: Case, evidence: list[str]) -> Finding | None:
    """The finding where nothing of what was sent was acknowledged for as long as was waited.

    Source: tcp_info of Linux, `tcpi_unacked` and `tcpi_last_ack_recv`, read when the timer fired.
    """
    silent, waited = case.attempt.unacknowledged_ms, case.attempt.timer.ms
    if not silent or not waited or silent < waited * _PART:
        return None
    return Finding(
        hop="network",
        name="nothing_arrives",
        summary=f"The connection to {case.server} was made, and then nothing that was sent arrived any more.",
        confidence=0.75,
        evidence=[
            *evidence,
            f"the kernel at the other end acknowledged nothing for {ms(silent)}; a server that only hangs still acknowledges",
        ],
        cure=[
            "look at what lies between: a firewall that lost the connection's state, two ways there and back, a tunnel",
            "large packets alone may be lost (MTU): let ICMP `fragmentation needed` through, or lower the MTU",
            "or the other machine lost its power or its network at that moment",
        ],
        probes=[calls.reach(case.address), *_of_size(case), case.doctor()],
    )


def acknowledged(case: Case) -> list[str]:
    """In words, that all of it arrived."""
    if case.attempt.unacknowledged_ms != 0:
        return []
    return ["the kernel at the other end acknowledged all that was sent: the network carried it there"]


def _of_size(case: Case) -> list[str]:
    found = calls.split_address(case.address)
    return [calls.join(["ping", "-M", "do", "-s", "1472", found[0]])] if found else []
