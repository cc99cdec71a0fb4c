"""The closing audit when somebody wants the run to end at once."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from orchestrator.engine.run import Run
from orchestrator.simulator.faults import Fault
from tests.scenarios.drill import Site, drill
from tests.virtual.sites import Sites

pytestmark = pytest.mark.anyio


async def test_all_strays_are_named_although_there_is_no_time_to_remove_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several at once: the second signal comes while the first of them is being removed."""
    denied = Fault(kind="answer_after", method="POST", path="/mounts$", status=429, body="service")
    stuck = Fault(kind="answer", method="DELETE", path="/mounts/", status=503)

    async def stopped_twice(_sites: Sites, run: Run) -> None:
        await anyio.sleep(24.0)
        run.stop("SIGINT")
        await anyio.sleep(30.0)
        run.stop("SIGTERM")

    done = await drill(
        tmp_path,
        monkeypatch,
        [Site(machines=3, mount_s=5.0, faults=[denied, stuck])],
        meanwhile=stopped_twice,
    )

    assert len(done.truth.still_open()) >= 3
    assert done.report["totals"]["left"] == len(done.truth.still_open())
    assert done.outcome.code == 3
