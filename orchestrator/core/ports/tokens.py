"""The tokens of a run's logon sessions, kept for a later process that resumes or unmounts."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from orchestrator.core.model import ServerName, SessionId
from orchestrator.core.token import KeptSession


class StoredSession(Struct, frozen=True, kw_only=True):
    """A session as it is kept: what opens it, and the one address to which that may be sent."""

    opened_by: KeptSession
    url: str


class Tokens(Protocol):
    """Where the tokens of one run are kept, readable to nobody who may not use them.

    Never in journal, log or report. All methods are synchronous and quick.
    """

    def usable(self) -> Mapping[ServerName, Sequence[StoredSession]]:
        """Return the sessions that are kept, as far as they can be read; the oldest first."""

    def keep(self, server: ServerName, session: StoredSession, over: Container[SessionId]) -> None:
        """Keep a new session beside those of its server that are not `over`: these are forgotten.

        Raises:
            OSError, JournalError: it could not be kept now; it is again with the next one.
        """

    def forget(self) -> None:
        """Forget all sessions of the run: nothing needs them any more. Repeatable.

        Raises:
            OSError: they are still there.
        """
