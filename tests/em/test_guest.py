"""The files of a mounted guest: addresses, listings, staging, downloads; virtual time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from aiohttp import web
from msgspec.structs import replace

from orchestrator.core.errors import (
    AccessDenied,
    EnterpriseManagerError,
    ForbiddenAction,
    GuestUnreadable,
    MalformedResponse,
    NotFound,
    RequestRefused,
    ResponseLost,
    ServiceBusy,
)
from orchestrator.core.model import FileSystemEntry, Href, OsKind, RestorePointId, Source
from orchestrator.em import guests, limits
from orchestrator.em.deadlines import GRACE_S
from orchestrator.em.families import FAMILIES
from orchestrator.em.session import Session
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.files import NEVER, GuestFile
from orchestrator.simulator.inventory import Inventory
from tests.em.logons import desk, mounted, mounted_as
from tests.em.rawserver import Request
from tests.simulator.wire import family
from tests.virtual.guests import awkward_names, many, read

pytestmark = pytest.mark.anyio

NOTEPAD = "C:/Windows/notepad.exe"
SIZE = 201_216
LIST: dict[str, Any] = {"method": "GET", "query": "action=list"}
STAGE: dict[str, Any] = {"method": "POST", "query": "action=restore"}
DOWNLOAD: dict[str, Any] = {"method": "GET", "query": "action=download"}


def with_files(files: dict[str, GuestFile | None], os: str = "Windows") -> Any:
    """Return a change of the inventory: every machine of a system has these files."""

    def change(inventory: Inventory) -> None:
        for machine in inventory.machines:
            if machine.os == os:
                machine.files.update(files)

    return change


async def staged(session: Session, file: Href) -> Href:
    """Stage a file and return where it can be fetched."""
    task = await session.stage(file)
    await anyio.sleep(5.0)
    (link, *_) = (await session.task(task.id)).downloads
    return link


async def fetched(session: Session, download: Href, limit: int = 10**9) -> bytes:
    """Fetch a file whole."""
    parts: list[bytes] = []
    size = await session.fetch(download, parts.append, limit=limit)
    assert size == sum(map(len, parts))
    return b"".join(parts)


def named(entries: Sequence[FileSystemEntry]) -> dict[str, FileSystemEntry]:
    return {entry.name: entry for entry in entries}


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("os", ["Windows", "Linux"])
async def test_every_name_is_listed_read_staged_and_fetched(
    monkeypatch: pytest.MonkeyPatch, os: str, raw: bool
) -> None:
    """Trap 29: %, #, ?, &, ;, [], quotes, spaces, NFC and NFD, `..` within a name: as they are."""
    root = "E:" if os == "Windows" else "root"
    files = awkward_names(f"{root}/odd", linux=os == "Linux")
    behaviour = Behaviour(
        operation_finished_share=0.0, raw_hrefs=raw, download_link_case="lower_windows"
    )
    async with (
        desk(monkeypatch, change=with_files(files, os), behaviour=behaviour) as at,
        at.client.logon() as session,
    ):
        _, mount = await mounted_as(session, at, os)
        entries = await session.browse(session.guest_href(mount, f"{root}/odd"))
        assert [f"{root}/odd/{entry.name}" for entry in entries] == list(files)
        refused = set()
        for entry in entries:
            if raw and entry.name.strip() != entry.name:
                continue  # white space at the ends of a raw Href belongs to nobody
            try:
                again = await session.entry(entry.href)
                content = await fetched(session, await staged(session, entry.href))
            except ForbiddenAction:
                refused.add(entry.name)
                continue
            assert (again.name, again.is_directory, again.size) == (entry.name, False, entry.size)
            assert content == read(at.point(os), f"{root}/odd/{entry.name}")

    assert refused == ({"new\nline.txt", "tab\there.txt"} if os == "Linux" else set())


