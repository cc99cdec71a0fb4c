"""Checklist, "Mounts and tasks": browsing a mounted guest, and downloads from it."""

from __future__ import annotations

import anyio
import pytest

from tests.simulator.wire import Answer, Wire, family, wired
from tests.virtual.guests import read

pytestmark = pytest.mark.anyio


async def tree(wire: Wire, mount: str) -> dict[str, Answer]:
    """Read every directory of a mount by following the listAll links."""
    read = await wire.get(mount)
    left = [link.attrib["Href"].partition("/api/")[2] for link in read.all("DirectoryEntry")]
    found: dict[str, Answer] = {}
    while left:
        path = left.pop()
        found[path] = answer = await wire.get(path)
        assert answer.status == 200, path
        left += [href for href in answer.below("Down") if "action=listAll" in href]
        left += answer.below("Next")
    return found


@pytest.mark.parametrize("os", ["Windows", "Linux"])
async def test_every_directory_can_be_browsed_by_its_links(os: str) -> None:
    """Browse with paging: following Hrefs shows every file once, however its path is encoded."""
    async with wired() as wire:
        await wire.mounted(wire.point(os))
        found = await tree(wire, f"vmReplicaPoints/{wire.point(os).id}/mounts/1")
        paths = [
            next(iter(entry.iter("{http://www.veeam.com/ent/v1.0}Path"))).text or ""
            for answer in found.values()
            for entry in answer.all("FileEntry")
        ]

        assert len(paths) == len(set(paths))
        if os == "Windows":
            assert sum(path.startswith("E:/Data/") for path in paths) == 250
            assert {"E:/100% real/a#b?.txt", "E:/Finance 2026/ledger & notes.xlsx"} <= set(paths)
            hrefs = {
                one.attrib["Href"].rpartition("/mounts/1/")[2]
                for answer in found.values()
                for one in answer.all("FileEntry")
            }
            assert {"E:/100%25%20real/a%23b%3F.txt", "Volume$0:/Boot/BCD"} <= hrefs
        else:
            assert sum(path.startswith("root/var/log/") for path in paths) == 120


@pytest.mark.parametrize(
    ("action", "files", "directories", "pages"),
    [("listAll", 2, 1, "1"), ("listDirs", 0, 1, "1"), ("listFiles", 2, 0, "1")],
)
async def test_what_a_listing_holds(action: str, files: int, directories: int, pages: str) -> None:
    """listAll, listDirs and listFiles; Up links; the root's written with a slash; `&` escaped."""
    async with wired() as wire:
        await wire.mounted(wire.point())
        mount = f"vmReplicaPoints/{wire.point().id}/mounts/1"

        answer = await wire.get(f"{mount}/e:/finance%202026?ACTION={action}")

        assert (len(answer.all("FileEntry")), len(answer.all("DirectoryEntry"))) == (
            files,
            directories,
        )
        assert answer.all("PagingInfo")[0].attrib["PagesCount"] == pages
        assert answer.below("Up")[0] == f"{mount}/e:/?action=listAll&pageSize=100&page=1"


@pytest.mark.parametrize(
    ("page", "count", "more"), [(1, 100, True), (2, 100, True), (3, 50, False)]
)
async def test_a_large_directory_comes_in_pages(page: int, count: int, more: bool) -> None:
    """A directory's page has PagingInfo of its own, with Next while there is one."""
    async with wired() as wire:
        await wire.mounted(wire.point())
        path = f"vmReplicaPoints/{wire.point().id}/mounts/1/E:/Data"

        answer = await wire.get(f"{path}?action=listAll&pageSize=100&page={page}")

        assert len(answer.all("FileEntry")) == count
        assert answer.all("PagingInfo")[0].attrib == {
            "PageNum": str(page),
            "PageSize": "100",
            "PagesCount": "3",
        }
        assert bool(answer.below("Next")) is more


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("C:/Windows/notepad.exe", 200),
        ("Volume$0:", 200),
        ("Volume$0:/Boot", 200),
        ("C:/nothing", 404),
        ("D:", 404),
        ("C:?action=listAll&page=x", 400),
    ],
)
async def test_single_paths(path: str, status: int) -> None:
    """`Volume$0:` is literal; a file shows itself; a path that is not there is 404."""
    async with wired() as wire:
        await wire.mounted(wire.point())

        answer = await wire.get(f"vmReplicaPoints/{wire.point().id}/mounts/1/{path}")

        assert answer.status == status
        if path.endswith("exe"):
            assert [one.tag.rpartition("}")[2] for one in answer.xml] == ["FileEntry"]


async def test_agents_lead_up_into_another_family() -> None:
    """`Up` links of agents point to vmRestorePoints; their own links do not."""
    agents = "agents/agentRestorePoints"
    async with wired(change=lambda inventory: family(inventory, agents)) as wire:
        await wire.mounted(wire.point())
        answer = await wire.get(f"{agents}/{wire.point().id}/mounts/1/E:?action=listAll")

        assert {path.split("/")[0] for path in answer.below("Up")} == {"vmRestorePoints"}
        assert {path.split("/")[0] for path in answer.below("Down")} == {"agents"}


async def test_a_download_link_is_lower_cased() -> None:
    """Download link lower-cased, and it answers with the file's bytes."""
    async with wired() as wire:
        await wire.mounted(wire.point())
        mount = f"vmReplicaPoints/{wire.point().id}/mounts/1"

        accepted = await wire.restore(f"{mount}/E:/Finance%202026/Desktop.INI")
        await anyio.sleep(2.0)
        (link,) = (await wire.get("tasks/task-2")).below("Download")

        assert (accepted.status, accepted.texts("State")) == (202, ["Running"])
        assert link == f"{mount}/e:/finance%202026/desktop.ini?action=download"
        body = (await wire.get(link)).body
        assert body == read(wire.point(), "E:/Finance 2026/desktop.ini")
        assert len(body) == 174
        assert (await wire.restore(f"{mount}/E:/nothing")).status == 404
        assert wire.truth.dangerous == 0
