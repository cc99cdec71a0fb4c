"""What is copied out of a guest, or back into it, and the paths on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.core.model import MountKey, OsKind
from orchestrator.core.proof import Download
from orchestrator.plan.file.document import Block, Items
from orchestrator.plan.file.guest_paths import base_name, os_of, quoted
from orchestrator.plan.file.problems import Position, Problems
from orchestrator.plan.file.quantities import shown
from orchestrator.plan.file.scalars import absolute_path
from orchestrator.plan.file.schema import DownloadFile
from orchestrator.plan.file.settings import Entry


class Downloads(Struct, frozen=True, kw_only=True):
    """What a target copies, with the position of each and of its guest path in the plan."""

    wanted: tuple[Download, ...] = ()
    places: tuple[Position, ...] = ()
    paths: tuple[Position, ...] = ()

    def require_fitting(self, os_kind: OsKind | None, target: str, problems: Problems) -> None:
        """See that a guest of the target can have the paths; each is noted once.

        None: the plan leaves its system open.
        """
        if os_kind is None:
            return
        for download, position in zip(self.wanted, self.paths, strict=True):
            if os_of(download.path) is not os_kind:
                problems.add_new(
                    position,
                    f"{quoted(download.path)} is a path of {os_of(download.path)}, but {target} "
                    f"is {os_kind}: correct its 'os' or the path",
                )


def resolve_downloads(
    files: Sequence[DownloadFile] | None,
    node: object,
    problems: Problems,
    *,
    base: Path,
    may_write: bool,
    several: bool,
) -> Downloads:
    """Return what a target copies, after noting everything that is wrong with it.

    Relative local paths start at `base`. `several` says that the target may mean several
    machines, `may_write` that the plan's mode allows to write into guests.
    """
    if not files or not isinstance(node, Items):
        return Downloads()
    wanted, places, paths = [], [], []
    for file, item in zip(files, node, strict=True):
        wrong = _contradiction(file, item, may_write=may_write, several=several)
        if wrong is not None:
            problems.add(*wrong)
            continue
        wanted.append(_download(file, base))
        places.append(item["write" if file.to is None else "to"].position)
        paths.append(item["path"].position)
    return Downloads(wanted=tuple(wanted), places=tuple(places), paths=tuple(paths))


def _contradiction(
    file: DownloadFile, node: Block, *, may_write: bool, several: bool
) -> tuple[Position, str] | None:
    """Return which keys of one download do not hold together and why, or None."""
    if file.to is None and file.write is None:
        return node.position, "say where the files go: 'to: PATH' (or 'write: original')"
    if file.to is not None and file.write is not None:
        second = max(node.key("to").position, node.key("write").position)
        return second, "'to' and 'write' exclude each other: write two entries"
    if file.write is not None and not may_write:
        at = node.key("write").position
        return at, "drill mode cannot write into a guest: that needs 'mode: recovery'"
    if file.glob is None and not base_name(file.path):
        whole = f"{quoted(file.path)} is a whole volume: choose its files with 'glob'"
        return node["path"].position, whole
    if file.to is not None and several and not file.to.endswith("/"):
        return (
            node["to"].position,
            "this target may stand for several mounts, so 'to' is a directory: "
            f"write {shown(file.to + '/')}",
        )
    return None


def _download(file: DownloadFile, base: Path) -> Download:
    values = file.values()
    values.pop("write", None)
    to = values.pop("to", None)
    if to is not None:
        # A directory, as any place for several files is, ends in `/`.
        is_directory = to.endswith("/") or file.glob is not None
        to = absolute_path(to, base)
        to += "/" if is_directory and not to.endswith("/") else ""
    return Download(to=to, **values)


def downloads_of(entry: Entry, key: MountKey) -> tuple[Download, ...]:
    """Return what one target of an entry copies, and where to.

    Where the entry may mean several machines, each has a directory of its own, named by
    what follows wave and server in its key: no two machines write the same file.
    """
    if not entry.several:
        return entry.downloads
    own = directory_name(key.split("/", 2)[-1])
    return tuple(
        each if each.to is None else replace(each, to=f"{each.to}{own}/")
        for each in entry.downloads
    )


def directory_name(name: str) -> str:
    """Return a machine's name as one directory's: what might lead elsewhere is written as %XX."""
    # The key may hold what a server calls a machine.
    safe = quote(name, safe=" @()+=,")
    return safe.replace(".", "%2E") if set(safe) == {"."} else safe
