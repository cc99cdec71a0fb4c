"""What a plan says of content reaches the engine, in a first process and in one that goes on."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from orchestrator.core.proof import CheckSets, ExecCheck, PathCheck
from orchestrator.engine.run import Run
from tests.scenarios.drill import Site, staged

pytestmark = pytest.mark.anyio

SETS = "checks: {a: [{path: /a}, {exec: [judge]}]}\n"


async def test_check_sets_are_told_to_a_run_and_to_its_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come from the journal's first record, so a resume judges by the same."""
    told: list[CheckSets] = []

    def stop_soon(run: Run) -> None:
        told.append(run.shard.context.check_sets)

        async def soon() -> None:
            await anyio.sleep(30)
            run.stop("SIGTERM")

        tasks.start_soon(soon)

    async with staged(tmp_path, monkeypatch, [Site(machines=3, limit=1)], extra=SETS) as stage:
        async with anyio.create_task_group() as tasks:
            first = await stage.run(on_run=stop_soon)
        await stage.resume(on_run=lambda run: told.append(run.shard.context.check_sets))

    assert sorted(first.results().values()) == ["cancelled", "cancelled", "mounted"]
    assert told == [{"a": (PathCheck(path="/a"), ExecCheck(argv=("judge",)))}] * 2
