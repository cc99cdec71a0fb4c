"""Checklist, "Queries": fields, operators, quoting, order, pages, and how stale they may be."""

from __future__ import annotations

import pytest

from orchestrator.simulator.inventory import Inventory, Point
from orchestrator.simulator.query import parsed
from orchestrator.simulator.writing import restore_point_name
from tests.simulator.wire import Answer, Wire, family, in_states, wired

pytestmark = pytest.mark.anyio

AWKWARD = ["app 01", "app01", 'the "old" one', "a-b", "Büro & Söhne", "x;y,(z)", "semi=colon"]


def renamed(inventory: Inventory) -> None:
    """Give the machines awkward names."""
    for machine, name in zip(inventory.machines, AWKWARD, strict=False):
        machine.name = name
    inventory.__init__(inventory.machines)  # type: ignore[misc]  # index them anew


def machines_of(wire: Wire, answer: Answer) -> list[str]:
    """Return the machines of the points an answer refers to, once each, in its order."""
    assert answer.status == 200, answer.text
    ids = [ref.attrib["UID"].rpartition(":")[2] for ref in answer.all("Ref")]
    return list(dict.fromkeys(wire.inventory.by_id[one].machine.name for one in ids))


@pytest.mark.parametrize(
    ("path", "entity", "fields"),
    [
        ("vmReplicaPoints", "VmReplicaPoint", "ReplicaUid ReplicaName VmDisplayName"),
        ("vmRestorePoints", "VmRestorePoint", "RestorePointId RestorePointName VmDisplayName"),
        (
            "agents/agentRestorePoints",
            "AgentRestorePoint",
            "ComputerName RestorePointId RestorePointName BackupUid BackupName",
        ),
    ],
)
async def test_every_documented_field_can_be_filtered(path: str, entity: str, fields: str) -> None:
    """The fields of 3.2, per family: each finds exactly the points that have its value."""

    def value(point: Point, field: str) -> str:
        machine = point.machine
        job = {"ReplicaUid": "Replica", "RestorePointId": "RestorePoint", "BackupUid": "Backup"}
        if field in job:
            return f"urn:veeam:{job[field]}:{machine.job_id}"
        return {
            "UID": f"urn:veeam:{entity}:{point.id}",
            "Name": point.name,
            "CreationTime": f"{point.created_at:%Y-%m-%dT%H:%M:%SZ}",
            "Type": "Snapshot",
            "Algorithm": "Full",
            "BackupServerUid": f"urn:veeam:BackupServer:{machine.backup_server.id}",
            "BackupServerName": machine.backup_server.name,
            "VmDisplayName": machine.name,
            "ComputerName": machine.name,
            "RestorePointName": restore_point_name(point),
        }.get(field, machine.job)

    role = "Portal Administrator"
    async with wired(role=role, change=lambda inventory: family(inventory, path)) as wire:
        everything = list(wire.inventory.by_id.values())
        shared = "UID Name CreationTime Type Algorithm BackupServerUid BackupServerName"
        for field in f"{shared} {fields}".split():
            wanted = value(everything[4], field)
            answer = await wire.query(entity, f'{field}=="{wanted}"')

            found = {ref.attrib["UID"].rpartition(":")[2] for ref in answer.all("Ref")}
            assert found == {one.id for one in everything if value(one, field) == wanted}, field


@pytest.mark.parametrize(
    "condition",
    [
        "CreationTimeUTC==x",
        "PointType==Full",
        "VmName==x",
        "ComputerName==x",
        "Name",
        "Name==",
        "(Name==x",
        "Name==x)",
        "Name==x;;Name==y",
        "VmDisplayName==nobody,VmName==x",
        '"Name"==x',
    ],
)
async def test_a_filter_that_is_not_of_the_language_is_refused(condition: str) -> None:
    """Names of body elements and of other types are not filter fields: 400."""
    async with wired() as wire:
        assert (await wire.query("VmReplicaPoint", condition)).status == 400


