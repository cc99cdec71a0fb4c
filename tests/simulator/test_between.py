"""Checklist, "Status after acting" and "Proxy knobs": what stands between client and service."""

from __future__ import annotations

import gzip
import json
from typing import Any

import aiohttp
import anyio
import pytest

from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.pages import BODIES
from tests.simulator.wire import MOUNT_S, NS, STEADY, Wire, wired

pytestmark = pytest.mark.anyio

MOUNT, ONE = "/mounts$", r"/mounts/\d+$"
STATUSES = (200, 204, 302, 400, 403, 404, 405, 408, 429, 500, 502, 503, 504)
BETWEEN_KINDS = {
    *("close_before", "close_after", "answer", "answer_after", "twice", "held", "endless_body"),
    *("endless_pages", "unmount_task", "unmount_task_fails", "unmount_task_endless"),
}


def fault(kind: str, **how: Any) -> Fault:
    """Return a fault that the first mount POST meets."""
    usual: dict[str, Any] = {"method": "POST", "path": MOUNT, "count": 1}
    return Fault(kind=kind, **(usual | how))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(("kind", "made"), [("answer", 0), ("answer_after", 1)])
async def test_any_status_before_or_after_acting(kind: str, made: int, status: int) -> None:
    """The mount happens or not; the answer says nothing of it."""
    async with wired(faults=[fault(kind, status=status, retry_after="5")]) as wire:
        answer = await wire.start(wire.point())

        assert (answer.status, len(wire.truth.mounts)) == (status, made)
        assert answer.headers["Server"].startswith("nginx")
        assert answer.headers["Retry-After"] == "5"
        assert (status == 204) == (answer.body == b"")


@pytest.mark.parametrize("body", BODIES)
async def test_every_kind_of_body(body: str) -> None:
    """The service's own word, HTTP.sys, a page, a well-formed page, foreign JSON, nothing."""
    async with wired(faults=[fault("answer_after", status=503, body=body)]) as wire:
        answer = await wire.start(wire.point())

        is_http_sys = answer.headers["Server"] == "Microsoft-HTTPAPI/2.0"
        assert is_http_sys == (body in {"service", "http_sys"})
        if body == "service":
            assert (answer.xml.tag, answer.xml.attrib["StatusCode"]) == (f"{NS}Error", "503")
        elif body == "xhtml":
            assert answer.xml.tag == "{http://www.w3.org/1999/xhtml}html"
        elif body == "json":
            assert json.loads(answer.body) == {"message": "Service Unavailable"}
        else:
            assert (b"<html" in answer.body) == (body != "empty")


@pytest.mark.parametrize(
    ("status", "body", "excused"),
    [
        (503, "service", True),
        (429, "http_sys", True),
        (503, "page", False),
        (500, "service", False),
    ],
)
async def test_nobody_can_foresee_what_the_service_denies(
    status: int, body: str, excused: bool
) -> None:
    """A mount that the service itself says it has refused counts against no limit."""
    async with wired(faults=[fault("answer_after", status=status, body=body)]) as wire:
        await wire.start(wire.point())

        assert [fate.is_excused for fate in wire.truth.mounts] == [excused]


@pytest.mark.parametrize(("kind", "made"), [("close_before", 0), ("close_after", 1)])
async def test_closed_without_an_answer(kind: str, made: int) -> None:
    """HAProxy and Apache close a kept connection in good order; the mount may have begun."""
    async with wired(faults=[fault(kind)]) as wire:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await wire.start(wire.point())

        assert len(wire.truth.mounts) == made


async def test_a_post_that_arrives_twice() -> None:
    """Varnish repeats a POST: two mounts, and the client is told of the second."""
    async with wired(faults=[fault("twice")]) as wire:
        answer = await wire.start(wire.point())

        assert answer.texts("TaskId") == ["task-2"]
        assert [fate.unforeseen for fate in wire.truth.mounts] == [False, True]
        assert wire.truth.peaks["total"] == 1


