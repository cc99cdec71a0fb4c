"""The values of a valid plan: defaults merged, units converted, references checked.

These are the values the rest of the program works with; the file's own shape is in `schema`.
Where a value is one of several kinds, `kind` says which, also in a locked plan.
Durations are seconds, sizes bytes, points in time aware datetimes. Paths are absolute.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from msgspec import Struct, field

from orchestrator.core.model import (
    AttemptPolicy,
    BackupServerName,
    Cause,
    Conflict,
    Gate,
    Objectives,
    Order,
    OsKind,
    OsSource,
    PhaseTimeouts,
    Ramp,
    RestorePointId,
    ServerName,
    Source,
    Unmount,
    WaveFacts,
    WaveName,
)
from orchestrator.core.proof import CheckSets, Download
from orchestrator.plan.file.access import SecretReference, SystemTrust, Trust
from orchestrator.plan.file.api_format import ApiFormat
from orchestrator.plan.file.os_choice import OPEN_OS
from orchestrator.plan.file.selectors import SelectorKind

# --- secrets: references only, resolved at logon by the client -----------------------------


# --- servers -----------------------------------------------------------------------------


DEFAULT_SITE = "default"
"""The site of a server for which the plan names none."""

DEFAULT_BACKUP_SERVER_MOUNTS = 4
"""Open mounts per backup server where the plan names no other number."""


class StopTasks(StrEnum):
    """Whether the task of a mount may be asked to stop."""

    WHEN_NEEDED = "when_needed"
    """Once, if it still runs when its time limit has passed or the run is stopped at once."""
    NEVER = "never"


class ServerSettings(Struct, frozen=True, kw_only=True):
    """One Enterprise Manager: where it is, how to log on, how many mounts it may carry.

    `url` is scheme, host and port without a trailing slash. `mounts_limit` is None where the
    plan names none. `site` says which workers of a run over several machines can reach it.
    """

    name: ServerName
    url: str
    username: str | SecretReference
    password: SecretReference
    trust: Trust = SystemTrust()
    api_version: str = "latest"
    api_format: ApiFormat = ApiFormat.AUTO
    mounts_limit: int | None = None
    backup_server_mounts: Mapping[BackupServerName, int] = field(default_factory=dict)
    default_backup_server_mounts: int = DEFAULT_BACKUP_SERVER_MOUNTS
    count_others: bool = False
    """Whether open file-level restores of others use up `mounts_limit`, as far as they show."""
    backup_servers_count_others: tuple[BackupServerName, ...] = ()
    """The backup servers whose limit they use up."""
    site: str = DEFAULT_SITE
    stop_tasks: StopTasks = StopTasks.WHEN_NEEDED

    @property
    def counting_others(self) -> tuple[str, ...]:
        """The limits that count other people's restores: folded backup servers, "" for its own."""
        own = ("",) if self.count_others else ()
        return (*own, *(name.casefold() for name in self.backup_servers_count_others))

    def mounts_on(self, backup_server: BackupServerName) -> int:
        """Return how many mounts may be open at once on `backup_server`, in whatever spelling.

        Names of backup servers are names of computers: upper and lower case are the same.
        """
        folded = backup_server.casefold()
        for name, mounts in self.backup_server_mounts.items():
            if name.casefold() == folded:
                return mounts
        return self.default_backup_server_mounts


# --- limits ------------------------------------------------------------------------------


class FailureBudget(Struct, frozen=True, kw_only=True):
    """How many targets may fail before nothing more is submitted: a count or a fraction."""

    count: int | None = None
    fraction: float | None = None

    def is_spent(self, *, failed: int, targets: int) -> bool:
        """Return whether more than the budget has failed; fractions count all `targets`."""
        if self.count is not None:
            return failed > self.count
        return self.fraction is not None and failed > self.fraction * targets

    def __str__(self) -> str:
        """Return the budget as the plan writes it."""
        return str(self.count) if self.count is not None else f"{(self.fraction or 0) * 100:g}%"


