# SPDX-License-Identifier: Apache-2.0
"""Who computes with public keys? PyJWT over cryptography, which take some 50 ms and 12 MiB when first imported."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any


@functools.cache
def algorithms() -> Mapping[str, Any]:
    """PyJWT's algorithms by name."""
    from jwt.algorithms import get_default_algorithms

    return get_default_algorithms()


def algorithm_named(name: str) -> Any:
    """One of them, for a name of `ALGORITHMS`."""
    return algorithms()[name]
