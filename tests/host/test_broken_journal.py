"""The journal breaks at every possible write of a drill: the run ends in order each time."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.core.errors import RunNotFound
from orchestrator.core.events import Event, RunNoted
from orchestrator.core.lifecycle import MountRecord
from orchestrator.journal import state as journal_state
from orchestrator.journal.store import opened_for_writing
from tests.scenarios.drill import Drill, Site, drill

pytestmark = pytest.mark.anyio


class Disk(sqlite3.Connection):
    """A connection whose disk fails once, at the `fails_at`-th commit, and is fine later."""

    fails_at = 0
    statement = "COMMIT"
    commits = 0
    failed = False
    asked_again = 0

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        """Do it, or fail as the system does when it could not bring a file to the disk."""
        self._consider(sql)
        return super().execute(sql, parameters)

    def _consider(self, sql: str) -> None:
        Disk.asked_again += Disk.failed
        is_alone = sql.startswith("INSERT INTO events") and not self.in_transaction
        is_commit = is_alone or sql == "COMMIT"
        Disk.commits += is_commit
        is_it = is_alone or sql.startswith(Disk.statement)  # alone it begins and commits, too
        if is_it and Disk.commits + (not is_commit) == Disk.fails_at:
            Disk.failed = True
            Disk.fails_at = 0
            raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> type[Disk]:
    """Return the disk that every journal of this test is on."""
    for name, value in (("fails_at", 0), ("commits", 0), ("failed", False), ("asked_again", 0)):
        monkeypatch.setattr(Disk, name, value)

    def opened(path: Path, *, fast: bool = False) -> sqlite3.Connection:
        opened_for_writing(path, fast=fast).close()
        connection = sqlite3.connect(path, isolation_level=None, factory=Disk)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    monkeypatch.setattr(journal_state, "opened_for_writing", opened)
    return Disk


class Noting:
    """Remembers when the journal broke, in seconds on the clock of the servers."""

    at: float | None = None

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Note the moment at which everybody is told."""
        _ = record
        if isinstance(event, RunNoted) and "INCOMPLETE" in event.message:
            assert self.at is None, "told twice"
            self.at = anyio.current_time()


async def broken_at(
    number: int, disk: type[Disk], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Drill, Noting]:
    """Run a drill whose `number`-th commit fails."""
    disk.fails_at, noting = number, Noting()
    sites = [Site(machines=4, limit=2), Site("dr", machines=2, limit=1)]
    return await drill(directory, monkeypatch, sites, observers=[noting]), noting


def intents(done: Drill) -> Counter[str]:
    """Return how many mounts of each point the journal on disk says were meant to be made."""
    try:
        records = done.state.replay(done.state.find("last")).records.values()
    except RunNotFound:  # not even the beginning was kept
        return Counter()
    return Counter(attempt.point for record in records for attempt in record.attempts)


@pytest.mark.parametrize(
    ("statement", "every"), [("COMMIT", 1), ("INSERT INTO events", 4), ("BEGIN IMMEDIATE", 9)]
)
async def test_wherever_the_journal_breaks_the_run_ends_in_order(
    statement: str, every: int, disk: type[Disk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No mount without its intent on disk, none after the failure, none left; the report says so.

    The invariants of every drill hold as well.
    """
    monkeypatch.setattr(disk, "statement", statement)
    mounts = []
    whole, _ = await broken_at(0, disk, tmp_path / "whole", monkeypatch)
    assert whole.outcome.code == 0
    for number in range(1, disk.commits + 1, every):
        disk.commits, disk.failed, disk.asked_again = 0, False, 0
        done, noting = await broken_at(number, disk, tmp_path / str(number), monkeypatch)

        assert disk.failed
        assert disk.asked_again == 0, "a failed commit was repeated"
        assert done.outcome.code == 74
        assert not done.truth.still_open()
        assert noting.at is not None
        assert all(fate.requested_at <= noting.at for fate in done.truth.mounts)
        assert Counter(fate.point for fate in done.truth.mounts) <= intents(done)
        assert done.truth.sessions_closed == done.truth.logons
        assert not list(done.state.directory.glob("sessions-*"))
        assert "the journal is INCOMPLETE" in str(done.report["warnings"])
        assert done.report["run"]["journal_head"] is None
        assert done.outcome.trouble is not None
        assert "disk I/O error" in done.outcome.trouble
        mounts.append(len(done.truth.mounts))

    assert mounts == sorted(mounts)
    assert mounts[0] == 0
    assert mounts[-1] == 6


async def test_a_side_file_that_cannot_be_written_costs_nothing_but_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the sessions' tokens a later process can release nothing; this one goes on."""
    (tmp_path / "state" / "sessions-20261123T060000Z-0001.new").mkdir(parents=True)

    done = await drill(tmp_path, monkeypatch, [Site(machines=3)])

    assert done.outcome.code == 0
    assert not done.truth.still_open()
