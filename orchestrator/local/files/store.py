"""Files of guests on a local disk: whole and hashed under their name, or not there at all.

A file is written as `NAME.part`, brought to the disk, and only then given its name, in a way
that cannot replace anything; a crash leaves `.part` files and nothing else. Whatever goes
wrong with a file is `FileNotSaved`, and its `.part` is gone.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import anyio.to_thread

from orchestrator.core.errors import FileNotSaved
from orchestrator.core.ports.local import SavedFile
from orchestrator.local.files.descent import entered
from orchestrator.local.files.naming import PART, folded, local_names, tagged

RESERVE = 256 * 1024 * 1024
"""Bytes that stay free on the disk, for its other users; our own journal is one."""
PIECE = 1024 * 1024
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

_Place = tuple[int, int, str]
"""Device and number of a directory, and a name in it as `folded` gives it."""


class DiskFileStore:
    """Saves files of guests, a `core.ports.local.FileStore`; one object for a whole run."""

    def __init__(self, *, inline: bool = False, reserve: int = RESERVE) -> None:
        """`reserve` bytes stay free. `inline` brings files to disk on the loop itself."""
        self._inline = inline
        self._reserve = reserve
        self._owners: dict[_Place, str] = {}
        self._open: list[_File] = []

    def layout(
        self, to: str, names: Sequence[str], *, many: bool, tag: str = ""
    ) -> Mapping[str, str]:
        """Return for each guest file name the path at which it is to be saved.

        `to` is a directory where it ends in `/`, where it exists, and where `many` files go
        there; else the path itself, for one file.
        """
        if many or to.endswith("/") or os.path.isdir(to):  # noqa: PTH112 - a path as text
            directory = to.rstrip("/")
            return {name: f"{directory}/{own}" for name, own in local_names(names, tag).items()}
        directory, _, own = to.rpartition("/")
        return {name: f"{directory}/{tagged(own, tag)}" for name in names}

    def remember(self, path: str, owner: str) -> None:
        """Note that an earlier process of the run saved a file of `owner` there."""
        directory, _, name = path.rpartition("/")
        with suppress(OSError):
            status = os.stat(directory or "/")  # noqa: PTH116 - a path as text
            self._owners.setdefault((status.st_dev, status.st_ino, folded(name)), owner)

    @contextmanager
    def place(self, path: str, size: int | None, *, owner: str, overwrite: bool) -> Iterator[_File]:
        """Yield an empty file that becomes `path` when it is kept, and vanishes otherwise.

        Nothing that exists is replaced unless `overwrite`, and never a file that this run saved
        for another `owner`.

        Raises:
            FileNotSaved: it cannot be, for a reason on this machine.
        """
        directory, _, name = path.rpartition("/")
        with _explained(path):
            here = entered(directory or "/")
        try:
            with _explained(path):
                file = self._begun(here, name, path, size, owner=owner, overwrite=overwrite)
            self._open.append(file)
            try:
                yield file
            finally:
                self._open.remove(file)
                file.discard()
        finally:
            os.close(here)

    def expect(self, file: _File, size: int) -> None:
        """Make room for a file whose size was not known when it was placed, before it is written.

        Raises:
            FileNotSaved: there is none.
        """
        with _explained(file.path):
            self._require_room(file.here, file.device, size)
        file.expected = size

    def _begun(
        self, here: int, name: str, path: str, size: int | None, *, owner: str, overwrite: bool
    ) -> _File:
        if name in {"", ".", ".."} or "\0" in name:
            raise FileNotSaved(f"{name!r} cannot be the name of a file")
        status = os.fstat(here)
        place = (status.st_dev, status.st_ino, folded(name))
        holder = self._owners.get(place, owner)
        if holder != owner:
            raise FileNotSaved(f"exists: this run saved {holder} there")
        _require_free_name(here, name, size, overwrite=overwrite)
        self._require_room(here, status.st_dev, size or 0)
        file = _File(here, name, path, size or 0, status.st_dev, overwrite, self._apart)
        self._owners[place] = owner
        return file

    def _require_room(self, here: int, device: int, size: int) -> None:
        """Check that the file fits beside those that are being written, and the reserve."""
        disk = os.fstatvfs(here)
        free = disk.f_bavail * disk.f_frsize
        promised = sum(file.missing for file in self._open if file.device == device)
        if free - promised - size < self._reserve:
            raise FileNotSaved(
                f"no room: {size} bytes are needed, {max(0, free - promised)} are free, and "
                f"{self._reserve} stay so"
            )

    async def _apart(self, work: Callable[[], SavedFile]) -> SavedFile:
        """Do something slow beside the loop."""
        if self._inline:
            return work()
        return await anyio.to_thread.run_sync(work)


@dataclass(eq=False)
class _File:
    """One file while it is written; implements `ports.StoredFile`."""

    here: int
    name: str
    path: str
    expected: int
    device: int
    overwrite: bool
    apart: Callable[[Callable[[], SavedFile]], Awaitable[SavedFile]]
    size: int = 0

    def __post_init__(self) -> None:
        self._part = self.name + PART
        self._hash = hashlib.sha256()
        self._descriptor = _begin_part(self.here, self._part)
        self._kept = False

    @property
    def missing(self) -> int:
        """Bytes that are still to come, by the size in the listing."""
        return max(0, self.expected - self.size)

    def take(self, piece: bytes) -> None:
        """Write one more piece; nothing of it is kept in memory.

        Raises:
            FileNotSaved: it cannot be written.
        """
        with _explained(self.path):
            left = memoryview(piece)
            while left:
                left = left[os.write(self._descriptor, left) :]
        self._hash.update(piece)
        self.size += len(piece)

    def restart(self) -> None:
        """Forget everything that was written so far."""
        with _explained(self.path):
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self.size = 0

    async def keep(self) -> SavedFile:
        """Bring the file to the disk and give it its name.

        Raises:
            FileNotSaved: it cannot be, or another file has the name by now.
        """
        with anyio.CancelScope(shield=True):  # a thread uses the descriptors until it is done
            return await self.apart(self._finished)
        raise AssertionError  # a shielded scope swallows nothing

    def _finished(self) -> SavedFile:
        with _explained(self.path):
            os.fsync(self._descriptor)
            was_there = not self._named()
            if was_there and not self._is_the_same():
                raise FileNotSaved("exists, with other content, and is not replaced")
            self._kept = not was_there
            _remove(self.here, self._part)
            os.fsync(self.here)
        return SavedFile(size=self.size, sha256=self._hash.hexdigest(), was_there=was_there)

    def _named(self) -> bool:
        """Give the part its name; False if something has that name already."""
        if self.overwrite:
            os.rename(self._part, self.name, src_dir_fd=self.here, dst_dir_fd=self.here)
            return True
        try:
            os.link(
                self._part,
                self.name,
                src_dir_fd=self.here,
                dst_dir_fd=self.here,
                follow_symlinks=False,
            )
        except FileExistsError:
            return False
        except OSError as exc:
            if exc.errno not in _NO_LINKS:
                raise
            return self._named_without_links()
        return True

    def _named_without_links(self) -> bool:
        """Take the name with an empty file of our own, then replace that: disks without links."""
        try:
            own = os.open(
                self.name,
                os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC,
                0o600,
                dir_fd=self.here,
            )
        except FileExistsError:
            return False
        os.close(own)
        os.rename(self._part, self.name, src_dir_fd=self.here, dst_dir_fd=self.here)
        return True

    def _is_the_same(self) -> bool:
        """Tell whether the file that has the name holds exactly these bytes."""
        other = os.open(
            self.name,
            os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
            dir_fd=self.here,
        )
        with os.fdopen(other, "rb", buffering=0) as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size != self.size:
                return False
            digest = hashlib.sha256()
            while piece := opened.read(PIECE):
                digest.update(piece)
        return digest.digest() == self._hash.digest()

    def discard(self) -> None:
        """Close the file, and remove its part unless it was kept."""
        os.close(self._descriptor)
        if not self._kept:
            _remove(self.here, self._part)


def _begin_part(here: int, part: str) -> int:
    """Return a descriptor of a new, empty file; one that an earlier attempt left is removed."""
    _remove_stale(here, part)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(part, flags, 0o600, dir_fd=here)
    try:
        os.fchmod(descriptor, 0o600)
        with suppress(OSError):  # a disk without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        _remove(here, part)
        raise
    return descriptor


def _remove_stale(here: int, part: str) -> None:
    try:
        status = os.stat(part, dir_fd=here, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise FileNotSaved(f"{part!r} exists and is no file of ours")
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(part, flags, dir_fd=here)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileNotSaved(f"another process is writing {part!r}") from None
    except OSError:  # a disk without locks
        pass
    finally:
        os.close(descriptor)
    _remove(here, part)


def _require_free_name(here: int, name: str, size: int | None, *, overwrite: bool) -> None:
    """Check, before a server is asked, that the name is free or may be replaced."""
    try:
        status = os.stat(name, dir_fd=here, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no regular file"
        raise FileNotSaved(f"exists and is {kind}")
    if not overwrite and size is not None and status.st_size != size:
        raise FileNotSaved("exists, with other content, and is not replaced")


def _remove(here: int, name: str) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=here)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Raise what the system refuses as a reason for this file, and nothing beyond it."""
    try:
        yield
    except FileNotSaved as exc:
        raise FileNotSaved(f"{path}: {exc}") from None
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise FileNotSaved(f"{path}: {why or type(exc).__name__}") from exc
