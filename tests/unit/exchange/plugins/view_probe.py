# SPDX-License-Identifier: Apache-2.0
"""view-probe: on each path, looks at or changes one thing of the exchange."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pylae.sdk import Answer, Exchange, Plugin
from pylae.sdk.auth import Identity, Remembered

CONSUMER = {"id": "11111111-1111-4111-8111-111111111111", "username": "alice", "created_at": 0}
CREDENTIAL = {"id": "22222222-2222-4222-8222-222222222222", "consumer": {"id": CONSUMER["id"]}}
ALICE = Identity.of_credential({**CREDENTIAL, "consumer": CONSUMER})
ROOM = 4
REMEMBERED = Remembered(ROOM)
UNKNOWN = Identity(None, {"id": "from elsewhere"}, "sub\xe9")


class ViewProbe(Plugin):
    name = "view-probe"
    priority = 1000
    reads_body = 64

    def access(self, exchange: Exchange, config: Any) -> Answer | None:
        hook = getattr(self, "on_" + exchange.request.path.strip("/").replace("-", "_"), None)
        return None if hook is None else hook(exchange)

    def header_filter(self, exchange: Exchange, config: Any) -> None:
        response = exchange.response
        if exchange.request.path == "/answer-fields":
            before = response.get_header("x-origin")
            response.set_header("X-Origin", "changed")
            response.add_header("X-More", "1")
            response.add_header("X-More", "2")
            response.clear_header("X-Gone")
            response.status = 202
            response.set_header("X-Seen", f"{before} {exchange.service.response.get_header('x-origin')} {response.source}")

    def body_filter(self, exchange: Exchange, config: Any, chunk: bytes, is_last: bool) -> bytes | None:  # noqa: FBT001 - as it is called
        if exchange.request.path == "/chunks":
            assert exchange.response.body == chunk
            return chunk.upper() + (b"!" if is_last else b"")
        return None

    def log(self, exchange: Exchange, config: Any) -> None:
        exchange.set_log_value("probe.inner", 1)
        if exchange.request.path == "/logged":
            entry = exchange.serialize()
            self.host.stream("log:view-probe", repr(entry).encode())

    def on_remember(self, exchange: Exchange) -> Answer:
        request = exchange.request
        before = request.recognize(REMEMBERED, "x-shown")
        decision, _, until_ms = (request.get_header("x-decision") or "").partition(" ")
        if decision:
            request.remember(REMEMBERED, "x-shown", decision, int(until_ms or 0))
        return exchange.answer(200, {"before": before, "after": request.recognize(REMEMBERED, "X-Shown")})

    def on_request(self, exchange: Exchange) -> Answer:
        request = exchange.request
        return exchange.answer(
            200,
            {
                "method": request.method,
                "scheme": request.scheme,
                "host": request.host,
                "path": request.path,
                "raw_path": request.raw_path,
                "raw_query": request.raw_query,
                "path_with_query": request.path_with_query,
                "http_version": request.http_version,
                "query": request.get_query(),
                "argument": [request.get_query_arg("a"), request.get_query_arg("flag"), request.get_query_arg("none")],
                "many": request.get_header("x-many"),
                "values": request.get_header_values("X-Many"),
                "headers": request.get_headers()["x-many"],
                "captures": request.uri_captures,
                "body": None if request.body is None else request.body.decode(),
                "ip": exchange.client.ip,
                "protocol": exchange.client.protocol,
                "forwarded_protocol": exchange.client.forwarded_protocol,
                "id": len(exchange.id),
                "route": (exchange.route or {}).get("paths"),
                "service": (exchange.service.entity or {}).get("host"),
            },
        )

    def on_upstream(self, exchange: Exchange) -> None:
        upstream = exchange.service.request
        upstream.set_method("PUT")
        upstream.set_path("/a b/ü%20c")
        upstream.set_query({"x y": ["1", "2&"], "flag": True})
        upstream.set_header("X-Set", "one")
        upstream.set_header("X-List", ["1", "2"])
        upstream.add_header("X-List", "3")
        upstream.clear_header("X-Drop")
        upstream.set_headers((("X-Together", "yes"), ("X-Drop-Too", None)))
        upstream.set_header("Host", "elsewhere.test")
        upstream.set_body(b"made here")
        # Only the gateway frames messages and says who forwarded them.
        for name in ("Content-Length", "Transfer-Encoding", "Connection", "X-Forwarded-Proto"):
            upstream.set_header(name, "7")

    def on_bytes(self, exchange: Exchange) -> None:
        value = exchange.request.get_header("x-bytes")
        assert value is not None
        exchange.service.request.set_header("X-Bytes-Again", value)

    def on_early(self, exchange: Exchange) -> None:
        exchange.response.set_header("X-Early", "early")

    def on_refused(self, exchange: Exchange) -> Answer:
        return exchange.error(403, "no", {"X-Why": "probe"})

    def on_wrong(self, exchange: Exchange) -> Answer:
        upstream = exchange.service.request
        wrongs: dict[str, Callable[[], object]] = {
            "name": lambda: upstream.set_header("bad name", "x"),
            "line": lambda: upstream.set_header("X-A", "a\r\nX-B: b"),
            "kind": lambda: upstream.set_header("X-A", None),  # type: ignore[arg-type]  # what must be refused
            "together": lambda: upstream.set_headers([("X-A", "a\nb")]),
            "scheme": lambda: upstream.set_scheme("ftp"),  # type: ignore[arg-type]  # as above
            "status": lambda: exchange.answer(99),
            "upstream": lambda: exchange.service.set_upstream("nowhere"),
        }
        said = {}
        for wrong, act in wrongs.items():
            try:
                act()
            except (TypeError, ValueError) as error:
                said[wrong] = type(error).__name__
        return exchange.answer(200, said)

    def on_who(self, exchange: Exchange) -> Answer:
        """What is left of the request before, whose views this one may have."""
        return exchange.answer(
            200, {"consumer": exchange.client.consumer, "credential": exchange.client.credential, "ctx": exchange.ctx}
        )

    def on_authenticate(self, exchange: Exchange) -> Answer:
        exchange.client.authenticate(CONSUMER, CREDENTIAL)
        exchange.ctx["view-probe"] = "secret"
        assert exchange.client.consumer is CONSUMER
        return exchange.answer(200)

    def on_identify(self, exchange: Exchange) -> None:
        if "bare" in exchange.request.raw_query:
            exchange.client.identify(UNKNOWN)
            return
        exchange.client.identify(ALICE)
        assert exchange.client.consumer is CONSUMER
        assert exchange.client.credential is ALICE.credential

    def on_logged(self, exchange: Exchange) -> None:
        exchange.client.authenticate(CONSUMER, CREDENTIAL)
        exchange.request.conceal_argument("t\xe9")
        exchange.request.conceal_header("X-Key")
