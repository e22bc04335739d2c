# SPDX-License-Identifier: Apache-2.0
"""Do Routes serve that are told by an expression, under `router_flavor = expressions`?"""

from __future__ import annotations

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin

SETTINGS = {"router_flavor": "expressions"}


def test_routes_told_by_an_expression_serve_beside_the_others(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    service = blueprints.service(echo)
    expression = 'http.path ^= "/told" && !(http.queries.not == "me")'
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
    assert gateway.get("/told/more").status == 200
    assert gateway.get("/told?not=me").status == 404
    gateway.admin.patch("/routes/told", {"expression": None, "paths": ["/other"], "priority": 0})
    gateway.settle()
    assert (gateway.get("/told").status, gateway.get("/other").status) == (404, 200)
    assert not [line for line in gateway.error_log.lines() if "refused" in line]


def test_a_pair_that_the_ranking_decides_is_warned_of(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    service = blueprints.service(echo)
    for row in ({"name": "open", "hosts": ["a.example"]}, {"name": "guarded", "paths": ["/x"], "methods": ["GET"]}):
        gateway.admin.post("/routes", {**row, "service": {"id": service["id"]}})
    gateway.settle()
    (line,) = gateway.error_log.wait_for("router_ranking = documented")
    assert line.index("(open)") < line.index("(guarded)")
