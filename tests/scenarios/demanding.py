"""Checks for a drill, handed to the run beside its plan file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.app import run_part, runner, wiring
from orchestrator.core.events import RunStarted
from orchestrator.core.model import MountRequest, ServerName, UnresolvedTarget
from orchestrator.core.proof import Check, CheckSets
from orchestrator.engine.orders import Orders, Selection
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.inventory import InventoryNeeds, Listing


@dataclass(frozen=True, slots=True)
class _Selection:
    of_plan: Selection
    change: Callable[[MountRequest], MountRequest]

    def wants(self, server: ServerName) -> bool:
        return self.of_plan.wants(server)

    def needs(self, server: ServerName) -> InventoryNeeds:
        return self.of_plan.needs(server)

    def expand(self, found: Mapping[ServerName, Listing]) -> Expansion:
        made = self.of_plan.expand(found)
        return replace(made, requests=tuple(map(self.change, made.requests)))

    def guarded_with(self, server: ServerName) -> frozenset[ServerName]:
        return self.of_plan.guarded_with(server)

    def broken_together(self, matched: Mapping[ServerName, Mapping[str, int]]) -> tuple[str, ...]:
        return self.of_plan.broken_together(matched)

    def placeholders(self, server: ServerName) -> Sequence[UnresolvedTarget]:
        return self.of_plan.placeholders(server)


def demand(
    monkeypatch: pytest.MonkeyPatch,
    checks: Mapping[str, Sequence[Check]],
    *,
    asked: Sequence[str] | None = None,
    change: Callable[[MountRequest], MountRequest] = lambda request: request,
) -> None:
    """Let every target of the following runs ask for the check sets `asked`, or for all."""
    beginning, orders_of = wiring.beginning, wiring.orders_of
    names = tuple(checks) if asked is None else tuple(asked)

    def begun(*args: Any, **named: Any) -> RunStarted:
        sets = CheckSets({name: tuple(each) for name, each in checks.items()})
        return replace(beginning(*args, **named), check_sets=sets)

    def ordered(*args: Any, **named: Any) -> Orders:
        orders = orders_of(*args, **named)
        selection = _Selection(
            orders.selection, lambda request: change(replace(request, checks=names))
        )
        return replace(orders, selection=selection)

    monkeypatch.setattr(runner, "beginning", begun)
    monkeypatch.setattr(run_part, "orders_of", ordered)
