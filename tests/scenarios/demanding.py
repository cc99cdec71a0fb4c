"""Checks for a drill, handed to the run beside its plan file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from orchestrator import assembly, conducting
from orchestrator.engine.orders import Expansion, Needs, Orders, Selection
from orchestrator.events import RunStarted
from orchestrator.model import MountRequest, ServerName, UnresolvedTarget
from orchestrator.plan.inventory import Listing
from orchestrator.proof import Check


@dataclass(frozen=True, slots=True)
class _Expanded:
    requests: Sequence[MountRequest]
    unresolved: Sequence[UnresolvedTarget]
    broken: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Selection:
    of_plan: Selection
    change: Callable[[MountRequest], MountRequest]

    def needs(self, server: ServerName) -> Needs:
        return self.of_plan.needs(server)

    def expand(self, found: Mapping[ServerName, Listing]) -> Expansion:
        made = self.of_plan.expand(found)
        requests = [self.change(request) for request in made.requests]
        return _Expanded(requests, made.unresolved, made.broken, made.notes)

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
    beginning, orders_of = assembly.beginning, assembly.orders_of
    names = tuple(checks) if asked is None else tuple(asked)

    def begun(*args: Any, **named: Any) -> RunStarted:
        sets = {name: tuple(each) for name, each in checks.items()}
        return replace(beginning(*args, **named), check_sets=sets)

    def ordered(*args: Any, **named: Any) -> Orders:
        orders = orders_of(*args, **named)
        selection = _Selection(
            orders.selection, lambda request: change(replace(request, checks=names))
        )
        return replace(orders, selection=selection)

    monkeypatch.setattr(conducting, "beginning", begun)
    monkeypatch.setattr(conducting, "orders_of", ordered)
