# SPDX-License-Identifier: Apache-2.0
"""cors: which pages of other origins may call, and read the answers?

For APIs that browsers call from pages of another origin (the Fetch standard's CORS protocol). A preflight is answered
here; the answers of the upstream get the fields that let a page read them.
"""

from __future__ import annotations

from typing import Final

from pylae.plugins.cors import config as declared
from pylae.plugins.cors.origins import ANY, Origins
from pylae.sdk import Answer, Exchange, Instance, Plugin

ALLOW_ORIGIN: Final = "Access-Control-Allow-Origin"
CONTINUES: Final = "cors.continues"
"""In `exchange.ctx`: this preflight is the upstream's to answer."""
MAX_ECHOED_CHARACTERS: Final = 4_096


class Prepared:
    """A configuration with its fields made."""

    __slots__ = (
        "continues",
        "credentials",
        "exposed",
        "headers",
        "max_age",
        "methods",
        "origins",
        "private_network",
        "without_origin",
    )

    def __init__(self, config: declared.Config) -> None:
        self.origins = Origins(config.origins)
        self.credentials = config.credentials
        self.methods = ",".join(config.methods or declared.METHODS)
        self.headers = ",".join(config.headers) if config.headers else None
        self.exposed = ",".join(config.exposed_headers) if config.exposed_headers else None
        self.max_age = None if config.max_age is None else f"{config.max_age:.14g}"
        self.private_network = config.private_network
        self.continues = config.preflight_continue
        self.without_origin = config.allow_origin_absent


class Cors(Plugin):
    """Says which pages may read, and answers preflights."""

    name = "cors"
    version = "3.10.0"
    priority = 2000
    scopes = ("global", "service", "route")
    is_pure = True
    Config = declared.Config

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Makes the fields."""
        return Prepared(config)

    def access(self, exchange: Exchange, config: Prepared) -> Answer | None:
        """Answers a preflight."""
        request = exchange.request
        if request.method != "OPTIONS":
            return None
        origin = request.get_header("origin")
        if not origin or not request.get_header("access-control-request-method"):
            return None
        if config.continues:
            exchange.ctx[CONTINUES] = True
            return None
        exchange.ctx[CONTINUES] = True  # The answer is whole: nothing is added on the way back.
        return exchange.answer(200, None, self._preflight(exchange, config, origin))

    def header_filter(self, exchange: Exchange, config: Prepared) -> None:
        """Lets the page read the answer, or not."""
        if exchange.ctx.get(CONTINUES):
            return
        origin = exchange.request.get_header("origin")
        if not origin and not config.without_origin:
            return
        response = exchange.response
        allowed, varies = _allowed(config, origin)
        if varies:
            response.add_header("vary", "Origin")
        if allowed is None:
            response.clear_header(ALLOW_ORIGIN)
            return
        fields: list[tuple[str, str]] = [(ALLOW_ORIGIN, allowed)]
        if config.credentials and allowed != ANY:
            fields.append(("Access-Control-Allow-Credentials", "true"))
        if config.exposed is not None:
            fields.append(("Access-Control-Expose-Headers", config.exposed))
        response.set_headers(fields)

    @staticmethod
    def _preflight(exchange: Exchange, config: Prepared, origin: str) -> dict[str, str]:
        request = exchange.request
        fields: dict[str, str] = {}
        allowed, varies = _allowed(config, origin)
        if varies:
            fields["vary"] = "Origin"
        if allowed is None:
            return fields
        fields[ALLOW_ORIGIN] = allowed
        if config.credentials and allowed != ANY:
            fields["Access-Control-Allow-Credentials"] = "true"
        asked = ", ".join(request.get_header_values("access-control-request-headers"))
        headers = config.headers or _echoed(asked)
        if headers:
            fields["Access-Control-Allow-Headers"] = headers
        fields["Access-Control-Allow-Methods"] = config.methods
        if config.max_age is not None:
            fields["Access-Control-Max-Age"] = config.max_age
        if config.private_network and request.get_header("access-control-request-private-network") == "true":
            fields["Access-Control-Allow-Private-Network"] = "true"
        return fields


def _allowed(config: Prepared, origin: str | None) -> tuple[str | None, bool]:
    """The origin to name (None: none), and whether the answer depends on who asks."""
    origins = config.origins
    if origins.is_any:
        if config.credentials and origin:
            # With credentials a browser takes no `*`: the origin is said back, as Kong does.
            return origins.match(origin), True
        return ANY, False
    if origins.only is not None:
        return origins.only, True
    return (origins.match(origin) if origin else None), True


def _echoed(asked: str) -> str | None:
    """The names a page asks for, if they are names."""
    is_list = len(asked) <= MAX_ECHOED_CHARACTERS and all(
        c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~, \t") for c in asked
    )
    return asked if asked and is_list else None
