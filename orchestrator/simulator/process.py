"""Simulated servers as separate HTTPS processes on loopback.

The parent writes one JSON line of settings to the child's stdin and reads its port; later
lines ask for the ground truth. That pipe is the side channel: it is not HTTP, and when it
closes the child ends, so no server outlives its parent. Nothing else asks a child to end: it is in
a session of its own and ignores Ctrl-C and SIGTERM, since its parent still has questions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from orchestrator.core.errors import SimulatedServerEnded
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.certificates import Certificate, self_signed
from orchestrator.simulator.faults import FaultScript
from orchestrator.simulator.inventory import REPLICAS, Inventory, Point, generated
from orchestrator.simulator.manager import SimulatedManager, User, usual_duration
from orchestrator.simulator.rehearsal.stock import inventory_of
from orchestrator.simulator.server import HttpFace
from orchestrator.simulator.truth import GroundTruth

ACCOUNT = "LAB\\svc-drill"
PASSWORD_VARIABLE = "BULK_RESTORE_DEMO_PASSWORD"  # noqa: S105 - the name of a variable
BACKLOG = 512
ROLE = "File Restore Operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One simulated server. Durations in seconds: the inventory's own times `duration_scale`,
    or, where `duration_range` is given, evenly within it. `awkward` machines have names and
    points that go wrong; machines are of the `families` in turn. The newest restore points are
    less than a day older than `as_of`, RFC 3339.

    `stock`, the plain values of a `rehearsal.stock.Stock`, is what the server has in place of
    generated machines. `role` is that of its account, `starts_at` what its clock shows when it
    starts, RFC 3339; by default it shows the real time.
    """

    name: str
    seed: int
    machines: int = 1000
    backup_servers: int = 4
    points: int = 7
    port: int = 0
    password: str
    duration_scale: float = 1.0
    duration_range: tuple[float, float] | None = None
    awkward: bool = True
    families: Sequence[str] = (REPLICAS,)
    as_of: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    behaviour: Mapping[str, Any] = field(default_factory=dict)
    faults: Sequence[Mapping[str, Any]] = ()
    certificate: str = ""
    key: str = ""
    stock: Mapping[str, Any] | None = None
    role: str = ROLE
    starts_at: str | None = None

    def inventory(self) -> Inventory:
        """Return what the server knows; the same in parent and child."""
        if self.stock is not None:
            return inventory_of(self.name, self.stock)
        return generated(
            self.seed,
            machines=self.machines,
            backup_servers=self.backup_servers,
            points=self.points,
            now=datetime.fromisoformat(self.as_of),
            prefix=f"{self.name}-",
            awkward=self.awkward,
            families=self.families,
        )

    def epoch(self) -> datetime | None:
        """Return what the server's clock showed when the running loop's was 0; None: no matter."""
        if self.starts_at is None:
            return None
        now = asyncio.get_running_loop().time()
        return datetime.fromisoformat(self.starts_at) - timedelta(seconds=now)

    def duration(self, point: Point, rng: random.Random) -> float:
        """Return how long one mount takes."""
        if self.duration_range is not None:
            return rng.uniform(*self.duration_range)
        return usual_duration(point, rng) * self.duration_scale


# --- the child ---------------------------------------------------------------------------------


@asynccontextmanager
async def listening(
    settings: Settings,
    certificate: Path,
    key: Path,
    *,
    manager_class: Callable[..., SimulatedManager] = SimulatedManager,
    face_class: Callable[[SimulatedManager, FaultScript], HttpFace] = HttpFace,
) -> AsyncIterator[tuple[int, GroundTruth]]:
    """Serve one server over HTTPS in this process; yields its port and what really happens."""
    truth = GroundTruth()
    manager = manager_class(
        settings.name,
        settings.inventory(),
        users={ACCOUNT: User(ACCOUNT, settings.password, role=settings.role)},
        behaviour=Behaviour(**settings.behaviour),
        truth=truth,
        seed=settings.seed,
        duration=settings.duration,
        epoch=settings.epoch(),
    )
    face = face_class(manager, FaultScript.from_json(settings.faults, seed=settings.seed))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    web_server = face.protocol_factory()

    def connected() -> asyncio.BaseProtocol:
        truth.connections[settings.name] += 1
        return web_server()

    server = await asyncio.get_running_loop().create_server(
        connected, "127.0.0.1", settings.port, ssl=context, backlog=BACKLOG
    )
    try:
        yield server.sockets[0].getsockname()[1], truth
    finally:
        server.close()
        await web_server.shutdown(0.5)


