# SPDX-License-Identifier: Apache-2.0
"""Which secrets does a plugin get in a worker, and which are there after they have changed?"""

from __future__ import annotations

import os
from typing import Any

from pylae.sdk import Answer, Exchange, Instance, Plugin, Record, field, kinds


class Inner(Record):
    """A record in the configuration."""

    token: str | None = field(kinds.string(), referenceable=True, secret=True, doc="Secret.")
    plain: str | None = field(kinds.string(), doc="What looks like a reference stays as it is.")


class Vaulted(Plugin):
    """Answers with its configuration; the header `Set-Environment` changes the worker's environment."""

    name = "vaulted"
    version = "1.0.0"
    priority = 1400

    class Config(Record):
        """References in every place where they may stand."""

        token: str = field(kinds.string(), required=True, referenceable=True, secret=True, doc="Secret.")
        inner: Inner = field(kinds.record(Inner), required=True, doc="A record.")
        many: list[str] | None = field(kinds.array(kinds.string(referenceable=True)), doc="An array.")
        named: dict[str, str] | None = field(kinds.map_of(kinds.string(), kinds.string(referenceable=True)), doc="A map.")
        records: list[Inner] | None = field(kinds.array(kinds.record(Inner)), doc="Records in an array.")

    @classmethod
    def prepare(cls, config: Config, instance: Instance) -> dict[str, Any]:
        """Refuses one secret, and says it aloud: what an author should not do."""
        if config.token.startswith("unusable"):
            raise ValueError(f"the token {config.token} cannot be used")
        records = [[record.token, record.plain] for record in config.records or []]
        return {
            "token": config.token,
            "inner": [config.inner.token, config.inner.plain],
            "many": config.many,
            "named": config.named,
            "records": records,
        }

    def access(self, exchange: Exchange, config: dict[str, Any]) -> Answer:
        """Answer."""
        given = exchange.request.get_header("Set-Environment")
        if given is not None:
            name, _, value = given.partition("=")
            os.environ[name] = value
        return exchange.answer(200, config)
