"""`objectives.regression`: a run that takes longer than the last whole runs of its plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.drill import Drill, Site, drill

pytestmark = pytest.mark.anyio


async def test_a_slow_run_misses_the_objective_once_there_is_something_to_compare_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first three are not judged, nor is a narrowed run; the slow one ends with 1."""

    async def run(history: int, mount_s: float, *only: str) -> Drill:
        site = Site("hq", machines=4, limit=2, mount_s=mount_s)
        extra, choices = "objectives: {regression: 50%}\n", {"only": only}
        return await drill(
            tmp_path, monkeypatch, [site], extra=extra, history=history, choices=choices
        )

    early = [await run(history, 60.0) for history in (1, 2, 3)]
    usual = await run(4, 70.0)
    narrowed = await run(5, 600.0, "*-vm-0000")
    slow = await run(6, 200.0)
    again = await run(7, 200.0)

    assert [each.outcome.code for each in early] == [0, 0, 0]
    assert not any(each.report["objectives"] for each in (*early, narrowed))
    why = "Whether the run took longer than usual was not judged: "
    assert f"{why}there are 2 earlier whole runs, and it takes 3." in early[2].report["not_proven"]
    assert f"{why}the run was narrowed." in narrowed.report["not_proven"]
    (met,), (missed,) = usual.report["objectives"], slow.report["objectives"]
    assert (met["scope"], met["kind"], met["met"], met["runs"]) == ("run", "regression", True, 3)
    assert (missed["met"], missed["runs"]) == (False, 4)
    assert missed["target_s"] == pytest.approx(1.5 * missed["median_s"], abs=0.01)
    assert missed["actual_s"] > missed["target_s"]
    assert (usual.outcome.code, slow.outcome.code) == (0, 1)
    assert slow.report["run"]["reasons"] == ["1 objective missed"]
    (still,) = again.report["objectives"]
    assert (still["runs"], again.outcome.code) == (5, 1)  # the slow run counts from then on
