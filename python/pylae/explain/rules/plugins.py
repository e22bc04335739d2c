# SPDX-License-Identifier: Apache-2.0
"""Which plugin failed, or refused the request, and for want of what?"""

from __future__ import annotations

import re
from typing import Final

from pylae.explain.case import Case, Finding
from pylae.explain.facts import PluginStep
from pylae.explain.words import escaped, ms, quoted

_WANTS: Final = {
    "key-auth": ("a key", ("apikey",), "key_names says in which header or query parameter; `apikey` by default"),
    "basic-auth": ("a name and password", ("authorization", "proxy-authorization"), "Authorization: Basic"),
    "jwt": ("a signed token", ("authorization",), "Authorization: Bearer, or what uri_param_names and cookie_names say"),
    "oauth2": ("an access token", ("authorization",), "Authorization: Bearer, or access_token in query or body"),
    "hmac-auth": ("a signature", ("authorization", "proxy-authorization"), "Authorization: hmac, with the Date header it signs"),
    "ldap-auth": ("a name and password of the directory", ("authorization", "proxy-authorization"), "Authorization: ldap"),
    "ldap-auth-advanced": (
        "a name and password of the directory",
        ("authorization", "proxy-authorization"),
        "Authorization: what header_type says",
    ),
    "openid-connect": ("a token, or a session's cookie", ("authorization", "cookie"), "Authorization: Bearer, or a login"),
    "oauth2-introspection": ("an access token", ("authorization",), "Authorization: Bearer, or access_token in query or body"),
    "mtls-auth": ("a client certificate", (), "in the TLS handshake"),
    "session": ("a session's cookie", ("cookie",), "the cookie that the plugin set"),
    "standard-webhooks": ("a webhook's signature", ("webhook-signature",), "webhook-id, webhook-timestamp, webhook-signature"),
}
"""What each authenticating plugin wants, in which headers, and in words."""
_REFUSES: Final = {
    "acl": "the Consumer is in no group that may pass, or in one that may not",
    "ip-restriction": "the client's address is not allowed, or is denied",
    "bot-detection": "the User-Agent is of a bot that is denied",
    "auth-damping": "too many attempts failed from this address, or for this name",
    "rate-limiting": "more requests came than its limit allows",
    "response-ratelimiting": "more was used than its limit allows",
    "request-size-limiting": "the body is larger than allowed_payload_size",
    "oauth2": "it answers its own endpoints /oauth2/authorize and /oauth2/token; `error` in the body says why nothing was given",
    "request-termination": "it answers every request of its scope, as it was told",
    "cors": "it answers preflight requests itself",
    "ai-prompt-guard": "the prompt matches a pattern that is denied, or none that is allowed",
    "redirect": "it redirects every request of its scope, as it was told",
    "proxy-cache": "it answered from its cache, or Cache-Control: only-if-cached found nothing there",
    "pre-function": "its code answered",
    "post-function": "its code answered",
    "aws-lambda": "the function that it calls answered so, or could not be called",
    "azure-functions": "the function that it calls answered so, or could not be called",
}
"""Why other plugins answer."""
_UNAUTHORIZED: Final = 401
_PLACE: Final = re.compile(r"plugin (?P<plugin>[\w.-]{1,80}) failed in (?P<phase>\w{1,40})")
_UNDONE: Final = "its work is not part of this version"
_AWAY: Final = (
    "connect call failed",
    "connectionrefused",
    "timed out",
    "timeout",
    "timeouterror",
    "connection refused",
    "connecterror",
    "connection reset",
    "unreachable",
    "name or service",
)


def _step(case: Case, outcome: str) -> PluginStep:
    """The step that decided: the one whose outcome it was, else the last of the plugin that is named."""
    facts = case.facts
    name = facts.plugin
    if name is None and (found := _PLACE.search(case.detail)):
        name = found["plugin"]
    matching = [step for step in facts.plugins if step.outcome == outcome and name in (None, step.name)]
    named = [step for step in facts.plugins if step.name == name and name is not None]
    return (matching or named or [PluginStep(name=name)])[-1]


def failed(case: Case) -> Finding:
    """`plugin_failed`, `filter_failed`."""
    step = _step(case, "failed")
    place = _PLACE.search(case.detail)
    phase = step.phase or (place["phase"] if place else None)
    said = step.detail or case.detail
    evidence = [f"it said: {escaped(said, 400)}"] if said else []
    if step.took_us is not None:
        evidence.append(f"it took {ms(step.took_us / 1000)} in {escaped(phase or '?', 40)}")
    without = ["to see what happens without it:", case.patch_plugin(step, enabled=False)]
    if "128 mib" in case.hints:
        return Finding(
            hop="plugin",
            name="answer_too_large_for_plugin",
            summary="The answer is over 128 MiB, too large for a plugin that wants to see it whole.",
            confidence=0.85,
            evidence=evidence,
            cure=["let the plugins with a `response` phase not apply to this Route", *without],
        )
    if _UNDONE in said:
        return Finding(
            hop="plugin",
            name="plugin_undone",
            summary=f"The plugin {quoted(step.name)} has no code in this version, and refuses every request of its scope.",
            confidence=0.95,
            evidence=evidence,
            cure=["take it off, or turn it off until a version that has it:", case.patch_plugin(step, enabled=False)],
        )
    if any(word in said.lower() for word in _AWAY):
        return Finding(
            hop="plugin",
            name="plugin_backend_away",
            summary=(
                f"The plugin {quoted(step.name)} could not reach what it depends on (identity provider, store, "
                "function), and failed."
            ),
            confidence=0.85,
            evidence=evidence,
            cure=[
                "look at the address and the health of what it calls, from the gateway's machine; and at its own timeout",
                *without,
            ],
        )
    return Finding(
        hop="plugin",
        name="plugin_raised",
        summary=(
            f"The plugin {quoted(step.name)} failed in {escaped(phase or 'one of its phases', 40)}: it raised or "
            "returned rubbish."
        ),
        confidence=0.95 if step.name else 0.85,
        evidence=evidence or ["error.log has its lines at that second"],
        cure=["mend the plugin at the line named; error.log has the whole traceback", *without],
    )


