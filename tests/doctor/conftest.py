# SPDX-License-Identifier: Apache-2.0
"""Which servers do the doctor's tests share?"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.origin import Behaviour, Origin

MakeOrigin = Callable[..., Origin]


@pytest.fixture
def make_origin() -> Iterator[MakeOrigin]:
    """Starts origins that end with the test; a behaviour that failed by itself fails the test."""
    started: list[Origin] = []

    def make(behaviour: Behaviour, *, tls: ssl.SSLContext | None = None) -> Origin:
        origin = Origin(behaviour, tls=tls)
        started.append(origin)
        return origin

    yield make
    for origin in started:
        origin.stop()
    failures = [failure for origin in started for failure in origin.failures]
    assert not failures, f"behaviours of origins failed: {failures}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One authority for the module."""
    folder: Path = tmp_path_factory.mktemp("authority")
    return Authority(folder, "doctor-authority")
