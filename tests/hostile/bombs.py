"""Run as a program: takes every bomb in, and prints what each did to this process.

A process of its own, so that its peak of memory is the bombs' doing. The server is in the
same process and sends piece by piece, so that it holds nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count, repeat
from pathlib import Path
from typing import Any

import anyio

from orchestrator.core.errors import EnterpriseManagerError
from orchestrator.core.model import Source
from orchestrator.em.families import FAMILIES
from orchestrator.em.json_codec import JsonCodec
from orchestrator.em.limits import LARGE, Patience
from orchestrator.em.wire import XmlCodec
from tests.em.documents import NAMESPACE, POINT
from tests.em.rawserver import transport_to

CODEC, JSON = XmlCodec(), JsonCodec()
PIECE = 64 * 1024
Pieces = Iterator[bytes]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n"
BAD = OK.replace(b"200 OK", b"500 No")
LONG = b"Content-Length: 999999999999\r\n\r\n"
SPACE = f' xmlns="{NAMESPACE}"'.encode()
"""Without it an answer is refused at its first tag."""
ROOT = b"<Tasks" + SPACE + b">"
WIDE = "😀".encode()


def many(piece: bytes) -> Pieces:
    """Yield the piece again and again, in larger pieces, for ever."""
    return repeat(piece * max(1, PIECE // len(piece)))


def numbered(piece: bytes) -> Pieces:
    """Yield the piece with ever new numbers in it, for ever."""
    each = max(1, PIECE // len(piece))
    for start in count(0, each):
        yield b"".join(piece % number for number in range(start, start + each))


def row(inner: bytes) -> bytes:
    """Return one task with something in it."""
    return b"<Task><TaskId>t-%d</TaskId>" + inner + b"</Task>"


def after(head: bytes, pieces: Pieces) -> Pieces:
    """Yield a head and then the pieces."""
    yield head
    yield from pieces


LINK = b'<Link Rel="Download" Href="/api/' + b"a" * 1000 + b'"/>'
POINT_ROW = (
    f'<VmReplicaPoint UID="urn:veeam:VmReplicaPoint:{POINT}" Name="%d{"n" * 300}😀">'
    "<CreationTimeUTC>2026-03-14T21:00:39Z</CreationTimeUTC></VmReplicaPoint>"
).encode()
TASKS, POINTS = CODEC.tasks, lambda: CODEC.points(FAMILIES[Source.REPLICA])
ANY, ENTRIES, MOUNTS = CODEC.anything, CODEC.entries, CODEC.mounts
BODY = OK + LONG
IN_JSON = BODY + b'{"Tasks":['
"""The beginning of a list in JSON."""

BOMBS: dict[str, tuple[Callable[[], Any], Callable[[], Pieces]]] = {
    "elements": (ANY, lambda: after(BODY + ROOT, many(b"<a/>"))),
    "elements among text": (ANY, lambda: after(BODY + ROOT, many(b"x<a/>"))),
    "ever new elements": (ANY, lambda: after(BODY + ROOT, numbered(b"<e%d/>"))),
    "ever new attributes": (
        ANY,
        lambda: after(BODY + b"<Tasks" + SPACE + b" ", numbered(b'a%d="" ')),
    ),
    "attributes": (ANY, lambda: after(BODY + ROOT, numbered(b'<a b%d="" c="" d="" e=""/>'))),
    "levels": (ANY, lambda: after(BODY + ROOT, many(b"<a>"))),
    "a tag": (ANY, lambda: after(BODY + b"<", many(b"a"))),
    "a comment": (ANY, lambda: after(BODY + b"<!--", many(b"a"))),
    "comments": (ANY, lambda: after(BODY + ROOT, many(b"<!-- a -->"))),
    "a text": (ANY, lambda: after(BODY + ROOT, many(b"a"))),
    "a wide text": (ANY, lambda: after(BODY + ROOT, many(WIDE))),
    "blank": (ANY, lambda: after(BODY, many(b" \n"))),
    "tasks": (TASKS, lambda: after(BODY + ROOT, numbered(row(b"")))),
    "wide tasks": (
        TASKS,
        lambda: after(
            BODY + ROOT,
            numbered(
                row(b'<Result Success="true"><Message>' + WIDE * 500 + b"</Message></Result>")
            ),
        ),
    ),
    "tasks with links": (
        TASKS,
        lambda: after(
            BODY + ROOT,
            numbered(row(b"<Links>" + LINK * 50 + b"</Links>")),
        ),
    ),
    "points": (POINTS, lambda: after(BODY + b"<QueryResult" + SPACE + b">", numbered(POINT_ROW))),
    "entries": (
        ENTRIES,
        lambda: after(
            BODY + b"<FileSystemEntries" + SPACE + b"><Files>", many(b'<FileEntry Href="/api/a"/>')
        ),
    ),
    "mounts": (
        MOUNTS,
        lambda: after(
            BODY + b"<VmReplicaPointMounts" + SPACE + b">",
            many(
                b'<VmReplicaPointMount Href="/api/vmReplicaPoints/%s/mounts/1"/>' % POINT.encode()
            ),
        ),
    ),
    "JSON: levels of lists": (JSON.tasks, lambda: after(IN_JSON, many(b"["))),
    "JSON: levels of objects": (JSON.tasks, lambda: after(IN_JSON, many(b'{"a":'))),
    "JSON: levels of a whole one": (JSON.task, lambda: after(BODY, many(b'{"a":'))),
    "JSON: objects in a row": (JSON.tasks, lambda: after(IN_JSON + b'{"a":[', many(b'{"":0},'))),
    "JSON: lists in a row": (JSON.tasks, lambda: after(IN_JSON + b"[", many(b"[],"))),
    "JSON: objects in a whole one": (JSON.task, lambda: after(BODY + b'{"a":[', many(b'{"":0},'))),
    "JSON: lists in a whole one": (JSON.task, lambda: after(BODY + b'{"a":[', many(b"[],"))),
    "JSON: a text": (JSON.tasks, lambda: after(IN_JSON + b'{"TaskId":"', many(b"a"))),
    "JSON: a wide text": (JSON.tasks, lambda: after(IN_JSON + b'{"TaskId":"', many(WIDE))),
    "JSON: a wide text in a whole one": (JSON.task, lambda: after(BODY + b'{"a":"', many(WIDE))),
    "JSON: quotes": (JSON.tasks, lambda: after(IN_JSON + b'"', many(b'\\"'))),
    "JSON: digits": (JSON.tasks, lambda: after(IN_JSON, many(b"9"))),
    "JSON: ever new names": (JSON.tasks, lambda: after(BODY + b"{", numbered(b'"a%d":0,'))),
    "JSON: ever new names in a row": (
        JSON.tasks,
        lambda: after(IN_JSON + b"{", numbered(b'"a%d":0,')),
    ),
    "JSON: blank": (JSON.tasks, lambda: after(IN_JSON, many(b" \n"))),
    "JSON: a whole one blank": (JSON.task, lambda: after(BODY, many(b" \n"))),
    "JSON: tasks": (JSON.tasks, lambda: after(IN_JSON, numbered(b'{"TaskId":"t-%d"},'))),
    "JSON: rows that are none": (JSON.tasks, lambda: after(IN_JSON, many(b"{},"))),
    "JSON: nulls": (JSON.tasks, lambda: after(IN_JSON, many(b"null,"))),
    "JSON: rows of another kind": (
        JSON.tasks,
        lambda: after(BODY + b'{"Resources":{"Odd":{"Odds":[', many(b'{"a":0},')),
    ),
    "JSON: mounts": (JSON.mounts, lambda: after(BODY + b'{"VmReplicaPointMounts":[', many(b"{},"))),
    "an error in JSON lists": (ANY, lambda: after(BAD + LONG, many(b"["))),
    "an error in JSON objects": (ANY, lambda: after(BAD + LONG + b"[", many(b"{},"))),
    "an error in JSON numbers": (ANY, lambda: after(BAD + LONG, many(b"9"))),
    "an error in a page": (ANY, lambda: after(BAD + LONG, many(b"<title"))),
    "an error in titles": (ANY, lambda: after(BAD + LONG, many(b"<title>"))),
    "headers": (ANY, lambda: after(OK, numbered(b"X-Header-%d: value\r\n"))),
    "a header": (ANY, lambda: after(OK + b"X-Header: ", many(b"a"))),
    "a status": (ANY, lambda: after(b"HTTP/1.1 200 ", many(b"a"))),
    "preliminary answers": (ANY, lambda: many(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "a chunk's size": (
        ANY,
        lambda: after(OK + b"Transfer-Encoding: chunked\r\n\r\n", many(b"0")),
    ),
    "trailers": (
        ANY,
        lambda: after(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", numbered(b"X-%d: a\r\n")),
    ),
}
"""What the server sends, and what it was asked for. None of them ever ends by itself."""

ENDLESS = {"preliminary answers", "a chunk's size"}
"""What only the total timeout ends."""
HARMLESS = {"comments", "blank", "tasks with links", "JSON: blank"}
"""What leaves nothing behind but ends only at the cap: a smaller one, to be quicker."""


@contextlib.asynccontextmanager
async def bombing() -> AsyncIterator[tuple[int, dict[str, Pieces]]]:
    """Serve one bomb per connection; yield the port, and where the next bomb is put."""
    laid: dict[str, Pieces] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in laid["next"]:
                writer.write(piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], laid
    finally:
        server.close()


def peak_kb() -> int:
    """Return the highest resident memory so far of this program, in KB; and begin anew."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return int(found.split()[1])


async def taken(name: str, port: int, laid: dict[str, Pieces]) -> str:
    """Take one bomb in; return the class of the error it became."""
    reading, pieces = BOMBS[name]
    async with transport_to(port) as transport:
        laid["next"] = pieces()
        try:
            await transport.send(
                "GET",
                "/api/tasks",
                reading,
                cap=LARGE // 8 if name in HARMLESS else LARGE,
                timeout=Patience(0.5 if name in ENDLESS else 30.0, 2.0),
            )
        except EnterpriseManagerError as exc:
            return type(exc).__name__ if len(str(exc)) < 1000 else "an endless message"
        return "taken"


async def main(names: list[str]) -> None:
    """Take in these bombs, and print a line of JSON about each."""
    async with bombing() as (port, laid):
        await taken("levels", port, laid)  # whatever is made once is made now
        base = peak_kb()
        for name in names or list(BOMBS):
            began, used = time.monotonic(), time.process_time()
            error = await taken(name, port, laid)
            row = {
                "bomb": name,
                "error": error,
                "growth_mb": round((peak_kb() - base) / 1024, 1),
                "took_s": round(time.monotonic() - began, 2),
                "cpu_s": round(time.process_time() - used, 2),
            }
            sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:])
