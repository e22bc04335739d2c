# SPDX-License-Identifier: Apache-2.0
"""Do others on the way give up before we do?

Learned from records: callers of one network who left a Route's requests unanswered after about the same time each, and
load balancers behind us that answered 504 long before our own timer.
"""

from __future__ import annotations

import ipaddress
import statistics
from collections import OrderedDict, deque
from typing import Final

from pylae.control.explain import Head, Kept
from pylae.control.warnings import FORGOTTEN_AFTER_S, Warnings

MAX_KEYS: Final = 1000
"""Pairs of Route and network that are watched; beyond it the one that was longest not seen goes."""
REMEMBERED: Final = 8
"""Departures of one pair."""
FEWEST: Final = 3
SHARE: Final = 0.6
"""Of the departures remembered: people give up at any time, timers at one."""
NEAR_RATIO: Final = 0.05
SHORTEST_MS: Final = 1000.0
"""Who leaves earlier had other reasons."""
WELL_BEFORE_RATIO: Final = 0.9
LOAD_BALANCERS: Final = frozenset(
    {
        *("nginx", "openresty", "haproxy", "envoy", "elb", "cloudfront", "cloudflare", "traefik", "kubernetes_ingress", "apache"),
        *("varnish", "caddy", "kong", "pylae", "google", "azure"),
    }
)
"""Authors of a 504 who are no application."""
_PREFIX_BITS: Final = {4: 24, 6: 64}


class TimeoutOrder:
    """Watches for timeouts in the wrong order.

    Args:
        warnings: are given what was learned.
    """

    def __init__(self, warnings: Warnings) -> None:
        self._warnings = warnings
        self._departures: OrderedDict[tuple[str, str], deque[tuple[float, float]]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<timeout order watched={len(self._departures)}>"

    def take(self, kept: Kept, head: Head) -> None:
        """Learns from one record."""
        if kept.cause == "client_gone":
            self._departed(kept, head)
        elif kept.cause == "timeout_behind":
            self._answered(kept, head)

    def _departed(self, kept: Kept, head: Head) -> None:
        elapsed_ms = None if head.client is None else head.client.departed_after_ms
        elapsed_ms = head.duration_ms if elapsed_ms is None else elapsed_ms
        ours_ms, network = _ours_ms(head), _network(None if head.client is None else head.client.peer)
        attempts = head.attempts or []
        if elapsed_ms is None or ours_ms is None or network is None or not attempts:
            return
        if any(attempt.head_ms is not None for attempt in attempts):
            return  # it had its answer, or a part of it
        if not SHORTEST_MS <= elapsed_ms < ours_ms * (1 - NEAR_RATIO):
            return
        now_s = self._warnings.now_s()
        key = kept.route[0] or kept.route[1] or "", network
        known = self._departures.setdefault(key, deque(maxlen=REMEMBERED))
        self._departures.move_to_end(key)
        if len(self._departures) > MAX_KEYS:
            self._departures.popitem(last=False)
        while known and now_s - known[0][0] > FORGOTTEN_AFTER_S:
            known.popleft()
        known.append((now_s, elapsed_ms))
        middle_ms = statistics.median(departed_ms for _, departed_ms in known)
        near = [departed_ms for _, departed_ms in known if abs(departed_ms - middle_ms) <= NEAR_RATIO * middle_ms]
        if len(near) >= FEWEST and len(near) >= SHARE * len(known):
            facts = {
                "where": "before",
                "peers": network,
                "route_id": kept.route[0],
                "route": kept.route[1] or kept.route[0],
                **_service_facts(kept),
                "elapsed_ms": round(statistics.median(near), 3),
                "ours_ms": ours_ms,
                "count": len(near),
            }
            self._warnings.give("timeout_order", f"before {' '.join(key)}", facts)

    def _answered(self, kept: Kept, head: Head) -> None:
        author = None if head.answer is None else head.answer.written_by
        read_ms = None if head.service is None else head.service.read_timeout_ms
        elapsed_ms = head.attempts[-1].head_ms if head.attempts else None
        if author not in LOAD_BALANCERS or not read_ms or elapsed_ms is None:
            return
        if SHORTEST_MS <= elapsed_ms < read_ms * WELL_BEFORE_RATIO:
            facts = {
                "where": "behind",
                "written_by": author,
                **_service_facts(kept),
                "elapsed_ms": elapsed_ms,
                "ours_ms": read_ms,
            }
            self._warnings.give("timeout_order", f"behind {kept.service[0] or kept.service[1] or ''} {author}", facts)


def _service_facts(kept: Kept) -> dict[str, str | None]:
    return {"service_id": kept.service[0], "service": kept.service[1] or kept.service[0]}


def _ours_ms(head: Head) -> float | None:
    """How long we may wait for an answer: with every attempt there is."""
    service = head.service
    if service is None or not service.read_timeout_ms:
        return None
    return service.read_timeout_ms * (max(service.retries or 0, 0) + 1)


def _network(peer: str | None) -> str | None:
    """The network of who connected: load balancers are many of one kind.

    Args:
        peer: an address, perhaps with a port: `192.0.2.7:4711`, `[2001:db8::1]:4711`.
    """
    if peer is None:
        return None
    if peer.startswith("["):
        peer = peer[1:].partition("]")[0]
    elif peer.count(":") == 1:
        peer = peer.partition(":")[0]
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    return str(ipaddress.ip_network((address, _PREFIX_BITS[address.version]), strict=False))
