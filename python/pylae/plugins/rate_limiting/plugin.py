# SPDX-License-Identifier: Apache-2.0
"""rate-limiting: at what rate may this client go on?

For anyone who shares an API out. Counts requests in fixed windows (seconds, minutes, hours, days, calendar months
and years of UTC) per Consumer, credential, address, Service, header value or path, over all workers of the node.
Headers follow draft-ietf-httpapi-ratelimit-headers-03 and, per window, Kong's own names.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final

from pylae.plugins.rate_limiting import config as declared
from pylae.plugins.rate_limiting.entities import RatelimitingMetric
from pylae.sdk import Answer, CountersUnavailable, Exchange, Host, Instance, Plugin, SchemaViolation

MAX_COUNT: Final = 2**62
"""What a shared counter can hold."""
REFUSED: Final = 429
NO_ID: Final = "00000000-0000-0000-0000-000000000000"

PERIOD_SECONDS: Final = {
    "second": 1,
    "minute": 60,
    "hour": 3_600,
    "day": 86_400,
    "month": 2_592_000,
    "year": 31_536_000,
}
"""Lengths the headers reckon with: a month is told as 30 days, whatever the calendar says."""


def window_of(period: str, now_ms: int) -> tuple[int, int]:
    """First millisecond of the window that `now_ms` lies in, and of the next one.

    >>> window_of("minute", 90_500)
    (60000, 120000)
    >>> window_of("month", 1_770_000_000_000)
    (1769904000000, 1772323200000)
    """
    if period == "month" or period == "year":
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        start = datetime(now.year, now.month if period == "month" else 1, 1, tzinfo=UTC)
        if period == "year":
            end = start.replace(year=start.year + 1)
        elif start.month == 12:
            end = start.replace(year=start.year + 1, month=1)
        else:
            end = start.replace(month=start.month + 1)
        return int(start.timestamp()) * 1000, int(end.timestamp()) * 1000
    length_ms = PERIOD_SECONDS[period] * 1000
    start_ms = now_ms - now_ms % length_ms
    return start_ms, start_ms + length_ms


def _number(value: float) -> str:
    """A quantity as headers write it: `5`, `2.5`."""
    return str(value) if type(value) is int else f"{value:.14g}"


class Period:
    """One configured window length."""

    __slots__ = ("length_s", "limit", "limit_count", "limit_header", "limit_text", "name", "remaining_header")

    def __init__(self, name: str, limit: float) -> None:
        self.name = name
        self.limit = int(limit) if limit == int(limit) else limit
        # As long as anything is left the next request passes, so a limit of 2.5 lets three through.
        self.limit_count = min(math.ceil(limit), MAX_COUNT)
        self.limit_text = _number(self.limit)
        self.length_s = PERIOD_SECONDS[name]
        self.limit_header = f"X-RateLimit-Limit-{name.capitalize()}"
        self.remaining_header = f"X-RateLimit-Remaining-{name.capitalize()}"


class Prepared:
    """A configuration with everything computed that does not depend on the request."""

    __slots__ = (
        "error_code",
        "error_message",
        "fault_tolerant",
        "header_name",
        "hides_headers",
        "identify",
        "limits",
        "path",
        "periods",
        "prefix",
        "valid_from_ms",
        "valid_until_ms",
    )

    def __init__(self, config: declared.Config, instance: Instance) -> None:
        self.periods = tuple(Period(name, limit) for name in declared.PERIODS if (limit := getattr(config, name)) is not None)
        # A null takes the default: the fields are optional, refusing is not.
        self.error_code = int(config.error_code or REFUSED)
        self.error_message = config.error_message or "API rate limit exceeded"
        self.fault_tolerant = config.fault_tolerant
        self.hides_headers = config.hide_client_headers
        self.header_name = config.header_name
        self.path = config.path
        self.identify = _IDENTIFY.get(config.limit_by, _by_ip)
        # Instances of one scope count together, whichever Consumer each is for.
        self.prefix = f"rate-limiting:{instance.route_id or NO_ID}:{instance.service_id or NO_ID}:".encode()
        # Limits with the windows of now: the same list for all requests until the first window ends.
        self.limits: list[tuple[int, int, int]] = []
        self.valid_from_ms = 0
        self.valid_until_ms = 0

    def turn_windows(self, now_ms: int) -> None:
        """Computes the windows that `now_ms` lies in."""
        windows = [window_of(period.name, now_ms) for period in self.periods]
        self.limits = [
            (period.limit_count, start_ms, end_ms) for period, (start_ms, end_ms) in zip(self.periods, windows, strict=True)
        ]
        self.valid_from_ms = max(start_ms for start_ms, _ in windows)
        self.valid_until_ms = min(end_ms for _, end_ms in windows)


def _by_consumer(exchange: Exchange, config: Prepared) -> str | None:  # noqa: ARG001 - one form for all
    client = exchange.client
    identity = client.consumer or client.credential
    return identity["id"] if identity is not None else None


def _by_credential(exchange: Exchange, config: Prepared) -> str | None:  # noqa: ARG001 - one form for all
    credential = exchange.client.credential
    return credential["id"] if credential is not None else None


def _by_ip(exchange: Exchange, config: Prepared) -> str | None:  # noqa: ARG001 - one form for all
    return exchange.client.forwarded_ip


def _by_service(exchange: Exchange, config: Prepared) -> str | None:  # noqa: ARG001 - one form for all
    return exchange.service.id


def _by_header(exchange: Exchange, config: Prepared) -> str | None:
    return exchange.request.get_header(config.header_name or "")


def _by_path(exchange: Exchange, config: Prepared) -> str | None:
    return config.path if exchange.request.path == config.path else None


_IDENTIFY: Final = {
    "consumer": _by_consumer,
    "credential": _by_credential,
    "ip": _by_ip,
    "service": _by_service,
    "header": _by_header,
    "path": _by_path,
}


class RateLimiting(Plugin):
    """Refuses what comes too fast."""

    name = "rate-limiting"
    version = "3.10.0"
    priority = 910
    Config = declared.Config
    ConfigWithoutDatabase = declared.ConfigWithoutDatabase
    entities = (RatelimitingMetric,)

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._now_ms = host.now_ms

    @classmethod
    def check_config(cls, config: dict[str, Any]) -> None:
        """Refuses the policies that are not built yet."""
        policy = config.get("policy")
        if policy in ("cluster", "redis"):
            reason = f"policy '{policy}' is not available yet, use 'local'"
            raise SchemaViolation({"config": {"policy": reason}})
        error_code = config.get("error_code")
        if error_code is not None and not 200 <= error_code < 600:
            raise SchemaViolation({"config": {"error_code": "value should be between 200 and 599"}})

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:
        """Names counters and headers once."""
        return Prepared(config, instance)

    def access(self, exchange: Exchange, config: Prepared) -> Answer | None:
        """Counts the request, or refuses it uncounted."""
        now_ms = self._now_ms()
        if not config.valid_from_ms <= now_ms < config.valid_until_ms:
            config.turn_windows(now_ms)
        identifier = config.identify(exchange, config) or exchange.client.forwarded_ip
        try:
            is_allowed, usage = self.host.counters_take(
                config.prefix + identifier.encode("utf-8", "surrogateescape"), config.limits, 1
            )
        except CountersUnavailable as failure:
            if not config.fault_tolerant:
                return exchange.error(500, "An unexpected error occurred")
            exchange.log("error", f"failed to get usage: {failure}")
            return None
        if not config.hides_headers:
            exchange.response.set_headers(_headers_of(config, is_allowed, usage, now_ms))
        if is_allowed:
            return None
        return exchange.error(config.error_code, config.error_message)


def _headers_of(config: Prepared, is_allowed: bool, usage: list[int], now_ms: int) -> list[tuple[str, str]]:  # noqa: FBT001 - as counted
    """What the client is told."""
    headers: list[tuple[str, str]] = []
    least: float = math.inf
    told = 0
    for index, period in enumerate(config.periods):
        remaining = period.limit - usage[index]
        if remaining < 0:
            remaining = 0
        headers.append((period.limit_header, period.limit_text))
        headers.append((period.remaining_header, _number(remaining)))
        # Periods come from short to long, so that a tie tells the longer one.
        if remaining <= least:
            least = remaining
            told = index
    period = config.periods[told]
    reset_s = period.length_s - (now_ms - config.limits[told][1]) // 1000
    reset_text = str(reset_s) if reset_s > 0 else "1"
    headers.append(("RateLimit-Limit", period.limit_text))
    headers.append(("RateLimit-Remaining", _number(least)))
    headers.append(("RateLimit-Reset", reset_text))
    if not is_allowed:
        headers.append(("Retry-After", reset_text))
    return headers
