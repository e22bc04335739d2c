# SPDX-License-Identifier: Apache-2.0
"""Which control processes do the tests of the Admin API share?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.admin.process import ControlProcess
from tests.support.admin import Admin


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    """One process for a file; tests tell their entities apart by name."""
    with ControlProcess(tmp_path_factory.mktemp("prefix")) as process:
        yield process


@pytest.fixture
def admin(control: ControlProcess) -> Admin:
    return control.admin
