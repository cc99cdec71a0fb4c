"""What is left of a run, for the process that resumes it: `app.runner.resume` begins.

The journal says how far every target was, and the session that the earlier process left, if
it still lives, knows the rest: its running tasks are watched on, what was in doubt is settled
there, what is mounted is proven and removed, what is held is held on until its time, and what
was being searched goes on with the next restore point. Where the session is gone, nobody can
know any more, and that is what is said. Nothing that may have been asked for is asked for again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator
from contextlib import contextmanager

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.core.errors import NotFound, ServerUnusable
from orchestrator.core.events import MachineFree, MountReleased, SubmissionInDoubt, TargetReopened
from orchestrator.core.lifecycle import HOLDING_PHASES, MountRecord, Phase
from orchestrator.core.model import (
    Href,
    Mount,
    MountKey,
    MountRequest,
    MountState,
    ServerName,
    SessionId,
    Task,
    TaskId,
    same_fields,
)
from orchestrator.core.point_search import is_settled
from orchestrator.core.ports.server import EnterpriseManager
from orchestrator.core.run_state import is_left, is_wanted_again
from orchestrator.engine.connection import FORGOTTEN_AFTER
from orchestrator.engine.left import DOUBTFUL, is_seen
from orchestrator.engine.mount import stop
from orchestrator.engine.mount.attempt import (
    OUT_OF_KNOWLEDGE,
    Attempt,
    NextStep,
    RunContext,
    record_out_of_reach,
)
from orchestrator.engine.mount.conclude import conclude
from orchestrator.engine.mount.drive import (
    go_on,
    holding,
    let_go,
    prove_and_release,
    with_next_point,
)
from orchestrator.engine.mount.find import (
    find_mount,
    find_unrecorded,
    find_without_task,
    has_unclaimed_tasks,
    mount_of,
)
from orchestrator.engine.mount.hold import keep
from orchestrator.engine.mount.recover import Unsettled, hidden_tasks, outcome, unclaimed_tasks
from orchestrator.engine.mount.release import remove
from orchestrator.engine.mount.submit import doubt_of, settle
from orchestrator.engine.orders import Orders
from orchestrator.engine.sessions import PATIENCE
from orchestrator.engine.slot import Slot
from orchestrator.engine.watcher import TaskEndless, TaskVanished
from orchestrator.log import Log

log = Log(__name__)


class RemainingWork(Struct):
    """The work that an earlier process left."""

    waiting: list[MountRequest] = field(default_factory=list)
    """Not submitted, or free to be tried once more."""
    begun: list[MountRequest] = field(default_factory=list)
    """A mount may be open or under way: their slots are taken before anything else."""
    left: list[MountRequest] = field(default_factory=list)
    """Concluded, but a mount of theirs may be open."""
    unlisted: list[ServerName] = field(default_factory=list)
    """Servers whose targets are not known yet."""


def is_wanted(client: EnterpriseManager, orders: Orders) -> bool:
    """Return whether the run can want anything of a server; no other one is asked."""
    server, earlier = client.server, orders.earlier
    if earlier is None:
        return orders.selection.wants(server)
    records = [record for record in earlier.records if record.planned.server == server]
    retry_failed = earlier.retry_failed
    return (
        bool(client.kept)
        or (not records and orders.selection.wants(server))
        or bool(orders.selection.guarded_with(server))
        or any(
            is_left(record, retry_failed=retry_failed, skipped=earlier.skipped)
            for record in records
        )
    )


def sort_out(
    context: RunContext, *, retry_failed: bool, skipped: Container[MountKey] = ()
) -> RemainingWork:
    """Return the work that is left, and conclude the targets that need nothing else.

    Targets that were never submitted are taken up again, but for those that a person `skipped`.
    Those that failed, or whose outcome is unknown, only with `retry_failed`, and never while a
    mount of theirs may be open; their attempts and their restore points are then counted anew, from
    the first choice on.
    """
    remains = RemainingWork()
    listed: set[ServerName] = set()
    for record in context.ledger.records:
        name = record.planned.server
        if record.planned.point is None:
            if is_wanted_again(record, retry_failed=retry_failed, skipped=skipped):
                remains.unlisted.append(name)
            listed.add(name)
            continue
        listed.add(name)
        _sort(record, context, remains, retry_failed=retry_failed, skipped=skipped)
    remains.unlisted += [
        name
        for name, server in context.servers.items()
        if name not in listed and server.gate.given_up is None
    ]
    remains.unlisted = list(dict.fromkeys(remains.unlisted))
    return remains


def _sort(
    record: MountRecord,
    context: RunContext,
    remains: RemainingWork,
    *,
    retry_failed: bool,
    skipped: Container[MountKey],
) -> None:
    request = request_of(record)
    if record.phase is Phase.BUSY:  # whether it still is, is asked anew
        record = (
            context.ledger.record(MachineFree(at=context.ledger.now(), key=request.key)) or record
        )
    if record.phase in HOLDING_PHASES:
        remains.begun.append(request)
        return
    if record.phase is Phase.QUEUED and is_settled(record):
        again = with_next_point(request, context)
        if again is not None:  # the search goes on where it was
            remains.waiting.append(again)
            return
    if record.phase is Phase.OUT_OF_REACH or (record.phase is Phase.QUEUED and is_settled(record)):
        conclude(request, context)
        record = context.ledger[request.key]
    if record.phase is Phase.QUEUED:
        remains.waiting.append(request)
    elif record.may_be_open:
        remains.left.append(asked_for(record))
    elif is_wanted_again(record, retry_failed=retry_failed, skipped=skipped):
        reopen(record, context)
        remains.waiting.append(request_of(context.ledger[request.key]))


def asked_for(record: MountRecord) -> MountRequest:
    """Return the request whose mount may be open: the last one, whatever the result is about."""
    request, point = request_of(record), record.open_point
    return request if point is None else replace(request, point=point)


def session_of(request: MountRequest, context: RunContext) -> SessionId:
    """Return the session in which a target was asked for last."""
    return context.ledger[request.key].attempts[-1].session


def reopen(record: MountRecord, context: RunContext) -> None:
    """Record that a concluded target is taken up again."""
    assert record.result is not None  # noqa: S101 - only concluded targets are reopened
    at, key = context.ledger.now(), record.planned.key
    context.ledger.record(TargetReopened(at=at, key=key, was=record.result))


def request_of(record: MountRecord) -> MountRequest:
    """Return the request of a target, exactly as it was planned."""
    planned, point = record.planned, record.point
    assert point is not None  # noqa: S101 - targets without one are never requested
    return same_fields(MountRequest, planned, point=point, policy=record.point_why)


class UnfinishedWork:
    """Counts the work of earlier processes that is still going on in their sessions."""

    def __init__(self, sessions: Iterable[SessionId]) -> None:
        """`sessions` names the session of each attempt that was begun."""
        self._left = Counter(sessions)
        self._over = {session: anyio.Event() for session in self._left}

    @contextmanager
    def finishing(self, session: SessionId) -> Iterator[None]:
        """Count one attempt of the session as finished afterwards."""
        try:
            yield
        finally:
            self._left[session] -= 1
            if self._left[session] <= 0:
                self._over[session].set()

    async def over(self, session: SessionId) -> None:
        """Return once nothing is worked on in the session any more."""
        if session in self._over:
            await self._over[session].wait()


class EarlierAttempts(Struct, frozen=True, kw_only=True):
    """The rest of the attempts that an earlier process began."""

    unfinished: UnfinishedWork
    over: frozenset[SessionId]
    """Sessions of which the journal says that they have ended."""
    last_used: Callable[[SessionId], float]
    """Returns when an earlier process may have used a session last, on the run's clock."""
    background: TaskGroup
    """Where slots wait for that; cancelled once nothing wants a slot any more."""

    async def finish(self, request: MountRequest, slot: Slot, context: RunContext) -> NextStep:
        """Bring an attempt that was begun to its end; in place of `drive._attempt`."""
        with self.unfinished.finishing(session_of(request, context)):
            attempt = await self._attempt(request, slot, context)
            if attempt is None:
                return NextStep.CONCLUDE
            return await holding(attempt, self._go_on)

    async def tidy(self, request: MountRequest, slot: Slot, context: RunContext) -> None:
        """Remove what a concluded target may have left mounted; its result stays what it is."""
        with self.unfinished.finishing(session_of(request, context)):
            attempt = await self._attempt(request, slot, context)
            if attempt is not None:
                await holding(attempt, self._remove_if_reachable)

    async def _attempt(
        self, request: MountRequest, slot: Slot, context: RunContext
    ) -> Attempt | None:
        """Return the attempt in its own session; None, and recorded, if that session is gone."""
        server = context.earlier.get(session_of(request, context))
        why = "the run was interrupted, and its logon session is gone with what it had mounted"
        try:
            connection = await server.taken_up() if server is not None else None
        except ServerUnusable as exc:
            connection, why = None, f"the run was interrupted, and its server is gone: {exc}"
        except anyio.get_cancelled_exc_class():
            if server is not None and server.is_fenced:
                raise
            _give_up(request, context, "stopped before its logon session was found again")
            slot.forfeit()
            raise
        if server is not None and connection is not None:
            return Attempt(
                request=request, connection=connection, server=server, context=context, slot=slot
            )
        _give_up(request, context, why)
        session = session_of(request, context)
        forgotten_at = self.last_used(session) + FORGOTTEN_AFTER
        if session in self.over or context.ledger.now() >= forgotten_at:
            slot.release()
        else:
            self.background.start_soon(self._free_when_forgotten, forgotten_at, slot, context)
        return None

    async def _free_when_forgotten(self, at: float, slot: Slot, context: RunContext) -> None:
        """Free a slot once a session that nobody can use must have been forgotten.

        Whether its token was not kept, or it is denied: its mounts may be open until then.
        """
        await anyio.sleep(at - context.ledger.now())
        slot.release()

    async def _go_on(self, attempt: Attempt) -> NextStep:
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
        return await let_go(attempt, record.mount)

    async def _settle(self, attempt: Attempt) -> NextStep:
        if attempt.record.phase is Phase.SUBMITTING:
            why = "the run was interrupted before the answer"
            attempt.ledger.record(SubmissionInDoubt(at=attempt.now, key=attempt.key, reason=why))
        return await go_on(attempt, await settle(attempt))

    async def _remove_if_reachable(self, attempt: Attempt) -> NextStep:
        """Remove the mount that is left; if it is out of reach, the record has this already."""
        try:
            removed = await remove_all(attempt)
            if removed.why_not is None:
                attempt.ledger.record(MountReleased(at=attempt.now, key=attempt.key))
        except OUT_OF_KNOWLEDGE as exc:
            log.warning("leftover.not_removed", key=attempt.key, why=str(exc))
        return NextStep.CONCLUDE


