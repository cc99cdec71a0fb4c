"""A readiness check against simulated servers on virtual time; see that it only read."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.app.readiness.checking import check
from orchestrator.app.readiness.findings import Finding, Readiness, Status
from orchestrator.app.wiring import Choices, Plan
from orchestrator.simulator.inventory import Inventory
from orchestrator.simulator.truth import GroundTruth
from tests.scenarios.drill import Site, Stage, staged


@dataclass(slots=True)
class Answers:
    """What a check said."""

    readiness: Readiness

    def of(self, name: str, item: str) -> Finding:
        """Return the one answer about `item` of a server, a target or the run."""
        (found,) = [
            each
            for each in self.readiness.findings
            if each.item == item and each.name.endswith(name)
        ]
        return found

    def statuses(self, name: str) -> dict[str, Status]:
        """Return item -> status of one name."""
        return {each.item: each.status for each in self.readiness.findings if each.name == name}

    @property
    def problems(self) -> set[tuple[str, str]]:
        """Name and item of everything that stands in the way."""
        return {(each.name, each.item) for each in self.readiness.of(Status.PROBLEM)}


def assert_only_read(truth: GroundTruth) -> None:
    """See in what the servers received that nothing but a logon and its logoff was not a GET."""
    changing = {kind for kind in truth.requests if not kind.startswith("GET ")}
    assert changing <= {"POST /api/sessionMngr/", "DELETE /api/logonSessions/{id}"}
    assert not truth.mounts
    assert truth.dangerous == 0


def files_below(directory: Path) -> dict[str, str]:
    """Return path -> hash of every file, none if there is no such directory.

    Whoever reads SQLite beside a possible writer makes its shared memory and an empty log.
    """
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
        and not path.name.endswith("-shm")
        and not (path.name.endswith("-wal") and not path.stat().st_size)
    }


async def asked(stage: Stage, source: Plan | None = None, **options: Any) -> Answers:
    """Check the stage's plan; the state directory must be the same afterwards."""
    before = files_below(stage.state)
    choices = Choices(state=stage.state, only=options.pop("only", ()))
    found = await check(source or stage.loaded, choices, world=stage.world(), **options)
    assert files_below(stage.state) == before
    return Answers(found)


@asynccontextmanager
async def at_desk(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    sites: Sequence[Site] = (Site(),),
    plan: str | None = None,
    **options: Any,
) -> AsyncIterator[Stage]:
    """Serve `sites`, and see at the end that they were only read."""
    async with staged(directory, monkeypatch, sites, plan, **options) as stage:
        yield stage
        assert_only_read(stage.sites.truth)
        assert not any(manager.sessions for manager in stage.sites.managers.values())


async def checked(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    sites: Sequence[Site] = (Site(),),
    plan: str | None = None,
    *,
    before: Callable[[Stage], None] = lambda stage: None,
    **options: Any,
) -> Answers:
    """Check one plan over `sites`; `before` may change what the servers are like."""
    async with at_desk(directory, monkeypatch, sites, plan, **options) as stage:
        before(stage)
        return await asked(stage)


def older(days: float) -> Callable[[Inventory], None]:
    """Return a change that makes every restore point older."""

    def change(inventory: Inventory) -> None:
        for point in inventory.by_id.values():
            point.created_at -= timedelta(days=days)

    return change
