"""Views of a resumed run: they go on from what earlier processes did, and count the same."""

from __future__ import annotations

import io
import json
from pathlib import Path

import anyio
import pytest

from orchestrator.events import Event, RunResumed, RunStarted
from orchestrator.journal import State
from orchestrator.lifecycle import MountRecord
from orchestrator.progress.json_events import JsonEvents
from orchestrator.progress.lines import LineView
from orchestrator.runstate import RunState
from orchestrator.simulator.sites import host
from orchestrator.tally import Tally
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, staged

pytestmark = pytest.mark.anyio

Told = tuple[Event, MountRecord | None]


async def resumed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Drill:
    """Kill a run early, with one server out of reach, and let a second process end it."""
    sites = [Site("hq", machines=6, limit=1), Site("dr", machines=3)]
    extra = "limits: {outage: 3m}\n"
    async with staged(directory, monkeypatch, sites, extra=extra) as stage:
        stage.sites.network.refusing.add(host("dr"))
        assert await Doom(stage, monkeypatch).lives(stage.run, at_s=200.0) is None
        await anyio.sleep(30.0)
        return await stage.resume(retry_failed=True)


def split(state: State) -> tuple[list[Told], RunState, list[Told]]:
    """Return what the first process told, the fold of it, and what the second one told."""
    before: list[Told] = []
    after: list[Told] = []
    events = list(state.events(state.find("last")))
    begun = events[0]
    assert isinstance(begun, RunStarted)
    whole, found = RunState(begun), RunState(begun)
    before.append((begun, None))
    told = before
    for event in events[1:]:
        if isinstance(event, RunResumed):
            told = after
        told.append((event, whole.take(event)))
        if told is before:
            found.take(event)
    return before, found, after


async def test_a_tally_that_takes_over_counts_like_one_that_saw_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reopened targets and replaced placeholders lose the results that they had."""
    done = await resumed(tmp_path, monkeypatch)
    before, found, after = split(done.state)
    saw, took = Tally(), Tally()
    for event, record in [*before, *after]:
        saw.take(event, record)
    took.take_over(found)
    for event, record in after:
        took.take(event, record)

    assert took.counts() == saw.counts() == "9/9 done, 9 mounted, 0 open, 0 waiting"
    assert took.done_by_server == saw.done_by_server == {"hq": 6, "dr": 3}
    assert +took.phases == +saw.phases
    assert took.by_server == saw.by_server


async def test_the_last_json_event_of_a_resume_has_the_totals_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that reads only the second process's events still gets the whole answer."""
    done = await resumed(tmp_path, monkeypatch)
    _before, found, after = split(done.state)
    stream = io.StringIO()
    view = JsonEvents(stream)
    view.take_over(found)
    for event, record in after:
        view.observe(event, record)
    view.sum_up(0)

    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (rows[0]["type"], rows[0]["state"]) == ("run", "resumed")
    assert any(row.get("state") == "session_taken_up" for row in rows)
    assert rows[-1]["totals"] == done.report["totals"]


async def test_lines_say_which_run_goes_on_and_how_far_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first line counts what was done before."""
    done = await resumed(tmp_path, monkeypatch)
    _before, found, after = split(done.state)
    stream = io.StringIO()
    view = LineView(stream)
    view.take_over(found)
    for event, record in after:
        view.observe(event, record)

    text = stream.getvalue()
    assert text.splitlines()[0].endswith(f"of scenario goes on: {Tally.counts(_taken(found))}")
    assert "hq: the earlier process's logon session goes on" in text


def _taken(found: RunState) -> Tally:
    tally = Tally()
    tally.take_over(found)
    return tally
