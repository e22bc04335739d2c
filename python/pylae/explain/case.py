# SPDX-License-Identifier: Apache-2.0
"""What do rules ask of the facts? The attempt that decided, whom it spoke with, how long it took, what came back."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pylae.explain import calls
from pylae.explain.facts import AttemptFacts, Facts, PluginStep
from pylae.explain.phases import unmade
from pylae.explain.words import count, escaped, ms, quoted, size

LOAD_BALANCERS = {
    "nginx": "nginx",
    "openresty": "OpenResty",
    "haproxy": "HAProxy",
    "envoy": "Envoy",
    "elb": "an AWS load balancer",
    "cloudfront": "CloudFront",
    "cloudflare": "Cloudflare",
    "traefik": "Traefik",
    "kubernetes_ingress": "a Kubernetes ingress",
    "apache": "Apache httpd",
    "varnish": "Varnish",
    "caddy": "Caddy",
    "kong": "Kong",
    "pylae": "another Pylae",
    "google": "a Google load balancer",
    "azure": "an Azure gateway",
}
"""Authors of answers that stand before servers, as `written_by` spells them, and in words."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found."""

    hop: str | None
    name: str
    summary: str
    confidence: float
    evidence: Sequence[str] = ()
    cure: Sequence[str] = ()
    probes: Sequence[str] = ()


