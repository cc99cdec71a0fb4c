"""The tokens of a run's logon sessions, for a later process that resumes or unmounts."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.core.errors import JournalError
from orchestrator.core.model import RunId, ServerName, SessionId, session_id
from orchestrator.em.token import KeptSession, Token
from orchestrator.journal import State
from orchestrator.log import Log
from orchestrator.plan.file.settings import RestorePlan

if TYPE_CHECKING:
    from orchestrator.em.session import Session

log = Log(__name__)


class SessionTokens:
    """The tokens of one run's sessions, in its owner-only side file."""

    def __init__(
        self,
        state: State,
        run: RunId,
        plan: RestorePlan,
        over: Callable[[ServerName], Container[SessionId]],
    ) -> None:
        """`over` returns the sessions of a server that are no longer needed."""
        self._state, self._run, self._plan, self._over = state, run, plan, over
        self._known = state.load_sessions(run)

    def usable(self) -> dict[str, list[KeptSession]]:
        """Return the sessions of servers that are still where the run found them."""
        return usable_sessions(self._plan, self._known)[0]

    def keep(self, session: Session) -> None:
        """Write down the token of a new session beside those that may still be needed.

        That it cannot be kept stops nothing.
        """
        over = self._over(session.server)
        known = self._known.get(session.server, [])
        known = [each for each in known if session_id(each["session"]) not in over]
        new = {
            "session": session.kept.guid.reveal(),
            "token": session.kept.token.reveal(),
            "url": self._plan.servers[session.server].url,
        }
        self._known[session.server] = [*known, new]
        try:
            self._state.save_sessions(self._run, self._known)
        except (OSError, JournalError) as exc:
            log.warning("sessions.not_kept", why=str(exc))


def usable_sessions(
    plan: RestorePlan, tokens: Mapping[str, Sequence[Mapping[str, str]]]
) -> tuple[dict[str, list[KeptSession]], dict[ServerName, str]]:
    """Return the sessions of servers that are still where the run found them, and why others not.

    A token goes to the very address that gave it, and to no other.
    """
    usable: dict[str, list[KeptSession]] = {}
    unkept: dict[ServerName, str] = {}
    for server, facts in ((server, facts) for server, each in tokens.items() for facts in each):
        settings = plan.servers.get(ServerName(server))
        if settings is not None and settings.url == facts["url"]:
            guid, token = Token(facts["session"]), Token(facts["token"])
            usable.setdefault(server, []).append(KeptSession(guid=guid, token=token))
        elif settings is not None:
            unkept[ServerName(server)] = f"the plan's address is not the run's ({facts['url']})"
        else:
            unkept[ServerName(server)] = "the plan does not name its server any more"
    return usable, unkept
