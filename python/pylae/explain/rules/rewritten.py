# SPDX-License-Identifier: Apache-2.0
"""Did a plugin send the request somewhere else than the Service says?"""

from __future__ import annotations

from typing import Final

from pylae.explain import calls
from pylae.explain.case import Case, Finding
from pylae.explain.facts import PluginStep
from pylae.explain.words import escaped, quoted

REWRITERS: Final = {
    "request-transformer": "it may replace the URI",
    "request-transformer-advanced": "it may replace the URI",
    "pre-function": "its code may set host, path and method",
    "post-function": "its code may set host, path and method",
    "ai-proxy": "it chooses the host itself",
    "grpc-gateway": "it rewrites path and body",
    "grpc-web": "it rewrites the body",
}
"""Bundled plugins that change where a request goes, and how."""


def rewriters(case: Case) -> list[PluginStep]:
    """Steps of plugins that are known to change where a request goes."""
    return [step for step in case.facts.plugins if step.name in REWRITERS]


def target_changed(case: Case, host: str | None, outcome: str, *, confidence: float) -> Finding | None:
    """The request went elsewhere than the Service says, and no Upstream stands between.

    Args:
        case: of the exchange.
        host: where it went.
        outcome: what was met there: `which could not be reached`.
        confidence: that the plugin is to blame, and not the host it chose.
    """
    service = case.facts.service
    if case.facts.upstream is not None or service is None or not service.host or not host:
        return None
    port = _port(case)
    if _bare(service.host) != _bare(host):
        wanted, went = service.host, host
    elif service.port is not None and port is not None and service.port != port:
        wanted, went = f"{service.host}:{service.port}", f"{host}:{port}"
    else:
        return None
    return Finding(
        hop="plugin",
        name="target_changed_by_plugin",
        summary=f"A plugin sent the request to {quoted(went)}, not to {quoted(wanted)} as the Service says, {outcome}.",
        confidence=confidence,
        evidence=[f"the Service says {quoted(wanted)}; the request went to {quoted(went)}", _suspects(case)],
        cure=["look at the plugin that sets host or URI; to see what happens without it:", _without(case)],
        probes=[case.doctor()],
    )


def _port(case: Case) -> int | None:
    """The port that was called; `None` where a SRV record may have named it."""
    found = calls.split_address(case.address)
    return int(found[1]) if found is not None and not case.is_named and len(found[1]) <= 5 else None


def scheme_changed(case: Case, scheme: str, shown: list[str]) -> Finding | None:
    """The server does not speak what we spoke, and the Service says something else than we spoke.

    Args:
        case: of the exchange.
        scheme: what was spoken, `http` or `https`.
        shown: what shows that the server does not speak it.
    """
    service = case.facts.service
    wanted = service.protocol if service else None
    if wanted not in ("http", "https") or wanted == scheme:
        return None
    return Finding(
        hop="plugin",
        name="scheme_changed_by_plugin",
        summary=(
            f"A plugin made the gateway speak {scheme} to {case.server}; the Service says {wanted}, and the server "
            f"does not speak {scheme}."
        ),
        confidence=0.75,
        evidence=[f"the Service's protocol is {wanted}, and {scheme} was spoken", _suspects(case), *shown],
        cure=["look at the plugin that sets the scheme; to see what happens without it:", _without(case)],
        probes=[case.doctor()],
    )


def _suspects(case: Case) -> str:
    steps = rewriters(case) or case.facts.plugins
    names = list(dict.fromkeys(escaped(step.name) for step in steps if step.name))
    return f"plugins that ran and may have done it: {', '.join(names) if names else '(not recorded)'}"


def _without(case: Case) -> str:
    return case.patch_plugin(next(iter(rewriters(case) or case.facts.plugins), None), enabled=False)


def _bare(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()
