# SPDX-License-Identifier: Apache-2.0
"""How long does a server keep an idle connection? Found out by waiting, for as long as the gateway would keep it."""

from __future__ import annotations

import time
from typing import Final

from pylae.doctor import handshakes
from pylae.doctor.answers import Answer, ask
from pylae.doctor.findings import Finding
from pylae.doctor.links import HandshakeFailed, Link, LinkEnded
from pylae.doctor.looks import Look
from pylae.explain.words import ms

LONGEST_S: Final = 120.0
_MARGIN_S: Final = 1.0


async def closes_after(look: Look, keepalive_s: float) -> tuple[list[Finding], str]:
    """What is wrong with how long one server keeps a connection, and the line that says it.

    Args:
        look: at that server; it answered.
        keepalive_s: how long the gateway keeps an idle connection; 0: for ever.
    """
    aim, wait_s = look.aim, min(keepalive_s or LONGEST_S, LONGEST_S) + _MARGIN_S
    try:
        with await Link.connect(look.place, aim.patience_s) as link:
            if aim.is_tls:
                await link.start_tls(handshakes.context(), aim.server_name or aim.host)
            answer = await ask(link, aim.question("HEAD"))
            if not isinstance(answer, Answer):
                return [], "the server did not answer again"
            began_s = time.monotonic()
            link.extend(wait_s)
            try:
                while await link.receive():
                    pass
            except LinkEnded as ended:
                if ended.how == "timeout":
                    return [], f"the server keeps an idle connection for {wait_s:.0f} s and more"
            idle_ms = (time.monotonic() - began_s) * 1000
    except (LinkEnded, HandshakeFailed) as error:
        return [], f"the server did not take another connection: {error}"
    below_s = max(int(idle_ms * 0.8 / 1000), 1)
    kept = "without end" if keepalive_s == 0 else f"for {keepalive_s:g} s"
    finding = Finding(
        hop="upstream",
        phase="send_request",
        cause="closed_before_headers",
        finding="idle_timeout_below_ours",
        summary=f"{look.place} closes a connection that was idle for {ms(idle_ms)}; the gateway keeps it {kept}.",
        confidence=0.85,
        is_broken=False,
        evidence=(
            f"a connection of this command was closed after {ms(idle_ms)} of idleness",
            "a request that is sent at the moment the server closes is lost; those that may not be repeated fail",
        ),
        cure=(
            f"set upstream_keepalive_idle_timeout = {below_s}, and reload",
            f"or have the server keep idle connections for longer than {keepalive_s:g} s",
        ),
        attempts=(look.attempt(),),
    )
    return [finding], f"the server closes a connection that was idle for {ms(idle_ms)}"
