"""One mount's life, queued to outcome.

    slot held                                    scheduler
        intent durable                           SubmissionStarted
        POST, once                               TaskAccepted | refused | in doubt → recover
        task Finished                            TaskSucceeded | TaskFailed
            too late: asked to stop, once        TaskStopAsked, TaskStopSeen
        mount point read                         MountFound
        verdict                                  VerdictReached
        held, if the plan asks for it            MountKept
        unmounted, and seen to be gone           MountReleased
    slot given back
    its machine at work: waited for, no slot     MachineBusy, MachineFree, and all of it again
    the other system, if nothing was readable    NothingReadable before, and all of it again
    another point, if it was not good            PointChosen, and all of it again
    concluded: exactly one result                TargetConcluded

A fault of the target costs it an attempt; a fault of its server costs nothing. What cannot
be known ends as `unknown` and says so. A cancelled run still unmounts, shielded and bounded.
Which restore point is tried next is decided by `core.point_search`, from the record alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from msgspec.structs import replace

from orchestrator.core import point_search
from orchestrator.core.errors import Fenced, SessionLost
from orchestrator.core.events import (
    PointChosen,
    SubmissionInDoubt,
)
from orchestrator.core.lifecycle import Phase
from orchestrator.core.model import Href, Mount, MountRequest, Task, TaskId
from orchestrator.core.policy import PROOF_AFTER, Backoff
from orchestrator.engine.containment import harmless
from orchestrator.engine.mount import stop
from orchestrator.engine.mount.attempt import (
    OUT_OF_KNOWLEDGE,
    Attempt,
    NextStep,
    RunContext,
    record_out_of_reach,
)
from orchestrator.engine.mount.busy import seen_after, seen_before, wait
from orchestrator.engine.mount.conclude import conclude
from orchestrator.engine.mount.find import (
    find_mount,
    find_without_task,
    has_unclaimed_tasks,
    mount_of,
    prove,
    record_found,
)
from orchestrator.engine.mount.hold import keep
from orchestrator.engine.mount.lost import tried_again
from orchestrator.engine.mount.recover import look
from orchestrator.engine.mount.release import abandon, record_finished, release
from orchestrator.engine.mount.submit import doubt_of, settle, submit, take
from orchestrator.engine.mount.task_end import watch_to_end
from orchestrator.engine.slot import Slot
from orchestrator.engine.watcher import TaskEndless, TaskVanished

Work = Callable[[MountRequest, Slot, RunContext], Awaitable[NextStep]]
"""One attempt, or the rest of one: it holds the slot, and says what is left to do."""


async def drive(
    request: MountRequest, slot: Slot, context: RunContext, *, first: Work | None = None
) -> None:
    """Mount, prove and unmount a target's restore points until one is good; conclude it.

    `first` takes the place of the first attempt: the rest of one that an earlier process began.
    """
    work = first or _attempt
    held: Slot | None = slot
    try:
        while held is not None:
            if work is _attempt and (seen := await seen_before(request, context)) is not None:
                held.release()
                held = None
                if await wait(request, seen, context):
                    held = await _next_slot(request, context)
                continue
            after = await work(request, held, context)
            work = _attempt
            again = await _what_follows(request, after, context)
            if again is None:
                break
            request = again
            held = await _next_slot(request, context)
    except BaseException:
        if not context.servers[request.server].is_fenced:
            with harmless("mount.not_concluded", key=request.key):
                conclude(request, context, withdrawn=held is None)
        raise
    conclude(request, context, withdrawn=held is None)


async def _what_follows(
    request: MountRequest, after: NextStep, context: RunContext
) -> MountRequest | None:
    """Return the request to mount for the target now, at once or after a pause; None: nothing."""
    if await tried_again(request, context):
        after = NextStep.RETRY
    if context.ledger[request.key].phase is not Phase.QUEUED:
        return None
    failed_at = context.ledger.now()
    seen = await seen_after(request, context)
    if seen is not None and not await wait(request, seen, context, failed=True):
        return None
    record = context.ledger[request.key]
    if seen is not None and record.attempts[-1].excused:
        return request
    if point_search.is_settled(record):
        return with_next_point(request, context) if context.accepting() else None
    if after is NextStep.CONCLUDE:
        return None
    if after is NextStep.OTHER_SYSTEM:
        return request
    if after is NextStep.RETRY:
        await _pause(request, point_search.faults_of_point(record), context, since=failed_at)
    else:
        await context.servers[request.server].pause_after_refusal()
    return request


def with_next_point(request: MountRequest, context: RunContext) -> MountRequest | None:
    """Choose the restore point that is tried after one that is settled; None: the search is over.

    The choice is on disk before anything is sent: the next intent waits for it.
    """
    chosen = point_search.next_point(context.ledger[request.key])
    if chosen is None:
        return None
    context.ledger.record(
        PointChosen(at=context.ledger.now(), key=request.key, point=chosen.point, why=chosen.why)
    )
    return replace(request, point=chosen.point, policy=chosen.why)


async def _attempt(request: MountRequest, slot: Slot, context: RunContext) -> NextStep:
    """Make one attempt while holding `slot`; give it back when nothing can be open."""
    server = context.servers[request.server]
    connection = server.open_connection()
    if connection is None:
        slot.release()
        return NextStep.REQUEUE
    attempt = Attempt(
        request=request, connection=connection, server=server, context=context, slot=slot
    )
    return await holding(attempt, _mount_prove_release)


async def holding(attempt: Attempt, work: Callable[[Attempt], Awaitable[NextStep]]) -> NextStep:
    """Do the work of an attempt while it holds its slot, and end it whatever happens.

    Only what another worker goes on with is left as it is, and keeps its slot.

    Raises:
        Fenced: another worker goes on with it.
    """
    connection, slot = attempt.connection, attempt.slot
    try:
        return await work(attempt)
    except Fenced:
        raise  # another worker goes on with the mount
    except OUT_OF_KNOWLEDGE as exc:
        why = str(exc) or "the server forgot the task"
        if isinstance(exc, SessionLost) and attempt.is_reachable:
            with harmless("mount.not_abandoned", key=attempt.key):  # only its watcher has ended
                await abandon(attempt, why)
        else:
            record_out_of_reach(attempt.request, attempt.context, why, lost=connection.lost)
        return NextStep.CONCLUDE
    except anyio.get_cancelled_exc_class():
        if attempt.is_fenced:
            raise
        is_mounted = attempt.record.mount is not None
        at_work = "before its mount was removed" if is_mounted else "while it was being mounted"
        with harmless("mount.not_abandoned", key=attempt.key):
            await abandon(attempt, f"stopped {at_work}")
        raise
    except Exception as exc:  # a bug of ours: what is mounted is removed all the same
        with harmless("mount.not_abandoned", key=attempt.key):
            await abandon(attempt, f"internal error: {type(exc).__name__}")
        raise
    finally:
        if attempt.is_fenced:
            pass  # its successor counts it
        elif not attempt.record.may_be_open:
            slot.release()
        elif connection.lost:
            slot.release_after(lambda: connection.forgotten_in(attempt.now))
        else:
            slot.forfeit()


async def _mount_prove_release(attempt: Attempt) -> NextStep:
    return await go_on(attempt, await submit(attempt))


async def go_on(attempt: Attempt, started: TaskId | Mount | NextStep) -> NextStep:
    """Watch the task, prove the mount and release it.

    Raises:
        TaskVanished, SessionLost, ServerUnusable: nobody can say any more.
    """
    if isinstance(started, NextStep):
        return started
    found = started if isinstance(started, Mount) else await _finished(attempt, started)
    if isinstance(found, Mount):
        return await prove_and_release(attempt, found)
    own = await _own_start(attempt, found) if attempt.record.attempts[-1].adopted else found
    if not isinstance(own, Task):
        disown(attempt, found.id)
        return await go_on(attempt, take(attempt, own) if own else await settle(attempt))
    if found.unclear:
        return await _whatever_it_mounted(attempt, found)
    if stop.has_gone(attempt.record, found):
        mount = await stop.late_mount(attempt)
        if mount is not None:
            return await prove_and_release(attempt, record_found(attempt, mount))
    record_finished(attempt, found)
    if not found.succeeded:
        return NextStep.CONCLUDE if attempt.record.overdue else NextStep.RETRY
    return await prove_and_release(attempt, await find_mount(attempt, found))


async def _whatever_it_mounted(attempt: Attempt, task: Task) -> NextStep:
    """Continue with the mount of a task that ended with neither success nor failure, if any.

    Raises:
        TaskVanished: no mount of it is shown; nobody can say whether there is one.
    """
    mount = await find_mount(attempt, task)
    if mount is None:
        raise TaskVanished(f"{task.id} ended and said neither success nor failure")
    return await prove_and_release(attempt, mount)


async def _own_start(attempt: Attempt, task: Task) -> Task | Mount | None:
    """Return what the attempt has started, now that the task it adopted has ended.

    That task, if it can be its own: one that mounted something must have mounted its restore
    point. One that failed names nothing: nothing may come of the request as long as it can act.
    Else the mount of its point that another task has made, which is the attempt's from now on;
    None: it is not known yet.
    """
    if task.may_be_mounted:
        return task if await mount_of(attempt, task) is not None else None
    doubt = doubt_of(attempt)
    await anyio.sleep(max(0.0, doubt.sent_by + PROOF_AFTER - attempt.now))
    attempt.connection.counts = False
    seen = await look(attempt.connection, attempt.server, doubt)
    if isinstance(seen.started, Mount):
        return seen.started
    return None if seen.running else task


def disown(attempt: Attempt, task: TaskId) -> None:
    """Give up a task that was adopted and is not the attempt's: its request is in doubt again.

    The task is nobody's then: another request found it, or the closing audit will.
    """
    attempt.connection.watcher.claimed.discard(task)
    attempt.connection.counts = False
    why = f"{task}, which was taken for its task, has mounted something else"
    attempt.ledger.record(SubmissionInDoubt(at=attempt.now, key=attempt.key, reason=why))


async def prove_and_release(attempt: Attempt, mount: Mount | None) -> NextStep:
    """Judge the mount of a finished task, hold it if asked to, and remove it.

    None: it was not found.
    """
    if mount is None:
        why = "the task succeeded, but its mount point was not found"
        record_out_of_reach(attempt.request, attempt.context, why)
        return NextStep.CONCLUDE
    await prove(attempt, mount)
    await keep(attempt)
    return await let_go(attempt, mount.href)


async def let_go(attempt: Attempt, mount: Href) -> NextStep:
    """Remove a mount that was judged, or is of the wrong system; return what follows.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    await release(attempt, mount)
    record = attempt.record
    again = record.phase is Phase.QUEUED and record.attempts[-1].unread
    return NextStep.OTHER_SYSTEM if again else NextStep.CONCLUDE


