"""The parts that one attempt at one target uses."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Container, Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import Enum, auto

from msgspec import Struct, field

from orchestrator.core.earlier_runs.systems import NO_SYSTEMS
from orchestrator.core.errors import EnterpriseManagerError, RequestRefused, ServerUnusable
from orchestrator.core.events import OutOfReach, SubmissionInDoubt
from orchestrator.core.lifecycle import FIRM_RESULTS, MountRecord, Phase
from orchestrator.core.model import MountKey, MountRequest, OsKind, Result, ServerName, SessionId
from orchestrator.core.ports.journal import Baselines, Systems
from orchestrator.core.ports.local import FileStore, Offload, Programs, on_the_spot
from orchestrator.core.ports.server import GuestSession
from orchestrator.core.proof import CheckSets
from orchestrator.engine.connection import Connection
from orchestrator.engine.forced_end import ForcedEnd
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.mount.holds import Holds
from orchestrator.engine.mount.recover import Unsettled
from orchestrator.engine.run_deadline import NO_DEADLINE, RunDeadline
from orchestrator.engine.scheduler import Scheduler
from orchestrator.engine.server_connection import ServerConnection
from orchestrator.engine.slot import Slot
from orchestrator.engine.watcher import TaskVanished

OUT_OF_KNOWLEDGE = (EnterpriseManagerError, ServerUnusable, TaskVanished, Unsettled)
"""After one of these, past the POST, nobody can say what became of the attempt."""


Wait = Callable[[], Awaitable[float | None]]


def _by_nobody(_attempt: object) -> AbstractContextManager[None]:
    return nullcontext()


async def _at_once(wait: Wait) -> float | None:
    return await wait()


class NextStep(Enum):
    """The next step for a target after an attempt."""

    CONCLUDE = auto()
    RETRY = auto()
    """The target's own fault: costs an attempt."""
    REQUEUE = auto()
    """The server's fault: costs nothing."""
    OTHER_SYSTEM = auto()
    """Nothing was readable: it is mounted as the other system, which costs nothing either."""


class RunContext(Struct, frozen=True, kw_only=True):
    """The parts that all mounts of a run share."""

    ledger: Ledger
    scheduler: Scheduler
    servers: Mapping[ServerName, ServerConnection]
    """Where new mounts are asked for."""
    rng: random.Random
    expected: Callable[[MountRequest], float | None]
    accepting: Callable[[], bool]
    """False once the run submits nothing more."""
    unsubmitted: Callable[[MountRequest], tuple[Result, str]]
    """What to conclude, and why, for a target that was never submitted."""
    holds: Holds
    forced_end: ForcedEnd
    """Whether a person wants the end at once."""
    readable: Callable[[Attempt], AbstractContextManager[None]] = _by_nobody
    """Lets people read the files of a mount while it is held."""
    may_write: bool
    """Whether files may be written into original guests."""
    deadline: RunDeadline = NO_DEADLINE
    """By when all mounts are to be gone."""
    is_out_of_time: Callable[[MountRequest], bool] = lambda request: False
    """Whether the deadline alone is why a target is not begun now."""
    unless_ended: Callable[[Wait], Awaitable[float | None]] = _at_once
    """Does something until it is done, or the run submits nothing more."""
    known_sessions: Callable[[], Container[str]] = tuple
    """Ids of the logon sessions of this run's processes, and of other runs of ours."""
    earlier: Mapping[SessionId, ServerConnection] = field(default_factory=dict)
    """Where the mounts of earlier processes are finished, by the session that owns them."""
    check_sets: CheckSets = field(default_factory=CheckSets)
    """The plan's checks by the name of their set."""
    baselines: Baselines | None = None
    """None: no check of the run compares with an earlier one."""
    systems: Systems = NO_SYSTEMS
    """As which systems earlier runs know the machines."""
    file_store: FileStore | None = None
    """Where files of guests are saved; None: nothing is copied."""
    programs: Programs | None = None
    """None: no check is made, as where mounts are only removed."""
    aside: Offload = on_the_spot
    """Where long searches are made."""
    ungranted: set[MountKey] = field(default_factory=set)
    """Targets that wait for a slot once more, or for the run to let them mount."""


class Attempt(Struct, frozen=True, kw_only=True):
    """One try to mount one point, in one logon session that it never leaves."""

    request: MountRequest
    connection: Connection
    server: ServerConnection
    context: RunContext
    slot: Slot

    @property
    def key(self) -> MountKey:
        """The target's key."""
        return self.request.key

    @property
    def now(self) -> float:
        """Seconds on the run's clock."""
        return self.context.ledger.now()

    @property
    def ledger(self) -> Ledger:
        """Where everything is recorded."""
        return self.context.ledger

    @property
    def session(self) -> GuestSession:
        """The logon session that owns the task and the mount."""
        return self.connection.session

    @property
    def record(self) -> MountRecord:
        """The target's record now."""
        return self.context.ledger[self.request.key]

    @property
    def os_kind(self) -> OsKind:
        """As which system the guest is mounted."""
        return self.record.os_kind

    @property
    def is_reachable(self) -> bool:
        """True while the session lives and its server is not given up."""
        return not self.connection.lost and self.server.gate.given_up is None

    @property
    def is_fenced(self) -> bool:
        """True once another worker goes on with it: nothing is cleaned up or recorded here."""
        return self.server.is_fenced

    async def is_alone(self) -> bool:
        """Return whether nobody else can have mounted anything; False if the server is silent."""
        own = self.server.own, self.context.known_sessions()
        try:
            return await self.server.persistently(
                self.connection, lambda: self.session.is_alone(*own)
            )
        except RequestRefused:
            return False


def had_no_time(request: MountRequest, context: RunContext, *, withdrawn: bool) -> bool:
    """Return whether a target, or another try of it, is not begun because of the deadline."""
    record = context.ledger[request.key]
    is_waiting = record.phase is Phase.QUEUED and (withdrawn or not record.ever_submitted)
    is_open = record.standing not in FIRM_RESULTS
    return is_waiting and is_open and context.is_out_of_time(request)


def record_out_of_reach(
    request: MountRequest, context: RunContext, reason: str, *, lost: bool = False
) -> None:
    """Record, in any phase, that the outcome of the attempt cannot be determined.

    `lost`: because the server denies its session.
    """
    ledger = context.ledger
    if ledger[request.key].phase is Phase.SUBMITTING:
        ledger.record(SubmissionInDoubt(at=ledger.now(), key=request.key, reason=reason))
    ledger.record(OutOfReach(at=ledger.now(), key=request.key, reason=reason, lost=lost))
