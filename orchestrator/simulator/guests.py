"""The file systems of simulated guests: usual trees, a machine's own files, a point's damage.

Three layers, the later one wins: the tree that every Windows or Linux machine has, the
machine's `files`, and the point's `changes`. In both, None removes a path with all below it.
Windows paths are matched in any case, Linux paths exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from zlib import crc32

from orchestrator.simulator.files import FOLDER, GuestFile
from orchestrator.simulator.inventory import Machine, Point


@dataclass(frozen=True, slots=True)
class GuestEntry:
    """A file or directory of a guest as it is listed; `size` None for a directory."""

    path: str
    name: str
    size: int | None
    modified_at: datetime
    owner: str | None = None
    shown: str | None = None


class GuestTree:
    """Paths and what is there; directories above a path come by themselves."""

    def __init__(self, roots: Iterable[str], *, any_case: bool) -> None:
        """`any_case`: paths are matched like Windows does. The root `/` has the empty path."""
        self._any_case = any_case
        self._nodes: dict[str, tuple[str, GuestFile]] = {}
        self._below: dict[str, dict[str, None]] = {}
        for root in roots:
            path = root.strip("/")
            self._nodes[self.key(path)] = (path, FOLDER)
            self._below.setdefault(self.key(path), {})

    def key(self, path: str) -> str:
        """Return the form in which paths are compared."""
        stripped = path.strip("/")
        return stripped.casefold() if self._any_case else stripped

    def copy(self) -> GuestTree:
        """Return a tree that can be changed alone."""
        tree = GuestTree((), any_case=self._any_case)
        tree._nodes = dict(self._nodes)
        tree._below = {key: dict(below) for key, below in self._below.items()}
        return tree

    def change(self, changes: Mapping[str, GuestFile | None]) -> None:
        """Add and replace files, and remove those that are None."""
        for path, file in changes.items():
            if file is None:
                self._remove(self.key(path))
            else:
                self._add(path.strip("/"), file)

    def _add(self, path: str, file: GuestFile) -> None:
        key = self.key(path)
        known = key in self._nodes
        self._nodes[key] = (path, file)
        if file.is_directory:
            self._below.setdefault(key, {})
        above = path.rpartition("/")[0]
        if known or (not above and "" not in self._nodes):
            return
        if self.key(above) not in self._below:
            self._add(above, FOLDER)
        self._below[self.key(above)][key] = None

    def _remove(self, key: str) -> None:
        for gone in tuple(self._below.get(key, ())):
            self._remove(gone)
        self._below.pop(key, None)
        self._nodes.pop(key, None)
        self._below.get(key.rpartition("/")[0], {}).pop(key, None)

    def get(self, path: str) -> GuestFile | None:
        """Return what is at a path, or None."""
        node = self._nodes.get(self.key(path))
        return node[1] if node is not None else None

    def below(self, path: str) -> list[tuple[str, GuestFile]] | None:
        """Return names and files of a directory in their order; None if it is none."""
        keys = self._below.get(self.key(path))
        if keys is None:
            return None
        nodes = (self._nodes[key] for key in keys)
        return [(whole.rpartition("/")[2], file) for whole, file in nodes]

    def files(self) -> Iterator[tuple[str, GuestFile]]:
        """Yield path and file of everything that is no directory."""
        return ((path, file) for path, file in self._nodes.values() if not file.is_directory)


def roots(machine: Machine) -> tuple[str, ...]:
    """Return the volume roots of a mounted guest. [INFERRED] for Linux: no example is public."""
    return tuple(shown_volume(machine, root) for root in _own_roots(machine))


def shown_volume(machine: Machine, root: str) -> str:
    """Return what a mount calls a volume: of a letterless machine it has a random id.

    Source: reference 9; the form of the ids is ours, and as in the sample.
    """
    if not machine.letterless:
        return root
    return f"vol_{crc32(f'{machine.name}/{root}'.encode()):08x}"


def _own_roots(machine: Machine) -> tuple[str, ...]:
    if machine.roots is not None:
        return machine.roots
    return ("Volume$0:", "C:", "E:") if machine.os == "Windows" else ("root",)


def _shown(
    machine: Machine, files: Mapping[str, GuestFile | None]
) -> Mapping[str, GuestFile | None]:
    """Return files by the paths under which a mount shows them."""
    if not machine.letterless:
        return files
    own = {root.casefold(): shown_volume(machine, root) for root in _own_roots(machine)}
    parts = ((path.partition("/"), file) for path, file in files.items())
    return {
        f"{own.get(root.casefold(), root)}{slash}{below}": file
        for (root, slash, below), file in parts
    }


def tree(point: Point) -> GuestTree:
    """Return the point's files; made anew only when something was changed."""
    machine = point.machine
    usual = _usual(machine.os, roots(machine), _own_roots(machine))
    if not machine.files and not point.changes:
        return usual
    made_of = (roots(machine), dict(machine.files), dict(point.changes))
    if point.built is not None and point.built[0] == made_of:
        found: GuestTree = point.built[1]
        return found
    made = usual.copy()
    made.change(_shown(machine, machine.files))
    made.change(_shown(machine, point.changes))
    point.built = (made_of, made)
    return made


