"""Another process holds the journal's lock in the middle of a run: an outage, not an end."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from orchestrator.engine.run import Run
from tests.scenarios.drill import Site, drill
from tests.virtual.sites import Sites

pytestmark = pytest.mark.anyio


class Backup:
    """A program that holds the lock of the journal from `begins` to `ends`, in seconds."""

    def __init__(self, directory: Path, begins: float, ends: float) -> None:
        self._file = directory / "state" / "journal.sqlite"
        self._begins, self._ends = begins, ends
        self.mounts_meanwhile = 0

    async def __call__(self, sites: Sites, run: Run) -> None:
        """Hold it, and count what is mounted meanwhile."""
        _ = run
        await anyio.sleep(self._begins)
        with closing(sqlite3.connect(self._file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            before = len(sites.truth.mounts)
            await anyio.sleep(self._ends - self._begins)
            self.mounts_meanwhile = len(sites.truth.mounts) - before
            other.execute("ROLLBACK")


async def test_a_run_waits_for_its_journal_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No intent is acted on before it is on disk; after ten minutes everything goes on as it was.

    The report says from when to when it waited.
    """
    backup = Backup(tmp_path, begins=30, ends=630)

    done = await drill(tmp_path, monkeypatch, [Site(machines=8, limit=2)], meanwhile=backup)

    assert done.outcome.code == 0
    assert backup.mounts_meanwhile == 0
    assert set(done.results().values()) == {"mounted"}
    assert "another process holds its lock" in str(done.report["warnings"])
    assert "lock was free again after" in str(done.report["warnings"])
    assert done.report["run"]["journal_head"] == done.state.chain_head(done.state.find("last"))


async def test_a_lock_for_longer_than_an_outage_ends_the_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is mounted is removed all the same, and the report names the lock."""
    backup = Backup(tmp_path, begins=30, ends=4000)
    extra = "limits: {outage: 5m}\n"

    done = await drill(
        tmp_path, monkeypatch, [Site(machines=8, limit=2)], meanwhile=backup, extra=extra
    )

    assert done.outcome.code == 74
    assert not done.truth.still_open()
    assert "another process has held its lock for" in str(done.report["run"]["halted"])


async def test_who_asks_for_the_end_at_once_waits_for_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the second signal the process is gone within seconds, with everything removed."""
    backup = Backup(tmp_path, begins=30, ends=4000)
    ended_at: list[float] = []

    async def impatient(sites: Sites, run: Run) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backup, sites, run)
            await anyio.sleep(100)
            run.stop("SIGINT")
            run.stop("SIGINT")
            ended_at.append(anyio.current_time())

    done = await drill(tmp_path, monkeypatch, [Site(machines=8, limit=2)], meanwhile=impatient)

    assert anyio.current_time() - ended_at[0] < 20
    assert not done.truth.still_open()
