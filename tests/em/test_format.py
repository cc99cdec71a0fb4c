"""Which form is spoken: what the plan says, or what the server shows; on virtual time."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from aiohttp import web

from orchestrator.core.errors import (
    AddressUnusable,
    AnsweredByPage,
    MalformedResponse,
    NotFound,
    RequestRefused,
    ResponseLost,
    ServiceBusy,
    Unreadable,
)
from orchestrator.core.model import OsKind, RestorePointId, Source, TaskId
from orchestrator.em.session import Session
from orchestrator.plan.file.api_format import ApiFormat
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from tests.em.documents import sample
from tests.em.logons import STEADY, Desk, desk, mounted
from tests.em.rawserver import Request

pytestmark = pytest.mark.anyio

JSON, XML = "application/json", "application/xml"
V13 = replace(STEADY, camel_case_json=True)


def accepted(at: Desk) -> list[str]:
    """Return what each request asked for."""
    return [request.headers["accept"] for request in at.requests]


async def work(session: Session, at: Desk) -> None:
    """Do all that a run does: find a point, mount it, list a directory, stage a file, unmount."""
    machine = at.point().machine.name
    (point,) = {each.vm for each in await session.points_of_machines([machine], Source.REPLICA)}
    assert point == machine
    task, mount = await mounted(session, at)
    assert task.succeeded
    assert [each.id for each in await session.tasks()] == [task.id]
    (root, *_) = (await session.mount(mount)).roots
    listed = await session.browse(root.href)
    file = session.guest_href(mount, "C:/Windows/System32/config/SYSTEM")
    entry = await session.entry(file)
    assert listed
    assert entry.size
    await session.stage(file)
    await session.restore_to_guest(file, overwrite=True)
    await session.unmount(mount)
    assert not await session.is_mounted(mount)


@pytest.mark.parametrize("behaviour", [STEADY, V13], ids=["12", "13"])
async def test_json_is_asked_for_and_sent_by_every_request(
    monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour
) -> None:
    """Traps 21 and 31: one media type in Accept, the same in Content-Type, and never another."""
    serving = desk(monkeypatch, may_write=True, behaviour=behaviour, api_format=ApiFormat.JSON)
    async with serving as at, at.client.logon() as session:
        await work(session, at)
        assert session.simulated

    assert set(accepted(at)) == {JSON}
    bodies = [request for request in at.requests if request.body]
    assert {request.headers["content-type"] for request in bodies} == {JSON}
    assert [json.loads(request.body) for request in bodies] == [
        {"OsKind": "Windows"},
        {"ForDirectDownload": {}},
        {"ToOriginalLocation": {"Overwrite": True}},
    ]
    assert not at.manager.truth.still_open()


@pytest.mark.parametrize("wanted", [ApiFormat.AUTO, ApiFormat.XML])
async def test_a_server_that_speaks_both_is_spoken_to_in_xml(
    monkeypatch: pytest.MonkeyPatch, wanted: ApiFormat
) -> None:
    """XML never changed from version 9 to 13; nothing more is sent to find that out."""
    serving = desk(monkeypatch, may_write=True, behaviour=V13, api_format=wanted)
    async with serving as at, at.client.logon() as session:
        await work(session, at)

    assert set(accepted(at)) == {XML}
    assert at.requests[0].target.startswith("/api/sessionMngr/")
    assert len(at.sent("POST", "sessionMngr")) == 1


@pytest.mark.parametrize("behaviour", [STEADY, V13], ids=["12", "13"])
async def test_a_server_that_answers_in_json_all_the_same_is_spoken_to_in_json(
    monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour
) -> None:
    """The logon's own answer shows it: the session it opened is used, and no other one."""
    server = replace(behaviour, speaks="json")
    async with (
        desk(monkeypatch, may_write=True, behaviour=server) as at,
        at.client.logon() as session,
    ):
        await work(session, at)

    assert accepted(at)[:3] == [XML, JSON, JSON]
    assert set(accepted(at)[1:]) == {JSON}
    assert len(at.sent("POST", "sessionMngr")) == 1
    assert at.manager.truth.sessions_closed == 1


