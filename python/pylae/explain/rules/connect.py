# SPDX-License-Identifier: Apache-2.0
"""Why was there no connection to the upstream?"""

from __future__ import annotations

from pylae.explain import calls
from pylae.explain.case import Case, Finding
from pylae.explain.rules.rewritten import target_changed
from pylae.explain.rules.swallowed import acknowledged, swallowed
from pylae.explain.words import escaped, ms, quoted


def where_from(case: Case) -> list[str]:
    """How old is the address, where it came from a name?"""
    dns = case.attempt.dns
    if dns.state == "stale":
        return [f"the address came from a DNS answer {ms(dns.age_ms)} old, past its time and not renewed since"]
    if dns.state in ("fresh", "once"):
        server = f" by name server {quoted(dns.server)}" if dns.server else ""
        return [f"the name {quoted(case.attempt.host)} was given this address {ms(dns.age_ms)} before{server}"]
    if dns.state == "hosts":
        return [f"the address of {quoted(case.attempt.host)} comes from the hosts file of the gateway's machine"]
    return []


def _stale(case: Case, evidence: list[str], outcome: str, probes: list[str]) -> Finding | None:
    """The address is of an answer that ran out: the server may live elsewhere now."""
    if case.attempt.dns.state != "stale":
        return None
    return Finding(
        hop="dns",
        name="stale_address",
        summary=f"{case.server} {outcome}, and this address is of a DNS answer that ran out: the server may have moved.",
        confidence=0.6,
        evidence=evidence,
        cure=[
            "mend the name servers (`dns_resolver`), so that the address is renewed; what is known of names:",
            case.get("/dns"),
        ],
        probes=[*probes, calls.join(["dig", case.attempt.host or "NAME"])],
    )


def refused(case: Case) -> Finding:
    """`connect_refused`."""
    changed = target_changed(case, case.attempt.host, "where nothing listens", confidence=0.6)
    if changed is not None:
        return changed
    evidence = [
        f"connect() to {case.server} was refused (a RST to our SYN): that machine is there, and nothing listens on the port"
    ]
    evidence += where_from(case)
    probes = [calls.reach(case.address), "on that machine: ss -ltn", case.doctor()]
    stale = _stale(case, evidence, "refuses connections", probes)
    if stale is not None:
        return stale
    is_sure = case.is_loopback and not case.is_named
    if not is_sure:
        evidence.append("a firewall that rejects, or a name that leads to the wrong machine, would look the same")
    return Finding(
        hop="upstream",
        name="nothing_listens",
        summary=f"Nothing listens at {case.server}: the server is down, or host or port are wrong.",
        confidence=0.9 if is_sure else 0.7,
        evidence=evidence,
        cure=["start the server; or tell the gateway where it listens:", case.patch_target(port="PORT")],
        probes=probes,
    )


def failed(case: Case) -> Finding:
    """`connect_failed`."""
    changed = target_changed(case, case.attempt.host, "which could not be reached", confidence=0.6)
    if changed is not None:
        return changed
    hints = case.hints
    said = escaped(case.detail or case.attempt.phrase or "connect() failed")
    evidence = [f"connect() to {case.server} failed: {said}", *where_from(case)]
    probes = [calls.reach(case.address), *_route_probe(case), case.doctor()]
    if "99:" in hints or "cannot assign requested address" in hints:
        return Finding(
            hop="gateway",
            name="no_local_port",
            summary=f"The gateway's machine has no free port left for a connection to {case.server}.",
            confidence=0.85,
            evidence=evidence,
            cure=[
                "keep connections: raise `upstream_keepalive_pool_size`, and see that the server does not close each one",
                "sysctl -w net.ipv4.ip_local_port_range='1024 65535'",
            ],
        )
    if "24:" in hints or "too many open files" in hints or "23:" in hints:
        return Finding(
            hop="gateway",
            name="no_descriptor",
            summary="The gateway has as many files and connections open as it may.",
            confidence=0.9,
            evidence=evidence,
            cure=["raise the limit of open files (ulimit -n) for the gateway, then:", "pylae restart"],
        )
    if "not permitted" in hints or "permission denied" in hints:
        return Finding(
            hop="network",
            name="blocked_here",
            summary=f"The gateway's own machine does not let connections to {case.server} out.",
            confidence=0.85,
            evidence=evidence,
            cure=["look at the packet filter of the gateway's machine: nft list ruleset (or iptables -S)"],
        )
    stale = _stale(case, evidence, "cannot be reached", probes)
    if stale is not None:
        return stale
    is_network = "network is unreachable" in hints or "101:" in hints
    return Finding(
        hop="network",
        name="network_unreachable" if is_network else "host_unreachable",
        summary=(
            f"The gateway's machine has no way to the network of {case.server}."
            if is_network
            else f"No way leads to {case.server}: the machine is off, or a router or firewall says no."
        ),
        confidence=0.75 if is_network else 0.7,
        evidence=evidence,
        cure=[
            "check the address, the routes of the gateway's machine, and the firewalls and security groups between",
            case.patch_target(host="HOST"),
        ],
        probes=probes,
    )


