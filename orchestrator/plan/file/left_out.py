"""Whom an entry leaves out: the machines that `exclude` or `backup_server` took away."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from msgspec import Struct

from orchestrator.core.text import counted, printable

SHOWN = 20
"""Machines of one entry that are named, and entries that are shown; the others are counted."""


class LeftOut(Struct, frozen=True, kw_only=True):
    """The machines that one key of an entry leaves out; the first of them by name.

    `place` is where the entry is, `subject` what it selects, both for messages.
    """

    place: str
    subject: str
    by: str
    count: int
    machines: tuple[str, ...]

    def __str__(self) -> str:
        """Return a line that is safe to show."""
        named = ", ".join(printable(name, 80) for name in self.machines)
        more = self.count - len(self.machines)
        rest = f" and {more} more" if more else ""
        subject = printable(self.subject, 100)
        machines = counted(self.count, "machine")
        return f"{self.place}: {subject}: {self.by!r} leaves out {machines}: {named}{rest}"


def left_out_by(key: str, names: Collection[str], *, place: str, subject: str) -> Iterator[LeftOut]:
    """Yield who is left out by a key of an entry, or nothing if nobody is."""
    if names:
        first = tuple(sorted(names)[:SHOWN])
        yield LeftOut(place=place, subject=subject, by=key, count=len(names), machines=first)


def left_out_lines(entries: Iterable[LeftOut]) -> list[str]:
    """Return a line for each of the first entries, and one that counts the others."""
    entries = list(entries)
    rest = entries[SHOWN:]
    lines = [str(each) for each in entries[:SHOWN]]
    if rest:
        machines = counted(sum(each.count for each in rest), "machine")
        others = counted(len(rest), "other entry", "other entries")
        lines.append(f"{others} leave out {machines}" if len(rest) > 1 else str(rest[0]))
    return lines
