"""How long each machine's mount takes, from the runs before."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from orchestrator.core.events import MountKept, MountReleased, UnmountStarted
from orchestrator.core.model import MountKey, ServerName
from tests.journal.sample import mounted, started
from tests.store.recorder import Recorder

pytestmark = pytest.mark.anyio

HQ = ServerName("hq")


async def test_expected_durations_are_the_median_of_the_last_five(recorder: Recorder) -> None:
    """One old or odd mount does not decide how a machine is scheduled."""
    for number, seconds in enumerate([9000, 8000, 40, 30, 10, 20, 7000]):
        await recorder.record(mounted("dc01", seconds=seconds), started(f"run{number}"))

    expected = recorder.store.durations().expected

    assert expected(HQ, "dc01") == 30
    assert expected(ServerName("dr"), "dc01") is None
    assert expected(HQ, "sql01") is None


async def test_a_mount_released_by_hand_teaches_no_duration(recorder: Recorder) -> None:
    """A mount that lay open over night does not make its machine look slow."""
    *life, _released, concluded = mounted("dc01", seconds=60)
    by_hand = MountReleased(at=9e4, key=MountKey("w/hq/dc01"), by_hand=True)

    await recorder.record([*life, by_hand, concluded])

    assert recorder.store.durations().expected(HQ, "dc01") is None


async def test_a_hold_is_no_part_of_a_machines_duration(recorder: Recorder) -> None:
    """What is expected of the next run is the work, not how long a person looked."""
    life = mounted("dc01", begin=1.0, seconds=60.0)
    place = next(n for n, event in enumerate(life) if isinstance(event, UnmountStarted))
    kept = MountKept(at=61.0, key=MountKey("w/hq/dc01"), reason="--hold", until=1861.0)
    rest = [replace(event, at=1861.0) for event in life[place:]]

    await recorder.record([*life[:place], kept, *rest])

    assert recorder.store.durations().expected(HQ, "dc01") == 60.0


async def test_without_a_run_nothing_is_expected(recorder: Recorder) -> None:
    """The first run takes its targets as they come."""
    assert recorder.store.durations().expected(HQ, "dc01") is None
