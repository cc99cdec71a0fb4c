"""Simulated servers that act as they should and then lie: their answers are twisted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from orchestrator.simulator.server import HttpFace
from tests.scenarios.drill import Drill, Site, drill
from tests.virtual.network import MemoryNetwork

SESSION = re.compile(r"/logonSessions/([^/?]+)", re.IGNORECASE)
"""A session's id, which is as secret as its token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One answer as the server would have given it."""

    method: str
    target: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def rewritten(self, pattern: bytes, by: bytes) -> Said:
        """Return the answer with every match of a pattern in its body replaced."""
        return replace(self, body=re.sub(pattern, by, self.body, flags=re.DOTALL))


Twist = Callable[[Said], Said]


def answered(method: str, target: str, twist: Twist) -> Twist:
    """Return a twist of only those answers whose request matches both patterns."""

    def twisted(said: Said) -> Said:
        matches = re.search(method, said.method) and re.search(target, said.target, re.IGNORECASE)
        return twist(said) if matches else said

    return twisted


@dataclass(slots=True)
class Liars:
    """Which server lies how; the rest is what they were sent, and whom anybody tried to reach."""

    twists: Mapping[str, Twist]
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    reached: set[tuple[str, int]] = field(default_factory=set)

    def face(self, monkeypatch: pytest.MonkeyPatch) -> type[HttpFace]:
        """Return the REST face of servers that lie so; connections are noted from now on."""
        liars = self

        class LyingFace(HttpFace):
            async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
                name = self.manager.name
                liars.asked.append((name, request.method, request.raw_path))
                liars.tokens.add(request.headers.get("X-RestSvcSessionId", ""))
                liars.tokens.update(SESSION.findall(request.raw_path))
                response = await super().handle(request)
                twist = liars.twists.get(name)
                if twist is None or not isinstance(response, web.Response):
                    return response
                assert isinstance(response.body, bytes)
                said = twist(
                    Said(
                        method=request.method,
                        target=request.raw_path,
                        status=response.status,
                        headers=dict(response.headers),
                        body=response.body,
                    )
                )
                headers = {k: v for k, v in said.headers.items() if k != "Content-Length"}
                return web.Response(status=said.status, headers=headers, body=said.body)

        connect = MemoryNetwork.connect

        async def connecting(network: MemoryNetwork, host: str, port: int, protocol: Any) -> Any:
            liars.reached.add((host, port))
            return await connect(network, host, port, protocol)

        monkeypatch.setattr(MemoryNetwork, "connect", connecting)
        return LyingFace


async def drill_with_a_liar(
    directory: Path, monkeypatch: pytest.MonkeyPatch, twist: Twist, **options: Any
) -> tuple[Drill, Liars]:
    """Play a drill of a lying server `hq` and an honest one, `dr`; the invariants hold."""
    liars = Liars({"hq": twist})
    options["face"] = liars.face(monkeypatch)
    hq = options.pop("hq", Site(machines=2, mount_s=10.0))
    played = await drill(
        directory, monkeypatch, [hq, Site("dr", machines=2, mount_s=10.0)], **options
    )
    return played, liars
