"""Checks, copied files and other restore points of a run, counted along."""

from __future__ import annotations

from orchestrator.core import events
from orchestrator.core.events import TargetEvent
from orchestrator.core.proof import Fate
from orchestrator.core.text import counted


class ContentCounts:
    """Checks, copied files and other restore points, counted."""

    def __init__(self) -> None:
        """Before the first of them."""
        self.checks = 0
        self.checks_failed = 0
        self.files = 0
        """Files that were copied, wherever to."""
        self.files_failed = 0
        self.fallbacks = 0
        """How often another restore point was taken up."""

    def count(self, event: TargetEvent) -> None:
        """Count one more."""
        match event:
            case events.CheckMade(outcome=check):
                self.checks += 1
                self.checks_failed += not check.passed
            case events.FileCopied(outcome=file) if file.fate in {Fate.SAVED, Fate.RESTORED}:
                self.files += 1
            case events.FileCopied(outcome=file):
                self.files_failed += file.fate is Fate.FAILED
            case events.PointChosen():
                self.fallbacks += 1
            case _:
                pass

    def parts(self) -> list[str]:
        """Return the counts above zero, as parts of a line."""
        parts = []
        if self.checks:
            failed = f" ({self.checks_failed} failed)" if self.checks_failed else ""
            parts.append(f"{counted(self.checks, 'check')}{failed}")
        if self.files or self.files_failed:
            failed = f" ({self.files_failed} not)" if self.files_failed else ""
            parts.append(f"{counted(self.files, 'file')} copied{failed}")
        if self.fallbacks:
            parts.append(f"{counted(self.fallbacks, 'other point')} tried")
        return parts
