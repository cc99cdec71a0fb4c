"""What a fence stops, over real TLS connections: the server's own log shows what was sent."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.core.errors import Fenced
from orchestrator.core.lease import Lease
from orchestrator.core.model import Href, ServerName, TaskId
from orchestrator.database.fence import LeaseFence
from orchestrator.em.client import Client
from orchestrator.em.connector import Connector, Lending
from orchestrator.em.posting import PostConnector
from orchestrator.em.transport import TOKEN, Transport
from orchestrator.em.wire import XmlCodec
from orchestrator.plan.file.access import EnvironmentSecret, NoTrust
from orchestrator.plan.file.settings import ServerSettings
from tests.em.documents import MOUNT, POINT, sample
from tests.em.rawserver import Prompt, RawServer, Reply, Request, raw_server, reply
from tests.em.tlsservers import issued, server_side

pytestmark = pytest.mark.anyio

CODEC = XmlCodec()
MOUNTS = f"/api/vmReplicaPoints/{POINT}/mounts"
FILE = f"{MOUNT}/C%3A/notes.txt?action=restore"
SESSION = "/api/logonSessions/1c7e94b2-d80a-4f53-a6e7-92b0d3f5c814"
LOGON = "/api/sessionMngr/?v=latest"
RUNNING = TaskId("task-12")

Ask = Callable[[Transport], Coroutine[Any, Any, object]]

CHANGES: dict[str, Ask] = {
    "mount": lambda at: at.send("POST", MOUNTS, CODEC.task, body=b"<x/>", mount_post=True),
    "write": lambda at: at.send("POST", FILE, CODEC.task, body=b"<x/>", mount_post=True),
    "staging": lambda at: at.send("POST", FILE, CODEC.task, body=b"<x/>"),
    "unmount": lambda at: at.send("DELETE", MOUNT, CODEC.task),
    "logoff": lambda at: at.send("DELETE", SESSION, CODEC.anything),
    "logon": lambda at: at.send("POST", LOGON, CODEC.anything, body=b""),
}
"""Everything that changes something on the server."""


async def read(transport: Transport) -> object:
    """Read a task."""
    return await transport.get("/api/tasks/task-12", CODEC.task)


@pytest.fixture
def anyio_backend() -> str:
    """Real sockets need real time."""
    return "asyncio"


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account has one."""
    monkeypatch.setenv("EM_TEST_PASSWORD", "pa55-of-the-test")


@dataclass(slots=True)
class Clock:
    """The clock of the lease, which only a test moves."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return its seconds."""
        return self.now


class Told(Connector):
    """A real connector that tells when it has made a connection, or taken one from its pool."""

    connected: Callable[[], None] = staticmethod(lambda: None)

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        made = await super()._create_connection(*args, **kwargs)
        self.connected()
        return made

    async def _get(self, *args: Any, **kwargs: Any) -> Any:
        taken = await super()._get(*args, **kwargs)
        if taken is not None:
            self.connected()
        return taken


@dataclass(slots=True)
class Bench:
    """A TLS server that answers, and a fenced client of it."""

    server: RawServer
    transport: Transport
    client: Client
    lease: Lease
    fence: LeaseFence
    clock: Clock
    connectors: list[Told]
    on_request: dict[str, Callable[[], None]] = field(default_factory=dict)
    """What happens when a request arrives whose target holds this."""

    @property
    def log(self) -> list[str]:
        """The methods of what the server received, in order."""
        return [request.method for request in self.server.requests]

    def expire(self) -> None:
        """Let so much time pass that the lease is sure no more."""
        self.clock.now += 60.0

    def renew(self) -> None:
        """Make the lease sure again."""
        self.fence.renewed(self.clock.now)

    def once_connected(self, happens: Callable[[], None]) -> None:
        """Let something happen as soon as the next request has its connection."""

        def once() -> None:
            for each in self.connectors:
                each.connected = nothing
            happens()

        for each in self.connectors:
            each.connected = once


def nothing() -> None:
    """Do nothing."""


def one_turn_later(happens: Callable[[], None]) -> Callable[[], None]:
    """Return what lets something happen in the next turn of the event loop."""

    def later() -> None:
        asyncio.get_running_loop().call_soon(happens)

    return later


def service(request: Request) -> Reply:
    """Answer a logon and a look at the session itself, and everything else with a task."""
    if request.target == LOGON:
        return reply(201, sample("logon-session"), {TOKEN: "ab/cd+ef=="})
    if request.target == SESSION and request.method == "GET":
        return reply(200, sample("logon-session"))
    return reply(202, sample("task.mount.running.wire"))


