"""Checklist, "Mounts and tasks" and "Ground truth": every way a mount can go."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import anyio
import pytest

from tests.simulator.wire import MOUNT_S, STEADY, Answer, family, wired

pytestmark = pytest.mark.anyio

FAMILIES = ["vmReplicaPoints", "vmRestorePoints", "agents/agentRestorePoints"]


def state(answer: Answer) -> tuple[str, str | None, str | None]:
    """Return State, Success and Message of one task."""
    results = answer.all("Result")
    success = results[0].attrib["Success"] if results else None
    return answer.texts("State")[0], success, next(iter(answer.texts("Message")), None)


def roots(answer: Answer) -> list[str]:
    """Return the volume roots of a mount."""
    return [path.text or "" for entry in answer.all("DirectoryEntry") for path in entry[:1]]


@pytest.mark.parametrize("path", FAMILIES)
async def test_a_mount_from_post_to_unmount(path: str) -> None:
    """POST → 202 at once, Running; Finished by virtual time; DELETE 204, second DELETE 404."""
    async with wired(change=lambda inventory: family(inventory, path)) as wire:
        point = wire.point()
        started = await wire.start(point)
        assert (started.status, state(started)) == (202, ("Running", None, None))
        assert anyio.current_time() == 0.0
        await anyio.sleep(MOUNT_S - 0.001)
        assert state(await wire.get("tasks/task-1"))[0] == "Running"
        await anyio.sleep(0.002)
        assert state(await wire.get("tasks/task-1")) == ("Finished", "true", "Ok")

        mount = f"{path}/{point.id}/mounts/1"
        read = await wire.get(mount)
        assert roots(read) == ["Volume$0:", "C:", "E:"]
        assert read.below("Delete") == [mount]
        gone = await wire.delete(mount)
        assert (gone.status, gone.body) == (204, b"")
        assert (await wire.delete(mount)).status == 404
        assert (await wire.get(mount)).status == 404


async def test_each_post_is_a_new_mount() -> None:
    """Each POST a new mount: the same point three times, numbered, and unmounted one by one."""
    async with wired() as wire:
        point = wire.point()
        for _ in range(3):
            await wire.start(point)
        await anyio.sleep(MOUNT_S + 1)
        mounts = f"vmReplicaPoints/{point.id}/mounts"
        await wire.delete(f"{mounts}/2")

        left = await wire.get(mounts)

        paths = sorted(one.attrib["Href"][-1] for one in left.all("VmReplicaPointMount"))
        assert paths == ["1", "3"]
        assert (
            wire.truth.peaks[f"vm:hq/{point.machine.backup_server.name}/{point.machine.name}"] == 3
        )


@pytest.mark.parametrize(("slots", "last"), [(1, 240.0), (2, 120.0), (64, 60.0)])
async def test_over_subscription_slows_everyone(slots: int, last: float) -> None:
    """Per-backup-server slots: the others queue, another backup server does not notice."""
    async with wired(behaviour=replace(STEADY, backup_server_slots=slots)) as wire:
        first, second = wire.inventory.machines[0], wire.inventory.machines[1]
        assert first.backup_server is not second.backup_server
        for _ in range(4):
            await wire.start(first.points[0])
        await wire.start(second.points[0])
        await anyio.sleep(300.0)

        ends = [fate.finished_at or 0.0 for fate in wire.truth.mounts]
        assert (max(ends[:4]), ends[4]) == (last, 60.0)


async def test_operation_finished_is_not_the_end() -> None:
    """Running→OperationFinished, for several polls and with a Result→Finished, then the link."""
    knobs = replace(STEADY, operation_finished_share=1.0, operation_finished_s=10.0)
    async with wired(behaviour=knobs) as wire:
        point = wire.point()
        await wire.start(point)
        await anyio.sleep(MOUNT_S + 0.001)
        for _ in range(3):
            task = await wire.get("tasks/task-1")
            assert state(task) == ("OperationFinished", "true", "OperationFinished")
            assert task.below("Related") == []
            assert (await wire.get(f"vmReplicaPoints/{point.id}/mounts/1")).status == 404
            await anyio.sleep(3.0)
        await anyio.sleep(1.0)

        task = await wire.get("tasks/task-1")

        assert state(task) == ("Finished", "true", "Ok")
        assert len(task.below("Related")) == 1


@pytest.mark.parametrize("fails", [None, "No luck today."])
@pytest.mark.parametrize("said", [0.0, 1.0])
async def test_finished_with_and_without_a_message(fails: str | None, said: float) -> None:
    """Finished failed with and without Message, still HTTP 200; success may be silent too."""
    async with wired(behaviour=replace(STEADY, message_share=said)) as wire:
        wire.point().fails = fails
        task = await wire.mounted(wire.point())

        text = (fails or "Ok") if said else None
        assert (task.status, state(task)) == (
            200,
            ("Finished", "false" if fails else "true", text),
        )
        assert len(task.below("Related")) == (0 if fails else 1)
        if not (fails or said):
            assert '<Result Success="true" />' in task.text


@pytest.mark.parametrize(
    ("related", "answers", "expected", "status"),
    [
        ("other_family", False, "vmRestorePoints", 404),
        ("other_family", True, "vmRestorePoints", 200),
        ("own_family", False, "vmReplicaPoints", 200),
        ("absent", False, None, None),
    ],
)
async def test_the_related_link_takes_every_form(
    related: str, answers: bool, expected: str | None, status: int | None
) -> None:
    """No Related link, the documented or the own family; the other family's URL may be 404."""
    knobs = replace(STEADY, related=related, related_answers=answers)
    async with wired(behaviour=knobs) as wire:
        point = wire.point()
        task = await wire.mounted(point)

        paths = task.below("Related")
        assert paths == ([f"{expected}/{point.id}/mounts/1"] if expected else [])
        for path in paths:
            link = next(one for one in task.all("Link") if one.attrib["Rel"] == "Related")
            assert link.attrib["Name"] == f"{point.id}@1"
            kind = {"vmRestorePoints": "VmRestorePoint", "vmReplicaPoints": "VmReplicaPoint"}
            assert link.attrib["Type"] == f"{kind[path.partition('/')[0]]}Mount"
            assert (await wire.get(path)).status == status
            assert (await wire.get(path.removesuffix("/1"))).status == status
        assert (await wire.get(f"vmReplicaPoints/{point.id}/mounts/1")).status == 200


