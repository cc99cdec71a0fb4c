"""kill -9 at each step of `ctl retry` and `ctl approve`: a resume has what was answered, no more.

For pause, limits and skip see `test_steering`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.controls import Answer
from orchestrator.core.lifecycle import MountRecord
from orchestrator.journal.controls import ControlFiles
from orchestrator.report.values import TargetReport
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, Stage
from tests.scenarios.test_steering import (
    Watching,
    beside,
    failing,
    gated,
    reached,
    state_of,
    steered,
    told,
    until,
)

pytestmark = pytest.mark.anyio

STEPS = range(8)
"""From the request on: its own commit, and those after it."""

Request = tuple[str, str]
"""A verb and its word."""


class Killed:
    """A run that died some steps after a request, and the resume after it."""

    def __init__(self, step: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Everything below a directory of the step."""
        self.step, self._monkeypatch = step, monkeypatch
        self.directory = directory / str(step)
        self.directory.mkdir()
        self.answered = self.recorded = False
        self.earlier = 0
        """Controls that were recorded and answered before the request."""
        self._resumed: Drill | None = None

    async def at(
        self,
        request: Callable[[Stage], Awaitable[Request]],
        site: Site,
        options: Mapping[str, Any] | None = None,
        **staging: Any,
    ) -> Killed:
        """Kill the run so many steps after `request` said what is asked for, and resume it."""
        started = steered(self.directory, self._monkeypatch, site, seed=self.step, **staging)
        async with started as stage:
            doom = Doom(stage, self._monkeypatch)

            async def person() -> None:
                verb, word = await request(stage)
                self.earlier = len(state_of(stage).controls)
                doom.dies_after(self.step)
                self._note_answers(doom)
                await told(stage, verb, word, **(options or {}))

            async with beside(person) as begin:
                process = partial(stage.run, observers=[Watching()], on_run=begin)
                assert await doom.lives(process) is None
            self._monkeypatch.undo()
            self._monkeypatch.setenv("SCENARIO_PASSWORD", "not-a-real-password")
            self.recorded = len(state_of(stage).controls) > self.earlier
            assert self.recorded or not self.answered, "it was answered, and is forgotten"
            self._resumed = await stage.resume()
        return self

    def _note_answers(self, doom: Doom) -> None:
        """Note what the process answers while it lives: what it still does then reaches nobody."""
        answer = ControlFiles.answer

        def noted(files: ControlFiles, given: Answer) -> None:
            answer(files, given)
            self.answered |= given.refused is None and not doom.dead

        self._monkeypatch.setattr(ControlFiles, "answer", noted)

    @property
    def resumed(self) -> Drill:
        """What came of the resume."""
        assert self._resumed is not None
        return self._resumed

    def target(self, label: str) -> TargetReport:
        """Return a target of the report after the resume."""
        targets = self.resumed.outcome.report.targets
        return next(each for each in targets if each.label == label)


def assert_every_kind(killed: list[Killed]) -> None:
    """Some were answered, some were not even recorded."""
    assert any(each.answered for each in killed)
    assert any(not each.recorded for each in killed)


async def test_a_failure_is_tried_again_after_a_resume_if_that_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once more, and not without it: it had failed for good."""

    def failed(stage: Stage) -> list[MountRecord]:
        return [x for x in state_of(stage).records.values() if x.result == "failed"]

    async def request(stage: Stage) -> Request:
        await until(lambda: bool(failed(stage)))
        return "retry", failed(stage)[0].planned.key

    site = Site(machines=12, limit=2, change=failing)
    extra = "defaults: {retries: {attempts: 1}}\n"
    killed = [
        await Killed(step, tmp_path, monkeypatch).at(request, site, extra=extra) for step in STEPS
    ]

    assert_every_kind(killed)
    for each in killed:
        (bad,) = (t for t in each.resumed.outcome.report.targets if t.result == "failed")
        assert len(bad.attempts) == 1 + each.recorded, each.step


async def test_what_was_skipped_is_mounted_after_a_resume_if_a_retry_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it stays skipped: that was answered before."""

    async def request(stage: Stage) -> Request:
        await until(lambda: any(x.attempts for x in state_of(stage).records.values()))
        key = next(x.planned.key for x in state_of(stage).records.values() if not x.attempts)
        assert (await told(stage, "skip", key, reason="too early")).code == 0
        await until(lambda: state_of(stage).records[key].is_final)
        return "retry", key

    site = Site(machines=12, limit=2)
    killed = [await Killed(step, tmp_path, monkeypatch).at(request, site) for step in STEPS]

    assert_every_kind(killed)
    for each in killed:
        results = list(each.resumed.results().values())
        assert results.count("skipped") == (not each.recorded), each.step
        assert results.count("mounted") == 11 + each.recorded, each.step


@pytest.mark.parametrize("approvals", [1, 2])
async def test_a_gate_is_open_after_a_resume_if_its_last_approval_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, approvals: int
) -> None:
    """Else the wave waits for it again; what was answered before counts."""

    async def request(stage: Stage) -> Request:
        await until(lambda: reached(stage))
        monkeypatch.setattr("orchestrator.app.controlling.person_name", lambda: "anna")
        if approvals == 2:
            assert (await told(stage, "approve", "second", reason="x")).code == 0
        monkeypatch.setattr("orchestrator.app.controlling.person_name", lambda: "ben")
        return "approve", "second"

    killed = [
        await Killed(step, tmp_path, monkeypatch).at(
            request, Site(machines=4), {"reason": "x"}, plan=gated(approvals)
        )
        for step in STEPS
    ]

    assert_every_kind(killed)
    for each in killed:
        assert each.target("hq-sql0001").result == ("mounted" if each.recorded else "skipped")
        assert each.resumed.outcome.code == (0 if each.recorded else 5)
        if not each.recorded:
            assert "within 30 min: 1 approval missing" in str(each.target("hq-sql0001").message)


async def test_a_rejection_that_was_recorded_is_in_the_report_and_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume takes up a run that people have halted: the wave waits once more."""

    async def request(stage: Stage) -> Request:
        await until(lambda: reached(stage))
        return "approve", "second"

    options = {"reason": "no", "reject": True}
    killed = [
        await Killed(step, tmp_path, monkeypatch).at(
            request, Site(machines=4), options, plan=gated()
        )
        for step in range(5)
    ]

    assert_every_kind(killed)
    for each in killed:
        assert len(each.resumed.report.get("controls", [])) == each.recorded
        assert "within 30 min: 1 approval missing" in str(each.target("hq-sql0001").message)
