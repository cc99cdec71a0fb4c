"""Events of one server: its logon sessions, its state, its limits."""

from __future__ import annotations

from msgspec import field

from orchestrator.core.activity import Activity
from orchestrator.core.events.base import ServerEvent, SessionEvent
from orchestrator.core.model import BackupServerName, Href, MountKey, RestorePointId, TaskId


class ActivitySeen(ServerEvent, frozen=True, kw_only=True):
    """What a server shows of restores and replications has changed.

    None: not visible to the account's role, or never answered. `shown` are those on the plan's
    machines; `others` counts the open file-level restores per backup server that are not ours.
    """

    restores: bool | None = None
    replications: bool | None = None
    shown: tuple[Activity, ...] = ()
    others: dict[BackupServerName, int] = field(default_factory=dict)


class SessionOpened(SessionEvent, frozen=True, kw_only=True):
    """A logon session was opened. `clock_offset_s`: server time minus ours, if known."""

    user: str
    api_version: str
    clock_offset_s: float | None = None
    certificate_sha256: str | None = None
    simulated: bool = False
    """The server says of itself that it is simulated: it proves nothing of a real one."""


class SessionTakenUp(SessionEvent, frozen=True, kw_only=True):
    """The logon session of an earlier process answered: its tasks and mounts are in reach again."""


class TasksAttributed(SessionEvent, frozen=True, kw_only=True):
    """Tasks belong to targets whose mounts were found; which task made which mount is not known.

    Without it a later process would take them for tasks that are in doubt. `mount` is what was
    found: a process that died before it recorded that has attributed nothing.
    """

    tasks: tuple[TaskId, ...]
    mount: Href | None = None


class StrayFound(SessionEvent, frozen=True, kw_only=True):
    """A mount task of one of our sessions that belongs to no target may have left a mount open.

    `mount` and `point` where they are known. It counts as left until `StrayReleased`; another one
    of the same task says what is known by then.
    """

    task: TaskId
    reason: str
    mount: Href | None = None
    point: RestorePointId | None = None


class StrayReleased(SessionEvent, frozen=True, kw_only=True):
    """The mount of a task that belongs to no target is gone."""

    task: TaskId


LOGGED_OFF = "logged off"
"""The reason for the end of a session in which nothing may be open."""


class SessionEnded(SessionEvent, frozen=True, kw_only=True):
    """A logon session ended: by our own logoff, or because the server lost it.

    `unaudited`: why it is unknown whether a mount of no target is open in it; None where it is
    known. One that was denied and has answered again is recorded a second time; the last counts.
    With `left_open` only our use of it ended: it lives on until its idle limit, and what may be
    mounted in it can still be released. If it was lost, too, the server denies it, but has not had
    the time to forget it.
    """

    lost: bool
    reason: str
    unaudited: str | None = None
    left_open: bool = False

    @property
    def is_over(self) -> bool:
        """True if it was logged off, or lost with nothing unknown in it.

        One that was lost with something unknown in it may be denied for a while only.
        """
        is_gone = self.lost and not self.left_open and self.unaudited is None
        return is_gone or self.reason == LOGGED_OFF


class ServerParked(ServerEvent, frozen=True, kw_only=True):
    """A server cannot be used for now; its targets wait.

    `since` is when it fell silent, on the run's clock, where that was noticed only later. Before
    `not_before` no logon is sent, for there were too many; None: one may have been.
    """

    reason: str
    since: float | None = None
    not_before: float | None = None


class ServerResumed(ServerEvent, frozen=True, kw_only=True):
    """A parked server answered again after `waited_s` seconds."""

    waited_s: float


class ServerPaced(ServerEvent, frozen=True, kw_only=True):
    """How many mounts a server is given from now on; None: as many as the plan allows."""

    allowed: int | None = None


class LimitsShared(ServerEvent, frozen=True, kw_only=True):
    """Targets on a server wait for mounts of other runs; without a reason: not any more.

    `waited_s` is how long that lasted, in seconds.
    """

    reason: str | None = None
    waited_s: float | None = None


class ServerGivenUp(ServerEvent, frozen=True, kw_only=True):
    """A server will not be used in this run any more. `refused`: by a refusal, not by silence."""

    reason: str
    refused: bool


class ShardTaken(ServerEvent, frozen=True, kw_only=True):
    """A worker took the server's part of the run: from now on it alone mounts there.

    `taken_over` is the worker whose lease had expired, if there was one. `epoch` rises with every
    taking. `used_until` is when an earlier worker may have used a session there last. `site` is the
    server's, as the plan names it.
    """

    worker: str
    host: str
    epoch: int
    used_until: float
    taken_over: str | None = None
    site: str | None = None


class ShardPlanned(ServerEvent, frozen=True, kw_only=True):
    """All targets of the server are planned, or it cannot be known which there are.

    `matched` is how many machines each `expect` guard has counted there, by its place in the plan;
    None where the server did not list.
    """

    matched: dict[str, int] | None = None


class ShardHolding(ServerEvent, frozen=True, kw_only=True):
    """Only mounts that are held are left on the server: other runs may mount there."""


class HaltAsked(ServerEvent, frozen=True, kw_only=True):
    """The worker of a server asks that the whole run halts; `reason` and `detail` as in RunHalted.

    The run has halted only once its own chain says so.
    """

    reason: str
    detail: str


class MountForgotten(ServerEvent, frozen=True, kw_only=True):
    """What a target may have left mounted counts in no limit any more.

    Nobody could see it released: the server must have forgotten its session by now.
    """

    key: MountKey


class ShardDamaged(ServerEvent, frozen=True, kw_only=True):
    """Records of the server's part of the run are lost: nobody goes on with it.

    What they told of may still be mounted. Written in its chain, or, where that cannot be read, in
    the run's own.
    """

    detail: str


class ShardFinished(ServerEvent, frozen=True, kw_only=True):
    """Nothing of the run is left to do on the server. `failure`: an internal error on the way."""

    failure: str | None = None


class ServerMeasured(ServerEvent, frozen=True, kw_only=True):
    """Requests, slots and sessions of one server over one process of the run.

    `peak_mounts` are slots: also of targets that were not asked for in the end, and without those
    of a process that was killed. Reports count mounts from the events instead.
    """

    requests: int
    retries: int
    peak_mounts: int
    sessions: int
