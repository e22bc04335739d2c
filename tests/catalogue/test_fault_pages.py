# SPDX-License-Identifier: Apache-2.0
"""Is every fault in the manual, with its cause told by hand, its example, and its names elsewhere?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pylae import _core
from pylae.explain.examples import EXAMPLES
from pylae.explain.facts import read
from pylae.explain.reference import CHECKLIST, pages
from pylae.explain.verdict import verdict_of

DOCS = Path(__file__).parents[2] / "docs"
FAULTS = [str(row["name"]) for row in _core.faults()]
PARTS = ("**In your words.**", "**Confirm by hand", "**Cure.**")


@pytest.mark.parametrize("name", ["troubleshooting-502.md", "reference/faults.md"])
def test_a_generated_page_equals_its_regeneration(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages(DOCS)[name], "run `python -m pylae.explain.reference --write`"


def test_every_fault_is_told_by_hand_and_nothing_else_is() -> None:
    assert {path.stem for path in (DOCS / "causes").glob("*.md")} == {*FAULTS, CHECKLIST}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_cause_is_told_whole(fault: str) -> None:
    text = (DOCS / "causes" / f"{fault}.md").read_text(encoding="utf-8")
    places = [text.find(part) for part in PARTS]
    assert -1 not in places, f"{fault} lacks one of {PARTS}"
    assert places == sorted(places)
    assert text.count("```") % 2 == 0


def test_every_fault_has_an_example_with_its_verdict() -> None:
    assert set(EXAMPLES) == set(FAULTS)
    for name, example in EXAMPLES.items():
        found = verdict_of(read(example), admin_url="http://localhost:8001")
        assert found.cause == name
        assert found.evidence, name


def test_links_lead_somewhere() -> None:
    text = (DOCS / "troubleshooting-502.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings
