"""Held mounts where something else goes wrong: a death and a resume, a journal that breaks."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.app.runner import resume
from orchestrator.app.wiring import Choices
from orchestrator.core.events import RunNoted
from orchestrator.engine.run import Run
from orchestrator.journal import RunJournal
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Site, drill, staged
from tests.scenarios.test_two_runs import Noting, beside, names
from tests.virtual.sites import Sites

pytestmark = pytest.mark.anyio

HOUR = 3600.0


@pytest.mark.parametrize(
    ("site", "extra", "place", "most"),
    [
        (Site(machines=6, limit=2), "", "server:hq", 2),
        (
            Site(machines=6, limit=6, backup_servers=1),
            "",
            "backup:hq/vbr-hq-01",
            4,
        ),
        (Site(machines=6, limit=6), "limits: {mounts: 3}\n", "total", 3),
    ],
    ids=["server", "backup server", "run"],
)
async def test_what_is_held_counts_in_every_limit_across_a_resume(
    site: Site,
    extra: str,
    place: str,
    most: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next process mounts nothing more until a hold has ended; nothing fails for it."""
    async with staged(tmp_path, monkeypatch, [site], extra=extra) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(lambda: stage.run(hold=HOUR), at_s=600.0) is None
        held = stage.sites.truth.open_now[place]
        mounted = len(stage.sites.truth.mounts)
        asked_again: list[float] = []
        async with anyio.create_task_group() as tasks:

            async def witness() -> None:
                while len(stage.sites.truth.mounts) == mounted:  # noqa: ASYNC110 - a witness
                    await anyio.sleep(10)
                asked_again.append(stage.now)

            tasks.start_soon(witness)
            await anyio.sleep(120)
            done = await stage.resume()

    assert held == mounted == most
    assert asked_again[0] > HOUR
    assert done.truth.peaks[place] == most
    assert Counter(done.results().values()) == {"mounted": 6}
    assert done.outcome.code == 0


async def test_what_a_dead_run_holds_counts_for_others_until_its_resume_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the death and the resume, too: the other run gets no slot of theirs."""
    site, noting, told = Site(machines=4, limit=1), Noting(), list[Any]()
    vms = names(site)
    plan = f"targets:\n  - {{vm: {vms[0]}, server: hq}}\n"
    async with (
        staged(tmp_path, monkeypatch, [site], plan) as stage,
        anyio.create_task_group() as tasks,
    ):
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(lambda: stage.run(hold=HOUR), at_s=600.0) is None

        async def other() -> None:
            told.append((await beside(stage, tmp_path, vms[1:2], noting, limit=1), stage.now))

        tasks.start_soon(other)
        await anyio.sleep(300)
        resumed = await resume(
            "20261123T060000Z-0001",
            lambda begun: stage.loaded,
            Choices(state=stage.state),
            world=stage.world(),
        )
        released_at = stage.now

    (outcome, _report), ended_at = told[0]
    assert (resumed.code, outcome.code) == (0, 0)
    assert stage.sites.truth.peaks["server:hq"] == 1
    assert released_at < ended_at < released_at + 120


async def test_a_journal_that_breaks_while_mounts_are_held_ends_the_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would find them again: they are removed at once, and the report is whole."""
    write, broken, noted_at = RunJournal._write, list[bool](), list[float]()

    def failing(journal: RunJournal, *rows: Any) -> None:
        if broken:
            raise sqlite3.OperationalError("disk I/O error")
        write(journal, *rows)

    async def breaks(_sites: Sites, run: Run) -> None:
        await anyio.sleep(1000)
        broken.append(True)
        noted_at.append(anyio.current_time())
        for word in ("one", "two"):
            run.ledger.record(RunNoted(at=run.ledger.now(), message=word))
            await anyio.sleep(5)

    monkeypatch.setattr(RunJournal, "_write", failing)
    site = Site(machines=4, limit=2)

    done = await drill(tmp_path, monkeypatch, [site], choices={"hold": 24 * HOUR}, meanwhile=breaks)

    assert done.outcome.code == 74
    assert anyio.current_time() < noted_at[0] + 120
    assert not done.truth.still_open()
    assert len(done.truth.mounts) == 2
    assert Counter(done.results().values()) == {"mounted": 2, "skipped": 2}
    assert "the journal is INCOMPLETE" in str(done.report["warnings"])
    assert done.truth.sessions_closed == done.truth.logons
