"""What a plan may ask for beyond mounting, put into drills beside the plan file.

Checks that judge by restore point, other points to try, holds: whatever the loader makes of a
plan, the engine gets these values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.app import runner, wiring
from orchestrator.core.events import CheckMade, RunStarted
from orchestrator.core.model import Cause, MountRequest, Order, RestorePoint, Search, ServerName
from orchestrator.core.proof import CheckOutcome
from orchestrator.engine.content.guest import Guest
from orchestrator.engine.mount import find
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.inventory import Listing
from orchestrator.plan.choose.targets import PlanSelection
from orchestrator.simulator.inventory import Inventory, Point

CHECK = "content"


def with_points(count: int) -> Callable[[Inventory], None]:
    """Return a change that gives every machine so many restore points, about one a day."""

    def change(inventory: Inventory) -> None:
        for machine in inventory.machines:
            oldest = machine.points[-1]
            for day in range(1, count - len(machine.points) + 1):
                name = f"{oldest.id[:-3]}{day:03x}"
                point = Point(name, machine, oldest.created_at - timedelta(days=day))
                machine.points.append(point)
                inventory.add(point)

    return change


def searching(
    monkeypatch: pytest.MonkeyPatch,
    order: Order = Order.LINEAR,
    *,
    on: tuple[Cause, ...] = tuple(Cause),
    checks: tuple[str, ...] = (),
    most: int = 1000,
) -> None:
    """Let every target try the other points of its machine, `most` of them, newest first."""

    class Asking(PlanSelection):
        def expand(self, found: Mapping[ServerName, Listing]) -> Expansion:
            made = super().expand(found)
            asked = [_asked(each, found[each.server].points) for each in made.requests]
            return replace(made, requests=tuple(asked))

    def _asked(request: MountRequest, listed: Sequence[RestorePoint]) -> MountRequest:
        mine = [
            each
            for each in listed
            if (each.vm, each.backup_server) == (request.vm, request.backup_server)
        ]
        mine.sort(key=lambda each: each.created_at, reverse=True)
        found = Search(candidates=tuple(mine[:most]), on=on, order=order)
        return replace(request, search=found, checks=checks)

    monkeypatch.setattr(wiring, "PlanSelection", Asking)


def place(request: MountRequest) -> int:
    """Return the place of a request's point among its candidates, newest first."""
    return request.search.candidates.index(request.point)


def all_but(*bad: int) -> Callable[[MountRequest], bool]:
    """Return a judge to whom the points of these places, newest first, are bad."""
    return lambda request: place(request) not in bad


def judged_by(monkeypatch: pytest.MonkeyPatch, good: Callable[[MountRequest], bool]) -> None:
    """Let the checks of every target judge by the request, which names the restore point."""

    async def examine(guest: Guest) -> None:
        attempt = guest.attempt
        for name in attempt.request.checks:
            passed = good(attempt.request)
            outcome = CheckOutcome(
                name=name,
                path="C:/data",
                expected="clean",
                observed="clean" if passed else "encrypted",
                passed=passed,
            )
            attempt.ledger.record(CheckMade(at=attempt.now, key=attempt.key, outcome=outcome))

    monkeypatch.setattr(find, "examine", examine)


def beginning_with(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
    """Let runs begin with these facts: what the plan says of holds."""
    begin = wiring.beginning

    def beginning(*given: Any) -> RunStarted:
        return replace(begin(*given), **facts)

    monkeypatch.setattr(runner, "beginning", beginning)
