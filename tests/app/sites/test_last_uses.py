"""Until when a session was used, for a worker that takes a shard over: its mounts count since."""

from __future__ import annotations

import pytest

from orchestrator.app.sites.served_shard import APART_S, last_uses
from orchestrator.core.events import (
    Event,
    OutOfReach,
    SessionEnded,
    SessionTakenUp,
    ShardTaken,
    SubmissionStarted,
    TaskAccepted,
)
from orchestrator.core.model import RestorePointId, SessionId, TaskId
from orchestrator.core.run_state import fold
from tests.core.test_run_state import KEY, PLANNED, STARTED

SESSION, HQ = SessionId("session"), PLANNED.server


def taken(at: float) -> ShardTaken:
    """Return that a worker begins."""
    return ShardTaken(at=at, server=HQ, worker="anna", host="host", epoch=1, used_until=at)


def ended(
    at: float, *, lost: bool = False, left_open: bool = True, unaudited: str | None = None
) -> SessionEnded:
    """Return how the session ended."""
    return SessionEnded(
        at=at,
        server=HQ,
        session=SESSION,
        lost=lost,
        reason="",
        left_open=left_open,
        unaudited=unaudited,
    )


def again(at: float) -> SessionTakenUp:
    """Return that the session has answered."""
    return SessionTakenUp(at=at, server=HQ, session=SESSION)


def used(*events: Event, kept: bool = True) -> float | None:
    """Return when a session was used last in which something is mounted; None: until now."""
    point = RestorePointId("point")
    mounted = [
        SubmissionStarted(at=3.0, key=KEY, attempt=1, session=SESSION, point=point),
        TaskAccepted(at=4.0, key=KEY, task=TaskId("task")),
    ]
    state = fold([STARTED, taken(1.0), PLANNED, *mounted, *events])
    return last_uses(state.servers[HQ], {SESSION} if kept else set()).get(SESSION)


@pytest.mark.parametrize(
    ("events", "at"),
    [
        ([ended(100.0)], 100.0),
        ([ended(100.0), taken(200.0), ended(230.0, lost=True)], 230.0),
        ([ended(100.0), taken(200.0), ended(230.0, lost=True), taken(300.0)], None),
        (
            [
                *(ended(100.0), taken(200.0), ended(230.0, lost=True)),
                *(taken(300.0), ended(330.0, lost=True)),
            ],
            230.0,
        ),
        (
            [
                *(ended(100.0), taken(200.0), ended(230.0, lost=True), taken(300.0)),
                *(taken(400.0), ended(430.0, lost=True)),
            ],
            430.0,
        ),
        (
            [
                *(ended(100.0), taken(200.0), ended(230.0, lost=True)),
                *(taken(300.0), again(301.0), ended(350.0)),
            ],
            350.0,
        ),
        ([ended(100.0), taken(200.0)], None),
        ([taken(200.0), ended(2000.0, unaudited="not reached")], 2000.0),
    ],
    ids=[
        *("left open", "denied", "no word since", "denied to each", "a worker without a word"),
        *("it answered again", "left open before the last worker", "not reached"),
    ],
)
def test_a_session_whose_token_is_kept(events: list[Event], at: float | None) -> None:
    """Whoever had its token may have used it without a record, until its last word."""
    assert used(*events) == (None if at is None else at + APART_S)


def test_a_session_that_answers_late_was_used_then() -> None:
    """It was denied before, and nobody could read all of it."""
    lost = OutOfReach(at=100.0, key=KEY, reason="lost", lost=True)
    denied = ended(100.0, lost=True, left_open=False, unaudited="denied")

    assert used(lost, denied, ended(700.0, unaudited="a task cannot be read")) == 700.0 + APART_S


def test_a_session_that_nobody_else_can_use() -> None:
    """Its own worker did, until it was taken over."""
    assert used(taken(200.0), kept=False) == 200.0
    assert used(ended(100.0), taken(200.0), taken(300.0), kept=False) == 100.0
