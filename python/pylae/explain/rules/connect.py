# SPDX-License-Identifier: Apache-2.0
"""Why was there no connection to the upstream?"""

from __future__ import annotations

from pylae.explain import calls
from pylae.explain.case import Case, Finding
from pylae.explain.words import escaped, ms, quoted


def _where_from(case: Case) -> list[str]:
    """How old is the address, where it came from a name?"""
    dns = case.attempt.dns
    if dns.state == "stale":
        return [f"the address came from a DNS answer that ran out {ms(dns.age_ms)} ago and could not be renewed since"]
    if dns.state in ("fresh", "once"):
        server = f" from name server {quoted(dns.server)}" if dns.server else ""
        return [f"the name {quoted(case.attempt.host)} gave this address {ms(dns.age_ms)} ago{server}"]
    if dns.state == "hosts":
        return [f"the address of {quoted(case.attempt.host)} comes from the hosts file of the gateway's machine"]
    return []


def _changed_by_plugin(case: Case) -> Finding | None:
    """The request went to another host than the Service names, and no Upstream stands between."""
    service, attempt = case.facts.service, case.attempt
    if case.facts.upstream is not None or service is None or not service.host or not attempt.host:
        return None
    if service.host.strip("[]").lower() == attempt.host.strip("[]").lower():
        return None
    names = [escaped(step.name) for step in case.facts.plugins if step.name]
    return Finding(
        hop="plugin",
        name="target_changed_by_plugin",
        summary=f"A plugin sent the request to {case.server}, not to {quoted(service.host)} as the Service says, in vain.",
        confidence=0.6,
        evidence=[
            f"the Service's host is {quoted(service.host)}, the attempt went to {quoted(attempt.host)}",
            f"plugins that ran before it: {', '.join(names) if names else '(not recorded)'}",
        ],
        cure=[
            "look at the plugin that sets the upstream's host or URI (request-transformer, pre-function, a plugin of your own)",
            case.patch_plugin(next(iter(case.facts.plugins), None), enabled=False),
        ],
        probes=[calls.reach(case.address), case.doctor()],
    )


def refused(case: Case) -> Finding:
    """`connect_refused`."""
    changed = _changed_by_plugin(case)
    if changed is not None:
        return changed
    evidence = [
        f"connect() to {case.server} was refused (RST to our SYN): packets reach that machine, and nothing listens on the port"
    ]
    evidence += _where_from(case)
    probes = [calls.reach(case.address), f"on that machine: {calls.join(['ss', '-ltn'])}"]
    if case.attempt.dns.state == "stale":
        return Finding(
            hop="dns",
            name="stale_address",
            summary=f"Nothing listens at {case.server}, an address from a DNS answer that has run out: the server may have moved.",
            confidence=0.6,
            evidence=evidence,
            cure=[
                "mend the name servers (dns_resolver), so that the address is renewed",
                calls.admin(case.admin_url, "GET", "/dns"),
            ],
            probes=[*probes, calls.join(["dig", case.attempt.host or "NAME"])],
        )
    sure = case.is_loopback and not case.is_named
    return Finding(
        hop="upstream",
        name="nothing_listens",
        summary=f"Nothing listens at {case.server}: the server is down, or the port of the Service is wrong.",
        confidence=0.9 if sure else 0.7,
        evidence=evidence
        if sure
        else [*evidence, "a firewall that rejects, or a name that leads to the wrong machine, looks the same"],
        cure=["start the server, or give the Service the port it listens on:", case.patch_service(port="PORT")],
        probes=probes,
    )


RULES = {"connect_refused": refused}
