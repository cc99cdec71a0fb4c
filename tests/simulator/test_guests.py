"""Guest files: content without storage, a machine's own files, damage, names that go wrong."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import unquote

import pytest

from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.files import NEVER, PIECE, GuestFile
from orchestrator.simulator.guests import entry_at, pieces, tree
from orchestrator.simulator.inventory import Inventory, Point, generated
from tests.simulator.wire import NS, STEADY, wired
from tests.virtual.guests import (
    AWKWARD_LINUX_NAMES,
    AWKWARD_NAMES,
    LOCKED_MAGIC,
    RANSOM_NOTE,
    awkward_names,
    encrypted_from,
    listing,
    many,
    read,
)

pytestmark = pytest.mark.anyio

LEDGER = "E:/Finance 2026/ledger & notes.xlsx"


def point(os: str = "Windows", place: int = 0, **machine: object) -> Point:
    """Return a point of the first machine with this system."""
    inventory = generated(7, machines=8, points=3, awkward=False)
    found = next(each for each in inventory.machines if each.os == os)
    for name, value in machine.items():
        setattr(found, name, value)
    return found.points[place]


def names(point: Point, path: str) -> list[str]:
    """Return the names in a directory."""
    return [entry.name for entry in listing(point, path) or []]


# --- content -----------------------------------------------------------------------------------


def test_content_is_the_same_every_time_and_differs_by_point_and_path() -> None:
    """What is downloaded from another point or of another file cannot look right."""
    here = point()

    assert read(here, LEDGER) == read(point(), LEDGER.upper())
    assert len(read(here, LEDGER)) == 48_213
    assert read(here, LEDGER) != read(here.machine.points[1], LEDGER)
    assert read(here, "C:/Windows/notepad.exe")[:48_213] != read(here, LEDGER)


def test_content_may_be_given_or_steady_or_begin_as_one_likes() -> None:
    """Given bytes are kept; steady ones are the same at all points; magic comes first."""
    files = {
        "E:/given.txt": GuestFile(content=b"3.14\n"),
        "E:/steady.bin": GuestFile(size=100_000, steady=True),
        "E:/base.mdf": GuestFile(size=100_000, magic=b"\x01\x0f\x00\x00"),
        "E:/short": GuestFile(size=2, magic=b"long magic"),
        "E:/empty": GuestFile(),
    }
    here = point(files=files)
    other = here.machine.points[1]

    assert (read(here, "E:/given.txt"), entry_at(here, "E:/given.txt").size) == (b"3.14\n", 5)  # type: ignore[union-attr]
    assert read(here, "E:/steady.bin") == read(other, "E:/steady.bin")
    assert read(here, "E:/base.mdf")[:4] == b"\x01\x0f\x00\x00"
    assert (read(here, "E:/short"), read(here, "E:/empty")) == (b"lo", b"")


def test_a_huge_file_costs_no_memory() -> None:
    """A terabyte is named, and its beginning can be read, without storing it."""
    here = point(files={"E:/huge.vhdx": GuestFile(size=2**40)})

    first = next(pieces(here, "E:/huge.vhdx"))

    assert entry_at(here, "E:/huge.vhdx").size == 2**40  # type: ignore[union-attr]
    assert len(first) == PIECE


# --- trees -------------------------------------------------------------------------------------


def test_a_machines_own_files_change_the_usual_tree() -> None:
    """Add (with the directories above), replace, remove (with all below); Windows in any case."""
    files = {
        "E:/SQL/Backup/full.bak": GuestFile(size=5 * 2**30),
        "e:/finance 2026/DESKTOP.INI": GuestFile(size=1),
        "E:/Data": None,
        "C:/Windows/notepad.exe": None,
    }
    here = point(files=files)

    assert names(here, "E:") == ["Finance 2026", "100% real", "SQL"]
    assert names(here, "E:/sql") == ["Backup"]
    assert entry_at(here, LEDGER.replace("ledger & notes.xlsx", "desktop.ini")).size == 1  # type: ignore[union-attr]
    assert len(names(here, "E:/Finance 2026")) == 3
    assert listing(here, "E:/Data") is None
    assert entry_at(here, "E:/Data/table-0001.mdf") is None
    assert entry_at(here, "C:/Windows/notepad.exe") is None


def test_a_points_changes_hold_for_it_alone_and_may_change_again() -> None:
    """Damage belongs to a point; what a test changes later is seen."""
    here = point()
    here.changes["C:/Windows/notepad.exe"] = None
    gone = entry_at(here, "C:/Windows/notepad.exe")
    here.changes["C:/Windows/notepad.exe"] = GuestFile(size=7)

    assert gone is None
    assert entry_at(here, "C:/Windows/notepad.exe").size == 7  # type: ignore[union-attr]
    assert entry_at(here.machine.points[1], "C:/Windows/notepad.exe").size == 201_216  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("roots", "path", "below"),
    [
        (None, "root/etc", ["nginx", "hostname", "fstab"]),
        (("/",), "/etc", ["nginx", "hostname", "fstab"]),
        (("/",), "/", ["etc", "srv", "var"]),
        (("/", "/boot"), "boot", []),
        (("sda1", "sdb1"), "sda1", ["etc", "srv", "var"]),
        (("sda1", "sdb1"), "sdb1", []),
    ],
)
def test_linux_volumes_have_any_name(
    roots: tuple[str, ...] | None, path: str, below: list[str]
) -> None:
    """No public example shows a Linux root: `root`, `/`, several."""
    assert names(point("Linux", roots=roots), path) == below


def test_linux_tells_cases_apart() -> None:
    """Two files whose names differ only in case are two."""
    files = {"root/srv/A": GuestFile(size=1), "root/srv/a": GuestFile(size=2)}
    here = point("Linux", files=files)

    assert names(here, "root/srv") == ["www", "A", "a"]
    assert entry_at(here, "root/srv/a").size == 2  # type: ignore[union-attr]


def test_encryption_strikes_every_point_after_a_moment() -> None:
    """Names, contents, magic and times change, and a note lies in every directory."""
    machine = point().machine
    newest, older, _ = machine.points
    before = read(newest, LEDGER)

    struck = encrypted_from(machine, older.created_at + timedelta(minutes=1))

    assert struck == [newest]
    assert names(newest, "E:/Finance 2026") == [
        "Archive",
        "ledger & notes.xlsx.locked",
        RANSOM_NOTE,
        "desktop.ini.locked",
    ]
    after = read(newest, f"{LEDGER}.locked")
    assert (after[: len(LOCKED_MAGIC)], len(after)) == (LOCKED_MAGIC, len(before))
    assert entry_at(newest, f"{LEDGER}.locked").modified_at > older.created_at  # type: ignore[union-attr]
    assert "ledger & notes.xlsx" in names(older, "E:/Finance 2026")
    assert "notepad.exe" in names(newest, "C:/Windows")


def test_encryption_may_leave_the_names() -> None:
    """Then only content and magic tell."""
    machine = point().machine
    encrypted_from(machine, machine.points[2].created_at, below=["C:/Windows/"], suffix="")
    newest = machine.points[0]

    assert "notepad.exe" in names(newest, "C:/Windows")
    assert read(newest, "C:/Windows/notepad.exe").startswith(LOCKED_MAGIC)
    assert not read(newest, LEDGER).startswith(LOCKED_MAGIC)


def test_an_unchanged_tree_is_shared() -> None:
    """Thousands of points cost one tree."""
    here = point()

    assert tree(here) is tree(here.machine.points[1])


# --- on the wire -------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("os", ["Windows", "Linux"])
async def test_awkward_names_are_listed_and_answer_at_their_own_address(os: str, raw: bool) -> None:
    """Every name comes back from XML as it was, and its Href leads to it and nothing else."""
    root = "E:" if os == "Windows" else "root"

    def change(inventory: Inventory) -> None:
        for machine in inventory.machines:
            machine.files.update(awkward_names(f"{root}/odd", linux=machine.os == "Linux"))

    behaviour = Behaviour(operation_finished_share=0.0, raw_hrefs=raw)
    async with wired(change=change, behaviour=behaviour) as wire:
        await wire.mounted(wire.point(os))
        mount = f"vmReplicaPoints/{wire.point(os).id}/mounts/1"
        answer = await wire.get(f"{mount}/{root}/odd?action=listAll")
        entries = answer.all("FileEntry")
        expected = AWKWARD_NAMES + (AWKWARD_LINUX_NAMES if os == "Linux" else ())

        assert [entry.findtext(f"{NS}Name") for entry in entries] == list(expected)
        for entry, name in zip(entries, expected, strict=True):
            href = entry.attrib["Href"].rpartition("/api/")[2]
            assert unquote(href) == f"{mount}/{root}/odd/{name}"
            if not raw:
                shown = await wire.get(href)
                (one,) = shown.all("FileEntry")
                assert one.findtext(f"{NS}Name") == name


async def test_a_control_character_makes_the_listing_no_xml() -> None:
    """XML has no place for one: the server writes it all the same."""

    def change(inventory: Inventory) -> None:
        inventory.machines[0].files["E:/odd/bell\x07.txt"] = GuestFile(size=1)

    async with wired(change=change) as wire:
        await wire.mounted(wire.point())
        path = f"vmReplicaPoints/{wire.point().id}/mounts/1/E:/odd?action=listAll"

        assert b"bell&#7;.txt" in (await wire.get(path)).body


async def test_what_a_listing_tells_of_a_file() -> None:
    """Size, owner, time (or 1753 for none), and the name, even where it is a lie."""

    def change(inventory: Inventory) -> None:
        inventory.machines[0].files |= {
            "E:/t/one": GuestFile(size=2**41, owner="DR\\jdoe", modified_at=NEVER),
            "E:/t/two": GuestFile(shown="../../evil"),
        }

    async with wired(change=change) as wire:
        await wire.mounted(wire.point())
        path = f"vmReplicaPoints/{wire.point().id}/mounts/1/E:/t?action=listAll"
        one, two = (await wire.get(path)).all("FileEntry")

        assert [child.tag.removeprefix(NS) for child in one] == [
            "Links",
            "Path",
            "Name",
            "Size",
            "Owner",
            "ModifiedDateUTC",
        ]
        assert one.findtext(f"{NS}Size") == str(2**41)
        assert one.findtext(f"{NS}Owner") == "DR\\jdoe"
        assert one.findtext(f"{NS}ModifiedDateUTC") == "1753-01-01T00:00:00Z"
        assert two.findtext(f"{NS}Name") == "../../evil"
        assert two.find(f"{NS}Owner") is None


async def test_an_unreadable_directory_is_a_500() -> None:
    """It exists, and its listing is refused. Source: reference 6.2."""

    def change(inventory: Inventory) -> None:
        inventory.machines[0].files["E:/secret"] = GuestFile(size=None, readable=False)

    async with wired(change=change) as wire:
        await wire.mounted(wire.point())
        path = f"vmReplicaPoints/{wire.point().id}/mounts/1/E:/secret"

        assert (await wire.get(path)).status == 200
        assert (await wire.get(f"{path}?action=listAll")).status == 500


async def test_a_directory_of_many_pages() -> None:
    """Twenty thousand files come page by page, each of them once."""

    def change(inventory: Inventory) -> None:
        inventory.machines[0].files.update(many("E:/mail", 20_000))

    async with wired(change=change) as wire:
        await wire.mounted(wire.point())
        path = f"vmReplicaPoints/{wire.point().id}/mounts/1/E:/mail?action=listFiles&pageSize=5000"
        found = [
            name
            for page in range(1, 5)
            for name in (await wire.get(f"{path}&page={page}")).texts("Name")
        ]

        assert found == [f"{number:06}.dat" for number in range(20_000)]


@pytest.mark.parametrize(
    ("change", "tag"), [("replicas", "FileSystemEntry"), ("never", "FileSystemEntries")]
)
async def test_a_directory_shows_itself_or_its_listing(change: str, tag: str) -> None:
    """Without `action` both forms are documented. Source: reference 6.2."""
    behaviour = Behaviour(operation_finished_share=0.0, plain_entries=change)
    async with wired(behaviour=behaviour) as wire:
        await wire.mounted(wire.point())
        answer = await wire.get(f"vmReplicaPoints/{wire.point().id}/mounts/1/E:/Data")

        assert answer.xml.tag == f"{NS}{tag}"


@pytest.mark.parametrize("root", ["/", "root"])
async def test_a_linux_root_can_be_listed(root: str) -> None:
    """Also one that is called `/`, whose address is the mount's with a slash."""

    def change(inventory: Inventory) -> None:
        for machine in inventory.machines:
            machine.roots = (root,) if machine.os == "Linux" else None

    async with wired(change=change, behaviour=STEADY) as wire:
        await wire.mounted(wire.point("Linux"))
        mount = f"vmReplicaPoints/{wire.point('Linux').id}/mounts/1"
        (shown,) = (await wire.get(mount)).all("DirectoryEntry")
        href = shown.attrib["Href"].rpartition("/api/")[2]

        answer = await wire.get(f"{href}?action=listAll")

        assert shown.findtext(f"{NS}Path") == root
        assert answer.texts("Name") == ["etc", "srv", "var"]