@cache
def _usual(os: str, roots: tuple[str, ...], own: tuple[str, ...]) -> GuestTree:
    """Return the tree of every machine; a Linux one hangs below the first root, `/` included.

    `own` are the names of the roots for the guest itself.
    """
    names = dict(zip(own, roots, strict=True))
    usual = GuestTree(roots, any_case=os == "Windows")
    if not roots:
        return usual
    for directory, children in (WINDOWS if os == "Windows" else LINUX).items():
        place = directory
        if os != "Windows":
            place = f"{roots[0].strip('/')}{directory.removeprefix('root')}".strip("/")
        else:
            root, slash, below = directory.partition("/")
            place = f"{names.get(root, root)}{slash}{below}"
        if usual.get("") is None and usual.get(place.partition("/")[0]) is None:
            continue
        usual.change({f"{place}/{name}": GuestFile(size=size) for name, size in children})
    return usual


def entries(point: Point, path: str, kind: str = "listall") -> Sequence[GuestEntry] | None:
    """Return a directory's entries, or None if there is no such directory.

    `kind` is listall, listdirs or listfiles. Entries are made when they are asked for, so that
    a page of a large directory costs a page.
    """
    rows = tree(point).below(path)
    if rows is None:
        return None
    numbered = [
        (place, name, file)
        for place, (name, file) in enumerate(rows)
        if kind == "listall" or file.is_directory is (kind == "listdirs")
    ]
    return _Entries(point, path.strip("/"), numbered)


class _Entries(Sequence[GuestEntry]):
    """A directory's entries, made on the spot."""

    def __init__(self, point: Point, path: str, rows: Sequence[tuple[int, str, GuestFile]]) -> None:
        self._point = point
        self._path = path
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which):  # type: ignore[no-untyped-def]  # int or slice
        if isinstance(which, slice):
            return [self._made(*row) for row in self._rows[which]]
        return self._made(*self._rows[which])

    def _made(self, place: int, name: str, file: GuestFile) -> GuestEntry:
        path = f"{self._path}/{name}".lstrip("/")
        return _entry(self._point, path, file, place)


def entry_at(point: Point, path: str) -> GuestEntry | None:
    """Return one file or directory, volume roots included, or None."""
    file = tree(point).get(path)
    if file is None:
        return None
    above, _, name = path.strip("/").rpartition("/")
    names = [known for known, _ in tree(point).below(above) or ()]
    key = tree(point).key
    place = next((place for place, known in enumerate(names) if key(known) == key(name)), 0)
    return _entry(point, path.strip("/"), file, place)


def _entry(point: Point, path: str, file: GuestFile, place: int) -> GuestEntry:
    usual = point.created_at - timedelta(hours=1, minutes=place)
    return GuestEntry(
        path,
        path.rpartition("/")[2],
        file.size,
        file.modified_at or usual,
        file.owner,
        file.shown,
    )


def pieces(point: Point, path: str) -> Iterator[bytes]:
    """Yield the bytes of a file of a point."""
    file = tree(point).get(path) or FOLDER
    key = tree(point).key(path)
    return file.pieces(key if file.steady else f"{point.id} {key}")


WINDOWS: dict[str, list[tuple[str, int | None]]] = {
    "Volume$0:": [("Boot", None), ("bootmgr", 413_738)],
    "Volume$0:/Boot": [("BCD", 32_768)],
    "C:": [("Program Files", None), ("Users", None), ("Windows", None), ("pagefile.sys", 2**33)],
    "C:/Users": [("Public", None)],
    "C:/Windows": [("System32", None), ("notepad.exe", 201_216)],
    "C:/Windows/System32": [("config", None), ("ntdll.dll", 2_031_888)],
    "C:/Windows/System32/config": [("SYSTEM", 15_728_640), ("SAM", 65_536), ("SOFTWARE", 2**26)],
    "E:": [("Data", None), ("Finance 2026", None), ("100% real", None)],
    "E:/Data": [(f"table-{number:04}.mdf", 1_048_576 * (number + 1)) for number in range(250)],
    "E:/Finance 2026": [("ledger & notes.xlsx", 48_213), ("desktop.ini", 174), ("Archive", None)],
    "E:/100% real": [("a#b?.txt", 12)],
}
LINUX: dict[str, list[tuple[str, int | None]]] = {
    "root": [("etc", None), ("srv", None), ("var", None)],
    "root/etc": [("nginx", None), ("hostname", 9), ("fstab", 412)],
    "root/etc/nginx": [("nginx.conf", 2_412)],
    "root/srv": [("www", None)],
    "root/srv/www": [("BUILD_ID", 40), ("index.html", 9_120)],
    "root/var": [("log", None)],
    "root/var/log": [(f"syslog.{number}", 1_000_000 + number) for number in range(120)],
}
