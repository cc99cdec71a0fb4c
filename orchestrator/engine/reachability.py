"""Whether one server can be reached, as all its connections in one process see it.

A resumed run may use a server through several connections, each of which meets the server's
trouble by itself. The journal records once that the server is out of reach, and once that it is
back, when the last of its connections is.
"""

from __future__ import annotations

from typing import Protocol

from orchestrator.core.errors import LogonTooSoon
from orchestrator.core.events import ServerGivenUp, ServerParked, ServerResumed
from orchestrator.core.model import ServerName
from orchestrator.engine.ledger import Ledger


class ReachableServer(Protocol):
    """A server connection, as far as it matters here."""

    refused: bool

    @property
    def is_wanted(self) -> bool:
        """True once it may log on, or take a session up."""


class Reachability:
    """Whether one server can be reached, over all its connections in this process."""

    def __init__(self, server: ServerName, ledger: Ledger) -> None:
        """Nothing is known of it yet."""
        self._server, self._ledger = server, ledger
        self.for_new: ReachableServer | None = None
        """The connection that logs on for new mounts, if there is one."""
        self._up: set[ReachableServer] = set()
        self._down: set[ReachableServer] = set()
        self._since = 0.0

    def parked(self, server: ReachableServer, trouble: Exception, since: float) -> None:
        """Note that a connection cannot use the server, `since` then."""
        now = self._ledger.now()
        if not self._down:
            self._since = since
            waits = trouble.wait_s if isinstance(trouble, LogonTooSoon) else None
            self._ledger.record(
                ServerParked(
                    at=now,
                    server=self._server,
                    reason=str(trouble),
                    since=since if since < now else None,
                    not_before=None if waits is None else now + waits,
                )
            )
        self._up.discard(server)
        self._down.add(server)

    def usable(self, server: ReachableServer) -> None:
        """Note that a connection can use the server, perhaps again."""
        was_down = bool(self._down)
        self._down.discard(server)
        self._up.add(server)
        self._resume(was_down=was_down)

    def left(self, server: ReachableServer) -> None:
        """Note that a connection no longer needs the server; its wait may end with this."""
        was_down = bool(self._down)
        self._down.discard(server)
        self._up.discard(server)
        if self._up:
            self._resume(was_down=was_down)

    def _resume(self, *, was_down: bool) -> None:
        if was_down and not self._down:
            now = self._ledger.now()
            self._ledger.record(
                ServerResumed(at=now, server=self._server, waited_s=now - self._since)
            )

    def given_up(self, server: ReachableServer, reason: str) -> None:
        """Record that a server uses it no more in this run.

        The server is given up with the server for new mounts. One that only finishes gives no more
        than its session up, where new mounts are asked for beside it.
        """
        now, new = self._ledger.now(), self.for_new
        if new is None or new is server or not new.is_wanted:
            self._down.discard(server)
            self._up.discard(server)
            self._ledger.record(
                ServerGivenUp(at=now, server=self._server, reason=reason, refused=server.refused)
            )
            return
        what = "the session of an earlier process was given up"
        self._ledger.note(f"{self._server}: {what}: {reason}")
        self.left(server)
