"""One logon session of a run, and what belongs to it alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import anyio
from msgspec import Struct, field

from orchestrator.core.events import SessionEnded, StrayFound
from orchestrator.core.model import Href, Mount, MountKey, SessionId, Task, TaskId
from orchestrator.core.policy import SESSION_IDLE_LIMIT
from orchestrator.core.ports.server import GuestSession
from orchestrator.engine.watcher import Watcher

FORGOTTEN_AFTER = SESSION_IDLE_LIMIT + 1.0
"""Seconds after the last use of a session when its mounts count in no limit any more."""

MOUNT_OPERATIONS = frozenset({"MountRestorePoint", ""})
"""What a mount task calls itself; an absent Operation is not held against it."""


class Connection(Struct):
    """One logon session and what belongs to it alone."""

    session: GuestSession
    watcher: Watcher
    opened_at: float = 0.0
    """When its logon was answered, on the run's clock."""
    answered: bool = False
    """Whether anything has been answered inside it: only then the logon was worth something."""
    posting: anyio.Lock = field(default_factory=partial(anyio.Lock, fast_acquire=True))
    """Held from a mount POST until its fate is known: one unanswered POST per session."""
    over: anyio.Event = field(default_factory=anyio.Event)
    """Set when the session is lost, given up, or not needed any more."""
    lost: bool = False
    denied_at: float = -math.inf
    """When the server denied the session, or it answered once more, on the run's clock."""
    related_links_work: bool | None = None
    """Whether the address in a finished task's Related link has been seen to answer."""
    first_link: anyio.Event | None = None
    """Set when the first such address has been tried; None before."""
    mounts: set[Href] = field(default_factory=set)
    """Mount points already attributed to a target; each belongs to one."""
    held: set[Href] = field(default_factory=set)
    """Those of them that only are held open, because the plan asks for it."""
    counts: bool = True
    """Whether a single task of nobody's must be the one in doubt: not once a request may act late,
    or more tasks have been seen than requests."""
    strangers: bool = False
    """Whether the server has been seen to list mounts that are not this session's."""
    looked_at: float = -math.inf
    """When its tasks were last read for a request in doubt, on the run's clock."""
    nobodys: dict[TaskId, float] = field(default_factory=dict)
    """When mount tasks that belonged to no target were last shown, on the run's clock."""
    shown: dict[TaskId, float] = field(default_factory=dict)
    """When such tasks were first shown, on the run's clock."""
    listed: dict[Href, float] = field(default_factory=dict)
    """When mounts that belonged to no target were first listed, on the run's clock."""
    doubts: set[MountKey] = field(default_factory=set)
    """Targets whose request here is in doubt now."""
    strays: dict[TaskId, StrayFound] = field(default_factory=dict)
    """Tasks of the session that belong to no target and may have left a mount open."""
    audited: bool | None = None
    """What the closing audit found: True if nothing is open; None if there was none."""
    unaudited: str | None = None
    """Why the closing audit could not tell whether a mount of no target is open."""

    read_at: float = -math.inf
    """When all its tasks were last read while nothing was being asked for, on the run's clock."""
    accounted: bool = False
    """Whether each of them was a target's then."""

    def forgotten_in(self, now: float) -> float:
        """Return in how many seconds the server must have forgotten a session that it denies.

        It may deny it for a while only: until then its mounts may be open.
        """
        return self.denied_at + FORGOTTEN_AFTER - now

    def is_nobodys(self, task: Task) -> bool:
        """Return whether a task mounts something, and belongs to no target yet."""
        return task.operation in MOUNT_OPERATIONS and task.id not in self.watcher.claimed

    def looked(self, shown: Sequence[Task], listed: Sequence[Mount], at: float) -> None:
        """Note which tasks the session showed, and which mounts without a target, `at` a time."""
        self.looked_at = at
        self.nobodys.update((task.id, at) for task in shown if self.is_nobodys(task))
        self.show(shown, at)
        for mount in listed:
            self.listed.setdefault(mount.href, at)

    def show(self, tasks: Sequence[Task], at: float) -> None:
        """Note when tasks without a target were first shown."""
        for task in tasks:
            if self.is_nobodys(task):
                self.shown.setdefault(task.id, at)

    def can_have_made(self, task: Task, mounts: Sequence[Mount]) -> bool:
        """Return whether a task was shown no later than one of the mounts was listed."""
        return any(self.shown[task.id] <= self.listed[mount.href] for mount in mounts)

    def lost_sight_of(self, since: float, *, before: float) -> bool:
        """Return whether a task without a target, shown `since` then and `before`, is gone."""
        return any(
            since <= at < min(before, self.looked_at) and task not in self.watcher.claimed
            for task, at in self.nobodys.items()
        )


class EarlierSession(Struct, frozen=True, kw_only=True):
    """The journal's facts about a session that an earlier process opened."""

    session: SessionId
    tasks: frozenset[TaskId] = frozenset()
    mounts: frozenset[Href] = frozenset()
    in_doubt: bool = False
    """Whether a mount was asked for whose answer is not in the journal."""
    strays: tuple[StrayFound, ...] = ()
    """Mounts of no target that the earlier process could not remove."""
    unended: bool = False
    """Whether mounts were asked for in it, and the journal does not say how it ended."""
    end: SessionEnded | None = None
    """How it ended, with or without mounts, where the journal says that."""
    over: bool = False
    """Whether the journal says that nothing is open in it any more, or that it is lost."""
    used_until: float = -math.inf
    """When that process may have used it last, on the run's clock."""

    def may_live(self, now: float) -> bool:
        """Return whether a server that denies it may know it all the same, and mounts in it."""
        return not self.over and now <= self.used_until + FORGOTTEN_AFTER
