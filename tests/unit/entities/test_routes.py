# SPDX-License-Identifier: Apache-2.0
"""Which Routes does the router have no use for?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae import entities
from pylae.errors import SchemaViolation


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"paths": ["~/a(?=b)"]}, "look-around, including look-ahead and look-behind, is not supported"),
        ({"headers": {"x-a": ["~*a("]}}, "regex parse error: `a(`"),
        ({"headers": {"x-a": []}}, "= expected term"),
    ],
)
def test_a_route_that_can_not_be_matched_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(SchemaViolation) as caught:
        entities.schema("routes").insert(values)
    assert list(caught.value.fields or {}) == ["@entity"]
    assert caught.value.message.startswith("schema violation (Router Expression failed validation: ")
    assert text in caught.value.message