def _route_probe(case: Case) -> list[str]:
    found = calls.split_address(case.address)
    return [calls.join(["ip", "route", "get", found[0]])] if found else []


def timed_out(case: Case) -> Finding:
    """`connect_timeout`: the SYN was not answered, or the handshake did not end."""
    waited = case.attempt.timer.ms or (case.facts.service.connect_timeout_ms if case.facts.service else None) or case.lasted_ms
    changed = target_changed(case, case.attempt.host, "which did not answer", confidence=0.55)
    if changed is not None:
        return changed
    if case.attempt.connect_ms is not None or case.facts.phase == "tls_handshake":
        return _handshake_timed_out(case, waited)
    evidence = [
        f"no answer to our SYN from {case.server} within {ms(waited)} (connect_timeout); no RST and no ICMP error came either"
    ]
    evidence += where_from(case)
    probes = [calls.reach(case.address), "on that machine: ss -ltn (Recv-Q at Send-Q: its accept queue is full)", case.doctor()]
    stale = _stale(case, evidence, "does not answer", probes)
    if stale is not None:
        return stale
    if case.is_loopback:
        return Finding(
            hop="upstream",
            name="accept_queue_full",
            summary=f"The server at {case.server} takes no more connections: its accept queue is full, or it hangs.",
            confidence=0.75,
            evidence=[*evidence, "no network lies between: the address is of this machine"],
            cure=["look whether the server hangs; raise its backlog and net.core.somaxconn; give it more workers"],
            probes=probes,
        )
    return Finding(
        hop="network",
        name="filtered_or_full",
        summary=(
            f"{case.server} does not answer at all: a firewall drops our packets, the address is wrong, or its "
            "accept queue is full."
        ),
        confidence=0.6,
        evidence=evidence,
        cure=[
            "let the gateway through the firewalls and security groups between; check the address:",
            case.patch_target(host="HOST"),
            "a server under such load that it takes no connection: give it more workers and a longer accept queue",
        ],
        probes=probes,
    )


def _handshake_timed_out(case: Case, waited: float | None) -> Finding:
    lost = swallowed(case, [f"TCP to {case.server} was connected; no answer to our TLS hello came within {ms(waited)}"])
    if lost is not None:
        return lost
    return Finding(
        hop="upstream",
        name="tls_handshake_timeout",
        summary=f"{case.server} took the connection and did not answer our TLS hello: it may not speak TLS, or hang.",
        confidence=0.7,
        evidence=[
            (
                f"TCP to {case.server} was "
                f"connected{f' in {ms(case.attempt.connect_ms)}' if case.attempt.connect_ms is not None else ''}"
            ),
            f"the handshake was not over when connect_timeout ended it after {ms(waited)}",
            *acknowledged(case),
        ],
        cure=["if the port speaks plain HTTP:", case.patch_service(protocol="http"), "else look whether the server hangs"],
        probes=[calls.show_certificate(case.address, case.attempt.host), case.ask_server(scheme="http")],
    )


RULES = {"connect_refused": refused, "connect_failed": failed, "connect_timeout": timed_out}
