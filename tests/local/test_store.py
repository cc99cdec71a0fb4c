"""Files on the disk: whole under their name, or not at all, and nowhere else."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import resource
import signal
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.core.errors import FileNotSaved
from orchestrator.core.ports.local import SavedFile
from orchestrator.local.files.store import DiskFileStore
from tests.host.namespaces import with_tmpfs
from tests.local.hostile import HOSTILE

pytestmark = pytest.mark.anyio

CONTENT = b"ledger" * 1000


@pytest.fixture
def shelf() -> DiskFileStore:
    """Return a shelf that finds room on any disk."""
    return DiskFileStore(inline=True, reserve=0)


def names_in(directory: Path) -> list[str]:
    """Return the names of everything in a directory."""
    return sorted(each.name for each in directory.iterdir())


async def save(
    shelf: DiskFileStore,
    path: Path | str,
    content: bytes = CONTENT,
    *,
    owner: str = "one",
    overwrite: bool = False,
) -> SavedFile:
    """Save one file whole."""
    size = len(content)
    with shelf.place(str(path), size, owner=owner, overwrite=overwrite) as file:
        file.take(content)
        return await file.keep()


async def test_a_file_is_saved_whole_and_for_its_owner_alone(
    shelf: DiskFileStore, tmp_path: Path
) -> None:
    """Its bytes, hash and size; mode 0600 below directories 0700, whatever the umask."""
    before = os.umask(0o777)
    try:
        kept = await save(shelf, tmp_path / "a" / "b" / "ledger.csv")
    finally:
        os.umask(before)

    saved = tmp_path / "a" / "b" / "ledger.csv"
    assert saved.read_bytes() == CONTENT
    assert kept == SavedFile(size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert [stat.S_IMODE(each.stat().st_mode) for each in saved.parents[:2]] == [0o700] * 2
    assert names_in(saved.parent) == ["ledger.csv"]


async def test_until_it_is_kept_there_is_only_a_part(shelf: DiskFileStore, tmp_path: Path) -> None:
    """And what is not kept leaves nothing."""
    with shelf.place(str(tmp_path / "x"), 12, owner="one", overwrite=False) as file:
        file.take(b"half of")
        assert names_in(tmp_path) == ["x.part"]

    assert names_in(tmp_path) == []


async def test_a_file_begun_again_holds_only_the_last_try(
    shelf: DiskFileStore, tmp_path: Path
) -> None:
    """A transfer that broke leaves no byte in the next one."""
    with shelf.place(str(tmp_path / "x"), 5, owner="one", overwrite=False) as file:
        file.take(b"something longer")
        file.restart()
        file.take(b"short")
        kept = await file.keep()

    assert (tmp_path / "x").read_bytes() == b"short"
    assert kept.sha256 == hashlib.sha256(b"short").hexdigest()


@pytest.mark.parametrize("size", [len(CONTENT), 3])
async def test_an_existing_file_stays(shelf: DiskFileStore, tmp_path: Path, size: int) -> None:
    """With other content of any size, it is a reason to fail, never replaced."""
    (tmp_path / "x").write_bytes(b"y" * size)

    with pytest.raises(FileNotSaved, match="exists, with other content"):
        await save(shelf, tmp_path / "x")

    assert (tmp_path / "x").read_bytes() == b"y" * size
    assert names_in(tmp_path) == ["x"]


async def test_a_file_that_appears_meanwhile_stays_too(
    shelf: DiskFileStore, tmp_path: Path
) -> None:
    """The name is taken in one step that cannot replace anything."""
    with shelf.place(str(tmp_path / "x"), 3, owner="one", overwrite=False) as file:
        file.take(b"abc")
        (tmp_path / "x").write_bytes(b"somebody else's")
        with pytest.raises(FileNotSaved, match="exists"):
            await file.keep()

    assert (tmp_path / "x").read_bytes() == b"somebody else's"
    assert names_in(tmp_path) == ["x"]


async def test_the_same_bytes_again_are_as_good_as_saved(
    shelf: DiskFileStore, tmp_path: Path
) -> None:
    """A process that died after the rename, before it could say so, is resumed."""
    await save(shelf, tmp_path / "x")

    kept = await save(DiskFileStore(inline=True, reserve=0), tmp_path / "x")

    assert kept.was_there
    assert names_in(tmp_path) == ["x"]


async def test_overwrite_replaces_a_file(shelf: DiskFileStore, tmp_path: Path) -> None:
    """Because a person asked for it."""
    (tmp_path / "x").write_bytes(b"old")

    await save(shelf, tmp_path / "x", overwrite=True)

    assert (tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["x", "X"])
async def test_no_file_of_a_run_replaces_another_of_it(
    shelf: DiskFileStore, tmp_path: Path, name: str, overwrite: bool
) -> None:
    """Not even with the same bytes, with `overwrite`, or in another case."""
    await save(shelf, tmp_path / "x", owner="one")

    with pytest.raises(FileNotSaved, match="this run saved one there"):
        await save(shelf, tmp_path / name, owner="two", overwrite=overwrite)

    assert names_in(tmp_path) == ["x"]


async def test_what_an_earlier_process_saved_is_not_replaced(
    shelf: DiskFileStore, tmp_path: Path
) -> None:
    """A resumed run knows its files by the journal."""
    (tmp_path / "x").write_bytes(CONTENT)
    shelf.remember(str(tmp_path / "x"), "one")
    shelf.remember(str(tmp_path / "gone" / "x"), "one")

    with pytest.raises(FileNotSaved, match="this run saved one there"):
        await save(shelf, tmp_path / "x", owner="two", overwrite=True)
    assert (await save(shelf, tmp_path / "x", owner="one")).was_there


def planted(directory: Path) -> Path:
    """Return a directory in which anybody may plant something."""
    directory.mkdir()
    directory.chmod(0o777)
    return directory


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["x", "x.part"])
async def test_a_planted_link_is_not_followed(
    shelf: DiskFileStore, tmp_path: Path, name: str, overwrite: bool
) -> None:
    """Neither at the file's name nor at its part's."""
    out, victim = planted(tmp_path / "out"), tmp_path / "victim"
    victim.write_bytes(b"precious")
    (out / name).symlink_to(victim)

    with pytest.raises(FileNotSaved):
        await save(shelf, out / "x", overwrite=overwrite)

    assert victim.read_bytes() == b"precious"
    assert (out / name).is_symlink()


async def test_a_link_in_place_of_a_directory_is_not_followed(
    shelf: DiskFileStore, tmp_path: Path
) -> None:
    """Wherever in the path it stands, and the message says which it is."""
    out, elsewhere = planted(tmp_path / "out"), tmp_path / "elsewhere"
    (elsewhere / "b").mkdir(parents=True)
    (out / "a").symlink_to(elsewhere)

    for path in (out / "a" / "x", out / "a" / "b" / "x"):
        with pytest.raises(FileNotSaved, match=r"'a' in .* is a symbolic link"):
            await save(shelf, path)

    assert names_in(elsewhere) == ["b"]
    assert names_in(elsewhere / "b") == []


async def test_a_directory_exchanged_meanwhile_is_not_written_to(
    shelf: DiskFileStore, tmp_path: Path
) -> None:
    """What was opened is what is written to, whatever its path means by then."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()

    with shelf.place(str(out / "x"), 3, owner="one", overwrite=False) as file:
        out.rename(tmp_path / "moved")
        out.symlink_to(elsewhere)
        file.take(b"abc")
        await file.keep()

    assert names_in(elsewhere) == []
    assert names_in(tmp_path / "moved") == ["x"]


