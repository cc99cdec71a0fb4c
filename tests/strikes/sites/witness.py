"""Simulated servers that note which process sent them each request, and when."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

from aiohttp import web

from orchestrator.simulator.faults import FaultScript
from orchestrator.simulator.manager import SimulatedManager
from orchestrator.simulator.server import HttpFace

CONNECTIONS = Path("/proc/net/tcp")
"""One line for each connection; see proc(5)."""
LOCAL, INODE = 1, 9


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it reached a server."""

    at: float
    """Seconds of this machine's wall clock, as `time.time`."""
    server: str
    method: str
    path: str
    pid: int | None
    """Process that sent it; None: none of the workers, or one that was dead by then."""

    @property
    def changes(self) -> bool:
        """True if it may change something at the server."""
        return self.method != "GET"


@dataclass(slots=True)
class Witness:
    """What the servers of one story saw."""

    pids: list[int] = field(default_factory=list)
    """The workers."""
    requests: list[Request] = field(default_factory=list)
    _senders: WeakKeyDictionary[object, int | None] = field(default_factory=WeakKeyDictionary)

    def face(self, manager: SimulatedManager, faults: FaultScript) -> HttpFace:
        """Return a server's face that tells this witness; see `processes.served`."""
        return _Witnessed(self, manager, faults)

    def see(self, server: str, request: web.BaseRequest) -> None:
        """Note a request."""
        transport = request.transport
        if transport is None:  # its client is gone
            pid = None
        elif transport in self._senders:
            pid = self._senders[transport]
        else:
            _, port, *_ = transport.get_extra_info("peername")
            pid = self._senders[transport] = sender(port, self.pids)
        self.requests.append(Request(time.time(), server, request.method, request.raw_path, pid))


class _Witnessed(HttpFace):
    def __init__(self, witness: Witness, manager: SimulatedManager, faults: FaultScript) -> None:
        super().__init__(manager, faults)
        self._witness = witness

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._witness.see(self.manager.name, request)
        return await super().handle(request)


def sender(port: int, pids: Iterable[int]) -> int | None:
    """Return which process of this machine has the TCP connection from that port, if any."""
    lines = [line.split() for line in CONNECTIONS.read_text().splitlines()[1:]]
    named = {f"socket:[{line[INODE]}]" for line in lines if line[LOCAL].endswith(f":{port:04X}")}
    for pid in pids:
        with suppress(OSError):  # it has just ended
            for each in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):  # it was just closed
                    if str(each.readlink()) in named:
                        return pid
    return None