@pytest.mark.parametrize("query", ["type=Nothing", "filter=a==b", "type=VmReplicaPoint&page=0"])
async def test_a_query_that_makes_no_sense_is_refused(query: str) -> None:
    """No type, an unknown one, or a page that cannot be: 400."""
    async with wired() as wire:
        assert (await wire.get(f"query?{query}")).status == 400


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("VmDisplayName==app01", ["app01"]),
        ("VmDisplayName==APP01", ["app01"]),
        ('VmDisplayName=="app 01"', ["app 01"]),
        ("VmDisplayName==app 01", ["app01"]),
        ("VmDisplayName== a p p 0 1 ", ["app01"]),
        ('VmDisplayName=="the ""old"" one"', ['the "old" one']),
        ('VmDisplayName=="Büro & Söhne"', ["Büro & Söhne"]),
        ('VmDisplayName=="x;y,(z)"', ["x;y,(z)"]),
        ('VmDisplayName=="semi=colon"', ["semi=colon"]),
        ('VmDisplayName=="nobody"', []),
        ('VmDisplayName=="a-b",VmDisplayName==app01', ["app01", "a-b"]),
        ('VmDisplayName=="a-b";VmDisplayName==app01', []),
    ],
)
async def test_quoting_decides_what_is_found(condition: str, expected: list[str]) -> None:
    """Quoting and doubled quotes; spaces are dropped from an unquoted value: another match."""
    async with wired(change=renamed) as wire:
        answer = await wire.query("VmReplicaPoint", condition)

        assert sorted(machines_of(wire, answer)) == sorted(expected)


@pytest.mark.parametrize(
    ("condition", "bits"),
    [
        ("TaskId==a", "100"),
        ("TaskId!=a", "011"),
        ("TaskId>a", "011"),
        ("TaskId<b", "100"),
        ("TaskId>=b", "011"),
        ("TaskId<=b", "110"),
        ("TaskId==a,TaskId==b", "110"),
        ("TaskId==a;TaskId==b", "000"),
        ("TaskId==a,TaskId==b;TaskId==c", "100"),
        ("(TaskId==a,TaskId==b);TaskId!=a", "010"),
        ("((TaskId==a),(TaskId!=b;TaskId>=a))", "101"),
        ("State>Running", "011"),
        ("State>=OperationFinished;State<Finished", "010"),
    ],
)
async def test_operators_and_their_grouping(condition: str, bits: str) -> None:
    """Operators, AND before OR, grouping; enumerations compare by their order in the list."""
    async with wired() as wire:
        in_states(wire, a="Running", b="OperationFinished", c="Finished")

        answer = await wire.query("Task", condition)

        assert "".join("01"[name in answer.texts("TaskId")] for name in "abc") == bits


@pytest.mark.parametrize("quoted", ["{}", '"{}"'])
async def test_times_compare_as_times(quoted: str) -> None:
    """CreationTime takes quoted and unquoted times, in UTC."""
    async with wired() as wire:
        newest = wire.point()
        since = f"{newest.created_at:%Y-%m-%dT%H:%M:%S}"
        machine = f'VmDisplayName=="{newest.machine.name}"'

        from_then = await wire.query(
            "VmReplicaPoint", f"{machine};CreationTime>={quoted.format(since)}"
        )
        later = await wire.query("VmReplicaPoint", f"{machine};CreationTime>{quoted.format(since)}")

        assert (len(from_then.all("Ref")), len(later.all("Ref"))) == (1, 0)


async def test_hundreds_of_alternatives_are_no_trouble() -> None:
    """An OR-list of task ids is read without recursion, and keeps what it names."""
    condition = ",".join(f'TaskId=="task-{number}"' for number in range(1, 3001))

    async with wired() as wire:
        await wire.start(wire.point())
        assert (await wire.start(wire.point(place=1))).texts("TaskId") == ["task-2"]
        answer = await wire.query("Task", condition[: condition.index(",", 3000)])

        assert answer.texts("TaskId") == ["task-1", "task-2"]
    assert len(getattr(parsed(condition), "members", ())) == 3000