async def test_a_repeated_post_may_end_in_a_page_as_well() -> None:
    """Both times the backend gave no answer: Varnish says 503."""
    async with wired(faults=[fault("twice", status=503)]) as wire:
        assert (await wire.start(wire.point())).status == 503
        assert len(wire.truth.mounts) == 2


@pytest.mark.parametrize(("missing_is_500", "status"), [(False, 404), (True, 500)])
async def test_an_unmount_that_arrives_twice(missing_is_500: bool, status: int) -> None:
    """nginx, Varnish and Squid repeat DELETE: what worked is answered as what is not there."""
    behaviour = Behaviour(missing_mount_is_500=missing_is_500, operation_finished_share=0.0)
    async with wired(
        faults=[fault("twice", method="DELETE", path=ONE)], behaviour=behaviour
    ) as wire:
        await wire.mounted(wire.point())
        answer = await wire.delete(f"vmReplicaPoints/{wire.point().id}/mounts/1")

        assert answer.status == status
        assert ("There is no mount point with id [1]" in answer.text) == missing_is_500
        assert [fate.closed_by for fate in wire.truth.mounts] == ["unmounted"]


@pytest.mark.parametrize("seconds", [20.0, 200.0])
@pytest.mark.parametrize("status", [0, 504])
async def test_a_post_that_acts_late(seconds: float, status: int) -> None:
    """The connection breaks, or a proxy answers; the mount begins much later."""
    async with wired(faults=[fault("act_later", seconds=seconds, status=status)]) as wire:
        if status:
            assert (await wire.start(wire.point())).status == status
        else:
            with pytest.raises(aiohttp.ClientError):
                await wire.start(wire.point())
        assert anyio.current_time() == 0.0
        await anyio.sleep(seconds - 0.5)
        before = len(wire.truth.mounts)
        await anyio.sleep(1.0)

        assert (before, [fate.late_s for fate in wire.truth.mounts]) == (0, [seconds])
        assert wire.truth.mounts[0].is_excused == (seconds >= 180.0)


@pytest.mark.parametrize(("kind", "made"), [("delay", 0), ("held", 1)])
async def test_a_post_held_back_across_a_clients_death(kind: str, made: int) -> None:
    """A proxy that holds a request carries it out, whether the client still lives or not."""
    async with wired(faults=[fault(kind, seconds=40.0)]) as wire:
        with anyio.move_on_after(5.0):
            await wire.start(wire.point())
        wire.network.cut("em-hq.example.net")
        await anyio.sleep(60.0)

        assert [fate.requested_at for fate in wire.truth.mounts] == [40.0] * made


async def test_a_late_post_finds_no_session_that_was_ended() -> None:
    """Who logs off can be sure that nothing begins there any more."""
    async with wired(faults=[fault("act_later", seconds=30.0)]) as wire:
        with pytest.raises(aiohttp.ClientError):
            await wire.start(wire.point())
        session = wire.manager.sessions[wire.token].id
        assert (await wire.delete(f"logonSessions/{session}")).status == 204
        await anyio.sleep(60.0)

        assert wire.truth.mounts == []


@pytest.mark.parametrize(("path", "how"), [("^(?!.*sessionMngr)", {}), ("/tasks", {"count": 2})])
async def test_unauthorized_after_a_good_logon(path: str, how: dict[str, Any]) -> None:
    """A balancer between two services: the logon is good, and the session unknown."""
    async with wired(faults=[Fault(kind="unauthorized", path=path, **how)]) as wire:
        answers = [(await wire.get("tasks")).status for _each in range(3)]

        assert answers == [401, 401, 200 if how else 401]
        assert (await wire.log_on()).status == 201
        assert len(wire.truth.logon_attempts) == 2