@asynccontextmanager
async def bench(
    tmp_path: Path, answering: Callable[[Request], Reply] = service
) -> AsyncIterator[Bench]:
    """Serve over TLS, and hold the lease from now on."""
    clock, connectors = Clock(), list[Told]()
    lease = Lease(3, sent_at=0.0, clock=clock)
    fence = LeaseFence(ServerName("hq"), lease)

    def script(_number: int, request: Request) -> Reply:
        for part, happens in at.on_request.items():
            if part in request.target:
                happens()
        return answering(request)

    def connector(**options: Any) -> Told:
        connectors.append(Told(**options))
        return connectors[-1]

    async with raw_server(script, tls=server_side(issued(tmp_path))) as server:
        settings = ServerSettings(
            name=ServerName("hq"),
            url=f"https://localhost:{server.port}",
            username="LAB\\svc",
            password=EnvironmentSecret(name="EM_TEST_PASSWORD"),
            trust=NoTrust(),
        )
        client = Client(settings, rng=Prompt(), connector=connector, fence=fence)
        transport = client._transport()
        transport.use_token("ab/cd+ef==")
        at = Bench(server, transport, client, lease, fence, clock, connectors)
        try:
            yield at
        finally:
            await transport.close()


async def fenced(ask: Callable[[], Awaitable[object]]) -> None:
    """Check that a request ends because another worker has the server."""
    with pytest.raises(Fenced, match="taken over hq"):
        await ask()


# --- while the lease is not sure -------------------------------------------------------------


@pytest.mark.parametrize("what", CHANGES)
async def test_what_changes_something_waits_until_the_lease_is_sure(
    what: str, tmp_path: Path
) -> None:
    """Reads go on meanwhile: they harm nobody, and keep the session alive."""
    async with bench(tmp_path) as at:
        at.expire()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(CHANGES[what], at.transport)
            for _ in range(3):
                await read(at.transport)
            at.renew()

        assert at.log[:3] == ["GET"] * 3
        assert len(at.log) == at.transport.requests == 4


async def test_reads_wait_too_where_nobody_could_take_the_session_up(tmp_path: Path) -> None:
    """It must idle out in time: what is mounted in it counts until then."""
    async with bench(tmp_path) as at:
        at.fence.reads_pass = False
        at.expire()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, at.transport)
            await anyio.sleep(60.0)
            assert at.log == []
            at.renew()

        assert at.log == ["GET"]


@pytest.mark.parametrize("reused", [False, True], ids=["new", "reused"])
@pytest.mark.parametrize("what", CHANGES)
async def test_a_lease_that_ends_while_a_connection_is_made_is_seen_in_time(
    what: str, reused: bool, tmp_path: Path
) -> None:
    """The last look is after the connection; what it stops is sent later, once, and on time.

    A connection that was made for it serves the next request.
    """
    async with bench(tmp_path) as at:
        if reused:
            await read(at.transport)
        before, unsure = at.log, anyio.Event()

        def expire() -> None:
            at.expire()
            unsure.set()

        at.once_connected(expire)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(CHANGES[what], at.transport)
            await unsure.wait()
            await read(at.transport)
            assert at.log == [*before, "GET"]
            at.renew()

        assert len(at.log) == at.transport.requests == len(before) + 2
        assert at.log[-1] != "GET"
        assert at.server.connections == 1 or not reused


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="aiohttp writes a body at once there")
@pytest.mark.parametrize("what", [what for what in CHANGES if what not in {"unmount", "logoff"}])
async def test_a_lease_that_ends_before_a_body_is_written_is_seen_in_time(
    what: str, tmp_path: Path
) -> None:
    """aiohttp writes a request with a body one turn of the event loop later than it connects.

    A process may be frozen in between. What the look there stops is sent later, once.
    """
    async with bench(tmp_path) as at:
        await read(at.transport)
        unsure = anyio.Event()

        def expire() -> None:
            at.expire()
            unsure.set()

        at.once_connected(one_turn_later(expire))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(CHANGES[what], at.transport)
            await unsure.wait()
            await read(at.transport)
            assert at.log == ["GET", "GET"]
            at.renew()

        assert at.log == ["GET", "GET", "POST"]
        assert at.transport.requests == 3


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="aiohttp writes a body at once there")
@pytest.mark.parametrize("what", [what for what in CHANGES if what not in {"unmount", "logoff"}])
async def test_a_lease_that_is_lost_before_a_body_is_written_is_seen_in_time(
    what: str, tmp_path: Path
) -> None:
    """As a frozen process finds it when it wakes up."""
    async with bench(tmp_path) as at:
        await read(at.transport)

        at.once_connected(one_turn_later(at.lease.lose))
        await fenced(lambda: CHANGES[what](at.transport))

        assert at.log == ["GET"]


# --- once the lease is lost ------------------------------------------------------------------


@pytest.mark.parametrize("what", [*CHANGES, "read"])
async def test_nothing_is_sent_once_the_lease_is_lost(what: str, tmp_path: Path) -> None:
    """Not even a read; no connection is made for it."""
    ask = CHANGES.get(what, read)
    async with bench(tmp_path) as at:
        at.fence.lose()
        at.renew()  # its confirmation was on its way

        await fenced(lambda: ask(at.transport))

    assert (at.log, at.server.connections, at.transport.requests) == ([], 0, 0)


