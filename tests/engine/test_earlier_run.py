"""What a process knows of the earlier processes of its run."""

from __future__ import annotations

import pytest

from orchestrator.core.events import (
    Event,
    RunResumed,
    SubmissionRefused,
    SubmissionStarted,
    TaskAccepted,
)
from orchestrator.core.model import RestorePointId, SessionId, TaskId
from orchestrator.core.policy import PROOF_AFTER
from orchestrator.core.run_state import fold
from orchestrator.engine.orders import EarlierRun
from tests.core.test_run_state import BEGAN, KEY, PLANNED, STARTED

SUBMITTED = SubmissionStarted(
    at=3.0, key=KEY, attempt=1, session=SessionId("s"), point=RestorePointId("p")
)
RESUMED = RunResumed(at=60.0, resumed_at=BEGAN, version="1")
ACCEPTED = TaskAccepted(at=4.0, key=KEY, task=TaskId("t"))
REFUSED = SubmissionRefused(at=4.0, key=KEY, reason="403")


@pytest.mark.parametrize(
    ("said", "later"), [([], PROOF_AFTER), ([ACCEPTED], 0.0), ([REFUSED], 0.0)]
)
def test_a_request_without_an_answer_may_use_its_session_later(
    said: list[Event], later: float
) -> None:
    """What was mounted in that session counts for so much longer."""
    state = fold([STARTED, PLANNED, SUBMITTED, *said])

    earlier = EarlierRun.of(state, RESUMED, used_until=50.0, retry_failed=False)

    assert earlier.last_used(SUBMITTED.session) == 50.0 + later
    assert earlier.last_used(SessionId("another")) == 50.0
