"""What a worker reads of earlier runs, once for all shards of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from orchestrator.app.sites.serving import EarlierRuns, Serving, SubmittedRun
from orchestrator.app.sites.stored_plan import submission_of, travelling_plan
from orchestrator.app.wiring import Choices, World
from orchestrator.core.earlier_runs.durations import past_durations
from orchestrator.core.earlier_runs.naming import Naming
from orchestrator.core.earlier_runs.systems import NO_SYSTEMS
from orchestrator.core.errors import DatabaseAway
from orchestrator.core.ports.journal import Durations, Systems
from orchestrator.core.ports.store import Store
from orchestrator.core.sites import WorkerFacts, WorkerId

pytestmark = pytest.mark.anyio

PLAN = """version: 1
name: sites
servers: {hq: {url: "https://hq.example.net:9398", username: u, password: {env: P}}}
targets: [{vm: a, server: hq}]
"""


class History:
    """Counts how often it was read; it is away at first."""

    def __init__(self, *, away: int) -> None:
        self.asked, self._away = 0, away

    def durations(self, naming: Naming) -> Durations:
        self.asked += 1
        if self.asked <= self._away:
            raise DatabaseAway("away")
        return past_durations((), naming)

    def systems(self, naming: Naming) -> Systems:
        _ = naming
        return NO_SYSTEMS


@pytest.fixture
def run(tmp_path: Path) -> SubmittedRun:
    """Return a run as it was submitted."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    choices = Choices(state=tmp_path)
    return SubmittedRun(submission_of(travelling_plan(plan, overrides={}), choices, World()))


def serving(history: History) -> Serving:
    """Return what a worker serves with, as far as it is needed here."""
    nothing: Any = None
    return Serving(
        worker=WorkerFacts(worker=WorkerId("w"), host="h", pid=1, version="1", sites=()),
        database=nothing,
        stream=nothing,
        world=World(inline=True),
        clock=anyio.current_time,
        history=cast("Store", history),
    )


async def test_a_hundred_shards_read_them_once(run: SubmittedRun) -> None:
    """Also if all begin at once."""
    history, found = History(away=0), list[EarlierRuns]()
    worker = serving(history)

    async def read() -> None:
        found.append(await worker.earlier_runs(run))

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(read)

    assert history.asked == 1
    assert len({id(each) for each in found}) == 1


async def test_what_could_not_be_read_is_read_later(run: SubmittedRun) -> None:
    """The database was away: who asks again is answered."""
    worker = serving(History(away=1))
    with pytest.raises(DatabaseAway):
        await worker.earlier_runs(run)

    assert await worker.earlier_runs(run) is await worker.earlier_runs(run)