async def test_a_path_of_a_plan_leads_where_the_servers_href_leads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Built from volume and path, with either slash; `:` and `$` literal, nothing encoded twice."""
    files = awkward_names("E:/odd", linux=False)
    async with (
        desk(monkeypatch, change=with_files(files)) as at,
        at.client.logon() as session,
    ):
        _, mount = await mounted(session, at)
        for path in (*files, "Volume$0:/Boot/BCD", "E:/100% real/a#b?.txt", NOTEPAD):
            entry = await session.entry(session.guest_href(mount, path.replace("/", "\\")))
            assert (entry.path, entry.is_directory) == (path, False)

    assert at.sent("GET", "/mounts/1/Volume$0:/Boot/BCD")
    assert at.sent("GET", "/mounts/1/E:/100%25%20real/a%23b%3F.txt")
    assert at.sent("GET", "/mounts/1/E:/odd/%2541%252F%252e%252e.txt")


@pytest.mark.parametrize(
    "path", ["E:/../C:/x", "..", "E:/./x", "E:/a/..", "E:\\..\\x", "E:/new\nline"]
)
async def test_a_path_with_dot_segments_or_control_characters_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """What a server may resolve to another path is refused here: nothing is sent."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        before = len(at.requests)
        href = session.guest_href(mount, path)
        for ask in (session.entry, session.browse, session.stage):
            with pytest.raises(ForbiddenAction):
                await ask(href)

        assert len(at.requests) == before


async def test_a_file_called_dot_dot_is_that_files_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing may hold such names: the others are read, these are refused and not sent."""
    files: dict[str, GuestFile | None] = {
        "E:/odd/..": GuestFile(size=1),
        "E:/odd/liar": GuestFile(size=1, shown="a/../b"),
        "E:/odd/climber": GuestFile(size=1, shown="..\\..\\evil.exe"),
        "E:/odd/other": GuestFile(size=1, shown="good.txt"),
        "E:/odd/nameless": GuestFile(size=4, shown=""),
    }
    async with (
        desk(monkeypatch, change=with_files(files)) as at,
        at.client.logon() as session,
    ):
        _, mount = await mounted(session, at)
        entries = named(await session.browse(session.guest_href(mount, "E:/odd")))
        before = len(at.requests)
        for name in ("..", "a/../b", "..\\..\\evil.exe"):
            with pytest.raises(ForbiddenAction):
                await session.stage(entries[name].href)
        nothing_sent = len(at.requests) == before
        with pytest.raises(NotFound):  # the address means the name, not what stood in the Href
            await session.stage(entries["good.txt"].href)
        content = await fetched(session, await staged(session, entries["nameless"].href))

    assert nothing_sent
    assert len(content) == 4


@pytest.mark.parametrize("roots", [("/",), ("root",), ("/", "/boot"), ("sda1", "sdb1")])
async def test_a_linux_root_of_any_name(
    monkeypatch: pytest.MonkeyPatch, roots: tuple[str, ...]
) -> None:
    """Also `/`: the volume's own Href, its listing, and files below it."""

    def change(inventory: Inventory) -> None:
        for machine in inventory.machines:
            machine.roots = roots if machine.os == "Linux" else None

    async with desk(monkeypatch, change=change) as at, at.client.logon() as session:
        _, mount = await mounted_as(session, at, "Linux")
        shown = (await session.mount(mount)).roots
        entries = named(await session.browse(shown[0].href))
        below = named(await session.browse(entries["etc"].href))
        itself = await session.entry(shown[0].href)
        host = await session.entry(session.guest_href(mount, f"{roots[0]}/etc/hostname"))

        assert tuple(root.path for root in shown) == roots
        assert list(entries) == ["etc", "srv", "var"]
        assert (below["hostname"].size, host.size) == (9, 9)
        assert itself.is_directory