class RunLimits(Struct, frozen=True, kw_only=True):
    """Limits of the whole run; None is no limit. Durations in seconds.

    `start_interval` and `ramp` hold for each server by itself.
    """

    mounts: int | None = None
    mounts_per_vm: int = 1
    failures: FailureBudget | None = None
    deadline: float | None = None
    outage: float = 1800.0
    start_interval: float | None = None
    ramp: Ramp | None = None


# --- targets -----------------------------------------------------------------------------


class PolicyName(StrEnum):
    """Which restore point of a machine is meant."""

    LATEST = "latest"
    BEFORE = "before"
    ID = "id"
    NEWEST_PASSING = "newest_passing"
    """The newest that mounts and whose checks pass: older ones are tried until one does."""
    EVERY = "every"
    """Each point that fits is a target of its own: one machine through time."""
    RANDOM = "random"


class Fallback(Struct, frozen=True, kw_only=True):
    """Older points that may be tried after the chosen one: at most `count`, for these causes.

    `max_age` bounds them in place of the policy's own; None leaves the policy's.
    """

    count: int
    max_age: float | None = None
    on: tuple[Cause, ...] = tuple(Cause)


class PointPolicy(Struct, frozen=True, kw_only=True):
    """Which restore point of a machine to mount.

    `time` belongs to `before`, `point` to `id`, `search` to `newest_passing`, `count` to
    `every`, `seed` to `random`. Only points made at or before `incident_time` fit, and those
    not excluded: `exclude_points` are ids or globs over the points' names. A point older than
    `max_age` seconds at the incident, else at the start of the run, does not fit.
    """

    policy: PolicyName = PolicyName.LATEST
    time: datetime | None = None
    point: RestorePointId | None = None
    max_age: float | None = None
    incident_time: datetime | None = None
    exclude_points: tuple[str, ...] = ()
    search: Order = Order.LINEAR
    count: int | None = None
    seed: int | None = None
    fallback: Fallback | None = None


class SampleOrder(StrEnum):
    """Which of the machines that a selector matches are taken."""

    RANDOM = "random"
    STALEST = "stalest"
    """Those whose last proof is oldest; the never proven first."""


class Sample(Struct, frozen=True, kw_only=True):
    """Only `count` of the machines that a selector matches are targets.

    One object is shared by the rows of a file: the sample is drawn from all of them. `seed`
    is the plan's own; without it the run's decides. `place` is where the plan says so,
    `subject` what is sampled, both for messages.
    """

    count: int
    order: SampleOrder = SampleOrder.RANDOM
    seed: int | None = None
    place: str = ""
    subject: str = ""


class Expectation(Struct, frozen=True, kw_only=True):
    """How many machines a selector must match. One object is shared by the rows of a file.

    `place` is where the plan says so, `subject` what is counted, both for messages.
    """

    min: int | None = None
    max: int | None = None
    place: str
    subject: str


class Entry(Struct, frozen=True, kw_only=True):
    """One target entry of the plan with every default applied.

    `value` is the restore point's id, the VM's name, the job's name, a glob over VM names or
    the text of a query. `place` is `line:column` in the plan, or `file:line` for a row of an
    inventory file, and then `of_file` is True. `checks` are names of check sets. `several` says
    that one entry of the plan may mean several mounts: then the downloads of each go to a
    directory of its own.
    """

    kind: SelectorKind
    value: str
    wave: WaveName
    server: ServerName
    place: str
    os_kind: OsKind = OPEN_OS.kind
    os_source: OsSource = OPEN_OS.source
    volumes: tuple[tuple[str, str], ...] = ()
    source: Source = Source.REPLICA
    label: str | None = None
    critical: bool = False
    point: PointPolicy = PointPolicy()
    timeouts: PhaseTimeouts = PhaseTimeouts()
    retries: AttemptPolicy = AttemptPolicy()
    conflict: Conflict = Conflict.WAIT
    objectives: Objectives = Objectives()
    backup_server: BackupServerName | None = None
    all_backup_servers: bool = False
    exclude: tuple[str, ...] = ()
    expect: Expectation | None = None
    checks: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()
    several: bool = False
    sample: Sample | None = None
    of_file: bool = False

    def __str__(self) -> str:
        """Return what the plan says, for messages: `vm 'dc01' (12:5)`."""
        return f"{self.kind} {self.value!r} ({self.place})"


