"""What may be open of a run: the one answer for status, lists, watch, reports and unmount."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.core.events import StrayFound
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import ServerName
from orchestrator.core.text import printable

DIED = "its process ended before the tasks of its session were read a last time"
"""Why nobody knows what is open in a session that no process has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOpen:
    """What may be open of a run: false if it is known that nothing is.

    `records` are targets whose mounts may be open, `strays` mounts of no target; `unaudited` are
    servers with a session in which a mount of no target may be open, unseen, and why.
    """

    records: tuple[MountRecord, ...] = ()
    strays: tuple[StrayFound, ...] = ()
    unaudited: Mapping[ServerName, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether anything may be open."""
        return bool(self.mounts or self.unaudited)

    @property
    def mounts(self) -> int:
        """Return how many known mounts may be open."""
        return len(self.records) + len(self.strays)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Return in words what is not known."""
        return tuple(
            f"whether a mount of no target is open on {name} is not known ({why})"
            for name, why in self.unaudited.items()
        )

    @property
    def strays_in_words(self) -> tuple[str, ...]:
        """Return where each mount of no target is, and why it was left."""
        return tuple(
            printable(
                f"a mount of no target: {stray.server}: {stray.mount or stray.task}"
                f"{f', restore point {stray.point}' if stray.point else ''}: {stray.reason}"
            )
            for stray in self.strays
        )

    def short(self) -> str:
        """Return it for the end of a line, with a comma before it; nothing if nothing is open."""
        parts = [f"{self.mounts} MAY BE MOUNTED"] if self.mounts else []
        if self.unaudited:
            names = ", ".join(printable(name) for name in self.unaudited)
            parts.append(f"mounts of no target MAY BE MOUNTED on {names}")
        return "".join(f", {part}" for part in parts)
