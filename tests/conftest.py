"""Async tests run on virtual time unless a module says that it needs the real one."""

from __future__ import annotations

import gc
import json
import os
import signal
import tempfile
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings

from tests.order import side_by_side
from tests.simulation.hits import table
from tests.virtual.clock import VirtualTimeLoop

settings.register_profile("shared", deadline=None)  # no test is timed: machines are shared
settings.load_profile("shared")

MEMORY = "/dev/shm"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Return the backend: asyncio on a loop whose time jumps."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def pytest_configure() -> None:
    """Keep what tests write in memory, if nobody says where: a disk is waited for at each commit.

    It must have room for the directories of three runs, and let programs in them be executed.
    And let no process parse the system's hundred certificates as it begins: the directory of the
    same ones is read where one is asked for. And let nothing ignore Ctrl-C, as what a shell starts
    in the background does.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("SSL_CERT_FILE", os.devnull)
    try:
        facts = os.statvfs(MEMORY)
    except OSError:
        return
    has_room = facts.f_bavail * facts.f_frsize > 1 << 30
    if has_room and os.access(MEMORY, os.W_OK) and not facts.f_flag & os.ST_NOEXEC:
        tempfile.tempdir = os.environ.get("TMPDIR", MEMORY)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin first what waits longest, so that the others are played meanwhile and not before."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = side_by_side(
        items, lambda item: item.get_closest_marker("patient") is not None, processes
    )


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
    """Spare the garbage collector thousands of collected tests: they stay until the end.

    It looks rarely, for 4 % of the CPU were its looks. Hunts play stories alone, and need less.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)
