# SPDX-License-Identifier: Apache-2.0
"""Does every endpoint of Kong's that this version has take Kong's methods, and no others?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin import Admin

FACTS = Path(__file__).parents[1] / "facts" / "kong" / "admin-api.json"
ENTITIES = {"services", "routes", "consumers", "keyauth_credentials", "plugins", "upstreams", "targets"}
CUSTOM = {
    "/",
    "/endpoints",
    "/plugins/enabled",
    "/plugins/schema/{name}",
    "/schemas/plugins/validate",
    "/schemas/plugins/{name}",
    "/schemas/{db_entity_name}/validate",
    "/schemas/{name}",
    "/status",
    "/upstreams/{upstreams}/targets/all",
}
# What stands in a path as `{name}` stands for a row of one of ours.
ENDPOINTS: list[dict[str, Any]] = [
    endpoint
    for endpoint in json.loads(FACTS.read_text())["endpoints"]
    if endpoint["path"] in CUSTOM
    or (
        endpoint.get("entity") in ENTITIES
        and set(re.findall(r"{(\w+)}", endpoint["path"])) <= ENTITIES
        and "wasm" not in endpoint.get("note", "")
    )
]


def test_the_facts_were_read() -> None:
    assert len(ENDPOINTS) > 40


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=[endpoint["path"] for endpoint in ENDPOINTS])
def test_methods(admin: Admin, endpoint: dict[str, Any]) -> None:
    path = re.sub(r"{\w+}", "00000000-0000-4000-8000-000000000000", endpoint["path"])
    answer = admin.call("OPTIONS", path)
    if endpoint.get("disabled"):
        assert answer.status == 404
        return
    assert answer.status == 204
    assert answer.headers["allow"] == ", ".join(sorted(endpoint["methods"]))
    for method in {"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"} - set(endpoint["methods"]):
        assert admin.call(method, path).status == 405, method


def test_they_are_listed(admin: Admin) -> None:
    paths = set(admin.get("/endpoints")["data"])
    assert {re.sub(r"{db_entity_name}", "{name}", endpoint["path"]) for endpoint in ENDPOINTS} <= paths
