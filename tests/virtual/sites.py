"""Several simulated servers in the current event loop, on one in-memory network.

What scenario tests and forecasts run against: the whole client, no sockets, virtual time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from orchestrator.simulator.faults import FaultScript
from orchestrator.simulator.manager import SimulatedManager
from orchestrator.simulator.server import HttpFace
from orchestrator.simulator.truth import GroundTruth
from tests.virtual.network import MemoryNetwork

PORT = 9398


@dataclass(slots=True)
class Sites:
    """The servers, the network between, and what really happened."""

    managers: Mapping[str, SimulatedManager]
    network: MemoryNetwork
    truth: GroundTruth
    faces: dict[str, HttpFace] = field(default_factory=dict)

    def url(self, name: str) -> str:
        """Return the address of one server."""
        return f"https://{host(name)}:{PORT}"


def host(name: str) -> str:
    """Return the host name of the server `name` on the in-memory network."""
    return f"em-{name}.example.net"


@asynccontextmanager
async def serving(
    managers: Mapping[str, SimulatedManager],
    *,
    faults: Mapping[str, FaultScript] | None = None,
    network: MemoryNetwork | None = None,
    face: Callable[[SimulatedManager, FaultScript | None], HttpFace] = HttpFace,
) -> AsyncIterator[Sites]:
    """Serve `managers` until the context is left. They should share one GroundTruth.

    `face` makes the REST face of a manager: a test may look on at every request.
    """
    net = network or MemoryNetwork()
    truth = next(iter(managers.values())).truth
    sites = Sites(managers, net, truth)
    servers = []
    for name, manager in managers.items():
        rest_face = face(manager, (faults or {}).get(name))
        server = rest_face.protocol_factory()
        servers.append(server)
        sites.faces[name] = rest_face
        net.listen(host(name), PORT, server)
    try:
        yield sites
    finally:
        for server in servers:
            await server.shutdown(1.0)
