"""Which files a guest needs so that the checks and downloads of a plan find what they want."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from orchestrator.core.model import OsKind
from orchestrator.core.proof import BaselineCheck, Check, CheckSets, DirCheck, Download, PathCheck
from orchestrator.plan.file.guest_paths import base_name, os_of
from orchestrator.simulator.rehearsal.examples import first_names, line_like
from orchestrator.simulator.rehearsal.stock import StockFile, StockMachine

USUAL_BYTES = 4096
USUAL_COUNT = 2
USUAL_ROOTS = ("Volume$0:", "C:", "E:")
FOLDER = StockFile(size=None)


def placed(path: str) -> str:
    """Return where a plan's guest path is in the tree of a simulated guest."""
    if path.startswith("/"):
        return f"root{path}".rstrip("/")
    return re.sub(r"[\\/]+", "/", path).rstrip("/")


def add_files(
    machine: StockMachine, checks: Iterable[Check], downloads: Iterable[Download], sets: CheckSets
) -> list[str]:
    """Give a machine the files that these checks and downloads look for; return what cannot be.

    `sets` are all checks of the plan: a file whose hash is wanted is the same everywhere.
    """
    system = OsKind(machine.os)
    asked = [each for each in checks if _is_of(each, system)]
    copied = [each for each in downloads if os_of(each.path) is system]
    _add_roots(machine, [_path_of(each) for each in asked] + [each.path for each in copied])
    notes: list[str] = []
    for directory in [each for each in asked if isinstance(each, BaselineCheck)]:
        _add_some(machine, directory.baseline, "*", USUAL_COUNT, None)
    for listed in [each for each in asked if isinstance(each, DirCheck)]:
        notes += _add_directory(machine, listed)
    for each in copied:
        _add_download(machine, each)
    by_path: dict[str, list[PathCheck]] = {}
    for path_check in [each for each in asked if isinstance(each, PathCheck)]:
        by_path.setdefault(placed(path_check.path), []).append(path_check)
    for place, wanted in by_path.items():
        if not base_name(wanted[0].path):
            continue  # a volume, which is there
        if any(each.sha256 for each in wanted):
            wanted = list(of_path(sets, place))
        file, problems = file_for(wanted)
        machine.files[place] = file
        notes += [f"{wanted[0].path}: {each}" for each in problems]
    return notes


def _is_of(check: Check, system: OsKind) -> bool:
    path = _path_of(check)
    return path is not None and os_of(path) is system


def _path_of(check: Check) -> str | None:
    path: str | None = getattr(check, check.kind, None) if check.kind != "exec" else None
    return path


def _add_roots(machine: StockMachine, paths: Iterable[str | None]) -> None:
    if machine.os != OsKind.WINDOWS:
        return
    roots = list(machine.roots or USUAL_ROOTS)
    known = {root.casefold() for root in roots}
    for path in paths:
        root = placed(path or "C:").partition("/")[0]
        if root.casefold() not in known:
            known.add(root.casefold())
            roots.append(root)
    machine.roots = tuple(roots)


def _add_directory(machine: StockMachine, check: DirCheck) -> Iterator[str]:
    """Give a directory what a check wants to find in it, and nothing else where it counts."""
    place = placed(check.dir)
    if "/" in place and check.max_count is not None and place not in machine.cleared:
        machine.cleared.append(place)
    least = check.min_count or 0
    count = least if check.max_count is not None else max(least, USUAL_COUNT)
    if check.modified_within is not None or check.glob != "*":
        count = max(1, count)
    age = None if check.modified_within is None else check.modified_within / 2
    made = _add_some(machine, check.dir, check.glob, count, age)
    if made < least:
        yield f"{check.dir}: {least} names that match {check.glob!r}"
    for name in (path.rpartition("/")[2] for path in machine.files if path.startswith(f"{place}/")):
        if any(fnmatchcase(name, glob) for glob in check.absent):
            yield f"{check.dir}: both {name!r} and its absence"


def _add_some(
    machine: StockMachine, directory: str, glob: str, count: int, age_s: float | None
) -> int:
    place = placed(directory)
    if "/" in place:
        machine.files.setdefault(place, FOLDER)
    pattern = "rehearsed-*.dat" if glob == "*" else glob
    names = first_names(pattern, count)
    for name in names:
        machine.files.setdefault(f"{place}/{name}", StockFile(size=USUAL_BYTES, age_s=age_s))
    return len(names)


def _add_download(machine: StockMachine, download: Download) -> None:
    if download.glob is not None:
        _add_some(machine, download.path, download.glob, min(USUAL_COUNT, download.max_files), None)
    elif base_name(download.path):
        size = min(USUAL_BYTES, download.max_size)
        machine.files.setdefault(placed(download.path), StockFile(size=size))


# --- one file ----------------------------------------------------------------------------------


def of_path(sets: CheckSets, place: str) -> Iterator[PathCheck]:
    """Yield all checks of a plan that look at one path."""
    for checks in sets.values():
        for check in checks:
            if isinstance(check, PathCheck) and placed(check.path) == place:
                yield check


def file_for(checks: list[PathCheck]) -> tuple[StockFile, list[str]]:
    """Return the file that passes the checks of one path, its hash apart, and what it cannot."""
    least = max((each.min_size or 0 for each in checks), default=0)
    most = min((each.max_size for each in checks if each.max_size is not None), default=None)
    size = least or (USUAL_BYTES if most is None else min(USUAL_BYTES, most))
    ages = [each.modified_within for each in checks if each.modified_within is not None]
    owner = next((each.owner for each in checks if each.owner is not None), None)
    magics = {each.magic for each in checks if each.magic}
    magic = bytes.fromhex(max(magics, key=len)) if magics else b""
    problems: list[str] = []
    lines: list[str] = []
    for each in checks:
        if each.contains:
            lines.append(each.contains)
        if each.matches:
            line = line_like(each.matches)
            if line is None:
                problems.append(f"content that matches {each.matches!r}")
            else:
                lines.append(line)
    content: bytes | None = None
    if lines or any(each.sha256 for each in checks):
        content = magic + b"\n".join([b"" if magic else b"rehearsed", *(x.encode() for x in lines)])
        content = (content + b"\n").ljust(least, b" ")
        size = len(content)
    if any(bytes.fromhex(each) != magic[: len(each) // 2] for each in magics):
        problems.append("different first bytes at once")
    if most is not None and size > most:
        problems.append("a file that is large and small enough")
    age = min(ages) / 2 if ages else None
    file = StockFile(size=size, content=content, magic=magic, owner=owner, age_s=age)
    return file, problems


def stand_in_hash(sets: CheckSets, place: str) -> str:
    """Return the SHA-256 of what rehearsed guests have at a place for which a hash is wanted."""
    file, _problems = file_for(list(of_path(sets, place)))
    return hashlib.sha256(file.content or b"").hexdigest()
