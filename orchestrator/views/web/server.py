"""The page's server: five paths, read only, one request per connection."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files

import anyio
import anyio.lowlevel
from aiohttp import web

from orchestrator.log import Log
from orchestrator.views.web.access import HEADERS, Access, Refused
from orchestrator.views.web.address import Address, authority
from orchestrator.views.web.connection_limits import SEND_BUFFER, ConnectionLimits, most_connections
from orchestrator.views.web.metrics import CONTENT_TYPE, metrics, page_metrics
from orchestrator.views.web.page_state import PageState
from orchestrator.views.web.subscribers import Full, Subscriber, Subscribers
from orchestrator.views.web.timeline import PHASES

log = Log(__name__)

RESERVED = 20
"""Connections that open pages leave free for other requests."""
HEARTBEAT_S = 10.0
REFRESH_S = 5.0
"""Seconds after which a snapshot is made although nothing has happened: clocks go on."""
STALLED_S = 30.0
"""Seconds after which a subscriber that has not read what was sent loses its connection."""
GLANCE_S = 0.1
"""Seconds between looks at a subscriber that is behind."""
ROUNDS_OF_AN_ACCEPT = 4
"""Rounds of the loop from a connection that is accepted to its protocol, and some more.

asyncio has no call that waits for it.
"""

_FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_STREAM_HEAD = (
    f"retry: 2000\n\nevent: begin\ndata: {json.dumps(PHASES, separators=(',', ':'))}\n\n".encode()
)
"""How to read the rest of a stream."""


class WebServer:
    """Answers requests about one run."""

    def __init__(
        self,
        page_state: PageState,
        address: Address,
        token: str,
        hostname: str = "",
        names: Sequence[str] = (),
    ) -> None:
        """`address` is the bound one, with its port; see `Access` for the names."""
        loop = asyncio.get_running_loop()
        self.page_state, self.address, self.token = page_state, address, token
        # Every address is none that a browser could ask for.
        self._name = hostname if address.is_any and hostname else str(address.ip)
        if names and not address.is_loopback:
            self._name = names[0]
        server = web.Server(
            self._respond,
            handler_cancellation=True,
            access_log=None,
            max_line_size=4096,
            max_field_size=4096,
            max_headers=64,
            lingering_time=0.0,
        )
        most = most_connections()
        self.connections = ConnectionLimits(server, loop.time, most)
        self.subscribers = Subscribers(max(1, most - RESERVED))
        self._access = Access(address, token, hostname, names)
        self._server = server
        kept = files("orchestrator.views.web") / "page"
        self._files = {
            path: ((kept / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()
        }
        self._shown, self._shown_at = -1, 0.0
        self._paths: dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {
            "/events": self._events,
            "/metrics": self._metrics,
        }

    @property
    def place(self) -> str:
        """Where the page is. Without the token it shows nothing."""
        return f"http://{authority(self._name, self.address.port)}/"

    @property
    def link(self) -> str:
        """Where a person opens the page. It holds the token."""
        return f"{self.place}?token={self.token}"

    def tick(self, now: float) -> None:
        """Publish the newest snapshot, if it is another, and end what takes too long.

        `now` is the run's clock. Waits for nobody.
        """
        self.connections.close_overdue()
        self.page_state.advance(now)
        wait = self.page_state.version != self._shown or now - self._shown_at >= REFRESH_S
        if wait and len(self.subscribers):
            self._shown, self._shown_at = self.page_state.version, now
            self.subscribers.publish(self.page_state.snapshot())

    async def close(self, patience_s: float) -> None:
        """Publish the last snapshot, wait for subscribers to take it, and end all connections."""
        if len(self.subscribers):
            self.subscribers.publish(self.page_state.snapshot())
        self.subscribers.end()
        with anyio.move_on_after(patience_s):
            await self.subscribers.empty.wait()
        self.connections.close()
        await self._server.shutdown(timeout=0.0)

    # --- one request -----------------------------------------------------------------------

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; a failure is an answer too."""
        self.connections.request_arrived(request.transport)
        try:
            response = self._access.admit(request) or await self._route(request)
        except Refused as exc:
            response = _plain_answer(exc.status, exc.why)
            response.headers.update(exc.headers)
        except Exception:
            log.exception("web.internal_error")
            response = _plain_answer(500, "This page has a fault; the run does not.")
        if not response.prepared:
            response.headers.update(HEADERS)
            response.force_close()
        return response

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]  # as it was sent: "..", "%2e" lead nowhere
        if path in self._files:
            body, kind = self._files[path]
            return web.Response(body=body, headers={"Content-Type": kind})
        if path in self._paths:
            return await self._paths[path](request)
        raise Refused(404, "There is nothing here.")

    async def _metrics(self, _request: web.BaseRequest) -> web.StreamResponse:
        more = page_metrics(len(self.subscribers), len(self.connections))
        body = metrics(self.page_state, more).encode("utf-8", "replace")
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    # --- the stream ------------------------------------------------------------------------

    async def _events(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {**HEADERS, "Content-Type": "text/event-stream; charset=utf-8"}
        response = web.StreamResponse(headers=headers)
        response.force_close()
        try:
            with self.subscribers.subscribe() as subscriber:
                if request.method == "HEAD":  # how the page learns why it was refused
                    return response
                self.connections.request_arrived(request.transport, stream=True)
                await response.prepare(request)
                await self._stream(request, response, subscriber)
        except Full:
            raise Refused(503, "Too many pages are open.", {"Retry-After": "30"}) from None
        except ConnectionError:
            pass  # the page was closed
        return response

    async def _stream(
        self, request: web.BaseRequest, response: web.StreamResponse, subscriber: Subscriber
    ) -> None:
        """Write to one subscriber, only ever into an empty buffer: what it misses is not kept."""
        await response.write(_STREAM_HEAD)
        subscriber.offer(self.page_state.snapshot())
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
            message = self._next_message(subscriber)
            if message:
                with anyio.move_on_after(STALLED_S) as written:
                    await response.write(message)  # waits, where it is more than the buffer takes
                if written.cancelled_caught:
                    transport.abort()
                    return
            elif self.subscribers.has_ended:
                return
            await self._wait_for_news(subscriber)

    def _next_message(self, subscriber: Subscriber) -> bytes:
        """Return what the subscriber has not read: the newest snapshot and a part of the rest."""
        snapshot = subscriber.take()
        message = b"event: picture\ndata: " + snapshot + b"\n\n" if snapshot else b""
        changes, place = self.page_state.timeline.part(subscriber.place)
        if place > subscriber.place:
            subscriber.place = place
            message += b"event: changes\ndata: " + changes + b"\n\n"
        if not message and not self.subscribers.has_ended:
            message = b": still here\n\n"
        return message

    async def _wait_for_news(self, subscriber: Subscriber) -> None:
        """Wait for a snapshot; a subscriber that still reads old changes waits only a moment."""
        if subscriber.place < len(self.page_state.timeline):
            await anyio.sleep(GLANCE_S / 2)
        elif not self.subscribers.has_ended:
            await subscriber.wait(HEARTBEAT_S)


def _plain_answer(status: int, sentence: str) -> web.StreamResponse:
    return web.Response(status=status, text=f"{sentence}\n")


@asynccontextmanager
async def serve_page(
    page_state: PageState,
    address: Address,
    token: str,
    *,
    names: Sequence[str] = (),
    grace_s: float = 1.0,
) -> AsyncIterator[WebServer]:
    """Serve the page at `address` until the context is left, and `grace_s` longer at most.

    So long the last snapshot may delay the end.

    Raises (on entering):
        OSError: the address cannot be used.
    """
    listening = _listening_socket(address)
    try:
        port = listening.getsockname()[1]
        bound = Address(address.ip, port)
        site = WebServer(page_state, bound, token, socket.gethostname(), names)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(site.connections, sock=listening)
    except BaseException:
        listening.close()
        raise
    try:
        yield site
    finally:
        loop.remove_reader(listening.fileno())  # a closed server forgets whom it has just accepted
        with anyio.CancelScope(shield=True):
            for _ in range(ROUNDS_OF_AN_ACCEPT):
                await anyio.lowlevel.checkpoint()
            server.close()
            await site.close(grace_s)


def _listening_socket(address: Address) -> socket.socket:
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
