# SPDX-License-Identifier: Apache-2.0
"""How is a Target spelled when it is stored?"""

from __future__ import annotations

import pytest

from pylae import entities

UPSTREAM = {"id": "4a2f9d6e-3c1b-4f7e-8a55-0123456789ab"}


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("1.2.3.4", "1.2.3.4:8000"),
        ("a.com:0", "a.com:0"),
        ("[::1]:80", "[0000:0000:0000:0000:0000:0000:0000:0001]:80"),
        ("::1", "[0000:0000:0000:0000:0000:0000:0000:0001]:8000"),
    ],
)
def test_a_target_has_one_spelling(given: str, stored: str) -> None:
    assert entities.schema("targets").insert({"target": given, "upstream": UPSTREAM})["target"] == stored
