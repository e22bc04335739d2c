# SPDX-License-Identifier: Apache-2.0
"""Does the data plane read every field an entity can have?"""

from __future__ import annotations

from typing import Any

from pylae import entities
from tests.support.gateway import Gateway

SERVICE = {
    "name": "max",
    "retries": 1,
    "protocol": "https",
    "host": "origin.test",
    "port": 8443,
    "path": "/p",
    "connect_timeout": 1,
    "write_timeout": 2,
    "read_timeout": 3,
    "tags": ["a"],
    "tls_verify": True,
    "tls_verify_depth": 1,
    "enabled": True,
}
ROUTE = {
    "name": "max",
    "protocols": ["https"],
    "methods": ["GET"],
    "hosts": ["*.max.test"],
    "paths": ["~/m(?<x>.)", "/n"],
    "headers": {"x-a": ["1", "2"]},
    "https_redirect_status_code": 308,
    "regex_priority": 7,
    "strip_path": False,
    "path_handling": "v0",
    "preserve_host": True,
    "request_buffering": False,
    "response_buffering": False,
    "snis": ["max.test"],
    "tags": ["a", "b"],
}
UPSTREAM = {
    "name": "max.upstream",
    "algorithm": "consistent-hashing",
    "hash_on": "header",
    "hash_on_header": "x-h",
    "hash_fallback": "cookie",
    "hash_on_cookie": "c",
    "hash_on_cookie_path": "/c",
    "slots": 100,
    "host_header": "h.test",
    "tags": ["a"],
    "use_srv_name": True,
    "healthchecks": {
        "threshold": 10,
        "active": {
            "type": "https",
            "timeout": 2,
            "concurrency": 3,
            "http_path": "/h",
            "https_sni": "s.test",
            "https_verify_certificate": False,
            "headers": {"x-p": ["1"]},
            "healthy": {"interval": 1, "successes": 2, "http_statuses": [200]},
            "unhealthy": {"interval": 1, "http_failures": 2, "tcp_failures": 3, "timeouts": 4, "http_statuses": [500]},
        },
        "passive": {
            "type": "http",
            "healthy": {"successes": 1, "http_statuses": [200]},
            "unhealthy": {"http_failures": 1, "tcp_failures": 2, "timeouts": 3, "http_statuses": [500]},
        },
    },
}
# What no client can set, or what another issue brings the entities for.
ELSEWHERE = {
    "services": {"id", "created_at", "updated_at", "client_certificate", "ca_certificates"},
    "routes": {"id", "created_at", "updated_at", "service", "sources", "destinations"},
    "upstreams": {
        "id",
        "created_at",
        "updated_at",
        "client_certificate",
        "hash_fallback_header",
        "hash_on_query_arg",
        "hash_fallback_query_arg",
        "hash_on_uri_capture",
        "hash_fallback_uri_capture",
    },
}


def test_maximal_rows_are_served_by_the_worker() -> None:
    rows: dict[str, dict[str, Any]] = {"services": SERVICE, "routes": ROUTE, "upstreams": UPSTREAM}
    for table, row in rows.items():
        assert set(entities.schema(table).fields) == set(row) | ELSEWHERE[table], f"a field of {table} is in neither list"
    with Gateway() as gateway:
        service = gateway.admin.post("/services", SERVICE)
        route = gateway.admin.post("/routes", {**ROUTE, "service": {"id": service["id"]}})
        upstream = gateway.admin.post("/upstreams", UPSTREAM)
        gateway.admin.post(f"/upstreams/{upstream['id']}/targets", {"target": "[::1]:9", "weight": 7, "tags": ["t"]})
        consumer = gateway.admin.post("/consumers", {"username": "max"})
        scopes = {"service": service, "route": route, "consumer": consumer}
        gateway.admin.post(
            "/plugins",
            {
                "name": "rate-limiting",
                "instance_name": "max",
                "enabled": True,
                "protocols": ["https"],
                "tags": ["p"],
                "config": {"minute": 5},
                **{scope: {"id": row["id"]} for scope, row in scopes.items()},
            },
        )
        gateway.settle()
        refused = [line for line in gateway.error_log.lines() if "refused" in line or "not loaded" in line]
    assert not refused
