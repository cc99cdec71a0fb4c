"""Staging files, downloading them, and writing them into a guest."""

from __future__ import annotations

import anyio
import pytest

from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.files import GuestFile
from orchestrator.simulator.inventory import Inventory
from orchestrator.simulator.truth import GroundTruth
from tests.simulator.wire import DOWNLOAD_SPEC, NS, TOKEN, Wire, wired
from tests.virtual.guests import read

pytestmark = pytest.mark.anyio

SPACE = 'xmlns="http://www.veeam.com/ent/v1.0"'
FILE = "E:/Finance%202026/desktop.ini"
BROKEN = "Object reference not set to an instance of an object."


def spec(inner: str, root: str = "FileRestoreSpec", space: str = SPACE) -> bytes:
    """Return a body."""
    return f"<{root} {space}>{inner}</{root}>".encode()


def mount_of(wire: Wire) -> str:
    """Return the address of the first mount of the first machine."""
    return f"vmReplicaPoints/{wire.point().id}/mounts/1"


GUEST = "<GuestCredentials><UserName>a</UserName><Password>b</Password></GuestCredentials>"
SWAPPED = "<GuestCredentials><Password>b</Password><UserName>a</UserName></GuestCredentials>"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (spec("<ForDirectDownload />"), 202),
        (b'<?xml version="1.0" encoding="utf-8"?>' + DOWNLOAD_SPEC, 202),
        (spec("<ToOriginalLocation />"), 202),
        (spec('<ToOriginalLocation Overwrite="true" PermissionsOnly="false" />'), 202),
        (spec(f'<ToOriginalLocation Overwrite="false">{GUEST}</ToOriginalLocation>'), 202),
        (spec(f"<ToOriginalLocation>{SWAPPED}</ToOriginalLocation>"), 400),
        (spec('<ToOriginalLocation Overwrite="yes" />'), 400),
        (spec("<ToOriginalLocation><Overwrite>true</Overwrite></ToOriginalLocation>"), 400),
        (spec('<ToOriginalLocation Everything="true" />'), 400),
        (spec("<ForDirectDownload /><ToOriginalLocation />"), 400),
        (spec("<ForDirectDownload>x<a /></ForDirectDownload>"), 400),
        (spec("<Somewhere />"), 400),
        (spec(""), 500),
        (spec("<ForDirectDownload />", root="RestoreSpec"), 400),
        (spec("<ForDirectDownload />", space=""), 400),
        (b"", 400),
        (b"not xml", 400),
    ],
)
async def test_a_restore_body_is_checked(body: bytes, status: int) -> None:
    """Root, namespace, exactly one choice, attribute Overwrite, order of the credentials."""
    async with wired() as wire:
        await wire.mounted(wire.point())

        answer = await wire.restore(f"{mount_of(wire)}/{FILE}", body)

        assert answer.status == status
        if status == 500:
            assert answer.xml.attrib["Message"] == BROKEN


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"ForDirectDownload": {}}', 202),
        (b'{"forDirectDownload": {}, "toOriginalLocation": null}', 202),
        (b'{"ToOriginalLocation": {"Overwrite": false}}', 202),
        (
            b'{"ToOriginalLocation": {"GuestCredentials": {"UserName": "a", "Password": "b"}}}',
            202,
        ),
        (b'{"ToOriginalLocation": {"GuestCredentials": {"UserName": "a"}}}', 400),
        (b'{"ToOriginalLocation": {"Overwrite": "yes"}}', 400),
        (b'{"ToOriginalLocation": true}', 400),
        (b'{"ForDirectDownload": {}, "ToOriginalLocation": {}}', 400),
        (b"{}", 500),
        (b"{", 400),
    ],
)
async def test_a_restore_body_may_be_json(body: bytes, status: int) -> None:
    """The same rules as for XML."""
    as_json = {"accept": "application/json", "headers": {"Content-Type": "application/json"}}
    async with wired() as wire:
        await wire.mounted(wire.point())

        answer = await wire.restore(f"{mount_of(wire)}/{FILE}", body, **as_json)

        assert answer.status == status


