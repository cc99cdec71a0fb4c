"""Mounts, tasks and guest directories against a simulated server, on virtual time."""

from __future__ import annotations

import anyio
import pytest
from aiohttp import web

from orchestrator.core.errors import (
    NotFound,
    RequestNotSent,
    RequestRefused,
    ResponseLost,
    ServiceBusy,
)
from orchestrator.core.model import OsKind, RestorePointId, Source, TaskId
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from tests.em.documents import POINT, document, sample
from tests.em.logons import MOUNT_S, desk, mounted
from tests.em.rawserver import Request

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("os_kind", OsKind)
async def test_a_mount_names_its_system(monkeypatch: pytest.MonkeyPatch, os_kind: OsKind) -> None:
    """Traps 22 and 24: OsKind is always explicit, also where it is the server's default."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        point = at.point(os_kind.value)
        task = await session.start_mount(RestorePointId(point.id), Source.REPLICA, os_kind)
        await anyio.sleep(MOUNT_S + 1.0)
        (mount,) = await session.mounts(RestorePointId(point.id), Source.REPLICA)

    (posted,) = at.sent("POST", "/mounts")
    assert task.id == "task-1"
    assert f"<OsKind>{os_kind.value}</OsKind>".encode() in posted.body
    assert posted.headers["accept"] == posted.headers["content-type"] == "application/xml"
    assert mount.roots


async def test_an_agents_mount_has_no_documented_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 23: an empty body without an automatic octet-stream."""

    def accepted(request: Request) -> web.Response | None:
        if "/agents/" not in request.target:
            return None
        return web.Response(status=202, body=sample("task.mount.running"))

    async with desk(monkeypatch, override=accepted) as at, at.client.logon() as session:
        await session.start_mount(RestorePointId(POINT), Source.AGENT, OsKind.LINUX)

    (posted,) = at.sent("POST", "agentRestorePoints")
    assert posted.body == b""
    assert posted.headers.get("content-type") == "application/xml"


@pytest.mark.parametrize(
    ("fault", "error", "made"),
    [
        (Fault(kind="drop_before", method="POST", path="/mounts$"), ResponseLost, 0),
        (Fault(kind="drop_after", method="POST", path="/mounts$"), ResponseLost, 1),
        (Fault(kind="reset_mid_body", method="POST", path="/mounts$"), ResponseLost, 1),
        (Fault(kind="black_hole", method="POST", path="/mounts$"), ResponseLost, 0),
        (Fault(kind="error_500", method="POST", path="/mounts$"), ResponseLost, 0),
        (Fault(kind="truncated", method="POST", path="/mounts$"), ResponseLost, 1),
        (Fault(kind="html_200", method="POST", path="/mounts$"), ResponseLost, 0),
        (Fault(kind="html_503", method="POST", path="/mounts$"), ServiceBusy, 0),
    ],
)
async def test_a_mount_is_posted_once_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, fault: Fault, error: type[Exception], made: int
) -> None:
    """Trap 20: no trouble makes the client send it again."""
    async with desk(monkeypatch, faults=[fault]) as at, at.client.logon() as session:
        with pytest.raises(error):
            await session.start_mount(RestorePointId(at.point().id), Source.REPLICA, OsKind.WINDOWS)

    assert len(at.sent("POST", "/mounts")) == 1
    assert len(at.manager.truth.mounts) == made
    assert at.manager.truth.dangerous == 0


