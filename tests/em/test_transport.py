"""One request over a real socket: was it sent, what does the answer mean, what is never done."""

from __future__ import annotations

import gzip
import inspect
import json
import random
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Literal

import aiohttp
import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import (
    AnsweredByPage,
    EmptyAnswer,
    EnterpriseManagerError,
    ForbiddenAction,
    LogonRefused,
    MalformedResponse,
    NotFound,
    PageNotFound,
    RequestNotSent,
    RequestRefused,
    ResponseLost,
    ServiceBusy,
    SessionLost,
)
from orchestrator.core.model import ServerName, Task
from orchestrator.core.version import __version__
from orchestrator.em import limits
from orchestrator.em.connector import endpoint
from orchestrator.em.meanings import retry_after
from orchestrator.em.transport import Answer, Transport
from orchestrator.em.wire import XmlCodec
from orchestrator.plan.file.access import NoTrust
from tests.em.documents import MOUNT, POINT, document, sample
from tests.em.rawserver import Reply, Request, raw_server, reply, talking, transport_to

pytestmark = pytest.mark.anyio

CODEC = XmlCodec()
MOUNTS = f"/api/vmReplicaPoints/{POINT}/mounts"
HASTY = limits.Patience(5.0, 0.2)


@pytest.fixture
def anyio_backend() -> str:
    """Real sockets need real time."""
    return "asyncio"


async def start(
    transport: Transport, timeout: limits.Patience = limits.POST
) -> tuple[Answer, Task]:
    """Post a mount."""
    return await transport.send(
        "POST", MOUNTS, CODEC.task, body=b"<x/>", mount_post=True, timeout=timeout
    )


async def reading(transport: Transport) -> Task:
    """Read a task."""
    return await transport.get("/api/tasks/task-12", CODEC.task)


async def test_the_token_goes_into_a_header_and_nowhere_else() -> None:
    """Traps 4 and 14: no cookie is ever sent back, no User-Agent or URL holds the token."""
    cookie = {"Set-Cookie": "X-RestSvcSessionId=ab/cd+ef==; Path=/api;"}
    async with talking(lambda n, r: reply(headers=cookie)) as (server, transport):
        for _ in range(3):
            await transport.get("/api/tasks/task-12", CODEC.task)

    for request in server.requests:
        assert request.headers["x-restsvcsessionid"] == "ab/cd+ef=="
        assert "cookie" not in request.headers
        assert "ab/cd" not in request.target + request.headers["user-agent"]


async def test_each_header_is_sent_once_and_nothing_else() -> None:
    """Whatever aiohttp adds by itself: a server, or a proxy, sees just these."""
    async with talking(lambda n, r: reply(202)) as (server, transport):
        transport.speak("application/json")
        await transport.get("/api/tasks/task-12", CODEC.task)
        await transport.send("DELETE", f"{MOUNTS}/1", CODEC.task)
        await start(transport)
        await transport.send("POST", MOUNTS, CODEC.task, headers={"Authorization": "Basic eA=="})
        transport.use_token(None)
        await transport.get("/api/tasks/task-12", CODEC.task)

    always = [
        f"Host: 127.0.0.1:{server.port}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        f"User-Agent: bulk-restore/{__version__}",
    ]
    token = "X-RestSvcSessionId: ab/cd+ef=="
    assert [sorted(request.lines) for request in server.requests] == [
        sorted([*always, *more])
        for more in (
            [token],
            [token, "Content-Length: 0"],
            [token, "Content-Length: 4", "Content-Type: application/json"],
            [token, "Content-Length: 0", "Authorization: Basic eA=="],
            [],
        )
    ]


@pytest.mark.parametrize(
    ("host", "shown"), [("em01.dr.example:443", "em01.dr.example"), ("[::1]:9398", "[::1]:9398")]
)
async def test_the_host_is_written_as_http_asks_for(host: str, shown: str) -> None:
    """Without the port that https has anyway, and with the brackets of an address of IPv6."""
    made = Transport(
        ServerName("hq"),
        f"https://{host}",
        NoTrust(),
        rng=random.Random(1),
        media_type="application/xml",
    )
    try:
        assert made._kept.headers["Host"] == shown
    finally:
        await made.close()


async def test_it_is_known_where_the_server_answers() -> None:
    """In one spelling, and only after something was connected."""
    async with raw_server(lambda n, r: reply()) as server, transport_to(server.port) as transport:
        assert transport.endpoints == frozenset()
        await reading(transport)
        assert transport.endpoints == {f"127.0.0.1:{server.port}"}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("10.0.0.5", 9398), "10.0.0.5:9398"),
        (("::ffff:10.0.0.5", 9398, 0, 0), "10.0.0.5:9398"),
        (("FE80::1%eth0", 9398, 0, 2), "[fe80::1]:9398"),
        ("/run/socket", None),
        (None, None),
    ],
)
def test_a_place_has_one_spelling(address: object, expected: str | None) -> None:
    """However the socket writes it; what is no IP address identifies nothing."""
    assert endpoint(address) == expected


