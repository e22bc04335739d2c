# SPDX-License-Identifier: Apache-2.0
"""Why did no answer come over a connection that was there?"""

from __future__ import annotations

import math
import re
from typing import Final

from pylae.explain import calls
from pylae.explain.case import Case, Finding
from pylae.explain.rules import tls
from pylae.explain.rules.swallowed import acknowledged, swallowed
from pylae.explain.words import escaped, ms, quoted, round_seconds, size

AT_ONCE_MS: Final = 50.0
RACE_MS: Final = 1000.0
"""A close that crosses a request arrives within a round trip; what comes later has to do with the request."""
KNOWN_TIMEOUTS: Final = {
    10: "an AWS load balancer gives a connection to its target 10 s",
    15: "Go services often have 15 s",
    30: "gunicorn kills a worker after 30 s (`--timeout`), Heroku's router gives up after 30 s, php-fpm and uWSGI often too",
    50: "HAProxy's `timeout server` is 50 s in many examples",
    60: "nginx's proxy_read_timeout, AWS's idle timeout, php-fpm's and many request timeouts are 60 s",
    120: "IIS and many application servers give up after 120 s",
    300: "Node's requestTimeout is 300 s",
    350: "an AWS network load balancer forgets idle connections after 350 s",
    600: "many firewalls use 600 s",
}
"""What ends a request in flight. Keep-alive times never do: they count while there is none."""
KNOWN_IDLE_TIMEOUTS: Final = {
    2: "gunicorn's keep-alive is 2 s",
    5: "Node's, uvicorn's and Apache's keep-alive is 5 s",
    15: "HAProxy's `timeout http-keep-alive` is often 15 s",
    20: "Tomcat's connectionTimeout is 20 s, and its keep-alive too unless it is set",
    60: "the idle timeout of an AWS load balancer is 60 s",
    75: "nginx's keepalive_timeout is 75 s",
    350: KNOWN_TIMEOUTS[350],
    600: "many firewalls use 600 s, a Google load balancer for the connections to its backends too",
}
"""What ends a connection between requests."""
_INTERIM: Final = re.compile(r"HTTP/1\.[01] 1\d\d")
_IDEMPOTENCY: Final = (
    "a client that may repeat a POST says so with an Idempotency-Key header; then we send it again on a fresh connection"
)


def known_timeout(seconds: int | None, *, is_idle: bool = False) -> list[str]:
    """What is known to have this timeout: for a request in flight, or for a connection that lies idle."""
    if seconds is None:
        return []
    known = (KNOWN_IDLE_TIMEOUTS if is_idle else KNOWN_TIMEOUTS).get(seconds)
    return [f"that is a round {seconds} s: somebody's timeout{f' ({known})' if known else ''}"]


def _was_crossed(case: Case) -> bool:
    """Did the end of a pooled connection cross our request?"""
    attempt = case.attempt
    if attempt.reused is None or attempt.received_bytes:
        return False
    waited = case.waited_ms
    return waited is None or waited < RACE_MS


def closed(case: Case) -> Finding:
    """`closed_before_headers`."""
    if _was_crossed(case):
        return _at_reuse(case, is_reset=False)
    if case.attempt.received_bytes:
        # A load balancer in TCP mode whose own timer fires, or whose server goes, closes so, too.
        return _in_head(case, did="closed", confidence=0.75)
    return _without_a_byte(case, did="closed", confidence=0.7)


def reset(case: Case) -> Finding:
    """`reset`."""
    if case.is_over_tls and case.attempt.ended == "failed":
        return tls.garbled(case)
    if _was_crossed(case):
        return _at_reuse(case, is_reset=True)
    if case.attempt.received_bytes:
        return _in_head(case, did="reset", confidence=0.7)
    return _without_a_byte(case, did="reset", confidence=0.75 if case.is_loopback else 0.65)