# --- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", ["always", "never"])
async def test_a_directory_is_one_whether_it_shows_itself_or_its_listing(
    monkeypatch: pytest.MonkeyPatch, plain: str
) -> None:
    """Both answers are documented; a file is a file with its size, owner and time."""
    files: dict[str, GuestFile | None] = {
        "E:/one": GuestFile(size=2**41, owner="DR\\jdoe"),
        "E:/timeless": GuestFile(modified_at=NEVER),
        "E:/empty": GuestFile(size=None),
        "E:/single/only.txt": GuestFile(size=3),
    }
    behaviour = Behaviour(operation_finished_share=0.0, plain_entries=plain)
    async with (
        desk(monkeypatch, change=with_files(files), behaviour=behaviour) as at,
        at.client.logon() as session,
    ):
        _, mount = await mounted(session, at)

        async def at_path(path: str) -> FileSystemEntry:
            return await session.entry(session.guest_href(mount, path))

        for path in ("E:", "E:/empty", "E:/single", "e:/DATA", "Volume$0:"):
            assert (await at_path(path)).is_directory, path
        one, timeless = await at_path("E:/one"), await at_path("e:/Timeless")
        with pytest.raises(NotFound):
            await at_path("E:/missing")

        assert (one.is_directory, one.size, one.owner) == (False, 2**41, "DR\\jdoe")
        assert one.modified_at is not None
        assert timeless.modified_at is None
        assert await session.browse(session.guest_href(mount, "E:/empty")) == []


async def test_an_answer_about_another_file_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither another name nor one that is a directory and a file at once proves anything."""
    faults = [Fault(kind="both_entries")]
    async with desk(monkeypatch, faults=faults) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        with pytest.raises(GuestUnreadable, match="2 things"):
            await session.entry(session.guest_href(mount, NOTEPAD))

    body = (
        b'<FileSystemEntry xmlns="http://www.veeam.com/ent/v1.0"><FileEntry Href="https://x/api/y">'
        b"<Name>calc.exe</Name><Size>1</Size></FileEntry></FileSystemEntry>"
    )

    def other(request: Request) -> web.Response | None:
        return web.Response(body=body) if request.target.endswith("notepad.exe") else None

    async with desk(monkeypatch, override=other) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        with pytest.raises(GuestUnreadable, match="another file"):
            await session.entry(session.guest_href(mount, NOTEPAD))


async def test_a_large_directory_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traps 26 and 29: every page, each entry once, although paging links lose their action."""
    files = many("E:/mail", 2345)
    faults = [Fault(kind="bare_next", **LIST)]
    async with (
        desk(monkeypatch, change=with_files(files), faults=faults) as at,
        at.client.logon() as session,
    ):
        _, mount = await mounted(session, at)
        entries = await session.browse(session.guest_href(mount, "E:/mail"))

    assert len(set(named(entries))) == len(entries) == 2345
    assert len(at.sent("GET", "/E:/mail?action=listAll")) == 5


@pytest.mark.parametrize("kind", ["foreign_hrefs", "evil_hrefs"])
async def test_a_listing_cannot_lead_elsewhere(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Traps 1 and 2: host and action of an entry's Href are ours, whatever the server wrote."""
    async with (
        desk(monkeypatch, faults=[Fault(kind=kind, **LIST)]) as at,
        at.client.logon() as session,
    ):
        _, mount = await mounted(session, at)
        entries = named(await session.browse(session.guest_href(mount, "E:/Finance 2026")))
        link = await staged(session, entries["desktop.ini"].href)
        await session.browse(entries["Archive"].href)

        content = await fetched(session, link)

    assert content == read(at.point(), "E:/Finance 2026/desktop.ini")
    assert entries["desktop.ini"].href == f"{mount}/E:/Finance%202026/desktop.ini"
    assert at.manager.truth.dangerous == 0
    assert set(at.network.attempts) == {"em-hq.example.net"}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(kind="elsewhere", query="page=2$"), GuestUnreadable),
        (Fault(kind="page_repeats", query="page=2$"), GuestUnreadable),
        (Fault(kind="truncated", query="page=2$"), GuestUnreadable),
        (Fault(kind="error_500", query="page=2$"), RequestRefused),
        (Fault(kind="html_503", query="page=2$"), ServiceBusy),
        (Fault(kind="drop_after", query="page=2$"), ResponseLost),
        (Fault(kind="forbidden", query="page=2$"), AccessDenied),
        (Fault(kind="elsewhere", query="page=2$", count=1), None),
        (Fault(kind="page_repeats", query="page=2$", count=1), None),
        (Fault(kind="html_200", query="page=2$", count=1), None),
        (Fault(kind="error_500", query="page=2$", count=2), None),
        (Fault(kind="drop_after", query="page=2$", count=1), None),
    ],
)
async def test_half_a_listing_is_none(
    monkeypatch: pytest.MonkeyPatch, fault: Fault, error: type[EnterpriseManagerError] | None
) -> None:
    """Whole, or an error; a passing trouble is asked again."""
    monkeypatch.setattr("orchestrator.em.requests.PAGE_SIZE", 100)
    async with desk(monkeypatch, faults=[fault]) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        directory = session.guest_href(mount, "E:/Data")
        if error is not None:
            with pytest.raises(error) as failure:
                await session.browse(directory)
            assert type(failure.value) is error
        else:
            assert len(await session.browse(directory)) == 250
        assert len(await session.browse(session.guest_href(mount, "E:"))) == 3


