# SPDX-License-Identifier: Apache-2.0
"""Does a host lead to addresses, and do the name servers agree on which?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pylae.doctor.aims import Aim
from pylae.doctor.findings import Finding
from pylae.doctor.names import ABSENT, FAILED, Known, Said
from pylae.doctor.resolution import Resolution
from pylae.explain import calls
from pylae.explain.words import count, escaped, quoted

_WORDS: Final = {
    "found": "has addresses",
    "no_such_name": "says that the name does not exist (NXDOMAIN)",
    "no_address": "says that the name has no address",
    "servfail": "answers SERVFAIL",
    "refused": "refuses to answer",
    "silent": "does not answer",
    "unreachable": "is not reached",
    "garbage": "answers what is no DNS",
}
_KEYS: Final = {
    "servfail": "server_failure",
    "refused": "refused_by_name_server",
    "silent": "name_server_silent",
    "unreachable": "name_server_down",
    "garbage": "name_server_error",
}


def judge(known: Known, aim: Aim, resolution: Resolution) -> list[Finding]:
    """What is wrong with a name."""
    if known.source != "dns":
        return []
    if not known.said:
        return [_nobody_to_ask(known, resolution)]
    failed = [one for one in known.said if one.outcome in FAILED]
    if len(failed) == len(known.said):
        return [_nobody_answers(known, resolution)]
    if not known.found:
        return [_absent(known, aim, resolution)]
    return [*(_fails(one, known) for one in failed), *_disagreement(known)]


def told(known: Known) -> str:
    """In a few words, for the checklist."""
    addresses = ", ".join(dict.fromkeys(one.ip for one in known.found[:4]))
    more = len({one.ip for one in known.found}) - 4
    where = {"literal": "an address", "hosts": "from the hosts file"}.get(
        known.source, f"{count(len(known.said), 'name server')} asked"
    )
    host = escaped(known.host, 100)
    if not addresses:
        return f"{host}: no address ({where})"
    return f"{host}: {addresses}{f' and {more} more' if more > 0 else ''} ({where})" if host != addresses else f"{host} ({where})"


def _line(one: Said) -> str:
    detail = f" ({escaped(one.detail, 80)})" if one.detail else ""
    addresses = f": {', '.join(sorted(one.addresses)[:8])}" if one.found else ""
    return f"{one.server} {_WORDS[one.outcome]}{addresses}{detail}"


def _probes(host: str, said: Sequence[Said]) -> tuple[str, ...]:
    return tuple(calls.join(["dig", f"@{one.server.ip}", "-p", str(one.server.port), host]) for one in said[:3])


def _nobody_to_ask(known: Known, resolution: Resolution) -> Finding:
    return Finding(
        hop="dns",
        phase="resolve",
        cause="resolver_failed",
        finding="no_name_server",
        summary=f"There is no name server to ask for {quoted(known.host)}.",
        confidence=0.9,
        evidence=(f"neither dns_resolver nor {resolution.source} names one",),
        cure=("name servers in `dns_resolver`", calls.join(["pylae", "reload"])),
    )


def _nobody_answers(known: Known, resolution: Resolution) -> Finding:
    first = known.said[0]
    return Finding(
        hop="dns",
        phase="resolve",
        cause="resolver_failed",
        finding=_KEYS[first.outcome],
        summary=f"No name server says what {quoted(known.host)} is.",
        confidence=0.9,
        evidence=(*map(_line, known.said), f"they are named in {resolution.source}"),
        cure=(
            "mend these name servers or the way to them, or name others in `dns_resolver`",
            calls.join(["pylae", "reload"]),
        ),
        probes=_probes(first.asked, known.said),
    )


def _absent(known: Known, aim: Aim, resolution: Resolution) -> Finding:
    believed = next(one for one in known.said if one.outcome not in FAILED)
    others = [one for one in known.said if one.found]
    is_missing = believed.outcome == "no_such_name"
    evidence = list(map(_line, known.said))
    cure = [f"check the spelling of {quoted(known.host)}, and that the zone has it", *aim.correct_address("host")]
    if others:
        evidence.append("servers are asked in their order, and the first that answers is believed")
        cure = [f"put {others[0].server} first in `dns_resolver`, or have {believed.server} know the name"]
    elif not is_missing:
        evidence.append(f"asked for {', '.join(resolution.types_of(known.host))}")
        cure.append("a name with AAAA records alone: put AAAA into `dns_order`")
    if resolution.search and not known.host.endswith("."):
        evidence.append(f"search domains: {', '.join(resolution.search)}")
    return Finding(
        hop="dns",
        phase="resolve",
        cause="dns_failed",
        finding="resolvers_disagree" if others else believed.outcome,
        summary=f"The name {quoted(known.host)} {'does not exist' if is_missing else 'has no address'}, {believed.server} says.",
        confidence=0.9,
        evidence=tuple(evidence),
        cure=tuple(cure),
        probes=_probes(believed.asked, known.said),
    )


def _fails(one: Said, known: Known) -> Finding:
    return Finding(
        hop="dns",
        phase="resolve",
        cause="resolver_failed",
        finding=_KEYS[one.outcome],
        summary=f"The name server {one.server} {_WORDS[one.outcome]}; others answer in its place.",
        confidence=0.9,
        is_broken=False,
        subject=f"name server {one.server}",
        evidence=tuple(map(_line, known.said)),
        cure=("mend that name server or the way to it, or take it out of `dns_resolver`",),
        probes=_probes(one.asked, [one]),
    )


def _disagreement(known: Known) -> list[Finding]:
    absent = [one for one in known.said if one.outcome in ABSENT]
    if not absent:
        return []
    return [
        Finding(
            hop="dns",
            phase="resolve",
            cause="dns_failed",
            finding="resolvers_disagree",
            summary=f"The name servers do not agree on whether {quoted(known.host)} exists.",
            confidence=0.9,
            is_broken=False,
            evidence=(
                *map(_line, known.said),
                "it goes well while the first of them answers; when that one is silent the next is believed",
            ),
            cure=(f"have {absent[0].server} know the name, or take it out of `dns_resolver`",),
            probes=_probes(absent[0].asked, absent),
        )
    ]