def _at_reuse(case: Case, *, is_reset: bool) -> Finding:
    """A pooled connection ended as we sent a request on it."""
    attempt = case.attempt
    limit, idle = attempt.idle_limit_ms, attempt.idle_ms
    is_young = limit is not None and idle is not None and idle < 0.5 * limit
    evidence = [case.connection(), case.traffic()]
    if limit is not None:
        evidence.append(
            f"its server lets connections idle for {ms(limit)}, as was learned of it; ours is {ms(attempt.our_idle_limit_ms)}"
        )
    elif attempt.our_idle_limit_ms is not None:
        evidence.append(f"we keep idle connections for {ms(attempt.our_idle_limit_ms)}")
    if is_young:
        evidence.append("it lay idle for much less than that, so something else than the idle timeout ended it")
    elif limit is None:
        evidence += known_timeout(round_seconds(idle), is_idle=True)
    shorter = limit or idle
    seconds = max(1, math.floor((shorter - 500) / 1000)) if shorter and not is_young else 1
    idleness = [
        (
            "let the server keep idle connections longer than we do (keep-alive timeout there above "
            "`upstream_keepalive_idle_timeout` here)"
        ),
        f"or let us give them up sooner: set `upstream_keepalive_idle_timeout = {seconds}` in kong.conf, then:",
        "pylae reload",
    ]
    # 0 would be without a limit.
    counted = (
        [
            f"a server that ends connections after so many requests (this one had carried {attempt.reused}): set "
            f"`upstream_keepalive_max_requests` to at most {attempt.reused}"
        ]
        if attempt.reused
        else []
    )
    others = [
        *counted,
        "a restart or deployment of the server ends all of its connections at that moment: look at its log",
    ]
    is_round = attempt.reused is not None and attempt.reused >= 10 and attempt.reused % 50 in (0, 49)
    twice = ", and the request was not one to send twice" if "none that may be repeated" in (attempt.again or "") else ""
    did = "reset" if is_reset else "closed"
    return Finding(
        hop="upstream",
        name=f"{did}_at_reuse",
        summary=f"{case.server} {did} an idle keep-alive connection just as we sent this request on it{twice}.",
        # A firewall that forgot the connection answers with a RST in the server's name.
        confidence=0.65 if is_reset else 0.75,
        evidence=evidence,
        cure=[*others, *idleness, _IDEMPOTENCY] if is_young or is_round else [*idleness, _IDEMPOTENCY, *others],
        probes=["how long this server keeps idle connections:", case.doctor("--keepalive")],
    )


def _without_a_byte(case: Case, *, did: str, confidence: float) -> Finding:
    """It ended after our request, and said nothing."""
    waited = case.waited_ms
    evidence = [case.connection(), case.traffic()]
    if waited is not None:
        evidence.append(f"it {did} the connection {ms(waited)} after it was sent the request")
    seconds = round_seconds(waited) if waited is not None and waited > AT_ONCE_MS else None
    log = (
        "look into the server's log and into its machine's (dmesg: out of memory) at that second: a crash, a kill, "
        "a restart, a deployment"
    )
    probes = [case.ask_server(), case.doctor()]
    verb = "closed the connection" if did == "closed" else "reset the connection"
    if seconds is not None:
        return Finding(
            hop="upstream",
            name="worker_timeout",
            summary=f"{case.server} {verb} without an answer after {seconds} s: it looks like a worker timeout there.",
            confidence=0.7,
            evidence=[*evidence, *known_timeout(seconds)],
            cure=[
                (
                    "make the request faster, or raise the worker timeout of the server (gunicorn --timeout, uWSGI "
                    "harakiri, request_terminate_timeout)"
                ),
                log,
                "a load balancer in TCP mode there closes so when its own timeout ends, or when it finds no server (HAProxy: "
                "timeout server; timeout connect with its retries): look into its log",
            ],
            probes=probes,
        )
    if waited is not None and waited <= AT_ONCE_MS and case.is_fresh:
        return Finding(
            hop="upstream",
            name=f"{did}_at_once",
            summary=f"{case.server} took the connection and {did} it at once, without a byte of an answer.",
            confidence=min(confidence, 0.7 if case.is_loopback else 0.6),
            evidence=evidence,
            cure=[log, *_at_once(case)],
            probes=[
                case.ask_server(),
                *([] if case.is_over_tls else [case.ask_server(flags=("--haproxy-protocol",))]),
                calls.show_certificate(case.address, case.attempt.host),
                case.doctor(),
            ],
        )
    return Finding(
        hop="upstream",
        name=f"{did}_while_working",
        summary=f"{case.server} {verb} without a byte of an answer"
        + (f", {ms(waited)} after it had the request." if waited is not None else "."),
        confidence=confidence,
        evidence=evidence,
        cure=[log, "a load balancer in TCP mode there: look whether its server died"],
        probes=probes,
    )


