"""Small runs for the report's tests: events that a real run could record, and their fold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.core.events import (
    CheckMade,
    Event,
    MountFound,
    MountLeft,
    MountReleased,
    OutOfReach,
    RunFinished,
    RunStarted,
    ServerFacts,
    SubmissionStarted,
    TargetConcluded,
    TargetPlanned,
    TaskAccepted,
    TaskFailed,
    TaskSucceeded,
    UnmountStarted,
    VerdictReached,
)
from orchestrator.core.model import (
    BackupServerName,
    Href,
    MountKey,
    MountState,
    Objectives,
    OsKind,
    RestorePoint,
    RestorePointId,
    Result,
    RunId,
    ServerName,
    SessionId,
    TaskId,
    WaveFacts,
    WaveName,
)
from orchestrator.core.proof import CheckOutcome
from orchestrator.core.run_state import RunState, fold
from orchestrator.report import as_json
from orchestrator.report.values import Report

STARTED_AT = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
RUN = RunId("20261123T060000Z-7f3a")
SESSION = SessionId("6fc27d4e-1f0e-4c1b-8b2a-0d6a5b1f9c11")
HOSTILE = '[/x]<b a="1">&amp;\x1b[2J\x00]]>\r\nfake line\u202e\ufffe\x9b31m "end\''
"""Markup, escape sequences, line ends, reversed text and what XML forbids, in one text."""
BOOTS = CheckOutcome(
    name="boot", path="C:\\Windows", expected="exists", observed="a directory", passed=True
)
WAVES = ("directory", "databases")
NO_OBJECTIVES = Objectives()

QUEUED_S, SUBMITTING_S, RUNNING_S, COLLECTING_S, VERIFYING_S, UNMOUNTING_S = 3, 0.5, 40, 1.5, 2, 1


class Fate(StrEnum):
    """Every way a target can end, or be found when a run was killed."""

    VERIFIED = "verified and released"
    MOUNTED = "mounted and released"
    REFUTED = "mounted, not readable, released"
    TASK_FAILED = "the task failed"
    LEFT = "mounted, not released"
    VANISHED = "nobody can know"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    WAITING = "killed before it was submitted"
    RUNNING = "killed while its task ran"


ENDS: dict[Fate, tuple[Result, MountState]] = {
    Fate.VERIFIED: (Result.VERIFIED, MountState.RELEASED),
    Fate.MOUNTED: (Result.MOUNTED, MountState.RELEASED),
    Fate.REFUTED: (Result.FAILED, MountState.RELEASED),
    Fate.TASK_FAILED: (Result.FAILED, MountState.NONE),
    Fate.LEFT: (Result.MOUNTED, MountState.LEFT),
    Fate.VANISHED: (Result.UNKNOWN, MountState.UNKNOWN),
    Fate.SKIPPED: (Result.SKIPPED, MountState.NONE),
    Fate.CANCELLED: (Result.CANCELLED, MountState.NONE),
    Fate.WAITING: (Result.CANCELLED, MountState.NONE),
    Fate.RUNNING: (Result.UNKNOWN, MountState.UNKNOWN),
}
"""What the report must say of each fate."""


def started(
    *,
    waves: Iterable[str] = WAVES,
    servers: Iterable[str] = ("hq",),
    tls: str = "ca_file",
    wave_objectives: Objectives = NO_OBJECTIVES,
    **changes: Any,
) -> RunStarted:
    """Return the first event of a run."""
    first = RunStarted(
        at=0.0,
        run=RUN,
        started_at=STARTED_AT,
        plan="payments-tier1",
        plan_path="plans/payments.yaml",
        plan_sha256="ab" * 32,
        version="1.0.0",
        servers=tuple(
            ServerFacts(
                name=ServerName(name),
                url=f"https://{name}.example:9398",
                tls=tls,
                api_version="v1_7",
                mounts_limit=12,
                backup_server_limits={},
            )
            for name in servers
        ),
        waves=tuple(WaveFacts(name=WaveName(n), objectives=wave_objectives) for n in waves),
    )
    return replace(first, **changes)


def finished(at: float = 60.0, exit_code: int = 0, *, interrupted: bool = False) -> RunFinished:
    """Return the last event of a run."""
    ended = STARTED_AT + timedelta(seconds=at)
    return RunFinished(at=at, exit_code=exit_code, finished_at=ended, interrupted=interrupted)


def life(
    label: str,
    fate: Fate = Fate.VERIFIED,
    *,
    wave: str = "databases",
    server: str = "hq",
    words: str | None = None,
    age_s: float = 3600.0,
    objectives: Objectives = NO_OBJECTIVES,
) -> list[Event]:
    """Return everything that happens to one target; `words` are what the server says of it."""
    key = MountKey(f"{wave}/{server}/{label}")
    point = RestorePoint(
        id=RestorePointId("0f3c"),
        name=f"{label}@2026-11-23",
        vm=label,
        created_at=STARTED_AT - timedelta(seconds=age_s),
        backup_server=BackupServerName("vbr-hq-01"),
    )
    planned = TargetPlanned(
        at=0.0,
        key=key,
        wave=WaveName(wave),
        server=ServerName(server),
        label=label,
        os_kind=OsKind.WINDOWS,
        point=point,
        objectives=objectives,
        checks=("boot",) if fate is Fate.VERIFIED else (),
    )
    return [planned, *_after_the_plan(key, point.id, fate, words)]


def _after_the_plan(
    key: MountKey, point: RestorePointId, fate: Fate, words: str | None
) -> list[Event]:
    result, mount = ENDS[fate]
    at: float = QUEUED_S
    if fate is Fate.WAITING:
        return []
    if fate in {Fate.SKIPPED, Fate.CANCELLED}:
        return [TargetConcluded(at=at, key=key, result=result, mount=mount, message=words)]
    task, href = TaskId("task-12"), Href("/mounts/1")
    events: list[Event] = [
        SubmissionStarted(at=at, key=key, attempt=1, session=SESSION, point=point),
        TaskAccepted(at=(at := at + SUBMITTING_S), key=key, task=task),
    ]
    at += RUNNING_S
    if fate is Fate.RUNNING:
        return events
    if fate is Fate.TASK_FAILED:
        events += [TaskFailed(at=at, key=key, task=task, message=words)]
    elif fate is Fate.VANISHED:
        events += [OutOfReach(at=at, key=key, reason=words or "its session was lost")]
    else:
        events += [
            TaskSucceeded(at=at, key=key, task=task, message="Ok", mount=href),
            MountFound(at=(at := at + COLLECTING_S), key=key, mount=href, roots=("C:",)),
            *([CheckMade(at=at, key=key, outcome=BOOTS)] if fate is Fate.VERIFIED else []),
            VerdictReached(at=(at := at + VERIFYING_S), key=key, result=result, message=words),
            UnmountStarted(at=at, key=key, mount=href),
        ]
        at += UNMOUNTING_S
        events += [
            MountLeft(at=at, key=key, mount=href, reason=words or "the server refuses")
            if fate is Fate.LEFT
            else MountReleased(at=at, key=key)
        ]
    return [*events, TargetConcluded(at=at, key=key, result=result, mount=mount, message=words)]


def run_of(*lives: Sequence[Event], first: RunStarted | None = None) -> RunState:
    """Return the fold of a run with these events after its first."""
    return fold([first or started(), *(event for events in lives for event in events)])


def values(report: Report) -> dict[str, Any]:
    """Return report.json as whoever reads it sees it."""
    parsed: dict[str, Any] = json.loads(as_json.render(report))
    return parsed


@cache
def hostile_text(min_size: int = 0, max_size: int = 30) -> st.SearchStrategy[str]:
    """Draw any text but lone surrogates, which no journal takes; control characters often."""
    anything = st.characters(exclude_categories=["Cs"])
    nasty = st.sampled_from(HOSTILE)
    return st.text(anything | nasty, min_size=min_size, max_size=max_size)


def runs(*, ended: bool = False) -> st.SearchStrategy[RunState]:
    """Draw a run: any fates over two waves with hostile names; `ended` leaves no loose ends."""
    return journals(ended=ended).map(fold)


@st.composite
def journals(draw: st.DrawFn, *, ended: bool = False) -> list[Event]:
    """Draw the events of such a run."""
    fates = [fate for fate in Fate if not ended or fate not in {Fate.WAITING, Fate.RUNNING}]
    waves = draw(st.lists(hostile_text(1), min_size=1, max_size=2, unique=True))
    targets = draw(
        st.lists(
            st.tuples(
                hostile_text(1),
                st.sampled_from(fates),
                st.sampled_from(waves),
                st.none() | hostile_text(),
            ),
            max_size=8,
            unique_by=lambda target: target[0],
        )
    )
    first = started(
        waves=waves,
        plan=draw(hostile_text(1)),
        reason=draw(st.none() | hostile_text()),
        require_checks=draw(st.booleans()),
    )
    lives = [life(label, fate, wave=wave, words=words) for label, fate, wave, words in targets]
    end = [finished()] if ended or draw(st.booleans()) else []
    return [first, *(event for events in lives for event in events), *end]