async def test_a_server_that_refuses_xml_is_logged_on_to_in_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A 406 begins nothing: the next logon is in JSON, and the refused one counts for nothing."""
    async with desk(monkeypatch, behaviour=replace(STEADY, speaks="json_406")) as at:
        with pytest.raises(ServiceBusy, match=r"406.*asked in JSON from now on"):
            async with at.client.logon():
                pass
        assert at.client.logons.wait_s == 0
        async with at.client.logon() as session:
            await session.tasks()

    assert set(accepted(at)[1:]) == {JSON}
    assert len(at.sent("POST", "sessionMngr")) == 2


@pytest.mark.parametrize("speaks", ["json", "json_406"])
async def test_what_is_asked_without_a_logon_shows_it_as_well(
    monkeypatch: pytest.MonkeyPatch, speaks: str
) -> None:
    """`check` asks for the service root first: the logon after it is in JSON at once."""
    async with desk(monkeypatch, behaviour=replace(STEADY, speaks=speaks)) as at:
        root = await at.client.service_root()
        async with at.client.logon() as session:
            await session.tasks()

    assert root.versions == ("v1_5", "v1_6", "v1_7")
    logon = at.sent("POST", "sessionMngr")
    assert [request.headers["accept"] for request in logon] == [JSON]


@pytest.mark.parametrize("speaks", ["both", "json", "json_406"])
async def test_a_session_is_taken_up_in_the_form_that_the_server_speaks(
    monkeypatch: pytest.MonkeyPatch, speaks: str
) -> None:
    """A later process finds out anew, before it does anything else in that session."""
    async with desk(monkeypatch, behaviour=replace(STEADY, speaks=speaks)) as at:
        await at.client.service_root()
        async with at.client.logon() as session:
            session.leave_open()
        later = at.later_client(session)
        begun = len(at.requests)
        async with later.take_up(session.id) as again:
            await again.start_mount(RestorePointId(at.point().id), Source.REPLICA, OsKind.WINDOWS)

    (post,) = at.sent("POST", "/mounts")
    assert post.headers["accept"] == post.headers["content-type"]
    assert post.headers["accept"] == (XML if speaks == "both" else JSON)
    assert at.requests[begun].headers["accept"] == XML


async def test_a_form_that_the_server_does_not_speak_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the plan names one form, no other is spoken: an answer in it is none."""
    for wanted, speaks, words in (
        (ApiFormat.XML, "json", "JSON, though XML was asked for"),
        (ApiFormat.JSON, "xml", "XML, though JSON was asked for"),
    ):
        server = replace(STEADY, speaks=speaks)
        async with desk(monkeypatch, behaviour=server, api_format=wanted) as at:
            with pytest.raises(MalformedResponse, match=words):
                await at.client.service_root()
            with pytest.raises(ResponseLost, match=words):
                async with at.client.logon():
                    pass
        assert len(set(accepted(at))) == 1


async def test_a_session_keeps_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is known how the server speaks, an answer in the other form is a stranger's."""

    def strange(request: Request) -> web.Response | None:
        if request.target.startswith("/api/tasks"):
            return web.json_response({"Tasks": []})
        return None

    async with desk(monkeypatch, override=strange) as at, at.client.logon() as session:
        with pytest.raises(Unreadable, match="JSON, though XML was asked for"):
            await session.tasks()
        assert set(accepted(at)) == {XML}


async def test_whoever_answers_a_request_in_json_is_told_as_with_xml(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A page of a proxy, the service's Error in XML, another service's JSON: each is what it is."""
    answers: dict[str, web.Response] = {
        "/api/tasks/a": web.Response(
            status=500, text="<html><title>Bad gateway</title></html>", content_type="text/html"
        ),
        "/api/tasks/b": web.Response(
            status=500, body=sample("error.500.task-not-in-session"), content_type=XML
        ),
        "/api/tasks/c": web.Response(
            status=500,
            text='{"message":"There is no backup task with id [c]","statusCode":500}',
            content_type=JSON,
        ),
        "/api/tasks/d": web.json_response({"error": "no"}, status=500),
    }

    def other(request: Request) -> web.Response | None:
        found = answers.get(request.target)
        if found is None:
            return None
        return web.Response(status=found.status, body=found.body, headers=found.headers)

    serving = desk(monkeypatch, override=other, api_format=ApiFormat.JSON)
    async with serving as at, at.client.logon() as session:
        with pytest.raises(AnsweredByPage, match="'Bad gateway', which is not its own answer"):
            await session.task(TaskId("a"))
        for own in "bc":
            with pytest.raises(NotFound, match="There is no backup task"):
                await session.task(TaskId(own))
        with pytest.raises(AnsweredByPage, match="not its own answer"):
            await session.task(TaskId("d"))
        assert await session.tasks() == []


async def test_another_service_that_answers_in_json_is_a_wrong_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The backup server's own API speaks JSON as well: no logon of its is one of ours."""

    def other(request: Request) -> web.Response:
        return web.json_response({"access_token": "x", "token_type": "bearer"})

    for wanted in (ApiFormat.AUTO, ApiFormat.JSON):
        async with desk(monkeypatch, override=other, api_format=wanted) as at:
            with pytest.raises(AddressUnusable, match="9419 is"):
                await at.client.service_root()


async def test_a_lost_logon_says_nothing_of_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only 406 and 415 do: whatever else is refused or lost is asked for again as it was."""
    faults = [
        Fault(kind="drop_after", path="/sessionMngr", count=1),
        Fault(kind="answer", path="/sessionMngr", status=400, body="service", count=1),
    ]
    async with desk(monkeypatch, faults=faults) as at:
        for error in (ResponseLost, RequestRefused):
            with pytest.raises(error):
                async with at.client.logon():
                    pass
        async with at.client.logon() as session:
            await session.tasks()

    assert set(accepted(at)) == {XML}
