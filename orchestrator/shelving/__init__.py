"""Writing a guest's files on this machine's disk, where nothing of them can do harm.

A guest may be hostile: its names are made safe (`naming`), its directories are entered only
below the place that the plan names and never through a link that somebody else could have
planted (`descent`), and a file appears under its name only when all of it is on the disk
(`shelf`): until then it is `NAME.part`.
"""

from __future__ import annotations

from orchestrator.shelving.shelf import DiskShelf

__all__ = ["DiskShelf"]
