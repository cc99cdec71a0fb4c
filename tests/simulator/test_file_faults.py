"""Faults of requests for guest files, and what older kinds do to a download."""

from __future__ import annotations

from typing import Any

import aiohttp
import anyio
import pytest

from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import FILE_KINDS, Fault
from orchestrator.simulator.streaming import EXTRA
from tests.simulator.wire import NS, Answer, Wire, wired
from tests.virtual.guests import read

pytestmark = pytest.mark.anyio

PATH = "C:/Windows/notepad.exe"
SIZE = 201_216
DOWNLOAD: dict[str, Any] = {"method": "GET", "query": "action=download"}
STAGE: dict[str, Any] = {"method": "POST", "query": "action=restore"}
LIST: dict[str, Any] = {"method": "GET", "query": "action=list"}
CHUNKED = Behaviour(operation_finished_share=0.0, chunked_downloads=True)


def mount_of(wire: Wire) -> str:
    """Return the address of the first mount of the first machine."""
    return f"vmReplicaPoints/{wire.point().id}/mounts/1"


async def downloaded(wire: Wire) -> Answer:
    """Mount, stage and download one file."""
    await wire.mounted(wire.point())
    return await wire.get(await wire.staged(f"{mount_of(wire)}/{PATH}"))


async def test_a_file_with_other_bytes_than_its_listing_says() -> None:
    """Shorter and longer, each with a Content-Length that fits."""
    faults = [
        Fault(kind="truncated", count=1, **DOWNLOAD),
        Fault(kind="grown", count=1, **DOWNLOAD),
    ]
    async with wired(faults=faults) as wire:
        short = await downloaded(wire)
        long = await wire.get(f"{mount_of(wire)}/{PATH.lower()}?action=download")
        right = await wire.get(f"{mount_of(wire)}/{PATH.lower()}?action=download")

        whole = read(wire.point(), PATH)
        assert (short.status, short.body) == (200, whole[: SIZE // 2])
        assert short.headers["Content-Length"] == str(SIZE // 2)
        assert long.body == whole + EXTRA
        assert right.body == whole
        (fate,) = wire.truth.mounts
        assert (fate.downloaded, fate.downloaded_bytes) == (3, SIZE // 2 + 2 * SIZE)


@pytest.mark.parametrize("behaviour", [Behaviour(operation_finished_share=0.0), CHUNKED])
@pytest.mark.parametrize("kind", ["reset_mid_body", "close_mid_body", "silent_mid_body"])
async def test_a_download_that_is_cut(kind: str, behaviour: Behaviour) -> None:
    """Half of it comes; then a reset, a close, or long silence and a close."""
    faults = [Fault(kind=kind, seconds=500.0, **DOWNLOAD)]
    async with wired(faults=faults, behaviour=behaviour) as wire:
        await wire.mounted(wire.point())
        link = await wire.staged(f"{mount_of(wire)}/{PATH}")
        began = anyio.current_time()
        with pytest.raises(aiohttp.ClientError):
            await wire.get(link)

        took = anyio.current_time() - began
        assert took == (500.0 if kind == "silent_mid_body" else 0.0)
        (fate,) = wire.truth.mounts
        assert (fate.downloaded, fate.downloaded_bytes) == (0, SIZE // 2)


async def test_more_bytes_than_announced_are_no_part_of_the_answer() -> None:
    """They come behind it on the same connection."""
    async with wired(faults=[Fault(kind="too_long", **DOWNLOAD)]) as wire:
        answer = await downloaded(wire)

        assert answer.body == read(wire.point(), PATH)
        assert (await wire.get("tasks")).status == 200


async def test_a_slow_download() -> None:
    """Dripping, or at the pace of a thin line."""
    behaviour = Behaviour(operation_finished_share=0.0, download_bytes_per_s=1000.0)
    async with wired(faults=[Fault(kind="drip", seconds=80.0, **DOWNLOAD)]) as wire:
        await wire.mounted(wire.point())
        link = await wire.staged(f"{mount_of(wire)}/{PATH}")
        began = anyio.current_time()
        await wire.get(link)
        assert anyio.current_time() - began == pytest.approx(80.0)
    async with wired(behaviour=behaviour) as wire:
        await wire.mounted(wire.point())
        link = await wire.staged(f"{mount_of(wire)}/{PATH}")
        began = anyio.current_time()
        await wire.get(link)
        assert anyio.current_time() - began == pytest.approx(SIZE / 1000.0)


@pytest.mark.parametrize(
    ("kind", "status", "kept"),
    [
        ("html_200", 200, False),
        ("html_503", 503, False),
        ("xml_503", 503, False),
        ("error_500", 500, False),
        ("error_500_after", 500, False),
        ("proxy_page", 502, False),
        ("hollow_204", 204, False),
    ],
)
async def test_another_answer_than_the_file(kind: str, status: int, kept: bool) -> None:
    """A web page or an error in its place; nothing of the file is sent."""
    async with wired(faults=[Fault(kind=kind, **DOWNLOAD)]) as wire:
        answer = await downloaded(wire)

        assert answer.status == status
        assert (answer.body == read(wire.point(), PATH)) is kept
        assert wire.truth.mounts[0].downloaded_bytes == 0


async def test_a_file_as_if_compressed() -> None:
    """Content-Encoding says gzip, which nobody asked for."""
    async with wired(faults=[Fault(kind="gzip", **DOWNLOAD)]) as wire:
        await wire.mounted(wire.point())
        link = await wire.staged(f"{mount_of(wire)}/{PATH}")
        with pytest.raises(aiohttp.ClientError):
            await wire.get(link)


# --- staging -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "staged"), [("drop_before", 0), ("drop_after", 1)])
async def test_a_staging_whose_answer_is_lost(kind: str, staged: int) -> None:
    """Dropped before acting nothing is staged; after it, the file is."""
    async with wired(faults=[Fault(kind=kind, **STAGE)]) as wire:
        await wire.mounted(wire.point())
        with pytest.raises(aiohttp.ClientError):
            await wire.restore(f"{mount_of(wire)}/{PATH}")
        await anyio.sleep(5.0)

        assert wire.truth.mounts[0].staged == staged


async def test_a_staging_that_fails_or_vanishes() -> None:
    """Its task fails for no reason of the file's, or nobody knows it any more."""
    faults = [
        Fault(kind="task_fails", count=1, **STAGE),
        Fault(kind="task_vanishes", count=1, **STAGE),
    ]
    async with wired(faults=faults) as wire:
        await wire.mounted(wire.point())
        for _ in range(3):
            await wire.restore(f"{mount_of(wire)}/{PATH}")
        await anyio.sleep(5.0)
        tasks = [await wire.get(f"tasks/task-{number}") for number in (2, 3, 4)]

        assert [task.status for task in tasks] == [200, 500, 200]
        assert [tasks[place].all("Result")[0].attrib["Success"] for place in (0, 2)] == [
            "false",
            "true",
        ]


@pytest.mark.parametrize("kind", ["error_500", "xml_503", "html_503"])
async def test_a_refused_staging(kind: str) -> None:
    """Nothing is staged."""
    async with wired(faults=[Fault(kind=kind, **STAGE)]) as wire:
        await wire.mounted(wire.point())
        answer = await wire.restore(f"{mount_of(wire)}/{PATH}")
        await anyio.sleep(5.0)

        assert answer.status >= 500
        assert wire.truth.mounts[0].staged == 0


# --- listings ----------------------------------------------------------------------------------


async def listed(wire: Wire, page: int) -> Answer:
    """Read one page of E:/Data."""
    return await wire.get(f"{mount_of(wire)}/E:/Data?action=listAll&pageSize=100&page={page}")


def hrefs(answer: Answer) -> list[str]:
    """Return the addresses of the files of a page."""
    return [entry.attrib["Href"] for entry in answer.all("FileEntry")]


async def test_a_page_that_fails() -> None:
    """A query can be struck by its page."""
    async with wired(faults=[Fault(kind="error_500", query="page=2$")]) as wire:
        await wire.mounted(wire.point())

        assert [(await listed(wire, page)).status for page in (1, 2, 3)] == [200, 500, 200]


async def test_a_page_that_repeats_the_one_before() -> None:
    """The first page has nothing before it and is not counted as struck."""
    async with wired(faults=[Fault(kind="page_repeats", count=1, **LIST)]) as wire:
        await wire.mounted(wire.point())
        first, second, third = [hrefs(await listed(wire, page)) for page in (1, 2, 3)]

        assert first == second
        assert not set(first) & set(third)


async def test_paging_links_without_an_action() -> None:
    """Whoever follows them asks for something else."""
    async with wired(faults=[Fault(kind="bare_next", **LIST)]) as wire:
        await wire.mounted(wire.point())
        (link,) = (await listed(wire, 1)).below("Next")

        assert link == f"{mount_of(wire)}/E:/Data?&pageSize=100&page=2"


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("foreign_hrefs", "https://elsewhere.example.org:9398/api/{mount}/E:/Data/"),
        ("evil_hrefs", "https://localhost:9398/api/vmReplicaPoints/{point}?action=failover"),
        ("elsewhere", "https://localhost:9398/api/{mount}/E:/Elsewhere/"),
    ],
)
async def test_hrefs_that_lead_astray(kind: str, where: str) -> None:
    """To another host, to a failover, to another directory: on the pages that are struck."""
    async with wired(faults=[Fault(kind=kind, query="page=2$")]) as wire:
        await wire.mounted(wire.point())
        start = where.format(mount=mount_of(wire), point=wire.point().id)
        first, second = [hrefs(await listed(wire, page)) for page in (1, 2)]

        assert all(href.startswith(start) for href in second)
        assert not any(href.startswith(start) for href in first)


async def test_one_file_as_both() -> None:
    """A FileSystemEntry that holds a directory and a file."""
    async with wired(faults=[Fault(kind="both_entries")]) as wire:
        await wire.mounted(wire.point())
        answer = await wire.get(f"{mount_of(wire)}/{PATH}")

        assert [child.tag for child in answer.xml] == [f"{NS}DirectoryEntry", f"{NS}FileEntry"]


def test_every_kind_of_file_fault_has_a_test_here() -> None:
    """No kind exists without showing above what it does."""
    assert {
        *("close_mid_body", "silent_mid_body", "too_long", "grown", "gzip", "task_fails"),
        *("task_vanishes", "page_repeats", "bare_next", "foreign_hrefs", "evil_hrefs"),
        *("elsewhere", "both_entries"),
    } == FILE_KINDS
