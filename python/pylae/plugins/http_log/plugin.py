# SPDX-License-Identifier: Apache-2.0
"""http-log: where should a record of every request be sent?

For anyone with an HTTP endpoint that collects logs. A finished request becomes one JSON object that leaves the
worker at once; the control process batches, sends and retries (`shipper.py`), so that no endpoint, however slow,
holds up a request.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pylae.plugins.http_log import config as declared
from pylae.plugins.http_log.shipper import HttpLogShipper
from pylae.sdk import Exchange, Instance, Plugin, SchemaViolation

_encode_json = msgspec.json.Encoder().encode
_encode_item = msgspec.msgpack.Encoder().encode


class HttpLog(Plugin):
    """Sends a record of every request to an HTTP endpoint."""

    name = "http-log"
    version = "3.10.0"
    priority = 12
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
    Shipper = HttpLogShipper

    @classmethod
    def check_config(cls, config: dict[str, Any]) -> None:
        """Refuses Lua code, which has no runtime yet."""
        if config.get("custom_fields_by_lua"):
            reason = "Lua code in `custom_fields_by_lua` is not available yet"
            raise SchemaViolation({"config": {"custom_fields_by_lua": reason}})

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> str:  # noqa: ARG003 - control looks the rest up
        """An entry names its configuration; all else is read where it is sent."""
        return instance.id

    def log(self, exchange: Exchange, config: str) -> None:
        """Hands the record to the control process."""
        entry = exchange.serialize()
        try:
            encoded = _encode_json(entry)
        except UnicodeEncodeError:
            # A client sent bytes that are no text; JSON has no way to say so.
            encoded = _encode_json(_readable(entry))
        self.host.stream("log:http-log", _encode_item([config, encoded]))


def _readable(value: Any) -> Any:
    """The value with a replacement character for every byte that is no text."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_readable(name): _readable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_readable(inner) for inner in value]
    return value
