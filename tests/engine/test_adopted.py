"""Adopted tasks: what proves that they are their targets', and where their mounts may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.core.errors import NotFound
from orchestrator.core.lifecycle import AttemptRecord
from orchestrator.core.model import (
    BackupServerName,
    Href,
    Mount,
    MountLink,
    RestorePoint,
    RestorePointId,
    SessionId,
    Task,
    TaskId,
    TaskState,
)
from orchestrator.engine.adopted import is_any_unproven, unproven
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.mount import owners
from orchestrator.engine.mount.owners import Owners
from orchestrator.engine.mount.recover import SubmittedPoint, last_tasks, unclaimed_tasks
from tests.engine.scripted import ScriptedSession, ScriptedTask
from tests.engine.test_recover import connected

pytestmark = pytest.mark.anyio

SESSION = SessionId("session-1")
FIRST, OWN = RestorePointId("first"), RestorePointId("own")
TAKEN = TaskId("task-2")
EARLIER = AttemptRecord(
    number=1,
    point=FIRST,
    session=SESSION,
    submitted_at=1.0,
    task=TaskId("task-1"),
    finished_at=9.0,
    outcome="success",
)
ADOPTED = AttemptRecord(
    number=1,
    point=OWN,
    session=SESSION,
    submitted_at=5.0,
    accepted_at=6.0,
    finished_at=10.0,
    task=TAKEN,
    adopted=True,
    outcome="success",
)


def point(name: RestorePointId) -> RestorePoint:
    """Return a restore point."""
    day = datetime(2026, 11, 23, tzinfo=UTC)
    server = BackupServerName("b")
    return RestorePoint(id=name, name="", vm="", created_at=day, backup_server=server)


def ledger(*attempts: AttemptRecord) -> Any:
    """Return a ledger of one target with these attempts."""
    record = SimpleNamespace(
        attempts=attempts,
        known_points=(point(FIRST), point(OWN)),
        planned=SimpleNamespace(key="target"),
    )
    return SimpleNamespace(records=[record], now=lambda: 20.0)


def taken(mount: MountLink | None = None) -> Task:
    """Return the adopted task, finished."""
    return Task(id=TAKEN, state=TaskState.FINISHED, success=True, mount=mount)


def link(point: RestorePointId) -> MountLink:
    """Return a link to the first mount of a point."""
    return MountLink(href=Href(f"/api/x/{point}/mounts/1"), point=point, number="1")


def changed(attempt: AttemptRecord, **fields: object) -> AttemptRecord:
    """Return an attempt with other facts."""
    known = {name: getattr(attempt, name) for name in attempt.__struct_fields__}
    return AttemptRecord(**{**known, **fields})


@pytest.mark.parametrize(
    ("attempts", "mount", "points"),
    [
        ((ADOPTED,), None, None),
        ((changed(EARLIER, submitted_at=7.0), ADOPTED), None, None),
        ((changed(EARLIER, point=OWN), ADOPTED), None, None),
        ((changed(EARLIER, session=SessionId("session-0")), ADOPTED), None, None),
        ((EARLIER, ADOPTED), link(OWN), None),
        ((changed(EARLIER, finished_at=4.0), ADOPTED), None, None),
        ((changed(EARLIER, finished_at=4.0), ADOPTED), link(FIRST), {FIRST}),
        ((EARLIER, ADOPTED), None, {FIRST}),
        ((EARLIER, changed(ADOPTED, outcome="unknown")), None, {FIRST, OWN}),
    ],
    ids=[
        "the first request",
        "the other came later",
        "the other was for the same point",
        "the other was in another session",
        "its link names the point",
        "tasks are kept",
        "tasks are kept, and its link names the other point",
        "it may be the other's",
        "no mount was found",
    ],
)
def test_a_task_is_proven_if_nothing_else_can_have_begun_it(
    attempts: Sequence[AttemptRecord], mount: MountLink | None, points: set[str] | None
) -> None:
    """Else it may have mounted what was asked for before it was adopted."""
    shown = {EARLIER.task, TAKEN}
    found = unproven(ledger(*attempts), SESSION, [taken(mount)], shown)  # type: ignore[arg-type]

    assert found == ({} if points is None else {TAKEN: points})


@pytest.mark.parametrize("answer", ["its link", "no link", "refused"])
async def test_a_task_is_read_alone_before_it_counts_as_unproven(answer: str) -> None:
    """A list may leave its link out; what is refused proves nothing."""

    async def read(_: TaskId) -> Task:
        if answer == "refused":
            raise NotFound("gone")
        return taken(link(OWN) if answer == "its link" else None)

    session: Any = SimpleNamespace(id=SESSION, task=read)
    found = await is_any_unproven(ledger(EARLIER, ADOPTED), session, [taken()])

    assert found == (answer != "its link")


async def test_the_last_look_takes_no_task_away_from_its_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the session is lost after it, a task of a target is no stray."""
    session = ScriptedSession({TAKEN: ScriptedTask(ends_at=0.0)})
    records = ledger(EARLIER, ADOPTED).records
    async with connected(session) as (connection, server):
        connection.watcher.claimed.add(TAKEN)
        with monkeypatch.context() as patched:
            patched.setattr(Ledger, "records", property(lambda _: records))
            tasks, loose = await last_tasks(connection, server)
            again = await unclaimed_tasks(connection, server)

        assert [task.id for task in tasks] == [TAKEN]
        assert loose == {TAKEN: {FIRST}}
        assert again == []
        assert TAKEN in connection.watcher.claimed


