"""The plan and the options of a run, as the engine needs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from orchestrator.core.events import (
    ControlApplied,
    Event,
    RunStarted,
    SessionEnded,
    StrayFound,
    TasksAttributed,
)
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import MountKey, ServerName, SessionId, UnresolvedTarget, WaveName
from orchestrator.core.policy import PROOF_AFTER, WatchPolicy
from orchestrator.core.run_state import RunState, skipped_keys
from orchestrator.engine.limits import Limits
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.inventory import InventoryNeeds, Listing
from orchestrator.plan.file.settings import FailureBudget


class Selection(Protocol):
    """Which targets a run takes: of a plan, or of a locked plan."""

    def wants(self, server: ServerName) -> bool:
        """Return whether `server` may have a target that is wanted: no other server is asked."""

    def needs(self, server: ServerName) -> InventoryNeeds:
        """Return the questions to `server`."""

    def expand(self, listings: Mapping[ServerName, Listing]) -> Expansion:
        """Choose the points of the targets on the given servers."""

    def is_elsewhere(self, expansion: Expansion) -> bool:
        """Return whether other parts of the plan have targets: then this one may have none."""

    def guarded_with(self, server: ServerName) -> frozenset[ServerName]:
        """Return the other servers whose machines count in a guard of this one's."""

    def broken_together(self, matched: Mapping[ServerName, Mapping[str, int]]) -> tuple[str, ...]:
        """Return a sentence for each guard over several servers that is broken.

        `matched` is what `expand` has counted on each server by itself, of those that listed.
        """

    def placeholders(self, server: ServerName) -> Sequence[UnresolvedTarget]:
        """Return one target per plan entry, for a server that could not be asked."""


class EarlierRun(Struct, frozen=True, kw_only=True):
    """The journal's facts about a run, or a shard of one, that this process continues."""

    records: Sequence[MountRecord]
    begins: Event
    """The first record of this process; its time is where the run's clock goes on."""
    used_until: float
    """When an earlier process may have used a session last, on the run's clock."""
    retry_failed: bool = False
    finished: frozenset[WaveName] = frozenset()
    attributed: Sequence[TasksAttributed] = ()
    strays: Sequence[StrayFound] = ()
    """Mounts of no target that it could not remove."""
    over: frozenset[SessionId] = frozenset()
    """Sessions that were lost or logged off: what they had mounted is beyond reach."""
    accepted: frozenset[MountKey] = frozenset()
    """Targets for which an earlier process has halted, if they are critical."""
    broken_guard: str | None = None
    """Why the run may mount nothing more, if a guard of the plan was broken."""
    controls: Sequence[ControlApplied] = ()
    """What people asked of the run while earlier processes worked on it."""
    ends: Mapping[SessionId, SessionEnded] = field(default_factory=dict)
    """How sessions ended, as far as the journal says; those that were left open, too."""
    last_uses: Mapping[SessionId, float] = field(default_factory=dict)
    """When sessions were used last: of which that is known, for nobody has used them since."""
    doubted: frozenset[SessionId] = frozenset()
    """Sessions in which a mount was asked for, and neither task nor refusal is recorded."""

    @property
    def skipped(self) -> frozenset[MountKey]:
        """Targets that people have skipped: they are not taken up again."""
        return skipped_keys(self.controls)

    def last_used(self, session: SessionId) -> float:
        """Return when an earlier process may have used a session last, on the run's clock.

        A request that it sent may be acted on later: that uses the session, too.
        """
        used = self.last_uses.get(session, self.used_until)
        return used + PROOF_AFTER if session in self.doubted else used

    @classmethod
    def of(
        cls,
        state: RunState,
        begins: Event,
        *,
        used_until: float,
        retry_failed: bool,
        last_uses: Mapping[SessionId, float] | None = None,
    ) -> EarlierRun:
        """Return what the engine must know of a run that a process goes on with from `begins`."""
        servers, waves = state.servers.values(), state.waves.items()
        return cls(
            records=tuple(state.records.values()),
            begins=begins,
            used_until=used_until,
            retry_failed=retry_failed,
            last_uses=last_uses or {},
            doubted=frozenset(
                attempt.session
                for record in state.records.values()
                for attempt in record.attempts
                if attempt.task is None and attempt.outcome == "unknown"
            ),
            finished=frozenset(name for name, wave in waves if wave.finished_at is not None),
            attributed=[each for server in servers for each in server.attributed],
            strays=state.strays,
            controls=state.steered,
            accepted=frozenset(state.accepted),
            broken_guard=state.broken_guard,
            over=frozenset().union(*(server.over for server in servers)),
            ends={each.session: each for server in servers for each in server.ended},
        )


class Orders(Struct, frozen=True, kw_only=True):
    """Everything that shapes a run; times in seconds."""

    started: RunStarted
    selection: Selection
    limits: Limits
    failures: FailureBudget | None
    deadline: float | None
    outage: float
    watch: WatchPolicy = field(default_factory=WatchPolicy)
    confirm: Callable[[Expansion, Sequence[ServerName]], Awaitable[bool]] | None = None
    """Asked once before anything is mounted, with the targets and the servers that wait."""
    earlier: EarlierRun | None = None
    may_write: bool = False
    """A person said that files may be written into original guests; recovery mode only."""
