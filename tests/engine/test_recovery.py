"""Submissions in doubt: the one unclaimed mount task is found, and nothing else is taken for it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast

import anyio
import pytest

from orchestrator.engine import recovery
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.recovery import LOOKS, Unsettled, find_all_started, find_started
from orchestrator.engine.site import Connection, Site
from orchestrator.errors import (
    EnterpriseManagerError,
    RequestNotSent,
    RequestRefused,
    ResponseLost,
    ServerUnusable,
    ServiceBusy,
    SessionLost,
)
from orchestrator.events import Event
from orchestrator.model import (
    BackupServerName,
    Href,
    Mount,
    RestorePoint,
    RestorePointId,
    ServerName,
    TaskId,
)
from orchestrator.policy import WatchPolicy
from orchestrator.ports import GuestSession
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
    kept = None

    @asynccontextmanager
    async def take_up(self) -> AsyncIterator[GuestSession]:
        """Have nothing to take up."""
        raise SessionLost("no session was kept", server=self.server)
        yield cast("GuestSession", self.session)

    @asynccontextmanager
    async def logon(self) -> AsyncIterator[GuestSession]:
        """Give the session, which has no guest to look into."""
        yield cast("GuestSession", self.session)


@dataclass(slots=True)
class NoJournal:
    """Keeps what it is given in a list."""

    events: list[Event] = field(default_factory=list)

    def append(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)

    async def durable(self) -> None:
        """Have nothing to wait for."""


@asynccontextmanager
async def connected(session: ScriptedSession) -> AsyncIterator[tuple[Connection, Site]]:
    """Be logged on to a server meanwhile; task-1 is a target's already, if there is one."""
    site = Site(
        ScriptedServer(session),
        Ledger(NoJournal(), (), anyio.current_time),
        outage=OUTAGE,
        watch=WatchPolicy(),
        rng=random.Random(1),
        on_gate=lambda site: None,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.serve)
        await site.decided()
        connection = site.open_connection()
        assert connection is not None
        connection.watcher.claimed.add(OURS)
        yield connection, site
        site.close()


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

    async with connected(session) as (connection, site):
        found = await find_started(connection, site, POINT)
        again = await find_started(connection, site, POINT)

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

    async with connected(session) as (connection, site), anyio.create_task_group() as tasks:
        tasks.start_soon(appear)
        found = await find_started(connection, site, POINT)

    assert found == LOST


async def test_none_is_said_only_after_every_look() -> None:
    """That nothing was started is proved by a server that answered the whole time."""
    session = ScriptedSession({OURS: running()})

    async with connected(session) as (connection, site):
        found = await find_started(connection, site, POINT)

    assert found is None
    assert anyio.current_time() == PATIENCE
    assert session.asked.count("list") == len(LOOKS) + 1


def mount(number: int) -> Mount:
    """Return one of the point's mounts."""
    return Mount(href=Href(f"/api/vmReplicaPoints/{POINT.id}/mounts/{number}"), roots=())


async def test_a_purged_task_proves_nothing_while_its_mount_is_there() -> None:
    """A server that forgets finished tasks still lists the mount; it is ours."""
    session = ScriptedSession({OURS: running()}, listed=[mount(1)])

    async with connected(session) as (connection, site):
        found = await find_started(connection, site, POINT)

    assert found == mount(1)


async def test_mounts_are_not_guessed_and_not_taken_from_others() -> None:
    """One that belongs to a target is not looked at; of several unknown ones none is taken."""
    session = ScriptedSession({OURS: running()}, listed=[mount(1)])

    async with connected(session) as (connection, site):
        connection.mounts.add(mount(1).href)
        nothing = await find_started(connection, site, POINT)
        session.listed += [mount(2), mount(3)]
        with pytest.raises(Unsettled):
            await find_started(connection, site, POINT)

    assert nothing is None


@pytest.mark.parametrize("operation", ["DownloadFile", "Logoff", "UnmountRestorePoint"])
async def test_a_task_that_mounts_nothing_is_not_adopted(operation: str) -> None:
    """Other work in the same session is no answer to a mount request."""
    session = ScriptedSession({LOST: running(operation)})

    async with connected(session) as (connection, site):
        found = await find_started(connection, site, POINT)

    assert found is None
    assert LOST not in connection.watcher.claimed


