"""Targets that wait for slots which mounts keep of which nobody knows whether they are open.

A mount that may be open counts in every limit until its logon session must have been forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from math import inf

from orchestrator.core import events
from orchestrator.core.events import Event
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import BackupServerName, MountKey, MountState, ServerName, SessionId
from orchestrator.core.policy import SESSION_IDLE_LIMIT
from orchestrator.core.text import counted, printable
from orchestrator.views.eta import Eta

Resource = ServerName | tuple[ServerName, BackupServerName] | None
"""What has a limit: a server, a backup server, the run."""


class KeptSlots:
    """Which mounts that may be open keep their slots, and until when."""

    def __init__(self) -> None:
        """Before the first event."""
        self._unused: dict[tuple[ServerName, SessionId], float] = {}
        """Sessions that nobody can use any more: when one was used last, on the run's clock."""
        self._over: set[tuple[ServerName, SessionId]] = set()
        self._lost: set[tuple[ServerName, SessionId]] = set()
        """Sessions that were lost for good: who takes the run up waits for none of them."""
        self._forgotten: set[MountKey] = set()

    def observe(self, event: Event, asked: Iterable[tuple[ServerName, SessionId]]) -> None:
        """Take note of an event; mounts were `asked` for in these sessions."""
        match event:
            case events.RunResumed(at=at, used_until=until):
                self._leave(asked, at if until is None else until)
            case events.ShardTaken(server=server, used_until=until):
                self._leave([each for each in asked if each[0] == server], until)
            case events.SessionTakenUp(server=server, session=session):
                self._unused.pop((server, session), None)
            case events.SessionEnded(server=server, session=session, is_over=True, lost=False):
                self._over.add((server, session))
            case events.SessionEnded(server=server, session=session, at=at):
                self._unused.setdefault((server, session), at)
                if event.is_over:
                    self._lost.add((server, session))
            case events.MountForgotten(key=key):
                self._forgotten.add(key)
            case _:
                pass

    def _leave(self, sessions: Iterable[tuple[ServerName, SessionId]], at: float) -> None:
        for each in sessions:
            self._unused.setdefault(each, at)
            if each in self._lost:
                self._over.add(each)

    def until(self, record: MountRecord, now: float) -> float | None:
        """Return until when a mount that may be open keeps its slot; None: it keeps none now.

        Infinite where its session goes on, and nobody knows when that ends.
        """
        if record.mount_state is not MountState.UNKNOWN or not record.attempts:
            return None
        session = record.planned.server, record.attempts[-1].session
        if session in self._over or record.planned.key in self._forgotten:
            return None
        until = self._unused.get(session, inf) + SESSION_IDLE_LIMIT
        return until if until > now else None


def waiting_for_slots(
    kept: KeptSlots,
    left: Iterable[MountRecord],
    eta: Eta,
    now: float,
    told: Callable[[float], str],
) -> Iterator[str]:
    """Say which targets wait for slots that such mounts keep, and until about when.

    Only where they keep all slots; `told` gives the time of day of a second of the run.
    """
    keeping: dict[Resource, list[float]] = {}
    for record in left:
        until = kept.until(record, now)
        if until is not None:
            for resource in _resources(*eta.lane(record)[1:]):
                keeping.setdefault(resource, []).append(until)
    waiting: Counter[Resource] = Counter()
    for lane, count in eta.waiting():
        waiting.update(dict.fromkeys(_resources(lane.server, lane.backup_server), count))
    said: set[ServerName | None] = set()
    for resource in sorted(keeping, key=_rank):
        times, count = keeping[resource], waiting[resource]
        server = resource[0] if isinstance(resource, tuple) else resource
        if not count or len(times) < eta.slots(resource) or server in said or None in said:
            continue
        said.add(server)
        yield _words(resource, count, times, told)


def _resources(server: ServerName, backup: BackupServerName) -> tuple[Resource, ...]:
    return None, server, (server, backup)


def _rank(resource: Resource) -> tuple[int, str]:
    """Return what comes first: the run, then servers, then backup servers."""
    if resource is None:
        return 0, ""
    return (2, resource[1]) if isinstance(resource, tuple) else (1, resource)


def _words(resource: Resource, count: int, times: list[float], told: Callable[[float], str]) -> str:
    where = resource[1] if isinstance(resource, tuple) else resource
    on = f" on {printable(where)}" if where else ""
    verb, first = ("waits" if count == 1 else "wait"), min(times)
    mounts = f"{counted(len(times), 'mount')} {'keeps' if len(times) == 1 else 'keep'}"
    they = "it is" if len(times) == 1 else "they are"
    until = "" if first == inf else f", until about {told(first)}"
    return (
        f"{counted(count, 'target')}{on} {verb} for slots that {mounts} of which nobody knows "
        f"whether {they} open{until}"
    )
