"""A session is there only if the service shows it: our own LogonSession, and nothing else."""

from __future__ import annotations

import pytest
from aiohttp import web

from orchestrator.core.errors import (
    EnterpriseManagerError,
    MalformedResponse,
    ServiceBusy,
    SessionLost,
)
from orchestrator.em.session import Session
from tests.em.documents import POINT, document, sample
from tests.em.logons import Desk, desk
from tests.em.rawserver import Request

pytestmark = pytest.mark.anyio

XHTML = b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body>Hi</body></html>'
STRANGERS = {
    "a page": (200, XHTML),
    "a session of nobody's service": (
        200,
        b"<LogonSession><SessionId>x</SessionId></LogonSession>",
    ),
    "somebody else's session": (200, document(f"<SessionId>{POINT}</SessionId>", "LogonSession")),
    "a session without its id": (200, document("", "LogonSession")),
    "another document": (200, sample("tasks")),
    "nothing": (204, b""),
    "a page with 401": (401, b"<html><title>Log in</title></html>"),
    "a page with 404": (404, b"<html><title>Not Found</title></html>"),
    "a page with 403": (403, b"<html><title>Forbidden</title></html>"),
    "a page with 502": (502, b"<html><title>Bad Gateway</title></html>"),
}


class Gate:
    """Answers in the service's place once it is shut."""

    answer: tuple[int, bytes] | None = None

    def __call__(self, request: Request) -> web.Response | None:
        if self.answer is None or request.method != "GET":
            return None
        return web.Response(status=self.answer[0], body=self.answer[1])


async def trouble(at: Desk, session: Session) -> EnterpriseManagerError:
    """Return what a probe ends with."""
    with pytest.raises(EnterpriseManagerError) as failure:
        await session.keep_alive()
    assert len(at.sent("GET")) <= 4
    return failure.value


@pytest.mark.parametrize("what", STRANGERS)
async def test_only_our_own_session_answers_a_probe(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody who answers in its place opens the gate again, or ends the session."""
    gate = Gate()
    async with desk(monkeypatch, override=gate) as at, at.client.logon() as session:
        gate.answer = STRANGERS[what]
        error = await trouble(at, session)
        gate.answer = None

        assert isinstance(error, MalformedResponse | ServiceBusy)
        await session.keep_alive()  # it lives


@pytest.mark.parametrize("what", STRANGERS)
async def test_nobody_else_says_that_a_kept_session_is_gone(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its mounts would be given up while they are open."""
    gate = Gate()
    async with desk(monkeypatch, override=gate) as at, at.client.logon() as first:
        later = at.later_client(first)
        gate.answer = STRANGERS[what]
        with pytest.raises(EnterpriseManagerError) as failure:
            async with later.take_up(first.id):
                pass
        gate.answer = None

        assert not isinstance(failure.value, SessionLost)
        async with later.take_up(first.id) as again:
            assert again.id == first.id


async def test_the_services_own_401_ends_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice, for one may be a mistake of the moment."""
    gate = Gate()
    async with desk(monkeypatch, override=gate) as at, at.client.logon() as session:
        gate.answer = (401, sample("error.401"))
        before = len(at.sent("GET"))

        assert isinstance(await trouble(at, session), SessionLost)
        assert len(at.sent("GET")) - before == 2
