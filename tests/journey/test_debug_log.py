# SPDX-License-Identifier: Apache-2.0
"""What does `log_level = debug` tell of one request?"""

from __future__ import annotations

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin, early_close, good


def test_decisions_stand_in_the_error_log_under_the_request_id() -> None:
    with Gateway({"log_level": "debug"}) as gateway, Origin(good) as fine, Origin(early_close) as bad:
        blueprints = Blueprints(gateway)
        path, broken = blueprints.path(fine), blueprints.path(bad, retries=1)
        for events in (
            ["route.matched", "target.chosen", "connection.made"],
            ["route.matched", "target.chosen", "connection.reused"],
        ):
            reply = gateway.get(path)
            lines = [line for line in gateway.error_log.lines() if reply.request_id in line]
            assert [line.split("*", 1)[1].split()[1] for line in lines] == events
        reply = gateway.get(broken)
        (refused,) = [line for line in gateway.error_log.lines() if "retry.refused" in line]
        assert "reason=no_try_left fault=closed_before_headers tried=2" in refused
        assert reply.request_id in refused
