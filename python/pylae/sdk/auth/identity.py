# SPDX-License-Identifier: Apache-2.0
"""Who was found, and what is the upstream told of it?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

from pylae.sdk.exchange import Exchange

Row = Mapping[str, Any]

CLAIMED_HEADERS: Final = (
    "X-Consumer-ID",
    "X-Consumer-Custom-ID",
    "X-Consumer-Username",
    "X-Credential-Identifier",
    "X-Anonymous-Consumer",
)
"""What upstreams trust: a client's own fields of these names are overwritten or removed."""


class Identity:
    """A Consumer, the credential that proved it, and the fields the upstream gets; made once per credential and then shared.

    Args:
        consumer: The whole row; None where nobody in the database is meant.
        credential: The row, or whatever has an `id`; None for an anonymous Consumer.
        identifier: What `X-Credential-Identifier` says.
    """

    __slots__ = ("consumer", "credential", "headers", "imprint")

    def __init__(self, consumer: Row | None, credential: Row | None, identifier: str | None) -> None:
        self.consumer = consumer
        self.credential = credential
        known = consumer or {}
        values = (
            known.get("id"),
            known.get("custom_id"),
            known.get("username"),
            identifier,
            "true" if credential is None and consumer is not None else None,
        )
        self.headers: tuple[tuple[str, str | None], ...] = tuple(zip(CLAIMED_HEADERS, values, strict=True))
        # The same in the data plane's own form, which it makes when it is first told of this identity.
        self.imprint: object = None

    def __repr__(self) -> str:
        return f"<identity {(self.consumer or {}).get('id')}>"

    @classmethod
    def of_credential(cls, credential: Row, identifier: str | None = None) -> Self:
        """Of a row with its Consumer joined; without that Consumer's row `consumer` is None, and nobody passes."""
        consumer = credential["consumer"]
        # Without its row there is only the reference, which has an id and nothing else.
        is_loaded = consumer is not None and "created_at" in consumer
        return cls(consumer if is_loaded else None, credential, credential["id"] if identifier is None else identifier)

    @classmethod
    def of_anonymous(cls, consumer: Row) -> Self:
        """Of whom a client passes as that could not be authenticated."""
        return cls(consumer, None, None)

    def impose(self, exchange: Exchange) -> None:
        """Tells the gateway and the upstream who the client is."""
        exchange.client.identify(self)


def drop_claims(exchange: Exchange, names: Iterable[str]) -> None:
    """Removes what the client says of itself under these names; what an earlier plugin of this request said stays."""
    request, upstream = exchange.request, exchange.service.request
    claimed = [(name, None) for name in names if upstream.get_header(name) == request.get_header(name) is not None]
    if claimed:
        upstream.set_headers(claimed)