@pytest.mark.parametrize(
    ("own", "documented"),
    [
        ("vmReplicaPoints", "vmRestorePoints"),
        ("vmRestorePoints", "vmRestorePoints"),
        ("agents/agentRestorePoints", "agents/agentRestorePoints"),
    ],
)
async def test_where_each_familys_related_link_leads(own: str, documented: str) -> None:
    """As documented: replicas into the backups, backups and agents to themselves."""
    async with wired(change=lambda inventory: family(inventory, own)) as wire:
        point = wire.point()

        task = await wire.mounted(point)

        assert task.below("Related") == [f"{documented}/{point.id}/mounts/1"]


@pytest.mark.parametrize(
    ("os", "attribute", "text"),
    [
        ("Windows", "running", "replica VM is running"),
        ("Windows", "job_active", "replication job"),
        ("Linux", "helper_host", "helper host"),
        ("Windows", "gone", "removed by retention"),
    ],
)
async def test_a_mount_fails_by_its_cause(os: str, attribute: str, text: str) -> None:
    """Failures by cause: replica VM running, job active, point gone, no helper host for Linux."""
    async with wired() as wire:
        point = wire.point(os)
        owners: dict[str, Any] = {"helper_host": point.machine.backup_server, "gone": point}
        setattr(owners.get(attribute, point.machine), attribute, attribute != "helper_host")

        task = await wire.mounted(point)

        assert state(task)[:2] == ("Finished", "false")
        assert text in (state(task)[2] or "")
        (fate,) = wire.truth.mounts
        assert (fate.succeeded, fate.closed_by, fate.is_open) == (False, "failed", False)


