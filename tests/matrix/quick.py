# SPDX-License-Identifier: Apache-2.0
"""Which rows run with every change?"""

from __future__ import annotations

import pytest

from tests.matrix import causes
from tests.matrix.case import CASES, REUSED, Case, Variant

assert causes, "importing them registers them"


def rows(*groups: str) -> list[pytest.ParameterSet]:
    """The fast cases of some groups, on a fresh connection and on one that was used before."""
    return [
        pytest.param(case, variant, id=f"{case.name}[{variant}]")
        for case in CASES
        for variant in case.variants
        if is_quick(case, variant) and case.group in groups
    ]


def is_quick(case: Case, variant: Variant) -> bool:
    """Whether the row runs with every change."""
    return case.is_fast and (variant is case.variants[0] or variant is REUSED)
