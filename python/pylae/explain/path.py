# SPDX-License-Identifier: Apache-2.0
"""Which way did the request take, and where did it break? One line from the client to the upstream.

client ──> first LB ──> gateway ──> second LB ──X upstream
                                                ^ here
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pylae.explain.case import LOAD_BALANCERS
from pylae.explain.facts import ClientFacts
from pylae.explain.verdict import SURE
from pylae.explain.words import escaped

LABELS: Final = {
    "client": "client",
    "first_lb": "first LB",
    "gateway": "gateway",
    "plugin": "plugin",
    "dns": "name server",
    "network": "network",
    "second_lb": "second LB",
    "upstream": "upstream",
}
"""Each hop in the reader's words."""
_ARROWS: Final = {False: ("──>", "──X", "··>"), True: ("-->", "--X", "..>")}
"""Passed, broken, never came so far; in Unicode and in ASCII."""
_NEVER_WHOLE: Final = ("client_gone", "client_tls_failed", "request_timeout")
"""What a client does without a whole request: nothing shows that somebody passed one on."""


def label(hop: Any) -> str:
    """A hop in the reader's words."""
    return LABELS.get(hop, "not known") if isinstance(hop, str) else "none"


@dataclass(frozen=True, slots=True)
class Node:
    """One station on the way."""

    hop: str
    more: str = ""
    """Who it is."""
    is_certain: bool = True

    def text(self, *, is_long: bool) -> str:
        """As it is drawn; in brackets what may not be there."""
        name = LABELS[self.hop]
        name = name if self.is_certain else f"[{name}]"
        return f"{name} {self.more}" if is_long and self.more else name


def draw(document: Mapping[str, Any], *, width: int, is_ascii: bool, mark: Callable[[str], str]) -> str:
    """The way with the broken hop marked; short where the terminal is narrow.

    Args:
        document: of `/explain/ID`.
        width: columns of the terminal.
        is_ascii: nothing but ASCII.
        mark: makes the mark stand out.
    """
    verdict = document.get("verdict")
    verdict = verdict if isinstance(verdict, Mapping) else {}
    hop = verdict.get("hop")
    nodes = _nodes(document, hop if isinstance(hop, str) else None, verdict)
    where = _met_at(hop, verdict.get("cause"), nodes)
    broken = next((at for at, node in enumerate(nodes) if node.hop == where), None)
    # A load balancer that wrote a 502 was reached; what broke is the way from it. A client that left broke the way to us.
    arrow = None if broken is None else broken + 1 if where in ("client", "first_lb", "second_lb") else broken
    is_station = hop in ("gateway", "plugin")
    line, begin = _line(nodes, broken, arrow, is_station=is_station, is_long=True, is_ascii=is_ascii)
    if len(line) > width:
        line, begin = _line(nodes, broken, arrow, is_station=is_station, is_long=False, is_ascii=is_ascii)
    if broken is None:
        return line
    here = f"^ here: {escaped(str(verdict.get('cause')), 60)}"
    return f"{line}\n{' ' * begin}{mark(here)}"


def _nodes(document: Mapping[str, Any], hop: str | None, verdict: Mapping[str, Any]) -> list[Node]:
    confidence = verdict.get("confidence")
    is_sure = isinstance(confidence, int | float) and confidence >= SURE
    client = _part(document, "client")
    nodes = [Node("client", _text(client.get("ip")))]
    if hop == "first_lb" or _has_first_lb(document):
        nodes.append(Node("first_lb", _text(client.get("peer"))))
    elif hop == "client" and not is_sure:
        nodes.append(Node("first_lb", is_certain=False))
    nodes.append(Node("gateway"))
    if hop in ("plugin", "dns", "network"):
        nodes.append(Node(hop, _plugin(document) if hop == "plugin" else ""))
    attempts = document.get("attempts")
    last = attempts[-1] if isinstance(attempts, list) and attempts and isinstance(attempts[-1], Mapping) else {}
    called = _text(last.get("address") or last.get("host") or _part(document, "service").get("host"))
    if hop == "second_lb":
        # Whom we call is the load balancer; what stands behind it we don't see.
        author = LOAD_BALANCERS.get(str(_part(document, "answer").get("written_by")), "")
        return [*nodes, Node("second_lb", f"{author} {called}".strip()), Node("upstream")]
    if hop == "upstream" and not is_sure:
        nodes.append(Node("second_lb", is_certain=False))
    return [*nodes, Node("upstream", called)]


def _met_at(hop: Any, cause: Any, nodes: list[Node]) -> Any:
    """Where the mark stands: what a client did wrong and a load balancer passed on is met at the gateway."""
    is_passed_on = hop == "client" and cause not in _NEVER_WHOLE and any(node.hop == "first_lb" for node in nodes)
    return "gateway" if is_passed_on else hop


def _line(
    nodes: list[Node], broken: int | None, arrow_of: int | None, *, is_station: bool, is_long: bool, is_ascii: bool
) -> tuple[str, int]:
    """The line, and the column of the mark."""
    passed, failed, never = _ARROWS[is_ascii]
    line, begin = "  ", 2
    for at, node in enumerate(nodes):
        if at:
            is_passed = arrow_of is None or at < arrow_of or (is_station and at == broken)
            line += f" {passed if is_passed else failed if at == arrow_of else never} "
        if at == broken:
            begin = len(line)
        line += node.text(is_long=is_long)
        if is_station and at == broken:
            line += " X"
    return line, begin


def _has_first_lb(document: Mapping[str, Any]) -> bool:
    """Did a field come that a load balancer adds, or the client's address from somebody else? `trusted_ips` alone show none."""
    client, headers = _part(document, "client"), _part(document, "request").get("headers")
    found = ClientFacts(
        ip=_text(client.get("ip")) or None, peer=_text(client.get("peer")) or None, is_trusted=client.get("is_trusted") is True
    )
    names = [one[0] for one in headers if isinstance(one, list | tuple) and one] if isinstance(headers, list) else []
    is_added = any(isinstance(name, str) and name.lower() in ("forwarded", "via") for name in names)
    return bool(client.get("via") or client.get("forwarded_for_count") or is_added or found.is_told)


def _plugin(document: Mapping[str, Any]) -> str:
    steps = document.get("plugins")
    steps = [step for step in steps if isinstance(step, Mapping)] if isinstance(steps, list) else []
    decided = [step for step in steps if step.get("outcome") in ("answered", "failed")]
    return _text((decided or steps or [{}])[-1].get("name"))


def _part(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str:
    return escaped(str(value), 60) if value else ""