async def test_backups_mount_beside_a_running_machine() -> None:
    """A running replica stops only mounts of replicas."""
    async with wired(change=lambda inventory: family(inventory, "vmRestorePoints")) as wire:
        wire.point().machine.running = wire.point().machine.job_active = True

        assert state(await wire.mounted(wire.point()))[1] == "true"


async def test_an_exclusive_repository_lets_one_mount_in() -> None:
    """Duplicates on an exclusive repository fail while the first one is open."""
    async with wired() as wire:
        point = wire.point()
        point.machine.backup_server.exclusive = True
        outcomes = [state(await wire.mounted(point))[1] for _ in range(2)]
        await wire.delete(f"vmReplicaPoints/{point.id}/mounts/1")
        outcomes.append(state(await wire.mounted(point))[1])

        assert outcomes == ["true", "false", "true"]


@pytest.mark.parametrize(("os", "said"), [("Linux", "Windows"), ("Windows", "Linux")])
async def test_the_wrong_system_mounts_and_shows_nothing(os: str, said: str) -> None:
    """OsKind wrong: the task succeeds and FSRoots is empty."""
    async with wired() as wire:
        point = wire.point(os)
        task = await wire.mounted(point, said)
        mount = await wire.get(f"vmReplicaPoints/{point.id}/mounts/1")

        assert state(task)[:2] == ("Finished", "true")
        assert (roots(mount), "<FSRoots />" in mount.text) == ([], True)
        assert (await wire.get(f"vmReplicaPoints/{point.id}/mounts/1/C:")).status == 404


@pytest.mark.parametrize(("os", "said"), [("Linux", "Windows"), ("Windows", "Linux")])
async def test_the_wrong_system_may_show_a_volume_that_cannot_be_read(os: str, said: str) -> None:
    """A knob: what a real server shows of a guest that it cannot read is not documented."""
    async with wired(behaviour=replace(STEADY, wrong_system="unreadable")) as wire:
        point = wire.point(os)
        await wire.mounted(point, said)
        mount = f"vmReplicaPoints/{point.id}/mounts/1"

        (shown,) = roots(await wire.get(mount))
        assert (await wire.get(f"{mount}/{shown}?action=listAll")).status == 500
        assert (await wire.get(f"{mount}/C:?action=listAll")).status == 404


async def test_a_windows_guest_on_a_linux_server_has_no_drive_letters() -> None:
    """Trap 70: volumes with random ids, as in the sample, and the same files below them."""
    async with wired() as wire:
        point = wire.point("Windows")
        point.machine.letterless = True
        await wire.mounted(point, "Windows")
        mount = f"vmReplicaPoints/{point.id}/mounts/1"

        shown = roots(await wire.get(mount))
        assert all(re.fullmatch("vol_[0-9a-f]{8}", root) for root in shown)
        files = await wire.get(f"{mount}/{shown[1]}/Windows?action=listAll")
        assert "notepad.exe" in files.texts("Name")
        assert (await wire.get(f"{mount}/C:?action=listAll")).status == 404


async def test_the_list_of_tasks_is_complete() -> None:
    """GET /tasks is complete: every task with State, Result and Links, beyond any page size."""
    async with wired() as wire:
        await wire.mounted(wire.point())
        for _ in range(120):
            await wire.start(wire.point())

        listed = await wire.get("tasks")

        assert listed.texts("TaskId") == [f"task-{number}" for number in range(1, 122)]
        single = await wire.get("tasks/task-1")
        first = listed.text.partition("</Task>")[0].partition("<Task H")[2]
        assert first.partition("<Links>")[2] in single.text
        assert len(listed.all("PagingInfo")) == 0


async def test_finished_tasks_are_purged_after_a_settable_time() -> None:
    """Finished tasks purged after a settable time; their mounts stay."""
    async with wired(behaviour=replace(STEADY, purge_finished_after=30.0)) as wire:
        point = wire.point()
        await wire.mounted(point)
        await wire.start(point)
        await anyio.sleep(28.0)
        before = (await wire.get("tasks")).texts("TaskId")
        await anyio.sleep(1.0)

        assert (before, (await wire.get("tasks")).texts("TaskId")) == (
            ["task-1", "task-2"],
            ["task-2"],
        )
        assert (await wire.get("tasks/task-1")).status == 500
        assert (await wire.get(f"vmReplicaPoints/{point.id}/mounts/1")).status == 200


