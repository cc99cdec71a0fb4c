"""Requests to a living run, and their answers, as files."""

from __future__ import annotations

from orchestrator.core.controls import Control, Look
from orchestrator.core.model import RunId
from orchestrator.journal import State
from orchestrator.journal.controls import LARGEST, REQUEST, new_control_id

RUN = RunId("20261123T060000Z-0001")


def asked(*words: str) -> Control:
    """Return a request with an id of its own."""
    return Control(id=new_control_id(), verb=Look.BROWSE, words=words)


def test_a_request_that_cannot_be_read_is_refused(state: State) -> None:
    """Whoever asked hears of it: else they would wait for as long as the run lives."""
    files = state.controls(RUN)
    large, good = asked("key", "C:/" + "a" * LARGEST), asked("key")
    for control in (large, good):
        files.ask(control)

    taken = list(files.take())
    answer = files.answer_to(large.id)

    assert taken == [good]
    assert answer is not None
    assert "the request cannot be read" in (answer.refused or "")
    assert not list(state.directory.glob(f"*/*{REQUEST}"))