async def test_staging_takes_its_own_time_and_size() -> None:
    """Running, then Finished with a Download link; larger files take longer."""
    behaviour = Behaviour(operation_finished_share=0.0, stage_s=5.0, stage_bytes_per_s=1024 * 1024)
    async with wired(behaviour=behaviour) as wire:
        await wire.mounted(wire.point())
        path = f"{mount_of(wire)}/E:/Data/table-0009.mdf"
        accepted = await wire.restore(path)
        await anyio.sleep(14.0)
        before = await wire.get("tasks/task-2")
        await anyio.sleep(2.0)
        after = await wire.get("tasks/task-2")

        assert accepted.texts("Operation") == ["FileRestoreFromMountPoint"]
        assert (before.texts("State"), before.below("Download")) == (["Running"], [])
        assert after.texts("State") == ["Finished"]
        assert after.all("Result")[0].attrib == {"Success": "true"}
        assert after.below("Download") == [
            f"{path.lower()}?action=download".replace("vmreplicapoints", "vmReplicaPoints")
        ]


@pytest.mark.parametrize(
    ("case", "os", "path"),
    [
        ("lower", "Windows", "e:/finance%202026/desktop.ini"),
        ("lower", "Linux", "root/srv/www/build_id"),
        ("lower_windows", "Windows", "e:/finance%202026/desktop.ini"),
        ("lower_windows", "Linux", "root/srv/www/BUILD_ID"),
        ("kept", "Windows", "E:/Finance%202026/desktop.ini"),
    ],
)
async def test_the_case_of_a_download_link_is_a_knob(case: str, os: str, path: str) -> None:
    """Lower-cased is documented for Windows; whatever it says, it leads to the file."""
    behaviour = Behaviour(operation_finished_share=0.0, download_link_case=case, download_links=2)
    async with wired(behaviour=behaviour) as wire:
        point = wire.point(os)
        await wire.mounted(point)
        asked = FILE if os == "Windows" else "root/srv/www/BUILD_ID"
        mount = f"vmReplicaPoints/{point.id}/mounts/1"
        link = await wire.staged(f"{mount}/{asked}")

        assert link == f"{mount}/{path}?action=download"
        assert len((await wire.get("tasks/task-2")).below("Download")) == 2
        assert (await wire.get(link)).body == read(point, asked.replace("%20", " "))


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_download_is_streamed(chunked: bool) -> None:
    """With Content-Length, or chunked; Range is ignored; bytes and files are counted."""
    behaviour = Behaviour(operation_finished_share=0.0, chunked_downloads=chunked)
    async with wired(behaviour=behaviour) as wire:
        await wire.mounted(wire.point())
        link = await wire.staged(f"{mount_of(wire)}/C:/Windows/notepad.exe")
        answer = await wire.get(link, headers={"Range": "bytes=0-9"})

        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers.get("Content-Length") == (None if chunked else "201216")
        assert answer.body == read(wire.point(), "C:/Windows/notepad.exe")
        (fate,) = wire.truth.mounts
        assert (fate.staged, fate.downloaded, fate.downloaded_bytes) == (1, 1, 201_216)
        assert GroundTruth.from_json([wire.truth.as_json()]).mounts == wire.truth.mounts


async def test_only_a_staged_file_of_this_session_can_be_downloaded() -> None:
    """404 before staging, from another session, and after the unmount."""
    async with wired() as wire:
        await wire.mounted(wire.point())
        path = f"{mount_of(wire)}/{FILE}"
        before = (await wire.get(f"{path}?action=download")).status
        running = (await wire.restore(path)).status
        early = (await wire.get(f"{path}?action=download")).status
        link = await wire.staged(path)
        other = (await wire.log_on()).headers[TOKEN]
        elsewhere = (await wire.get(link, token=other)).status
        own = (await wire.get(link)).status
        neighbour = (await wire.get(link.replace("desktop.ini", "ledger"))).status
        await wire.delete(mount_of(wire))

        assert (before, running, early, elsewhere, own, neighbour) == (404, 202, 404, 404, 200, 404)
        assert (await wire.get(link)).status == 404


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (GuestFile(size=9, locked=True), "being used by another process"),
        (GuestFile(size=9, readable=False), "denied"),
        (GuestFile(size=9, fails="Not enough space."), "Not enough space."),
    ],
)
async def test_a_file_that_cannot_be_staged(file: GuestFile, message: str) -> None:
    """The task fails, says why, and has no Download link."""

    def change(inventory: Inventory) -> None:
        inventory.machines[0].files["E:/x.dat"] = file

    async with wired(change=change) as wire:
        await wire.mounted(wire.point())
        await wire.restore(f"{mount_of(wire)}/E:/x.dat")
        await anyio.sleep(2.0)
        task = await wire.get("tasks/task-2")

        assert task.all("Result")[0].attrib == {"Success": "false"}
        assert message in task.texts("Message")[0]
        assert task.below("Download") == []
        assert wire.truth.mounts[0].staged == 0


