# SPDX-License-Identifier: Apache-2.0
"""Why did the name of the upstream lead to no address?"""

from __future__ import annotations

import re
from typing import Final

from pylae.explain import calls
from pylae.explain.case import Case, Finding
from pylae.explain.rules.rewritten import target_changed
from pylae.explain.words import escaped, quoted

_CODE: Final = re.compile(r"dns server error: (\d{1,3})")
_SERVFAIL, _REFUSED = "2", "5"


def _name(case: Case) -> str | None:
    """The name that was asked for."""
    before, colon, _ = case.detail.partition(": ")
    if colon and before and " " not in before:
        return before
    return case.attempt.host or (case.facts.service.host if case.facts.service else None)


def _said(case: Case) -> list[str]:
    text = case.detail or case.facts.phrase or ""
    return [f"the look-up ended with: {escaped(text)}"] if text else []


def _probes(name: str | None) -> list[str]:
    return [calls.join(["dig", name or "NAME"]), calls.join(["getent", "hosts", name or "NAME"]), "pylae doctor"]


def not_found(case: Case) -> Finding:
    """`dns_failed`: whoever was asked says that there is no address."""
    name = _name(case)
    changed = target_changed(case, name, "which has no address", confidence=0.7)
    if changed is not None:
        return changed
    evidence = [*_said(case), "the name servers answered; no connection was tried and nothing was sent"]
    cure = [
        f"check the spelling of the Service's host {quoted(name)}, and that the zone has it:",
        case.patch_target(host="HOST"),
        "a name that only some name servers know: name those in `dns_resolver`",
        "an answer that none exists is kept for `dns_not_found_ttl`; look at what is kept:",
        case.get("/dns"),
    ]
    if "invalid name" in case.hints:
        return Finding(
            hop="gateway",
            name="not_a_name",
            summary=f"The Service's host {quoted(name)} is not a name that can be looked up.",
            confidence=0.9,
            evidence=_said(case),
            cure=[case.patch_service(host="HOST")],
        )
    if "101 empty record" in case.hints or "empty" in case.hints:
        return Finding(
            hop="dns",
            name="no_address",
            summary=f"The name {quoted(name)} exists and has no address of the types that are asked for.",
            confidence=0.9,
            evidence=evidence,
            cure=[*cure, "a name with AAAA records alone: put AAAA into `dns_order`"],
        )
    return Finding(
        hop="dns",
        name="no_such_name",
        summary=f"The name {quoted(name)} does not exist, so the name servers say.",
        confidence=0.9,
        evidence=evidence,
        cure=cure,
    )


def resolver_failed(case: Case) -> Finding:
    """`resolver_failed`: nobody said whether there is an address."""
    name, hints = _name(case), case.hints
    code = _CODE.search(hints)
    server = "the name servers in `dns_resolver` (or resolv.conf)"
    if code is not None and code[1] == _SERVFAIL:
        return Finding(
            hop="dns",
            name="server_failure",
            summary=f"The name server answers SERVFAIL for {quoted(name)}: it could not find out itself.",
            confidence=0.9,
            evidence=_said(case),
            cure=[
                "look at the name server's log: the servers of the zone may be down, or DNSSEC may fail",
                "name a resolver that can in `dns_resolver`, then:",
                "pylae reload",
            ],
        )
    if code is not None:
        words = "refuses to answer us" if code[1] == _REFUSED else f"answers error {code[1]}"
        return Finding(
            hop="dns",
            name="refused_by_name_server" if code[1] == _REFUSED else "name_server_error",
            summary=f"The name server {words} about {quoted(name)}.",
            confidence=0.9,
            evidence=_said(case),
            cure=[f"let the name server serve this machine, or name another in `dns_resolver`; asked were {server}"],
        )
    if "timeout" in hints or "timed out" in hints or "refused" in hints:
        is_refused = "refused" in hints
        return Finding(
            hop="dns",
            name="name_server_down" if is_refused else "name_server_silent",
            summary=(
                f"The name servers {'do not run' if is_refused else 'do not answer'}, so {quoted(name)} could not be looked up."
            ),
            confidence=0.85,
            evidence=[*_said(case), "no connection to the upstream was tried"],
            cure=[
                f"check {server} and the way to them (UDP and TCP port 53), then:",
                "pylae reload",
                "what is known of names:",
                case.get("/dns"),
            ],
        )
    return Finding(
        hop="dns",
        name="look_up_failed",
        summary=f"The name {quoted(name)} could not be looked up.",
        confidence=0.7,
        evidence=_said(case),
        cure=[f"check {server} and the way to them (UDP and TCP port 53)"],
        probes=_probes(name),
    )


RULES = {"dns_failed": not_found, "resolver_failed": resolver_failed}
