"""Async tests run on virtual time unless a module says that it needs the real one."""

from __future__ import annotations

import gc
import json
from collections import Counter
from typing import Any

import pytest

from tests.simulation.hits import table
from tests.virtual.clock import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Return the backend: asyncio on a loop whose time jumps."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin first what waits longest, so that the others are played meanwhile and not before."""
    items.sort(key=lambda item: item.get_closest_marker("patient") is None)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """End the processes of a test that failed before it could."""
    if item.get_closest_marker("process") is not None:
        from tests.processes import end_leftovers  # which is slow to import

        end_leftovers()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what the simulation's seeds have struck, if they were played."""
    hits: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "simulation":
                hits.update(json.loads(str(value)))
    if hits:
        terminalreporter.section("simulation")
        terminalreporter.write_line(table(hits))


def pytest_collection_finish() -> None:
    """Spare the garbage collector thousands of collected tests: they stay until the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
