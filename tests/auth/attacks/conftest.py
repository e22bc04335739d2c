# SPDX-License-Identifier: Apache-2.0
"""What do attacks on openid-connect share? An issuer whose every byte is decided, and Routes that trust it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.auth.issuer import CLIENT_SECRET, Issuer
from tests.support.blueprints import Blueprints
from tests.support.origin import Origin


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as started:
        yield started
    assert not started.origin.failures


@pytest.fixture
def protect(blueprints: Blueprints, echo: Origin, issuer: Issuer) -> Callable[..., str]:
    """Makes a path that asks the issuer for signed tokens, unless said otherwise."""

    def make(**config: Any) -> str:
        known = {"issuer": issuer.url, "client_id": ["gateway"], "client_secret": [CLIENT_SECRET], "auth_methods": ["bearer"]}
        return blueprints.plugged(echo, "openid-connect", **{**known, **config})

    return make
