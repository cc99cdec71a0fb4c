"""What mounts leave behind in memory: nothing that only a search for garbage finds."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

import pytest

from tests.scenarios.drill import Site, drill

pytestmark = pytest.mark.anyio

KINDS = (
    "CancelScope",
    "CancelledError",
    "Context",
    "Task",
    "TaskGroup",
    "TimerHandle",
    "traceback",
)
"""What waits and tasks are made of; one that is left as a cycle keeps some hundred objects."""


async def left_by(machines: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return what a run, and its servers, leave in cycles, by kind."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await drill(path, monkeypatch, [Site("hq", machines=machines, limit=4)])
        gc.collect()
        return Counter(type(each).__name__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_more_mounts_leave_no_more_garbage(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run leaves in cycles comes from its start and end: searches for it cost CPU."""
    few = await left_by(8, tmp_path_factory.mktemp("few"), monkeypatch)
    many = await left_by(32, tmp_path_factory.mktemp("many"), monkeypatch)

    more = {kind: many[kind] - few[kind] for kind in KINDS}
    assert max(more.values()) < 24, more
