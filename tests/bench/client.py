"""`python -m tests.bench.client PLAN DIRECTORY [--no-journal] [--pages]`: a run as it is.

With `--no-journal` nothing is written and nothing is waited for: what is left is what the
journal costs. With `--pages` 200 pages look on, half of which never read.
"""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from pathlib import Path

import anyio

from orchestrator.__main__ import FEWER_COLLECTIONS
from orchestrator.app import outcome, runner
from orchestrator.app.wiring import Choices
from orchestrator.core.events import Event
from orchestrator.journal import state
from orchestrator.journal.writing import RunJournal
from orchestrator.plan.file.loading import load_plan


class _NoJournal(RunJournal):
    def append(self, event: Event) -> None:
        _ = event

    async def durable(self) -> None:
        return


class _Pages:
    """Opens pages as soon as the link is told."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def open(self, line: str) -> None:
        found = re.search(r":(\d+)/\?token=(\S+)", line)
        assert found, line
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.listeners", *found.groups(), "200"]
        )


async def _main(plan: Path, directory: Path) -> int:
    choices = Choices(state=directory / "state", report=directory / "report")
    background = []
    if "--pages" in sys.argv:
        from orchestrator.views.web.web_view import PageOptions, WebView

        background.append(WebView(page=PageOptions(), metrics_file=None, show_line=_Pages().open))
    return (await runner.run_plan(load_plan(plan), choices, background=background)).code


if __name__ == "__main__":
    gc.set_threshold(FEWER_COLLECTIONS)  # as the command does
    if "--no-journal" in sys.argv:
        vars(state)["RunJournal"] = _NoJournal  # to measure what the real one costs
        vars(outcome)["stage_evidence"] = lambda *_: None  # there are no records to keep
    sys.exit(anyio.run(_main, Path(sys.argv[1]), Path(sys.argv[2])))
