"""How long earlier runs of a plan took: only whole ones count, and the newest five of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from orchestrator.core.events import (
    Event,
    RunFinished,
    RunHalted,
    RunResumed,
    RunStarted,
    SessionOpened,
    StopRequested,
    TargetConcluded,
    WaveFinished,
    WaveStarted,
)
from orchestrator.core.makespan import PastMakespans
from orchestrator.core.model import (
    MountKey,
    MountState,
    Result,
    RunId,
    ServerName,
    SessionId,
    WaveName,
)
from tests.journal.sample import BEGAN, mounted, started
from tests.store.recorder import Recorder

pytestmark = pytest.mark.anyio

NEXT = RunId("20261123T230000Z-ffff")
W = WaveName("w")
LOGON = SessionOpened(
    at=0.5, server=ServerName("hq"), session=SessionId("s"), user="u", api_version="v1_7"
)


def whole(seconds: float, *more: Event, code: int = 0, simulated: bool = False) -> list[Event]:
    """Return a run whose only wave takes so long, after 5 seconds of waiting and before a hold."""
    return [
        replace(LOGON, simulated=simulated),
        *mounted("sql01"),
        WaveStarted(at=5.0, wave=W),
        *more,
        WaveFinished(at=5.0 + seconds, wave=W),
        RunFinished(at=9000.0, exit_code=code, finished_at=BEGAN),
    ]


async def makespans(recorder: Recorder, *runs: tuple[RunStarted, Sequence[Event]]) -> PastMakespans:
    """Return what a run of the plan `drill` is compared with after these."""
    for first, events in runs:
        await recorder.record(events, first)
    return recorder.store.makespans("drill", before=NEXT)


def run(number: int, **changes: object) -> RunStarted:
    """Return the beginning of a run."""
    return replace(started(f"20261123T{number:02}0000Z-{number:04x}"), **changes)


async def test_the_newest_five_whole_runs_count_real_and_simulated_ones_apart(
    recorder: Recorder,
) -> None:
    """From the beginning of the first wave to the end of the last one, the newest first."""
    real = [(run(n), whole(10.0 * n)) for n in range(1, 8)]
    simulated = [(run(n), whole(float(n), simulated=True)) for n in (8, 9)]
    other = [(started("20261123T110000Z-000b", plan="other"), whole(999.0))]

    found = await makespans(recorder, *real, *simulated, *other)

    assert found == PastMakespans(real=(70.0, 60.0, 50.0, 40.0, 30.0), simulated=(9.0, 8.0))
    assert recorder.store.makespans("drill", before=RunId(real[-1][0].run)).real[0] == 60.0


async def test_a_run_that_ended_badly_by_itself_counts_and_no_other_one(
    recorder: Recorder,
) -> None:
    """Narrowed, halted, stopped, resumed, in doubt, without its end, or with a target skipped."""
    skipped = TargetConcluded(
        at=6, key=MountKey("w/hq/sql01"), result=Result.SKIPPED, mount=MountState.NONE
    )
    stop = StopRequested(at=6, signal="SIGINT", forced=False)
    parts = [
        (run(1, only=("sql*",)), whole(1.0)),
        (run(2, keys=(MountKey("w/hq/sql01"),)), whole(2.0)),
        (run(3), whole(3.0, RunHalted(at=6, reason="deadline", detail="x"))),
        (run(4), whole(4.0, stop)),
        (run(5), whole(5.0, RunResumed(at=6, resumed_at=BEGAN, version="1"))),
        (run(6), whole(6.0, code=3)),
        (run(7), whole(7.0)[:-1]),
        (run(8), whole(8.0, skipped)),
        (run(9), [each for each in whole(9.0) if not isinstance(each, WaveFinished)]),
        (run(10), whole(10.0, code=1)),
    ]

    assert (await makespans(recorder, *parts)).real == (10.0,)


async def test_a_run_that_cannot_be_read_is_passed_over(recorder: Recorder) -> None:
    """It is nothing to compare with, and keeps no run from beginning."""
    await recorder.record(whole(1.0), run(1))
    await recorder.record(whole(2.0), run(2))
    await recorder.spoil(run(2).run, WaveFinished, b"{")

    assert (await makespans(recorder)).real == (1.0,)
    assert recorder.store.makespans("unheard-of", before=NEXT) == PastMakespans()
