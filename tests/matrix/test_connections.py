# SPDX-License-Identifier: Apache-2.0
"""Is the verdict right where a connection fails? The fast third of the matrix."""

from __future__ import annotations

import pytest

from tests.matrix import running
from tests.matrix.bed import Bed
from tests.matrix.case import Case, Variant
from tests.matrix.quick import rows


@pytest.mark.parametrize(("case", "variant"), rows("dns", "network", "tcp", "tls", "timeouts", "keep-alive"))
def test_the_verdict_is_right(bed: Bed, case: Case, variant: Variant) -> None:
    row = running.run(bed, case, variant)
    assert not row.wrong, (row.wrong, row.verdict)
