# SPDX-License-Identifier: Apache-2.0
"""Are the figures of `/status` and `/metrics` those of the workers that serve?"""

from __future__ import annotations

import re

from tests.support.gateway import Gateway
from tests.support.wait import until

WORKERS = 2
REQUESTS = 5


def samples(gateway: Gateway, name: str) -> dict[str, float]:
    """Values of a metric by its labels."""
    text = gateway.admin.call("GET", "/metrics").body.decode()
    return {labels: float(value) for labels, value in re.findall(rf"^{name}{{(.*)}} (\S+)$", text, re.MULTILINE)}


def test_requests_are_counted_and_every_worker_has_memory(gateway: Gateway) -> None:
    before = sum(samples(gateway, "kong_nginx_requests_total").values())
    for _ in range(REQUESTS):
        assert gateway.get("/nothing").status == 404
    # Workers publish their counts a few times a second.
    until(lambda: gateway.admin.get("/status")["server"]["total_requests"] >= before + REQUESTS, "the requests to be counted")
    status = gateway.admin.get("/status")
    (counted,) = samples(gateway, "kong_nginx_requests_total").values()
    assert counted >= before + REQUESTS

    pids = set(gateway.worker_pids())
    shown = {one["pid"]: float(one["http_allocated_gc"].removesuffix(" MiB")) for one in status["memory"]["workers_lua_vms"]}
    assert shown.keys() == pids
    assert min(shown.values()) > 1
    told = samples(gateway, "kong_memory_workers_lua_vms_bytes")
    assert {int(re.findall(r'pid="(\d+)"', labels)[0]) for labels in told} == pids
    states = samples(gateway, "kong_nginx_connections_total")
    (handled,) = (value for labels, value in states.items() if 'state="handled"' in labels)
    assert handled >= REQUESTS