def _at_once(case: Case) -> list[str]:
    """What closes a connection on which it got a request, without a word."""
    names = "a web server that closes for names it does not know (nginx: `return 444`): call it by one that it knows, as `host`"
    lines = [
        "a load balancer in TCP mode without a living server behind it does this: look at its health checks",
        f"{names} of the Service, or keep the client's with preserve_host of the Route",
        "a list of allowed addresses there: let the gateway's address in",
    ]
    if case.is_over_tls:
        # It shook hands: it speaks TLS, and expects nothing before it.
        asked = "it asked for a client certificate (mTLS) and got none: this version shows none to upstreams"
        return [*([asked] if case.attempt.tls.wants_certificate else []), *lines]
    return [
        lines[0],
        "a server that expects the PROXY protocol does this: turn it off there (accept-proxy, proxy_protocol)",
        *lines[1:],
        "a port that speaks TLS alone:",
        case.patch_service(protocol="https"),
        "a port that speaks HTTP/2 alone, or no HTTP (php-fpm, a database): let it speak HTTP/1.1, or call another port",
    ]


def _in_head(case: Case, *, did: str, confidence: float) -> Finding:
    """It ended in the middle of the answer's head."""
    attempt = case.attempt
    interim = _INTERIM.match(attempt.first_bytes or "")
    is_line = not _has_line(case)
    shown = case.first_bytes()
    waited = case.waited_ms
    evidence = [case.connection(), case.traffic(), *([shown] if shown else [])]
    evidence += known_timeout(round_seconds(waited)) if waited is not None and waited > AT_ONCE_MS else []
    if interim:
        return Finding(
            hop="upstream",
            name=f"{did}_after_interim",
            summary=f"{case.server} sent an interim answer ({escaped(interim[0][9:])}) and {did} before the real one.",
            confidence=confidence,
            evidence=evidence,
            cure=["the server took the request up, and crashed or gave up at work on it: look into its log at that second"],
            probes=[case.ask_server(), case.doctor()],
        )
    where = "in the middle of the status line" if is_line else "in the middle of the header fields"
    return Finding(
        hop="upstream",
        name=f"{did}_in_status_line" if is_line else f"{did}_in_head",
        summary=f"{case.server} began to answer and {did} the connection {where}, after {size(attempt.received_bytes)}.",
        confidence=confidence,
        evidence=evidence,
        cure=["the server crashed or was killed as it answered: look into its log at that second"],
        probes=[case.ask_server(), case.doctor()],
    )


def _has_line(case: Case) -> bool:
    said = case.attempt.first_bytes or ""
    received = case.attempt.received_bytes or 0
    return "\\x0A" in said or "\n" in said or received > 64


def write_failed(case: Case) -> Finding:
    """`write_failed`."""
    if _was_crossed(case) and not _took_much(case):
        return _at_reuse(case, is_reset="104" in case.hints or case.attempt.ended == "rst")
    return Finding(
        hop="upstream",
        name="closed_while_sending",
        summary=f"{case.server} closed the connection while the request was being sent, and said nothing.",
        confidence=0.7,
        evidence=[case.connection(), case.traffic()],
        cure=[
            (
                "a body that the server does not want (its limit of body size; it should answer 413 and read on): "
                "raise the limit there"
            ),
            "or a crash or restart: look into the server's log at that second",
        ],
        probes=[case.ask_server(), case.doctor()],
    )


def _took_much(case: Case) -> bool:
    sent = case.attempt.sent_bytes
    return sent is not None and sent > 65_536


def write_timeout(case: Case) -> Finding:
    """`write_timeout`."""
    limit = case.attempt.timer.ms or (case.facts.service.write_timeout_ms if case.facts.service else None)
    evidence = [case.connection(), case.traffic(), f"write_timeout bounds the silence between two writes: {ms(limit)}"]
    lost = swallowed(case, evidence)
    if lost is not None:
        return lost
    return Finding(
        hop="upstream",
        name="does_not_read",
        summary=f"{case.server} stopped taking the request: not a byte of it could be sent for {ms(limit)}.",
        confidence=0.65,
        evidence=[*evidence, *acknowledged(case)],
        cure=[
            "look whether the server hangs, or reads bodies slowly (all of its workers busy)",
            "if it may take longer:",
            case.patch_service(write_timeout=_more(limit)),
        ],
        probes=[
            case.ask_server(),
            "on that machine: ss -tn (a Recv-Q that does not shrink: the server does not read)",
            case.doctor(),
        ],
    )


