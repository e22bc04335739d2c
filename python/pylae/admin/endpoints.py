# SPDX-License-Identifier: Apache-2.0
"""Which endpoints does the Admin API have, and which the Status API?"""

from __future__ import annotations

from pylae.admin import (
    cache,
    certificates,
    clustering,
    consumers,
    debug,
    declarative,
    dns,
    explain,
    explain_route,
    filter_chains,
    health,
    metrics,
    tags,
    targets,
    undone,
    warnings,
)
from pylae.admin.crud import Crud, Handlers
from pylae.admin.node import Node
from pylae.control.control import Control
from pylae.control.line import Log
from pylae.control.log_level import LogLevel


def admin_endpoints(
    control: Control,
    crud: Crud,
    node: Node,
    log_level: LogLevel,
    log: Log,
    *,
    has_database: bool,
) -> dict[str, Handlers]:
    """Handlers by path of the Admin API: those that follow from the declarations, then what is done otherwise."""
    found = crud.endpoints()
    for more in (
        certificates.endpoints(crud),
        consumers.endpoints(crud),
        targets.endpoints(crud),
        health.endpoints(crud, control.health, control.dns, node.node_id),
        tags.endpoints(crud),
        filter_chains.endpoints(crud),
        cache.endpoints(control),
        debug.endpoints(log_level, has_database=has_database),
        clustering.endpoints(),
        declarative.endpoints(control, node.max_body_bytes),
        dns.endpoints(control.dns, node.worker_count, is_new_client=node.has_new_dns_client),
        explain.endpoints(control),
        explain_route.endpoints(control, node.max_body_bytes, log),
        warnings.endpoints(control.warnings),
        metrics.endpoints(node, control),
        undone.endpoints(),
    ):
        found.update(more)
    found.update(node.endpoints(lambda: list(found)))
    return found


def status_endpoints(admin: dict[str, Handlers], node: Node, *, has_database: bool) -> dict[str, Handlers]:
    """Handlers by path of the Status API."""
    found = {**node.status_endpoints(), **{path: admin[path] for path in (*dns.PATHS, warnings.STATUS_PATH, "/metrics")}}
    if not has_database:
        upstreams = {path: handlers for path, handlers in admin.items() if path.startswith("/upstreams")}
        found |= {path: {"GET": handlers["GET"]} for path, handlers in upstreams.items() if "GET" in handlers}
    return found
