# SPDX-License-Identifier: Apache-2.0
"""Where does a request wait that was not answered before this command lost its patience?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast, get_args

from pylae.doctor.findings import Finding, Hop, Phase
from pylae.explain.words import escaped, ms

_WAITS: Final[dict[str, tuple[Hop, str, str]]] = {
    "resolve": ("dns", "resolver_failed", "for the name servers"),
    "connect": ("network", "connect_timeout", "for a connection to the upstream"),
    "tls_handshake": ("upstream", "connect_timeout", "for the upstream's part of the TLS handshake"),
    "send_request": ("upstream", "write_timeout", "for the upstream to take the request"),
    "wait_for_answer": ("upstream", "read_timeout", "for the upstream's answer"),
    "read_answer": ("upstream", "read_timeout", "for the rest of the upstream's answer"),
    "queue": ("gateway", "queue_timeout", "for its turn in the queue of the plugin resilience"),
    "rewrite": ("plugin", "plugin_failed", "for a plugin"),
    "access": ("plugin", "plugin_failed", "for a plugin"),
    "filter": ("plugin", "filter_failed", "for a plugin"),
}
"""By phase: where, what it will end as, and for whom."""


def still_waiting(document: Mapping[str, Any], waited_ms: float) -> Finding | None:
    """What is known of a request that was given up by who sent it; None: it waited for nobody.

    Args:
        document: what `/explain` says of it.
        waited_ms: for how long its sender waited.
    """
    verdict = document.get("verdict")
    phase = verdict.get("phase") if isinstance(verdict, Mapping) else None
    if phase not in _WAITS:
        return None
    hop, cause, whom = _WAITS[phase]
    attempts = [one for one in document.get("attempts") or [] if isinstance(one, Mapping)]
    last = attempts[-1].get("address") if attempts else None
    names = [str(step.get("name")) for step in document.get("plugins") or [] if isinstance(step, Mapping)]
    return Finding(
        hop=hop,
        phase=cast("Phase", phase if phase in get_args(Phase) else "done"),
        cause=cause,
        finding="no_answer_yet",
        summary=f"After {ms(waited_ms)} the request still waits {whom}{f' at {escaped(str(last))}' if last else ''}.",
        # It was not seen to fail, nor why it takes so long.
        confidence=0.6,
        is_broken=False,
        request_id=document.get("request_id"),
        route=document.get("route"),
        service=document.get("service"),
        attempts=tuple(attempts),
        evidence=(
            f"this command gave up after {ms(waited_ms)} (--timeout); the gateway noted that its client went away in `{phase}`",
            *([f"plugins that ran: {', '.join(map(escaped, names))}"] if hop == "plugin" and names else []),
        ),
        cure=("find what takes so long there: its log at this second, its own database, locks, full queues",),
        probes=("the same with a larger --timeout shows how it ends",),
    )
