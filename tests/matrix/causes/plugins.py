# SPDX-License-Identifier: Apache-2.0
"""How do plugins fail a request?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.matrix.bed import Bed, hangs
from tests.matrix.case import Broken, Variant, cause, right
from tests.matrix.causes.balancers import first_haproxy
from tests.support.origin import Connection, good, silent
from tests.support.ports import free_port

GROUP = "plugins"


@contextmanager
def _plugged(bed: Bed, plugin: str, *, more: dict[str, Any] | None = None, **config: Any) -> Iterator[Broken]:
    """A good origin behind a Route with this plugin."""
    with bed.behind(good) as origin:
        yield Broken(path=bed.blueprints.plugged(origin, plugin, **config), **(more or {}))


@cause(GROUP, "a plugin raises in access", right("plugin", "plugin_failed", "probe"), is_fast=True, is_stock=False)
def raises(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _plugged(bed, "probe", phase="access", does="raise") as broken:
        yield broken


@cause(GROUP, "a plugin returns what is no answer", right("plugin", "plugin_failed", "probe"), is_fast=True, is_stock=False)
def returns_rubbish(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _plugged(bed, "probe", phase="access", does="rubbish") as broken:
        yield broken


@cause(
    GROUP,
    "a plugin raises on the way back",
    right("plugin", "filter_failed plugin_failed", "probe"),
    is_fast=True,
    is_stock=False,
)
def raises_in_filter(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _plugged(bed, "probe", phase="header_filter", does="raise") as broken:
        yield broken


@cause(GROUP, "a global plugin raises before the Route is known", right("plugin", "plugin_failed", "probe"), is_stock=False)
def raises_in_rewrite(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(good) as origin:
        path = bed.blueprints.path(origin)
        plugin = bed.blueprints.plugin("probe", phase="rewrite", does="raise")
        bed.gateway.settle()
        try:
            yield Broken(path=path)
        finally:
            bed.gateway.admin.delete(f"/plugins/{plugin['id']}")
            bed.gateway.settle()


@cause(
    GROUP,
    "a plugin blocks the worker until the client gives up",
    # The client left because of it; that the plugin took the time must be said.
    right("plugin", "client_gone", "probe", unsure="client"),
    is_fast=True,
    is_stock=False,
)
def blocks(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _plugged(bed, "probe", phase="access", does="block", ms=700) as broken:
        broken.leave_after = lambda: None
        yield broken


@cause(
    GROUP,
    "a plugin awaits something for so long that HAProxy before us gives up",
    right("plugin", "client_gone", "matrix-probe", unsure="client first_lb"),
    is_fast=True,
    is_stock=False,
)
def waits(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(silent) as provider, bed.behind(good) as origin, first_haproxy(bed, "200ms") as port:
        path = bed.blueprints.plugged(origin, "matrix-probe", idp_port=provider.port, patience_ms=20_000)
        yield Broken(path=path, port=port)


@cause(
    GROUP,
    "a plugin's identity provider does not answer in time",
    right("plugin", "plugin_failed", "matrix-probe", "timeout|timed out|time"),
    is_fast=True,
    is_stock=False,
)
def provider_silent(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(hangs) as provider, _plugged(bed, "matrix-probe", idp_port=provider.port) as broken:
        yield broken


@cause(
    GROUP,
    "a plugin's identity provider is down",
    right("plugin", "plugin_failed", "matrix-probe", "refused|connect"),
    is_fast=True,
    is_stock=False,
)
def provider_down(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _plugged(bed, "matrix-probe", idp_port=free_port()) as broken:
        yield broken


@cause(
    GROUP,
    "the identity provider that a plugin names is down",
    right("plugin", "identity_system_failed", "matrix-probe", "token issuer http://127.0.0.1:"),
    is_fast=True,
    is_stock=False,
)
def named_provider_down(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _plugged(bed, "matrix-probe", idp_port=free_port(), names_idp=True) as broken:
        yield broken


@cause(
    GROUP,
    "a plugin sends the request to a host that does not exist",
    # That a plugin chose the host must be said, or people look for the name in the Service.
    right("plugin", "dns_failed", "matrix-probe|plugin", unsure="dns"),
    is_fast=True,
    is_stock=False,
)
def rewrites_to_unknown_host(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _plugged(bed, "matrix-probe", target_host=bed.name(), target_port=8080) as broken:
        yield broken


@cause(
    GROUP,
    "a plugin sends the request to a port where nothing listens",
    right("plugin", "connect_refused", "matrix-probe|plugin", unsure="upstream network"),
    is_fast=True,
    is_stock=False,
)
def rewrites_to_dead_port(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _plugged(bed, "matrix-probe", target_host="127.0.0.1", target_port=free_port()) as broken:
        yield broken


@cause(
    GROUP,
    "a plugin makes the gateway speak TLS to a plain port",
    right("plugin", "upstream_tls_failed", "matrix-probe|plugin|protocol=http|scheme", unsure="upstream gateway"),
    is_stock=False,
)
def rewrites_to_https(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def serve(connection: Connection) -> None:
        connection.receive()
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.close()

    with bed.behind(serve) as origin:
        yield Broken(path=bed.blueprints.plugged(origin, "matrix-probe", speaks_tls=True))


@cause(
    GROUP,
    "key-auth refuses a request without a key",
    # The plugin did what it is for: the client's request is what has to change.
    right("plugin client", "plugin_refused", "key-auth"),
    is_fast=True,
    is_stock=False,
)
def refuses_without_key(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _plugged(bed, "key-auth") as broken:
        yield broken


@cause(
    GROUP, "rate-limiting refuses one too many (429)", right("plugin client", "plugin_refused", "rate-limiting"), is_stock=False
)
def refuses_rate(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _plugged(bed, "rate-limiting", hour=1) as broken:
        assert bed.gateway.get(broken.path).status == 200
        yield broken


@cause(
    GROUP,
    "a plugin whose work is not part of this version is configured",
    right("plugin gateway", "plugin_failed", "redirect"),
    is_fast=True,
    is_stock=False,
)
def not_there(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _plugged(bed, "redirect", location="https://elsewhere.test") as broken:
        yield broken


@cause(
    GROUP,
    "a plugin of one's own refuses (403)",
    right("plugin client", "plugin_refused", "matrix-probe"),
    is_stock=False,
)
def answers_403(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _plugged(bed, "matrix-probe", refuses_status=403) as broken:
        yield broken


@cause(
    GROUP,
    "a plugin of one's own answers 502",
    right("plugin", "plugin_refused", "matrix-probe"),
    is_fast=True,
    is_stock=False,
)
def answers_502(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _plugged(bed, "matrix-probe", refuses_status=502) as broken:
        yield broken
