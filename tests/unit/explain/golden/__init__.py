# SPDX-License-Identifier: Apache-2.0
"""Which records have which verdict? All whose cause is known, in the order of the walk."""

from __future__ import annotations

from tests.unit.explain.golden import exchanges, mistaken, near, passed_on, ways

GOLDEN = (*near.GOLDEN, *ways.GOLDEN, *exchanges.GOLDEN, *passed_on.GOLDEN, *mistaken.GOLDEN)