async def test_one_media_type_is_asked_for_and_sent() -> None:
    """Traps 21 and 23: Accept names one type, a body has the same, no octet-stream anywhere."""
    async with talking(lambda n, r: reply(202)) as (server, transport):
        await start(transport)
        await transport.send("POST", MOUNTS, CODEC.task, body=b"")
        await transport.send("POST", MOUNTS, CODEC.task)
        await transport.get("/api/tasks/task-12", CODEC.task)

    posted, empty, bare, read = server.requests
    assert {request.headers["accept"] for request in server.requests} == {"application/xml"}
    assert posted.headers["content-type"] == empty.headers["content-type"] == "application/xml"
    assert posted.body == b"<x/>"
    assert empty.headers["content-length"] == "0"
    assert "content-type" not in {**bare.headers, **read.headers}


async def test_a_body_whose_connection_ended_before_it_was_asked_for_is_a_lost_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """aiohttp raises a bare RuntimeError then, and other ones stay bugs."""
    words = [aiohttp_words(), "something else"]

    async def ended(*_: object, **__: object) -> None:
        raise RuntimeError(words.pop(0))

    async with talking(lambda n, r: reply(202)) as (_server, transport):
        monkeypatch.setattr(transport, "_read", ended)
        with pytest.raises(ResponseLost):
            await start(transport)
        with pytest.raises(RuntimeError, match="something else"):
            await start(transport)


def aiohttp_words() -> str:
    """Return what aiohttp raises, from its own source: another version may say it differently."""
    source = inspect.getsource(aiohttp.StreamReader._wait)
    return source.partition('RuntimeError("')[2].partition('"')[0]


async def test_a_forbidden_action_is_stopped_before_the_network() -> None:
    """Trap 1: the last line of defence stands in the transport itself."""
    async with talking(lambda n, r: reply()) as (server, transport):
        with pytest.raises(ForbiddenAction):
            await transport.send(
                "POST", f"/api/vmReplicaPoints/{POINT}?action=failover", CODEC.task, body=b""
            )
        assert transport.requests == 0

    assert server.connections == 0


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_redirect_is_not_followed(method: str, status: int) -> None:
    """Trap 2: the token goes to no other address, and a POST is not replayed there."""
    async with raw_server(lambda n, r: reply()) as other:
        away = {"Location": f"http://127.0.0.1:{other.port}/api/tasks"}
        async with talking(lambda n, r: reply(status, b"", away)) as (server, transport):
            kind = MalformedResponse if method == "GET" else ResponseLost
            with pytest.raises(kind, match=str(status)):
                await transport.send(method, MOUNTS, CODEC.task)

    assert (len(server.requests), other.connections) == (1, 0)


# --- what an answer means -----------------------------------------------------------------------

UNKNOWN_TASK = sample("error.500.task-not-in-session")


async def test_a_401_without_a_token_is_a_refused_logon() -> None:
    """Trap 19: at the logon it is the account, later it is the session."""
    async with talking(lambda n, r: reply(401, sample("error.401"))) as (server, transport):
        transport.use_token(None)
        with pytest.raises(LogonRefused):
            await transport.send("POST", "/api/sessionMngr/?v=latest", CODEC.logon, body=b"")

    assert len(server.requests) == 1


async def test_a_web_page_with_200_is_a_wrong_port() -> None:
    """Trap 30: another service's page is no answer, and the message says what to look at."""
    page = b"<!DOCTYPE html><html><title>Backup</title></html>"
    async with talking(lambda n, r: reply(200, page)) as (_, transport):
        with pytest.raises(MalformedResponse, match="9398"):
            await transport.get("/api/tasks", CODEC.tasks)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br"])
async def test_a_compressed_answer_is_refused(encoding: str) -> None:
    """A few bytes never become gigabytes: compression is not asked for and not taken."""
    bomb = gzip.compress(b"<Task>" + b" " * 1_000_000)
    headers = {"Content-Encoding": encoding}
    async with talking(lambda n, r: reply(200, bomb, headers)) as (server, transport):
        with pytest.raises(MalformedResponse, match="compressed"):
            await transport.get("/api/tasks", CODEC.tasks)

    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [200, 500])
