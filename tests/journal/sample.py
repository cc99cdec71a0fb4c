"""A small run to write: its beginning, its events, and what the file holds of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orchestrator.core.events import (
    Event,
    MountFound,
    MountReleased,
    RunNoted,
    RunStarted,
    SubmissionStarted,
    TargetConcluded,
    TargetPlanned,
    TaskAccepted,
    TaskSucceeded,
    UnmountStarted,
    VerdictReached,
)
from orchestrator.core.model import (
    Href,
    MountKey,
    MountState,
    OsKind,
    RestorePointId,
    Result,
    RunId,
    ServerName,
    SessionId,
    TaskId,
    WaveName,
)
from orchestrator.journal import State

BEGAN = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
RUN = RunId("20261123T060000Z-0001")


def started(run: str = RUN, *, plan: str = "drill", hours: int = 0) -> RunStarted:
    """Return the first event of a run that began `hours` after the others."""
    return RunStarted(
        at=0.0,
        run=RunId(run),
        started_at=BEGAN + timedelta(hours=hours),
        plan=plan,
        plan_path=f"plans/{plan}.yaml",
        plan_sha256="ab" * 32,
        version="1.0.0",
        report_dir=f"reports/{run}",
    )


def note(number: int) -> RunNoted:
    """Return an event that can stand anywhere."""
    return RunNoted(at=number / 10, message=f"note {number}: ünïcødé\n\u0000")


def mounted(vm: str, *, begin: float = 1.0, seconds: float = 60.0) -> list[Event]:
    """Return a whole life: planned, mounted, read, and released after `seconds`."""
    key, href, task = MountKey(f"w/hq/{vm}"), Href(f"/mounts/{vm}"), TaskId("task-1")
    end = begin + seconds
    return [
        TargetPlanned(
            at=begin,
            key=key,
            wave=WaveName("w"),
            server=ServerName("hq"),
            label=vm,
            os_kind=OsKind.LINUX,
        ),
        SubmissionStarted(
            at=begin, key=key, attempt=1, session=SessionId("s"), point=RestorePointId("p")
        ),
        TaskAccepted(at=begin, key=key, task=task),
        TaskSucceeded(at=end, key=key, task=task, mount=href),
        MountFound(at=end, key=key, mount=href, roots=("/",)),
        VerdictReached(at=end, key=key, result=Result.MOUNTED),
        UnmountStarted(at=end, key=key, mount=href),
        MountReleased(at=end, key=key),
        TargetConcluded(at=end, key=key, result=Result.MOUNTED, mount=MountState.RELEASED),
    ]


async def written(
    state: State, events: Sequence[Event] = (), first: RunStarted | None = None
) -> str:
    """Write a run from its beginning to its end; return the head of its chain."""
    first = first or started()
    async with state.open_run(first, inline=True) as journal:
        for event in (first, *events):
            journal.append(event)
    return journal.head


def database(state: State) -> Path:
    """Return where the state keeps its journal."""
    return state.directory / "journal.sqlite"


def kept(state: State) -> int:
    """Return how many records another connection can read at this moment."""
    with closing(sqlite3.connect(f"file:{database(state)}?mode=ro", uri=True)) as other:
        (count,) = other.execute("SELECT count(*) FROM events").fetchone()
    return int(count)