class Case:
    """The facts of one exchange, asked."""

    def __init__(self, facts: Facts, admin_url: str) -> None:
        self.facts = facts
        self.admin_url = admin_url
        failed = [attempt for attempt in facts.attempts if attempt.fault]
        self.fault: str | None = facts.fault or (failed[-1].fault if failed else None)
        """The name of the fault that is explained; `None` when nothing failed."""
        same = [attempt for attempt in facts.attempts if attempt.fault and attempt.fault == self.fault]
        last = facts.attempts[-1] if facts.attempts else AttemptFacts()
        self.attempt: AttemptFacts = same[-1] if same else last
        """The one that decided; an empty one when none was made."""

    # Who and where

    @property
    def is_well_answered(self) -> bool:
        """Did the client get an answer below 500 in spite of it?"""
        return self.facts.status is not None and self.facts.status < 500 and self.facts.status != 499

    @property
    def detail(self) -> str:
        """What was found: of the attempt, else of the exchange."""
        mine = self.facts.detail if self.fault == self.facts.fault else None
        return mine or self.attempt.detail or ""

    @property
    def hints(self) -> str:
        """Everything the data plane said of it, in lower case, to look for words in."""
        mine = (self.facts.detail, self.facts.phrase) if self.fault == self.facts.fault else ()
        parts = (*mine, self.attempt.detail, self.attempt.phrase, self.attempt.tls.alert)
        return " ".join(part for part in parts if part).lower().replace("unrecognised", "unrecognized")

    @property
    def first_bytes_hex(self) -> bytes:
        """The first bytes that came back, at most 16."""
        text = "".join((self.attempt.first_bytes_hex or "").split())
        try:
            return bytes.fromhex(text)
        except ValueError:
            return b""

    @property
    def address(self) -> str | None:
        """Where the deciding attempt went, `host:port`, if an address was found."""
        return self.attempt.address

    @property
    def server(self) -> str:
        """The far end in words."""
        address, host = self.attempt.address, self.attempt.host
        if address and host and calls.split_address(address) != (host, address.rpartition(":")[2]):
            return f"{quoted(address)} ({escaped(host)})"
        return quoted(address or host or (self.facts.service.host if self.facts.service else None))

    @property
    def is_loopback(self) -> bool:
        """Is the far end on this machine, so that no network lies between?"""
        found = calls.split_address(self.attempt.address)
        if found is None:
            return False
        try:
            return ipaddress.ip_address(found[0]).is_loopback
        except ValueError:
            return False

    @property
    def is_named(self) -> bool:
        """May the address be wrong because a name led to it?"""
        if self.attempt.dns.state is not None:
            return self.attempt.dns.state != "literal"
        return not calls.is_address(self.attempt.host or "")

    @property
    def is_fresh(self) -> bool:
        """Was the connection made for this request?"""
        return self.attempt.reused is None

    @property
    def unmade(self) -> Literal["connect", "tls_handshake"] | None:
        """What of the connection was still being made when the exchange ended; `None` when it had been made, or had failed."""
        return unmade(self.facts)

    @property
    def is_over_tls(self) -> bool:
        """Had the deciding attempt shaken hands, so that the port speaks TLS with us?"""
        return self.attempt.tls_ms is not None or self.attempt.tls.version is not None

    @property
    def is_passed_on(self) -> bool:
        """Did whom we called serve this connection well, and hand on what something behind it had said?

        Servers close a connection on which they were spoken to in the wrong way; one that was kept shows another hop.
        """
        return self.attempt.reused is not None or self.attempt.ended == "kept"

    # Calls

    @property
    def service_key(self) -> str | None:
        """Name or id of the Service."""
        service = self.facts.service
        return (service.name or service.id) if service else None

    def patch_service(self, **fields: object) -> str:
        """The call that changes the Service."""
        return calls.admin(self.admin_url, "PATCH", f"/services/{calls.part(self.service_key, 'SERVICE')}", **fields)

    def patch_target(self, **fields: object) -> str:
        """The call that changes where the requests go: the Service's host and port, or a Target of its Upstream."""
        if self.facts.upstream is None:
            return self.patch_service(**fields)
        path = f"/upstreams/{calls.part(self.upstream_key, 'UPSTREAM')}/targets"
        return calls.admin(self.admin_url, "POST", path, target="HOST:PORT")

    def patch_route(self, **fields: object) -> str:
        """The call that changes the Route."""
        route = self.facts.route
        key = (route.name or route.id) if route else None
        return calls.admin(self.admin_url, "PATCH", f"/routes/{calls.part(key, 'ROUTE')}", **fields)

    def get(self, path: str) -> str:
        """A call that asks the Admin API."""
        return calls.admin(self.admin_url, "GET", path)

    def patch_plugin(self, step: PluginStep | None, **fields: object) -> str:
        """The call that changes a plugin."""
        return calls.admin(self.admin_url, "PATCH", f"/plugins/{calls.part(step.id if step else None, 'PLUGIN-ID')}", **fields)

    @property
    def upstream_key(self) -> str | None:
        """Name or id of the Upstream, if the Service's host names one."""
        upstream = self.facts.upstream
        return (upstream.name or upstream.id) if upstream else None

    def doctor(self, *flags: str) -> str:
        """The active check of what this request was for."""
        key = self.service_key
        return calls.join(["pylae", "doctor", *(["--service", key] if key else []), *flags])

    def doctor_of_hops(self) -> str:
        """The check that sends a marked request the way that this one came."""
        request = self.facts.request
        path = request.path if request.path and request.path.startswith("/") else "/"
        return calls.join(["pylae", "doctor", f"{request.scheme or 'http'}://{request.host or 'HOST'}{path}", "--hops"])

    def ask_server(self, *, scheme: str | None = None, flags: tuple[str, ...] = (), host: str | None = None) -> str:
        """The same request to the far end, without the gateway.

        Args:
            scheme: that of the Service when it is not given.
            flags: of curl.
            host: for the field `Host`; the name that the Service has when it is not given.
        """
        service = self.facts.service
        scheme = scheme or ("https" if service and service.protocol == "https" else "http")
        host = host or (self.attempt.host if self.is_named else None)
        if scheme == "https":
            flags = ("-k", *flags)
        return calls.ask(self.attempt.address, scheme=scheme, host=host, path=self.upstream_path, flags=flags)

    @property
    def upstream_path(self) -> str | None:
        """The path as the Service gets it, when no plugin changed it."""
        path, route, service = self.facts.request.path, self.facts.route, self.facts.service
        if not path:
            return None
        begin = (service.path if service else None) or ""
        if route is not None and route.strip_path and route.path_prefix_bytes is not None:
            path = path.encode()[route.path_prefix_bytes :].decode(errors="replace")
        if not begin or begin == "/":
            return f"/{path.removeprefix('/')}"
        return f"{begin.rstrip('/')}/{path.removeprefix('/')}" if path else begin

    # Times

    @property
    def lasted_ms(self) -> float | None:
        """How long the deciding attempt took, as far as offsets tell."""
        begin = self.attempt.offset_ms
        if begin is None:
            return None
        later = [other.offset_ms for other in self.facts.attempts if other.offset_ms is not None and other.offset_ms > begin]
        end = min(later) if later else self.facts.duration_ms
        return None if end is None or end < begin else end - begin

    @property
    def waited_ms(self) -> float | None:
        """How long the far end was silent after it had the request, as far as offsets tell."""
        lasted = self.lasted_ms
        if lasted is None:
            return None
        since = self.attempt.first_byte_ms or self.attempt.sent_ms or 0.0
        return lasted - since if lasted >= since else None

    # Sentences

    def connection(self) -> str:
        """On what connection."""
        attempt = self.attempt
        if attempt.reused is not None:
            return (
                f"the connection to {self.server} was a pooled one: it had carried {count(attempt.reused, 'request')}, "
                f"lay idle for {ms(attempt.idle_ms)} and was {ms(attempt.age_ms)} old"
            )
        if attempt.connect_ms is not None:
            shook = f" (of it {ms(attempt.tls_ms)} for TLS)" if attempt.tls_ms is not None else ""
            return f"a fresh connection to {self.server} was made in {ms(attempt.connect_ms)}{shook}"
        return f"a connection to {self.server} was tried"

    def traffic(self) -> str:
        """What went and came."""
        attempt = self.attempt
        whole = ""
        if attempt.sent_bytes is not None and attempt.request_bytes:
            whole = (
                ", the whole request," if attempt.sent_bytes >= attempt.request_bytes else f" of {size(attempt.request_bytes)}"
            )
        ended = {"fin": "; then it closed the connection (FIN)", "rst": "; then it reset the connection (RST)"}.get(
            attempt.ended or "", ""
        )
        return f"{size(attempt.sent_bytes)}{whole} were sent, {size(attempt.received_bytes)} came back{ended}"

    def first_bytes(self) -> str | None:
        """What it said."""
        attempt = self.attempt
        if not attempt.first_bytes and not attempt.first_bytes_hex:
            return None
        shown = f"the first bytes from {self.server} were {quoted(attempt.first_bytes, 64)}"
        return f"{shown} (hex {escaped(attempt.first_bytes_hex, 64)})" if attempt.first_bytes_hex else shown

    def signs_of_first_lb(self) -> list[str]:
        """What shows that something stands between the client and us."""
        client, signs = self.facts.client, []
        if client.forwarded_for_count:
            signs.append(f"`X-Forwarded-For` came with {count(client.forwarded_for_count, 'address', 'addresses')}")
        via = client.via or self.facts.request.header("via")
        if via:
            signs.append(f"`Via` came as {quoted(via, 80)}")
        if self.facts.request.header("forwarded"):
            signs.append("a `Forwarded` field came")
        if client.is_told and not signs:
            signs.append(f"the client's address {quoted(client.ip)} is not that of the connection")
        # Alone it shows nothing: clients call from such networks, too.
        if client.is_trusted and signs:
            signs.insert(0, f"the peer {quoted(client.peer)} is among `trusted_ips`")
        return signs

    def _same_or_which(self, others: Sequence[AttemptFacts]) -> str:
        """How the other attempts failed: like the one that decided, or which did so how often."""
        ways = Counter((one.address or one.host, one.fault) for one in others)
        mine = (self.attempt.address or self.attempt.host, self.attempt.fault)
        if set(ways) == {mine}:
            return "the same way"
        told = [
            f"{quoted(where)} {escaped(fault or '')}{f' {times} times' if times > 1 else ''}"
            for (where, fault), times in ways.most_common(5)
        ]
        return f"too: {', '.join(told)}{', and others' if len(ways) > len(told) else ''}"

    def common_evidence(self) -> list[str]:
        """What is worth to know beside the rule's own evidence."""
        lines = []
        attempt, facts = self.attempt, self.facts
        if attempt.again:
            lines.append(f"it was {escaped(attempt.again)}")
        others = [one for one in facts.attempts if one is not attempt and one.fault]
        if others:
            lines.append(f"{count(len(others), 'other attempt')} failed {self._same_or_which(others)}")
        if facts.attempts_left_out:
            lines.append(f"{count(facts.attempts_left_out, 'attempt')} more are left out of the record")
        return lines