async def _serve(settings: Settings) -> None:
    async with listening(settings, Path(settings.certificate), Path(settings.key)) as (port, truth):
        print(json.dumps({"port": port}), flush=True)  # noqa: T201 - the side channel
        requests = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
        while await requests.readline():
            print(json.dumps(truth.as_json()), flush=True)  # noqa: T201 - the side channel


def main() -> None:
    """Serve one simulated Enterprise Manager until stdin closes."""
    for each in (signal.SIGINT, signal.SIGTERM):  # the parent decides when to end
        signal.signal(each, signal.SIG_IGN)
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as unbuffered:
        line = unbuffered.readline()
    if not line.endswith(b"\n"):
        return  # the parent is gone already
    raw = json.loads(line)
    if raw.get("duration_range"):
        raw["duration_range"] = tuple(raw["duration_range"])
    with contextlib.suppress(BrokenPipeError):  # the parent is gone, and reads nothing
        asyncio.run(_serve(Settings(**raw)))


# --- the parent --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Child:
    settings: Settings
    process: subprocess.Popen[bytes]
    port: int = 0

    def ask(self) -> dict[str, Any]:
        """Return the child's ground truth.

        Raises:
            SimulatedServerEnded: it has ended, and with it what it counted.
        """
        self.tell(b"truth")
        return self.read()

    def tell(self, line: bytes) -> None:
        """Write one line to the side channel; a child that has ended gets nothing."""
        assert self.process.stdin is not None  # noqa: S101 - made with pipes
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        """Return what the child says next on the side channel.

        Raises:
            SimulatedServerEnded: it has ended and says no more, or not to the end of its line.
        """
        assert self.process.stdout is not None  # noqa: S101 - made with pipes
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise SimulatedServerEnded(self.settings.name, self.process.wait())
        said: dict[str, Any] = json.loads(line)
        return said

    def end(self) -> None:
        """Close the side channel and wait for the end of the process."""
        assert self.process.stdin is not None  # noqa: S101 - made with pipes
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@dataclass(frozen=True, slots=True)
class Simulation:
    """Running simulated servers."""

    children: list[_Child]
    certificate: Certificate
    password: str

    @property
    def urls(self) -> dict[str, str]:
        """Address of each server by name."""
        return {child.settings.name: f"https://127.0.0.1:{child.port}" for child in self.children}

    @property
    def settings(self) -> list[Settings]:
        """What each server was started with."""
        return [child.settings for child in self.children]

    async def truth(self) -> GroundTruth:
        """Return what really happened so far, over all servers.

        Raises:
            SimulatedServerEnded: one of them has ended.
        """
        parts = [await anyio.to_thread.run_sync(child.ask) for child in self.children]
        return GroundTruth.from_json(parts)


@asynccontextmanager
async def simulation(
    servers: Sequence[Settings], *, password: str, directory: Path | None = None
) -> AsyncIterator[Simulation]:
    """Start the servers, wait until they answer, and end them on the way out.

    The certificate is kept in `directory`, or in a temporary one.

    Raises:
        SimulatedServerEnded: one of them did not start.
    """
    with tempfile.TemporaryDirectory(prefix="bulk-restore-") as temporary:
        certificate = self_signed(directory or Path(temporary))
        children: list[_Child] = []
        try:
            children.extend(_started(settings, certificate) for settings in servers)
            for child in children:
                child.port = await anyio.to_thread.run_sync(_port_of, child)
            yield Simulation(children, certificate, password)
        finally:
            for child in children:
                child.end()


def _started(settings: Settings, certificate: Certificate) -> _Child:
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.simulator"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    child = _Child(settings, process)
    values = asdict(settings)
    values |= {"certificate": str(certificate.certificate), "key": str(certificate.key)}
    child.tell(json.dumps(values).encode())
    return child


def _port_of(child: _Child) -> int:
    port: int = child.read()["port"]
    return port
