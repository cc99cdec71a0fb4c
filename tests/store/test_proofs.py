"""When each machine was last proven, read from the journal for those who look for the stalest."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from orchestrator.core.events import Event, TargetConcluded, TargetPlanned
from orchestrator.core.model import (
    BackupServerName,
    MountKey,
    MountState,
    OsKind,
    RestorePoint,
    RestorePointId,
    Result,
    ServerName,
    WaveName,
)
from tests.journal.sample import BEGAN, started
from tests.store.recorder import Recorder

pytestmark = pytest.mark.anyio

HQ, DR = ServerName("hq"), ServerName("dr")
LATER = BEGAN + timedelta(days=365)


def life(
    vm: str,
    result: Result,
    *,
    at: float = 60.0,
    server: ServerName = HQ,
    behind: str = "vbr-01",
    known: bool = True,
) -> list[Event]:
    """Return a target that was planned and ended; `known` says whether it had a point."""
    key = MountKey(f"w/{server}/{vm}@{behind}")
    point = RestorePoint(
        id=RestorePointId("0" * 36),
        name=f"{vm}@x",
        vm=vm,
        created_at=BEGAN,
        backup_server=BackupServerName(behind),
    )
    return [
        TargetPlanned(
            at=1.0,
            key=key,
            wave=WaveName("w"),
            server=server,
            label="whatever people call it",
            os_kind=OsKind.LINUX,
            point=point if known else None,
        ),
        TargetConcluded(at=at, key=key, result=result, mount=MountState.RELEASED),
    ]


def after(hours: float, seconds: float = 60.0) -> datetime:
    """Return a moment so long after the first run began."""
    return BEGAN + timedelta(hours=hours, seconds=seconds)


async def test_the_last_proof_of_any_run_counts(recorder: Recorder) -> None:
    """Whichever plan it was, and whether content was checked or volumes were read."""
    await recorder.record(life("dc01", Result.VERIFIED), started("one", plan="a"))
    await recorder.record(life("dc01", Result.MOUNTED, at=90), started("two", plan="b", hours=5))
    await recorder.record(life("sql01", Result.VERIFIED), started("three", hours=2))

    last = recorder.store.proofs(before=LATER).last

    assert last(HQ, "dc01", None) == after(5, 90)
    assert last(HQ, "DC01", BackupServerName("vbr-01")) == after(5, 90)
    assert last(HQ, "sql01", None) == after(2)
    assert last(DR, "dc01", None) is None
    assert last(HQ, "dc02", None) is None


@pytest.mark.parametrize("result", [r for r in Result if r.value not in {"verified", "mounted"}])
async def test_whatever_is_not_good_proves_nothing(recorder: Recorder, result: Result) -> None:
    """A machine that failed after its last proof is as stale as that proof."""
    await recorder.record(life("dc01", Result.VERIFIED), started("one"))
    await recorder.record(life("dc01", result), started("two", hours=9))

    assert recorder.store.proofs(before=LATER).last(HQ, "dc01", None) == after(0)


async def test_proofs_after_the_given_moment_are_left_out(recorder: Recorder) -> None:
    """A resume samples as its run did when it began, whatever was proven since."""
    for hours in (0, 4):
        await recorder.record(life("dc01", Result.VERIFIED), started(f"run{hours}", hours=hours))

    assert recorder.store.proofs(before=after(3)).last(HQ, "dc01", None) == after(0)
    assert recorder.store.proofs(before=BEGAN).last(HQ, "dc01", None) is None


async def test_machines_of_one_name_are_proven_apart(recorder: Recorder) -> None:
    """Behind a backup server that nobody proved, a namesake stays unproven."""
    await recorder.record(life("dc01", Result.VERIFIED, behind="vbr-01"))

    last = recorder.store.proofs(before=LATER).last

    assert last(HQ, "dc01", BackupServerName("vbr-02")) is None
    assert last(HQ, "dc01", None) == last(HQ, "dc01", BackupServerName("vbr-01")) == after(0)


async def test_records_that_cannot_be_read_prove_nothing_and_stop_nothing(
    recorder: Recorder,
) -> None:
    """A damaged old run makes its machines stale, so they are looked at sooner."""
    await recorder.record(life("dc01", Result.VERIFIED), started("one"))
    await recorder.record(life("dc02", Result.VERIFIED), started("two"))
    await recorder.record(life("dc03", Result.VERIFIED, known=False), started("three"))
    await recorder.spoil("two", TargetPlanned, b"\xff{")
    await recorder.spoil("two", TargetConcluded, b"[]")

    last = recorder.store.proofs(before=LATER).last

    assert last(HQ, "dc01", None) == after(0)
    assert last(HQ, "dc02", None) is last(HQ, "dc03", None) is None


async def test_without_a_run_nothing_was_ever_proven(recorder: Recorder) -> None:
    """Every machine is as stale as can be."""
    assert recorder.store.proofs(before=LATER).last(HQ, "dc01", None) is None
