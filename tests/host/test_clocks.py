"""Clocks: the wall clock decides nothing, and a suspended machine does not trust its session."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.app.wiring import World
from orchestrator.core.events import Event
from orchestrator.core.model import RunId
from orchestrator.engine.run import Run
from tests.host.namespaces import having_slept
from tests.scenarios import drill as drills
from tests.scenarios.drill import START, Drill, Site, drill
from tests.virtual.sites import Sites

pytestmark = pytest.mark.anyio


def jumping(seed: int) -> Callable[[], datetime]:
    """Return a wall clock that somebody sets hours forth and back between any two looks."""
    rng = random.Random(seed)
    return lambda: START + timedelta(seconds=rng.uniform(-20_000, 20_000))


def told(done: Drill) -> list[tuple[float, str, str]]:
    """Return when what happened, in the order of the journal.

    What servers show at the very same moment is recorded in either order, so it is sorted by them.
    """
    events = done.state.events(done.state.find("last"))
    told = [(round(event.at, 6), _server(event), type(event).__name__) for event in events]
    return sorted(told, key=lambda each: each[:2])


def _server(event: Event) -> str:
    """Return the server of an event, or nothing."""
    key = getattr(event, "key", None)
    return key.split("/")[1] if key else getattr(event, "server", "")


async def test_a_jumping_wall_clock_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same events at the same moments in the same order, and the same results."""
    sites = [Site(machines=10, limit=3), Site("dr", machines=5, limit=2)]
    steady = await drill(tmp_path / "steady", monkeypatch, sites)

    def world(**options: Any) -> World:
        return World(**{**options, "wall_clock": jumping(7)})

    monkeypatch.setattr(drills, "World", world)
    jumped = await drill(tmp_path / "jumped", monkeypatch, sites)

    assert steady.outcome.code == jumped.outcome.code == 0
    assert told(jumped) == told(steady)
    assert jumped.results() == steady.results()
    assert jumped.report["run"]["duration_s"] == steady.report["run"]["duration_s"]


async def test_last_is_the_run_that_was_begun_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the clock was set back between two runs."""
    await drill(tmp_path, monkeypatch, [Site(machines=1)], history=1)

    def yesterday(**options: Any) -> World:
        return World(**{**options, "wall_clock": lambda: START - timedelta(days=1)})

    monkeypatch.setattr(drills, "World", yesterday)
    done = await drill(tmp_path, monkeypatch, [Site(machines=1)], history=2)

    assert done.state.find("last") == RunId("20261123T060000Z-0002")


# --- suspended -------------------------------------------------------------------------------


@dataclass
class Machine:
    """A machine that can be suspended: its boot clock goes on, and the servers' clocks as well."""

    asleep_s: float = 0.0
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and token of every request after the first suspension."""

    def boot_clock(self) -> float:
        """Return seconds since the start, those asleep included."""
        return anyio.current_time() + self.asleep_s

    async def suspend(self, at: float, seconds: float, sites: Sites, _run: Run) -> None:
        """Sleep from `at` seconds on."""
        await anyio.sleep(at)
        self.asleep_s += seconds
        for name, manager in sites.managers.items():
            manager.skew += seconds
            self._listen(sites, name)

    def _listen(self, sites: Sites, name: str) -> None:
        face = sites.faces[name]
        handle = face._answered

        async def answered(request: Any, target: str, *given: Any) -> Any:
            token = request.headers.get("X-RestSvcSessionId", "")
            self.asked.append((request.method, target.partition("?")[0], token))
            return await handle(request, target, *given)

        face._answered = answered  # type: ignore[assignment, method-assign]  # it only listens


async def slept(
    seconds: float, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Drill, Machine]:
    """Run a drill of 12 mounts, 4 at once, on a machine that sleeps in the middle of it."""
    machine = Machine()
    monkeypatch.setattr(drills, "World", partial(World, boot_clock=machine.boot_clock))
    suspend = partial(machine.suspend, 30.0, seconds)
    done = await drill(directory, monkeypatch, [Site(machines=12, limit=4)], meanwhile=suspend)
    return done, machine


async def test_after_a_long_sleep_the_session_is_asked_for_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No task, mount or POST in the old one; and the new one is never asked for an old task.

    Nobody read the old one's tasks before it was lost, so it is asked once more, and not ended.
    """
    done, machine = await slept(1200, tmp_path, monkeypatch)

    assert Counter(done.results().values()) == {"unknown": 4, "mounted": 8}
    assert done.outcome.code == 3
    assert done.truth.logons == 2
    old = machine.asked[0][2]
    with_old = [(method, path) for method, path, token in machine.asked if token == old]
    assert [method for method, _ in with_old] == ["GET"] * 4
    assert all(path.startswith("/api/logonSessions/") for _, path in with_old)
    tasks = {
        attempt["task_id"]
        for target in done.report["targets"]
        if target["result"] == "unknown"
        for attempt in target["attempts"]
    }
    fresh = [path for _, path, token in machine.asked if token != old]
    assert not any(path == f"/api/tasks/{task}" for path in fresh for task in tasks)
    (note,) = [each for each in done.report["warnings"] if "suspended" in each]
    assert "suspended for 20 min" in note


async def test_after_a_short_sleep_the_session_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within its idle time nothing is lost."""
    done, _ = await slept(600, tmp_path, monkeypatch)

    assert done.outcome.code == 0
    assert Counter(done.results().values()) == {"mounted": 12}
    assert done.truth.logons == 1


def test_a_real_run_counts_the_time_asleep() -> None:
    """Its clock is the system's boot clock, and never the virtual one's."""
    clock = World().clock_with_suspension

    assert clock is not anyio.current_time
    assert World(inline=True).clock_with_suspension is anyio.current_time


@pytest.mark.process
def test_the_system_s_own_boot_clock_counts_the_time_asleep() -> None:
    """Asked in a time namespace, whose machine seems to have slept for an hour."""
    code = (
        "import time; from orchestrator.core.clock import boot_clock;"
        "print(round(boot_clock() - time.monotonic()) >= 3600)"
    )

    done = subprocess.run(
        [*having_slept(3600), sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "True\n"