@pytest.mark.parametrize("leaves", [True, False])
async def test_deleting_a_running_task_may_leave_its_mount(leaves: bool) -> None:
    """`DELETE` of a running task leaves the mount (knob)."""
    async with wired(behaviour=replace(STEADY, cancel_leaves_mount=leaves)) as wire:
        point = wire.point()
        await wire.start(point)

        assert (await wire.delete("tasks/task-1")).status == 204
        await anyio.sleep(MOUNT_S + 1)

        assert (await wire.get("tasks")).texts("TaskId") == []
        assert len(wire.truth.still_open()) == int(leaves)
        listed = await wire.get(f"vmReplicaPoints/{point.id}/mounts")
        assert len(listed.all("VmReplicaPointMount")) == int(leaves)


@pytest.mark.parametrize(
    ("answer", "status", "state"),
    [
        ("ended", 204, "Finished"),
        ("vanished", 204, None),
        ("refused", 403, "Running"),
        ("goes_on", 204, "Running"),
    ],
)
async def test_what_a_stop_does_to_a_running_task(
    answer: str, status: int, state: str | None
) -> None:
    """Four answers (knob); one that goes on mounts, one that has gone does not."""
    behaviour = replace(STEADY, task_stop=answer, cancel_leaves_mount=False)
    async with wired(behaviour=behaviour) as wire:
        point = wire.point()
        await wire.start(point)

        assert (await wire.delete("tasks/task-1")).status == status
        shown = await wire.get("tasks/task-1")
        assert shown.status == (500 if state is None else 200)
        assert shown.texts("State") == ([] if state is None else [state])

        await anyio.sleep(MOUNT_S + 1)
        assert len(wire.truth.still_open()) == int(state == "Running")
        assert len(wire.truth.stops) == 1


@pytest.mark.parametrize("answer", ["ended", "vanished"])
async def test_a_mount_may_appear_after_its_task_has_gone(answer: str) -> None:
    """So many seconds later (knob), in the list of its point, and it can be removed."""
    behaviour = replace(STEADY, task_stop=answer, stopped_mount_after_s=100.0)
    async with wired(behaviour=behaviour) as wire:
        mounts = f"vmReplicaPoints/{wire.point().id}/mounts"
        await wire.start(wire.point())
        await wire.delete("tasks/task-1")

        await anyio.sleep(99)
        assert not (await wire.get(mounts)).all("VmReplicaPointMount")
        await anyio.sleep(2)
        assert len((await wire.get(mounts)).all("VmReplicaPointMount")) == 1
        assert (await wire.delete(f"{mounts}/1")).status == 204
        assert not wire.truth.still_open()


@pytest.mark.parametrize(("knob", "status"), [(False, 200), (True, 404)])
async def test_the_list_before_the_first_mount(knob: bool, status: int) -> None:
    """Mount list empty or 404 before the first mount (knob)."""
    async with wired(behaviour=replace(STEADY, empty_mounts_are_404=knob)) as wire:
        mounts = f"vmReplicaPoints/{wire.point().id}/mounts"
        before = await wire.get(mounts)
        await wire.start(wire.point())

        assert before.status == status
        assert before.text.endswith(" />")
        assert (await wire.get(mounts)).status == 200


async def test_an_unmount_may_be_slow() -> None:
    """Slow DELETE (knob): open until it is answered."""
    async with wired(behaviour=replace(STEADY, unmount_s=45.0)) as wire:
        await wire.mounted(wire.point())
        began = anyio.current_time()

        gone = await wire.delete(f"vmReplicaPoints/{wire.point().id}/mounts/1")

        assert (gone.status, anyio.current_time() - began) == (204, 45.0)
        assert wire.truth.mounts[0].closed_at == began + 45.0