async def test_a_file_is_its_own_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever browses a file sees by its address that it is no directory."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        file = session.guest_href(mount, NOTEPAD)

        (entry,) = await session.browse(file)

    assert (entry.href, entry.is_directory) == (file, False)


async def test_names_that_xml_cannot_hold_spoil_only_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trap 59: each is listed with U+FFFD in its name, also two that then look the same."""
    odd = ["bell\x07.txt", "bell\x08.txt", "plain.txt"]
    files: dict[str, GuestFile | None] = {f"E:/odd/{name}": GuestFile(size=1) for name in odd}
    async with (
        desk(monkeypatch, change=with_files(files)) as at,
        at.client.logon() as session,
    ):
        _, mount = await mounted(session, at)
        found = await session.browse(session.guest_href(mount, "E:/odd"))
        assert len(await session.browse(session.guest_href(mount, "E:"))) == 4

    assert sorted(entry.name for entry in found) == [
        "bell\ufffd.txt",
        "bell\ufffd.txt",
        "plain.txt",
    ]
    assert len({entry.href for entry in found}) == 3


async def test_a_server_that_answers_nothing_but_web_pages_is_in_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then it is not the guest: the error says something about the server."""
    faults = [Fault(kind="html_200", method="GET", from_s=100.0)]
    async with desk(monkeypatch, faults=faults) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        await anyio.sleep(60.0)
        with pytest.raises(MalformedResponse):
            await session.browse(session.guest_href(mount, "E:"))


async def test_an_unreadable_directory_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 500 about one path, repeated as every read is, with the server's words."""
    files: dict[str, GuestFile | None] = {"E:/secret": GuestFile(size=None, readable=False)}
    async with (
        desk(monkeypatch, change=with_files(files)) as at,
        at.client.logon() as session,
    ):
        _, mount = await mounted(session, at)
        with pytest.raises(RequestRefused, match="denied"):
            await session.browse(session.guest_href(mount, "E:/secret"))


# --- families ----------------------------------------------------------------------------------


@pytest.mark.parametrize("os", ["Windows", "Linux"])
@pytest.mark.parametrize("source", Source)
async def test_every_family_from_mount_to_unmount(
    monkeypatch: pytest.MonkeyPatch, source: Source, os: str
) -> None:
    """Mount, browse, stage, download, unmount: a family is a path and some names, no more."""
    path = FAMILIES[source].path

    def change(inventory: Inventory) -> None:
        family(inventory, path)

    async with (
        desk(monkeypatch, change=change, families=[source]) as at,
        at.client.logon() as session,
    ):
        point = RestorePointId(at.point(os).id)
        read_point = await session.point(point, source)
        task = await session.start_mount(point, source, OsKind(os))
        await anyio.sleep(61.0)
        finished = await session.task(task.id)
        mount = session.mount_href(point, source, "1")
        roots = (await session.mount(mount)).roots
        volume = named(await session.browse(roots[-1].href))
        directory, file = ("100% real", "a#b?.txt") if os == "Windows" else ("etc", "hostname")
        files = named(await session.browse(volume[directory].href))
        content = await fetched(session, await staged(session, files[file].href))
        await session.unmount(mount)

        assert not await session.is_mounted(mount)

    posted, _ = at.sent("POST", "/mounts")
    own, other = f"/api/{path}/{point}/mounts/1", f"/api/vmRestorePoints/{point}/mounts/1"
    assert posted.target == f"/api/{path}/{point}/mounts"
    assert (posted.body == b"") is (source is Source.AGENT)
    assert finished.mount is not None
    assert finished.mount.href == (other if source is Source.REPLICA else own)
    assert (read_point.vm, read_point.source) == (at.point(os).machine.name, source)
    assert read_point.backup_server == at.point(os).machine.backup_server.name
    assert (read_point.job != "") is (source is Source.REPLICA)
    assert content == read(at.point(os), f"{roots[-1].path}/{directory}/{file}")
    (fate,) = at.manager.truth.mounts
    assert (fate.staged, fate.downloaded, fate.closed_by) == (1, 1, "unmounted")


