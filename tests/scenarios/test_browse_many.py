"""`browse` by many at once, and where something is in the way: nobody else has to wait for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.app.browsing import places
from orchestrator.app.unmount import release_leftovers
from orchestrator.core.errors import FileNotSaved
from orchestrator.journal import State
from orchestrator.local.files.store import RESERVE
from orchestrator.simulator.faults import Fault
from tests.scenarios.drill import Site
from tests.scenarios.test_browse import (
    HOUR,
    LEDGER,
    OUT,
    content,
    fetch,
    held_keys,
    leftovers,
    look,
    refusal,
)
from tests.scenarios.test_hold import killed_holding
from tests.scenarios.test_steering import steered, until, with_a_person

pytestmark = pytest.mark.anyio

MANY = 12
"""More files at once than a client keeps connections to a server."""


@pytest.mark.parametrize("many", [0, MANY])
async def test_many_files_at_once_delay_no_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """The other mounts of the server are seen to be ready as soon as if nobody read anything."""
    outcomes: list[Any] = []

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        key = held_keys(stage)[0]

        async def one(number: int) -> None:
            outcomes.append(await fetch(stage, key, OUT + "\\ledger.csv", tmp_path / str(number)))

        async with anyio.create_task_group() as all_of_them:
            for number in range(many):
                all_of_them.start_soon(one, number)

    slow = Fault(kind="drip", path="/staged/", seconds=2 * HOUR)
    site = Site(machines=8, limit=4, mount_s=None, faults=[slow])
    async with steered(tmp_path, monkeypatch, site, face=content().face) as stage:
        done = await with_a_person(stage, person, hold=600.0)

    assert len(outcomes) == many
    assert all("ended before all was read" in refusal(each) for each in outcomes)
    assert done.took_s < 1930.0
    assert (done.outcome.code, leftovers(stage)) == (0, [])


async def test_a_path_that_is_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not only when the run ends."""
    said: list[str] = []

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        with anyio.fail_after(10.0):
            said.append(refusal(await look(stage, held_keys(stage)[0], "C:/" + "a" * 70_000)))

    async with steered(tmp_path, monkeypatch, Site(machines=1)) as stage:
        done = await with_a_person(stage, person, hold=HOUR)

    assert "the request cannot be read" in said[0]
    assert (done.outcome.code, leftovers(stage)) == (0, [])


async def test_unmount_removes_what_a_killed_run_had_begun_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes of a guest do not stay in the state directory, whoever cleans up after it."""
    async with steered(tmp_path, monkeypatch, Site(machines=1), face=content().face) as stage:
        await killed_holding(stage, monkeypatch, hold=HOUR)
        directory = stage.state / f"ctl-{State(stage.state).find('last')}"
        directory.mkdir(exist_ok=True)
        (directory / "1-2.content.part").write_bytes(LEDGER)

        outcome = await release_leftovers(
            stage.state, "last", lambda begun: stage.loaded.plan, world=stage.world()
        )

    assert outcome.code == 0
    assert leftovers(stage) == []


@pytest.mark.parametrize("full", ["state", "to"])
async def test_room_stays_free_on_each_disk_that_a_file_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    """What does not fit beside the reserve is not begun; the guest is not to blame for it."""
    said: list[str] = []
    original = os.fstatvfs

    def nearly_full(descriptor: int) -> os.statvfs_result:
        found, where = original(descriptor), Path(f"/proc/self/fd/{descriptor}").readlink()
        is_full = full in where.relative_to(tmp_path).parts
        free = (RESERVE + len(LEDGER) // 2 if is_full else 4 * RESERVE) // found.f_frsize
        return os.statvfs_result([*found[:4], free, *found[5:]])

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        monkeypatch.setattr(os, "fstatvfs", nearly_full)
        with pytest.raises(FileNotSaved) as refused:
            await fetch(stage, held_keys(stage)[0], OUT + "\\ledger.csv", tmp_path / "to")
        said.append(str(refused.value))

    async with steered(tmp_path, monkeypatch, Site(machines=1), face=content().face) as stage:
        done = await with_a_person(stage, person, hold=HOUR)

    assert f"no room: {len(LEDGER)} bytes are needed" in said[0]
    assert f"/{full}/" in said[0]
    assert (done.outcome.code, leftovers(stage)) == (0, [])
    assert not [*(tmp_path / "to").iterdir()]


def test_files_of_one_name_are_not_saved_into_one_directory() -> None:
    """The second would replace the first where people ask for --overwrite, or be refused late."""
    found = places("/evidence", ["C:\\a\\x.txt", "C:/a/y.txt"])

    assert found == {"C:\\a\\x.txt": "/evidence/x.txt", "C:/a/y.txt": "/evidence/y.txt"}
    with pytest.raises(ValueError, match="have the same name"):
        places("/evidence", ["C:\\a\\x.txt", "C:\\b\\X.txt"])
