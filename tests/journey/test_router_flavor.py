# SPDX-License-Identifier: Apache-2.0
"""What becomes of Routes under `router_flavor = expressions`, whose expressions workers do not know?"""

from __future__ import annotations

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin

SETTINGS = {"router_flavor": "expressions"}


def test_routes_told_by_an_expression_are_kept_and_the_others_serve(
    gateway: Gateway, blueprints: Blueprints, echo: Origin
) -> None:
    service = blueprints.service(echo)
    expression = 'http.path ^= "/told"'
    told = gateway.admin.post(
        "/routes", {"name": "told", "expression": expression, "priority": 7, "service": {"id": service["id"]}}
    )
    classic = gateway.admin.post("/routes", {"name": "classic", "paths": ["/classic"], "service": {"id": service["id"]}})
    gateway.settle()
    assert (told["expression"], told["priority"], told["paths"]) == (expression, 7, None)
    assert (classic["expression"], classic["priority"]) == (None, 0)
    assert gateway.admin.get("/routes/told") == told
    assert {row["name"] for row in gateway.admin.get("/routes")["data"]} == {"told", "classic"}
    assert gateway.get("/classic").status == 200
    assert gateway.get("/told").status == 404
    gateway.admin.patch("/routes/told", {"expression": None, "paths": ["/told"], "priority": 0})
    gateway.settle()
    assert gateway.get("/told").status == 200
    assert not [line for line in gateway.error_log.lines() if "refused" in line]
