"""Find the mount point of a finished task, and judge its content.

A green task is not proof: mounted means that the mount point answered and at least one
volume of the guest could be read.
"""

from __future__ import annotations

import anyio

from orchestrator.core.errors import RequestRefused
from orchestrator.core.events import DeadlinePassed, MountFound, VerdictReached
from orchestrator.core.lifecycle import AttemptRecord
from orchestrator.core.model import Href, Mount, MountLink, Result, Task
from orchestrator.core.proof import Fate
from orchestrator.engine.adopted import point_of
from orchestrator.engine.content.checks import examine
from orchestrator.engine.content.download import copy_out
from orchestrator.engine.content.guest import Guest
from orchestrator.engine.content.system import (
    is_for_the_other_system,
    is_readable,
    is_told,
    unreadable,
)
from orchestrator.engine.content.write_back import in_doubt
from orchestrator.engine.mount.attempt import Attempt
from orchestrator.engine.mount.recover import (
    asked_in,
    unclaimed_mounts,
    unclaimed_tasks,
    with_links,
)
from orchestrator.engine.sessions import PATIENCE

FIRST_LINK_S = 5.0
"""Seconds for which the first link of a session is waited for; one bad mount holds up no other."""


async def find_mount(attempt: Attempt, task: Task) -> Mount | None:
    """Return the task's mount point, read from the server and recorded, or None.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    mount = await mount_of(attempt, task)
    return None if mount is None else record_found(attempt, mount)


async def mount_of(attempt: Attempt, task: Task) -> Mount | None:
    """Return the mount point of a task that did not fail, read from the server, or None.

    The Related link may point into the other family, at another id, or be missing: its
    number on the restore point that was posted to is tried too, then the point's own list.
    A mount point already attributed to another target is never taken. A task that was adopted
    may be another target's, sent twice or carried out late: its link must not name another
    restore point that was asked for, and only a link to the own point counts, else the point's
    list, where the server shows no other logon session.
    Source: reference 5.2.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    if not attempt.record.attempts[-1].adopted:
        return await _by_link(attempt, task) or await _by_list(attempt)
    asked = {each.point.id for each in asked_in(attempt.ledger, attempt.session.id)}
    (task,) = await with_links(attempt.connection, attempt.server, [task])
    own, named = attempt.request.point.id, point_of(task.mount)
    if named in asked and named != own:
        return None
    if named != own:
        return await find_unrecorded(attempt)
    return await _by_link(attempt, task) or await _by_list(attempt)


async def find_without_task(attempt: Attempt) -> Mount | None:
    """Return the mount of a task that the server has purged, recorded, or None.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    mount = await find_unrecorded(attempt)
    return None if mount is None else record_found(attempt, mount)


async def has_unclaimed_tasks(attempt: Attempt) -> bool:
    """Return whether tasks of the session that belong to nobody may have made the point's mount.

    False also where the list of tasks cannot be read: the closing audit then names the session.
    """
    try:
        return bool(await unclaimed_tasks(attempt.connection, attempt.server))
    except RequestRefused:
        return False


async def find_unrecorded(attempt: Attempt) -> Mount | None:
    """Return the mount of a task that is purged, or shows no link; None; nothing is recorded.

    The mount may be somebody else's. So it is taken only where the server shows no other logon
    session. Two requests, and only for such a task.
    """
    mount = await _by_list(attempt)
    if mount is None or await attempt.is_alone():
        return mount
    return None


def record_found(attempt: Attempt, mount: Mount) -> Mount:
    """Record that the mount is there and the target's own."""
    attempt.connection.mounts.add(mount.href)
    roots = tuple(root.path for root in mount.roots)
    attempt.ledger.record(
        MountFound(at=attempt.now, key=attempt.key, mount=mount.href, roots=roots)
    )
    return mount


async def _by_link(attempt: Attempt, task: Task) -> Mount | None:
    """Follow the Related link, or the way that has been seen to work on this server.

    Which one works the first to ask finds out; the others of a session wait for that, briefly.
    """
    link, connection = task.mount, attempt.connection
    if link is None:
        return None
    if connection.first_link is not None:
        if not connection.first_link.is_set():
            with anyio.move_on_after(FIRST_LINK_S):
                await connection.first_link.wait()
        return await _follow(attempt, link)
    connection.first_link = anyio.Event()
    try:
        return await _follow(attempt, link)
    finally:
        connection.first_link.set()


async def _follow(attempt: Attempt, link: MountLink) -> Mount | None:
    """Read the mount at the link's address, or at its number on the point that was asked for."""
    point, connection = attempt.request.point, attempt.connection
    candidates = [link.href]
    if link.number is not None:
        candidates.append(attempt.session.mount_href(point.id, point.source, link.number))
    if connection.related_links_work is False:
        candidates.reverse()
    for href in dict.fromkeys(candidates):
        if href in connection.mounts:
            continue
        mount = await _read(attempt, href)
        if mount is not None and mount.href not in connection.mounts:
            connection.related_links_work = href == link.href
            return mount
    return None


