"""What a plan says of a guest's system: one of the two, or `auto`."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.core.model import ASSUMED_OS, OsKind, OsSource


class OsChoice(NamedTuple):
    """What a plan says of a guest's system: as which it is mounted first, and how that is known."""

    kind: OsKind
    source: OsSource

    @property
    def fixed(self) -> OsKind | None:
        """The system, or None where the plan leaves it open."""
        return self.kind if self.source is OsSource.PLAN else None


OPEN_OS = OsChoice(ASSUMED_OS, OsSource.ASSUMED)
"""`os: auto`, and what holds where a plan says nothing."""
