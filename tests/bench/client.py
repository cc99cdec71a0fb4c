"""`python -m tests.bench.client PLAN DIRECTORY [--no-journal]`: a run as the command does it.

With `--no-journal` nothing is written and nothing is waited for: what is left is what the
journal costs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from orchestrator.assembly import Choices
from orchestrator.conducting import conduct
from orchestrator.events import Event
from orchestrator.journal import state
from orchestrator.journal.writing import RunJournal
from orchestrator.plan.loading import load_plan


class _NoJournal(RunJournal):
    def append(self, event: Event) -> None:
        _ = event

    async def durable(self) -> None:
        return


async def _main(plan: Path, directory: Path) -> int:
    choices = Choices(state=directory / "state", report=directory / "report")
    return (await conduct(load_plan(plan), choices)).code


if __name__ == "__main__":
    if "--no-journal" in sys.argv:
        vars(state)["RunJournal"] = _NoJournal  # to measure what the real one costs
    sys.exit(anyio.run(_main, Path(sys.argv[1]), Path(sys.argv[2])))
