# SPDX-License-Identifier: Apache-2.0
"""Which worker do the tests of the event loop ask?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.event_loop.rig import Worker


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker that all tests of a module share."""
    with Worker(tmp_path_factory.mktemp("worker"), "loop-probe") as worker:
        yield worker


@pytest.fixture
def own_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker that the test may end."""
    with Worker(tmp_path_factory.mktemp("worker"), "loop-probe") as worker:
        yield worker
