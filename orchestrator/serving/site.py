"""The page's server: five paths, read only, one request per connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files

import anyio
import structlog
from aiohttp import web

from orchestrator.serving.address import Address, authority
from orchestrator.serving.audience import Audience, Full, Listener
from orchestrator.serving.board import Board
from orchestrator.serving.doors import SEND_BUFFER, Doors, most_connections
from orchestrator.serving.guard import HEADERS, Guard, Refused
from orchestrator.serving.metrics import CONTENT_TYPE, counted, metrics
from orchestrator.serving.timeline import PHASES

log = structlog.get_logger(__name__)

RESERVED = 20
"""Connections that listeners leave to everybody else."""
HEARTBEAT_S = 10.0
REFRESH_S = 5.0
"""Seconds after which a picture is made although nothing has happened: clocks go on."""
STALLED_S = 30.0
"""Seconds after which a listener that has not read what was sent loses its connection."""
GLANCE_S = 0.1
"""Seconds between looks at a listener that is behind."""

_FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


class Site:
    """Answers requests about one board."""

    def __init__(
        self,
        board: Board,
        address: Address,
        token: str,
        hostname: str = "",
        names: Sequence[str] = (),
    ) -> None:
        """`address` is the bound one, with its port; see `Guard` for the names."""
        loop = asyncio.get_running_loop()
        self.board, self.address, self.token = board, address, token
        # Every address is none that a browser could ask for.
        self._name = hostname if address.is_any and hostname else str(address.ip)
        if names and not address.is_loopback:
            self._name = names[0]
        server = web.Server(
            self._answered,
            handler_cancellation=True,
            access_log=None,
            max_line_size=4096,
            max_field_size=4096,
            max_headers=64,
            lingering_time=0.0,
        )
        most = most_connections()
        self.doors = Doors(server, loop.time, most)
        self.audience = Audience(max(1, most - RESERVED))
        self._guard = Guard(address, token, hostname, names)
        self._server = server
        kept = files("orchestrator.serving") / "page"
        self._files = {
            path: ((kept / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()
        }
        self._shown, self._shown_at = -1, 0.0
        self._paths: dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {
            "/events": self._events,
            "/metrics": self._metrics,
        }

    @property
    def link(self) -> str:
        """Where a person opens the page. It holds the token."""
        return f"http://{authority(self._name, self.address.port)}/?token={self.token}"

    def tick(self, now: float) -> None:
        """Show everybody the newest picture, if it is another, and end what takes too long.

        `now` is the run's clock. Waits for nobody.
        """
        self.doors.sweep()
        self.board.at(now)
        news = self.board.version != self._shown or now - self._shown_at >= REFRESH_S
        if news and len(self.audience):
            self._shown, self._shown_at = self.board.version, now
            self.audience.publish(self.board.picture())

    async def close(self, patience_s: float) -> None:
        """Show the last picture, give listeners a moment to take it, and end all connections."""
        if len(self.audience):
            self.audience.publish(self.board.picture())
        self.audience.end()
        with anyio.move_on_after(patience_s):
            await self.audience.gone()
        self.doors.shut()
        await self._server.shutdown(timeout=0.0)

    # --- one request -----------------------------------------------------------------------

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; whatever goes wrong with one is an answer too."""
        self.doors.asked(request.transport)
        try:
            response = self._guard.admit(request) or await self._found(request)
        except Refused as exc:
            response = _said(exc.status, exc.why)
            response.headers.update(exc.headers)
        except Exception:
            log.exception("web.internal_error")
            response = _said(500, "This page has a fault; the run does not.")
        if not response.prepared:
            response.headers.update(HEADERS)
            response.force_close()
        return response

    async def _found(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]  # as it was sent: "..", "%2e" lead nowhere
        if path in self._files:
            body, kind = self._files[path]
            return web.Response(body=body, headers={"Content-Type": kind})
        if path in self._paths:
            return await self._paths[path](request)
        raise Refused(404, "There is nothing here.")

    async def _metrics(self, _request: web.BaseRequest) -> web.StreamResponse:
        more = counted(
            {
                "web_listeners": ("Pages that are open now.", len(self.audience)),
                "web_connections": ("Connections that are open now.", len(self.doors)),
            }
        )
        body = metrics(self.board, more).encode("utf-8", "replace")
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    # --- the stream ------------------------------------------------------------------------

    async def _events(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {**HEADERS, "Content-Type": "text/event-stream; charset=utf-8"}
        response = web.StreamResponse(headers=headers)
        response.force_close()
        try:
            with self.audience.joined() as listener:
                if request.method == "HEAD":  # how the page learns why it was refused
                    return response
                self.doors.asked(request.transport, stream=True)
                await response.prepare(request)
                await self._streamed(request, response, listener)
        except Full:
            raise Refused(503, "Too many pages are open.", {"Retry-After": "30"}) from None
        except ConnectionError:
            pass  # the page was closed
        return response

    async def _streamed(
        self, request: web.BaseRequest, response: web.StreamResponse, listener: Listener
    ) -> None:
        """Write to one listener, only ever into an empty buffer: what it misses is not kept."""
        await response.write(_begin())
        listener.offer(self.board.picture())
        behind_since: float | None = None
        while (transport := request.transport) is not None and not transport.is_closing():
            if transport.get_write_buffer_size() > 0:
                now = anyio.current_time()
                behind_since = behind_since if behind_since is not None else now
                if now - behind_since > STALLED_S:
                    transport.abort()
                    return
                await anyio.sleep(GLANCE_S)
                continue
            behind_since = None
            message = self._next(listener)
            if message:
                with anyio.move_on_after(STALLED_S) as written:
                    await response.write(message)  # waits, where it is more than the buffer takes
                if written.cancelled_caught:
                    transport.abort()
                    return
            elif self.audience.over:
                return
            await self._rest(listener)

    def _next(self, listener: Listener) -> bytes:
        """Return what the listener has not heard, the newest picture and a part of the rest."""
        picture = listener.take()
        message = b"event: picture\ndata: " + picture + b"\n\n" if picture else b""
        changes, place = self.board.timeline.part(listener.place)
        if place > listener.place:
            listener.place = place
            message += b"event: changes\ndata: " + changes + b"\n\n"
        if not message and not self.audience.over:
            message = b": still here\n\n"
        return message

    async def _rest(self, listener: Listener) -> None:
        """Wait for news; whoever still reads old changes waits only a moment."""
        if listener.place < len(self.board.timeline):
            await anyio.sleep(GLANCE_S / 2)
        elif not self.audience.over:
            await listener.news(HEARTBEAT_S)


def _begin() -> bytes:
    """Return the first words of a stream: how to read the rest."""
    phases = ",".join(f'"{phase.value}"' for phase in PHASES)
    return f"retry: 2000\n\nevent: begin\ndata: [{phases}]\n\n".encode()


def _said(status: int, sentence: str) -> web.StreamResponse:
    return web.Response(status=status, text=f"{sentence}\n")


@asynccontextmanager
async def open_site(
    board: Board,
    address: Address,
    token: str,
    *,
    names: Sequence[str] = (),
    grace_s: float = 1.0,
) -> AsyncIterator[Site]:
    """Serve the board at `address` until the context is left, and `grace_s` longer at most.

    Raises (on entering):
        OSError: the address cannot be used.
    """
    listening = _bound(address)
    try:
        port = listening.getsockname()[1]
        bound = Address(address.ip, port)
        site = Site(board, bound, token, socket.gethostname(), names)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(site.doors, sock=listening)
    except BaseException:
        listening.close()
        raise
    try:
        yield site
    finally:
        server.close()
        with anyio.CancelScope(shield=True):
            await site.close(grace_s)


def _bound(address: Address) -> socket.socket:
    family = socket.AF_INET6 if address.ip.version == 6 else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # is inherited
        listening.bind((str(address.ip), address.port))
        listening.listen(256)
    except OSError:
        listening.close()
        raise
    return listening
