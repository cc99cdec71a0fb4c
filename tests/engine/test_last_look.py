"""The last look at a session whose server was given up, where the server stops answering in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from orchestrator.core.errors import RequestRefused
from orchestrator.core.lifecycle import AttemptRecord
from orchestrator.core.model import RestorePointId, SessionId, Task, TaskId, TaskState
from orchestrator.engine import sessions
from orchestrator.engine.sessions import Sessions

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("answer", ["refused", "none"])
async def test_a_look_that_is_cut_short_is_none(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tasks were read, and the mounts of a stopped one were not: the session stays open."""

    async def tasks() -> list[object]:
        return []

    async def mounts(*_: object) -> list[object]:
        if answer == "refused":
            raise RequestRefused("500")
        await anyio.sleep(60.0)
        return []

    monkeypatch.setattr(sessions, "may_mount_yet", lambda *_: True)
    monkeypatch.setattr(sessions, "may_have_a_double", lambda _: False)
    monkeypatch.setattr(sessions, "ends_at", lambda *_: 0.0)
    stopped = SimpleNamespace(
        planned=SimpleNamespace(timeouts=None),
        open_point=SimpleNamespace(id="p", source="s"),
        attempts=(),
    )
    session = SimpleNamespace(id="one", tasks=tasks, mounts=mounts, unread_tasks=0)
    connection: Any = SimpleNamespace(session=session, audited=None, unaudited=None)
    server: Any = SimpleNamespace(
        name="hq", _ledger=SimpleNamespace(records=[stopped], now=lambda: 1.0)
    )
    server._see_tasks = Sessions._see_tasks.__get__(server)
    server._may_come = Sessions._may_come.__get__(server)

    await Sessions._last_look(server, connection)

    assert connection.audited is False
    assert connection.unaudited == {"refused": "500", "none": "no answer in time"}[answer]


async def test_a_task_that_no_link_proves_to_be_its_target_s_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was the only one when a request was lost, and is another's if that one acted later."""
    monkeypatch.setattr(sessions, "may_mount_yet", lambda *_: False)
    taken = Task(id=TaskId("task-1"), state=TaskState.FINISHED, success=True)
    tried = AttemptRecord(
        number=1,
        point=RestorePointId("p"),
        session=SessionId("one"),
        submitted_at=1.0,
        task=taken.id,
        adopted=True,
    )

    earlier = AttemptRecord(
        number=1, point=RestorePointId("q"), session=SessionId("one"), submitted_at=0.0
    )

    async def tasks() -> list[Task]:
        return [taken]

    async def task(_: TaskId) -> Task:
        return taken

    session = SimpleNamespace(id="one", tasks=tasks, task=task, unread_tasks=0)
    connection: Any = SimpleNamespace(
        session=session, audited=None, unaudited=None, is_nobodys=lambda _: False
    )
    record = SimpleNamespace(attempts=(earlier, tried))
    server: Any = SimpleNamespace(
        name="hq", _ledger=SimpleNamespace(records=[record], now=lambda: 1.0)
    )

    await Sessions._see_tasks(server, connection, connection.session)

    assert connection.audited is False
    assert "may be another's" in connection.unaudited