async def _by_list(attempt: Attempt) -> Mount | None:
    """Return the mount of the point that belongs to no other target, if there is exactly one."""
    found = await unclaimed_mounts(
        attempt.connection, attempt.server, attempt.request.point, patience=PATIENCE
    )
    if len(found) > 1:
        attempt.connection.strangers = True
    return found[0] if len(found) == 1 else None


async def _read(attempt: Attempt, href: Href) -> Mount | None:
    """Read one candidate; None if nothing of ours answers there."""
    try:
        return await attempt.server.persistently(
            attempt.connection, lambda: attempt.session.mount(href)
        )
    except RequestRefused:
        return None


async def prove(attempt: Attempt, mount: Mount) -> None:
    """Make every check, copy every file, and record the verdict.

    Readable means that at least one volume answered; verified, that every check passed too. There
    is no verdict where the guest is to be mounted as the other system first.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    guest = Guest(attempt, mount)
    if not attempt.record.overdue and not await is_readable(guest):
        if not is_for_the_other_system(attempt):
            _record_verdict(attempt, Result.FAILED, unreadable(attempt))
        return
    if attempt.record.overdue:
        _record_verdict(attempt, Result.FAILED, attempt.record.message)
        return
    if (attempt.request.checks or attempt.request.downloads) and not await _judged(guest):
        _record_verdict(attempt, Result.FAILED, attempt.record.message)
        return
    newest = attempt.record.attempts[-1]
    undecided = _what_is_undecided(newest)
    if undecided is not None and not any(check.failed for check in newest.checks):
        _record_verdict(attempt, Result.UNKNOWN, undecided)  # so nothing was copied either
        return
    wrong = _what_is_wrong(newest)
    good = Result.VERIFIED if attempt.request.checks else Result.MOUNTED
    _record_verdict(attempt, good if wrong is None else Result.FAILED, wrong)


async def _judged(guest: Guest) -> bool:
    """Make every check and copy every file; False, recorded, if they took longer than allowed."""
    attempt = guest.attempt
    left = attempt.context.deadline.left_for(attempt.request)
    allowed = min(attempt.request.timeouts.checks, left)

    async def everything() -> bool:
        await examine(guest)
        await copy_out(guest)
        return True

    if await attempt.server.within(allowed, everything) is not None:
        return True
    attempt.ledger.record(
        DeadlinePassed(
            at=attempt.now,
            key=attempt.key,
            phase="checks",
            allowed_s=allowed,
            by_run=allowed == left,
        )
    )
    return False


def judge_unseen(attempt: Attempt, mount: Mount) -> None:
    """Record the verdict of a stopped attempt, where its readable volumes are all it asks for.

    There is no time left to look at files, so one that asks for more gets no verdict.
    """
    if attempt.record.overdue:
        _record_verdict(attempt, Result.FAILED, attempt.record.message)
    elif not mount.roots:
        if not is_for_the_other_system(attempt):
            _record_verdict(attempt, Result.FAILED, unreadable(attempt))
    elif not (attempt.request.checks or attempt.request.downloads) and is_told(attempt, mount):
        _record_verdict(attempt, Result.MOUNTED, None)


def _what_is_wrong(attempt: AttemptRecord) -> str | None:
    """Return in one line which checks failed and which files were certainly not copied, or None."""
    failed = [
        f"{check.name}: {check.path}: expected {check.expected}, observed {check.observed}"
        for check in attempt.checks
        if check.failed
    ]
    failed += [
        f"{copied.path} was not copied: {copied.message}"
        for copied in attempt.downloads
        if copied.fate is Fate.FAILED
    ]
    return _first_of(failed)


def _what_is_undecided(attempt: AttemptRecord) -> str | None:
    """Return in one line which checks could not be judged, or None."""
    return _first_of(
        [f"{each.name}: {each.path}: {each.observed}" for each in attempt.checks if each.undecided]
    )


def _first_of(lines: list[str]) -> str | None:
    if not lines:
        return None
    return lines[0] + (f" (and {len(lines) - 1} more)" if len(lines) > 1 else "")


def _record_verdict(attempt: Attempt, result: Result, message: str | None) -> None:
    """Record the verdict. A file that may have been written leaves the target unknown."""
    doubt = in_doubt(attempt.record)
    if doubt is not None:
        result, message = Result.UNKNOWN, "; ".join(filter(None, (doubt, message)))
    attempt.ledger.record(
        VerdictReached(at=attempt.now, key=attempt.key, result=result, message=message)
    )
