"""Checklist, "Queries": order, pages, the forms of a result, and how stale it may be."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from tests.simulator.wire import MOUNT_S, STEADY, UNKNOWN, Answer, in_states, wired

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("field", ["CreationTime", "Name", "VmDisplayName"])
async def test_sorting_goes_both_ways(field: str) -> None:
    """sortAsc and sortDesc order by any field; without them the order is not by it."""
    async with wired() as wire:
        up = await wire.query("VmReplicaPoint", sortAsc=field, format="Entities")
        down = await wire.query("VmReplicaPoint", sortDesc=field, format="Entities")
        plain = await wire.query("VmReplicaPoint", format="Entities")

        def keys(answer: Answer) -> list[str]:
            if field == "CreationTime":
                return answer.texts("CreationTimeUTC")
            return [one.attrib[field] for one in answer.all("VmReplicaPoint")]

        assert keys(up) == sorted(keys(plain)) != keys(plain)
        assert keys(down) == sorted(keys(plain), reverse=True)


@pytest.mark.parametrize(("order", "tasks"), [("sortAsc", "bca"), ("sortDesc", "acb")])
async def test_states_sort_by_their_order_in_the_list(order: str, tasks: str) -> None:
    """Tasks sort too, and an enumeration by its order rather than by its text."""
    async with wired() as wire:
        in_states(wire, a="Finished", b="Running", c="OperationFinished")

        assert "".join((await wire.query("Task", **{order: "State"})).texts("TaskId")) == tasks


async def test_only_known_fields_sort() -> None:
    """A body name is no sort field."""
    async with wired() as wire:
        assert (await wire.query("VmReplicaPoint", sortDesc="CreationTimeUTC")).status == 400


@pytest.mark.parametrize(
    ("page", "rels"),
    [
        (1, ["First", "Next", "Last"]),
        (2, ["First", "Previous", "Next", "Last"]),
        (3, ["First", "Previous", "Last"]),
    ],
)
async def test_pages_are_linked(page: int, rels: list[str]) -> None:
    """Paging with First/Previous/Next/Last; Previous and Next only where they exist."""
    async with wired() as wire:
        answer = await wire.query("VmReplicaPoint", pageSize=10, page=page)

        (paging,) = answer.all("PagingInfo")
        assert paging.attrib == {"PageNum": str(page), "PageSize": "10", "PagesCount": "3"}
        links = [link for link in paging.iter() if "Rel" in link.attrib]
        assert [link.attrib["Rel"] for link in links] == rels
        targets = {"First": 1, "Previous": page - 1, "Next": page + 1, "Last": 3}
        for link in links:
            pairs = parse_qs(urlsplit(link.attrib["Href"]).query)
            assert pairs["page"] == [str(targets[link.attrib["Rel"]])]
        assert len(answer.all("Ref")) == (10, 10, 4)[page - 1]


async def test_following_next_shows_everything_once() -> None:
    """Pages partition the result."""
    async with wired() as wire:
        seen: list[str] = []
        path = "query?type=VmReplicaPoint&pageSize=7&page=1"
        while path:
            answer = await wire.get(path)
            seen += [ref.attrib["UID"] for ref in answer.all("Ref")]
            following = answer.hrefs("Next")
            path = following[0].partition("/api/")[2] if following else ""

        assert len(seen) == len(set(seen)) == 24


@pytest.mark.parametrize("keeps", [False, True])
async def test_paging_links_may_lose_the_filter(keeps: bool) -> None:
    """Knob: paging links lose the filter; type, format and order they keep."""
    async with wired(behaviour=replace(STEADY, paging_keeps_filter=keeps)) as wire:
        job = 'ReplicaName=="Tier 1 Replication vbr-01"'
        answer = await wire.query(
            "VmReplicaPoint", job, format="Entities", sortDesc="CreationTime", pageSize=1
        )

        pairs = parse_qs(urlsplit(answer.hrefs("Next")[0]).query)
        assert pairs["type"] == ["VmReplicaPoint"]
        assert pairs["format"] == ["Entities"]
        assert pairs["sortDesc"] == ["CreationTime"]
        assert pairs.get("filter") == ([job] if keeps else None)


async def test_default_page_sizes() -> None:
    """Default page size 100, and 15 for Task."""
    async with wired(machines=60) as wire:
        for _ in range(20):
            await wire.start(wire.point())
        points, tasks = await wire.query("VmReplicaPoint"), await wire.query("Task")

        sizes = [one.all("PagingInfo")[0].attrib["PageSize"] for one in (points, tasks)]
        assert sizes == ["100", "15"]
        assert (len(points.all("Ref")), len(tasks.all("Task"))) == (100, 15)


@pytest.mark.parametrize(("obeys", "expected"), [(True, ["task-2"]), (False, ["task-1", "task-2"])])
async def test_the_task_filter_may_be_ignored(obeys: bool, expected: list[str]) -> None:
    """Knob: Task filter ignored, as by old servers."""
    async with wired(behaviour=replace(STEADY, filters_tasks=obeys)) as wire:
        await wire.mounted(wire.point())
        await wire.start(wire.point(place=1))

        assert (await wire.query("Task", "State!=Finished")).texts("TaskId") == expected


async def test_the_forms_of_a_result() -> None:
    """QueryResult holds Refs, Entities or Resources, then PagingInfo."""
    async with wired() as wire:
        shapes = []
        for answer in (
            await wire.query("VmReplicaPoint", pageSize=1),
            await wire.query("VmReplicaPoint", pageSize=1, format="Entities"),
            await wire.query("VmReplicaPoint", f"UID=={UNKNOWN[:8]}"),
            await wire.query("Task"),
        ):
            tags = [element.tag.rpartition("}")[2] for element in answer.xml.iter()]
            shapes.append([tag for tag in tags if tag not in {"Links", "Link"}])

        entity = ["VmReplicaPoint", "CreationTimeUTC", "VmName", "Algorithm", "PointType"]
        assert shapes == [
            ["QueryResult", "Refs", "Ref", "PagingInfo"],
            ["QueryResult", "Entities", "VmReplicaPoints", *entity, "PagingInfo"],
            ["QueryResult", "Refs", "PagingInfo"],
            ["QueryResult", "Resources", "Tasks", "PagingInfo"],
        ]


async def test_the_first_link_of_a_point_is_the_dangerous_one() -> None:
    """An entity's links in the order sent: Failover first, the mount's Create last."""
    async with wired() as wire:
        (point,) = (await wire.get(f"vmReplicaPoints/{wire.point().id}?format=Entity")).xml.iter(
            "{http://www.veeam.com/ent/v1.0}VmReplicaPoint"
        )

        links = [(one.get("Rel"), one.get("Type")) for one in point.iter() if one.get("Rel")]
        assert links == [
            ("Failover", None),
            ("Up", "BackupServerReference"),
            ("Up", "ReplicaReference"),
            ("Alternate", "VmReplicaPointReference"),
            ("Down", "VmReplicaPointMountList"),
            ("Create", "VmReplicaPointMount"),
        ]


async def test_plain_collections_are_neither_sorted_nor_paged() -> None:
    """Collections unsorted and unpaged: 180 points at once, whatever is asked."""
    async with wired(machines=60) as wire:
        answer = await wire.get("vmReplicaPoints?format=Entity&sortAsc=Name&pageSize=5&page=2")

        names = [one.attrib["Name"] for one in answer.all("VmReplicaPoint")]
        assert len(names) == 180
        assert names != sorted(names)
        assert answer.all("PagingInfo") == []


@pytest.mark.parametrize("every", [0.0, 900.0])
async def test_queries_show_the_last_collection(every: float) -> None:
    """Data collection delay: new points appear and removed ones vanish at the next collection."""
    async with wired(behaviour=replace(STEADY, collection_every_s=every)) as wire:
        machine = wire.inventory.machines[0]
        old, new = machine.points[-1], replace(machine.points[0], id=UNKNOWN)
        new.created_at += timedelta(days=1)

        async def listed() -> tuple[bool, bool]:
            answers = [
                await wire.query("VmReplicaPoint", f'VmDisplayName=="{machine.name}"'),
                await wire.get("vmReplicaPoints"),
            ]
            pairs = {(old.id in answer.text, new.id in answer.text) for answer in answers}
            assert len(pairs) == 1
            return pairs.pop()

        assert await listed() == (True, False)
        old.gone = True
        wire.inventory.add(new)
        await anyio.sleep(899.0)
        assert await listed() == (True, every == 0)
        lingering = await wire.start(old)
        await anyio.sleep(MOUNT_S + 1)
        assert await listed() == (every == 0, True)

        (task,) = (await wire.get("tasks")).all("Task")
        assert lingering.status == 202
        assert [one.attrib["Success"] for one in task.iter() if "Success" in one.attrib] == [
            "false"
        ]
