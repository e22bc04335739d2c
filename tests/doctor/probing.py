# SPDX-License-Identifier: Apache-2.0
"""What does the doctor find at one address?"""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

from pylae.doctor import answering, reaching, securing
from pylae.doctor.aims import Aim, default_host_header
from pylae.doctor.findings import Finding, worst_first
from pylae.doctor.links import Place
from pylae.doctor.looks import Look, look

ADMIN_URL = "http://localhost:8001"


def aim_at(port: int, protocol: str = "http", **fields: Any) -> Aim:
    """As a Service for a server on this machine would be aimed."""
    service = {
        "id": "5e0f6b51-0000-4000-8000-000000000001",
        "name": "orders",
        "protocol": protocol,
        "host": "127.0.0.1",
        "port": port,
        "connect_timeout": 60000,
        "read_timeout": 60000,
        **fields.pop("service", {}),
    }
    is_tls = protocol == "https"
    told = {
        "host": "127.0.0.1",
        "host_header": default_host_header("127.0.0.1", port, is_tls=is_tls),
        "patience_s": 2.0,
        **fields,
    }
    return Aim(service=service, admin_url=ADMIN_URL, **told)


def see(aim: Aim, port: int) -> Look:
    """One look."""
    return asyncio.run(look(aim, Place("127.0.0.1", port)))


def judge(seen: Look) -> list[Finding]:
    """All that is wrong with it, worst first."""
    now = datetime.datetime.now(datetime.UTC)
    return worst_first([*reaching.judge(seen), *securing.judge(seen, now), *answering.judge(seen)])


def find(port: int, protocol: str = "http", **fields: Any) -> list[Finding]:
    """What is found at a port of this machine."""
    return judge(see(aim_at(port, protocol, **fields), port))


def only(findings: list[Finding]) -> Finding:
    """The one finding."""
    assert len(findings) == 1, [(finding.cause, finding.finding) for finding in findings]
    return findings[0]
