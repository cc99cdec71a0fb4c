"""Requests to a living run, and their answers, as files."""

from __future__ import annotations

from pathlib import Path

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


def test_who_waited_leaves_nothing_of_a_process_that_was_killed(state: State) -> None:
    """The bytes of a guest that it had begun to write are no exception; others' files stay."""
    files, control, other = state.controls(RUN), asked("key", "C:/x"), asked("key")
    files.ask(other)

    with files.waiting(control.id):
        files.ask(control)
        (state.directory / f"ctl-{RUN}" / f"{control.id}.content.part").write_bytes(b"secret")

    assert [path.name for path in state.directory.glob("*/*")] == [other.id + REQUEST]


def test_what_is_left_of_somebody_who_was_killed_is_removed(state: State) -> None:
    """The file of their lock, too: the run drops the answer and what is beside it."""
    files, control = state.controls(RUN), asked("key")
    with files.waiting(control.id):
        files.ask(control)
        left = Path(files.content_path(control.id)).with_suffix(".awaited")
    left.touch()

    assert not files.is_awaited(control.id)
    files.drop(control.id)

    assert not list(state.directory.glob("*/*"))
