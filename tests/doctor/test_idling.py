# SPDX-License-Identifier: Apache-2.0
"""Is it found out how long a server keeps an idle connection?"""

from __future__ import annotations

import asyncio

from pylae.doctor.idling import closes_after
from tests.doctor.conftest import MakeOrigin
from tests.doctor.probing import aim_at, see
from tests.support.certificates import Authority
from tests.support.origin import Connection, good


def impatient(connection: Connection) -> None:
    """Closes what idles for a moment."""
    connection.socket.settimeout(0.2)
    good(connection)


def test_a_server_that_closes_sooner_than_the_gateway_is_a_warning(make_origin: MakeOrigin) -> None:
    origin = make_origin(impatient)
    findings, words = asyncio.run(closes_after(see(aim_at(origin.port), origin.port), 60))
    (finding,) = findings
    assert (finding.finding, finding.is_broken) == ("idle_timeout_below_ours", False)
    assert finding.cure[0].startswith("set upstream_keepalive_idle_timeout = 1")
    assert "idle for" in words


def test_a_server_that_keeps_longer_is_well(make_origin: MakeOrigin, authority: Authority) -> None:
    tls = authority.sign("kept.test").server_context()
    origin = make_origin(good, tls=tls)
    findings, words = asyncio.run(closes_after(see(aim_at(origin.port, "https"), origin.port), 0.1))
    assert findings == []
    assert "and more" in words