async def test_of_several_unclaimed_tasks_none_is_guessed() -> None:
    """Where nobody can say which it is, no target gets another one's mount."""
    third = TaskId("task-3")
    session = ScriptedSession({OURS: running(), LOST: running(), third: running()})

    async with connected(session) as (connection, site):
        with pytest.raises(Unsettled):
            await find_started(connection, site, POINT)

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

    async with connected(session) as (connection, site), anyio.create_task_group() as tasks:
        tasks.start_soon(repair)
        found = await find_started(connection, site, POINT)

    assert found == LOST
    assert anyio.current_time() > 300


async def test_a_server_that_stays_away_leaves_the_doubt() -> None:
    """When it is given up nothing was proved, and nothing is claimed."""
    session = ScriptedSession({OURS: running(), LOST: running()})
    session.fails = {"list": RequestNotSent("down"), "alive": RequestNotSent("down")}

    async with connected(session) as (connection, site):
        with pytest.raises(ServerUnusable):
            await find_started(connection, site, POINT)

    assert connection.watcher.claimed == {OURS}
    assert anyio.current_time() == pytest.approx(OUTAGE)


async def test_a_lost_session_takes_the_proof_with_it() -> None:
    """Another session cannot see the task, so the search ends at once."""
    session = ScriptedSession({OURS: running(), LOST: running()})
    session.fails = {"list": SessionLost("forgotten")}

    async with connected(session) as (connection, site):
        with pytest.raises(SessionLost):
            await find_started(connection, site, POINT)
        assert connection.lost
        session.fails = {}
        with pytest.raises(SessionLost):
            await find_started(connection, site, POINT)

    assert connection.watcher.claimed == {OURS}


async def test_a_search_that_is_cancelled_claims_nothing() -> None:
    """What was not decided stays open for whoever looks next."""
    session = ScriptedSession({OURS: running()})

    async with connected(session) as (connection, site):
        with anyio.move_on_after(5):
            await find_started(connection, site, POINT)
        session.script[LOST] = running()
        assert LOST not in connection.watcher.claimed
        found = await find_started(connection, site, POINT)

    assert found == LOST


OTHER = replace(POINT, id=RestorePointId("0f1e2d3c-0000-4000-8000-000000000002"))


async def test_of_several_posts_each_gets_the_mount_of_its_own_point() -> None:
    """Finished mounts tell whose they are; their tasks are claimed, the late one too."""
    late = TaskId("task-9")
    session = ScriptedSession({OURS: running(), LOST: running(seconds=60)})

    async def appear() -> None:
        await anyio.sleep(60)
        session.listed_of = {POINT.id: [mount(1)], OTHER.id: [mount(2)]}
        session.appears_after[late] = (session.asked.count("list") + 1, running(seconds=1))

    async with connected(session) as (connection, site), anyio.create_task_group() as tasks:
        tasks.start_soon(appear)
        found = await find_all_started(connection, site, [POINT, OTHER])

    assert found == [mount(1), mount(2)]
    assert connection.watcher.claimed == {OURS, LOST, late}


async def test_of_several_posts_a_refused_look_is_no_proof() -> None:
    """A server that does not say what runs has not said that nothing runs."""
    session = ScriptedSession({OURS: running()})
    session.fails = {"list": RequestRefused("not now")}

    async def repair() -> None:
        await anyio.sleep(5)
        session.fails = {}

    async with connected(session) as (connection, site), anyio.create_task_group() as tasks:
        tasks.start_soon(repair)
        found = await find_all_started(connection, site, [POINT, OTHER])
        session.fails = {"list": RequestRefused("never")}
        with pytest.raises(RequestRefused):
            await find_all_started(connection, site, [POINT, OTHER])

    assert found == [None, None]


async def test_of_several_posts_a_task_that_shows_last_leaves_the_doubt() -> None:
    """It may be any of those that show no mount: nothing is claimed, and nothing is repeated."""
    late = TaskId("task-9")
    session = ScriptedSession({OURS: running()})
    session.appears_after[late] = (len(LOOKS) + 1, running())

    async with connected(session) as (connection, site):
        with pytest.raises(Unsettled):
            await find_all_started(connection, site, [POINT, OTHER])

    assert connection.watcher.claimed == {OURS}


def test_the_looks_outlast_a_slow_answer() -> None:
    """The pauses grow, and together give the server at least half a minute."""
    assert list(recovery.LOOKS) == sorted(recovery.LOOKS)
    assert PATIENCE >= 30
