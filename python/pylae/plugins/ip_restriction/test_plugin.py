# SPDX-License-Identifier: Apache-2.0
"""Does ip-restriction let in and keep out whom it should?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae.plugins.ip_restriction.plugin import IpRestriction
from pylae.sdk import SchemaViolation
from pylae.sdk.testing import Scene, validated


@pytest.mark.parametrize(
    ("config", "ip", "status"),
    [
        ({"allow": ["192.0.2.1"]}, "192.0.2.1", 200),
        ({"allow": ["192.0.2.1"]}, "192.0.2.2", 403),
        ({"allow": ["192.0.2.0/24"]}, "192.0.2.255", 200),
        ({"allow": ["192.0.2.77/24"]}, "192.0.2.1", 200),
        ({"allow": ["192.0.2.0/24"]}, "192.0.3.0", 403),
        ({"deny": ["192.0.2.0/25"]}, "192.0.2.127", 403),
        ({"deny": ["192.0.2.0/25"]}, "192.0.2.128", 200),
        ({"allow": ["192.0.2.0/24"], "deny": ["192.0.2.9"]}, "192.0.2.9", 403),
        ({"allow": ["192.0.2.9"], "deny": ["192.0.2.0/24"]}, "192.0.2.9", 403),
        ({"allow": ["192.0.2.0/24"], "deny": ["192.0.2.9"]}, "192.0.2.8", 200),
        ({"allow": ["0.0.0.0/0"]}, "203.0.113.1", 200),
        ({"allow": ["0.0.0.0/0"]}, "2001:db8::1", 403),
        ({"deny": ["0.0.0.0/0"]}, "2001:db8::1", 200),
        ({"deny": ["::/0"]}, "2001:db8::1", 403),
        ({"allow": ["2001:db8::/32"]}, "2001:db8:1::1", 200),
        ({"allow": ["2001:DB8:0:0::1"]}, "2001:db8::1", 200),
        ({"allow": ["192.0.2.1"]}, "::ffff:192.0.2.1", 200),
        ({"deny": ["192.0.2.1"]}, "::ffff:192.0.2.1", 403),
        ({"deny": ["::ffff:192.0.2.0/120"]}, "192.0.2.200", 403),
        ({"deny": ["fe80::/10"]}, "fe80::1%eth0", 403),
    ],
)
def test_address(config: dict[str, Any], ip: str, status: int) -> None:
    with Scene(IpRestriction, config) as scene:
        assert [scene.send(ip=ip).status for _ in range(2)] == [status] * 2


def test_what_a_refused_client_is_told() -> None:
    with Scene(IpRestriction, {"deny": ["192.0.2.1"]}) as scene:
        assert scene.send(ip="192.0.2.1").json()["message"] == "IP address not allowed: 192.0.2.1"
    with Scene(IpRestriction, {"deny": ["192.0.2.1"], "status": 404, "message": "nothing here"}) as scene:
        outcome = scene.send(ip="192.0.2.1")
    assert (outcome.status, outcome.json()["message"]) == (404, "nothing here")


@pytest.mark.parametrize("one", ["192.0.2", "192.0.2.0/33", "example.com", ""])
def test_what_is_no_address_is_refused(one: str) -> None:
    with pytest.raises(SchemaViolation):
        validated(IpRestriction, {"allow": [one]})


def test_many_addresses_are_forgotten_again() -> None:
    with Scene(IpRestriction, {"allow": ["10.0.0.0/8"]}) as scene:
        for number in range(5_000):
            assert scene.config.lets_in(f"10.0.{number >> 8}.{number & 255}")
        assert len(scene.config._verdicts) <= 4_096
