# SPDX-License-Identifier: Apache-2.0
"""What does each name server say of a name, asked by itself, and do they agree?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from pylae.doctor.links import Place
from pylae.doctor.resolution import Resolution, is_address

MOST_RECORDS: Final = 64
MOST_STEPS: Final = 8
"""Names that stand for other names, one after the other."""
SERVER_PATIENCE_S: Final = 2.0
"""As long as a worker waits for one server."""
FAILED: Final = ("servfail", "refused", "silent", "unreachable", "garbage")
ABSENT: Final = ("no_such_name", "no_address")


@dataclass(frozen=True, slots=True)
class Found:
    """One address of a name; the port is that of an SRV record."""

    ip: str
    port: int | None = None
    ttl_s: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """What one server says of a name.

    Attributes:
        outcome: `found`, one of `ABSENT`, or one of `FAILED`.
        asked: the full name it is about.
    """

    server: Place
    outcome: str
    asked: str
    found: tuple[Found, ...] = ()
    detail: str = ""
    took_ms: float = 0.0

    @property
    def addresses(self) -> frozenset[str]:
        """Those it names."""
        return frozenset(one.ip for one in self.found)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a host.

    Attributes:
        source: `literal`, `hosts` or `dns`.
        said: by each server, in the order of the settings.
    """

    host: str
    source: str
    found: tuple[Found, ...] = ()
    said: tuple[Said, ...] = ()


@dataclass(slots=True)
class _Part:
    outcome: str
    found: list[Found] = field(default_factory=list)
    detail: str = ""


async def look_up(host: str, resolution: Resolution, patience_s: float) -> Known:
    """What a worker would find for a host, and what each server says."""
    bare = host.strip("[]").rstrip(".").lower()
    if is_address(bare):
        return Known(host, "literal", (Found(bare),))
    if own := resolution.hosts.get(bare):
        return Known(host, "hosts", tuple(map(Found, dict.fromkeys(own))))
    limit_s = min(patience_s, SERVER_PATIENCE_S)
    said = await asyncio.gather(*(_ask_server(server, host, resolution, limit_s) for server in resolution.servers))
    # Servers that fail are passed over; what the first other one says is believed.
    believed = next((one for one in said if one.outcome not in FAILED), None)
    return Known(host, "dns", believed.found if believed else (), tuple(said))


async def _ask_server(server: Place, host: str, resolution: Resolution, patience_s: float) -> Said:
    started_s = time.monotonic()
    worst: Said | None = None
    for name in resolution.candidates(host):
        parts = await asyncio.gather(*(_ask(server, name, kind, patience_s) for kind in resolution.types_of(name)))
        took_ms = (time.monotonic() - started_s) * 1000
        for part in parts:
            if part.found:
                return Said(server, "found", name, tuple(part.found[:MOST_RECORDS]), took_ms=took_ms)
        failed = next((part for part in parts if part.outcome in FAILED), None)
        if failed is not None:
            return Said(server, failed.outcome, name, detail=failed.detail, took_ms=took_ms)
        outcome = "no_address" if any(part.outcome == "no_address" for part in parts) else "no_such_name"
        if worst is None or outcome == "no_address" or name == host:
            worst = Said(server, outcome, name, took_ms=took_ms)
    return worst or Said(server, "no_such_name", host, detail="it is not a name that can be asked for")


async def _ask(server: Place, name: str, kind: str, patience_s: float, steps: int = 0) -> _Part:
    """One question to one server; never raises for what it answers."""
    try:
        query = dns.message.make_query(name, kind, use_edns=False)
    except (dns.exception.DNSException, UnicodeError, ValueError) as error:
        return _Part("no_such_name", detail=str(error) or type(error).__name__)
    try:
        async with asyncio.timeout(patience_s):
            answer, _ = await dns.asyncquery.udp_with_fallback(
                query, server.ip, timeout=patience_s, port=server.port, ignore_unexpected=True, ignore_errors=True
            )
            if answer.rcode() == dns.rcode.NOERROR:
                found = await _records(server, answer, name, kind, patience_s, steps)
                return _Part("found" if found else "no_address", found)
    except (TimeoutError, dns.exception.Timeout):
        return _Part("silent", detail=f"no answer within {patience_s:g} s")
    except OSError as error:
        return _Part("unreachable", detail=error.strerror or str(error))
    except (dns.exception.DNSException, EOFError, ValueError) as error:
        return _Part("garbage", detail=str(error) or type(error).__name__)
    code = answer.rcode()
    if code == dns.rcode.NXDOMAIN:
        return _Part("no_such_name")
    return _Part("servfail" if code == dns.rcode.SERVFAIL else "refused", detail=dns.rcode.to_text(code))


async def _records(
    server: Place, answer: dns.message.Message, name: str, kind: str, patience_s: float, steps: int
) -> list[Found]:
    """The addresses of an answer: those at the end of its chain of names; those of the targets of SRV."""
    sets = {(str(one.name).rstrip(".").lower(), one.rdtype): one for one in answer.answer}
    owner, wanted = name.rstrip(".").lower(), dns.rdatatype.from_text(kind)
    for _ in range(MOST_STEPS):
        if (owner, wanted) in sets:
            break
        alias = sets.get((owner, dns.rdatatype.CNAME))
        if not alias:
            break
        owner = str(_data(alias)[0].target).rstrip(".").lower()
    records = sets.get((owner, wanted))
    if not records:
        # The server names another name and not what that has: it is asked itself.
        if owner == name.rstrip(".").lower() or steps >= MOST_STEPS:
            return []
        return (await _ask(server, owner, kind, patience_s, steps + 1)).found
    if wanted != dns.rdatatype.SRV:
        return [Found(record.address, None, records.ttl) for record in _data(records)[:MOST_RECORDS]]
    return await _services(server, records, name, patience_s, steps)


async def _services(server: Place, records: dns.rrset.RRset, name: str, patience_s: float, steps: int) -> list[Found]:
    services = _data(records)
    top = min(record.priority for record in services)
    chosen = [record for record in services if record.priority == top and str(record.target) != "."][:MOST_RECORDS]
    targets = list(dict.fromkeys(str(record.target).rstrip(".").lower() for record in chosen))[:32]
    targets = [target for target in targets if target != name.rstrip(".").lower()]
    parts = await asyncio.gather(*(_ask(server, target, "A", patience_s, steps + 1) for target in targets))
    addresses = {target: part.found for target, part in zip(targets, parts, strict=True)}
    return [
        Found(one.ip, record.port or None, min(one.ttl_s, records.ttl))
        for record in chosen
        for one in addresses.get(str(record.target).rstrip(".").lower(), [])
    ]


def _data(records: dns.rrset.RRset) -> Sequence[Any]:
    """The records of a set, whose fields depend on its type."""
    return list(records)