class RemovedMounts(Struct, frozen=True, kw_only=True):
    """How many mounts of a target were removed, and why another one was not."""

    mounts: int
    why_not: str | None = None


async def _nothing() -> None:
    """Nothing has to be recorded first."""


async def remove_all(
    attempt: Attempt,
    *,
    within: float = math.inf,
    before: Callable[[], Awaitable[None]] = _nothing,
) -> RemovedMounts:
    """Remove every mount that can only be this target's; nothing is recorded but by `before`.

    `before` is awaited before the first of them is asked to go: a process that dies in between
    must not leave a request of which nothing seems to have come.

    Its task is awaited as long as a run would, but no longer than `within` seconds.

    Raises:
        Unsettled, TaskVanished: what the target has mounted is not known, or may yet begin.
        EnterpriseManagerError, ServerUnusable: nobody can say any more.
    """
    record, mounts = attempt.record, dict.fromkeys(await _mounts_of(attempt, within))
    if record.mount is not None and is_seen(record):
        mounts[record.mount] = None
    tasks = list[Task]()
    if record.mount_state is MountState.UNKNOWN:
        tasks = await unclaimed_tasks(attempt.connection, attempt.server)
        if not all(task.is_final for task in tasks):
            raise Unsettled("a task that belongs to no target still runs")
    if mounts:
        await before()
    for number, mount in enumerate(mounts):
        why = await remove(attempt, mount)
        if why is not None:
            return RemovedMounts(mounts=number, why_not=why)
    in_doubt = record.mount_state is MountState.UNKNOWN and not mounts
    if in_doubt and await hidden_tasks(attempt.connection, attempt.server, tasks):
        raise Unsettled("a task that may be its own cannot be read")
    return RemovedMounts(mounts=len(mounts))