def identity_system(case: Case) -> Finding:
    """`identity_system_failed`."""
    step = _step(case, "failed")
    said = step.detail or case.detail
    if found := _PLACE.search(said):
        said = said[found.end() :].removeprefix(": ")
    system, _, reason = said.partition(": ")
    is_ours = system.startswith("the database,")
    summary = f"The plugin {quoted(step.name)} could not ask {escaped(system, 200) or 'what it depends on'} who the client is."
    evidence = [f"it said: {escaped(said, 400)}"] if said else []
    if step.took_us is not None:
        evidence.append(f"it waited {ms(step.took_us / 1000)}")
    cure = (
        ["is the control process running, and does its database answer? error.log has its lines at that second:", "pylae health"]
        if is_ours
        else [
            f"look at {escaped(system, 200)} from the gateway's machine: is it up, the way open, its certificate trusted?",
            "compare address and timeout with the plugin's configuration:",
            _show(case, step),
        ]
    )
    return Finding(
        hop="plugin",
        name="identity_system_away",
        summary=summary,
        confidence=0.95 if said and reason else 0.85,
        evidence=evidence or ["error.log has its lines at that second"],
        cure=cure,
    )


def refused(case: Case) -> Finding:
    """`plugin_refused`."""
    step = _step(case, "answered")
    name, status = step.name, step.status or case.facts.status
    evidence = [f"{quoted(name)} answered {status} in {escaped(step.phase or 'access', 40)}; nothing was sent to the upstream"]
    if step.detail:
        evidence.append(f"it said: {escaped(step.detail, 400)}")
    if any(word in (step.detail or "").lower() for word in _AWAY):
        return Finding(
            hop="plugin",
            name="plugin_backend_away",
            summary=f"The plugin {quoted(name)} answered {status}: it could not reach what it depends on.",
            confidence=0.85,
            evidence=evidence,
            cure=["look at the address and the health of what it calls, from the gateway's machine"],
        )
    wants = _WANTS.get(name or "")
    if wants is not None and status in (_UNAUTHORIZED, 403):
        return _credential(case, step, wants, status, evidence)
    if status is not None and status >= 500 and name not in ("request-termination", "pre-function", "post-function"):
        return Finding(
            hop="plugin",
            name="plugin_answered_error",
            summary=f"The plugin {quoted(name)} answered {status}; the upstream was not asked.",
            confidence=0.9,
            evidence=evidence,
            cure=["see its lines in error.log at that second: something that it needs may be away", case.get("/plugins")],
        )
    why = _REFUSES.get(name or "")
    return Finding(
        hop="plugin",
        name="plugin_answered",
        summary=f"The plugin {quoted(name)} answered {status}{f': {why}' if why else ' itself'}.",
        confidence=0.95 if name else 0.85,
        evidence=evidence,
        cure=["see how it is configured, and for which scope:", _show(case, step)],
    )


def _show(case: Case, step: PluginStep) -> str:
    return case.get(f"/plugins/{step.id}") if step.id and re.fullmatch(r"[0-9a-fA-F-]{36}", step.id) else case.get("/plugins")


def _credential(
    case: Case, step: PluginStep, wants: tuple[str, tuple[str, ...], str], status: int | None, evidence: list[str]
) -> Finding:
    what, headers, where = wants
    came = [key for key, _ in case.facts.request.headers if key.lower() in headers]
    asked = [key for key in case.facts.request.query if key.lower() in (*headers, "jwt", "access_token")]
    is_given = bool(came or asked)
    shown = ", ".join(quoted(one, 60) for one in (*came, *asked)[:4])
    if headers:
        evidence.append(f"the request came with {shown}" if is_given else f"none of these came: {', '.join(headers)}")
    return Finding(
        hop="plugin",
        name="credential_refused" if is_given else "credential_missing",
        summary=(
            f"The plugin {quoted(step.name)} refused the request ({status}): "
            f"{'what it came with was not accepted' if is_given else f'it wants {what}, and none came'}."
        ),
        confidence=0.95,
        evidence=evidence,
        cure=[
            f"send {what} ({where})"
            if not is_given
            else f"look whether the Consumer and its credential exist, and when they end ({where})",
            case.get("/consumers"),
            "how the plugin is configured:",
            _show(case, step),
        ],
    )


RULES = {
    "plugin_failed": failed,
    "identity_system_failed": identity_system,
    "filter_failed": failed,
    "plugin_refused": refused,
}
