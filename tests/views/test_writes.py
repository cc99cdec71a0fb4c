"""Files that are written into guests: in doubt is said where it is the last word, and only then."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.events import FileCopied
from orchestrator.core.proof import Download
from orchestrator.core.run_state import replay
from orchestrator.simulator.faults import Fault
from orchestrator.views.json_events import JsonEvents
from orchestrator.views.lines import LineView
from orchestrator.views.view import View
from tests.scenarios.drill import Drill
from tests.scenarios.guest import OUT, Content
from tests.scenarios.test_downloads import STAGING, recovered
from tests.views.story import see

pytestmark = pytest.mark.anyio

FILE = f"{OUT}/ledger.csv"
LOST = Fault(kind="drop_after", method="POST", path=STAGING)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return where the run is."""
    return tmp_path


async def written(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    faults: Sequence[Fault] = (),
) -> Drill:
    """Let a run write one file into the guest of its only target."""
    order = Download(path=FILE, to=None, overwrite=True)
    content = Content({"ledger.csv": b"1"})
    return await recovered(directory, monkeypatch, content, downloads=[order], faults=faults)


def show(done: Drill, view: View, *, up_to: int | None = None) -> None:
    """Show a view the run, or what of it was recorded `up_to` so many words about its file."""
    words = 0
    for _, event, record in replay(done.state.events(done.state.find("last"))):
        see(view, event, record)
        words += isinstance(event, FileCopied)
        if words == up_to:
            break


def lines(done: Drill, *, verbose: bool = False) -> list[str]:
    """Return the lines that name the file."""
    stream = io.StringIO()
    show(done, LineView(stream, verbose=verbose))
    return [line for line in stream.getvalue().splitlines() if FILE in line]


def copies(stream: io.StringIO) -> list[tuple[Any, ...]]:
    """Return path and fate of every `copy` event."""
    rows = map(json.loads, stream.getvalue().splitlines())
    return [(row["path"], row["fate"]) for row in rows if row["type"] == "copy"]


async def test_an_ordinary_write_is_never_said_to_be_in_doubt(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal holds the intent, and that the server took it; nobody needs to look."""
    done = await written(directory, monkeypatch)
    stream = io.StringIO()
    show(done, JsonEvents(stream))

    assert lines(done) == []
    assert [line.partition(": ")[2] for line in lines(done, verbose=True)] == [
        f"writing {FILE} into the guest",
        f"wrote {FILE} into the guest",
    ]
    assert copies(stream) == [(FILE, "restored")]


async def test_a_write_whose_answer_is_lost_is_in_doubt_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the last that is known of it, before the target's end."""
    done = await written(directory, monkeypatch, faults=[LOST])
    stream = io.StringIO()
    show(done, JsonEvents(stream))

    doubt, end = lines(done)
    assert f"IN DOUBT: {FILE} may have been written into the guest: " in doubt
    assert "unknown" in end
    assert copies(stream) == [(FILE, "unknown")]


@pytest.mark.parametrize("known", [1, 2], ids=["about to be sent", "taken by the server"])
async def test_a_write_is_in_doubt_once_the_process_is_gone(
    directory: Path, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    """Whoever watches it learns of it then, and only then."""
    done = await written(directory, monkeypatch)
    stream = io.StringIO()
    view = LineView(stream)
    show(done, view, up_to=known)
    before = stream.getvalue()
    view.abandon(gone=True)
    view.abandon(gone=True)

    assert "IN DOUBT" not in before
    assert stream.getvalue().count(f"IN DOUBT: {FILE} may have been written") == 1


async def test_a_run_that_broke_off_names_its_writes_to_a_program(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the error that is its last word."""
    done = await written(directory, monkeypatch)
    stream = io.StringIO()
    view = JsonEvents(stream)
    show(done, view, up_to=2)
    assert copies(stream) == []

    view.error("disk full")
    view.sum_up(74)

    assert copies(stream) == [(FILE, "unknown")]
    types = [json.loads(line)["type"] for line in stream.getvalue().splitlines()]
    assert types[-3:] == ["copy", "error", "summary"]
