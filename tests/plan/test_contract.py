"""The plans of the contract with users, to the letter: each must load and mean what it says."""

from __future__ import annotations

from pathlib import Path

from orchestrator.core.model import Cause, Order, OsKind
from orchestrator.plan.file.loading import load_plan
from orchestrator.plan.file.selectors import SelectorKind

HERE = Path(__file__).parent / "contract"


def test_the_smallest_plan() -> None:
    """Three targets on one server, with every default."""
    plan = load_plan(HERE / "minimal.yaml").plan

    kinds = [(entry.kind, entry.value) for entry in plan.entries()]
    assert kinds == [
        (SelectorKind.VM, "dc01"),
        (SelectorKind.VM, "sql01"),
        (SelectorKind.JOB, "Web Replication"),
    ]


def test_the_complete_plan() -> None:
    """All keys of the contract are known; what is hardly meant is told and refuses nothing."""
    loaded = load_plan(HERE / "complete.yaml")

    plan = loaded.plan
    entries = {entry.value: entry for entry in plan.entries()}
    sql = entries["sql01"]
    assert [wave.name for wave in plan.waves] == ["directory", "databases", "web", "branches"]
    assert sql.checks == ("boot-volume", "sql-data")
    assert [each.max_size for each in sql.downloads] == [500 * 1024**2]
    assert entries["api-*"].os_kind is OsKind.LINUX
    assert entries["api-*"].sample is not None
    assert plan.cleanup.keep_failed == 1800.0
    dc01 = entries["dc01"].point.fallback
    assert dc01 is not None
    assert (dc01.count, set(dc01.on)) == (2, {Cause.MOUNT_FAILED, Cause.CHECK_FAILED})
    assert entries["dc01"].point.search is Order.LINEAR
    assert ["api-*" in str(doubt) for doubt in loaded.doubts] == [True]
