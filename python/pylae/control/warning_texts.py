# SPDX-License-Identifier: Apache-2.0
"""How is a warning told to a person, and what mends what it warns of?

Facts come from workers, and what they hold from outside: whatever is not there or absurd is told as not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from pylae.explain.words import escaped, ms, quoted, size

Facts = Mapping[str, Any]
_MS: Final = 1000.0
_DAY_S: Final = 86_400.0
_MOST: Final = 1e15
MAX_IN_PATH_CHARACTERS: Final = 128
OURS: Final = (None, "gateway", "ours", "pylae")
"""Whose limit may be our own."""


@dataclass(frozen=True, slots=True)
class Told:
    """A warning in words."""

    text: str
    cure: list[str]


def _idle_timeout(key: str, facts: Facts, admin_url: str) -> Told:
    del admin_url
    address, theirs, ours = _text(facts, "address") or key, _number(facts, "idle_limit_ms"), _number(facts, "our_idle_limit_ms")
    kept = "without end" if ours == 0 else f"for {ms(ours)}"
    below_s = "a time below that" if theirs is None else str(max(int(theirs * 0.8 / _MS), 1))
    return Told(
        f"the server at {quoted(address)} closes connections that idled for {ms(theirs)}, we keep them {kept}: "
        "a request may meet a connection that is just being closed",
        [
            f"set upstream_keepalive_idle_timeout = {below_s}, and reload",
            f"or let the server keep idle connections for longer than {'we do' if not ours else ms(ours)}",
        ],
    )


def _request_header_size(key: str, facts: Facts, admin_url: str) -> Told:
    del admin_url
    return Told(
        _header_text("requests to", key, facts),
        [
            "send less in this field: a smaller cookie, a token without so many claims",
            "or raise the limit: nginx_http_large_client_header_buffers = 4 16k here, large_client_header_buffers in nginx, "
            "tune.bufsize in HAProxy, --limit-request-field_size in gunicorn, --max-http-header-size in node",
        ],
    )


def _response_header_size(key: str, facts: Facts, admin_url: str) -> Told:
    del admin_url
    return Told(
        _header_text("answers of", key, facts),
        [
            "let the server send less in this field",
            "or raise the limit where it stands: proxy_buffer_size in nginx, tune.bufsize in HAProxy",
        ],
    )


def _header_text(whose: str, key: str, facts: Facts) -> str:
    route = quoted(_text(facts, "route_name") or _text(facts, "route") or key)
    field = quoted(_text(facts, "header"))
    taken, limit = _number(facts, "bytes"), _number(facts, "limit_bytes")
    share = f"{taken / limit:.0%} of " if taken is not None and limit else ""
    is_of_line = facts.get("is_of_line") is True
    what = f"the header field {field} of" if is_of_line else "the header of"
    owner = _text(facts, "whose")
    of_whom = "our limit" if owner in OURS else f"the limit that {quoted(owner)} has by default"
    more = "" if is_of_line else f"; its largest field is {field} with {_size(_number(facts, 'header_bytes'))}"
    also = facts.get("also")
    others = dict.fromkeys(quoted(name, 32) for name in also if isinstance(name, str)) if isinstance(also, list) else {}
    near = f"; that is near the limit of {', '.join(others)} too" if others else ""
    return f"{what} {whose} the Route {route} reached {_size(taken)}, {share}{of_whom} ({_size(limit)}){more}{near}"


def _is_past(text: object) -> bool:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC) < datetime.now(UTC)
    except (ValueError, OverflowError):
        return False


def _upstream_certificate(key: str, facts: Facts, admin_url: str) -> Told:
    del admin_url
    when = "ended" if _is_past(facts.get("not_after")) else "ends"
    return Told(
        f"the certificate {quoted(_text(facts, 'subject'))} of the server at {quoted(_text(facts, 'address') or key)} {when} at "
        f"{quoted(_text(facts, 'not_after'))}",
        ["renew it on the server, and look whether what renews it runs"],
    )


def _certificate(key: str, facts: Facts, admin_url: str) -> Told:
    left = _number(facts, "expires_in_s")
    when = "ended" if left is not None and left < 0 else "ends"
    days = "" if left is None else f", {'for' if left < 0 else 'in'} {abs(left) / _DAY_S:.1f} days"
    id_ = _text(facts, "id") or key
    snis = facts.get("snis")
    names = ", ".join(quoted(name, 100) for name in snis if isinstance(name, str)) if isinstance(snis, list) else ""
    shown_for = f", shown for {names}," if names else ""
    return Told(
        f"the Certificate {quoted(id_)} with the subject {quoted(_text(facts, 'subject'))}{shown_for} {when} at "
        f"{quoted(_text(facts, 'not_after'))}{days}",
        [f"curl -X PATCH {admin_url}/certificates/{_in_path(id_)} -F cert=@cert.pem -F key=@key.pem"],
    )


def _dns_stale(key: str, facts: Facts, admin_url: str) -> Told:
    name, left = _text(facts, "name") or key, _number(facts, "usable_for_s")
    error = _text(facts, "error")
    return Told(
        f"the addresses of {quoted(name)} are out of date for {_seconds(facts, 'stale_for_s')}"
        f"{f': {escaped(error)}' if error else ''}; they are used for {ms(None if left is None else max(left, 0) * _MS)} more, "
        "then requests fail",
        [
            f"curl {admin_url}/dns/{_in_path(name)} shows which name server was asked and what it answered",
            "see that the name servers answer, or name others: dns_resolver = ADDRESS",
        ],
    )


def _timeout_order(key: str, facts: Facts, admin_url: str) -> Told:
    elapsed, ours = _number(facts, "elapsed_ms"), _number(facts, "ours_ms")
    service = _text(facts, "service_id") or _text(facts, "service")
    read_ms = "MS" if elapsed is None else str(max(int(elapsed * 0.9), 1))
    patch = f"curl -X PATCH {admin_url}/services/{_in_path(service or 'SERVICE')} --data read_timeout={read_ms}"
    shown = quoted(_text(facts, "service") or service or key)
    if _text(facts, "where") == "behind":
        author = quoted(_text(facts, "written_by"))
        return Told(
            f"{author} behind the Service {shown} answers 504 after {ms(elapsed)}, we would wait {ms(ours)}: its timeout "
            "decides, ours never does",
            [f"raise the timeout of {author} above {ms(ours)}, if requests may take so long", f"or lower ours: {patch}"],
        )
    count = _number(facts, "count")
    route = quoted(_text(facts, "route"))
    return Told(
        f"callers from {quoted(_text(facts, 'peers'))} gave up on requests of the Route {route} after about {ms(elapsed)}"
        f"{'' if count is None else f', {count:.0f} times lately'}; the Service {shown} may take {ms(ours)}: a client or a load "
        "balancer before us has the shorter timeout",
        [
            f"raise the timeout of the load balancer, or of the client, above {ms(ours)}",
            f"or let us answer before it gives up: {patch} --data retries=0",
        ],
    )


TEXTS: Final[dict[str, Callable[[str, Facts, str], Told]]] = {
    "certificate": _certificate,
    "dns_stale": _dns_stale,
    "idle_timeout": _idle_timeout,
    "request_header_size": _request_header_size,
    "response_header_size": _response_header_size,
    "timeout_order": _timeout_order,
    "upstream_certificate": _upstream_certificate,
}
"""Every kind of warning there is: makes its words of key, facts, and the URL of the Admin API."""


def _in_path(text: str) -> str:
    """A text as a part of a path, which no shell takes for more."""
    return quote(text[:MAX_IN_PATH_CHARACTERS], safe="")


def _text(facts: Facts, name: str) -> str | None:
    found = facts.get(name)
    return found if isinstance(found, str) and found else None


def _number(facts: Facts, name: str) -> float | None:
    found = facts.get(name)
    is_number = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found) and abs(found) < _MOST
    return float(found) if is_number and found is not None else None


def _size(value: float | None) -> str:
    return size(None if value is None else int(value))


def _seconds(facts: Facts, name: str) -> str:
    found = _number(facts, name)
    return ms(None if found is None else found * _MS)
