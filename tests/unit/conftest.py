# SPDX-License-Identifier: Apache-2.0
"""Which plugins and Routes does a module of tests begin with, whatever ran before it in the same process?"""

from __future__ import annotations

import pytest

from pylae.entities import enable_plugins, use_router_flavor
from pylae.sdk.loader import load

PLUGINS = load(["bundled"])


@pytest.fixture(scope="module", autouse=True)
def fresh_registry() -> None:
    enable_plugins(PLUGINS)
    use_router_flavor("traditional_compatible")
