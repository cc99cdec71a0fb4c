"""A real client, logged on to a simulated server whose every request is kept; virtual time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl

import anyio
import pytest
from aiohttp import web

from orchestrator.core.model import Href, OsKind, RestorePointId, ServerName, Source, Task
from orchestrator.core.ports.fence import NO_FENCE, Fence
from orchestrator.em.client import Client
from orchestrator.em.session import Session
from orchestrator.plan.file.access import EnvironmentSecret
from orchestrator.plan.file.api_format import ApiFormat
from orchestrator.plan.file.settings import ServerSettings
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault, FaultScript
from orchestrator.simulator.inventory import Inventory, Point, generated
from orchestrator.simulator.manager import SimulatedManager, User
from orchestrator.simulator.server import HttpFace
from tests.em.rawserver import Request
from tests.virtual.network import MemoryNetwork

ACCOUNT = "LAB\\büro"
PASSWORD = "not:a-real-pässword"
HOST = "em-hq.example.net"
MOUNT_S = 60.0
START = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
STEADY = Behaviour(operation_finished_share=0.0, message_share=1.0)

Override = Callable[[Request], web.Response | None]


class RecordingFace(HttpFace):
    """Keeps every request; `override` may answer in the simulated server's place."""

    requests: list[Request]
    override: Override

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        kept = Request(request.method, request.raw_path, headers, await request.read())
        self.requests.append(kept)
        answer = self.override(kept)
        return answer if answer is not None else await super().handle(request)


@dataclass(slots=True)
class Desk:
    """The server, the client, and what went over the wire."""

    manager: SimulatedManager
    client: Client
    network: MemoryNetwork
    settings: ServerSettings
    requests: list[Request] = field(default_factory=list)

    def later_client(self, session: Session) -> Client:
        """Return the client of a later process, which kept this session's token."""
        return Client(
            self.settings,
            rng=random.Random(2),
            connector=self.network.connector,
            kept=[session.kept],
        )

    def point(self, os: str = "Windows") -> Point:
        """Return the newest point of the first machine with this system."""
        return next(one for one in self.manager.inventory.machines if one.os == os).points[0]

    def sent(self, method: str, part: str = "") -> list[Request]:
        """Return the requests of this method whose target holds `part`."""
        return [one for one in self.requests if one.method == method and part in one.target]


def query_of(request: Request) -> dict[str, str]:
    """Return the decoded query of a request."""
    return dict(parse_qsl(request.target.partition("?")[2], keep_blank_values=True))


@asynccontextmanager
async def desk(
    monkeypatch: pytest.MonkeyPatch,
    *,
    behaviour: Behaviour = STEADY,
    role: str = "File Restore Operator",
    password: str = PASSWORD,
    machines: int = 8,
    points: int = 3,
    faults: Sequence[Fault] = (),
    families: Sequence[Source] = (Source.REPLICA,),
    change: Callable[[Inventory], None] = lambda inventory: None,
    override: Override = lambda request: None,
    may_write: bool = False,
    fence: Fence = NO_FENCE,
    api_format: ApiFormat = ApiFormat.AUTO,
    epoch: datetime | None = None,
) -> AsyncIterator[Desk]:
    """Serve one simulated server and make a client for it, not logged on yet.

    `epoch` is what the server's wall clock shows at its second 0; by default it shows real time.
    """
    monkeypatch.setenv("EM_TEST_PASSWORD", password)
    inventory = generated(7, machines=machines, backup_servers=2, points=points, awkward=False)
    change(inventory)
    manager = SimulatedManager(
        "hq",
        inventory,
        users={ACCOUNT: User(ACCOUNT, PASSWORD, role)},
        behaviour=behaviour,
        epoch=epoch,
        duration=lambda point, rng: MOUNT_S,
    )
    network = MemoryNetwork()
    face = RecordingFace(manager, FaultScript(faults))
    face.requests, face.override = [], override
    settings = ServerSettings(
        name=ServerName("hq"),
        url=f"https://{HOST}:9398",
        username=ACCOUNT,
        password=EnvironmentSecret(name="EM_TEST_PASSWORD"),
        api_format=api_format,
    )
    client = Client(
        settings,
        families=families,
        rng=random.Random(1),
        connector=network.connector,
        wall_clock=lambda: START,
        may_write=may_write,
        fence=fence,
    )
    server = face.protocol_factory()
    network.listen(HOST, 9398, server)
    try:
        yield Desk(manager, client, network, settings, face.requests)
    finally:
        await server.shutdown(1.0)


async def mounted(session: Session, at: Desk) -> tuple[Task, Href]:
    """Mount the first Windows machine and wait for it; return the task and the mount."""
    return await mounted_as(session, at, "Windows")


async def mounted_as(session: Session, at: Desk, os: str) -> tuple[Task, Href]:
    """Mount the first machine with this system, as `mounted` does."""
    point = at.point(os)
    task = await session.start_mount(RestorePointId(point.id), Source.REPLICA, OsKind(os))
    await anyio.sleep(MOUNT_S + 1.0)
    finished = await session.task(task.id)
    return finished, session.mount_href(RestorePointId(point.id), Source.REPLICA, "1")