async def _finished(attempt: Attempt, task: TaskId) -> Task | Mount:
    """Return the finished task, or the mount of one that the server has purged already.

    A mount of one that was asked to stop, and is gone, is waited for as long as one may appear.

    Raises:
        TaskVanished: the session does not know it any more, or shows nothing of it that can be
            read, and no mount of it either; or it never ends.
        SessionLost, ServerUnusable: nobody can say any more.
    """
    try:
        return await watch_to_end(attempt, task)
    except TaskEndless:
        raise  # it has mounted nothing yet: what the point's list shows, another task has made
    except TaskVanished:
        if task in attempt.connection.watcher.unread and await has_unclaimed_tasks(attempt):
            raise  # it may yet run, and one of those may have made what the point's list shows
        if not stop.has_gone(attempt.record, None):
            mount = await find_without_task(attempt)
        elif (mount := await stop.late_mount(attempt)) is not None:
            record_found(attempt, mount)
        if mount is None:
            raise
        return mount


async def _pause(request: MountRequest, faults: int, context: RunContext, *, since: float) -> None:
    """Wait before trying the target once more, as its plan says; what has passed `since` counts."""
    policy = Backoff(first=request.retries.delay, ceiling=request.retries.max_delay)
    passed = context.ledger.now() - since
    await anyio.sleep(max(0.0, policy.delay(faults, context.rng) - passed))


async def _next_slot(request: MountRequest, context: RunContext) -> Slot | None:
    """Queue the target once more; None if the run submits nothing more."""
    got: list[Slot | None] = []
    ready = anyio.Event()
    context.servers[request.server].want()

    def deliver(_request: MountRequest, slot: Slot | None) -> None:
        got.append(slot)
        ready.set()

    context.ungranted.add(request.key)
    points = point_search.points_ahead(context.ledger[request.key])
    context.scheduler.offer([request], deliver, points=points)
    try:
        await ready.wait()
    except BaseException:
        for slot in got:
            if slot is not None:
                slot.release()
        raise
    return got[0]
