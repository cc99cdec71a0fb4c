"""Logon, token, keep-alive and logoff against a simulated server, on virtual time."""

from __future__ import annotations

import base64
import pickle

import anyio
import pytest
from aiohttp import web

from orchestrator.core.errors import (
    AccessDenied,
    LogonRefused,
    MalformedResponse,
    ServiceBusy,
    SessionLost,
)
from orchestrator.core.model import OsKind, RestorePointId, Source, session_id
from orchestrator.simulator.faults import Fault
from tests.em.documents import POINT, document, sample
from tests.em.logons import ACCOUNT, PASSWORD, desk, mounted
from tests.em.rawserver import Request

pytestmark = pytest.mark.anyio


async def test_a_logon_sends_the_account_once_and_then_only_the_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Traps 4, 14 and 17: Basic in UTF-8, then the token header; logoff is by GUID; no cookie."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        token, guid = session.kept.token.reveal(), session.kept.guid.reveal()
        await session.tasks()

    logon, tasks, logoff = at.requests
    assert logon.target == "/api/sessionMngr/?v=latest"
    assert base64.b64decode(logon.headers["authorization"][6:]).decode() == f"{ACCOUNT}:{PASSWORD}"
    assert [request.headers["x-restsvcsessionid"] for request in (tasks, logoff)] == [token] * 2
    assert (logoff.method, logoff.target) == ("DELETE", f"/api/logonSessions/{guid}")
    assert guid not in f"{session.id} {session.kept!r}"
    assert all("cookie" not in request.headers for request in at.requests)
    assert all("authorization" not in request.headers for request in (tasks, logoff))
    assert all("octet" not in request.headers.get("content-type", "") for request in at.requests)
    assert token not in "".join(request.target for request in at.requests)
    assert (at.manager.truth.sessions_closed, len(at.manager.sessions)) == (1, 0)


async def test_a_refused_logon_is_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 19: accounts lock after a few failed logons."""
    async with desk(monkeypatch, password="wrong") as at:
        with pytest.raises(LogonRefused, match="password is incorrect"):
            async with at.client.logon():
                pass

    assert len(at.requests) == 1


async def test_a_role_without_the_points_is_told_at_the_logon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is mounted with an account that cannot; and it logs off again."""
    links = sample("logon-session").replace(b"/api/vmReplicaPoints", b"/api/otherPoints")

    def shortened(request: Request) -> web.Response | None:
        if "sessionMngr" not in request.target:
            return None
        headers = {"x-restsvcsessionid": "token", "Content-Type": "application/xml"}
        return web.Response(status=201, body=links, headers=headers)

    async with desk(monkeypatch, override=shortened) as at:
        with pytest.raises(AccessDenied, match="vmReplicaPoints"):
            async with at.client.logon():
                pass

    assert [request.method for request in at.requests] == ["POST", "DELETE"]


@pytest.mark.parametrize("headers", [{}, {"X-RestSvcSessionId": ""}])
async def test_a_logon_without_a_token_is_none(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    """Trap 17: the session's GUID is no token."""

    def tokenless(request: Request) -> web.Response:
        return web.Response(status=201, body=sample("logon-session"), headers=headers)

    async with desk(monkeypatch, override=tokenless) as at:
        with pytest.raises(MalformedResponse, match="9398"):
            async with at.client.logon():
                pass


async def test_the_session_id_may_come_from_the_location(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 17: without SessionId in the body, the GUID stands in Location."""
    headers = {
        "X-RESTSVCSESSIONID": "token",
        "Location": f"https://localhost/api/logonSessions/{POINT.upper()}",
        "Date": "Mon, 23 Nov 2026 06:01:30 GMT",
    }

    def bare(request: Request) -> web.Response:
        return web.Response(status=201, body=document("", "LogonSession"), headers=headers)

    async with desk(monkeypatch, override=bare) as at, at.client.logon() as session:
        assert session.kept.guid.reveal() == POINT
        assert session.id == session_id(POINT) != POINT
        assert session.clock_offset_s == 90.0
        assert session.user == ACCOUNT


async def test_a_token_is_shown_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 4: neither repr nor pickle gives it away."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        token = session.kept.token

        assert token.reveal() not in f"{token} {token!r} {[token]}"
        with pytest.raises(TypeError):
            pickle.dumps(token)


@pytest.mark.parametrize("kind", ["black_hole", "drop_before", "error_500", "html_503"])
async def test_a_logoff_that_fails_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The session ends by itself; the end of a run waits 10 s for it at most."""
    async with desk(monkeypatch, faults=[Fault(kind=kind, method="DELETE")]) as at:
        async with at.client.logon():
            began = anyio.current_time()
        assert anyio.current_time() - began <= 10.5

    assert len(at.sent("DELETE")) >= 1


async def test_only_our_own_session_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 3: another session of the same account, and its mounts, are left alone."""
    async with desk(monkeypatch) as at, at.client.logon() as other:
        async with at.client.logon():
            pass

        assert list(await other.tasks()) == []
        assert at.manager.truth.sessions_closed == 1


async def test_a_lost_session_is_never_opened_again_in_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trap 16: a 401 is confirmed once and ends it; no logon, no repetition, nothing after."""
    fault = Fault(kind="forget_session", method="POST", path="/mounts$")
    async with desk(monkeypatch, faults=[fault]) as at, at.client.logon() as session:
        for _ in range(2):
            with pytest.raises(SessionLost):
                await session.start_mount(
                    RestorePointId(at.point().id), Source.REPLICA, OsKind.WINDOWS
                )
        with pytest.raises(SessionLost):
            await session.tasks()
        sent = len(at.requests)

    assert (sent, at.manager.truth.logons) == (3, 1)


async def test_a_401_that_passes_does_not_end_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A living session given up would leave its mounts open with nobody watching them."""
    fault = Fault(kind="unauthorized", path="/tasks$", count=1)
    async with desk(monkeypatch, faults=[fault]) as at, at.client.logon() as session:
        with pytest.raises(ServiceBusy):
            await session.tasks()

        assert list(await session.tasks()) == []


@pytest.mark.parametrize("alive", [True, False])
async def test_a_session_lives_as_long_as_it_is_used(
    monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    """Trap 15: fifteen idle minutes end a session; a keep-alive in time does not let them pass."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        for _ in range(3):
            await anyio.sleep(600.0)
            assert session.idle_s == pytest.approx(600.0, abs=1.0) or not alive
            if alive:
                await session.keep_alive()
                assert session.idle_s < 1.0

        if alive:
            await session.tasks()
        else:
            with pytest.raises(SessionLost):
                await session.tasks()


async def test_a_session_can_be_left_and_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 18: mounts that are left stay within reach of a later process."""
    async with desk(monkeypatch) as at:
        async with at.client.logon() as session:
            _, mount = await mounted(session, at)
            session.leave_open()
        assert at.manager.truth.still_open()

        later = at.later_client(session)
        async with later.take_up(session.id) as again:
            await again.unmount(mount)

        assert at.manager.truth.still_open() == []
        assert at.manager.truth.sessions_closed == 1
        with pytest.raises(SessionLost):
            async with later.take_up(session.id):
                pass


async def test_after_its_end_a_session_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 16: whoever still holds a session that was logged off is told, and nobody else is."""
    async with desk(monkeypatch) as at:
        async with at.client.logon() as session:
            pass
        with pytest.raises(SessionLost):
            await session.start_mount(RestorePointId(POINT), Source.REPLICA, OsKind.WINDOWS)

    assert [request.method for request in at.requests] == ["POST", "DELETE"]
