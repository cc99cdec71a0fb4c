"""Going on where an earlier process of the run ended.

The journal says how far every target was, and the session that the earlier process left, if
it still lives, knows the rest: its running tasks are watched on, what was in doubt is settled
there, what is mounted is proven and removed, what is held is held on until its time, and what
was being searched goes on with the next restore point. Where the session is gone, nobody can
know any more, and that is what is said. Nothing that may have been asked for is asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import anyio
import structlog
from anyio.abc import TaskGroup

from orchestrator.engine.admission import Slot
from orchestrator.engine.attempt import (
    OUT_OF_KNOWLEDGE,
    After,
    Attempt,
    Crew,
    record_out_of_reach,
)
from orchestrator.engine.keeping import keep
from orchestrator.engine.mounting import (
    conclude,
    go_on,
    holding,
    prove_and_release,
    with_next_point,
)
from orchestrator.engine.proving import find_mount, find_without_task, record_found
from orchestrator.engine.recovery import (
    Unsettled,
    find_all_started,
    unclaimed_mounts,
    unclaimed_tasks,
)
from orchestrator.engine.releasing import release, remove
from orchestrator.engine.site import PATIENCE, Connection, Left, Site
from orchestrator.engine.watcher import TaskVanished
from orchestrator.errors import NotFound, RequestRefused, ServerUnusable
from orchestrator.events import (
    MountReleased,
    SubmissionInDoubt,
    SubmissionRefused,
    TargetReopened,
    TaskAccepted,
    TasksAttributed,
)
from orchestrator.lifecycle import HOLDING_PHASES, MountRecord, Phase
from orchestrator.model import (
    Href,
    Mount,
    MountKey,
    MountRequest,
    MountState,
    ServerName,
    SessionId,
    TaskId,
)
from orchestrator.runstate import is_wanted_again
from orchestrator.search import is_settled

log = structlog.get_logger(__name__)

DOUBTFUL = frozenset({Phase.SUBMITTING, Phase.IN_DOUBT})


@dataclass(slots=True)
class Remains:
    """What an earlier process left to do, sorted out."""

    waiting: list[MountRequest] = field(default_factory=list)
    """Not submitted, or free to be tried once more."""
    begun: list[MountRequest] = field(default_factory=list)
    """A mount may be open or under way: their slots are taken before anything else."""
    left: list[MountRequest] = field(default_factory=list)
    """Concluded, but a mount of theirs may be open."""
    unlisted: list[ServerName] = field(default_factory=list)
    """Servers whose targets are not known yet."""


def sort_out(crew: Crew, *, retry_failed: bool) -> Remains:
    """Say what is left to do, and conclude what needs nothing more than its conclusion.

    Targets that were never submitted are taken up again. Those that failed, or whose outcome
    is unknown, only with `retry_failed`, and never while a mount of theirs may be open; their
    attempts and their restore points are then counted anew, from the first choice on.
    """
    remains = Remains()
    listed: set[ServerName] = set()
    for record in crew.ledger.records:
        server = record.planned.server
        if record.planned.point is None:
            if is_wanted_again(record, retry_failed=retry_failed):
                remains.unlisted.append(server)
            listed.add(server)
            continue
        listed.add(server)
        _sort(record, crew, remains, retry_failed=retry_failed)
    remains.unlisted += [server for server in crew.sites if server not in listed]
    remains.unlisted = list(dict.fromkeys(remains.unlisted))
    return remains


def _sort(record: MountRecord, crew: Crew, remains: Remains, *, retry_failed: bool) -> None:
    request = request_of(record)
    if record.phase in HOLDING_PHASES:
        remains.begun.append(request)
        return
    if record.phase is Phase.QUEUED and is_settled(record):
        again = with_next_point(request, crew)
        if again is not None:  # the search goes on where it was
            remains.waiting.append(again)
            return
    if record.phase is Phase.OUT_OF_REACH or (record.phase is Phase.QUEUED and is_settled(record)):
        conclude(request, crew)
        record = crew.ledger[request.key]
    if record.phase is Phase.QUEUED:
        remains.waiting.append(request)
    elif record.may_be_open:
        remains.left.append(_asked_for(record))
    elif is_wanted_again(record, retry_failed=retry_failed):
        reopen(record, crew)
        remains.waiting.append(request_of(crew.ledger[request.key]))


def _asked_for(record: MountRecord) -> MountRequest:
    """Return the request whose mount may be open: the last one, whatever the result is about."""
    request, point = request_of(record), record.open_point
    return request if point is None else replace(request, point=point)


def reopen(record: MountRecord, crew: Crew, request: MountRequest | None = None) -> None:
    """Record that a concluded target is taken up again, with the point of `request` if given."""
    assert record.result is not None  # noqa: S101 - only concluded targets are reopened
    crew.ledger.record(
        TargetReopened(
            at=crew.ledger.now(),
            key=record.planned.key,
            was=record.result,
            point=request.point if request else None,
            policy=request.policy if request else "",
        )
    )


def request_of(record: MountRecord) -> MountRequest:
    """Return the request of a target, exactly as it was planned."""
    planned, point = record.planned, record.point
    assert point is not None  # noqa: S101 - targets without one are never requested
    return MountRequest(
        key=planned.key,
        wave=planned.wave,
        server=planned.server,
        label=planned.label,
        point=point,
        os_kind=planned.os_kind,
        critical=planned.critical,
        timeouts=planned.timeouts,
        retries=planned.retries,
        objectives=planned.objectives,
        policy=record.point_why,
        place=planned.place,
        checks=planned.checks,
        downloads=planned.downloads,
        search=planned.search,
        incident_at=planned.incident_at,
    )


def left_in(
    session: SessionId | None,
    records: Iterable[MountRecord],
    attributed: Iterable[TasksAttributed] = (),
) -> Left | None:
    """Return what the journal says of a session, or None if there is no session."""
    if session is None:
        return None
    tasks = {task for each in attributed if each.session == session for task in each.tasks}
    mounts: set[Href] = set()
    in_doubt = False
    for record in records:
        tasks.update(
            attempt.task
            for attempt in record.attempts
            if attempt.session == session and attempt.task is not None
        )
        if record.attempts and record.attempts[-1].session == session:
            if record.mount is not None and record.mount_state is not MountState.RELEASED:
                mounts.add(record.mount)
            in_doubt = in_doubt or _is_in_doubt(record)
    return Left(tasks=frozenset(tasks), mounts=frozenset(mounts), in_doubt=in_doubt)


def _is_in_doubt(record: MountRecord) -> bool:
    """Tell whether a mount was asked for, and neither task nor refusal is known."""
    return record.phase in DOUBTFUL or (
        record.may_be_open and record.mount is None and record.attempts[-1].task is None
    )


class Settlement:
    """What the POSTs started whose answers are not in the journal, per session; found once."""

    def __init__(self, requests: Sequence[MountRequest], crew: Crew) -> None:
        """`requests` are all that were begun or left."""
        self._crew = crew
        self._requests = requests
        self._lock = anyio.Lock()
        self._found: dict[MountKey, TaskId | Mount | None] = {}
        self._failed: dict[SessionId, Unsettled] = {}
        self._done: set[SessionId] = set()

    async def of(self, attempt: Attempt) -> TaskId | Mount | None:
        """Return what an attempt in doubt started, None if nothing.

        Raises:
            Unsettled: nobody can say which of several it is.
            SessionLost, ServerUnusable: nobody can say any more.
        """
        session = attempt.session.id
        async with self._lock:
            if session not in self._done:
                await self._settle(attempt.connection, attempt.site)
                self._done.add(session)
        if session in self._failed:
            raise Unsettled(str(self._failed[session]))
        return self._found[attempt.key]

    async def _settle(self, connection: Connection, site: Site) -> None:
        session = connection.session.id
        doubtful = [request for request in self._requests if self._is_in_doubt(request, session)]
        points = [request.point for request in doubtful]
        allowed = 2 * max(request.timeouts.mount for request in doubtful)
        try:
            async with connection.posting:
                found = await site.within(
                    allowed, lambda: find_all_started(connection, site, points)
                )
            if found is None:
                raise Unsettled(f"tasks of the earlier process still run after {allowed:g} s")
            self._found.update(zip([each.key for each in doubtful], found, strict=True))
        except (Unsettled, RequestRefused) as exc:
            connection.unsettled = True
            self._failed[session] = Unsettled(str(exc))
        finally:
            connection.settled.set()

    def _is_in_doubt(self, request: MountRequest, session: SessionId) -> bool:
        record = self._crew.ledger[request.key]
        return record.attempts[-1].session == session and _is_in_doubt(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakingUp:
    """The rest of the attempts that an earlier process began."""

    settlement: Settlement
    forgotten_at: float
    """When the servers have forgotten the earlier process's sessions, on the run's clock.

    Nobody knows when that process last used them; it was before this one began.
    """
    background: TaskGroup
    """Where slots wait for that; cancelled once nothing wants a slot any more."""

    async def finish(self, request: MountRequest, slot: Slot, crew: Crew) -> After:
        """Bring an attempt that was begun to its end; takes the place of `mounting._attempt`."""
        attempt = await self._attempt(request, slot, crew)
        if attempt is None:
            return After.CONCLUDE
        return await holding(attempt, self._go_on)

    async def tidy(self, request: MountRequest, slot: Slot, crew: Crew) -> None:
        """Remove what a concluded target may have left mounted; its result stays what it is."""
        attempt = await self._attempt(request, slot, crew)
        if attempt is not None:
            await holding(attempt, self._remove_if_reachable)

    async def _attempt(self, request: MountRequest, slot: Slot, crew: Crew) -> Attempt | None:
        """Return the attempt in its own session, or None, and said so, if that is gone."""
        site, record = crew.sites[request.server], crew.ledger[request.key]
        why = "the run was interrupted, and its logon session is gone with what it had mounted"
        try:
            connection = await site.taken_up()
        except ServerUnusable as exc:
            connection, why = None, f"the run was interrupted, and its server is gone: {exc}"
        except anyio.get_cancelled_exc_class():
            _give_up(request, crew, "stopped before its logon session was found again")
            slot.forfeit()
            raise
        if connection is not None and connection.session.id == record.attempts[-1].session:
            return Attempt(request=request, connection=connection, site=site, crew=crew, slot=slot)
        _give_up(request, crew, why)
        if site.had_kept:
            slot.release()
        else:
            self.background.start_soon(self._free_when_forgotten, slot, crew)
        return None

    async def _free_when_forgotten(self, slot: Slot, crew: Crew) -> None:
        """Free a slot once a session whose token was not kept must have been forgotten.

        The mounts of that session stay open until then, so they hold their slots.
        """
        await anyio.sleep(max(0.0, self.forgotten_at - crew.ledger.now()))
        slot.release()

    async def _go_on(self, attempt: Attempt) -> After:
        record = attempt.record
        if record.phase in DOUBTFUL:
            return await self._settle(attempt)
        task = record.attempts[-1].task
        if record.phase is Phase.RUNNING and task is not None:
            return await go_on(attempt, task)
        if record.phase is Phase.COLLECTING and task is not None:
            return await prove_and_release(attempt, await _mount_of(attempt, task))
        if record.mount is None:
            raise Unsettled("the journal does not say where it is mounted")
        if record.verdict is None and record.phase is Phase.VERIFYING:
            return await prove_and_release(attempt, await _read_again(attempt, record.mount))
        if record.phase in {Phase.VERIFYING, Phase.HELD}:
            await keep(attempt)
        await release(attempt, record.mount)
        return After.CONCLUDE

    async def _settle(self, attempt: Attempt) -> After:
        if attempt.record.phase is Phase.SUBMITTING:
            why = "the run was interrupted before the answer"
            attempt.ledger.record(SubmissionInDoubt(at=attempt.now, key=attempt.key, reason=why))
        started = await self.settlement.of(attempt)
        if isinstance(started, Mount):
            return await go_on(attempt, record_found(attempt, started))
        if started is not None:
            attempt.ledger.record(
                TaskAccepted(at=attempt.now, key=attempt.key, task=started, adopted=True)
            )
            return await go_on(attempt, started)
        attempt.ledger.record(
            SubmissionRefused(
                at=attempt.now,
                key=attempt.key,
                reason="the run was interrupted before the answer, and nothing is mounted",
                proved_absent=True,
            )
        )
        attempt.connection.absent[attempt.key, attempt.request.point.id] = attempt.request
        return After.REQUEUE

    async def _remove_if_reachable(self, attempt: Attempt) -> After:
        """Remove what is left; where nobody can say any more, the record says so already."""
        try:
            await self._remove_all(attempt)
        except OUT_OF_KNOWLEDGE as exc:
            log.warning("leftover.not_removed", key=attempt.key, why=str(exc))
        return After.CONCLUDE

    async def _remove_all(self, attempt: Attempt) -> None:
        """Remove every mount that can only be this target's."""
        record, mounts = attempt.record, dict.fromkeys(await self._mounts_of(attempt))
        if record.mount is not None:
            mounts[record.mount] = None
        if record.mount_state is MountState.UNKNOWN:
            tasks = await unclaimed_tasks(attempt.connection, attempt.site)
            if not all(task.is_final for task in tasks):
                raise Unsettled("a task that belongs to no target still runs")
        for mount in mounts:
            if await remove(attempt, mount) is not None:
                return
        attempt.ledger.record(MountReleased(at=attempt.now, key=attempt.key))

    async def _mounts_of(self, attempt: Attempt) -> list[Href]:
        """Return the mounts of the target's point, once its task cannot make one any more."""
        record = attempt.record
        task = record.attempts[-1].task
        if record.mount is None and task is None:
            started = await self.settlement.of(attempt)
            if isinstance(started, Mount):
                return [started.href]
            task = started
        ended = True
        if task is not None and record.mount is None:
            ended = await self._has_ended(attempt, task)
        found = await unclaimed_mounts(attempt.connection, attempt.site, attempt.request.point)
        if not (ended or found):
            raise Unsettled(f"nobody saw {task} end; it may yet be mounted")
        return [mount.href for mount in found]

    async def _has_ended(self, attempt: Attempt, task: TaskId) -> bool:
        """Wait for the task of an earlier process, as long as a run would; False: not seen to."""
        try:
            found = await attempt.site.within(
                2 * attempt.request.timeouts.mount,
                lambda: attempt.connection.watcher.finished(task),
            )
        except TaskVanished:
            return False
        return found is not None


def _give_up(request: MountRequest, crew: Crew, why: str) -> None:
    """Record that nobody can say any more; a target that is concluded says so already."""
    if crew.ledger[request.key].phase in HOLDING_PHASES:
        record_out_of_reach(request, crew, why)


async def _mount_of(attempt: Attempt, task: TaskId) -> Mount | None:
    """Return the mount of a finished task, whose own words may be purged by now."""
    try:
        found = await attempt.site.persistently(
            attempt.connection, lambda: attempt.session.task(task), patience=PATIENCE
        )
    except NotFound:
        return await find_without_task(attempt)
    return await find_mount(attempt, found)


async def _read_again(attempt: Attempt, mount: Href) -> Mount | None:
    """Return the mount as it is now, or None if nothing answers there any more."""
    try:
        return await attempt.site.persistently(
            attempt.connection, lambda: attempt.session.mount(mount), patience=PATIENCE
        )
    except NotFound:
        return None
