# SPDX-License-Identifier: Apache-2.0
"""Which figures does a Prometheus server read from this node?

Names, texts and labels are Kong's, but for those that begin with `pylae_`. What Kong counts for each Service and Route
only where its plugin `prometheus` is configured is not here: that plugin's work is not part of this version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from pylae import KONG_VERSION
from pylae.admin.crud import Handlers
from pylae.admin.node import Node
from pylae.control.control import Control
from pylae.control.explain import KINDS

CONTENT_TYPE: Final = "text/plain; charset=UTF-8"
SUBSYSTEM: Final = "http"
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass
class Metric:
    """One metric with its samples, in the order in which they are shown."""

    name: str
    kind: str
    help: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> None:
        """One more sample."""
        self.samples.append((labels, value))

    def text(self) -> str:
        """In Prometheus' text format, version 0.0.4."""
        lines = [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} {self.kind}"]
        for labels, value in self.samples:
            named = ",".join(f'{name}="{text.translate(_ESCAPES)}"' for name, text in labels.items())
            lines.append(f"{self.name}{{{named}}} {value}" if named else f"{self.name} {value}")
        return "\n".join(lines) + "\n"


def endpoints(node: Node, control: Control) -> dict[str, Handlers]:
    """Handlers by path.

    Args:
        node: whose figures are Kong's.
        control: knows of requests that failed, and of what will make them.
    """

    async def get(request: Request) -> Response:
        del request
        metrics = sorted([*await _metrics(node), *_diagnosis(control)], key=lambda metric: metric.name)
        return Response("".join(metric.text() for metric in metrics), media_type=CONTENT_TYPE)

    return {"/metrics": {"GET": get}}


async def _metrics(node: Node) -> list[Metric]:
    reachable = Metric("kong_datastore_reachable", "gauge", "Datastore reachable from Kong, 0 is unreachable")
    reachable.add(int(await node.is_reachable()))

    counts = node.statistics()
    connections = Metric("kong_nginx_connections_total", "gauge", "Number of connections by subsystem")
    for state in ("accepted", "active", "handled", "reading", "total", "waiting", "writing"):
        count = counts.get("total_requests" if state == "total" else f"connections_{state}", 0)
        connections.add(count, node_id=node.node_id, subsystem=SUBSYSTEM, state=state)
    requests = Metric("kong_nginx_requests_total", "gauge", "Number of requests total")
    requests.add(counts.get("total_requests", 0), node_id=node.node_id, subsystem=SUBSYSTEM)
    errors = Metric("kong_nginx_metric_errors_total", "counter", "Number of nginx-lua-prometheus errors")
    errors.add(0)
    timers = Metric("kong_nginx_timers", "gauge", "Number of nginx timers")
    for state in ("pending", "running"):
        timers.add(0, state=state)
    info = Metric("kong_node_info", "gauge", "Kong Node metadata information")
    info.add(1, node_id=node.node_id, version=KONG_VERSION)

    workers = Metric("kong_memory_workers_lua_vms_bytes", "gauge", "Allocated bytes in worker Lua VM")
    for pid, resident_bytes in node.workers_memory():
        workers.add(resident_bytes, node_id=node.node_id, pid=str(pid), kong_subsystem=SUBSYSTEM)
    allocated = Metric("kong_memory_lua_shared_dict_bytes", "gauge", "Allocated slabs in bytes in a shared_dict")
    capacity = Metric("kong_memory_lua_shared_dict_total_bytes", "gauge", "Total capacity in bytes of a shared_dict")
    for name, used_bytes, total_bytes in node.shared_memory():
        labels = {"node_id": node.node_id, "shared_dict": name, "kong_subsystem": SUBSYSTEM}
        allocated.add(used_bytes, **labels)
        capacity.add(total_bytes, **labels)
    return [reachable, connections, requests, errors, timers, info, workers, allocated, capacity]


def _diagnosis(control: Control) -> list[Metric]:
    """What no Kong counts; labels are bounded where they are counted."""
    explain = control.explain
    failed = Metric("pylae_failed_requests_total", "counter", "Number of failed requests by cause, side and Service")
    for (cause, side, service), count in sorted(explain.failures.items()):
        failed.add(count, cause=cause, side=side, service=service)
    records = Metric("pylae_explain_records_total", "counter", "Number of records of requests that came from workers")
    kept = Metric("pylae_explain_records_kept", "gauge", "Number of records of requests that can be explained")
    for kind in KINDS.values():
        records.add(explain.received[kind], kind=kind)
        kept.add(explain.count(kind), kind=kind)
    size = Metric("pylae_explain_kept_bytes", "gauge", "Memory that records of requests take")
    size.add(explain.size_bytes)
    lost = Metric("pylae_explain_records_lost_total", "counter", "Number of records of requests that nobody had room for")
    lost.add(explain.lost_count + explain.unreadable_count)
    warnings = Metric("pylae_warning", "gauge", "Number of active warnings; GET /status/warnings lists them")
    for warned, count in sorted(control.warnings.counts().items()):
        warnings.add(count, kind=warned)
    return [failed, records, kept, size, lost, warnings]