async def test_an_answer_that_never_ends() -> None:
    """Blanks without end: no limit between two bytes is of any help."""
    async with wired(faults=[Fault(kind="endless_body", path="/query", seconds=5.0)]) as wire:
        with anyio.move_on_after(600.0) as deadline:
            await wire.query("VmReplicaPoint")

        assert deadline.cancelled_caught
        assert (await wire.get("tasks")).status == 200


async def test_a_listing_whose_pages_never_end() -> None:
    """There is always a next page, with the rows of the first."""
    async with wired(faults=[Fault(kind="endless_pages", path="/query")]) as wire:
        pages = [
            await wire.query("VmReplicaPoint", format="Entities", page=number)
            for number in (1, 2, 40)
        ]

        assert len({tuple(page.texts("VmName")) for page in pages}) == 1
        assert all(page.hrefs("Next") for page in pages)


@pytest.mark.parametrize(
    ("how", "state", "is_open"),
    [("", "Finished", False), ("_fails", "Finished", True), ("_endless", "Running", True)],
)
@pytest.mark.parametrize("scripted", [True, False])
async def test_an_unmount_answered_by_a_task(
    how: str, state: str, is_open: bool, scripted: bool
) -> None:
    """It removes the mount, or fails with words, or never ends."""
    knob = {"": "task", "_fails": "failing_task", "_endless": "endless_task"}[how]
    faults = [Fault(kind=f"unmount_task{how}", method="DELETE", count=1)] if scripted else []
    behaviour = Behaviour(unmount_by="answer" if scripted else knob, unmount_s=30.0)
    async with wired(faults=faults, behaviour=behaviour) as wire:
        await wire.mounted(wire.point())
        answer = await wire.delete(f"vmReplicaPoints/{wire.point().id}/mounts/1")
        (task,) = answer.texts("TaskId")
        await anyio.sleep(60.0)
        shown = await wire.get(f"tasks/{task}")

        assert (answer.status, shown.texts("State")) == (202, [state])
        assert [fate.is_open for fate in wire.truth.mounts] == [is_open]
        assert ("used by another process" in shown.text) == (how == "_fails")


# --- what others see ---------------------------------------------------------------------------


async def of_another(wire: Wire) -> str:
    """Let somebody else mount the same restore point; return the token."""
    token = (await wire.log_on()).headers["X-RestSvcSessionId"]
    await wire.start(wire.point(), token=token)
    await anyio.sleep(MOUNT_S + 1)
    return token


@pytest.mark.parametrize("shown", ["nothing", "mounts", "tasks"])
async def test_others_are_shown_where_the_knob_says_so(shown: str) -> None:
    """A stranger's mount or task in our list, under a number that nobody else has."""
    async with wired(behaviour=Behaviour(shows_others=shown)) as wire:
        await of_another(wire)
        await wire.mounted(wire.point())
        mounts = await wire.get(f"vmReplicaPoints/{wire.point().id}/mounts")
        tasks = await wire.get("tasks")

        assert len(mounts.all("VmReplicaPointMount")) == (2 if shown == "mounts" else 1)
        assert len(tasks.texts("TaskId")) == (2 if shown == "tasks" else 1)
        assert len(set(tasks.texts("TaskId"))) == len(tasks.texts("TaskId"))


async def test_who_touches_what_is_anothers_is_counted() -> None:
    """A DELETE of a stranger's mount, or of another session: each is one too many."""
    async with wired(behaviour=Behaviour(shows_others="mounts")) as wire:
        token = await of_another(wire)
        assert (await wire.delete(f"vmReplicaPoints/{wire.point().id}/mounts/1")).status == 204
        session = wire.manager.sessions[token].id
        await wire.delete(f"logonSessions/{session}")

        assert wire.truth.foreign_deletes == 2
        assert wire.truth.still_open() == []