async def test_a_mount_that_ends_meanwhile_takes_the_staging_with_it() -> None:
    """Unmounted while it works: the task fails."""
    async with wired() as wire:
        await wire.mounted(wire.point())
        await wire.restore(f"{mount_of(wire)}/{FILE}")
        await wire.delete(mount_of(wire))
        await anyio.sleep(2.0)

        assert (await wire.get("tasks/task-2")).all("Result")[0].attrib["Success"] == "false"


async def test_writing_into_a_guest_is_counted() -> None:
    """Every file written: session, point, path, overwrite; and every order."""
    async with wired() as wire:
        await wire.mounted(wire.point())
        body = spec('<ToOriginalLocation Overwrite="true" />')
        accepted = await wire.restore(f"{mount_of(wire)}/{FILE}", body)
        before = list(wire.truth.guest_writes)
        await anyio.sleep(2.0)
        (session,) = wire.manager.sessions.values()
        path = "E:/Finance 2026/desktop.ini"

        assert (accepted.status, before) == (202, [])
        assert wire.truth.guest_writes == [(session.id, wire.point().id, path, True)]
        assert (wire.truth.guest_write_orders, wire.truth.dangerous) == (1, 0)
        assert (await wire.get("tasks/task-2")).below("Download") == []
        joined = GroundTruth.from_json([wire.truth.as_json()])
        assert joined.guest_writes == wire.truth.guest_writes
        assert joined.guest_write_orders == 1


@pytest.mark.parametrize(("inner", "written"), [("", 0), (GUEST, 1)])
async def test_without_guest_credentials_nothing_is_written(inner: str, written: int) -> None:
    """The job knows none: the task fails as CredentialsNeeded, unless the body brings them."""

    def change(inventory: Inventory) -> None:
        inventory.machines[0].guest_credentials = False

    async with wired(change=change) as wire:
        await wire.mounted(wire.point())
        body = spec(f'<ToOriginalLocation Overwrite="true">{inner}</ToOriginalLocation>')
        await wire.restore(f"{mount_of(wire)}/{FILE}", body)
        await anyio.sleep(2.0)
        task = await wire.get("tasks/task-2")

        assert len(wire.truth.guest_writes) == written
        if not written:
            assert task.all("Result")[0].attrib == {
                "Success": "false",
                "CredentialsNeeded": "true",
                "ConfirmationNeeded": "false",
            }
            assert task.texts("Message") == ["Guest OS credentials are required."]


@pytest.mark.parametrize(
    ("user", "role", "statuses"),
    [
        ({"in_place_only": True}, "File Restore Operator", (403, 202)),
        ({"extensions": frozenset({".ini"})}, "File Restore Operator", (202, 202)),
        ({"extensions": frozenset({".docx"})}, "File Restore Operator", (403, 403)),
        ({}, "Portal Administrator", (202, 202)),
    ],
)
async def test_an_accounts_restrictions(
    user: dict[str, object], role: str, statuses: tuple[int, int]
) -> None:
    """In place only, and only some extensions: 403 before anything begins. Source: 2.7, 6.3."""
    async with wired(user=user, role=role) as wire:
        await wire.mounted(wire.point())
        path = f"{mount_of(wire)}/{FILE}"
        out = await wire.restore(path)
        back = await wire.restore(path, spec("<ToOriginalLocation />"))

        assert (out.status, back.status) == statuses


async def test_a_directory_stages_its_files() -> None:
    """One Download link per file directly in it."""
    async with wired() as wire:
        await wire.mounted(wire.point())
        await wire.staged(f"{mount_of(wire)}/E:/Finance%202026")

        links = (await wire.get("tasks/task-2")).below("Download")

        assert [link.rpartition("/")[2] for link in links] == [
            "ledger%20&%20notes.xlsx?action=download",
            "desktop.ini?action=download",
        ]


async def test_a_restore_of_the_point_itself_stays_dangerous() -> None:
    """Only a path below a mount may be restored; the whole point never."""
    async with wired() as wire:
        await wire.restore(f"vmRestorePoints/{wire.point().id}")

        assert (wire.truth.dangerous, wire.truth.guest_write_orders) == (1, 0)


async def test_a_mount_that_is_not_there_stages_nothing() -> None:
    """404, as for every other path below it."""
    async with wired() as wire:
        answer = await wire.restore(f"{mount_of(wire)}/{FILE}")

        assert answer.status == 404
        assert answer.xml.tag == f"{NS}Error"
