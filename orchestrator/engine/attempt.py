"""What one attempt at one target works with."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from orchestrator.engine.admission import Admission, Slot
from orchestrator.engine.holds import Holds
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.recovery import Unsettled
from orchestrator.engine.site import Connection, Site
from orchestrator.engine.watcher import TaskVanished
from orchestrator.errors import EnterpriseManagerError, ServerUnusable
from orchestrator.events import OutOfReach, SubmissionInDoubt
from orchestrator.lifecycle import MountRecord, Phase
from orchestrator.model import MountKey, MountRequest, Result, ServerName
from orchestrator.ports import (
    Baselines,
    GuestSession,
    NoBaselines,
    NoPrograms,
    Programs,
    Shelf,
)
from orchestrator.proof import CheckSets

OUT_OF_KNOWLEDGE = (EnterpriseManagerError, ServerUnusable, TaskVanished, Unsettled)
"""After one of these, past the POST, nobody can say what became of the attempt."""


class After(Enum):
    """What an attempt leaves to be done for its target."""

    CONCLUDE = auto()
    RETRY = auto()
    """The target's own fault: costs an attempt."""
    REQUEUE = auto()
    """The server's fault: costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """What every mount of a run shares."""

    ledger: Ledger
    admission: Admission
    sites: Mapping[ServerName, Site]
    rng: random.Random
    expected: Callable[[MountRequest], float | None]
    accepting: Callable[[], bool]
    """False once the run submits nothing more."""
    unsubmitted: Callable[[MountRequest], tuple[Result, str]]
    """What to conclude, and why, for a target that was never submitted."""
    holds: Holds
    shelf: Shelf
    """Where files of guests are saved."""
    may_write: bool
    """Whether files may be written into original guests."""
    check_sets: CheckSets = field(default_factory=dict)
    """The plan's checks by the name of their set."""
    baselines: Baselines = field(default_factory=NoBaselines)
    programs: Programs = field(default_factory=NoPrograms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to mount one point, in one logon session that it never leaves."""

    request: MountRequest
    connection: Connection
    site: Site
    crew: Crew
    slot: Slot

    @property
    def key(self) -> MountKey:
        """The target's key."""
        return self.request.key

    @property
    def now(self) -> float:
        """Seconds on the run's clock."""
        return self.crew.ledger.now()

    @property
    def ledger(self) -> Ledger:
        """Where everything is recorded."""
        return self.crew.ledger

    @property
    def session(self) -> GuestSession:
        """The logon session that owns the task and the mount."""
        return self.connection.session

    @property
    def record(self) -> MountRecord:
        """What is known of the target now."""
        return self.crew.ledger[self.request.key]


def record_out_of_reach(request: MountRequest, crew: Crew, reason: str) -> None:
    """Record that nobody can say what became of the attempt, from whatever phase it is in."""
    ledger = crew.ledger
    if ledger[request.key].phase is Phase.SUBMITTING:
        ledger.record(SubmissionInDoubt(at=ledger.now(), key=request.key, reason=reason))
    ledger.record(OutOfReach(at=ledger.now(), key=request.key, reason=reason))
