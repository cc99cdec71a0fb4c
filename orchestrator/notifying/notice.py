"""One message: what happened, to which run, and which targets it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.plan.settings import NotifyOn


@dataclass(frozen=True, slots=True, kw_only=True)
class Concerned:
    """A target that a message is about; its texts may be a server's and are not safe to show."""

    key: str
    server: str
    vm: str
    result: str | None
    mount: str
    message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A recovery objective that was missed; None where nothing was measured. Seconds.

    `words` say what was reached and what was wanted, as the report says it.
    """

    scope: str
    kind: str
    target_s: float
    actual_s: float | None
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message. `id` names it, so that whoever gets it twice can tell.

    `totals` count results by name; before the end they do not add up to `targets`.
    `text` is one sentence for people. `report` is the directory of the reports, at the end.
    """

    id: str
    event: NotifyOn
    at: datetime
    run: str
    plan: str
    mode: str
    reason: str | None
    version: str
    text: str
    good: bool = False
    totals: Mapping[str, int] = field(default_factory=dict)
    wave: str | None = None
    exit_code: int | None = None
    duration_s: float | None = None
    targets: tuple[Concerned, ...] = ()
    more_targets: int = 0
    objectives: tuple[Missed, ...] = ()
    report: str | None = None