async def _mounts_of(attempt: Attempt, within: float) -> list[Href]:
    """Return the mounts of the target's point, once its task cannot make one any more."""
    record = attempt.record
    task: TaskId | Mount | None = record.attempts[-1].task
    if is_seen(record):
        return []
    if task is None:
        task = await outcome(attempt.connection, attempt.server, doubt_of(attempt))
    if isinstance(task, Mount):
        return [task.href]
    if task is None:
        return []
    ended = await _ended(attempt, task, within)
    vanished = ended is None and task not in attempt.connection.watcher.unread
    if stop.has_gone(attempt.record, ended, vanished=vanished):
        late = await stop.late_mount(attempt, within=within)
        if late is None and vanished:
            raise Unsettled(f"{task} was asked to stop and is gone, and nobody saw what it mounted")
        return [late.href] if late is not None else []
    if ended is not None and not ended.may_be_mounted:
        return []
    found = await (find_unrecorded(attempt) if ended is None else mount_of(attempt, ended))
    if found is None:
        raise Unsettled(f"nobody saw what {task} has mounted")
    return [found.href]


async def _ended(attempt: Attempt, task: TaskId, within: float) -> Task | None:
    """Wait for the task of an earlier process, as long as a run would; None: nothing shows it.

    Raises:
        TaskEndless: it still runs; the mount that its point shows, if any, another task has made.
    """
    try:
        ended = await attempt.server.within(
            min(within, 2 * attempt.request.timeouts.mount),
            lambda: attempt.connection.watcher.finished(task),
        )
    except TaskVanished:
        return None
    unread = task in attempt.connection.watcher.unread
    if ended is None and unread and not await has_unclaimed_tasks(attempt):
        return None
    if ended is None:
        raise TaskEndless(f"{task} still runs; it may yet be mounted")
    return ended


def _give_up(request: MountRequest, context: RunContext, why: str) -> None:
    """Record that the outcome cannot be determined; a concluded target is left as it is."""
    if context.ledger[request.key].phase in HOLDING_PHASES:
        record_out_of_reach(request, context, why)


async def _mount_of(attempt: Attempt, task: TaskId) -> Mount | None:
    """Return the mount of a finished task, whose own words may be purged by now."""
    try:
        found = await attempt.server.persistently(
            attempt.connection, lambda: attempt.session.task(task), patience=PATIENCE
        )
    except NotFound:
        return await find_without_task(attempt)
    return await find_mount(attempt, found)


async def _read_again(attempt: Attempt, mount: Href) -> Mount | None:
    """Return the mount as it is now, or None if nothing answers there any more."""
    try:
        return await attempt.server.persistently(
            attempt.connection, lambda: attempt.session.mount(mount), patience=PATIENCE
        )
    except NotFound:
        return None
