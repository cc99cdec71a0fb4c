"""Events of the run itself and of its waves."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, field

from orchestrator.core.controls import Control
from orchestrator.core.events.base import Event
from orchestrator.core.makespan import PastMakespans
from orchestrator.core.model import (
    Gate,
    MountKey,
    Objectives,
    Ramp,
    Result,
    RunId,
    ServerName,
    Unmount,
    WaveFacts,
    WaveName,
    same_fields,
)
from orchestrator.core.parts import Part
from orchestrator.core.proof import BaselineCheck, CheckSets


class ServerFacts(Struct, frozen=True, kw_only=True):
    """One Enterprise Manager of the plan. `tls` is how its certificate is trusted."""

    name: ServerName
    url: str
    tls: str
    api_version: str
    mounts_limit: int | None = None
    backup_server_limits: dict[str, int]
    default_backup_server_limit: int = 4


class RunStarted(Event, frozen=True, kw_only=True):
    """A run began; everything about it that does not belong to one target."""

    run: RunId
    started_at: datetime
    plan: str
    plan_path: str
    plan_sha256: str
    locked_sha256: str | None = None
    inventory_sha256: tuple[str, ...] | None = None
    """Of the files that `from_file` names, in order; None: a locked plan, or an older run."""
    description: str | None = None
    mode: str = "drill"
    reason: str | None = None
    version: str
    user: str = ""
    host: str = ""
    pid: int = 0
    report_dir: str = ""
    servers: tuple[ServerFacts, ...] = ()
    waves: tuple[WaveFacts, ...] = ()
    gates: tuple[Gate, ...] = ()
    objectives: Objectives = Objectives()
    regression: float | None = None
    """By which fraction the run may take longer than the median of earlier ones; None: any."""
    makespans: PastMakespans = PastMakespans()
    """What it is compared with; empty where the plan does not say so."""
    mounts_limit: int | None = None
    mounts_per_vm: int = 1
    require_checks: bool = False
    overrides: dict[str, str] = field(default_factory=dict)
    """Variables of the plan that the command line set: a resume loads the plan with them."""
    only: tuple[str, ...] = ()
    keys: tuple[str, ...] | None = None
    retry_of: RunId | None = None
    """The earlier run whose targets that were not good are the only ones taken."""
    part: Part | None = None
    """The only part of the plan that it takes; None: it was not divided."""
    entries: int | None = None
    """How many entries the whole plan has; None: an older run did not say."""
    deadline_s: float | None = None
    confirmed: bool = False
    """Whether it may begin unasked: `--yes`, or a locked plan."""
    utc_offset_s: float = 0.0
    """Local time of the machine minus UTC, for reports that people read."""
    check_sets: CheckSets = field(default_factory=CheckSets)
    seed: int = 0
    """Of every random choice of targets and points; a resume chooses by it again."""
    unmount: Unmount = Unmount.ALWAYS
    keep_failed_s: float | None = None
    """How long a mount whose checks failed is held for a person."""
    hold_s: float | None = None
    """How long every mount is held; None: not."""
    start_interval_s: float | None = None
    """The least time between two mount requests to one server."""
    ramp: Ramp | None = None
    """How each server is given its slots; None: all at once."""

    @property
    def is_whole(self) -> bool:
        """Whether it takes all of its plan."""
        return not self.only and self.keys is None and self.part is None

    @property
    def compares_with_earlier(self) -> bool:
        """Whether a check of the plan compares with what earlier runs measured."""
        checks = (check for checks in self.check_sets.values() for check in checks)
        return any(isinstance(check, BaselineCheck) for check in checks)


class RunResumed(Event, frozen=True, kw_only=True):
    """Another process continues the run; its earlier halts and stops are over."""

    resumed_at: datetime
    version: str
    user: str = ""
    host: str = ""
    pid: int = 0
    report_dir: str = ""
    retry_failed: bool = False
    used_until: float | None = None
    """When an earlier process may have used a session last; None: at the latest just before."""


class WaveStarted(Event, frozen=True, kw_only=True):
    """Targets of this wave may be submitted from now on."""

    wave: WaveName


class WaveFinished(Event, frozen=True, kw_only=True):
    """Every target of this wave has a result, or a verdict while its mount is held."""

    wave: WaveName


class WaveSkipped(Event, frozen=True, kw_only=True):
    """No target of this wave is submitted; recorded where other processes must know."""

    wave: WaveName
    reason: str


class ApprovalAwaited(Event, frozen=True, kw_only=True):
    """A wave waits for `approvals` more people; `until` on the run's clock.

    That is the end of the gate's time, or the run's deadline if it is earlier.
    """

    wave: WaveName
    approvals: int
    until: float


class StopRequested(Event, frozen=True, kw_only=True):
    """A person or the system asked the run to stop. `forced`: the second time."""

    signal: str
    forced: bool


class RunHalted(Event, frozen=True, kw_only=True):
    """The run stops submitting for a reason of its own; `reason` is one word, `detail` why."""

    reason: str
    detail: str


class RunNoted(Event, frozen=True, kw_only=True):
    """A line for the report that belongs to no target."""

    message: str


class RunForecast(Event, frozen=True, kw_only=True):
    """How long the run was expected to take when its first wave began, from earlier runs.

    Seconds since its start: `makespan_s`, and between which two. `without_history` of `targets`
    were never mounted before.
    """

    makespan_s: float
    low_s: float
    high_s: float
    targets: int
    without_history: int


class ControlApplied(Event, frozen=True, kw_only=True):
    """A person asked something of the living run with `ctl` or `browse`, and it is done.

    Durable before it is answered. `control` identifies the request.
    """

    control: str
    verb: str
    words: tuple[str, ...] = ()
    user: str = ""
    host: str = ""
    reason: str | None = None
    beyond_plan: bool = False
    reject: bool = False

    @classmethod
    def of(cls, asked: Control, *, at: float) -> ControlApplied:
        """Return the event of a request."""
        return same_fields(cls, asked, at=at, control=asked.id)

    @property
    def asked(self) -> Control:
        """The request."""
        return same_fields(Control, self, id=self.control)


class PlaceholderReplaced(Event, frozen=True, kw_only=True):
    """The placeholder of machines that could not be listed is replaced by the machines.

    `was` is the result it had.
    """

    key: MountKey
    server: ServerName
    was: Result | None


class ChainPinned(Event, frozen=True, kw_only=True):
    """Where the chain of a server's part of the run stood: its records until then are covered.

    Only in the chain of the run itself, which so covers all of them. `hash` is in hex.
    """

    chain: ServerName
    seq: int
    hash: str


class RunFinished(Event, frozen=True, kw_only=True):
    """The run is over and everything about it is in the journal.

    Recorded once more where its process ends with another exit code, for a `trouble` of its own
    machine, such as a report directory that cannot be written. The last one counts.
    """

    exit_code: int
    finished_at: datetime
    interrupted: bool = False
    trouble: str | None = None