class Wave(WaveFacts, frozen=True, kw_only=True):
    """A set of targets that start together, once every wave in `after` has ended.

    `objectives` are the wave's own; those that hold for its targets are on the entries.
    A `critical` wave is one whose `on_error` is to halt.
    """

    entries: tuple[Entry, ...]


class Cleanup(Struct, frozen=True, kw_only=True):
    """When mounts are removed; one whose checks failed is first kept `keep_failed` seconds."""

    unmount: Unmount = Unmount.ALWAYS
    keep_failed: float | None = None


# --- notifications -------------------------------------------------------------------------


class HookKind(StrEnum):
    """What reads the messages that are posted to a webhook."""

    GENERIC = "generic"
    SLACK = "slack"
    TEAMS = "teams"


class NotifyOn(StrEnum):
    """What is worth a message."""

    FINISHED = "finished"
    HALTED = "halted"
    WAVE_FAILED = "wave_failed"
    OBJECTIVE_MISSED = "objective_missed"
    LEFTOVER = "leftover"


class Notification(Struct, frozen=True, kw_only=True):
    """A webhook that is told of a run. Its address is a secret: whoever has it can post there.

    `ca_file` holds the authorities to trust in place of the system's.
    """

    url: SecretReference
    kind: HookKind = HookKind.GENERIC
    on: tuple[NotifyOn, ...] = tuple(NotifyOn)
    ca_file: str | None = None

    def authorities(self) -> bytes | None:
        """Return the content of `ca_file`, or None if there is none.

        Raises:
            OSError: it cannot be read.
        """
        return None if self.ca_file is None else Path(self.ca_file).read_bytes()


class CarriedNotification(Notification, frozen=True, kw_only=True):
    """The same, with the content of its `ca_file`."""

    content: bytes

    def authorities(self) -> bytes | None:
        """Return the content."""
        return self.content


class RestorePlan(Struct, frozen=True, kw_only=True):
    """A valid plan. Waves are in the order of the file; `after` has no cycles."""

    name: str
    servers: Mapping[ServerName, ServerSettings]
    waves: tuple[Wave, ...]
    description: str | None = None
    mode: str = "drill"
    reason: str | None = None
    every: float | None = None
    """Seconds after which a proof of a target is too old; None: the plan is never due."""
    limits: RunLimits = RunLimits()
    objectives: Objectives = Objectives()
    regression: float | None = None
    """By which fraction the run may take longer than the median of earlier ones; None: any."""
    checks: CheckSets = field(default_factory=CheckSets)
    cleanup: Cleanup = Cleanup()
    notifications: tuple[Notification, ...] = ()
    gates: tuple[Gate, ...] = ()

    def entries(self, server: ServerName | None = None) -> tuple[Entry, ...]:
        """Return the entries of all waves in order, or those of one server."""
        return tuple(
            entry
            for wave in self.waves
            for entry in wave.entries
            if server is None or entry.server == server
        )

    @property
    def draws(self) -> bool:
        """True if the run's seed decides anything: a sample or a point without its own seed."""
        return any(
            (
                entry.sample is not None
                and entry.sample.order is SampleOrder.RANDOM
                and entry.sample.seed is None
            )
            or (entry.point.policy is PolicyName.RANDOM and entry.point.seed is None)
            for entry in self.entries()
        )

    @property
    def samples_stalest(self) -> bool:
        """True if the plan must know when machines were last proven."""
        return any(
            entry.sample is not None and entry.sample.order is SampleOrder.STALEST
            for entry in self.entries()
        )