async def test_an_agents_job_is_known_from_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its points do not name their job, and the query has a field for it."""
    async with (
        desk(
            monkeypatch,
            change=lambda inventory: family(inventory, FAMILIES[Source.AGENT].path),
            role="Portal Administrator",
        ) as at,
        at.client.logon() as session,
    ):
        job = at.point().machine.job
        points = await session.points_of_job(job, Source.AGENT)

    assert {point.job for point in points} == {job}
    assert {point.vm for point in points} == {
        machine.name for machine in at.manager.inventory.machines if machine.job == job
    }


# --- staging and writing -----------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "times"), [("drop_before", 1), ("drop_after", 2)])
async def test_a_lost_staging_may_be_repeated(
    monkeypatch: pytest.MonkeyPatch, kind: str, times: int
) -> None:
    """It changes nothing in the guest: whoever repeats it gets the file."""
    async with (
        desk(monkeypatch, faults=[Fault(kind=kind, count=1, **STAGE)]) as at,
        at.client.logon() as session,
    ):
        _, mount = await mounted(session, at)
        file = session.guest_href(mount, NOTEPAD)
        with pytest.raises(ResponseLost):
            await session.stage(file)
        content = await fetched(session, await staged(session, file))

    assert content == read(at.point(), NOTEPAD)
    assert at.manager.truth.mounts[0].staged == times
    bodies = {request.body for request in at.sent("POST", "action=restore")}
    assert len(bodies) == 1
    assert b"ToOriginalLocation" not in bodies.pop()


@pytest.mark.parametrize(
    ("kind", "error", "orders"),
    [
        ("drop_before", ResponseLost, 0),
        ("drop_after", ResponseLost, 1),
        ("error_500", ResponseLost, 0),
        ("error_500_after", ResponseLost, 1),
        ("proxy_page", ResponseLost, 1),
        ("black_hole", ResponseLost, 0),
        ("truncated", ResponseLost, 1),
        ("html_503", ServiceBusy, 0),
        ("forbidden", AccessDenied, 0),
    ],
)
async def test_a_write_into_a_guest_is_sent_once_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, kind: str, error: type[Exception], orders: int
) -> None:
    """Like a mount: after a 500 or a lost answer it is in doubt, and it is never repeated."""
    async with (
        desk(monkeypatch, faults=[Fault(kind=kind, **STAGE)], may_write=True) as at,
        at.client.logon() as session,
    ):
        _, mount = await mounted(session, at)
        with pytest.raises(error):
            await session.restore_to_guest(session.guest_href(mount, NOTEPAD), overwrite=True)

    assert len(at.sent("POST", "action=restore")) == 1
    assert at.manager.truth.guest_write_orders == orders


@pytest.mark.parametrize("overwrite", [True, False])
async def test_a_write_into_a_guest_says_whether_it_overwrites(
    monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    """The attribute is explicit, and the job's own guest credentials are used."""
    async with desk(monkeypatch, may_write=True) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        task = await session.restore_to_guest(
            session.guest_href(mount, NOTEPAD), overwrite=overwrite
        )
        await anyio.sleep(5.0)
        assert (await session.task(task.id)).succeeded

    (write,) = at.manager.truth.guest_writes
    assert write[2:] == (NOTEPAD, overwrite)


async def test_without_being_told_so_not_one_byte_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`may_write` is False unless it came from outside: no request, no connection."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        file = session.guest_href(mount, NOTEPAD)
        before = (len(at.requests), at.network.connections, session.requests)
        for overwrite in (True, False):
            with pytest.raises(ForbiddenAction):
                await session.restore_to_guest(file, overwrite=overwrite)
        assert (len(at.requests), at.network.connections, session.requests) == before

    assert at.manager.truth.guest_write_orders == 0


