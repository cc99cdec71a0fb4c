"""Strays: what a mount request began although it had been taken for one that began nothing.

A lost request is proved absent when a server that answered everything showed nothing of it for
half a minute. One that acts later still is found here, before the session is ended: everything
that the session has mounted is the run's, so it is removed, or named.
"""

from __future__ import annotations

from collections.abc import Iterable

import anyio
import structlog

from orchestrator.engine.attempt import OUT_OF_KNOWLEDGE, Attempt, Crew
from orchestrator.engine.recovery import SETTLING_TICK, unclaimed_mounts, unclaimed_tasks
from orchestrator.engine.releasing import remove
from orchestrator.engine.site import Connection, Site
from orchestrator.events import MountLeft, MountReleased, OutOfReach, RunNoted
from orchestrator.model import MountRequest, TaskId
from orchestrator.runstate import NEVER_SUBMITTED

log = structlog.get_logger(__name__)

WAIT = 600.0
"""Seconds for which the tasks of strays are awaited at the end of a run."""


async def remove_strays(site: Site, crew: Crew, *, wait: float = WAIT) -> None:
    """Remove what began late in the session of a site; what cannot be removed is recorded."""
    connection = site.open_connection()
    if connection is None or not connection.absent:
        return
    try:
        running = await _still_running(connection, site, wait)
        for request in connection.absent.values():
            slot = crew.admission.occupy(request)  # a stray that is open counts
            try:
                await _remove(
                    Attempt(request=request, connection=connection, site=site, crew=crew, slot=slot)
                )
            finally:
                slot.release()
    except OUT_OF_KNOWLEDGE as exc:
        log.warning("strays.not_looked_for", server=site.name, why=str(exc))
        return
    if running:
        _name(connection.absent.values(), running, crew)


async def _still_running(connection: Connection, site: Site, wait: float) -> frozenset[TaskId]:
    """Wait for the mount tasks that belong to no target; return those that have not ended."""
    began = anyio.current_time()
    while True:
        tasks = await unclaimed_tasks(connection, site)
        running = frozenset(task.id for task in tasks if not task.is_final)
        if not running or anyio.current_time() - began >= wait:
            return running
        await anyio.sleep(SETTLING_TICK)


async def _remove(attempt: Attempt) -> None:
    """Remove the mounts of one restore point that belong to no target.

    Where the target's own may be open, that is said already, and left to `unmount` and `resume`.
    """
    if attempt.record.may_be_open:
        return
    strays = await unclaimed_mounts(attempt.connection, attempt.site, attempt.request.point)
    for mount in strays:
        why = "a mount request that had shown no effect was carried out later"
        left = MountLeft(at=attempt.now, key=attempt.key, mount=mount.href, reason=why)
        told = _tell(left, attempt.crew)
        if await remove(attempt, mount.href) is None and told:
            attempt.ledger.record(MountReleased(at=attempt.now, key=attempt.key))


def _name(requests: Iterable[MountRequest], running: frozenset[TaskId], crew: Crew) -> None:
    """Record of every target that may own a running task that it may yet be mounted."""
    why = f"a lost mount request may have begun late: {', '.join(sorted(running))} still runs"
    for request in requests:
        _tell(OutOfReach(at=crew.ledger.now(), key=request.key, reason=why), crew)


def _tell(event: MountLeft | OutOfReach, crew: Crew) -> bool:
    """Record what became known of a target's mount, as far as its result allows; True if it does.

    Of one that was cancelled or skipped, which claims no mount, the run only notes it.
    """
    record = crew.ledger[event.key]
    if record.may_be_open:
        return False
    if record.result in NEVER_SUBMITTED:
        crew.ledger.record(RunNoted(at=event.at, message=f"{event.key}: {event.reason}"))
        return False
    crew.ledger.record(event)
    return True
