# SPDX-License-Identifier: Apache-2.0
"""Which entities and plugins may the documents of these tests hold?"""

from __future__ import annotations

import pytest

from pylae.control.control import catalogue_of
from pylae.database.dao import Catalogue
from pylae.entities import enable_plugins, registry
from pylae.sdk.loader import load


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    plugins = load(["bundled"])
    enable_plugins(plugins)
    return catalogue_of(registry(), plugins)
