# SPDX-License-Identifier: Apache-2.0
"""How does an explanation look in a terminal? The path with the broken hop marked, then evidence, cure, attempts.

It draws the document of `/explain/ID`, which may be of another version of the gateway: what it does not find is left out,
and whatever strangers sent is escaped.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pylae.explain import path
from pylae.explain.words import count, escaped, ms, share

NARROWEST: Final = 40
CALLS: Final = ("curl ", "nc ", "openssl ", "pylae ", "dig ", "getent ", "ip route ", "sysctl ", "date ")
"""What a line begins with that is to be typed as it is."""


@dataclass(frozen=True, slots=True)
class Style:
    """How to draw.

    Attributes:
        width: columns of the terminal.
        is_ascii: nothing but ASCII.
        is_coloured: with the escapes of a terminal.
    """

    width: int = 100
    is_ascii: bool = False
    is_coloured: bool = False

    def bold(self, text: str) -> str:
        """A heading."""
        return f"\x1b[1m{text}\x1b[0m" if self.is_coloured else text

    def red(self, text: str) -> str:
        """What is broken."""
        return f"\x1b[31m{text}\x1b[0m" if self.is_coloured else text

    def typed(self, text: str) -> str:
        """Text that the terminal can show."""
        return text.encode("ascii", "backslashreplace").decode() if self.is_ascii else text


def draw(document: Mapping[str, Any], style: Style) -> str:
    """The document as text, without a line end.

    Args:
        document: of `/explain/ID`.
        style: of the terminal.
    """
    verdict = _mapping(document, "verdict")
    blocks = [
        _wrapped(style, _title(document)),
        path.draw(document, width=style.width, is_ascii=style.is_ascii, mark=style.red),
        _verdict(verdict, style),
        _lines("What was seen", verdict.get("evidence"), style),
        _lines("What to do", verdict.get("cure"), style),
        _lines("What would tell", verdict.get("probes"), style),
        _attempts(document, style),
        _plugins(document, style),
        _route(document, style),
    ]
    if document.get("is_config_current") is False:
        blocks.append(
            _wrapped(style, "The configuration has changed since: what served this request is not what is in force now.")
        )
    return "\n\n".join(style.typed(block) for block in blocks if block)


def outline(document: Mapping[str, Any], style: Style) -> str:
    """The way, the verdict, what was seen and what to do: what the manual shows of an example."""
    verdict = _mapping(document, "verdict")
    blocks = [
        path.draw(document, width=style.width, is_ascii=style.is_ascii, mark=style.red),
        _verdict(verdict, style),
        _lines("What was seen", verdict.get("evidence"), style),
        _lines("What to do", verdict.get("cure"), style),
    ]
    return "\n\n".join(style.typed(block) for block in blocks if block)


def _title(document: Mapping[str, Any]) -> str:
    request = _mapping(document, "request")
    what = _text(request.get("line")) or f"{_text(request.get('method')) or 'a request'} {_text(request.get('path'))}".strip()
    host = f" of host {_text(request.get('host'))}" if request.get("host") else ""
    status = document.get("status")
    said = f"{status}" if isinstance(status, int) else "no answer"
    after = f" after {ms(_number(document.get('duration_ms')))}" if _number(document.get("duration_ms")) is not None else ""
    return (
        f"{what}{host}: {said}{after}, {_text(document.get('time')) or 'time not known'}, id {_text(document.get('request_id'))}"
    )


def _verdict(verdict: Mapping[str, Any], style: Style) -> str:
    lines = [style.bold(_wrapped(style, _text(verdict.get("summary"), 1000)))]
    if verdict.get("cause") is None:
        return lines[0]
    confidence = _number(verdict.get("confidence"))
    flags = _mapping(verdict, "flags")
    also = [
        f"{name} {_text(flags.get(key))}"
        for key, name in (("envoy", "Envoy"), ("tyk", "Tyk"), ("proxy_status", "Proxy-Status"))
        if flags.get(key)
    ]
    facts = [
        f"hop {path.label(verdict.get('hop'))}" + (f", {share(confidence)} sure" if confidence is not None else ""),
        f"phase {_text(verdict.get('phase'))}",
        f"fault {_text(verdict.get('cause'))}",
        f"finding {_text(verdict.get('finding'))}",
        *([f"also known as: {', '.join(also)}"] if also else []),
    ]
    lines.append(_wrapped(style, "; ".join(facts)))
    return "\n".join(lines)


def _lines(heading: str, lines: Any, style: Style) -> str:
    found = [escaped(line, 2000) for line in lines if isinstance(line, str) and line] if isinstance(lines, list) else []
    if not found:
        return ""
    drawn = [f"    $ {line}" if line.startswith(CALLS) else _wrapped(style, line, "  - ", "    ") for line in found]
    return "\n".join([style.bold(heading), *drawn])


def _wrapped(style: Style, text: str, first: str = "", others: str = "") -> str:
    return textwrap.fill(
        text,
        max(style.width, NARROWEST),
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _attempts(document: Mapping[str, Any], style: Style) -> str:
    attempts = _mappings(document, "attempts")
    if not attempts:
        return ""
    head = ("#", "at", "address", "connection", "sent", "came", "status", "ended", "fault")
    rows = [_attempt_row(number, attempt) for number, attempt in enumerate(attempts, 1)]
    return f"{style.bold('Attempts')}\n{_table(head, rows, style.width, spared=('at', 'sent', 'ended', 'connection'))}"


def _attempt_row(number: int, attempt: Mapping[str, Any]) -> Sequence[str]:
    reused = attempt.get("reused")
    if isinstance(reused, int):
        connection = f"pooled, {count(reused, 'request')}, idle {ms(_number(attempt.get('idle_ms')))}"
    elif _number(attempt.get("connect_ms")) is not None:
        connection = f"fresh, in {ms(_number(attempt.get('connect_ms')))}"
    else:
        connection = "none"
    offset = _number(attempt.get("offset_ms"))
    return (
        str(number),
        "" if offset is None else ms(offset),
        _text(attempt.get("address")) or _text(attempt.get("host")),
        connection,
        _text(attempt.get("sent_bytes")),
        _text(attempt.get("received_bytes")),
        _text(attempt.get("status")) or "-",
        _text(attempt.get("ended")),
        _text(attempt.get("fault")) or "-",
    )


def _plugins(document: Mapping[str, Any], style: Style) -> str:
    steps = _mappings(document, "plugins")
    if not steps:
        return ""
    head = ("plugin", "phase", "took", "outcome")
    rows = []
    for step in steps:
        took = _number(step.get("took_us"))
        status = f" {step['status']}" if isinstance(step.get("status"), int) else ""
        told = "" if took is None else ms(took / 1000)
        rows.append((_text(step.get("name")), _text(step.get("phase")), told, f"{_text(step.get('outcome'))}{status}"))
    return f"{style.bold('Plugins')}\n{_table(head, rows, style.width, spared=('took',))}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, spared: Sequence[str]) -> str:
    """Columns as wide as need be; those that can be spared go while it does not fit."""
    columns = list(range(len(head)))
    widths = [max(len(row[at]) for row in (head, *rows)) for at in columns]
    for name in spared:
        if sum(widths[at] + 2 for at in columns) + 2 <= max(width, NARROWEST):
            break
        columns.remove(head.index(name))
    return "\n".join(f"  {'  '.join(row[at].ljust(widths[at]) for at in columns)}".rstrip() for row in (head, *rows))


def _route(document: Mapping[str, Any], style: Style) -> str:
    route, service = _mapping(document, "route"), _mapping(document, "service")
    lines = []
    if route.get("id") or route.get("name"):
        why = ", ".join(f"{_text(one.get('condition'))} {_text(one.get('value'))}" for one in _mappings(route, "why"))
        lines.append(f"Route {_text(route.get('name') or route.get('id'))}{f', for {why}' if why else ''}")
    if service:
        where = f"{_text(service.get('protocol'))}://{_text(service.get('host'))}:{_text(service.get('port'))}"
        lines.append(f"Service {_text(service.get('name') or service.get('id'))}: {where}")
    if not lines:
        return ""
    return "\n".join([style.bold("Route"), *(_wrapped(style, line, "  ", "    ") for line in lines)])


def _mapping(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = of.get(key)
    return found if isinstance(found, Mapping) else {}


def _mappings(of: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = of.get(key)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15 else None


def _text(value: Any, limit: int = 200) -> str:
    """A value from a record, fit to be shown."""
    return "" if value is None else escaped(str(value), limit)
