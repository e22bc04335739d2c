# SPDX-License-Identifier: Apache-2.0
"""How often is the verdict right, over the whole matrix? `make matrix` writes the page from it."""

from __future__ import annotations

import datetime
import json

import pytest

from tests.matrix import causes, running, table
from tests.matrix.bed import Bed
from tests.matrix.case import CASES
from tests.support.netns import is_allowed

assert causes, "importing them registers them"

LEAST_RIGHT = 0.95


@pytest.mark.matrix
@pytest.mark.timeout(1800)
def test_the_figures_hold_and_the_page_is_written(bed: Bed) -> None:
    assert is_allowed(), "the rows with networks need network namespaces; hint: run as root"
    rows = [running.run(bed, case, variant, with_stock=True) for case in CASES for variant in case.variants]
    table.PAGE.write_text(table.page(rows, datetime.datetime.now(datetime.UTC).date()))
    right, confidently_wrong = table.figures(rows)
    wrong = [(row.case.name, str(row.variant), row.wrong, row.document) for row in rows if row.wrong]
    told = json.dumps(wrong, indent=1)
    assert confidently_wrong == 0, told
    assert right / len(rows) >= LEAST_RIGHT, told
