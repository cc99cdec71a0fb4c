"""What else happens on the backup servers: what is asked, and how the rows are read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from aiohttp import web

from orchestrator.core.activity import ActivityKind
from orchestrator.core.errors import AccessDenied, Unreadable
from orchestrator.core.model import OsKind, RestorePointId, Source
from orchestrator.em.wire import XmlCodec
from orchestrator.simulator.activity import SimActivity
from orchestrator.simulator.inventory import generated
from tests.em.documents import document, read, sample
from tests.em.logons import START, STEADY, desk, query_of
from tests.em.rawserver import Request

pytestmark = pytest.mark.anyio

CODEC = XmlCodec()
SEEN = replace(STEADY, shows_activity="all")
GUID = "6b41e0d7-9c25-4f83-a1d6-5e07c3b82f94"
RESTORE = (
    f'<RestoreSession Name="FLR_[a]@x" UID="urn:veeam:RestoreSession:{GUID}" VmDisplayName="a">'
    "<JobType>{kind}</JobType><CreationTimeUTC>2026-03-15T09:12:47Z</CreationTimeUTC>"
    "<State>{state}</State><Result>None</Result></RestoreSession>"
)


def test_the_documented_restores_are_read() -> None:
    """The samples: two file-level restores and one of a whole machine, all at work."""
    page = read(CODEC.activities("RestoreSession"), sample("query.restoresession.entities"), 50)

    assert not page.set_aside
    assert [each.kind.value for each in page.rows] == ["file_restore", "restore", "file_restore"]
    first = page.rows[0]
    assert (first.vm, first.backup_server, first.is_over) == (
        "appsql07",
        "vbr01.dr.example",
        False,
    )
    assert first.began_at == datetime(2026, 3, 15, 9, 12, 47, 317000, tzinfo=UTC)


def test_the_documented_job_sessions_are_read() -> None:
    """The samples: one machine in work, and one whose work is over; the job is named by its run."""
    document_ = sample("query.replicatasksession.entities")
    working, done = read(CODEC.activities("ReplicaTaskSession"), document_).rows

    assert working.kind is ActivityKind.REPLICATION
    assert working.words == 'job "DR Tier 1 Replication"'
    assert (working.is_over, done.is_over) == (False, True)
    assert done.ended_at == datetime(2026, 3, 14, 21, 11, 2, 993000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("FileLevelRestore", ActivityKind.FILE_RESTORE),
        ("LinuxFileLevelRestore", ActivityKind.FILE_RESTORE),
        ("RestoreVm", ActivityKind.RESTORE),
        ("SomethingNew", ActivityKind.RESTORE),
    ],
)
def test_any_word_with_file_level_restore_is_one(kind: str, expected: ActivityKind) -> None:
    """Reference 15.1: which word is shown for a Linux guest is unknown."""
    body = RESTORE.replace("{kind}", kind).replace("{state}", "Working")
    (row,) = read(CODEC.activities("RestoreSession"), document(body, "RestoreSessions")).rows
    assert row.kind is expected


@pytest.mark.parametrize("state", ["Starting", "Working", "Stopping", "WaitingForSomething", ""])
def test_only_the_word_stopped_says_that_it_is_over(state: str) -> None:
    """An unknown word is no end: nothing seen is never taken for nothing there."""
    body = RESTORE.replace("{kind}", "RestoreVm").replace("{state}", state)
    (row,) = read(CODEC.activities("RestoreSession"), document(body, "RestoreSessions")).rows
    assert not row.is_over


async def test_both_questions_are_answered_as_the_server_sees_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job at work and a foreign restore are shown with machine, backup server and time."""
    async with desk(monkeypatch, behaviour=SEEN, epoch=START) as at, at.client.logon() as session:
        job, file = at.manager.inventory.machines[:2]
        at.manager.activities += [
            SimActivity(kind="replication", machine=job, from_s=-60.0, until_s=100.0),
            SimActivity(kind="file_restore", machine=file, from_s=-30.0),
        ]
        (replication,) = await session.replications()
        (restore,) = await session.restores()
        await anyio.sleep(200.0)
        later = await session.replications()

    assert (replication.vm, replication.job) == (job.name, job.job)
    assert replication.began_at == START - timedelta(seconds=60)
    assert (restore.vm, restore.kind) == (file.name, ActivityKind.FILE_RESTORE)
    assert restore.backup_server == file.backup_server.name
    assert not later
    asked = [query_of(each) for each in at.sent("GET", "type=R")]
    assert [(each["type"], each["filter"]) for each in asked[:2]] == [
        ("ReplicaTaskSession", "State!=Completed"),
        ("RestoreSession", "State!=Stopped"),
    ]


