"""Locked plans, and runs of them in a journal, for forecasts that ask no server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from orchestrator.core.events import (
    Event,
    RunStarted,
    ServerFacts,
    SubmissionStarted,
    TaskAccepted,
)
from orchestrator.core.model import RestorePoint
from orchestrator.plan.choose.expansion import expand
from orchestrator.plan.choose.inventory import Inventory
from orchestrator.plan.choose.locked import lock
from tests.journal.sample import mounted, started
from tests.plan.builders import HQ, NOW, load


def locked(directory: Path, body: str, points: Sequence[RestorePoint]) -> Path:
    """Save a locked plan, with the restore points that are listed."""
    loaded = load(body)
    expansion = expand(loaded.plan, {HQ: Inventory(points)}, now=NOW)
    path = directory / "drill.lock.json"
    path.write_bytes(lock(loaded, expansion, created_at=NOW, version="1.0.0"))
    return path


def first(number: int, *, confirmed: bool = True) -> RunStarted:
    """Return the beginning of an earlier run of the plan, on its server."""
    hq = ServerFacts(
        name=HQ, url="https://hq.example.net:9398", tls="system", api_version="latest",
        backup_server_limits={},
    )  # fmt: skip
    run = started(f"run{number}", plan="test", hours=number)
    return replace(run, servers=(hq,), confirmed=confirmed)


def life(name: str, seconds: float) -> list[Event]:
    """Return a mount of a machine that was submitted in second 5, and accepted 2 s later."""
    planned, submitted, accepted, *others = mounted(name, begin=7.0, seconds=seconds)
    assert isinstance(submitted, SubmissionStarted)
    assert isinstance(accepted, TaskAccepted)
    return [replace(planned, at=1.0), replace(submitted, at=5.0), accepted, *others]
