"""Enterprise Manager semantics without HTTP: sessions, tasks, mounts, on an injected clock.

Tasks and mounts belong to the logon session that made them and are invisible to every
other. A backup server works on `backup_server_slots` mounts at once; the others queue, so
over-subscription slows everybody. Every fact here is from the protocol reference.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from orchestrator.simulator.activity import SimActivity
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.failures import failure_of
from orchestrator.simulator.inventory import Inventory, Machine, Point
from orchestrator.simulator.truth import GroundTruth, MountFate

ROLES_THAT_MOUNT = frozenset({"Portal Administrator", "File Restore Operator"})
ROLES_THAT_LIST_BACKUP_SERVERS = frozenset({"Portal Administrator", "Portal User"})
APART = 1 << 127
"""Keeps the ids of sessions apart from those of an inventory that was made with the same seed."""

ROLES_THAT_SEE_RESTORES = ROLES_THAT_MOUNT | {"Portal User", "VM Restore Operator"}
ROLES_THAT_SEE_REPLICATIONS = frozenset({"Portal Administrator", "Portal User"})
ROLES_THAT_SEE_POINTS = ROLES_THAT_MOUNT | {"Portal User", "VM Restore Operator"}
FAMILY_ENTITIES = {
    "vmreplicapoints": ("vmReplicaPoints", "VmReplicaPoint"),
    "vmrestorepoints": ("vmRestorePoints", "VmRestorePoint"),
    "agents/agentrestorepoints": ("agents/agentRestorePoints", "AgentRestorePoint"),
}
OTHER_FAMILY = {
    "vmReplicaPoints": "vmRestorePoints",
    "vmRestorePoints": "vmReplicaPoints",
    "agents/agentRestorePoints": "vmRestorePoints",
}


UNMOUNT_FAILED = "Failed to unmount: the mount point is used by another process."


@dataclass(frozen=True, slots=True)
class User:
    """An account: name as typed, password, role, and the jobs it may see (None is all).

    It may restore files only to their own place where `in_place_only`, and only those with
    one of the `extensions` (with the dot, lower case) where any are named.
    """

    name: str
    password: str
    role: str = "File Restore Operator"
    scope: frozenset[str] | None = None
    in_place_only: bool = False
    extensions: frozenset[str] | None = None

    def sees(self, point: Point) -> bool:
        """Tell whether a point is within the restore scope; outside it is simply absent."""
        return self.scope is None or point.machine.job in self.scope


@dataclass(slots=True, eq=False)
class SimTask:
    """A task of one session."""

    id: str
    operation: str
    state: str = "Running"
    success: bool | None = None
    message: str | None = None
    mount: SimMount | None = None
    downloads: list[str] = field(default_factory=list)
    credentials_needed: bool = False
    finished_at: float | None = None
    is_hidden: bool = False
    """It was shown last as running, though it was further."""


@dataclass(slots=True, eq=False)
class SimMount:
    """A mount point of one session; `number` is unique within session and point."""

    number: int
    family: str
    point: Point
    os_kind: str
    fate: MountFate
    ready: bool = False
    staged: dict[str, str] = field(default_factory=dict)
    """Path of the Download link, as paths are compared, and the file it leads to."""


@dataclass(slots=True, eq=False)
class SimSession:
    """A logon session: the token is not its id."""

    id: str
    token: str
    user: User
    last_used: float
    tasks: dict[str, SimTask] = field(default_factory=dict)
    task_count: int = 0
    mounts: dict[tuple[str, str], dict[int, SimMount]] = field(default_factory=dict)
    mount_count: dict[tuple[str, str], int] = field(default_factory=dict)


class SimulatedManager:
    """One Enterprise Manager. Needs a running event loop for its timers."""

    def __init__(
        self,
        name: str,
        inventory: Inventory,
        *,
        users: Mapping[str, User],
        behaviour: Behaviour | None = None,
        truth: GroundTruth | None = None,
        seed: int = 0,
        duration: Callable[[Point, random.Random], float] | None = None,
        epoch: datetime | None = None,
    ) -> None:
        """`duration` gives the seconds a mount takes. Its clock is the loop's.

        `epoch` is what its wall clock shows when that is 0; by default it shows the real time.
        `skew` may be changed at any time: the server's clock jumps.
        """
        self.name = name
        self.inventory = inventory
        self.users = {user.casefold(): found for user, found in users.items()}
        self.behaviour = behaviour or Behaviour()
        self.truth = truth or GroundTruth()
        self.skew = 0.0
        self._epoch = epoch
        self.sessions: dict[str, SimSession] = {}
        self.activities: list[SimActivity] = []
        """What else happens on the backup servers; may be added to at any time."""
        self._rng = random.Random(seed)  # noqa: S311 - a simulation, not a secret
        self._duration = duration or usual_duration
        self._busy: dict[str, int] = {}
        self._queues: dict[str, deque[tuple[SimSession, SimTask]]] = {}
        self._listed: dict[str, Point] | None = None
        self._collected_at = float("-inf")
        self.first_used_s: float | None = None
        """When somebody logged on first, on its clock; None: nobody has."""
        self._idle = [machine for machine in inventory.machines if machine.busy_s > 0]

    def clock(self) -> float:
        """Return the seconds on the server's clock."""
        return asyncio.get_running_loop().time() + self.skew

    def time_of(self, second: float) -> datetime:
        """Return what its wall clock shows, or has shown, at a second of its clock."""
        return self.wall_clock() + timedelta(seconds=second - self.clock())

    def wall_clock(self) -> datetime:
        """Return the time of the server's Date header."""
        if self._epoch is None:
            return datetime.now(UTC) + timedelta(seconds=self.skew)
        return self._epoch + timedelta(seconds=self.clock())

    # --- sessions --------------------------------------------------------------------------

    def logon(self, name: str, password: str) -> SimSession | None:
        """Return a new session, or None for bad credentials."""
        user = self.users.get(name.casefold())
        if user is None or user.password != password:
            return None
        token = b64encode(bytes([0xFB, 0xFF, 0xBF]) + self._rng.randbytes(13)).decode()
        session = SimSession(self._guid(), token, user, self.clock())
        self.sessions[token] = session
        self.truth.logons += 1
        self._expire_later(session)
        self._begin_work()
        return session

    def _begin_work(self) -> None:
        """Let the jobs of busy machines work from the first logon on, for as long as they do."""
        now = self.clock()
        self.first_used_s = now if self.first_used_s is None else self.first_used_s
        for machine in self._idle:
            until_s = now + machine.busy_s
            self.activities.append(
                SimActivity(kind="replication", machine=machine, from_s=now, until_s=until_s)
            )
        self._idle.clear()

    def session(self, token: str) -> SimSession | None:
        """Return the living session of a token and count this as its use."""
        session = self.sessions.get(token)
        if session is None:
            return None
        if self.clock() - session.last_used >= self.behaviour.idle_limit_s:
            self._expire(session)
            return None
        session.last_used = self.clock()
        return session

    def _expire(self, session: SimSession) -> None:
        self.truth.sessions_expired += 1
        self.end(session)

    def _expire_later(self, session: SimSession) -> None:
        """Look again when the session could have idled too long, without any request."""
        left = session.last_used + self.behaviour.idle_limit_s - self.clock()
        later = max(0.001, left)  # what rounding leaves of a second would not move a virtual clock
        asyncio.get_running_loop().call_later(later, self._look_again, session)

    def _look_again(self, session: SimSession) -> None:
        if session.token not in self.sessions:
            return
        if self.clock() - session.last_used >= self.behaviour.idle_limit_s:
            self._expire(session)
        else:
            self._expire_later(session)

    def end(self, session: SimSession, *, as_wished: bool = False) -> None:
        """Forget a session, `as_wished` by its owner; its mounts stay as orphans."""
        self.sessions.pop(session.token, None)
        waiting = [task.mount for task in session.tasks.values() if task.mount is not None]
        made = [mount for mounts in session.mounts.values() for mount in mounts.values()]
        for mount in (*waiting, *made):
            self.truth.orphan(mount.fate, self.clock())
            mount.fate.forgotten = mount.fate.forgotten or not as_wished

    def log_off(self, session: SimSession) -> None:
        """End a session as its owner wished."""
        self.truth.sessions_closed += 1
        self.end(session, as_wished=True)

    def restart(self) -> None:
        """Restart the service: every session is gone."""
        for session in tuple(self.sessions.values()):
            self.end(session)

    # --- inventory -------------------------------------------------------------------------

    def listed(self) -> Inventory | dict[str, Point]:
        """Return what a query shows now: the inventory, or the last collection's copy of it."""
        if not self.behaviour.collection_every_s:
            return self.inventory
        if self.clock() - self._collected_at >= self.behaviour.collection_every_s:
            self.collect()
        return self._listed or {}

    def collect(self) -> None:
        """Collect data now: removed points disappear, new ones appear."""
        self._collected_at = self.clock()
        self._listed = {key: point for key, point in self.inventory.by_id.items() if not point.gone}

    # --- tasks and mounts ------------------------------------------------------------------

    def start_mount(
        self,
        session: SimSession,
        family: str,
        point: Point,
        os_kind: str,
        *,
        late_s: float = 0.0,
        unforeseen: bool = False,
    ) -> SimTask:
        """Accept a mount: always a new one, even of a point that is mounted already.

        `late_s` after its request arrived; `unforeseen` by any client.
        """
        key = (family, point.id)
        number = self._next_mount(session, key)
        task = self.new_task(session, "MountRestorePoint")
        machine = point.machine
        fate = MountFate(
            server=self.name,
            session=session.id,
            task=task.id,
            point=point.id,
            vm=machine.name,
            backup_server=machine.backup_server.name,
            number=number,
            requested_at=self.clock(),
            late_s=late_s,
            unforeseen=unforeseen,
        )
        self.truth.opened(fate)
        task.mount = SimMount(number, family, point, os_kind, fate)
        self._queues.setdefault(machine.backup_server.id, deque()).append((session, task))
        self._work(machine.backup_server.id)
        return task

    def new_task(self, session: SimSession, operation: str) -> SimTask:
        """Number a task: every session counts from task-1."""
        counted = self._numbered_together(session, "tasks")
        session.task_count = 1 + max((each.task_count for each in counted), default=0)
        task = SimTask(f"task-{session.task_count}", operation)
        session.tasks[task.id] = task
        return task

    def _next_mount(self, session: SimSession, key: tuple[str, str]) -> int:
        """Number a mount: every session counts from 1 for each point."""
        counted = self._numbered_together(session, "mounts")
        number = 1 + max((each.mount_count.get(key, 0) for each in counted), default=0)
        session.mount_count[key] = number
        return number

    def _numbered_together(self, session: SimSession, what: str) -> Iterable[SimSession]:
        """Return the sessions whose tasks or mounts are numbered together."""
        return self.sessions.values() if self.behaviour.shows_others == what else (session,)

    def tasks_shown(self, session: SimSession) -> dict[str, SimTask]:
        """Return the tasks that a session is shown by their names."""
        if self.behaviour.shows_others != "tasks":
            return session.tasks
        return {name: task for each in self._own_last(session) for name, task in each.tasks.items()}

    def mounts_shown(self, session: SimSession, key: tuple[str, str]) -> dict[int, SimMount]:
        """Return the mounts of a point that a session is shown by their numbers."""
        if self.behaviour.shows_others != "mounts":
            return session.mounts.get(key, {})
        shown = [each.mounts.get(key, {}) for each in self._own_last(session)]
        return {number: mount for mounts in shown for number, mount in mounts.items()}

    def _own_last(self, session: SimSession) -> list[SimSession]:
        others = [each for each in self.sessions.values() if each is not session]
        return [*others, session]

    def _work(self, backup_server: str) -> None:
        queue = self._queues[backup_server]
        loop = asyncio.get_running_loop()
        while queue and self._busy.get(backup_server, 0) < self.behaviour.backup_server_slots:
            session, task = queue.popleft()
            if task.mount is None:
                continue
            self._busy[backup_server] = self._busy.get(backup_server, 0) + 1
            seconds = self._duration(task.mount.point, self._rng)
            loop.call_later(seconds, self._operation_done, session, task, backup_server)

    def _operation_done(self, session: SimSession, task: SimTask, backup_server: str) -> None:
        self._busy[backup_server] -= 1
        self._work(backup_server)
        behaviour = self.behaviour
        if task.mount is None:
            return
        if self._rng.random() < behaviour.operation_finished_share:
            task.state, task.success, task.message = "OperationFinished", True, "OperationFinished"
            loop = asyncio.get_running_loop()
            loop.call_later(behaviour.operation_finished_s, self._finish, session, task)
        else:
            self._finish(session, task)

    def _finish(self, session: SimSession, task: SimTask) -> None:
        if task.mount is None:
            return
        failure = self.appear(session, task.mount)
        task.state, task.success, task.finished_at = "Finished", failure is None, self.clock()
        has_message = self._rng.random() < self.behaviour.message_share
        task.message = (failure or "Ok") if has_message else None

    def appear(self, session: SimSession, mount: SimMount) -> str | None:
        """Let a mount appear; return why it cannot."""
        now, failure = self.clock(), failure_of(self, mount)
        mount.fate.finished_at, mount.fate.succeeded = now, failure is None
        if failure is not None:
            self.truth.closed(mount.fate, now, "failed")
            return failure
        mount.ready = True
        session.mounts.setdefault((mount.family, mount.point.id), {})[mount.number] = mount
        if session.token not in self.sessions:
            self.truth.orphan(mount.fate, now)
        return None

    def activities_on(self, machine: Machine) -> list[SimActivity]:
        """Return what really is at work on a machine now, whatever the queries show."""
        now = self.clock()
        return [
            each for each in self.activities if each.machine is machine and each.is_at_work(now)
        ]

    def forget_old_tasks(self, session: SimSession) -> None:
        """Purge finished tasks that are old enough."""
        limit = self.behaviour.purge_finished_after
        if limit is None:
            return
        now = self.clock()
        for task in tuple(session.tasks.values()):
            if task.finished_at is not None and now - task.finished_at >= limit:
                del session.tasks[task.id]
                if task.mount is not None:
                    task.mount.fate.forgotten = task.mount.fate.purged = True

    def find_mount(
        self, session: SimSession, family: str, point: str, number: int
    ) -> SimMount | None:
        """Return a mount of this session, in the family it was posted to.

        The other family's address answers too where `related_answers` says so.
        """
        mount = self.mounts_shown(session, (family, point)).get(number)
        if mount is None and self.behaviour.related_answers:
            for own, other in OTHER_FAMILY.items():
                if other == family:
                    mount = mount or self.mounts_shown(session, (own, point)).get(number)
        return mount

    def unmount(self, session: SimSession, mount: SimMount) -> None:
        """Remove a mount of any session: a session that is shown a mount may remove it."""
        if mount.fate.session != session.id:
            self.truth.foreign_deletes += 1
        for each in (session, *self.sessions.values()):
            if each.id == mount.fate.session:
                each.mounts.get((mount.family, mount.point.id), {}).pop(mount.number, None)
        self.truth.closed(mount.fate, self.clock(), "unmounted")

    def unmount_by_task(self, session: SimSession, mount: SimMount, how: str) -> SimTask:
        """Accept an unmount: a task that removes the mount, or fails, or never ends."""
        task = self.new_task(session, "UnmountRestorePoint")
        if how != "endless_task":
            seconds = self.behaviour.unmount_s
            loop = asyncio.get_running_loop()
            loop.call_later(seconds, self._unmounted, session, mount, task, how == "task")
        return task

    def _unmounted(self, session: SimSession, mount: SimMount, task: SimTask, done: bool) -> None:
        task.state, task.success, task.finished_at = "Finished", done, self.clock()
        task.message = "Ok" if done else UNMOUNT_FAILED
        if done and session.token in self.sessions:
            self.unmount(session, mount)

    def _guid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128) ^ APART, version=4))


def usual_duration(point: Point, rng: random.Random) -> float:
    """Return how long a mount takes this time: the machine's own time, give or take."""
    return point.machine.mount_s * rng.uniform(0.9, 1.1)
