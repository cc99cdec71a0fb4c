"""What follows from a target whose end nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.drill import Drill, Site, drill

pytestmark = pytest.mark.anyio

STUCK = Site("hq", machines=2, limit=2, mount_s=50_000.0)
WELL = Site("dr", machines=1)
SHORT = "defaults: {timeouts: {mount: 60s}}\n"


async def in_waves(first: str, extra: str, directory: Path, patch: pytest.MonkeyPatch) -> Drill:
    """Run a wave whose mounts never end, and one after it."""
    plan = (
        f"waves:\n  - {{name: first, {first}targets: [{{vm: hq-app0000, server: hq}},"
        " {vm: hq-sql0001, server: hq}]}\n"
        "  - {name: second, after: [first], targets: [{vm: dr-app0000, server: dr}]}\n"
    )
    return await drill(directory, patch, [STUCK, WELL], plan, extra=SHORT + extra)


async def test_a_wave_does_not_begin_after_one_that_ended_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can say that the first wave ended well."""
    done = await in_waves("on_error: skip_dependents, ", "", tmp_path, monkeypatch)

    assert done.results() == {
        "hq-app0000": "unknown",
        "hq-sql0001": "unknown",
        "dr-app0000": "skipped",
    }


async def test_unknown_spends_the_failure_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may have failed counts as failed."""
    done = await in_waves("", "limits: {failures: 1}\n", tmp_path, monkeypatch)

    assert done.results()["dr-app0000"] == "skipped"
    assert "2 targets failed; the plan allows 1" in str(done.report)
