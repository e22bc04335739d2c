# SPDX-License-Identifier: Apache-2.0
"""Does the page of the fault matrix hold every cause, and is every cause a fault that exists?"""

from __future__ import annotations

import re

from pylae import _core
from tests.matrix import causes, table
from tests.matrix.case import CASES, GROUPS
from tests.matrix.quick import is_quick

assert causes, "importing them registers them"

LEAST_CAUSES = 80


def test_there_are_enough_causes_each_with_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert len(names) >= LEAST_CAUSES
    assert {case.group for case in CASES} == set(GROUPS)


def test_every_cause_has_its_rows_on_the_page_and_no_other_has() -> None:
    page = table.PAGE.read_text()
    shown = re.findall(r"^\| .*? `(\w+)` \|", page, re.MULTILINE)
    assert set(shown) == {case.name for case in CASES}


def test_every_title_stands_on_the_page_as_it_is() -> None:
    page = table.PAGE.read_text()
    for case in CASES:
        assert f"| {case.title} `{case.name}` |" in page


def test_what_is_right_is_named_as_faults_are() -> None:
    known = {str(fault["name"]) for fault in _core.faults()}
    for case in CASES:
        assert case.right.causes <= known, case.name


def test_a_third_runs_with_every_change() -> None:
    rows = [(case, variant) for case in CASES for variant in case.variants]
    assert sum(is_quick(case, variant) for case, variant in rows) * 3 >= len(rows)
