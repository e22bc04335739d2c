# SPDX-License-Identifier: Apache-2.0
"""Which bed do the cases of one test process share?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.matrix.bed import Bed


@pytest.fixture(scope="session")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A gateway and what stands around it."""
    with Bed(tmp_path_factory.mktemp("matrix")) as made:
        yield made
