"""What a run was told to do, as the engine needs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.engine.admission import Limits
from orchestrator.events import RunResumed, RunStarted, TasksAttributed
from orchestrator.lifecycle import MountRecord
from orchestrator.model import (
    BackupServerName,
    MountRequest,
    RestorePointId,
    ServerName,
    Source,
    UnresolvedTarget,
    WaveName,
)
from orchestrator.plan.inventory import Listing
from orchestrator.plan.settings import FailureBudget
from orchestrator.policy import WatchPolicy


class Needs(Protocol):
    """What must be asked of one server to choose the restore points."""

    @property
    def points(self) -> Sequence[tuple[Source, RestorePointId]]:
        """Points named by id."""
        ...

    @property
    def machines(self) -> Mapping[Source, Sequence[str]]:
        """Machines named by name, by family."""
        ...

    @property
    def jobs(self) -> Mapping[Source, Sequence[str]]:
        """Jobs named by name, by family."""
        ...

    @property
    def listings(self) -> Mapping[Source, Sequence[BackupServerName]]:
        """Backup servers of which all points are needed, by family; an empty name is all."""
        ...

    @property
    def queries(self) -> Mapping[Source, Sequence[str]]:
        """Texts to be sent as a filter, by family."""
        ...


class Expansion(Protocol):
    """What the plan and the inventories make together."""

    @property
    def requests(self) -> Sequence[MountRequest]:
        """Targets with a chosen restore point."""
        ...

    @property
    def unresolved(self) -> Sequence[UnresolvedTarget]:
        """Targets for which no point could be chosen."""
        ...

    @property
    def broken(self) -> Sequence[str]:
        """Guards that do not hold: nothing may be mounted."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What a reader must know of the choice, such as that it is a sample."""
        ...


class Selection(Protocol):
    """The plan's selectors and point policies."""

    def needs(self, server: ServerName) -> Needs:
        """Return what must be asked of `server`."""
        ...

    def expand(self, found: Mapping[ServerName, Listing]) -> Expansion:
        """Choose the points of the targets on the given servers."""
        ...

    def placeholders(self, server: ServerName) -> Sequence[UnresolvedTarget]:
        """Return one target per plan entry, for a server that could not be asked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What the journal says of a run that this process goes on with."""

    records: Sequence[MountRecord]
    finished: frozenset[WaveName]
    resumed: RunResumed
    """The first record of this process; its time is where the run's clock goes on."""
    attributed: Sequence[TasksAttributed] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Everything that shapes a run; times in seconds."""

    started: RunStarted
    selection: Selection
    limits: Limits
    failures: FailureBudget | None = None
    deadline: float | None = None
    outage: float = 1800.0
    watch: WatchPolicy = field(default_factory=WatchPolicy)
    confirm: Callable[[Expansion, Sequence[ServerName]], Awaitable[bool]] | None = None
    """Asked once before anything is mounted, with the targets and the servers that wait."""
    earlier: Earlier | None = None
    may_write: bool = False
    """A person said that files may be written into original guests; recovery mode only."""