@pytest.mark.parametrize("trouble", ["refusing", "swallowing"])
async def test_a_mount_that_could_not_be_sent_was_not_sent(
    monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """No connection, refused or swallowed: nothing can have been started."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        at.network.cut("em-hq.example.net")
        getattr(at.network, trouble).add("em-hq.example.net")
        with pytest.raises(RequestNotSent):
            await session.start_mount(RestorePointId(at.point().id), Source.REPLICA, OsKind.WINDOWS)
        getattr(at.network, trouble).clear()

    assert at.manager.truth.mounts == []


async def test_a_task_of_another_session_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traps 10, 11 and 12: HTTP 500 for a foreign task proves nothing; not repeated."""
    async with desk(monkeypatch) as at, at.client.logon() as first, at.client.logon() as second:
        task = await first.start_mount(
            RestorePointId(at.point().id), Source.REPLICA, OsKind.WINDOWS
        )
        with pytest.raises(NotFound) as unknown:
            await second.task(task.id)

        assert unknown.value.status == 500
        assert len(at.sent("GET", f"/tasks/{task.id}")) == 1


@pytest.mark.parametrize("filters", [True, False])
async def test_all_open_tasks_are_read_with_few_requests(
    monkeypatch: pytest.MonkeyPatch, filters: bool
) -> None:
    """Traps 26 and 38: one request for all, page size named: the default of 15 hides the rest."""
    behaviour = Behaviour(operation_finished_share=0.0, filters_tasks=filters)
    async with (
        desk(monkeypatch, behaviour=behaviour, machines=40) as at,
        at.client.logon() as session,
    ):
        for machine in at.manager.inventory.machines:
            point = RestorePointId(machine.points[0].id)
            await session.start_mount(point, Source.REPLICA, OsKind.WINDOWS)
        before = len(at.requests)
        everything = await session.tasks()
        still_open = await session.open_tasks()
        named = await session.tasks_by_id([TaskId("task-3"), TaskId("task-39")])

        assert len(everything) == len(still_open) == 40
        assert {"task-3", "task-39"} <= {task.id for task in named}
        assert len(named) == (2 if filters else 40)
        assert len(at.requests) - before == 3


async def test_a_related_link_is_only_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traps 9 and 13: the documented link leads elsewhere; the own family's address is right."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        task, mount = await mounted(session, at)

        assert task.mount is not None
        assert "vmRestorePoints" in task.mount.href
        with pytest.raises(NotFound):
            await session.mount(task.mount.href)
        assert [root.name for root in (await session.mount(mount)).roots] == [
            "Volume$0:",
            "C:",
            "E:",
        ]


@pytest.mark.parametrize("empty_is_404", [True, False])
async def test_before_the_first_mount_there_is_none(
    monkeypatch: pytest.MonkeyPatch, empty_is_404: bool
) -> None:
    """An empty list and a 404 are the same answer."""
    behaviour = Behaviour(empty_mounts_are_404=empty_is_404)
    async with desk(monkeypatch, behaviour=behaviour) as at, at.client.logon() as session:
        point = RestorePointId(at.point().id)

        assert list(await session.mounts(point, Source.REPLICA)) == []
        assert not await session.is_mounted(session.mount_href(point, Source.REPLICA, "1"))


async def test_an_unmount_may_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second DELETE finds nothing, which is what was wanted."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        assert await session.is_mounted(mount)
        await session.unmount(mount)
        await session.unmount(mount)

        assert not await session.is_mounted(mount)
        assert [fate.closed_by for fate in at.manager.truth.mounts] == ["unmounted"]


async def test_an_unmount_that_takes_a_task_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 202 is a promise: the task is read until it is Finished."""
    states = iter(["Running", "OperationFinished", "Finished"])

    def slowly(request: Request) -> web.Response | None:
        if request.method == "DELETE" and "/mounts/" in request.target:
            return web.Response(status=202, body=sample("task.mount.running"))
        if request.target.endswith("/tasks/task-12"):
            state = next(states)
            result = '<Result Success="true" />' if state == "Finished" else ""
            return web.Response(
                body=document(f"<TaskId>task-12</TaskId><State>{state}</State>{result}")
            )
        return None

    async with desk(monkeypatch, override=slowly) as at, at.client.logon() as session:
        await session.unmount(session.mount_href(RestorePointId(POINT), Source.REPLICA, "1"))

    assert next(states, None) is None
    assert len(at.sent("GET", "task-12")) == 3


OWN = document("<TaskId>task-12</TaskId>")
NO_ANSWERS = {
    "half a task": (200, OWN[:20]),
    "text": (200, b"OK"),
    "a page": (200, b"<html><title>Welcome</title></html>"),
    "an error": (200, sample("error.500")),
    "no task": (202, b""),
}


@pytest.mark.parametrize("body", [b"", OWN], ids=["empty", "a task"])
async def test_an_unmount_that_is_answered_with_200_needs_no_body(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the mount is gone is read afterwards, whatever the answer says."""

    def done(request: Request) -> web.Response | None:
        if request.method == "DELETE" and "/mounts/" in request.target:
            return web.Response(body=body)
        return None

    async with desk(monkeypatch, override=done) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        await session.unmount(mount)
        assert await session.is_mounted(mount)


@pytest.mark.parametrize("what", NO_ANSWERS)
async def test_an_unmount_that_is_answered_with_something_else_is_in_doubt(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's 200 does not say that the mount is gone; the point's own list does."""
    status, body = NO_ANSWERS[what]

    def done(request: Request) -> web.Response | None:
        if request.method == "DELETE" and "/mounts/" in request.target:
            return web.Response(status=status, body=body)
        return None

    async with desk(monkeypatch, override=done) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        with pytest.raises(ResponseLost):
            await session.unmount(mount)


async def test_an_unmount_whose_task_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished task without success is a refusal, in the server's own words."""

    def failing(request: Request) -> web.Response | None:
        if request.method == "DELETE" and "/mounts/" in request.target:
            return web.Response(status=202, body=sample("task.mount.running"))
        if request.target.endswith("/tasks/task-12"):
            return web.Response(
                body=document(
                    "<TaskId>task-12</TaskId><State>Finished</State>"
                    '<Result Success="false"><Message>The disk is busy.</Message></Result>'
                )
            )
        return None

    async with desk(monkeypatch, override=failing) as at, at.client.logon() as session:
        with pytest.raises(RequestRefused, match=r"The disk is busy\."):
            await session.unmount(session.mount_href(RestorePointId(POINT), Source.REPLICA, "1"))


async def test_a_directory_is_read_to_its_last_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traps 26 and 29: every page, at the address the server gave, encoded as it was."""
    monkeypatch.setattr("orchestrator.em.requests.PAGE_SIZE", 100)
    async with desk(monkeypatch) as at, at.client.logon() as session:
        _, mount = await mounted(session, at)
        drive = next(root for root in (await session.mount(mount)).roots if root.name == "E:")
        folders = {entry.name: entry.href for entry in await session.browse(drive.href)}
        tables = await session.browse(folders["Data"])
        odd = await session.browse(folders["100% real"])

    assert len({entry.path for entry in tables}) == len(tables) == 250
    assert len(at.sent("GET", "/E:/Data?")) == 3
    assert [entry.name for entry in odd] == ["a#b?.txt"]
    assert at.sent("GET", "/E:/100%25%20real?action=listAll")
