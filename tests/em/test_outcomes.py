"""What every status means with every kind of body: whose word it is decides, not the number."""

from __future__ import annotations

import pytest

from orchestrator.core.errors import (
    AccessDenied,
    AnsweredByPage,
    EmptyAnswer,
    EnterpriseManagerError,
    ForeignAnswer,
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
from orchestrator.em.transport import Transport
from orchestrator.em.wire import XmlCodec
from tests.em.documents import MOUNT, NAMESPACE, POINT, sample
from tests.em.rawserver import Reply, reply, talking

pytestmark = pytest.mark.anyio

CODEC = XmlCodec()
MOUNTS = f"/api/vmReplicaPoints/{POINT}/mounts"
FILE = f"{MOUNT}/C%3A/notes.txt?action=restore"
SYSTEM = {"Server": "Microsoft-HTTPAPI/2.0", "Content-Type": "text/html"}
PAGE = b"<html><head><title>Sorry</title></head><body>later</body></html>"
SAYINGS = (400, 403, 404, 405, 408, 410, 414, 425, 429, 431, 500, 501, 502, 503, 504, 505, 520, 524)


@pytest.fixture
def anyio_backend() -> str:
    """Real sockets need real time."""
    return "asyncio"


def own_xml(status: int) -> Reply:
    """Return the service's Error."""
    body = f'<Error xmlns="{NAMESPACE}" Message="No." StatusCode="{status}" />'
    return reply(status, body.encode())


def own_json(status: int) -> Reply:
    """Return the service's error in JSON, in the case of its newest version."""
    body = b'{"message": "No.", "stackTrace": null, "statusCode": %d}' % status
    return reply(status, body, {"Content-Type": "application/json"})


def system_page(status: int) -> Reply:
    """Return what HTTP.sys answers for a service that is stopped or too busy."""
    return reply(status, b"<!DOCTYPE HTML PUBLIC><HTML><TITLE>No</TITLE></HTML>", SYSTEM)


def half(answer: Reply) -> Reply:
    """Return an answer that ends before its own length."""
    return Reply(answer.data[:-30], "close")


FOREIGN = {
    "a page": lambda status: reply(status, PAGE, {"Server": "nginx", "Retry-After": "5"}),
    "a page of .NET's web server": lambda status: reply(status, PAGE, {"Server": "Microsoft-IIS"}),
    "JSON": lambda status: reply(status, b'{"message": "no healthy upstream"}'),
    "a list in JSON": lambda status: reply(status, b'[{"message": "no", "statuscode": 503}]'),
    "XML of its own": lambda status: reply(
        status, b'<Error Message="No." StatusCode="503"><Code>SlowDown</Code></Error>'
    ),
    "words": lambda status: reply(status, b"404 page not found"),
    "nothing": lambda status: reply(status, b"", {"Server": "Microsoft-HTTPAPI/2.0"}),
    "half of the service's error": lambda status: half(own_xml(status)),
    "half of the service's error, said to be all": lambda status: reply(
        status, own_xml(status).data.partition(b"\r\n\r\n")[2][:-20], SYSTEM
    ),
    "half of a page": lambda status: half(system_page(status)),
}
OWN = {"XML": own_xml, "JSON": own_json}

Kind = type[EnterpriseManagerError]


async def outcome(answer: Reply, method: str, target: str, *, mount_post: bool = False) -> Kind:
    """Return the error that one request ends with, which is sent once."""

    async def ask(transport: Transport) -> None:
        body = b"<x/>" if method == "POST" else None
        await transport.send(method, target, CODEC.task, body=body, mount_post=mount_post)

    async with talking(lambda n, r: answer) as (server, transport):
        with pytest.raises(EnterpriseManagerError) as failure:
            await ask(transport)

    assert failure.value.server == "hq"
    assert len(server.requests) == 1
    return type(failure.value)


async def acting(answer: Reply) -> list[Kind]:
    """Return the errors of a mount, a write, a staging, an unmount and a logoff."""
    return [
        await outcome(answer, "POST", MOUNTS, mount_post=True),
        await outcome(answer, "POST", FILE, mount_post=True),
        await outcome(answer, "POST", FILE),
        await outcome(answer, "DELETE", MOUNT),
        await outcome(answer, "DELETE", f"/api/logonSessions/{POINT}"),
    ]


async def reading(answer: Reply) -> Kind:
    """Return the error of a read."""
    return await outcome(answer, "GET", "/api/tasks/task-12")


@pytest.mark.parametrize("status", [301, 307, 299, 401, *SAYINGS])
@pytest.mark.parametrize("body", FOREIGN)
async def test_a_strangers_answer_leaves_in_doubt_what_acts(body: str, status: int) -> None:
    """Traps 44, 45 and 50: a proxy answers anything after the service has acted."""
    found = await acting(FOREIGN[body](status))

    if (status, body) == (401, "nothing"):
        assert set(found) == {SessionLost}  # an empty 401 of the service's own system
    else:
        assert set(found) == {ResponseLost}


@pytest.mark.parametrize("status", [401, *SAYINGS])
@pytest.mark.parametrize("body", FOREIGN)
async def test_a_strangers_answer_says_nothing_about_the_thing(body: str, status: int) -> None:
    """Trap 50: no page means that a task, a mount or a session is gone, or forbidden."""
    found = await reading(FOREIGN[body](status))

    assert not issubclass(found, NotFound | AccessDenied | RequestNotSent)
    if (status, body) == (401, "nothing"):
        assert found is SessionLost
    elif body in {"half of the service's error", "half of a page"}:
        assert found is ResponseLost
    elif status in {408, 429, 502, 503, 504}:
        assert found is ServiceBusy
    else:
        assert found is (PageNotFound if status == 404 else AnsweredByPage)


BUSY = dict.fromkeys((408, 429, 502, 503, 504), ServiceBusy)
MEANT: dict[int, Kind] = {401: SessionLost, 403: AccessDenied, 404: NotFound, **BUSY}


@pytest.mark.parametrize("status", [401, *SAYINGS])
@pytest.mark.parametrize("body", OWN)
async def test_the_services_own_words_are_believed(body: str, status: int) -> None:
    """A refusal is one; only what is started once may have begun before an internal error."""
    answer = OWN[body](status)
    mount, write, staging, unmount, logoff = await acting(answer)

    meant = MEANT.get(status, RequestRefused)
    assert {await reading(answer), staging, unmount, logoff} == {meant}
    begun = status >= 500 and status not in {501, 503, 505}
    assert {mount, write} == {ResponseLost if begun else meant}


@pytest.mark.parametrize("status", SAYINGS)
async def test_a_page_of_the_services_system_was_not_begun(status: int) -> None:
    """Source: reference 1.2: HTTP.sys answers for a service that has not seen the request.

    It is no word about the thing: while the service is stopped, everything is a 404.
    """
    answer = system_page(status)
    mount, write, staging, unmount, logoff = await acting(answer)

    meant = PageNotFound if status == 404 else MEANT.get(status, RequestRefused)
    assert {await reading(answer), staging, unmount, logoff} == {meant}
    assert not issubclass(meant, NotFound)
    begun = status >= 500 and status not in {501, 503, 505}
    assert {mount, write} == {ResponseLost if begun else meant}


async def test_the_500_of_an_unknown_task_is_not_found_in_the_services_words_only() -> None:
    """Trap 10: it is a 500, not a 404; a proxy that quotes it says nothing."""
    unknown = sample("error.500.task-not-in-session")
    quoted = b"<html><title>There is no backup task with id [task-12]</title></html>"

    assert await reading(reply(500, unknown)) is NotFound
    assert await reading(reply(500, quoted)) is AnsweredByPage


@pytest.mark.parametrize(
    ("headers", "meant"),
    [
        ({"WWW-Authenticate": "Basic Realm=RestSvc"}, SessionLost),
        ({"Server": "Microsoft-HTTPAPI/2.0"}, SessionLost),
        ({"WWW-Authenticate": "Basic realm=proxy"}, AnsweredByPage),
        ({}, AnsweredByPage),
    ],
)
async def test_an_empty_401_is_believed_with_the_services_challenge(
    headers: dict[str, str], meant: Kind
) -> None:
    """Source: reference 2.3; without it nobody knows who wants to be told a password."""
    assert await reading(reply(401, b"", headers)) is meant


@pytest.mark.parametrize("answer", [own_xml(401), reply(401, PAGE), reply(401, b"")])
async def test_a_401_at_the_logon_is_never_repeated_whoever_says_it(answer: Reply) -> None:
    """Trap 19: accounts lock, also behind a proxy that answers in its own words."""
    async with talking(lambda n, r: answer) as (server, transport):
        transport.use_token(None)
        with pytest.raises(LogonRefused):
            await transport.send("POST", "/api/sessionMngr/?v=latest", CODEC.logon, body=b"")

    assert len(server.requests) == 1


@pytest.mark.parametrize("header", ["Via", "X-Squid-Error"])
async def test_a_refused_logon_behind_a_proxy_names_the_proxy(header: str) -> None:
    """Trap 53: Squid removes Authorization, and a correct password is refused."""
    answer = reply(401, sample("error.401"), {header: "1.1 gate (squid)"})
    async with talking(lambda n, r: answer) as (_, transport):
        transport.use_token(None)
        with pytest.raises(LogonRefused, match="proxy is in between"):
            await transport.send("POST", "/api/sessionMngr/?v=latest", CODEC.logon, body=b"")


NO_ANSWERS = {
    "204": reply(204, b""),
    "nothing": reply(200, b""),
    "a page": reply(200, PAGE),
    "a well-formed page": reply(
        200, b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body/></html>'
    ),
    "a task of nobody": reply(200, b"<Task><TaskId>task-12</TaskId></Task>"),
    "half a task": reply(202, sample("task.mount.running.wire")[:-9]),
    "an error": reply(200, sample("error.500")),
}


@pytest.mark.parametrize("what", NO_ANSWERS)
async def test_a_success_without_its_body_is_no_answer(what: str) -> None:
    """What acts is in doubt; what reads is malformed, and an empty one may be read again."""
    answer = NO_ANSWERS[what]

    for target, mount_post in ((MOUNTS, True), (FILE, True), (FILE, False)):
        assert await outcome(answer, "POST", target, mount_post=mount_post) is ResponseLost
    empty = what in {"204", "nothing"}
    strange = what in {"a page", "a well-formed page", "a task of nobody"}
    kind = EmptyAnswer if empty else ForeignAnswer if strange else MalformedResponse
    assert await reading(answer) is kind


async def test_an_answer_without_its_body_is_read_again() -> None:
    """One empty answer among good ones costs nothing."""
    async with talking(lambda n, r: reply(204, b"") if n == 1 else reply()) as (_, transport):
        task = await transport.get("/api/tasks/task-12", CODEC.task)

    assert task.id == "task-12"
