"""Submissions in doubt: the one unclaimed mount task is found, and nothing else is taken for it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.core.errors import (
    EnterpriseManagerError,
    RequestNotSent,
    RequestRefused,
    ResponseLost,
    ServerUnusable,
    ServiceBusy,
    SessionLost,
)
from orchestrator.core.lease import Lease
from orchestrator.core.lifecycle import AttemptRecord
from orchestrator.core.model import (
    BackupServerName,
    Href,
    Mount,
    MountKey,
    MountLink,
    RestorePoint,
    RestorePointId,
    ServerName,
    SessionId,
    TaskId,
)
from orchestrator.core.policy import PROOF_AFTER, WatchPolicy
from orchestrator.core.ports.fence import NO_FENCE, Fence
from orchestrator.core.ports.server import GuestSession
from orchestrator.database.fence import LeaseFence
from orchestrator.engine.availability import Terms
from orchestrator.engine.connection import Connection
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.mount import recover
from orchestrator.engine.mount.recover import (
    LOOKS,
    Doubt,
    Unsettled,
    first_looks,
    outcome,
)
from orchestrator.engine.server_connection import ServerConnection
from tests.engine.journals import MemoryJournal
from tests.engine.scripted import ScriptedSession, ScriptedTask

pytestmark = pytest.mark.anyio

OURS, LOST = TaskId("task-1"), TaskId("task-2")
POINT = RestorePoint(
    id=RestorePointId("0f1e2d3c-0000-4000-8000-000000000001"),
    name="dc01@2026-11-23 02:00:00",
    vm="dc01",
    created_at=datetime(2026, 11, 23, 2, tzinfo=UTC),
    backup_server=BackupServerName("vbr-01"),
)
OUTAGE = 600.0
PATIENCE = sum(LOOKS)


@dataclass(slots=True)
class ScriptedServer:
    """Lets everybody log on, to one session."""

    session: ScriptedSession
    server: ServerName = ServerName("hq")
    kept = ()
    fence: Fence = NO_FENCE
    stops_tasks = True

    @asynccontextmanager
    async def take_up(self, session: SessionId) -> AsyncIterator[GuestSession]:
        """Have nothing to take up."""
        raise SessionLost("no session was kept", server=self.server)
        yield cast("GuestSession", self.session)

    @asynccontextmanager
    async def logon(self) -> AsyncIterator[GuestSession]:
        """Give the session, which has no guest to look into."""
        yield cast("GuestSession", self.session)


@asynccontextmanager
async def connected(session: ScriptedSession) -> AsyncIterator[tuple[Connection, ServerConnection]]:
    """Be logged on to a server meanwhile; task-1 is a target's already, if there is one."""
    server = ServerConnection(
        ScriptedServer(session),
        Ledger(MemoryJournal(), (), anyio.current_time),
        Terms(outage=OUTAGE, watch=WatchPolicy(), rng=random.Random(1)),
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        await server.decided()
        connection = server.open_connection()
        assert connection is not None
        connection.watcher.claimed.add(OURS)
        yield connection, server
        server.close()


def doubt(server: ServerConnection, point: RestorePoint = POINT, *, is_alone: bool = True) -> Doubt:
    """Return the doubt of a request that was sent just now."""

    async def alone() -> bool:
        return is_alone

    key = MountKey(f"key of {point.id}")
    return Doubt(key=key, point=point, sent_at=server.now, sent_by=server.now, is_alone=alone)


async def find(connection: Connection, server: ServerConnection) -> TaskId | Mount | None:
    """Find out what came of a request that was sent just now, as an attempt does."""
    lost = doubt(server)
    async with connection.posting:
        started = await first_looks(connection, server, lost)
    return started or await outcome(connection, server, lost)


def running(operation: str = "MountRestorePoint", *, seconds: float = 1e6) -> ScriptedTask:
    """Return a task that ends after so many seconds."""
    return ScriptedTask(ends_at=seconds, operation=operation)


@pytest.mark.parametrize(
    "lost",
    [running(), running(""), running(seconds=0)],
    ids=["running", "without an operation", "finished already"],
)
async def test_the_one_unclaimed_mount_task_is_found_and_claimed(lost: ScriptedTask) -> None:
    """Whatever state it is in by now, it is ours, and nobody can adopt it a second time."""
    session = ScriptedSession({OURS: running(), LOST: lost})

    async with connected(session) as (connection, server):
        found = await find(connection, server)
        again = await find(connection, server)

    assert found == LOST
    assert LOST in connection.watcher.claimed
    assert again is None


@pytest.mark.parametrize("appears_after", [0.2, 1.0, 7.0, 15.0, PATIENCE - 0.1])
async def test_a_task_that_the_server_shows_late_is_still_found(appears_after: float) -> None:
    """As long as it is looked for, the last pause included, a slow server costs no second mount."""
    session = ScriptedSession({OURS: running()})

    async def appear() -> None:
        await anyio.sleep(appears_after)
        session.script[LOST] = running()

    async with connected(session) as (connection, server), anyio.create_task_group() as tasks:
        tasks.start_soon(appear)
        found = await find(connection, server)

    assert found == LOST


@pytest.mark.parametrize("appears_after", [PATIENCE + 1, 100.0, PROOF_AFTER - 1])
async def test_what_begins_later_is_found_by_its_mount_and_not_by_counting(
    appears_after: float,
) -> None:
    """Nothing is said before its task has ended, although that takes longer than the patience."""
    own = MountLink(href=mount(1).href, point=POINT.id, number="1")
    session = ScriptedSession({OURS: running()})

    async def appear() -> None:
        await anyio.sleep(appears_after)
        session.script[LOST] = ScriptedTask(ends_at=300.0, mount=own)
        await anyio.sleep_until(300.0)
        session.listed.append(mount(1))

    async with connected(session) as (connection, server), anyio.create_task_group() as tasks:
        tasks.start_soon(appear)
        found = await find(connection, server)

    assert found == mount(1)
    assert LOST in connection.watcher.claimed


async def test_none_is_said_only_after_every_look() -> None:
    """That nothing was started is proved by a server that answered the whole time."""
    session = ScriptedSession({OURS: running()})

    async with connected(session) as (connection, server):
        found = await find(connection, server)

    assert found is None
    assert anyio.current_time() == PROOF_AFTER
    assert session.asked.count("list") > len(LOOKS) + 1


async def test_a_request_that_waited_is_looked_for_from_when_it_can_have_been_sent() -> None:
    """Its intent was on its way to a database that was away: nothing is proved by that time."""
    session = ScriptedSession({OURS: running()})

    async with connected(session) as (connection, server):
        await anyio.sleep(2 * PROOF_AFTER)
        late = replace(doubt(server), sent_at=0.0)
        found = await outcome(connection, server, late)

    assert found is None
    assert anyio.current_time() == 3 * PROOF_AFTER


@pytest.mark.parametrize("fenced", [False, True])
async def test_when_a_request_in_doubt_was_sent_at_the_latest(fenced: bool) -> None:
    """Behind a fence it may have waited until it was in doubt; in one process for nothing."""
    async with connected(ScriptedSession({})) as (_, server):
        if fenced:
            lease = Lease(1, sent_at=anyio.current_time(), clock=anyio.current_time)
            server._client = cast("Any", SimpleNamespace(fence=LeaseFence(server.name, lease)))
        tried = AttemptRecord(number=1, point=POINT.id, session=SessionId("s"), submitted_at=5.0)

        assert server.sent_by(tried) == 5.0
        assert server.sent_by(replace(tried, doubted_at=90.0)) == (90.0 if fenced else 5.0)


def mount(number: int) -> Mount:
    """Return one of the point's mounts."""
    return Mount(href=Href(f"/api/vmReplicaPoints/{POINT.id}/mounts/{number}"), roots=())


async def test_mounts_are_not_guessed_and_not_taken_from_others() -> None:
    """One that belongs to a target is not looked at; of several unknown ones none is taken."""
    session = ScriptedSession({OURS: running()}, listed=[mount(1)])

    async with connected(session) as (connection, server):
        connection.mounts.add(mount(1).href)
        nothing = await find(connection, server)
        session.listed += [mount(2), mount(3)]
        with pytest.raises(Unsettled):
            await find(connection, server)

    assert nothing is None


@pytest.mark.parametrize("operation", ["DownloadFile", "Logoff", "UnmountRestorePoint"])
async def test_a_task_that_mounts_nothing_is_not_adopted(operation: str) -> None:
    """Other work in the same session is no answer to a mount request."""
    session = ScriptedSession({LOST: running(operation)})

    async with connected(session) as (connection, server):
        found = await find(connection, server)

    assert found is None
    assert LOST not in connection.watcher.claimed


async def test_of_several_unclaimed_tasks_none_is_guessed() -> None:
    """Where nobody can say which it is, no target gets another one's mount."""
    third = TaskId("task-3")
    session = ScriptedSession({OURS: running(), LOST: running(), third: running()})

    async with connected(session) as (connection, server):
        with pytest.raises(Unsettled):
            await find(connection, server)

    assert connection.watcher.claimed == {OURS}


@pytest.mark.parametrize(
    "trouble", [RequestNotSent("down"), ResponseLost("cut off"), ServiceBusy("later")]
)
async def test_a_server_in_trouble_proves_nothing_and_is_waited_for(
    trouble: EnterpriseManagerError,
) -> None:
    """Looks count only if they were answered: after an outage the task is still found."""
    session = ScriptedSession({OURS: running(), LOST: running()})
    session.fails = {"list": trouble, "alive": trouble}

    async def repair() -> None:
        await anyio.sleep(300)
        session.fails = {}

    async with connected(session) as (connection, server), anyio.create_task_group() as tasks:
        tasks.start_soon(repair)
        found = await find(connection, server)

    assert found == LOST
    assert anyio.current_time() > 300


async def test_a_server_that_stays_away_leaves_the_doubt() -> None:
    """When it is given up nothing was proved, and nothing is claimed."""
    session = ScriptedSession({OURS: running(), LOST: running()})
    session.fails = {"list": RequestNotSent("down"), "alive": RequestNotSent("down")}

    async with connected(session) as (connection, server):
        with pytest.raises(ServerUnusable):
            await find(connection, server)

    assert connection.watcher.claimed == {OURS}
    assert anyio.current_time() == pytest.approx(OUTAGE)


async def test_a_lost_session_takes_the_proof_with_it() -> None:
    """Another session cannot see the task, so the search ends at once."""
    session = ScriptedSession({OURS: running(), LOST: running()})
    session.fails = {"list": SessionLost("forgotten")}

    async with connected(session) as (connection, server):
        with pytest.raises(SessionLost):
            await find(connection, server)
        assert connection.lost
        session.fails = {}
        with pytest.raises(SessionLost):
            await find(connection, server)

    assert connection.watcher.claimed == {OURS}


async def test_a_search_that_is_cancelled_claims_nothing() -> None:
    """What was not decided stays open for whoever looks next."""
    session = ScriptedSession({OURS: running()})

    async with connected(session) as (connection, server):
        with anyio.move_on_after(5):
            await find(connection, server)
        session.script[LOST] = running()
        assert LOST not in connection.watcher.claimed
        found = await find(connection, server)

    assert found == LOST


OTHER = replace(POINT, id=RestorePointId("0f1e2d3c-0000-4000-8000-000000000002"))


def made(point: RestorePoint, number: int) -> ScriptedTask:
    """Return a task that ends after a minute, with a link to the mount that it made."""
    href = Href(f"/api/x/{point.id}/mounts/{number}")
    return ScriptedTask(
        ends_at=60.0, mount=MountLink(href=href, point=point.id, number=str(number))
    )


async def test_of_several_posts_each_gets_the_mount_of_its_own_point() -> None:
    """Finished tasks tell whose they are; with several in doubt nothing is taken by counting."""
    third = TaskId("task-3")
    session = ScriptedSession({OURS: running(), LOST: made(POINT, 1), third: made(OTHER, 2)})
    found: dict[RestorePoint, TaskId | Mount | None] = {}

    async def appear() -> None:
        await anyio.sleep(60)
        session.listed_of = {POINT.id: [mount(1)], OTHER.id: [mount(2)]}

    async def find_one(point: RestorePoint) -> None:
        found[point] = await outcome(connection, server, doubt(server, point))

    async with connected(session) as (connection, server):
        connection.counts = False
        async with anyio.create_task_group() as tasks:
            for each in (appear, partial(find_one, POINT), partial(find_one, OTHER)):
                tasks.start_soon(each)

    assert found == {POINT: mount(1), OTHER: mount(2)}
    assert connection.watcher.claimed == {OURS, LOST, third}


async def test_a_task_without_a_link_accounts_for_nothing_beside_another_doubt() -> None:
    """The mount may be a stranger's, and the task the other request's."""
    session = ScriptedSession({LOST: running(seconds=10)}, listed_of={POINT.id: [mount(1)]})

    async with connected(session) as (connection, server):
        connection.counts = False
        connection.doubts.add(MountKey("another"))
        with pytest.raises(Unsettled):
            await find(connection, server)

    assert not connection.mounts


async def test_a_refused_look_is_no_proof() -> None:
    """A server that does not say what runs has not said that nothing runs."""
    session = ScriptedSession({OURS: running()})
    session.fails = {"list": RequestRefused("never")}

    async with connected(session) as (connection, server):
        with pytest.raises(RequestRefused):
            await find(connection, server)

    assert anyio.current_time() >= PROOF_AFTER


async def test_a_link_that_names_the_point_decides_whatever_else_is_in_doubt() -> None:
    """Of two tasks of nobody the one whose link names the point is taken, and only that one."""
    other = MountLink(href=Href(f"/api/x/{OTHER.id}/mounts/1"), point=OTHER.id, number="1")
    own = MountLink(href=Href(f"/api/x/{POINT.id}/mounts/1"), point=POINT.id, number="1")
    third = TaskId("task-3")
    session = ScriptedSession(
        {
            LOST: ScriptedTask(ends_at=20.0, mount=other),
            third: ScriptedTask(ends_at=20.0, mount=own),
        },
        listed=[mount(1)],
    )

    async with connected(session) as (connection, server):
        found = await find(connection, server)

    assert found == mount(1)
    assert connection.watcher.claimed == {OURS, third}


async def test_a_mount_that_no_task_accounts_for_is_not_taken() -> None:
    """A server may show a stranger's: without a task of this session it is nobody's of ours."""
    session = ScriptedSession({OURS: running()}, listed=[mount(1)])

    async with connected(session) as (connection, server):
        with pytest.raises(Unsettled):
            await find(connection, server)

    assert not connection.mounts


async def test_a_mount_that_appears_between_two_looks_without_any_task_is_not_taken() -> None:
    """A server forgets tasks and shows strangers' mounts: one of ours would have been seen."""
    session = ScriptedSession({}, listed=[])

    async def mounted_by_a_stranger() -> None:
        await anyio.sleep(100.0)
        session.listed.append(mount(1))

    async with connected(session) as (connection, server), anyio.create_task_group() as tasks:
        tasks.start_soon(mounted_by_a_stranger)
        with pytest.raises(Unsettled):
            await find(connection, server)

    assert not connection.mounts


async def test_a_mount_that_is_listed_at_the_first_look_is_not_taken_for_a_forgotten_task() -> None:
    """The server forgets tasks: the mount may be of one, and just as well a stranger's."""
    session = ScriptedSession({}, listed=[mount(1)])

    async with connected(session) as (connection, server):
        with pytest.raises(Unsettled, match="no task of the session accounts for"):
            await find(connection, server)

    assert not connection.mounts


async def test_a_mount_that_was_listed_beside_a_running_task_is_not_that_task_s() -> None:
    """The task is forgotten later on: what was there before it had ended is somebody else's."""
    session = ScriptedSession({}, listed=[mount(1)])

    async def acts_late() -> None:
        await anyio.sleep(100.0)
        session.script[LOST] = running()
        await anyio.sleep(40.0)
        del session.script[LOST]

    async with connected(session) as (connection, server), anyio.create_task_group() as tasks:
        tasks.start_soon(acts_late)
        with pytest.raises(Unsettled):
            await find(connection, server)

    assert not connection.mounts


async def test_a_mount_that_was_listed_before_a_task_was_shown_is_not_that_task_s() -> None:
    """The task names no mount, and has ended: what was there before it is somebody else's."""
    session = ScriptedSession({}, listed=[mount(1)])

    async def acts_late() -> None:
        await anyio.sleep(100.0)
        session.script[LOST] = running(seconds=0.0)

    async with connected(session) as (connection, server), anyio.create_task_group() as tasks:
        tasks.start_soon(acts_late)
        with pytest.raises(Unsettled):
            await find(connection, server)

    assert not connection.mounts


async def test_the_mount_of_a_task_that_was_shown_and_is_forgotten_is_found_in_the_list() -> None:
    """It began late, so nobody could count; then it was forgotten: its mount is the one there."""
    session = ScriptedSession({}, listed=[])

    async def acts_late() -> None:
        await anyio.sleep(100.0)
        session.script[LOST] = running()
        await anyio.sleep(40.0)
        del session.script[LOST]
        session.listed.append(mount(1))

    async with connected(session) as (connection, server), anyio.create_task_group() as tasks:
        tasks.start_soon(acts_late)
        found = await find(connection, server)

    assert found == mount(1)


def test_the_looks_outlast_a_slow_answer() -> None:
    """The pauses grow, and together give the server at least half a minute."""
    assert list(recover.LOOKS) == sorted(recover.LOOKS)
    assert PATIENCE >= 30
