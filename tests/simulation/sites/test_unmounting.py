"""What a run over several machines has left is unmounted when somebody asks for it."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.sites import Ask
from tests.scenarios.drill import Site
from tests.simulation.sites.judging import judged
from tests.simulation.sites.processes import run_processes
from tests.simulation.sites.stage import RUN, staged
from tests.simulation.sites.test_first_stories import no_errors


@pytest.mark.parametrize("dies", [True, False])
def test_what_a_stop_at_once_has_left_is_unmounted_in_order(dies: bool) -> None:
    """The stop was about the run as it went; who unmounts later takes the time that it needs."""

    async def story() -> tuple[dict[str, Any], int, int]:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, [Site("hq", machines=4, limit=4, mount_s=40.0)]) as stage:
                truth = stage.sites.truth
                first = stage.begin("first", "main")
                await stage.until(lambda: len(truth.mounts) == 4)
                if dies:
                    stage.kill(first)
                await stage.visitor.ask(RUN, Ask.STOP_NOW, {})
                stage.begin("second", "main")
                await stage.over()
                left = len(truth.still_open())
                await stage.visitor.ask(RUN, Ask.UNMOUNT, {})
                stage.begin("third", "main")
                await stage.over()
                return judged(stage), left, len(truth.still_open())

    report, left, at_last = run_processes(story)

    assert left == 4
    assert at_last == 0
    assert {target["mount"] for target in report["targets"]} <= {"released", "none"}
    assert not report["strays"]