async def test_a_destination_that_is_gone_fails_the_file(
    shelf: DiskFileStore, tmp_path: Path
) -> None:
    """Removed while the file was on its way."""
    out = tmp_path / "out"

    with shelf.place(str(out / "x"), 3, owner="one", overwrite=False) as file:
        file.take(b"abc")
        (out / "x.part").unlink()
        out.rmdir()
        with pytest.raises(FileNotSaved, match="No such file or directory"):
            await file.keep()


@pytest.mark.parametrize("kind", ["directory", "fifo", "directory at the part"])
async def test_what_is_no_file_is_left_alone(
    shelf: DiskFileStore, tmp_path: Path, kind: str
) -> None:
    """And nothing waits for the other end of a pipe."""
    match kind:
        case "directory":
            (tmp_path / "x").mkdir()
        case "fifo":
            os.mkfifo(tmp_path / "x")
        case _:
            (tmp_path / "x.part").mkdir()

    with pytest.raises(FileNotSaved, match="exists and is no"):
        await save(shelf, tmp_path / "x", overwrite=True)


@pytest.mark.parametrize("path", ["relative/x", "/tmp/../x", "/tmp/..", "/tmp/a\0b", "/tmp/a\0/x"])
async def test_a_path_that_says_something_else_is_refused(shelf: DiskFileStore, path: str) -> None:
    """Only an absolute path without a way back."""
    with pytest.raises(FileNotSaved):
        await save(shelf, path)


