"""A target whose machine is at work in a job or a restore: it waits, and costs no attempt.

Seen before its mount, or after one that failed. It gives its slot back, and the server's next
look, which is made for all of them together, tells whether the machine is free. After as long as
the plan allows it is mounted all the same.
"""

from __future__ import annotations

from functools import partial

import anyio

from orchestrator.core.activity import Activity
from orchestrator.core.causes import FORBIDDEN, NO_SUCH_THING
from orchestrator.core.events import MachineBusy, MachineFree
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import Conflict, MountRequest, Result
from orchestrator.engine.activity_watch import ActivityWatch, Seen
from orchestrator.engine.circuit_breaker import CircuitBreaker
from orchestrator.engine.mount.attempt import RunContext

LEAST_S = 1.0
"""The shortest wait that is begun."""

TICK_S = 5.0
"""Seconds between looks whether the server has been given up meanwhile; no request is sent."""


async def seen_before(request: MountRequest, context: RunContext) -> Seen | None:
    """Return what works on the target's machine, so that it is not mounted now; None: mount it."""
    watch = _watch(request, context)
    if watch is None or _left(request, context) <= 0:
        return None
    await watch.known()
    return watch.at_work_on(request)


async def seen_after(request: MountRequest, context: RunContext) -> Seen | None:
    """Return what works on the machine whose mount has just failed, by a look made after that.

    Waits for the server's next look, a minute at most; not if none can be expected to show it.
    """
    watch = _watch(request, context)
    record = context.ledger[request.key]
    if watch is None or watch.is_blind or _left(request, context) <= 0:
        return None
    if not record.attempts or not record.attempts[-1].fault:
        return None
    if record.attempts[-1].status in {FORBIDDEN, NO_SUCH_THING}:
        return None  # that is no question of time
    now = context.ledger.now()
    if watch.at_work_on(request, has_failed=True) is None:
        await context.unless_ended(lambda: watch.look_after(now))
    return watch.at_work_on(request, has_failed=True)


async def wait(
    request: MountRequest, seen: Seen, context: RunContext, *, failed: bool = False
) -> bool:
    """Wait until the machine is free, or for as long as the plan allows; True: mount it then.

    False: the plan does not wait for it, or the run submits nothing more. `failed`: the mount that
    has just failed counts as none where the plan waits.
    """
    waits = request.conflict is Conflict.WAIT
    context.ledger.record(
        MachineBusy(
            at=context.ledger.now(),
            key=request.key,
            activity=seen.activity,
            seen_at=seen.at,
            excused=failed and waits,
        )
    )
    watch = _watch(request, context)
    if not waits or watch is None:
        return False
    at: float | None = None
    server = context.servers[request.server]
    with watch.waiting_for(seen.activity), anyio.move_on_after(_left(request, context)):
        at = await context.unless_ended(partial(_seen_free, watch, seen.activity, server.gate))
    context.ledger.record(MachineFree(at=context.ledger.now(), key=request.key, seen_at=at))
    return context.accepting()


async def _seen_free(
    watch: ActivityWatch, activity: Activity, gate: CircuitBreaker
) -> float | None:
    """Return when an activity was seen to be over; None: the server is given up."""
    while gate.given_up is None:
        at = watch.seen_free_at(activity)
        if at is not None:
            return at
        with anyio.move_on_after(TICK_S):
            await watch.looked()
    return None


def result_of(record: MountRecord) -> tuple[Result, str]:
    """Return how a target ends that the plan does not let wait for its machine."""
    wait_ = record.waits[-1]
    failed = record.ever_submitted or record.planned.conflict is Conflict.FAIL
    why = f"its machine is busy: {wait_.activity.words} works on {record.planned.vm}"
    return (Result.FAILED if failed else Result.SKIPPED), why


def _watch(request: MountRequest, context: RunContext) -> ActivityWatch | None:
    return context.servers[request.server].activity


def _left(request: MountRequest, context: RunContext) -> float:
    """Return how many seconds the target may wait yet; what it has waited counts.

    A rest of less than a second is none: sums of times are not exact, and it would begin again.
    """
    now = context.ledger.now()
    waits = context.ledger[request.key].waits
    spent = sum((now if each.end is None else each.end) - each.start for each in waits)
    left = request.timeouts.busy - spent
    return left if left >= LEAST_S else 0.0
