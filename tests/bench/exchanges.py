"""What one request costs on a kept TLS connection, beside aiohttp at its barest.

`python -m tests.bench.exchanges serve|ask ...`: a server that only answers, and the client whose
CPU is measured, each a process of its own, so that neither pays for the other.
"""

from __future__ import annotations

import asyncio
import random
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle
from pathlib import Path
from statistics import median
from uuid import UUID

import aiohttp
import anyio

from orchestrator.core.clock import boot_clock
from orchestrator.core.model import ServerName
from orchestrator.em.transport import Transport
from orchestrator.em.wire import XmlCodec
from orchestrator.plan.file.access import FingerprintTrust
from orchestrator.simulator.certificates import self_signed
from tests.bench.figures import Figure, percentile

Exchange = tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[None]]]
"""What sends four requests, and what closes the connections."""

SAMPLES = Path(__file__).parents[1] / "em" / "samples"
POINTS = 2000
SLICES, SIZE = 60, 40
AT_ONCE = 5
TOKEN = "MmE1ODk4ODctZTBiMS00YmZmLWI1YjYtNDVhYjg0ZDhmNmVm"
HEADERS = (
    "Cache-Control: private\r\nServer: Microsoft-HTTPAPI/2.0\r\nX-Frame-Options: SAMEORIGIN\r\n"
    "X-Content-Type-Options: nosniff\r\nDate: Sun, 29 Nov 2026 13:00:00 GMT\r\n"
)


def _answer(status: str, name: str | None = None) -> bytes:
    """Return an answer in the form it has on the wire: one line. Source: reference 1.4."""
    body = (SAMPLES / f"{name}.xml").read_bytes() if name is not None else b""
    body = re.sub(rb">\s+<", b"><", body)
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{HEADERS}"
    return f"{head}Content-Type: application/xml; charset=utf-8\r\n\r\n".encode() + body


ANSWERS = {
    "POST": _answer("202 Accepted", "task.mount.running.wire"),
    "GET": _answer("200 OK", "vmreplicapointmount"),
    "DELETE": _answer("204 NoContent"),
    "list": _answer("200 OK", "vmreplicapointmounts.empty"),
}


class _Answering(asyncio.Protocol):
    """Answers by method and path alone, with what was made before."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._head.startswith(b"POST") and not self._head.endswith(b"Spec>"):
            return
        if b"\r\n\r\n" in self._head:
            method, target, _ = self._head.split(b" ", 2)
            kind = "list" if method == b"GET" and target.endswith(b"mounts") else method.decode()
            self._head = b""
            self._transport.write(ANSWERS[kind])


async def _serve(*certificate_and_key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate_and_key)
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _ours(base: str, pin: str) -> Exchange:
    """Return what sends the four requests of a mount in turn, and what closes all."""
    codec = XmlCodec()
    transport = Transport(
        ServerName("hq"),
        base,
        FingerprintTrust(sha256=(pin,)),
        rng=random.Random(1),
        media_type=codec.media_type,
        boot_clock=boot_clock,  # as in a real run
    )
    transport.use_token(TOKEN)
    transport.hide("2a589887-e0b1-4bff-b5b6-45ab84d8f6ef")
    transport.hide("n0t-a-real-password")
    points = cycle(UUID(int=random.Random(number).getrandbits(128)) for number in range(POINTS))
    spec = (
        b'<StartMountSpec xmlns="http://www.veeam.com/ent/v1.0"><OsKind>Windows</OsKind>'
        b"</StartMountSpec>"
    )

    async def mount() -> None:
        mounts = f"/api/vmReplicaPoints/{next(points)}/mounts"
        await transport.send("POST", mounts, codec.task, body=spec, mount_post=True)
        await transport.get(f"{mounts}/1", codec.mounts)
        await transport.send("DELETE", f"{mounts}/1", codec.task)
        await transport.get(mounts, codec.mounts)

    return mount, transport.close


def _bare(base: str, _pin: str) -> Exchange:
    """Return what sends four GETs and reads nothing of what they say."""
    http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
    target = f"{base}/api/vmReplicaPoints/{UUID(int=1)}/mounts/1"

    async def four() -> None:
        for _ in range(4):
            async with http.get(target, ssl=False) as response:
                await response.read()

    return four, http.close


async def _ask(*argv: str) -> None:
    kind, base, pin = argv
    four, close = (_bare if kind == "bare" else _ours)(base, pin)
    at_once = AT_ONCE if kind == "ours-at-once" else 1
    took = []

    async def some() -> None:
        for _ in range(SIZE // 4 // at_once):
            await four()

    for _ in range(SLICES + 1):
        began = time.process_time()
        await asyncio.gather(*(some() for _ in range(at_once)))
        took.append((time.process_time() - began) / SIZE)
    await close()
    print(1e6 * percentile(took[1:], 0.1))  # others may use this machine, too


def _measured(*argv: str) -> float:
    command = [sys.executable, "-m", "tests.bench.exchanges", "ask", *argv]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def figures() -> Iterator[Figure]:
    """Measure all in turn, three times, against the same server."""
    with tempfile.TemporaryDirectory(prefix="bulk-restore-bench-") as temporary:
        made = self_signed(Path(temporary))
        command = [sys.executable, "-m", "tests.bench.exchanges", "serve"]
        with subprocess.Popen(
            [*command, str(made.certificate), str(made.key)], stdout=subprocess.PIPE
        ) as server:
            assert server.stdout is not None
            where = (f"https://127.0.0.1:{int(server.stdout.readline())}", made.fingerprint_sha256)
            rounds = [
                [_measured(kind, *where) for kind in ("ours", "ours-at-once", "bare")]
                for _ in range(3)
            ]
            server.terminate()
    yield Figure(
        what="CPU per request through the transport: mount, look, unmount, list, in turn",
        value=median(ours for ours, _, _ in rounds),
        unit="µs",
        digits=0,
    )
    yield Figure(
        what=f"… {AT_ONCE} mounts at once",
        value=median(at_once for _, at_once, _ in rounds),
        unit="µs",
        digits=0,
    )
    yield Figure(
        what="The first / a GET with bare aiohttp whose answer nobody reads",
        value=median(ours / bare for ours, _, bare in rounds),
        limit=1.8,
    )


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        anyio.run(_serve, *sys.argv[2:])
    else:
        anyio.run(_ask, *sys.argv[2:])
