"""The one small question about a logon session itself: it and its service are there, or not.

Only our own LogonSession is an answer. Any other document, a page or somebody else's session may
come from anybody in front of the service, while it is stopped or mixed up with another.
Source: reference 2.5, 2.7 and 16.
"""

from __future__ import annotations

from orchestrator.core.errors import AccessDenied
from orchestrator.core.token import Token
from orchestrator.em.format import Format
from orchestrator.em.transport import Transport
from orchestrator.em.wire import Codec


class OwnSession:
    """Asks for one logon session, within that session."""

    def __init__(self, transport: Transport, form: Format, guid: Token) -> None:
        """Nothing is sent yet."""
        self._transport = transport
        self._format = form
        self._guid = guid
        self._is_shown = True

    async def seen(self) -> None:
        """Return if the service answers inside the session; one request, safe to repeat.

        Any request keeps a session from idling out. A role that may not read logon sessions
        may read its tasks.

        Raises:
            SessionLost: the service itself does not know the session.
            EnterpriseManagerError: nothing is said of the session.
        """
        if self._is_shown:
            try:
                guid = self._guid.reveal()
                await self._transport.send(
                    "GET",
                    f"/api/logonSessions/{guid}",
                    self._format.reading(lambda codec: codec.own_session(guid)),
                    shows_sessions=True,
                )
            except AccessDenied:
                self._is_shown = False
            else:
                return
        target = "/api/query?type=Task&pageSize=1&page=1"
        await self._transport.send("GET", target, self._format.reading(Codec.tasks))