async def test_a_disk_keeps_its_reserve(tmp_path: Path) -> None:
    """Files that are being written at the same time count too."""
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    shelf = DiskFileStore(inline=True, reserve=free // 2)

    with (
        shelf.place(str(tmp_path / "a"), free // 3, owner="a", overwrite=False),
        pytest.raises(FileNotSaved, match="no room"),
        shelf.place(str(tmp_path / "b"), free // 3, owner="b", overwrite=False),
    ):
        pass
    with shelf.place(str(tmp_path / "b"), free // 3, owner="b", overwrite=False):
        pass

    assert names_in(tmp_path) == []


async def test_a_disk_without_links_takes_files_all_the_same(
    shelf: DiskFileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And still replaces nothing."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)

    await save(shelf, tmp_path / "x")
    with pytest.raises(FileNotSaved, match="exists"):
        await save(shelf, tmp_path / "x", b"z" * len(CONTENT))

    assert (tmp_path / "x").read_bytes() == CONTENT


@pytest.fixture
def little_room() -> Iterator[None]:
    """Let no file of this process grow beyond 4,096 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("little_room")
async def test_a_write_that_fails_fails_the_file(shelf: DiskFileStore, tmp_path: Path) -> None:
    """With the system's reason; its part is gone, and the next file is not concerned."""
    with pytest.raises(FileNotSaved, match="File too large"):
        await save(shelf, tmp_path / "x")
    await save(shelf, tmp_path / "y", b"small")

    assert names_in(tmp_path) == ["y"]


async def test_a_large_file_is_never_in_memory(shelf: DiskFileStore, tmp_path: Path) -> None:
    """200 MB pass through less than one."""
    piece = os.urandom(64 * 1024)
    size = 200_000_000
    tracemalloc.start()
    try:
        with shelf.place(str(tmp_path / "x"), size, owner="one", overwrite=False) as file:
            while file.size < size:
                file.take(piece)
            os.truncate(tmp_path / "x.part", 1)  # only to spare the disk of the test
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1_000_000


async def test_all_hostile_names_stay_in_their_directory(
    shelf: DiskFileStore, tmp_path: Path
) -> None:
    """Each is a file of its own there, with its own bytes, and nothing is anywhere else."""
    out = tmp_path / "out"
    paths = shelf.layout(f"{out}/", HOSTILE, many=True)

    for number, name in enumerate(HOSTILE):
        await save(shelf, paths[name], str(number).encode(), owner=repr(name))

    assert names_in(tmp_path) == ["out"]
    assert len(names_in(out)) == len(HOSTILE)
    for number, name in enumerate(HOSTILE):
        assert (out / paths[name].rpartition("/")[2]).read_text() == str(number)


def test_where_files_go(shelf: DiskFileStore, tmp_path: Path) -> None:
    """Below a directory that ends in a slash or exists; else the path is the file's."""
    (tmp_path / "there").mkdir()
    one = ["a.txt"]

    assert shelf.layout(f"{tmp_path}/new/", one, many=False) == {"a.txt": f"{tmp_path}/new/a.txt"}
    there = f"{tmp_path}/there"
    assert shelf.layout(there, one, many=False) == {"a.txt": f"{there}/a.txt"}
    named = f"{tmp_path}/b.csv"
    assert shelf.layout(named, one, many=False) == {"a.txt": named}
    assert shelf.layout(named, one, many=False, tag="T") == {"a.txt": f"{tmp_path}/b@T.csv"}
    assert shelf.layout(named, one, many=True) == {"a.txt": f"{named}/a.txt"}


# --- real processes and disks -------------------------------------------------------------------

WRITER = """
import os, sys, anyio
from orchestrator.core.errors import FileNotSaved
from orchestrator.local.files.store import DiskFileStore

async def main():
    shelf = DiskFileStore(reserve=0)
    try:
        with shelf.place(sys.argv[1], 300_000, owner="one", overwrite=False) as file:
            file.take(b"x" * 100_000)
            if sys.argv[2] == "dies":
                os.kill(os.getpid(), 9)
            if sys.argv[2] == "waits":
                print("written", flush=True)
                sys.stdin.read()
            file.take(b"x" * 200_000)
            print(await file.keep())
    except FileNotSaved as exc:
        print(exc)

anyio.run(main)
"""


@pytest.mark.process
def test_a_killed_process_leaves_only_a_part_which_the_next_one_replaces(
    shelf: DiskFileStore, tmp_path: Path
) -> None:
    """`kill -9` in the middle of a file."""
    path = tmp_path / "x"

    died = subprocess.run([sys.executable, "-c", WRITER, path, "dies"], check=False)

    assert died.returncode == -signal.SIGKILL
    assert names_in(tmp_path) == ["x.part"]
    asyncio.run(save(shelf, path))
    assert names_in(tmp_path) == ["x"]


@pytest.mark.process
def test_a_part_that_another_process_writes_is_not_taken_from_it(
    shelf: DiskFileStore, tmp_path: Path
) -> None:
    """Two runs into one directory at the same time."""
    path = tmp_path / "x"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path, "waits"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "written\n"

        with pytest.raises(FileNotSaved, match="another process is writing"):
            asyncio.run(save(shelf, path))
        said, _ = other.communicate("")

    assert "size=300000" in said
    assert path.stat().st_size == 300_000


@pytest.mark.process
@pytest.mark.parametrize(
    ("options", "why"),
    [("size=128k", "No space left on device"), ("ro", "Read-only file system")],
)
def test_a_disk_that_takes_nothing_fails_the_file(tmp_path: Path, options: str, why: str) -> None:
    """With the system's words, and the process goes on."""
    small = with_tmpfs(tmp_path / "disk", options)
    command = [
        *small,
        sys.executable,
        "-c",
        WRITER.replace("300_000", "0"),
        str(tmp_path / "disk" / "x"),
        "-",
    ]

    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert why in done.stdout
