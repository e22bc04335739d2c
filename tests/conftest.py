# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: the marks of what takes minutes, and the logs of real gateways in the report of a failure."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.support import gateway
from tests.support.servers.dns import NameServer

MARKS = {"nightly": "minutes long", "matrix": "every cause of the fault matrix"}


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    """A name server of the module's own."""
    server = NameServer()
    yield server
    server.stop()


def pytest_configure(config: pytest.Config) -> None:
    """Declare our marks."""
    for name, meaning in MARKS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}; runs only when -m names it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless the run asks for it."""
    asked = config.getoption("markexpr") or ""
    for mark in MARKS:
        if mark in asked:
            continue
        left_out = [item for item in items if item.get_closest_marker(mark)]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of the gateways that ran when a test failed, and keep their prefixes."""
    report = yield
    if report.failed:
        for one in gateway.running:
            one.keeps_prefix = True
            report.sections.append((f"output of {one.prefix}", one.output()))
            report.sections.append((f"error.log of {one.prefix} (kept)", one.error_log.tail()))
    return report
