"""As which systems machines were readable, read from the records of earlier runs."""

from __future__ import annotations

import pytest

from orchestrator.core.events import Event, SystemFound, TargetPlanned
from orchestrator.core.model import BackupServerName, MountKey, OsKind, ServerName, WaveName
from tests.journal.sample import started
from tests.store.recorder import Recorder

pytestmark = pytest.mark.anyio

HQ, VBR = ServerName("hq"), BackupServerName("vbr-01")


def found(os_kind: OsKind = OsKind.LINUX, *, vm: str = "web01") -> list[Event]:
    """Return what a run has found out of a machine."""
    key = MountKey(f"w/hq/{vm}")
    return [
        TargetPlanned(
            at=1.0, key=key, wave=WaveName("w"), server=HQ, label=vm, os_kind=OsKind.WINDOWS
        ),
        SystemFound(at=60.0, key=key, os_kind=os_kind, server=HQ, vm=vm, backup_server=VBR),
    ]


async def test_what_any_run_found_out_is_known_and_the_newest_counts(recorder: Recorder) -> None:
    """Whichever plan it was."""
    await recorder.record([*found(), *found(vm="db01")], started("one", plan="a"))
    await recorder.record(found(OsKind.WINDOWS), started("two", plan="b", hours=5))

    known = recorder.store.systems(recorder.store.naming(started("two").run)).known

    assert known(HQ, "WEB01", VBR) is OsKind.WINDOWS
    assert known(HQ, "db01", VBR) is OsKind.LINUX
    assert known(HQ, "db01", BackupServerName("vbr-02")) is None


async def test_a_record_that_cannot_be_read_says_nothing_and_stops_nothing(
    recorder: Recorder,
) -> None:
    """A damaged old run costs a mount of the wrong system, and nothing else."""
    await recorder.record(found(), started("one"))
    await recorder.record(found(vm="db01"), started("two"))
    await recorder.spoil("two", SystemFound, b"\xff{")

    known = recorder.store.systems(recorder.store.naming(started("one").run)).known

    assert known(HQ, "web01", VBR) is OsKind.LINUX
    assert known(HQ, "db01", VBR) is None


async def test_without_a_run_no_system_is_known(recorder: Recorder) -> None:
    """Every machine is mounted as the plan says, else as Windows first."""
    assert recorder.store.systems().known(HQ, "web01", VBR) is None