# --- fetching ----------------------------------------------------------------------------------


class Full(Exception):
    """The taker's own trouble."""


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), ValueError("no"), TimeoutError(), Full()]
)
async def test_a_takers_own_error_comes_out_as_itself(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A full disk here is no lost answer there; the session goes on."""

    def take(chunk: bytes) -> None:
        raise error

    async with desk(monkeypatch) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        link = await staged(session, session.guest_href(mount, NOTEPAD))
        with pytest.raises(type(error)) as raised:
            await session.fetch(link, take, limit=10**9)
        assert raised.value is error
        assert await fetched(session, link) == read(at.point(), NOTEPAD)


@pytest.mark.parametrize("chunked", [False, True])
async def test_no_more_than_the_limit_is_taken(
    monkeypatch: pytest.MonkeyPatch, chunked: bool
) -> None:
    """A larger file is given up at the limit, and its connection with the rest is closed."""
    behaviour = Behaviour(operation_finished_share=0.0, chunked_downloads=chunked)
    async with desk(monkeypatch, behaviour=behaviour) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        link = await staged(session, session.guest_href(mount, "C:/Windows/System32/ntdll.dll"))
        taken: list[int] = []
        with pytest.raises(MalformedResponse, match="larger"):
            await session.fetch(link, lambda chunk: taken.append(len(chunk)), limit=1_000_000)
        before = at.network.connections
        whole = await fetched(session, link, limit=2_031_888)

        assert 900_000 < sum(taken) <= 1_000_000
        assert len(whole) == 2_031_888
        assert at.network.connections == before + 1  # the one with the rest in it was closed


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset_mid_body", ResponseLost),
        ("close_mid_body", ResponseLost),
        ("silent_mid_body", ResponseLost),
        ("black_hole", ResponseLost),
        ("drop_before", ResponseLost),
        ("drop_after", ResponseLost),
        ("hollow_204", MalformedResponse),
        ("gzip", MalformedResponse),
        ("html_503", ServiceBusy),
        ("proxy_page", ServiceBusy),
        ("error_500", RequestRefused),
        ("forbidden", AccessDenied),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_download_that_goes_wrong_says_how(
    monkeypatch: pytest.MonkeyPatch, fault: str, error: type[Exception], chunked: bool
) -> None:
    """Never a size for half a file, nor for none; it may be fetched again from its start.

    aiohttp itself asks once more where a kept connection ended before any answer.
    """
    behaviour = Behaviour(operation_finished_share=0.0, chunked_downloads=chunked)
    count = 2 if fault.startswith("drop") else 1
    faults = [Fault(kind=fault, count=count, seconds=500.0, **DOWNLOAD)]
    async with (
        desk(monkeypatch, faults=faults, behaviour=behaviour) as at,
        at.client.logon() as session,
    ):
        _, mount = await mounted(session, at)
        link = await staged(session, session.guest_href(mount, NOTEPAD))
        before, began = session.requests, anyio.current_time()
        with pytest.raises(error) as failure:
            await session.fetch(link, lambda chunk: None, limit=10**9)

        assert type(failure.value) is error
        asked_whether_it_answers = fault == "error_500"
        assert session.requests - before == 1 + asked_whether_it_answers
        silent = fault in {"silent_mid_body", "black_hole"}
        assert anyio.current_time() - began == (120.0 + GRACE_S if silent else 0.0)
        assert await fetched(session, link) == read(at.point(), NOTEPAD)


@pytest.mark.parametrize(("kind", "size"), [("truncated", SIZE // 2), ("grown", SIZE + 38)])
async def test_a_wrong_size_is_told_as_it_came(
    monkeypatch: pytest.MonkeyPatch, kind: str, size: int
) -> None:
    """Whole by HTTP and other than listed: the caller compares."""
    faults = [Fault(kind=kind, **DOWNLOAD)]
    async with desk(monkeypatch, faults=faults) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        link = await staged(session, session.guest_href(mount, NOTEPAD))

        assert await session.fetch(link, lambda chunk: None, limit=10**9) == size


async def test_bytes_behind_the_answer_belong_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than Content-Length: the file is whole, and the next answer is the next one's."""
    faults = [Fault(kind="too_long", **DOWNLOAD)]
    async with desk(monkeypatch, faults=faults) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        link = await staged(session, session.guest_href(mount, NOTEPAD))
        for _ in range(3):
            assert await fetched(session, link) == read(at.point(), NOTEPAD)
            assert len((await session.mount(mount)).roots) == 3


async def test_a_download_may_take_long_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow line is no trouble; the total is bounded all the same."""
    behaviour = Behaviour(operation_finished_share=0.0, download_bytes_per_s=1000.0)
    async with desk(monkeypatch, behaviour=behaviour) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        link = await staged(session, session.guest_href(mount, NOTEPAD))
        assert len(await fetched(session, link)) == SIZE
        monkeypatch.setattr(limits, "FILE", limits.Patience(100.0, 120.0))
        began = anyio.current_time()
        with pytest.raises(ResponseLost, match="in time"):
            await fetched(session, link)

        assert 100.0 <= anyio.current_time() - began <= 101.0  # aiohttp rounds up


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/html; charset=nonsense"},
        {"Content-Type": "application/xml"},
        {"Content-Type": "multipart/mixed; boundary=x"},
        {"Content-Type": "\\\\"},
        {"Content-Disposition": 'attachment; filename="../../evil"'},
        {"Set-Cookie": "X-RestSvcSessionId=stolen"},
    ],
)
async def test_the_headers_of_a_download_mean_nothing(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    """Its bytes are its bytes, whatever type or name they are said to have."""

    def answered(request: Request) -> web.Response | None:
        if "action=download" not in request.target:
            return None
        return web.Response(body=b"\xff\x00bytes", headers=headers)

    async with desk(monkeypatch, override=answered) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        link = Href(f"{mount}/{NOTEPAD}?action=download")

        assert await fetched(session, link) == b"\xff\x00bytes"


@pytest.mark.parametrize("status", [201, 202, 206, 301, 302, 304])
async def test_only_200_is_a_file(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """No part of one, no promise of one, no redirect to one."""

    def answered(request: Request) -> web.Response | None:
        if "action=download" not in request.target:
            return None
        location = {"Location": "https://elsewhere.example.org/"}
        return web.Response(status=status, body=b"bytes", headers=location)

    async with desk(monkeypatch, override=answered) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        with pytest.raises(MalformedResponse):
            await fetched(session, Href(f"{mount}/{NOTEPAD}?action=download"))


async def test_a_large_file_does_not_pass_through_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in pieces, at the pace of whoever takes them."""
    size = 64 * 1024 * 1024
    files: dict[str, GuestFile | None] = {"E:/big.vhdx": GuestFile(size=size)}
    async with (
        desk(monkeypatch, change=with_files(files)) as at,
        at.client.logon() as session,
    ):
        _, mount = await mounted(session, at)
        link = await staged(session, session.guest_href(mount, "E:/big.vhdx"))
        tracemalloc.start()
        try:
            taken = await session.fetch(link, lambda chunk: None, limit=size)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert taken == size
    assert peak < 4 * 1024 * 1024


@pytest.mark.parametrize("named", ["", "/", "%2F", "%2f", "%2F/"])
def test_the_root_of_a_guest_keeps_the_address_that_the_server_named(named: str) -> None:
    """Trap 51: byte for byte, below our own mount; so do the entries of its listing."""
    mount = Href("/api/vmReplicaPoints/5d4b0f4e-0000-4000-8000-000000000000/mounts/1")
    other = mount.replace("vmReplicaPoints", "vmRestorePoints")
    shown = FileSystemEntry(path="/", name="/", href=Href(f"{other}/{named}"), is_directory=True)

    root = guests.root_of(mount, shown)
    entries = [
        guests.listed_in(root.href, replace(shown, name="etc", href=Href(f"{other}/{part}")))
        for part in ("etc", "/etc", "%2Fetc", "%2F/etc")
    ]

    assert root.href == f"{mount}/{named}"
    assert [entry.href for entry in entries[:2]] == [f"{mount}/etc", f"{mount}//etc"]
    assert entries[3].href == f"{mount}/%2F/etc"