def read_timeout(case: Case) -> Finding:
    """`read_timeout`."""
    attempt, service = case.attempt, case.facts.service
    limit = attempt.timer.ms or (service.read_timeout_ms if service else None)
    named = attempt.timer.name or "read_timeout"
    silence = f"{escaped(named)} ended it after {ms(limit)} of silence"
    evidence = [case.connection(), case.traffic(), silence]
    lost = None if attempt.received_bytes else swallowed(case, evidence)
    if lost is not None:
        return lost
    evidence += acknowledged(case)
    if attempt.connect_ms is not None:
        evidence.append("the network worked when the connection was made, just before")
    cure = [
        "find what the server waits for: a slow query, a lock, a service it calls, all of its workers busy",
        "if it may take longer:",
        case.patch_service(read_timeout=_more(limit)),
        "and let whatever stands before the gateway wait longer than that",
    ]
    if named.startswith("per_try_timeout"):
        cure[1:3] = [f"the plugin `resilience` bounds each attempt ({escaped(named)}): raise it there"]
    probes = [case.ask_server(flags=("--max-time", "300")), case.doctor()]
    if attempt.received_bytes:
        shown = case.first_bytes()
        if _INTERIM.match(attempt.first_bytes or ""):
            return Finding(
                hop="upstream",
                name="interim_answers_alone",
                summary=f"{case.server} sent interim answers (1xx) and never the real one within {ms(limit)}.",
                confidence=0.75,
                evidence=[*evidence, *([shown] if shown else [])],
                cure=[
                    "look why the server only says that it goes on (100 Continue, 102, 103): the answer itself never came",
                    *cure,
                ],
                probes=probes,
            )
        return Finding(
            hop="upstream",
            name="stalled_in_head",
            summary=f"{case.server} began to answer, and stalled or was too slow in the middle of the head: it had {ms(limit)}.",
            confidence=0.75,
            evidence=[*evidence, *([shown] if shown else [])],
            cure=cure,
            probes=probes,
        )
    return Finding(
        hop="upstream",
        name="no_answer_in_time",
        summary=f"{case.server} has the request and did not answer it within {ms(limit)}.",
        confidence=0.7,
        evidence=evidence,
        cure=cure,
        probes=probes,
    )


def _more(limit: float | None) -> int | str:
    """Twice as long, for an example."""
    return int(limit * 2) if limit and limit < 86_400_000 else "MILLISECONDS"


def dead(case: Case) -> Finding:
    """`connection_dead`: nothing that was sent on a pooled connection was acknowledged."""
    attempt = case.attempt
    is_alive = any(
        one.address == attempt.address and one.status is not None and (one.offset_ms or 0) > (attempt.offset_ms or 0)
        for one in case.facts.attempts
    )
    evidence = [case.connection(), "nothing of what was sent was acknowledged, not even by the kernel at the other end"]
    if is_alive:
        evidence.append(f"a fresh connection to {quoted(attempt.address)} was answered right after: the server is well")
    idle = attempt.idle_ms
    seconds = max(1, math.floor(idle / 2000)) if idle and idle >= 2000 else 1
    return Finding(
        hop="network",
        name="connection_forgotten",
        summary=f"The idle connection to {case.server} was dead: a firewall or NAT between forgot it without a word.",
        confidence=0.85 if is_alive else 0.7,
        evidence=evidence,
        cure=[
            f"give idle connections up before the firewall does: it forgot this one within {ms(idle)}; set "
            f"`upstream_keepalive_idle_timeout = {seconds}` in kong.conf, then:",
            "pylae reload",
            "or raise the firewall's time for idle TCP connections",
            _IDEMPOTENCY,
        ],
        probes=[calls.reach(case.address), "a machine that went down without closing looks the same: is it up?", case.doctor()],
    )


RULES = {
    "closed_before_headers": closed,
    "reset": reset,
    "write_failed": write_failed,
    "write_timeout": write_timeout,
    "read_timeout": read_timeout,
    "connection_dead": dead,
}
