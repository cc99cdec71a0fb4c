"""What may be open of a run: the one answer for status, lists, watch, reports and unmount."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from orchestrator.core.events import SessionEnded, StrayFound
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import MountState, ServerName, SessionId
from orchestrator.core.policy import SESSION_IDLE_LIMIT
from orchestrator.core.text import counted, printable

DIED = "its process ended before the tasks of its session were read a last time"
"""Why nobody knows what is open in a session that no process has ended."""

Ends = Mapping[ServerName, Mapping[SessionId, SessionEnded]]
"""Of each server how its sessions ended, by what was said last."""


class LeftOpen(Struct, frozen=True, kw_only=True):
    """What may be open of a run: false if it is known that nothing is.

    `records` are targets whose mounts may be open, `strays` mounts of no target; `unaudited` are
    servers with a session in which a mount of no target may be open, unseen, and why.
    """

    records: tuple[MountRecord, ...] = ()
    strays: tuple[StrayFound, ...] = ()
    unaudited: Mapping[ServerName, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether anything may be open."""
        return bool(self.mounts or self.unaudited)

    @property
    def mounts(self) -> int:
        """Return how many known mounts may be open."""
        return len(self.records) + len(self.strays)

    def out_of_reach(self, ends: Ends, at: float) -> int:
        """Return how many of the mounts are in a session that has ended, as known `at` then.

        Nothing here can remove such a mount any more; whether the server does is not documented.
        A session that the server has denied may live until it must have been forgotten.
        Source: tasks and mounts live in their logon session only.
        """
        made_in = [
            (record.planned.server, record.attempts[-1].session)
            for record in self.records
            if record.mount_state is not MountState.KEPT and record.attempts
        ]
        made_in += [(stray.server, stray.session) for stray in self.strays]
        last = (ends.get(name, {}).get(session) for name, session in made_in)
        return sum(
            end is not None
            and not end.left_open
            and (not end.lost or at - end.at > SESSION_IDLE_LIMIT)
            for end in last
        )

    @property
    def unknown(self) -> tuple[str, ...]:
        """Return in words what is not known."""
        return tuple(map(self.unknown_on, self.unaudited))

    def unknown_on(self, server: ServerName) -> str:
        """Return in words what is not known of a server; nothing where all is."""
        why = self.unaudited.get(server)
        if why is None:
            return ""
        return f"whether a mount of no target is open on {server} is not known ({why})"

    @property
    def strays_in_words(self) -> tuple[str, ...]:
        """Return where each mount of no target is, and why it was left."""
        return tuple(
            printable(
                f"a mount of no target: {stray.server}: {stray.mount or stray.task}"
                f"{f', restore point {stray.point}' if stray.point else ''}: {stray.reason}"
            )
            for stray in self.strays
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """Return it in a few words; nothing if nothing is open."""
        parts = [f"{self.mounts} MAY BE MOUNTED"] if self.mounts else []
        if self.unaudited:
            names = ", ".join(printable(name) for name in self.unaudited)
            parts.append(f"mounts of no target MAY BE MOUNTED on {names}")
        return tuple(parts)

    def short(self) -> str:
        """Return it for the end of a line, with a comma before it; nothing if nothing is open."""
        return "".join(f", {part}" for part in self.parts)


def unread_sessions(
    ends: Ends, asked: Iterable[tuple[ServerName, SessionId]]
) -> dict[ServerName, dict[SessionId, str]]:
    """Return the sessions in which a mount of no target may be open, unseen, and why, by server.

    `asked` are those in which a process that is gone has asked for mounts; nothing while one works
    on the run.
    """
    found = {
        name: {
            session: end.unaudited for session, end in sessions.items() if end.unaudited is not None
        }
        for name, sessions in ends.items()
    }
    for name, session in asked:
        if session not in ends.get(name, {}):
            found.setdefault(name, {})[session] = DIED
    return {name: sessions for name, sessions in found.items() if sessions}


def out_of_reach_words(count: int) -> str:
    """Return what a person can do about mounts whose logon session has ended."""
    return (
        f"The logon session of {counted(count, 'mount')} has ended, and no command can release "
        f"{'it' if count == 1 else 'them'} any more. In the Veeam Backup & Replication console of "
        "the backup server, find the running file-level restore session of the restore point and "
        "stop it."
    )