async def test_a_task_whose_link_names_another_point_is_nobody_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its link decides then, whoever else is logged on."""
    session = ScriptedSession({TAKEN: ScriptedTask(ends_at=0.0, mount=link(FIRST))})
    records = ledger(EARLIER, ADOPTED).records
    async with connected(session) as (connection, server):
        connection.watcher.claimed.add(TAKEN)
        with monkeypatch.context() as patched:
            patched.setattr(Ledger, "records", property(lambda _: records))
            (task,), loose = await last_tasks(connection, server)

        assert task.mount == link(FIRST)
        assert not loose
        assert TAKEN not in connection.watcher.claimed


@pytest.mark.parametrize(
    ("loose", "by_list", "is_alone", "is_taken"),
    [
        (True, False, True, True),
        (True, False, False, False),
        (False, True, True, True),
        (False, True, False, False),
        (False, False, False, True),
    ],
)
async def test_the_only_mount_is_a_task_s_if_it_cannot_be_a_stranger_s(
    loose: bool, by_list: bool, is_alone: bool, is_taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target may have had the mount of a task without a link, and released it."""
    only = Mount(href=Href("/api/x/first/mounts/7"), roots=())
    asked: list[Sequence[object]] = []

    async def alone(*own: object) -> bool:
        asked.append(own)
        return is_alone

    async def listed(*_: object) -> Sequence[Mount]:
        return [only]

    async def persistently(_: object, ask: Callable[[], Any]) -> Any:
        return await ask()

    monkeypatch.setattr(owners, "unclaimed_mounts", listed)
    session = SimpleNamespace(id=SESSION, is_alone=alone)
    connection: Any = SimpleNamespace(session=session, strangers=False)
    server: Any = SimpleNamespace(own={SESSION}, persistently=persistently)
    book = ledger(changed(EARLIER, task=None) if by_list else EARLIER)
    of_target = {FIRST: SubmittedPoint("target", point(FIRST))}  # type: ignore[arg-type]
    tasks = Owners(connection, server, book, of_target, {TAKEN: {FIRST}} if loose else {})  # type: ignore[arg-type]

    ((task, mount),) = await tasks.mounts_of([taken()])

    assert task.id == TAKEN
    assert mount == (only.href if is_taken else None)
    assert tasks.several == ([] if is_taken else [only.href])
    assert all(own == ({SESSION},) for own in asked)  # other runs of ours may have mounted it
