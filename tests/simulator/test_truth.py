"""Checklist, "Ground truth": what really happened, and the calls that must never happen."""

from __future__ import annotations

import anyio
import pytest

from orchestrator.simulator.activity import is_shown_over, sessions
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.inventory import Inventory, Machine, generated
from orchestrator.simulator.manager import SimulatedManager, User
from orchestrator.simulator.truth import GroundTruth
from tests.simulator.wire import MOUNT_S, TOKEN, wired

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("vmReplicaPoints/{}?action=failover", 1),
        ("VMREPLICAPOINTS/{}?Action=FailOver", 1),
        ("vmReplicaPoints/{}/?action=failover", 1),
        ("vmReplicaPoints/{}?action=%66ailover", 1),
        ("vmRestorePoints/{}?action=restore", 1),
        ("vmReplicaPoints/{}/mounts", 0),
        ("vmReplicaPoints/{}/mounts/1/C:?action=restore", 0),
    ],
)
async def test_dangerous_calls_are_counted(path: str, count: int) -> None:
    """A counter for any call to `action=failover` or full `action=restore`, however written."""
    async with wired() as wire:
        await wire.post(path.format(wire.point().id))
        await wire.post(path.format(wire.point().id), token="stale")

        assert wire.truth.dangerous == 2 * count
        assert wire.truth.as_json()["dangerous"] == 2 * count


async def test_the_truth_tells_every_mount_and_its_fate() -> None:
    """Side channel listing every mount ever made: running, failed, unmounted, orphaned, open."""
    async with wired() as wire:
        machines = wire.inventory.machines
        machines[1].points[0].fails = "No."
        other = (await wire.log_on()).headers[TOKEN]
        for place in range(3):
            await wire.start(machines[place].points[0], machines[place].os)
        await wire.start(machines[4].points[0], token=other)
        await anyio.sleep(MOUNT_S + 1)
        await wire.delete(f"vmReplicaPoints/{machines[0].points[0].id}/mounts/1")
        (gone,) = [one for one in wire.manager.sessions.values() if one.token == other]
        await wire.delete(f"logonSessions/{gone.id}")
        await wire.start(machines[5].points[0])

        told = {
            fate.vm: (fate.succeeded, fate.closed_by, fate.orphaned) for fate in wire.truth.mounts
        }

        assert list(told.values()) == [
            (True, "unmounted", False),
            (False, "failed", False),
            (True, None, False),
            (True, None, True),
            (None, None, False),
        ]
        assert set(told) == {machines[place].name for place in (0, 1, 2, 4, 5)}
        assert (wire.truth.peaks["total"], wire.truth.open_now["total"]) == (4, 2)
        assert wire.truth.requests["POST /api/vmReplicaPoints/{id}/mounts"] == 5
        joined = GroundTruth.from_json([wire.truth.as_json()])
        assert (joined.mounts, joined.peaks) == (wire.truth.mounts, wire.truth.peaks)


def peak_of(machine: Machine) -> str:
    """Return the name under which peaks of a machine are counted."""
    return f"vm:hq/{machine.backup_server.name}/{machine.name}"


async def test_peaks_count_from_the_accepted_post_to_the_unmount() -> None:
    """Peaks of open mounts per server, backup server and machine are exact."""
    async with wired() as wire:
        first, second = wire.inventory.machines[0], wire.inventory.machines[2]
        assert first.backup_server is second.backup_server
        for machine in (first, second):
            await wire.mounted(machine.points[0])
            await wire.delete(f"vmReplicaPoints/{machine.points[0].id}/mounts/1")
        apart = wire.truth.peaks[f"backup:hq/{first.backup_server.name}"]
        for machine in (first, second):
            await wire.start(machine.points[0])

        assert (apart, wire.truth.peaks[f"backup:hq/{first.backup_server.name}"]) == (1, 2)
        assert wire.truth.peaks[peak_of(first)] == wire.truth.peaks[peak_of(second)] == 1


def test_an_inventory_is_the_same_for_the_same_seed() -> None:
    """Points, names and durations come from the seed alone."""

    def told(inventory: Inventory) -> list[tuple[str, str, float]]:
        return [(point.id, point.name, point.machine.mount_s) for point in inventory.by_id.values()]

    assert told(generated(3, machines=40)) == told(generated(3, machines=40))
    assert told(generated(3, machines=40)) != told(generated(4, machines=40))


async def test_servers_with_one_truth_show_their_own_mounts_only() -> None:
    """A server knows nothing of what another one has mounted."""
    truth = GroundTruth()
    user = User("a", "b")
    one, other = (
        SimulatedManager(
            name,
            generated(number, machines=2),
            users={"a": user},
            truth=truth,
            behaviour=Behaviour(shows_activity="all"),
        )
        for number, name in enumerate(("one", "other"))
    )
    session = one.logon("a", "b")
    assert session is not None
    point = one.inventory.machines[0].points[0]
    one.start_mount(session, point.family, point, "Windows")

    assert [each.machine for each in sessions(one, "RestoreSession")] == [point.machine]
    assert sessions(other, "RestoreSession") == []


@pytest.mark.parametrize("is_rehearsed", [True, False])
async def test_a_job_is_shown_since_it_began(is_rehearsed: bool) -> None:
    """A rehearsed one begins with the first logon, and ends in its time; another was there."""
    inventory = generated(1, machines=2)
    machine = inventory.machines[0]
    machine.busy_s, machine.job_active = (300.0, False) if is_rehearsed else (0.0, True)
    shows = Behaviour(shows_activity="all", activity_delay_s=0.0 if is_rehearsed else 900.0)
    manager = SimulatedManager("one", inventory, users={"a": User("a", "b")}, behaviour=shows)
    await anyio.sleep(50.0)
    began_s = manager.clock() - (0.0 if is_rehearsed else 960.0)

    for _ in range(3):
        manager.logon("a", "b")
        (job,) = sessions(manager, "ReplicaTaskSession")
        assert (job.machine, job.from_s) == (machine, began_s)
        await anyio.sleep(80.0)
    await anyio.sleep(80.0)

    is_over = is_shown_over(manager, sessions(manager, "ReplicaTaskSession")[0])
    assert is_over == is_rehearsed
