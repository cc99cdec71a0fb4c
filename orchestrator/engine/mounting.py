"""One mount's life, queued to outcome.

    slot held                                    admission
        intent durable                           SubmissionStarted
        POST, once                               TaskAccepted | refused | in doubt → recovery
        task Finished                            TaskSucceeded | TaskFailed
        mount point read                         MountFound
        verdict                                  VerdictReached
        held, if the plan asks for it            MountKept
        unmounted, and seen to be gone           MountReleased
    slot given back
    another point, if it was not good            PointChosen, and all of it again
    concluded: exactly one result                TargetConcluded

A fault of the target costs it an attempt; a fault of its server costs nothing. What cannot
be known ends as `unknown` and says so. A cancelled run still unmounts, shielded and bounded.
Which restore point is tried next is decided by `search`, from the record alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio

from orchestrator import search
from orchestrator.engine.admission import Slot
from orchestrator.engine.attempt import (
    OUT_OF_KNOWLEDGE,
    After,
    Attempt,
    Crew,
    record_out_of_reach,
)
from orchestrator.engine.keeping import keep
from orchestrator.engine.proving import find_mount, find_without_task, prove
from orchestrator.engine.releasing import abandon, record_finished, release
from orchestrator.engine.submitting import submit
from orchestrator.engine.watcher import TaskVanished
from orchestrator.events import DeadlinePassed, PointChosen, TargetConcluded, TaskObserved
from orchestrator.lifecycle import FIRM_RESULTS, MountRecord, Phase
from orchestrator.model import Mount, MountRequest, Result, Task, TaskId
from orchestrator.policy import Backoff

Work = Callable[[MountRequest, Slot, Crew], Awaitable[After]]
"""One attempt, or the rest of one: it holds the slot, and says what is left to do."""


async def drive(
    request: MountRequest, slot: Slot, crew: Crew, *, first: Work | None = None
) -> None:
    """Mount, prove and unmount a target's restore points until one is good; conclude it.

    `first` takes the place of the first attempt: the rest of one that an earlier process began.
    """
    work = first or _attempt
    held: Slot | None = slot
    try:
        while held is not None:
            after = await work(request, held, crew)
            work = _attempt
            again = await _what_follows(request, after, crew)
            if again is None:
                break
            request = again
            held = await _next_slot(request, crew)
    finally:
        conclude(request, crew, withdrawn=held is None)


async def _what_follows(request: MountRequest, after: After, crew: Crew) -> MountRequest | None:
    """Return what is to be mounted for the target now, at once or after a pause; None: nothing."""
    record = crew.ledger[request.key]
    if record.phase is not Phase.QUEUED:
        return None
    if search.is_settled(record):
        return with_next_point(request, crew) if crew.accepting() else None
    if after is After.CONCLUDE:
        return None
    if after is After.RETRY:
        await _pause(request, search.faults_of_point(record), crew)
    return request


def with_next_point(request: MountRequest, crew: Crew) -> MountRequest | None:
    """Choose the restore point that is tried after one that is settled; None: the search is over.

    The choice is on disk before anything is sent: the next intent waits for it.
    """
    chosen = search.next_point(crew.ledger[request.key])
    if chosen is None:
        return None
    crew.ledger.record(
        PointChosen(at=crew.ledger.now(), key=request.key, point=chosen.point, why=chosen.why)
    )
    return replace(request, point=chosen.point, policy=chosen.why)


async def _attempt(request: MountRequest, slot: Slot, crew: Crew) -> After:
    """Make one attempt while holding `slot`; give it back when nothing can be open."""
    site = crew.sites[request.server]
    connection = site.open_connection()
    if connection is None:
        slot.release()
        return After.REQUEUE
    attempt = Attempt(request=request, connection=connection, site=site, crew=crew, slot=slot)
    return await holding(attempt, _mount_prove_release)


async def holding(attempt: Attempt, work: Callable[[Attempt], Awaitable[After]]) -> After:
    """Do the work of an attempt while it holds its slot, and end it whatever happens."""
    connection, slot = attempt.connection, attempt.slot
    try:
        return await work(attempt)
    except OUT_OF_KNOWLEDGE as exc:
        why = str(exc) or "the server forgot the task"
        record_out_of_reach(attempt.request, attempt.crew, why)
        return After.CONCLUDE
    except anyio.get_cancelled_exc_class():
        await abandon(attempt)
        raise
    finally:
        if attempt.record.may_be_open and not connection.lost:
            slot.forfeit()
        else:
            slot.release()


async def _mount_prove_release(attempt: Attempt) -> After:
    await attempt.connection.settled.wait()
    return await go_on(attempt, await submit(attempt))


async def go_on(attempt: Attempt, started: TaskId | Mount | After) -> After:
    """Watch, prove and release what was started.

    Raises:
        TaskVanished, SessionLost, ServerUnusable: nobody can say any more.
    """
    if isinstance(started, After):
        return started
    found = started if isinstance(started, Mount) else await _finished(attempt, started)
    if isinstance(found, Mount):
        return await prove_and_release(attempt, found)
    record_finished(attempt, found)
    if not found.succeeded:
        return After.CONCLUDE if attempt.record.overdue else After.RETRY
    return await prove_and_release(attempt, await find_mount(attempt, found))


async def prove_and_release(attempt: Attempt, mount: Mount | None) -> After:
    """Judge the mount of a finished task, hold it if asked to, and remove it.

    None: it was not found.
    """
    if mount is None:
        why = "the task succeeded, but its mount point was not found"
        record_out_of_reach(attempt.request, attempt.crew, why)
        return After.CONCLUDE
    await prove(attempt, mount)
    await keep(attempt)
    await release(attempt, mount.href)
    return After.CONCLUDE


async def _finished(attempt: Attempt, task: TaskId) -> Task | Mount:
    """Return the finished task, or the mount of one that the server has purged already.

    Raises:
        TaskVanished: the session does not know it any more, and shows no mount of it either.
        SessionLost, ServerUnusable: nobody can say any more.
    """
    try:
        return await _watched_to_its_end(attempt, task)
    except TaskVanished:
        mount = await find_without_task(attempt)
        if mount is None:
            raise
        return mount


async def _watched_to_its_end(attempt: Attempt, task: TaskId) -> Task:
    """Return the finished task. Past its deadline it is watched once more as long, to clean up.

    Raises:
        TaskVanished: the session does not know it any more, or it never ends.
        SessionLost, ServerUnusable: nobody can say any more.
    """

    def observe(seen: Task) -> None:
        attempt.ledger.record(
            TaskObserved(
                at=attempt.now,
                key=attempt.key,
                task=seen.id,
                state=seen.state,
                words=seen.message,
            )
        )

    async def watched() -> Task:
        expected = attempt.crew.expected(attempt.request)
        return await attempt.connection.watcher.finished(task, expected=expected, observe=observe)

    allowed = attempt.request.timeouts.mount
    found = await attempt.site.within(allowed, watched)
    if found is None:
        attempt.ledger.record(
            DeadlinePassed(at=attempt.now, key=attempt.key, phase="mount", allowed_s=allowed)
        )
        found = await attempt.site.within(allowed, watched)
    if found is None:
        raise TaskVanished(f"still running after {2 * allowed:g} s; it may yet be mounted")
    return found


def conclude(request: MountRequest, crew: Crew, *, withdrawn: bool = False) -> None:
    """Record the one result of a target, saying no more than its record allows.

    One that was `withdrawn` while it waited for another try has not failed if its server only
    ever turned it away. A verdict that was reached stands, whatever became of the mount, or of
    another restore point, afterwards. Nothing happens if the target has its result already.
    """
    record = crew.ledger[request.key]
    if record.is_final:
        return
    message: str | None
    if record.standing is not None:
        result, message = record.standing, _in_words(request, record, crew)
    elif record.phase is Phase.OUT_OF_REACH:
        result, message = Result.UNKNOWN, record.message
    elif record.ever_submitted and record.attempts[-1].outcome == "success":
        result, message = Result.UNKNOWN, _unproven(record)
    elif record.ever_submitted and not (withdrawn and _only_turned_away(record)):
        result, message = Result.FAILED, _in_words(request, record, crew)
    else:
        result, message = crew.unsubmitted(request)
    about = search.about(record)
    crew.ledger.record(
        TargetConcluded(
            at=crew.ledger.now(),
            key=request.key,
            result=result,
            mount=record.mount_state,
            message=message,
            point=None if record.point is None or about == record.point.id else about,
            point_why=search.found_how(record),
        )
    )


def _in_words(request: MountRequest, record: MountRecord, crew: Crew) -> str | None:
    """Return the message of a result: what went wrong, and what other points had to do with it."""
    words = [record.message] if record.message else []
    tried, about = search.points_tried(record), search.about(record)
    if record.standing in FIRM_RESULTS:
        if about != record.attempts[-1].point:
            words = [f"another restore point was tried after it: {record.message}"]
            if crew.holds.rule.asked(record.standing) is not None:
                words.append("so the good one's mount was not held")
        if record.planned.point is not None and about != record.planned.point.id:
            words.insert(0, f"good from an older restore point, one of {tried} that were tried")
        return "; ".join(words) or None
    if tried > 1:
        words.append(f"{tried} restore points were tried, none was good")
    if search.is_unfinished(record):
        why = "its mount may still be open"
        if record.phase is Phase.QUEUED:
            why = crew.unsubmitted(request)[1]
        words.append(f"the others were not tried: {why}")
    return "; ".join(words) or None


def _unproven(record: MountRecord) -> str:
    """Return why a mount has no verdict although it is gone: the run was stopped first."""
    what = "its checks were made" if record.planned.checks else "it was judged"
    return f"mounted, and stopped before {what}"


def _only_turned_away(record: MountRecord) -> bool:
    """Tell whether no attempt started anything on the server, by no fault of the target's."""
    return all(
        attempt.outcome in {"not_sent", "refused"} and not attempt.fault
        for attempt in record.attempts
    )


async def _pause(request: MountRequest, faults: int, crew: Crew) -> None:
    """Wait before trying the target once more, as its plan says."""
    policy = Backoff(first=request.retries.delay, ceiling=request.retries.max_delay)
    await anyio.sleep(policy.delay(faults, crew.rng))


async def _next_slot(request: MountRequest, crew: Crew) -> Slot | None:
    """Queue the target once more; None if the run submits nothing more."""
    got: list[Slot | None] = []
    ready = anyio.Event()

    def deliver(_request: MountRequest, slot: Slot | None) -> None:
        got.append(slot)
        ready.set()

    crew.admission.offer([request], deliver)
    try:
        await ready.wait()
    except BaseException:
        for slot in got:
            if slot is not None:
                slot.release()
        raise
    return got[0]
