# SPDX-License-Identifier: Apache-2.0
"""Is an address reached, and how quickly?"""

from __future__ import annotations

import ipaddress
from typing import Final

from pylae.doctor.findings import Finding
from pylae.doctor.looks import Look
from pylae.explain import calls
from pylae.explain.words import ms, quoted

SLOW_MS: Final = 900.0
"""A first packet that was lost is sent again after a second (RFC 6298)."""


def is_loopback(ip: str) -> bool:
    """Whether it is this machine, so that no network lies between."""
    try:
        return ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return False


def judge(look: Look) -> list[Finding]:
    """What is wrong with the way to one address."""
    aim, place, ended = look.aim, look.place, look.not_connected
    attempts = (look.attempt(),)
    is_named = aim.host.strip("[]") != place.ip
    server = f"{place} ({aim.host})" if is_named else str(place)
    doubt = [calls.reach(str(place)), f"on that machine: {calls.join(['ss', '-ltn'])}"]
    by_name = [f"the address is what {quoted(aim.host)} has now: is it the right machine?"] if is_named else []
    if ended is None:
        if look.connect_ms is None or look.connect_ms < SLOW_MS:
            return []
        return [
            Finding(
                hop="network",
                phase="connect",
                cause="connect_timeout",
                finding="connect_slow",
                summary=f"A connection to {server} took {ms(look.connect_ms)}.",
                confidence=0.6,
                is_broken=False,
                evidence=(
                    f"the connection was made after {ms(look.connect_ms)}; a packet that was lost is sent again after a second",
                ),
                cure=("look for lost packets on the way, or a full accept queue of the server",),
                probes=(
                    calls.join(["mtr", "-rwn", place.ip]),
                    f"on that machine: {calls.join(['nstat', '-az', 'TcpExtListenOverflows'])}",
                ),
                attempts=attempts,
            )
        ]
    if ended.how == "refused":
        sure = is_loopback(place.ip) and not is_named
        return [
            Finding(
                hop="upstream",
                phase="connect",
                cause="connect_refused",
                finding="nothing_listens",
                summary=f"Nothing listens at {server}: the server is down, or the port is wrong.",
                confidence=0.9 if sure else 0.7,
                evidence=(
                    f"connect() to {place} was refused: packets reach that machine, and nothing listens on the port",
                    *([] if sure else ["a firewall that rejects, or a name that leads to the wrong machine, looks the same"]),
                    *by_name,
                ),
                cure=("start the server", *aim.correct_address("port")),
                probes=() if sure else tuple(doubt),
                attempts=attempts,
            )
        ]
    if ended.how == "timeout":
        waited = ms(aim.connect_patience_s * 1000)
        return [
            Finding(
                hop="network",
                phase="connect",
                cause="connect_timeout",
                finding="filtered_or_full",
                summary=f"No connection to {server} within {waited}: packets are dropped, or nobody has that address.",
                confidence=0.7,
                evidence=(
                    f"connect() to {place} was neither accepted nor refused for {waited}",
                    f"connect_timeout of the Service is {ms(aim.wait_ms('connect_timeout'))}",
                    "a firewall that drops, an address nobody has, and a full accept queue of the server look the same",
                    *by_name,
                ),
                cure=(
                    f"let connections from this machine to {place} pass the firewalls or security groups between",
                    *aim.correct_address("host", "port"),
                ),
                probes=(calls.join(["ip", "route", "get", place.ip]), f"on that machine: {calls.join(['ss', '-ltn'])}"),
                attempts=attempts,
            )
        ]
    if ended.how == "rst":
        return [
            Finding(
                hop="upstream",
                phase="connect",
                cause="reset",
                finding="reset_at_accept",
                summary=f"{server} takes connections and resets them at once.",
                confidence=0.6,
                evidence=(
                    f"the connection to {place} was reset as soon as it was made",
                    "a firewall that resets looks the same",
                    *by_name,
                ),
                cure=("look into the log of the server at this second: an allow-list, a limit of connections, a restart",),
                probes=tuple(doubt),
                attempts=attempts,
            )
        ]
    return [
        Finding(
            hop="network",
            phase="connect",
            cause="connect_failed",
            finding="network_unreachable" if "Network" in ended.detail else "host_unreachable",
            summary=f"There is no way from here to {server}: {ended.detail or ended.how}.",
            confidence=0.85,
            evidence=(f"connect() to {place} failed: {ended.detail or ended.how}", *by_name),
            cure=("give this machine a route to that address", *aim.correct_address("host")),
            probes=(calls.join(["ip", "route", "get", place.ip]),),
            attempts=attempts,
        )
    ]
