"""Submitting a run to a database, where workers find it."""

from __future__ import annotations

from contextlib import suppress

import anyio

from orchestrator.core.errors import DatabaseAway, DatabaseUnusable
from orchestrator.core.sites import Submission
from orchestrator.database.address import Address
from orchestrator.database.hearing import NOT_HEARD, notifications_are_heard
from orchestrator.database.installation import connected
from orchestrator.log import Log

log = Log(__name__)

TRIES = 5
"""How often a submission is sent whose answer does not come: what is there already is found."""

AGAIN_S = 1.0

HEARD_WITHIN_S = 2.0
"""Seconds for which a notification is waited for, where somebody waits for the command."""


async def submit(address: Address, submission: Submission) -> None:
    """Submit a run; return when it is durable. Contacts no Enterprise Manager.

    Raises:
        RunLocked: a run of this plan is open.
        DatabaseAway: there is no answer; it may have been submitted.
        DatabaseUnusable: it is none of ours, or this account may not submit.
    """
    database = await connected(address)
    try:
        for left in reversed(range(TRIES)):
            try:
                return await database.submit(submission)
            except DatabaseAway as exc:
                if not left:
                    run = submission.started.run
                    raise DatabaseAway(f"{exc}; run {run} may have been submitted") from exc
                log.warning("database.away", why=str(exc))
                await anyio.sleep(AGAIN_S)
    finally:
        with anyio.CancelScope(shield=True):
            await database.aclose()


async def warn_if_not_heard(address: Address, within_s: float = HEARD_WITHIN_S) -> None:
    """Warn if notifications are swallowed: workers there find everything a second late."""
    with suppress(DatabaseAway, DatabaseUnusable):  # whatever it is, others say so
        if not await notifications_are_heard(address, within_s):
            log.warning("notifications.not_heard", why=NOT_HEARD)
