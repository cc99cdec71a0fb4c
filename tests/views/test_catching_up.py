"""Views of a resumed run: they go on from what earlier processes did, and count the same."""

from __future__ import annotations

import io
import json
from pathlib import Path

import anyio
import pytest

from orchestrator.core.events import Event, RunResumed
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.run_state import replay
from orchestrator.journal import State
from orchestrator.views.json_events import JsonEvents
from orchestrator.views.lines import LineView
from orchestrator.views.statistics import RunStatistics
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, staged
from tests.views.story import see
from tests.virtual.sites import host

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


def split(state: State) -> tuple[list[Told], list[Told]]:
    """Return what the first process told, and what the second one told."""
    told = [(event, record) for _, event, record in replay(state.events(state.find("last")))]
    (second,) = (n for n, (event, _) in enumerate(told) if isinstance(event, RunResumed))
    return told[:second], told[second:]


def go_on(view: JsonEvents | LineView, before: list[Told], after: list[Told]) -> None:
    """Let a view catch up with the first process and see the second one."""
    for event, record in before:
        view.stats.observe(event, record)
        view.catch_up(event, record)
    for event, record in after:
        see(view, event, record)


async def test_a_resume_counts_like_a_view_that_saw_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reopened targets and replaced placeholders lose the results that they had."""
    done = await resumed(tmp_path, monkeypatch)
    before, after = split(done.state)
    stats = RunStatistics()
    for event, record in [*before, *after]:
        stats.observe(event, record)

    assert stats.counts() == "9/9 done, 9 mounted, 0 open, 0 waiting"
    assert stats.done_by_server == {"hq": 6, "dr": 3}


async def test_the_last_json_event_of_a_resume_has_the_totals_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that reads only the second process's events still gets the whole answer."""
    done = await resumed(tmp_path, monkeypatch)
    before, after = split(done.state)
    stream = io.StringIO()
    view = JsonEvents(stream)
    go_on(view, before, after)
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
    before, after = split(done.state)
    stream = io.StringIO()
    view = LineView(stream)
    go_on(view, before, after)

    text, stats = stream.getvalue(), RunStatistics()
    for event, record in before:
        stats.observe(event, record)
    assert text.splitlines()[0].endswith(f"of scenario goes on: {stats.counts()}")
    assert "hq: the earlier process's logon session goes on" in text