async def test_an_endless_answer_ends_at_the_cap(status: int) -> None:
    """Whatever Content-Length says, no more than the cap is kept in memory."""
    body = document("<a/>" * 2_000_000)
    async with talking(lambda n, r: reply(status, body, then="close")) as (_, transport):
        with pytest.raises((MalformedResponse, RequestRefused)) as failure:
            await transport.send("GET", "/api/tasks", CODEC.anything, cap=1000)

    assert isinstance(failure.value, MalformedResponse if status == 200 else RequestRefused)
    assert len(str(failure.value)) < 1000


# --- was it sent? -------------------------------------------------------------------------------

HALF = reply(202).data[:-40]
LOST = {
    "closed without a word": Reply(b"", "close"),
    "reset without a word": Reply(b"", "reset"),
    "closed within the headers": Reply(HALF[:30], "close"),
    "closed within the body": Reply(HALF, "close"),
    "reset within the body": Reply(HALF, "reset"),
    "no HTTP at all": Reply(b"SSH-2.0-OpenSSH_9.7\r\n\r\n", "close"),
    "silence": Reply(b"", "silence"),
    "silence within the body": Reply(HALF, "silence"),
}


@pytest.mark.parametrize("what", LOST)
async def test_a_mount_whose_answer_is_lost_is_in_doubt_and_never_repeated(what: str) -> None:
    """Trap 20: once the connection stood, nothing proves that the POST was not carried out."""
    timeout = HASTY if "silence" in what else limits.POST
    async with talking(lambda n, r: LOST[what]) as (server, transport):
        with pytest.raises(ResponseLost):
            await start(transport, timeout)
        assert (transport.requests, transport.retries) == (1, 0)

    assert len(server.requests) == 1


async def test_a_mount_posted_long_after_the_last_one_gets_a_new_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trap 20: a connection that idled may be dead, and would lose the answer."""
    now = 0.0
    monkeypatch.setattr("aiohttp.connector.monotonic", lambda: now)
    async with talking(lambda n, r: reply(202)) as (server, transport):
        await start(transport)
        now += limits.FRESH_S / 2
        await start(transport)
        together = server.connections
        now += limits.FRESH_S * 2
        await start(transport)

    assert (together, server.connections) == (1, 2)


async def test_a_mount_goes_out_on_the_connection_of_the_read_just_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It costs no handshake; once that read is too long ago, it does, and the read's one stays."""
    now = 0.0
    monkeypatch.setattr("aiohttp.connector.monotonic", lambda: now)
    monkeypatch.setattr("orchestrator.em.posting.monotonic", lambda: now)
    async with talking(lambda n, r: reply(202)) as (server, transport):
        await reading(transport)
        await start(transport)
        together = server.connections
        now += limits.FRESH_S * 1.01
        await start(transport)
        apart = server.connections
        await reading(transport)
        await start(transport)

    assert (together, apart, server.connections) == (1, 2, 2)


async def test_a_mount_takes_the_connection_of_the_newest_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many are kept: one that idled too long is never taken in its place."""
    now = 0.0
    monkeypatch.setattr("aiohttp.connector.monotonic", lambda: now)
    monkeypatch.setattr("orchestrator.em.posting.monotonic", lambda: now)
    async with talking(lambda n, r: reply(202)) as (server, transport):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(reading, transport)
        now += limits.FRESH_S * 2
        await reading(transport)
        read = server.requests[-1].client
        await start(transport)
        await start(transport)

    assert server.connections == 3
    assert [each.client for each in server.requests[-2:]] == [read, read]


async def test_a_mount_waits_for_no_read_and_no_read_for_it() -> None:
    """While all kept connections are in use a POST has one of its own."""
    asked = anyio.Event()

    def script(number: int, request: Request) -> Reply:
        if number == limits.CONNECTIONS:
            asked.set()
        return reply(202) if request.method == "POST" else Reply(b"", "silence")

    async with talking(script) as (server, transport), anyio.create_task_group() as tasks:
        for _ in range(limits.CONNECTIONS):
            tasks.start_soon(reading, transport)
        await asked.wait()
        await start(transport)
        tasks.cancel_scope.cancel()

    assert server.connections == limits.CONNECTIONS + 1


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_mount_does_not_take_a_connection_that_was_closed(
    then: Literal["close", "reset"],
) -> None:
    """Not even just after its answer."""
    async with talking(lambda n, r: reply(202, then=then if n == 1 else "keep")) as (
        server,
        transport,
    ):
        await reading(transport)
        await anyio.sleep(0.2)
        await start(transport)

    assert server.connections == 2


@pytest.mark.parametrize("what", [name for name in LOST if "silence" not in name])
async def test_a_lost_answer_to_a_read_is_asked_for_again(what: str) -> None:
    """A GET changes nothing, so it is repeated a little."""
    async with talking(lambda n, r: LOST[what] if n <= 1 else reply()) as (server, transport):
        task = await transport.get("/api/tasks/task-12", CODEC.task)

        assert task.id == "task-12"
    assert all(request.method == "GET" for request in server.requests)


@pytest.mark.parametrize(
    ("answer", "error", "times"),
    [
        (reply(500, sample("error.500")), RequestRefused, 3),
        (reply(500, UNKNOWN_TASK), NotFound, 1),
        (reply(503, b""), ServiceBusy, 1),
        (reply(404, sample("error.404")), NotFound, 1),
        (reply(404, b""), PageNotFound, 3),
        (reply(403, b"<html>no</html>"), AnsweredByPage, 3),
        (reply(401, sample("error.401")), SessionLost, 1),
        (reply(204, b""), EmptyAnswer, 3),
        (reply(200, b""), EmptyAnswer, 3),
        (reply(200, b"<Task"), MalformedResponse, 1),
    ],
)
async def test_only_reads_that_may_do_better_are_repeated(
    answer: Reply, error: type[EnterpriseManagerError], times: int
) -> None:
    """Trap 16: a 401 is not repeated, nor a busy server's 503; a 500 is, three times in all.

    So are a page in place of an answer, and an answer without its body.
    """
    async with talking(lambda n, r: answer) as (server, transport):
        with pytest.raises(error):
            await transport.get("/api/tasks/task-12", CODEC.task)
        assert (transport.requests, transport.retries) == (times, times - 1)

    assert len(server.requests) == times


async def test_without_a_connection_nothing_was_sent() -> None:
    """A refused connection proves that the mount was not started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # nobody else can listen there meanwhile
        async with transport_to(port) as transport:
            with pytest.raises(RequestNotSent, match="cannot be reached"):
                await start(transport)


