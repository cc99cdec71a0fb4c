"""A mount whose logon session is lost: nobody can reach it, but its end may be seen.

Its restore session shows when a person, or the backup server, has ended it. Then the target may be
tried again, if attempts are left. Nothing shown proves nothing: the target stays unknown. Source:
reference 15.5.
"""

from __future__ import annotations

from functools import partial

import anyio

from orchestrator.core.activity import COLLECTED_WITHIN_S
from orchestrator.core.events import OrphanEnded
from orchestrator.core.lifecycle import Phase
from orchestrator.core.model import Conflict, MountRequest
from orchestrator.engine.activity_watch import ActivityWatch, Fate
from orchestrator.engine.mount.attempt import RunContext

APART_S = 120.0
"""Seconds between two attempts at a machine within which their sessions cannot be told apart."""


async def tried_again(request: MountRequest, context: RunContext) -> bool:
    """Wait until a lost mount is seen to have ended, and return whether that was seen.

    For as long as the plan lets a target wait for a busy machine, so not at all where it skips or
    fails one; where nothing of the mount is shown, for as long as a server may take to show it.
    """
    if request.conflict is not Conflict.WAIT:
        return False
    record = context.ledger[request.key]
    watch = context.servers[request.server].activity
    if record.phase is not Phase.OUT_OF_REACH or watch is None or record.standing is not None:
        return False
    attempt = record.attempts[-1]
    before = [each.finished_at or each.submitted_at for each in record.attempts[:-1]]
    told_apart = all(attempt.submitted_at - at > APART_S for at in before)
    if not attempt.lost or attempt.task is None or not told_apart or watch.sees_no_restores:
        return False
    at: float | None = None
    with (
        watch.following(record.planned.key),
        anyio.move_on_after(request.timeouts.busy),
    ):
        at = await context.unless_ended(partial(_seen_to_end, request, context, watch))
    if at is None:
        return False
    context.ledger.record(OrphanEnded(at=context.ledger.now(), key=request.key, seen_at=at))
    return True


async def _seen_to_end(
    request: MountRequest, context: RunContext, watch: ActivityWatch
) -> float | None:
    """Return when the end of the mount was shown; None: nothing of it is."""
    give_up = context.ledger.now() + COLLECTED_WITHIN_S + 2 * watch.every_s
    server = context.servers[request.server]
    while server.gate.given_up is None and not watch.sees_no_restores:
        fate, at = watch.fate_of(context.ledger[request.key])
        if fate is Fate.OVER:
            return at
        if fate is Fate.NOT_SHOWN and context.ledger.now() > give_up:
            return None
        with anyio.move_on_after(watch.every_s):
            await watch.looked()
    return None