async def test_what_is_ones_own_counts_nowhere() -> None:
    """The unmount and the logoff of one's own session are as it should be."""
    async with wired() as wire:
        await wire.mounted(wire.point())
        await wire.delete(f"vmReplicaPoints/{wire.point().id}/mounts/1")
        await wire.delete(f"logonSessions/{wire.manager.sessions[wire.token].id}")

        assert (wire.truth.foreign_deletes, wire.truth.dangerous) == (0, 0)


async def test_a_failover_plan_is_a_dangerous_call() -> None:
    """Starting one is counted, whatever the server says to it; reading them is harmless."""
    async with wired() as wire:
        await wire.get("failoverPlans")
        assert wire.truth.dangerous == 0
        await wire.post("failoverPlans/x?action=start")

        assert wire.truth.dangerous == 1


# --- proxies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ("kept", "X-RestSvcSessionId"),
        ("lower", "x-restsvcsessionid"),
        ("title", "X-Restsvcsessionid"),
    ],
)
async def test_header_names_in_another_case(names: str, shown: str) -> None:
    """HAProxy writes them small, Caddy as titles."""
    async with wired(behaviour=Behaviour(header_names=names)) as wire:
        assert shown in list((await wire.log_on()).headers)


@pytest.mark.parametrize(
    ("compresses", "asked", "is_gzip"),
    [
        ("never", True, False),
        ("asked", True, True),
        ("asked", False, False),
        ("always", False, True),
    ],
)
async def test_compressed_answers(compresses: str, asked: bool, is_gzip: bool) -> None:
    """Apache compresses what is asked for; somebody always does."""
    async with wired(behaviour=Behaviour(compresses=compresses)) as wire:
        wire.http._auto_decompress = False
        headers = {"Accept-Encoding": "gzip" if asked else "identity"}
        answer = await wire.get("tasks", headers=headers)

        assert (answer.headers.get("Content-Encoding") == "gzip") == is_gzip
        body = gzip.decompress(answer.body) if is_gzip else answer.body
        assert body.startswith(b"<?xml")


async def test_answers_in_chunks() -> None:
    """No length, and the same answer."""
    async with wired(behaviour=Behaviour(chunks_answers=True)) as wire:
        answer = await wire.get("tasks")

        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in answer.headers
        assert answer.xml.tag == f"{NS}Tasks"


@pytest.mark.parametrize(
    ("how", "status", "is_page"),
    [("kept", 404, False), ("decoded", 200, False), ("refused", 404, True)],
)
async def test_an_encoded_slash(how: str, status: int, is_page: bool) -> None:
    """`%2F` passes as it is, or becomes a slash, or is refused with a page."""
    behaviour = Behaviour(encoded_slash=how, operation_finished_share=0.0)
    async with wired(behaviour=behaviour) as wire:
        await wire.mounted(wire.point())
        answer = await wire.get(f"vmReplicaPoints/{wire.point().id}/mounts%2F1")

        assert (answer.status, b"<html" in answer.body) == (status, is_page)


async def test_an_address_that_is_too_long() -> None:
    """8,100 characters pass, 9,000 are a page of 414."""
    async with wired(behaviour=Behaviour(url_limit_bytes=8192)) as wire:
        assert (await wire.get("tasks?x=" + "y" * 8000)).status == 200
        answer = await wire.get("tasks?x=" + "y" * 9000)

        assert (answer.status, b"<html" in answer.body) == (414, True)


async def test_one_name_that_is_refused_in_a_filter() -> None:
    """The whole query fails with 400 where one name is in it."""
    name = "app0000"
    async with wired(behaviour=Behaviour(refused_name=name)) as wire:
        answers = [
            await wire.query("VmReplicaPoint", f'VmDisplayName=="{each}"')
            for each in (name, "sql0001")
        ]

        assert [answer.status for answer in answers] == [400, 200]


def test_the_steady_server_has_no_proxy() -> None:
    """What other tests rely on: nothing stands between."""
    assert (STEADY.header_names, STEADY.compresses, STEADY.url_limit_bytes) == (
        "kept",
        "never",
        None,
    )
