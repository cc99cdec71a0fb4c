"""Over real sockets: nothing a server says makes the program talk to anybody else, or for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import anyio
import pytest

from orchestrator.core.errors import EnterpriseManagerError, ResponseLost
from orchestrator.em.limits import Patience
from orchestrator.em.wire import XmlCodec
from tests.em.documents import MOUNT, POINT
from tests.em.rawserver import RUNNING, raw_server, reply, transport_to

pytestmark = pytest.mark.anyio

CODEC = XmlCodec()
REQUESTS = (
    ("GET", "/api/tasks/task-12"),
    ("POST", f"/api/vmReplicaPoints/{POINT}/mounts"),
    ("DELETE", MOUNT),
    ("POST", "/api/sessionMngr/?v=latest"),
)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.fixture
def anyio_backend() -> str:
    """Real sockets need real time."""
    return "asyncio"


def leading_to(address: str) -> Mapping[str, str]:
    """Return every header that might send a client elsewhere."""
    return {
        "Location": f"{address}/api/tasks/task-12",
        "Content-Location": f"{address}/api/",
        "Refresh": f"0; url={address}/api/",
        "Link": f"<{address}/api/tasks>; rel=preload, <{address}>; rel=preconnect",
        "Alt-Svc": f'http/1.1="{address.removeprefix("http://")}"; ma=86400',
        "Proxy-Authenticate": 'Basic realm="RestSvc"',
        "WWW-Authenticate": "Basic Realm=RestSvc",
        "Set-Cookie": "X-RestSvcSessionId=other; Path=/; Domain=127.0.0.1",
        "Connection": "Upgrade",
        "Upgrade": "h2c",
    }


@pytest.mark.parametrize(
    "status", [101, 200, 201, 202, 205, 206, 300, 301, 302, 303, 305, 307, 308, 401, 407, 421, 503]
)
async def test_no_answer_sends_the_program_to_another_host(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one connection, let alone a byte, whatever status, headers, links or proxies say."""
    async with raw_server(lambda n, r: reply()) as other:
        address = f"http://127.0.0.1:{other.port}"
        for name in PROXIES:
            monkeypatch.setenv(name, address)
        body = RUNNING.replace(b"https://em01.dr.example:9398", address.encode())
        answer = reply(status, body, leading_to(address), then="close")
        async with raw_server(lambda n, r: answer) as server:
            for method, target in REQUESTS:
                async with transport_to(server.port) as transport:
                    with contextlib.suppress(EnterpriseManagerError):
                        await transport.send(method, target, CODEC.task, body=b"")

        assert (other.connections, other.bytes_received) == (0, 0)
    assert [(one.method, one.target) for one in server.requests] == list(REQUESTS)
    assert all("cookie" not in one.headers for one in server.requests)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n<Task>"])
async def test_a_dripping_answer_ends_with_the_total_time(head: bytes) -> None:
    """A byte now and then is not silence; the total timeout ends it all the same.

    It is the second answer of a connection: to make one takes as long as the machine likes.
    """
    gone = anyio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply().data)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            for _ in range(10_000):
                writer.write(b" " if head else b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        gone.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    with anyio.fail_after(60):
        async with transport_to(server.sockets[0].getsockname()[1]) as transport:
            await transport.get("/api/tasks/task-12", CODEC.task)
            with pytest.raises(ResponseLost, match="in time"):
                await transport.send(
                    "GET", "/api/tasks", CODEC.anything, timeout=Patience(0.4, 0.3)
                )
        await gone.wait()
    server.close()
    await server.wait_closed()