@pytest.mark.parametrize("what", CHANGES)
async def test_a_lease_that_is_lost_while_a_request_waits_ends_the_wait(
    what: str, tmp_path: Path
) -> None:
    """Another worker has asked for it by now, or will."""
    async with bench(tmp_path) as at:
        at.expire()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fenced, lambda: CHANGES[what](at.transport))
            await read(at.transport)
            at.fence.lose()

    assert at.log == ["GET"]


@pytest.mark.parametrize("reused", [False, True], ids=["new", "reused"])
@pytest.mark.parametrize("what", [*CHANGES, "read"])
async def test_a_lease_that_is_lost_while_a_connection_is_made_is_seen_in_time(
    what: str, reused: bool, tmp_path: Path
) -> None:
    """Whatever the request was; also if nobody is told of the loss before the last look."""
    ask = CHANGES.get(what, read)
    async with bench(tmp_path) as at:
        if reused:
            await read(at.transport)
        before = at.log

        at.once_connected(at.lease.lose)
        await fenced(lambda: ask(at.transport))

        assert at.log == before


@pytest.mark.parametrize("what", [*CHANGES, "read"])
async def test_a_request_under_way_ends_with_the_lease(what: str, tmp_path: Path) -> None:
    """Also in a clean-up that is shielded, and whatever the server would answer in the end."""
    ask, arrived = CHANGES.get(what, read), anyio.Event()

    def silent(_request: Request) -> Reply:
        arrived.set()
        return Reply(b"", "silence")

    async with bench(tmp_path, silent) as at:

        async def clean_up() -> None:
            with anyio.CancelScope(shield=True):
                await ask(at.transport)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fenced, clean_up)
            await arrived.wait()
            at.fence.lose()

    assert len(at.log) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
async def test_an_answer_after_the_loss_says_nothing_of_the_server(
    status: int, tmp_path: Path
) -> None:
    """The successor may have ended the session: that is no session lost, and no trouble."""
    async with bench(tmp_path, lambda request: reply(status, sample("error.401"))) as at:
        at.on_request = {"/tasks/": at.lease.lose}  # nobody was told yet

        await fenced(lambda: read(at.transport))

    assert at.log == ["GET"]


async def test_an_unmount_ends_with_the_lease(tmp_path: Path) -> None:
    """Neither its task nor the point's list is read any more: the successor sees to it."""
    async with bench(tmp_path) as at:

        async def unmount() -> None:
            async with at.client.logon() as session:
                with anyio.CancelScope(shield=True):
                    await session.unmount(Href(MOUNT))

        at.on_request = {"/tasks/": at.fence.lose}
        await fenced(unmount)

    assert [method for method in at.log if method != "GET"] == ["POST", "DELETE"]
    assert at.server.requests[-1].target.startswith("/api/tasks/")


# --- logon and logoff ------------------------------------------------------------------------


async def test_a_lost_session_is_left_as_it_is(tmp_path: Path) -> None:
    """A logoff would end what the successor now uses, with all its mounts."""
    async with bench(tmp_path) as at:
        async with at.client.logon() as session:
            await session.task(RUNNING)
            at.fence.lose()

        assert at.log == ["POST", "GET"]


async def test_a_lost_session_that_was_taken_up_is_left_as_it_is(tmp_path: Path) -> None:
    """As one that was opened here."""
    async with bench(tmp_path) as at:
        async with at.client.logon() as session:
            session.leave_open()
        async with at.client.take_up(session.id) as again:
            await again.task(RUNNING)
            at.fence.lose()

        assert at.log == ["POST", "GET", "GET"]


async def test_nobody_logs_on_to_a_server_that_is_lost(tmp_path: Path) -> None:
    """Nor is a session taken up; no secret is asked for."""
    async with bench(tmp_path) as at:
        async with at.client.logon() as session:
            session.leave_open()
        at.fence.lose()

        for opening in (at.client.logon, partial(at.client.take_up, session.id)):
            with pytest.raises(Fenced):
                async with opening():
                    pass

        assert at.log == ["POST"]


async def test_without_a_fence_nothing_stands_between_request_and_connection(
    tmp_path: Path,
) -> None:
    """One process pays nothing: its transport is the plain one, which looks at no lease."""
    async with bench(tmp_path) as at:
        plain = Client(at.client._settings, rng=Prompt())._transport()
        try:
            assert type(plain) is Transport
            kept, posts = plain._kept.connector, plain._posts.connector
            assert type(kept) is type(posts) is Lending
            assert kept._lending is plain._connector
            assert type(posts._lending) is PostConnector
            assert plain._kept.trace_configs == plain._posts.trace_configs == []
        finally:
            await plain.close()
