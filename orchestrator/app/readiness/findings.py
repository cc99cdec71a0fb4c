"""The answers of a readiness check, as values."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class Scope(StrEnum):
    """What an answer is about."""

    SERVER = "server"
    TARGET = "target"
    RUN = "run"


class Status(StrEnum):
    """How an answer is meant."""

    OK = "ok"
    WARNING = "warning"
    """The run can start; a person should know this before."""
    PROBLEM = "problem"
    """The run would fail, or not do what the plan asks for."""
    NOT_VISIBLE = "not_visible"
    """It cannot be seen from here: neither good nor bad."""


class Finding(Struct, frozen=True, kw_only=True):
    """One answer. `name` is the server's name, the target's key or the plan's name."""

    scope: Scope
    name: str
    item: str
    status: Status
    detail: str
    critical: bool = False
    """True for a target whose failure halts the run."""


class Subject(Struct, frozen=True):
    """Somebody or something that answers are given about."""

    scope: Scope
    name: str
    critical: bool = False

    def ok(self, item: str, detail: str) -> Finding:
        """Return that `item` is as it should be."""
        return self.finding(item, Status.OK, detail)

    def warning(self, item: str, detail: str) -> Finding:
        """Return that a person should know of this."""
        return self.finding(item, Status.WARNING, detail)

    def problem(self, item: str, detail: str) -> Finding:
        """Return that this prevents the run."""
        return self.finding(item, Status.PROBLEM, detail)

    def not_visible(self, item: str, detail: str) -> Finding:
        """Return that this cannot be seen, and why."""
        return self.finding(item, Status.NOT_VISIBLE, detail)

    def finding(self, item: str, status: Status, detail: str) -> Finding:
        """Return an answer."""
        return Finding(
            scope=self.scope,
            name=self.name,
            item=item,
            status=status,
            detail=detail,
            critical=self.critical,
        )


class Readiness(Struct, frozen=True, kw_only=True):
    """All answers about one plan. `targets`: how many it has, as far as known.

    With `strict`, a warning prevents the run as a problem does.
    """

    plan: str
    plan_sha256: str
    checked_at: datetime
    servers: int
    targets: int
    findings: tuple[Finding, ...]
    strict: bool = False

    def of(self, status: Status) -> list[Finding]:
        """Return the answers of one status, in the order they were found."""
        return [each for each in self.findings if each.status is status]

    @property
    def totals(self) -> dict[Status, int]:
        """How many answers there are of each status."""
        counted = Counter(each.status for each in self.findings)
        return {status: counted[status] for status in Status}

    @property
    def is_ready(self) -> bool:
        """True if nothing that was seen prevents the run."""
        totals = self.totals
        return not (totals[Status.PROBLEM] or (self.strict and totals[Status.WARNING]))
