"""Guests for tests: whole files and listings, files that were encrypted, names that go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from orchestrator.simulator.files import GuestFile
from orchestrator.simulator.guests import GuestEntry, entries, pieces, roots, tree
from orchestrator.simulator.inventory import Machine, Point

LOCKED_MAGIC = b"\x00LOCKED\x00"
RANSOM_NOTE = "HOW_TO_RECOVER.txt"


def listing(point: Point, path: str) -> list[GuestEntry] | None:
    """Return all entries of a directory, or None if there is no such directory."""
    found = entries(point, path)
    return None if found is None else list(found)


def read(point: Point, path: str) -> bytes:
    """Return all bytes of a file of a point, as a download gives them."""
    return b"".join(pieces(point, path))


def encrypted_from(
    machine: Machine,
    when: datetime,
    *,
    below: Sequence[str] | None = None,
    suffix: str = ".locked",
) -> list[Point]:
    """Encrypt the files of every point made at `when` or later; returns these points.

    Every file `below` (the data volume by default) has other content that begins with
    LOCKED_MAGIC, another time and `suffix` at its name (no suffix leaves the name as it was);
    beside them lies a ransom note.
    """
    usual = ("E:",) if machine.os == "Windows" else (f"{roots(machine)[0].strip('/')}/srv",)
    points = [point for point in machine.points if point.created_at >= when]
    for point in points:
        before = tree(point)
        places = tuple(f"{before.key(place)}/" for place in below or usual)
        changes: dict[str, GuestFile | None] = {}
        for path, file in before.files():
            if not before.key(path).startswith(places):
                continue
            if suffix:
                changes[path] = None
            changes[path + suffix] = replace(
                file, content=None, magic=LOCKED_MAGIC, steady=False, modified_at=when
            )
            note = GuestFile(content=b"Your files are encrypted.\r\n", modified_at=when)
            changes[f"{path.rpartition('/')[0]}/{RANSOM_NOTE}"] = note
        point.changes.update(changes)
    return points


def many(
    directory: str, count: int, *, size: int = 1000, name: str = "{:06}.dat"
) -> dict[str, GuestFile | None]:
    """Return `count` files for a directory of several pages."""
    return {f"{directory}/{name.format(number)}": GuestFile(size=size) for number in range(count)}


def awkward_names(directory: str, *, linux: bool) -> dict[str, GuestFile | None]:
    """Return files whose names go wrong in URLs, in XML or on somebody's disk."""
    names = list(AWKWARD_NAMES) + (list(AWKWARD_LINUX_NAMES) if linux else [])
    return {
        f"{directory}/{name}": GuestFile(content=f"content of number {place}\n".encode())
        for place, name in enumerate(names)
    }


AWKWARD_NAMES = (
    "two words.txt",
    "100%.txt",
    "%41%2F%2e%2e.txt",
    "a#b.txt",
    "a&b;c=d.txt",
    "a+b,c@d!$'(e).txt",
    "[draft] {1}.txt",
    "b\u00fcro-nfc.txt",
    "bu\u0308ro-nfd.txt",
    "\u65e5\u672c\u8a9e \U0001f4be.txt",
    "\u202etxt.exe",
    "a..b.txt",
    "...txt",
    "-rf",
    "~",
    "CON",
    "nul.txt",
    "COM1.log",
    "trailing dot.",
    "trailing space ",
    " leading space",
    "n" * 251 + ".txt",
)
"""Names that a Windows guest can hold as well (some of them made on another system)."""
AWKWARD_LINUX_NAMES = (
    "why?.txt",
    'the "old".txt',
    "back\\slash.txt",
    "colon: star*.txt",
    "Same.txt",
    "same.txt",
    "new\nline.txt",
    "tab\there.txt",
)
