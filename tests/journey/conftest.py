# SPDX-License-Identifier: Apache-2.0
"""Which gateway and origins do the journey's tests share?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Origin, good


@pytest.fixture(scope="module")
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """One gateway for the module; its globals SETTINGS and WORKERS say how it is set."""
    settings = getattr(request.module, "SETTINGS", {})
    with Gateway(settings, workers=getattr(request.module, "WORKERS", 1)) as started:
        yield started


@pytest.fixture(autouse=True)
def fresh_logs(request: pytest.FixtureRequest) -> None:
    """Each test sees only the log lines of its own time."""
    if "gateway" in request.fixturenames:
        started: Gateway = request.getfixturevalue("gateway")
        for log in (started.access_log, started.error_log, started.failures):
            log.mark()


@pytest.fixture(scope="module")
def blueprints(gateway: Gateway) -> Blueprints:
    """Entities for the module's gateway."""
    return Blueprints(gateway)


@pytest.fixture
def make_origin() -> Iterator[Callable[[Behaviour], Origin]]:
    """Starts origins that end with the test; a behaviour that failed by itself fails the test."""
    started: list[Origin] = []

    def make(behaviour: Behaviour) -> Origin:
        origin = Origin(behaviour)
        started.append(origin)
        return origin

    yield make
    for origin in started:
        origin.stop()
    failures = [failure for origin in started for failure in origin.failures]
    assert not failures, f"behaviours of origins failed: {failures}"


@pytest.fixture(scope="module")
def echo() -> Iterator[Origin]:
    """An origin that answers with the request it received."""
    with Origin(good) as origin:
        yield origin


@pytest.fixture(autouse=True)
def fresh_echo(request: pytest.FixtureRequest) -> None:
    """Each test counts the echo origin's requests from zero."""
    if "echo" in request.fixturenames:
        origin: Origin = request.getfixturevalue("echo")
        origin.forget()


@pytest.fixture(scope="module")
def echo_path(blueprints: Blueprints, echo: Origin) -> str:
    """A path that leads to the echo origin, prefix stripped."""
    return blueprints.path(echo)
