"""The CSV behind `from_file`: one machine a row, problems named by file and row."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from orchestrator.plan.file import quantities, scalars
from orchestrator.plan.file.named_files import ON_DISK, NamedFiles
from orchestrator.plan.file.os_choice import OsChoice
from orchestrator.plan.file.problems import START, Position, Problems, SourceText, did_you_mean
from orchestrator.plan.file.quantities import shown

T = TypeVar("T")

COLUMNS = ("vm", "server", "os", "before", "label", "checks")


class Row(Struct, frozen=True, kw_only=True):
    """One machine of an inventory file; None where its cell is empty or not there.

    `checks` are names of check sets, without doubles.
    """

    position: Position
    vm: str
    server: str | None = None
    os: OsChoice | None = None
    before: datetime | None = None
    label: str | None = None
    checks: tuple[str, ...] | None = None
    checks_position: Position = START


class InventoryFile(Struct, frozen=True, kw_only=True):
    """The rows of an inventory file, what is wrong with it, and the hash of its bytes."""

    name: str
    rows: tuple[Row, ...]
    problems: Problems
    sha256: str


def read_inventory(path: Path, name: str, files: NamedFiles = ON_DISK) -> InventoryFile:
    """Return what the CSV file at `path` lists; `name` is what messages call it.

    Raises:
        ValueError: it cannot be read at all; the text says why.
    """
    data = files.read(path)
    problems = Problems(SourceText(name, data))
    rows = tuple(_rows(data, problems))
    return InventoryFile(name=name, rows=rows, problems=problems, sha256=sha256(data).hexdigest())


def _rows(data: bytes, problems: Problems) -> list[Row]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        problems.add(Position(line, 1), "not valid UTF-8: save the file as CSV UTF-8")
        return []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    header: list[str] | None = None
    started = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if header is None:
                    header = _header(cells, Position(started, 1), problems)
                else:
                    rows.extend(_row(cells, header, started, problems))
            started = reader.line_num + 1
    except csv.Error as exc:
        problems.add(Position(started, 1), f"not valid CSV: {exc}")
        return rows
    if header is None:
        problems.add(START, "the file is empty: its first line names the columns")
    elif not rows and not problems:
        problems.add(START, "the file lists no machine")
    return rows


def _header(cells: list[str], position: Position, problems: Problems) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(names) == 1 and ";" in names[0]:
        problems.add(position, "columns are separated by ',' here, not ';'")
        return ["vm"]
    for index, name in enumerate(names):
        place = Position(position.line, _column(cells, index))
        if name not in COLUMNS:
            advice = did_you_mean(name, COLUMNS, noun="columns")
            problems.add(place, f"unknown column {shown(name)}: {advice}")
        elif name in names[:index]:
            problems.add(place, f"the column {shown(name)} is there twice: keep one")
    if "vm" not in names:
        problems.add(position, "there is no column 'vm': the first line names the columns")
    return names


class _Cells(Struct):
    """One row's cells by the name of their column."""

    cells: Sequence[str]
    header: Sequence[str]
    line: int
    problems: Problems
    good: bool = True

    def at(self, column: str) -> Position:
        """Return the position of a cell."""
        return Position(self.line, _column(self.cells, self.header.index(column)))

    def text(self, column: str) -> str | None:
        """Return a cell's text, or None where it is empty or not there."""
        if column not in self.header or self.header.index(column) >= len(self.cells):
            return None
        return self.cells[self.header.index(column)].strip() or None

    def read(self, column: str, parse: Callable[[str], T]) -> T | None:
        """Return a cell read by `parse`, or None where it is empty or was refused."""
        text = self.text(column)
        if text is None:
            return None
        try:
            return parse(text)
        except ValueError as exc:
            self.refuse(self.at(column), str(exc))
            return None

    def refuse(self, position: Position, message: str) -> None:
        """Note that the row cannot be used."""
        self.good = False
        self.problems.add(position, message)


def _row(cells: list[str], header: Sequence[str], line: int, problems: Problems) -> list[Row]:
    """Return the row's machine, or nothing after its problems were noted."""
    row = _Cells(cells, header, line, problems)
    if len(cells) > len(header):
        row.refuse(
            Position(line, _column(cells, len(header))),
            f"{len(cells)} cells under {len(header)} columns: put texts with commas in quotes",
        )
        return []
    position = Position(line, 1)
    vm = row.read("vm", scalars.line)
    machine = Row(
        position=position,
        vm=vm or "",
        server=row.text("server"),
        os=row.read("os", _os),
        before=row.read("before", quantities.instant),
        label=row.read("label", scalars.line),
        checks=(checks := row.read("checks", _names)),
        checks_position=row.at("checks") if checks is not None else position,
    )
    if vm is None and row.good and "vm" in header:
        row.refuse(position, "this row names no vm")
    return [machine] if vm is not None and row.good else []


def _os(text: str) -> OsChoice:
    return scalars.word(text, scalars.OS_CHOICES, "operating systems")


def _names(text: str) -> tuple[str, ...]:
    """Return the names in a cell, separated by spaces or `;`."""
    names = text.replace(";", " ").split()
    if not names:
        raise ValueError(f"{shown(text)} holds no name of a check set: leave the cell empty")
    return tuple(dict.fromkeys(names))


def _column(cells: Sequence[str], index: int) -> int:
    """Return the column at which cell `index` starts, as long as nothing is quoted before it."""
    before = cells[:index]
    if any('"' in cell or "," in cell or "\n" in cell for cell in before):
        return 1
    return sum(len(cell) + 1 for cell in before) + 1
