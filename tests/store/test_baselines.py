"""What earlier runs measured: only in attempts that were verified, and the newest run's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from orchestrator.core.earlier_runs import baselines
from orchestrator.core.events import (
    CheckMade,
    Event,
    SubmissionStarted,
    TargetConcluded,
    TargetPlanned,
    VerdictReached,
)
from orchestrator.core.model import MountState, RestorePointId, Result, RunId, ServerName
from orchestrator.core.proof import CheckOutcome, Measured
from tests.journal.sample import mounted, started
from tests.store.recorder import Recorder

pytestmark = pytest.mark.anyio

FIRST, SECOND, THIRD = (f"20261123T{hour:02}0000Z-{hour:04x}" for hour in (6, 7, 8))
NEXT = RunId("20261123T090000Z-0009")
HQ = ServerName("hq")


def measured(files: int, path: str = "D:\\") -> CheckOutcome:
    """Return the outcome of a baseline check."""
    return CheckOutcome(
        name="bulk",
        path=path,
        expected="as last time",
        observed=f"{files} files",
        passed=True,
        measured=Measured(files=files, bytes=files * 10),
    )


def life(vm: str, *attempts: tuple[str, int, Result], end: Result, about: str) -> Sequence[Event]:
    """Return a target's life with attempts at points, what each measured, and its verdict."""
    planned, submitted, *_, concluded = mounted(vm)
    assert isinstance(planned, TargetPlanned)
    assert isinstance(submitted, SubmissionStarted)
    assert isinstance(concluded, TargetConcluded)
    events: list[Event] = [planned]
    for point, files, verdict in attempts:
        events += [
            replace(submitted, point=RestorePointId(point)),
            CheckMade(at=2.0, key=planned.key, outcome=measured(files)),
            VerdictReached(at=3.0, key=planned.key, result=verdict),
        ]
    final = replace(concluded, result=end, point=RestorePointId(about), mount=MountState.RELEASED)
    return [*events, final]


def files(recorder: Recorder, vm: str = "sql01", path: str = "D:\\") -> int | None:
    """Return how many files the next run will compare with."""
    found = recorder.store.baselines(before=NEXT).measured(HQ, vm, path)
    return found.files if found else None


async def test_the_newest_verified_run_counts(recorder: Recorder) -> None:
    """A failed run measured too, and is nothing to compare with."""
    good, bad = Result.VERIFIED, Result.FAILED
    for run, count, result in ((FIRST, 100, good), (SECOND, 90, good), (THIRD, 10, bad)):
        await recorder.record(
            life("sql01", ("new", count, result), end=result, about="new"), started(run)
        )

    assert files(recorder) == 90
    assert files(recorder, vm="sql02") is None
    assert files(recorder, path="E:\\") is None
    assert recorder.store.baselines(before=RunId(SECOND)).measured(HQ, "sql01", "D:\\") == Measured(
        files=100, bytes=1000
    )


async def test_of_several_attempts_the_one_counts_that_the_result_is_about(
    recorder: Recorder,
) -> None:
    """Neither the point that failed before, nor an older one that was tried after it."""
    attempts = (
        ("newest", 5, Result.FAILED),
        ("good", 100, Result.VERIFIED),
        ("older", 70, Result.VERIFIED),
        ("oldest", 7, Result.FAILED),
    )

    await recorder.record(life("sql01", *attempts, end=Result.VERIFIED, about="good"))

    assert files(recorder) == 100


async def test_without_a_run_there_is_nothing(recorder: Recorder) -> None:
    """The first run has nothing to compare with."""
    assert files(recorder) is None


async def test_runs_that_measured_nothing_do_not_matter(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the last runs are looked at, and only those with measurements are read."""
    await recorder.record(
        life("sql01", ("p", 100, Result.VERIFIED), end=Result.VERIFIED, about="p")
    )
    for number in range(3):
        await recorder.record(mounted("sql01"), started(f"later-{number}", hours=number + 1))

    assert files(recorder) == 100

    monkeypatch.setattr(baselines, "BASELINE_RUNS", 3)

    assert files(recorder) is None


async def test_a_damaged_run_is_passed_over(recorder: Recorder) -> None:
    """The run before it still counts."""
    for run, count in ((FIRST, 100), (SECOND, 90)):
        events = life("sql01", ("p", count, Result.VERIFIED), end=Result.VERIFIED, about="p")
        await recorder.record(events, started(run))
    await recorder.spoil(SECOND, TargetConcluded, b"{")

    assert files(recorder) == 100
