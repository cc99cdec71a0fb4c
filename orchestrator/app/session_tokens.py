"""The tokens of a run's logon sessions, for a later process that resumes or unmounts."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.core.errors import JournalError
from orchestrator.core.model import ServerName, SessionId
from orchestrator.core.ports.tokens import StoredSession, Tokens
from orchestrator.core.token import KeptSession
from orchestrator.log import Log
from orchestrator.plan.file.settings import RestorePlan

if TYPE_CHECKING:
    from orchestrator.em.session import Session

log = Log(__name__)


class SessionTokens:
    """The tokens of one run's sessions, for the servers of its plan."""

    def __init__(
        self,
        tokens: Tokens,
        plan: RestorePlan,
        over: Callable[[ServerName], Container[SessionId]],
    ) -> None:
        """`over` returns the sessions of a server that are no longer needed."""
        self._tokens, self._plan, self._over = tokens, plan, over

    def usable(self) -> dict[ServerName, list[KeptSession]]:
        """Return the sessions of servers that are still where the run found them."""
        return usable_sessions(self._plan, self._tokens.usable())[0]

    def keep(self, session: Session) -> None:
        """Keep the token of a new session beside those that may still be needed.

        That it cannot be kept stops nothing.
        """
        server = session.server
        new = StoredSession(opened_by=session.kept, url=self._plan.servers[server].url)
        try:
            self._tokens.keep(server, new, self._over(server))
        except (OSError, JournalError) as exc:
            log.warning("sessions.not_kept", why=str(exc))

    def forget(self) -> None:
        """Forget all of them: nothing needs them any more.

        Raises:
            OSError: they are still there.
        """
        self._tokens.forget()


def usable_sessions(
    plan: RestorePlan, tokens: Mapping[ServerName, Sequence[StoredSession]]
) -> tuple[dict[ServerName, list[KeptSession]], dict[ServerName, str]]:
    """Return the sessions of servers that are still where the run found them, and why others not.

    A token goes to the very address that gave it, and to no other.
    """
    usable: dict[ServerName, list[KeptSession]] = {}
    unkept: dict[ServerName, str] = {}
    for server, sessions in tokens.items():
        settings = plan.servers.get(server)
        for stored in sessions:
            if settings is not None and settings.url == stored.url:
                usable.setdefault(server, []).append(stored.opened_by)
            elif settings is not None:
                unkept[server] = f"the plan's address is not the run's ({stored.url})"
            else:
                unkept[server] = "the plan does not name its server any more"
    return usable, unkept
