"""Find out as which system a guest is readable, where the plan says `os: auto`.

Which system a machine has, no server says. So it is mounted as what earlier runs know of it, else
as Windows; where nothing is readable, that mount is removed, and it is mounted once as the other
system. What is readable is seen by listing, never by the words of a server. What was found out is
recorded: later runs mount it as that at once.

Source: reference 6.1, a guest that is mounted as the wrong system may show no volume.
"""

from __future__ import annotations

from orchestrator.core.events import NothingReadable, SystemFound
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import ASSUMED_OS, Mount, OsKind, OsSource, Source
from orchestrator.engine.content.guest import Guest
from orchestrator.engine.content.volumes import system_of
from orchestrator.engine.mount.attempt import Attempt


async def is_readable(guest: Guest) -> bool:
    """Return whether a volume of the guest can be read; record its system where that is new.

    Its volumes are listed only where nothing else says what they are.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    attempt, mount = guest.attempt, guest.mount
    if attempt.record.attempts[-1].unread or not mount.roots:
        return False
    if not is_told(attempt, mount):
        # an answer that takes longer than checks may says nothing of the guest
        found = await attempt.server.within(attempt.request.timeouts.checks, guest.shows_something)
        if found is False:
            return False
    if attempt.record.planned.os_source is OsSource.PLAN and system_of(_names(mount)) is None:
        return True  # that is the plan's word, and nobody has looked
    _remember(attempt, _system(attempt, mount))
    return True


def is_told(attempt: Attempt, mount: Mount) -> bool:
    """Return whether it is known, without a look at its volumes, that the guest is readable."""
    record = attempt.record
    if record.planned.os_source is OsSource.PLAN or attempt.request.source is Source.AGENT:
        return True
    if system_of(_names(mount)) is not None:
        return True
    return record.os_source is OsSource.EARLIER_RUN and record.os_kind is record.planned.os_kind


def is_for_the_other_system(attempt: Attempt) -> bool:
    """Return whether a guest without anything readable is mounted as the other system next.

    That is recorded, once for each restore point.
    """
    record = attempt.record
    if record.attempts[-1].unread:
        return True
    if not record.os_is_open:
        return False
    attempt.ledger.record(NothingReadable(at=attempt.now, key=attempt.key, os_kind=record.os_kind))
    return True


def unreadable(attempt: Attempt) -> str:
    """Return what a failed verdict says of a guest of which nothing is readable."""
    record = attempt.record
    if record.planned.os_source is OsSource.PLAN:
        return "mounted, but no volume is readable (is the plan's `os` right?)"
    tried = [each.os_kind for each in record.tries if each.unread and each.os_kind is not None]
    systems = [*dict.fromkeys([*tried, record.os_kind])]
    if attempt.request.source is Source.AGENT:
        return "mounted, but no volume is readable"
    return f"mounted as {' and as '.join(systems)}, but no volume is readable"


def words_of_wrong_system(record: MountRecord) -> list[str]:
    """Return what must be said of a mount that failed after one of the wrong system; else nothing.

    A verdict says it itself.
    """
    unread = [each.os_kind for each in record.tries if each.unread and each.os_kind is not None]
    if not unread or record.attempts[-1].verdict is not None or record.attempts[-1].unread:
        return []
    return [f"mounted as {unread[-1]} before, and nothing was readable"]


def _system(attempt: Attempt, mount: Mount) -> OsKind:
    """Return the system of a guest of which something is readable."""
    record = attempt.record
    if record.planned.os_source is OsSource.PLAN:
        return record.planned.os_kind
    return system_of(_names(mount)) or record.os_kind


def _remember(attempt: Attempt, os_kind: OsKind) -> None:
    """Record the system of a guest if earlier runs do not know it, or the plan's first guess fails.

    An examination that is begun again records nothing twice.
    """
    request, record = attempt.request, attempt.record
    known = attempt.context.systems.known(request.server, request.vm, request.backup_server)
    if os_kind is (known or ASSUMED_OS) and os_kind is record.os_kind:
        return
    if record.os_noted is os_kind:
        return
    attempt.ledger.record(
        SystemFound(
            at=attempt.now,
            key=attempt.key,
            os_kind=os_kind,
            server=request.server,
            vm=request.vm,
            backup_server=request.backup_server,
            simulated=attempt.session.simulated,
        )
    )


def _names(mount: Mount) -> list[str]:
    return [root.path or root.name for root in mount.roots]
