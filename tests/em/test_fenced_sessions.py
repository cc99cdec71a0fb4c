"""Logon sessions behind a fence that is not sure, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from orchestrator.core.errors import Fenced
from orchestrator.core.lease import Lease
from orchestrator.core.model import Href, OsKind, RestorePointId, ServerName, Source
from orchestrator.database.fence import LeaseFence
from orchestrator.em.logon import LOGOFF_GRACE
from orchestrator.simulator.faults import Fault
from tests.em.documents import MOUNT
from tests.em.logons import Desk, desk

pytestmark = pytest.mark.anyio

AWAY = 1200.0
"""Seconds for which the database is away: longer than any request may take."""


def unsure() -> LeaseFence:
    """Return the fence of a lease that was sure long ago."""
    return LeaseFence(ServerName("hq"), Lease(3, sent_at=-3600.0, clock=anyio.current_time))


@asynccontextmanager
async def after(seconds: float, happens: Callable[[], None]) -> AsyncIterator[None]:
    """Let something happen after so much time, beside what is done here."""

    async def later() -> None:
        await anyio.sleep(seconds)
        happens()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(later)
        yield


def renewed(fence: LeaseFence) -> Callable[[], None]:
    """Return what renews the lease when it is called."""
    return lambda: fence.renewed(anyio.current_time())


async def test_a_logon_waits_and_counts_from_when_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An account locks by what the server sees in ten minutes, not by when somebody wished it."""
    fence = unsure()
    async with (
        desk(monkeypatch, fence=fence) as at,
        after(AWAY, renewed(fence)),
        at.client.logon(),
    ):
        assert anyio.current_time() == AWAY
        assert [each.at for each in at.client.logons._sent] == [AWAY]

    assert [one.method for one in at.requests] == ["POST", "DELETE"]


async def test_mount_and_unmount_have_all_their_time_after_a_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their time limits are the server's: it does not pay for a database that was away."""
    fence = unsure()
    fence.renewed(anyio.current_time())
    async with desk(monkeypatch, fence=fence) as at, at.client.logon() as session:
        point = RestorePointId(at.point().id)
        await anyio.sleep(60.0)
        await session.tasks()  # a read waits for nothing

        async with after(AWAY / 2, renewed(fence)):
            await session.start_mount(point, Source.REPLICA, OsKind.WINDOWS)
        await anyio.sleep(100.0)
        async with after(AWAY / 2, renewed(fence)):
            await session.unmount(session.mount_href(point, Source.REPLICA, "1"))
        fence.renewed(anyio.current_time())

    assert len(at.sent("POST", "/mounts")) == len(at.sent("DELETE", "/mounts")) == 1
    assert at.manager.truth.sessions_closed == 1


async def left_unsure(at: Desk, fence: LeaseFence) -> None:
    """Log on, and leave the session when the lease is sure no more."""
    fence.renewed(anyio.current_time())
    async with at.client.logon():
        await anyio.sleep(60.0)


async def test_a_logoff_waits_for_the_lease_no_longer_than_for_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The session dies by itself, or is the successor's by now."""
    fence = unsure()
    async with desk(monkeypatch, fence=fence) as at:
        await left_unsure(at, fence)

        assert anyio.current_time() == pytest.approx(60.0 + LOGOFF_GRACE)
        assert [one.method for one in at.requests] == ["POST"]


async def test_a_logoff_that_waits_is_sent_once_the_lease_is_sure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A short pause of the database leaves no session behind."""
    fence = unsure()
    async with desk(monkeypatch, fence=fence) as at, after(60.5, renewed(fence)):
        await left_unsure(at, fence)

    assert at.manager.truth.sessions_closed == 1


async def test_a_logoff_that_waits_ends_with_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, though it is shielded; nothing is sent."""
    fence = unsure()
    async with desk(monkeypatch, fence=fence) as at, after(60.5, fence.lose):
        await left_unsure(at, fence)

        assert anyio.current_time() == pytest.approx(60.5)
        assert [one.method for one in at.requests] == ["POST"]


async def test_a_request_under_way_ends_at_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is shielded: nobody waits minutes for an answer that nobody may act on."""
    fence = unsure()
    fence.renewed(anyio.current_time())
    silent = Fault(kind="black_hole", method="DELETE", path="/mounts/1$")
    async with desk(monkeypatch, fence=fence, faults=[silent]) as at:
        async with at.client.logon() as session, after(10.0, fence.lose):
            with pytest.raises(Fenced), anyio.CancelScope(shield=True):
                await session.unmount(Href(MOUNT))

        assert anyio.current_time() == 10.0
        assert [one.method for one in at.requests] == ["POST", "DELETE"]


async def test_a_lost_session_keeps_its_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The successor takes it up, finds them, and ends it."""
    fence = unsure()
    fence.renewed(anyio.current_time())
    async with desk(monkeypatch, fence=fence) as at:
        async with at.client.logon() as session:
            point = RestorePointId(at.point().id)
            await session.start_mount(point, Source.REPLICA, OsKind.WINDOWS)
            await anyio.sleep(100.0)
            fence.lose()
            with pytest.raises(Fenced):
                await session.unmount(Href(f"/api/vmReplicaPoints/{point}/mounts/1"))

        async with at.later_client(session).take_up(session.id) as again:
            (mount,) = await again.mounts(point, Source.REPLICA)
            await again.unmount(mount.href)

    assert at.manager.truth.sessions_closed == 1
    assert len(at.sent("DELETE", "/mounts")) == 1
