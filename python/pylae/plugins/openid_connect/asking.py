# SPDX-License-Identifier: Apache-2.0
"""What does a request to the provider say, and what of its answer goes on to the client?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from pylae.plugins.openid_connect import presented
from pylae.plugins.openid_connect.client_auth import choose, prove
from pylae.plugins.openid_connect.parts import ProviderClient
from pylae.plugins.openid_connect.provider import Provider
from pylae.plugins.openid_connect.settings import Settings
from pylae.sdk.exchange import Exchange
from pylae.sdk.http import Endpoint, HttpAnswer

FORM: Final = "application/x-www-form-urlencoded"


@dataclass(slots=True)
class Asked:
    """Headers and form of a request to come."""

    headers: dict[str, str] = field(repr=False)
    form: dict[str, str] = field(repr=False)

    def copied(self) -> Asked:
        """Another, to add to."""
        return Asked(dict(self.headers), dict(self.form))


def where_of(provider: Provider, endpoint: Endpoint) -> str:
    """What faults call an endpoint."""
    return f"{provider.name} at {endpoint.scheme}://{endpoint.authority}{endpoint.path}"


async def prove_to(
    provider: Provider, client: ProviderClient | None, said: str | None, name: str, endpoint: Endpoint, asked: Asked, now_s: float
) -> None:
    """Adds the proof of who asks.

    Args:
        provider: Says which methods it supports.
        client: Who asks; None where headers of the configuration say so.
        said: The method that the configuration asks for.
        name: What the endpoint is called (`token_endpoint`).
        endpoint: Where it is.
        asked: Added to.
        now_s: Seconds since the epoch.
    """
    asked.headers["Content-Type"] = FORM
    if client is None:
        return
    metadata = await provider.metadata()
    supported = metadata.get(f"{name}_auth_methods_supported") or metadata.get("token_endpoint_auth_methods_supported")
    audience = f"{endpoint.scheme}://{endpoint.authority}{endpoint.path}"
    prove(client, choose(client, said, supported), audience, now_s, asked.headers, asked.form)


def sorted_pairs(arguments: Mapping[str, str]) -> list[str]:
    """Names and values in an order of their own."""
    return [text for pair in sorted(arguments.items()) for text in pair]


def form_of(fields: Mapping[str, str]) -> bytes:
    """A form, encoded."""
    # What came as bytes that are no UTF-8 goes on as such (PEP 383).
    return urlencode(fields, errors="surrogateescape").encode()


def headers_of(
    exchange: Exchange, names: Sequence[str] | None, values: Sequence[str] | None, passed: Sequence[str] | None
) -> dict[str, str]:
    """Headers for the provider: those that are set, and those of the client's that are passed on."""
    made = dict(zip(names or (), values or (), strict=False))
    for name in passed or ():
        value = exchange.request.get_header(name)
        if value is not None and value.isascii() and value.isprintable():
            made[name] = value
    return made


def arguments_of(
    exchange: Exchange,
    names: Sequence[str] | None,
    values: Sequence[str] | None,
    passed: Sequence[str] | None,
    of_headers: Sequence[str] | None = None,
) -> dict[str, str]:
    """Arguments for the provider, as above."""
    made: dict[str, str] = {}
    for name in passed or ():
        value = presented.find(exchange, name, ("query", "body"))
        if value is not None:
            made[name] = value
    for name in of_headers or ():
        value = exchange.request.get_header(name)
        if value is not None:
            made[name] = value
    # What the administrator says cannot be said by a client.
    return made | dict(zip(names or (), values or (), strict=False))


def replayed(settings: Settings, method: str, answer: HttpAnswer) -> dict[str, str]:
    """Headers of the token endpoint's answer that the client gets."""
    config = settings.config
    grants: Collection[str] | None = config.token_headers_grants
    if not config.token_headers_replay or (grants is not None and method not in grants):
        return {}
    prefix = config.token_headers_prefix or ""
    found = ((prefix + name, answer.headers.get(name.lower())) for name in config.token_headers_replay)
    return {name: value for name, value in found if value is not None}


def with_secret(pair: tuple[str, str]) -> ProviderClient:
    """A client of the provider's own that shows its id and secret here."""
    return ProviderClient(-1, *pair)
