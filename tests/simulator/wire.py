"""Raw requests against one simulated server: nothing of our own client stands in between."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element

import aiohttp
import anyio
import defusedxml.ElementTree as SafeTree
from yarl import URL

from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault, FaultScript
from orchestrator.simulator.inventory import AGENTS, Inventory, Point, generated
from orchestrator.simulator.manager import SimulatedManager, User
from orchestrator.simulator.truth import GroundTruth
from tests.virtual.network import MemoryNetwork
from tests.virtual.sites import serving

NS = "{http://www.veeam.com/ent/v1.0}"
TOKEN = "X-RestSvcSessionId"
ACCOUNT = "LAB\\svc-drill"
PASSWORD = "not:a-real-pässword"
MOUNT_S = 60.0
SPEC = b'<StartMountSpec xmlns="http://www.veeam.com/ent/v1.0"><OsKind>%s</OsKind></StartMountSpec>'
DOWNLOAD_SPEC = (
    b'<FileRestoreSpec xmlns="http://www.veeam.com/ent/v1.0"><ForDirectDownload />'
    b"</FileRestoreSpec>"
)
UNKNOWN = "00000000-0000-4000-8000-000000000000"
STEADY = Behaviour(operation_finished_share=0.0, message_share=1.0)
"""No chance in it: straight to Finished, always with a Message."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it came."""

    status: int
    reason: str | None
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def xml(self) -> Element:
        root: Element = SafeTree.fromstring(self.body)
        return root

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def all(self, tag: str) -> list[Element]:
        """Return every element of this name, at any depth."""
        return list(self.xml.iter(NS + tag))

    def texts(self, tag: str) -> list[str]:
        return [found.text or "" for found in self.all(tag)]

    def hrefs(self, rel: str) -> list[str]:
        return [link.attrib["Href"] for link in self.all("Link") if link.attrib["Rel"] == rel]

    def below(self, rel: str) -> list[str]:
        """Return the paths that links of this kind lead to, below /api/."""
        return [href.partition("/api/")[2] for href in self.hrefs(rel)]


@dataclass(slots=True)
class Wire:
    """One server and the requests that a test sends to it."""

    manager: SimulatedManager
    network: MemoryNetwork
    url: str
    http: aiohttp.ClientSession
    token: str = ""

    @property
    def truth(self) -> GroundTruth:
        return self.manager.truth

    @property
    def inventory(self) -> Inventory:
        return self.manager.inventory

    def point(self, os: str = "Windows", place: int = 0) -> Point:
        """Return the newest point of a machine with this system."""
        return [one for one in self.inventory.machines if one.os == os][place].points[0]

    async def send(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        accept: str | None = "application/xml",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send exactly this; `path` is below /api/ and already encoded. Token "" is none."""
        sent = dict(headers or {})
        chosen = self.token if token is None else token
        if chosen:
            sent.setdefault(TOKEN, chosen)
        if accept is not None:
            sent["Accept"] = accept
        if body:
            sent.setdefault("Content-Type", "application/xml")
        async with self.http.request(
            method,
            URL(f"{self.url}/api/{path}", encoded=True),
            data=body or None,
            headers=sent,
            allow_redirects=False,
            skip_auto_headers=["Content-Type", "User-Agent", *(["Accept"] if not accept else [])],
        ) as response:
            read = await response.read()
            return Answer(response.status, response.reason, response.headers.copy(), read)

    async def get(self, path: str, **how: Any) -> Answer:
        return await self.send("GET", path, **how)

    async def post(self, path: str, **how: Any) -> Answer:
        return await self.send("POST", path, **how)

    async def delete(self, path: str, **how: Any) -> Answer:
        return await self.send("DELETE", path, **how)

    async def query(self, kind: str, condition: str = "", **more: object) -> Answer:
        """Ask /query with a filter, percent-encoded as a whole."""
        pairs = {"type": kind, **({"filter": condition} if condition else {}), **more}
        return await self.get("query?" + "&".join(f"{k}={quote(str(v))}" for k, v in pairs.items()))

    async def log_on(self, account: str = ACCOUNT, password: str = PASSWORD) -> Answer:
        """Log on; does not change which token is sent."""
        encoded = b64encode(f"{account}:{password}".encode()).decode()
        basic = {"Authorization": f"Basic {encoded}"}
        return await self.post("sessionMngr/?v=latest", token="", headers=basic)

    async def start(self, point: Point, os: str = "", **how: Any) -> Answer:
        """Start a mount of this point; for agents no body is documented."""
        body = SPEC % (os or point.machine.os).encode() if point.family != AGENTS else b""
        return await self.post(f"{point.family}/{point.id}/mounts", body=body, **how)

    async def restore(self, file: str, body: bytes = DOWNLOAD_SPEC, **how: Any) -> Answer:
        """Ask for a file to be restored; `file` is its address."""
        return await self.post(f"{file}?action=restore", body=body, **how)

    async def staged(self, file: str) -> str:
        """Stage a file, wait for it, and return its Download link."""
        (task,) = (await self.restore(file)).texts("TaskId")
        await anyio.sleep(60.0)
        return (await self.get(f"tasks/{task}")).below("Download")[0]

    async def mounted(self, point: Point, os: str = "") -> Answer:
        """Mount this point and return its finished task."""
        (task,) = (await self.start(point, os)).texts("TaskId")
        await anyio.sleep(MOUNT_S + 1.0)
        return await self.get(f"tasks/{task}")


@asynccontextmanager
async def wired(
    *,
    behaviour: Behaviour = STEADY,
    role: str = "File Restore Operator",
    machines: int = 8,
    points: int = 3,
    faults: Sequence[Fault] = (),
    seed: int = 0,
    change: Callable[[Inventory], None] = lambda inventory: None,
    user: Mapping[str, Any] | None = None,
) -> AsyncIterator[Wire]:
    """Serve one server with mounts of exactly `MOUNT_S` and log on to it."""
    inventory = generated(7, machines=machines, backup_servers=2, points=points, awkward=False)
    change(inventory)
    manager = SimulatedManager(
        "hq",
        inventory,
        users={ACCOUNT: User(ACCOUNT, PASSWORD, role, **(user or {}))},
        behaviour=behaviour,
        seed=seed,
        duration=lambda point, rng: MOUNT_S,
    )
    network = MemoryNetwork()
    script = {"hq": FaultScript(faults, seed=seed)}
    async with (
        serving({"hq": manager}, faults=script, network=network) as sites,
        aiohttp.ClientSession(
            connector=network.connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as http,
    ):
        wire = Wire(manager, network, sites.url("hq"), http)
        wire.token = (await wire.log_on()).headers[TOKEN]
        yield wire


def family(inventory: Inventory, name: str) -> None:
    """Make every point of an inventory one of another family."""
    machines = inventory.machines
    for machine in machines:
        for point in machine.points:
            point.family = name
    inventory.__init__(machines)  # type: ignore[misc]  # index them anew


def in_states(wire: Wire, **states: str) -> None:
    """Give the session tasks of these names in these states."""
    session = wire.manager.sessions[wire.token]
    for name, state in states.items():
        task = wire.manager.new_task(session, "MountRestorePoint")
        session.tasks[name] = session.tasks.pop(task.id)
        task.id, task.state = name, state
