"""Which restore sessions of a server a run may have made: by machine, restore point's server, time.

A likelihood, never a proof: no server says who began a session, or of which restore point it is.
Source: reference 15.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from msgspec import Struct

from orchestrator.core.activity import Activity, ActivityKind
from orchestrator.core.lifecycle import AttemptRecord, MountRecord

WITHIN_S = 60.0
"""Seconds by which a session may begin before its request or after the end of its task.

The server's clock and ours may differ, and a backup server may queue what it begins.
"""


class Orphan(Struct, frozen=True):
    """An open restore session, and the target whose mount it may be."""

    activity: Activity
    record: MountRecord

    @property
    def attempt(self) -> AttemptRecord:
        """The attempt that may have made it: the last one."""
        return self.record.attempts[-1]


def orphans_among(
    shown: Iterable[Activity],
    records: Iterable[MountRecord],
    started_at: datetime,
    clock_offset_s: float,
    now: float,
) -> Iterator[Orphan]:
    """Yield the open sessions that may be mounts which a run has left, each once.

    `records` are those of one server; `started_at` is the time at second 0 of the run's clock, and
    `now` a second of that. A target whose mount is known to be gone has left none.
    """
    left = [record for record in records if record.may_be_open and record.attempts]
    for each in shown:
        if each.is_over or each.kind is not ActivityKind.FILE_RESTORE:
            continue
        for record in left:
            if is_of(each, record) and began_in(each, record, started_at, clock_offset_s, now):
                yield Orphan(each, record)
                break


def is_of(activity: Activity, record: MountRecord) -> bool:
    """Return whether an activity is of a target's machine; case does not matter in these names."""
    machine = record.planned.vm.casefold(), record.planned.backup_server.casefold()
    return (activity.vm.casefold(), activity.backup_server.casefold()) == machine


def began_in(
    activity: Activity,
    record: MountRecord,
    started_at: datetime,
    clock_offset_s: float,
    now: float,
    within_s: float = WITHIN_S,
) -> bool:
    """Return whether an activity began while the last attempt at a target asked for its mount."""
    attempt = record.attempts[-1]
    began = (activity.began_at - started_at).total_seconds() - clock_offset_s
    until = now if attempt.finished_at is None else attempt.finished_at
    latest = attempt.submitted_at + 2 * record.planned.timeouts.mount
    return attempt.submitted_at - within_s <= began <= min(until, latest) + within_s


def earliest(records: Iterable[MountRecord], started_at: datetime) -> datetime | None:
    """Return since when sessions must be asked for; None: nothing may have been left."""
    asked = [
        record.attempts[-1].submitted_at
        for record in records
        if record.may_be_open and record.attempts
    ]
    return started_at + timedelta(seconds=min(asked) - WITHIN_S) if asked else None
