"""Webhook servers as there are: over TLS, and some of them slow, busy, moved or mute."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
from aiohttp import web

from orchestrator.simulator.certificates import Certificate, self_signed

PART = "T0/B0/sEcReT-pArT-0f-the-addr3ss"
"""What stands in every address here and must stand nowhere else."""

TEAMS_ERROR = (
    "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error {} "
    "with ContextId tcid=0,server=msgapi-production-eus,cv=abc.."
)
"""What Teams answers with status 200. Source: Microsoft, Create Incoming Webhooks."""

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Hooks:
    """A running server: `/MANNER/PART` answers in that manner, and keeps what was posted."""

    address: str
    ca_file: Path
    posted: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    posted_at: list[datetime] = field(default_factory=list)

    def url(self, manner: str) -> str:
        """Return the address of the webhook that answers in this manner."""
        return f"{self.address}/{manner}/{PART}"

    def taken(self, manner: str) -> list[Any]:
        """Return the bodies that were posted to one webhook."""
        return [body for name, body in self.posted if name == manner]


@asynccontextmanager
async def hooks(directory: Path, *, tls: bool = True) -> AsyncIterator[Hooks]:
    """Serve webhooks on loopback, with a certificate of their own."""
    certificate: Certificate = self_signed(directory)
    running = Hooks("", certificate.certificate)
    manners = _manners(running)

    async def answer(request: web.Request) -> web.StreamResponse:
        manner = request.match_info["manner"]
        running.posted.append((manner, await request.json()))
        running.headers.append(dict(request.headers))
        running.posted_at.append(datetime.now(UTC))
        return await manners[manner](request)

    app = web.Application()
    app.router.add_route("*", "/{manner}/{rest:.*}", answer)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context if tls else None)
    await site.start()
    port = runner.addresses[0][1]
    running.address = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield running
    finally:
        await runner.cleanup()


def _manners(running: Hooks) -> dict[str, Answer]:
    async def good(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok", headers={"Set-Cookie": "kept=1"})

    async def slow(_request: web.Request) -> web.StreamResponse:
        await anyio.sleep(30)
        return web.Response(text="ok")

    async def moved(_request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect(running.url("good"))

    async def gone(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=404, text="no_service")

    async def telltale(request: web.Request) -> web.StreamResponse:
        return web.Response(status=400, text=f"unknown {request.url}")

    async def broken(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=500, text="<html>" * 100_000)

    async def busy(_request: web.Request) -> web.StreamResponse:
        if len(running.taken("busy")) < 3:
            return web.Response(status=429, headers={"Retry-After": "0"})
        return web.Response(status=202)

    async def one(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="1")

    async def oversized(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=TEAMS_ERROR.format(413))

    async def throttled(_request: web.Request) -> web.StreamResponse:
        taken = len(running.taken("throttled")) >= 3
        return web.Response(text="1" if taken else TEAMS_ERROR.format(429))

    async def unhappy(request: web.Request) -> web.StreamResponse:
        return web.Response(text=f"Invalid webhook URL {request.url}")

    async def rude(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=400)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    found: dict[str, Answer] = {
        each.__name__: each
        for each in (
            *(good, slow, moved, gone, telltale, broken, busy, rude, endless),
            *(one, oversized, throttled, unhappy),
        )
    }
    return found