ECHO = "no session ab/cd+ef==, no account Basic YW5uYTpzZWNyZXQ= (secret)"


@pytest.mark.parametrize(
    "answer",
    [
        LOST["reset without a word"],
        reply(401, b""),
        reply(401, sample("error.401").replace(b'Message="', f'Message="{ECHO}'.encode())),
        reply(500, json.dumps({"Message": f"{'x' * 290}{ECHO}"}).encode()),
        reply(403, f"<html><title>{ECHO}</title>".encode()),
        reply(400, ECHO.encode()),
    ],
)
async def test_errors_hold_no_secret(answer: Reply) -> None:
    """Trap 4: neither token nor Authorization stands in a message or its chain."""
    authorization = {"Authorization": "Basic YW5uYTpzZWNyZXQ="}
    async with talking(lambda n, r: answer) as (_, transport):
        transport.hide("secret")
        transport.hide("YW5uYTpzZWNyZXQ=")
        with pytest.raises(EnterpriseManagerError) as failure:
            await transport.send("DELETE", MOUNT, CODEC.task, headers=authorization)

    error = failure.value
    shown = f"{error!r} {error} {vars(error)}"
    assert error.__suppress_context__ or error.__context__ is None
    assert "ab/cd" not in shown
    assert "YW5u" not in shown
    assert "secret" not in shown


async def test_idle_time_counts_from_the_last_answer() -> None:
    """Trap 15: idle time counts from the last answer."""
    async with talking(lambda n, r: reply()) as (_, transport):
        before = transport.last_used
        await anyio.sleep(0.01)
        await transport.get("/api/tasks/task-12", CODEC.task)

        assert transport.last_used > before


# --- Retry-After --------------------------------------------------------------------------------

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("0", 0.0),
        (" 30 ", 30.0),
        ("301", 300.0),
        ("9" * 5000, 300.0),
        (format_datetime(NOW + timedelta(seconds=45), usegmt=True), 45.0),
        (format_datetime(NOW + timedelta(days=9000), usegmt=True), 300.0),
        (format_datetime(NOW - timedelta(hours=1), usegmt=True), 0.0),
        ("Mon, 23 Nov 2026 06:00:20", 20.0),
        ("Mon, 99 Nov 2026 06:00:20 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_absurd(
    value: str | None, seconds: float | None
) -> None:
    """A server may ask for at most five minutes; nonsense is as good as absent."""
    assert retry_after(value, NOW) == seconds


@given(st.text(max_size=40))
def test_any_retry_after_is_nothing_or_a_short_pause(value: str) -> None:
    """No header value breaks the reading."""
    pause = retry_after(value, NOW)

    assert pause is None or 0.0 <= pause <= 300.0


async def test_a_busy_servers_wish_is_kept() -> None:
    """The pause travels with the error, for the gate to obey."""
    own = sample("error.503")
    async with talking(lambda n, r: reply(503, own, {"Retry-After": "7"})) as (_, transport):
        with pytest.raises(ServiceBusy) as busy:
            await start(transport)

    assert busy.value.retry_after_s == 7.0
