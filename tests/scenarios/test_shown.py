"""What a run shows of itself: true at every moment, here and in a second process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.core.events import Event, ServerPaced
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import ServerName
from orchestrator.core.run_state import RunState
from orchestrator.engine.run import Run
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.views.picture import picture
from orchestrator.views.statistics import RunStatistics
from tests.scenarios.drill import Site, staged

pytestmark = pytest.mark.anyio

HQ = ServerName("hq")
FRAIL = Behaviour(bears_requests=2, latency_s=0.5)


@dataclass(slots=True)
class Witness:
    """Counts along, and looks at the real pace of the server beside what was told of it."""

    stats: RunStatistics = field(default_factory=RunStatistics)
    run: Run | None = None
    told: list[int | None] = field(default_factory=list)
    wrong: list[tuple[float, float, int]] = field(default_factory=list)

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Compare whenever a server is slowed, and draw a picture."""
        self.stats.observe(event, record)
        picture(self.stats, 80, 24)
        if isinstance(event, ServerPaced) and self.run is not None:
            self.told.append(event.allowed)
            servers = self.stats.started.servers if self.stats.started else ()
            limit = next(facts.mounts_limit for facts in servers if facts.name == HQ) or 0
            shown = self.stats.allowed.get(HQ, limit)
            allowance = self.run.shard.servers.by_name[HQ].pace.allowance
            if shown != allowance:
                self.wrong.append((event.at, allowance, shown))


async def test_the_pace_that_is_shown_is_the_pace_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is slowed says so, and how far, until it gets its full limit again."""
    site = Site(machines=40, limit=16, mount_s=30.0, behaviour=FRAIL)
    witness = Witness()
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        await stage.run(observers=[witness], on_run=lambda run: setattr(witness, "run", run))

    assert witness.told
    assert witness.wrong == []


async def test_a_second_process_counts_what_the_run_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal alone gives the same picture, to the last row."""
    witness = Witness()
    site = Site(machines=12, limit=4, behaviour=FRAIL)
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        done = await stage.run(observers=[witness])
    (begun, *events) = done.state.events(done.state.find("last"))
    state, stats = RunState(begun), RunStatistics()  # type: ignore[arg-type]  # the first is RunStarted
    stats.observe(begun, None)

    for event in events:
        stats.observe(event, state.fold(event))

    assert picture(stats, 80, 24) == picture(witness.stats, 80, 24)