async def test_an_own_mount_is_shown_and_seen_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time since which sessions are wanted, those that are over are shown, too."""
    async with desk(monkeypatch, behaviour=SEEN, epoch=START) as at, at.client.logon() as session:
        point = RestorePointId(at.point().id)
        await session.start_mount(point, Source.REPLICA, OsKind.WINDOWS)
        await anyio.sleep(100.0)
        (working,) = await session.restores(since=START - timedelta(seconds=5))
        (mount,) = await session.mounts(point, Source.REPLICA)
        await session.unmount(mount.href)
        await anyio.sleep(1.0)
        (over,) = await session.restores(since=START - timedelta(seconds=5))
        now = await session.restores()

    assert (working.is_over, over.is_over) == (False, True)
    assert working.id == over.id
    assert over.ended_at is not None
    assert not now


async def test_what_is_shown_is_as_old_as_the_last_collection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A session is missing for that long after it began, and shown for that long after its end."""
    behaviour = replace(SEEN, activity_delay_s=300.0)
    seen = []
    async with (
        desk(monkeypatch, behaviour=behaviour, epoch=START) as at,
        at.client.logon() as session,
    ):
        machine = at.manager.inventory.machines[0]
        at.manager.activities.append(
            SimActivity(kind="replication", machine=machine, from_s=0.0, until_s=100.0)
        )
        for _ in range(3):
            seen.append(len(await session.replications()))
            await anyio.sleep(350.0 if not seen[1:] else 100.0)

    assert seen == [0, 1, 0]


@pytest.mark.parametrize(
    ("role", "restores", "replications"),
    [
        ("File Restore Operator", True, False),
        ("Portal Administrator", True, True),
        ("Portal User", True, True),
    ],
)
async def test_a_role_sees_what_it_may(
    monkeypatch: pytest.MonkeyPatch, role: str, restores: bool, replications: bool
) -> None:
    """Reference 2.7: the least account may not see replication jobs."""
    behaviour = replace(STEADY, shows_activity="by_role")
    may = {}
    async with (
        desk(monkeypatch, behaviour=behaviour, role=role) as at,
        at.client.logon() as session,
    ):
        for name in ("restores", "replications"):
            try:
                await getattr(session, name)()
                may[name] = True
            except AccessDenied:
                may[name] = False

    assert may == {"restores": restores, "replications": replications}


async def test_a_row_that_cannot_be_read_is_never_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the very session that matters."""
    body = document("<RestoreSession Name='x'/>", "RestoreSessions")

    def odd(request: Request) -> web.Response | None:
        asked = "type=RestoreSession" in request.target
        return web.Response(body=body, content_type="application/xml") if asked else None

    async with desk(monkeypatch, behaviour=SEEN, override=odd) as at, at.client.logon() as session:
        with pytest.raises(Unreadable):
            await session.restores()


def test_an_unknown_kind_is_refused() -> None:
    """A scenario's typing error must not be a machine that nothing works on."""
    with pytest.raises(ValueError, match="unknown activity"):
        SimActivity(kind="backup", machine=generated(0, machines=1).machines[0])
