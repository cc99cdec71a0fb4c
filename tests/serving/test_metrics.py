"""The metrics are what a strict reader takes, say what the board says, and are never half."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from orchestrator.events import Event, MountKept, RunHalted, ServerGivenUp, StopRequested
from orchestrator.model import ServerName, printable
from orchestrator.serving import Board, Showing, showing
from orchestrator.serving.metrics import CONTENT_TYPE, metrics
from orchestrator.serving.textfile import write_whole
from tests.progress.story import (
    accepted,
    failed,
    finished,
    key,
    planned,
    started,
    submitted,
    tell,
    verified,
    wave,
)
from tests.report.payloads import PAYLOADS
from tests.serving.exposition import Metric, read
from tests.serving.visits import ask, visited

STARTED = started("hq", "lab")
STORY: list[Event] = [
    STARTED,
    planned("a"),
    planned("b"),
    planned("d", "lab"),
    wave(0),
    *verified("a", 1),
    *failed("b", 8),
    submitted("d", 12, "lab"),
    accepted("d", 13, "lab"),
]


@pytest.fixture
def anyio_backend() -> str:
    """Real files, real time."""
    return "asyncio"


def read_after(*events: Event) -> dict[str, Metric]:
    """Return the metrics after a story."""
    board = Board()
    tell(board, *events)
    return read(metrics(board))


def test_the_metrics_say_where_the_run_stands() -> None:
    """Results, phases, slots, gates and the slowest, each with help and type."""
    found = read_after(
        *STORY, ServerGivenUp(at=20, server=ServerName("lab"), reason="no", refused=False)
    )

    def value(name: str, **labels: str) -> float:
        return found[f"bulk_restore_{name}"].samples[tuple(labels.items())]

    assert all(metric.about and metric.kind == "gauge" for metric in found.values())
    assert value("targets") == 3
    assert value("targets_concluded", result="verified") == 1
    assert value("targets_concluded", result="failed") == 1
    assert value("targets_in_phase", phase="running") == 1
    assert value("server_mounts_open", server="lab") == 1
    assert value("server_mounts_limit", server="hq") == 4
    assert (value("server_usable", server="hq"), value("server_usable", server="lab")) == (1, 0)
    assert value("run_elapsed_seconds") == 20
    assert value("oldest_phase_seconds") == 7
    assert value("run_state", state="running") == 1
    assert "bulk_restore_run_exit_code" not in found


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([STARTED], "starting"),
        (STORY[:4], "confirming"),
        ([replace(STARTED, confirmed=True), *STORY[1:4]], "starting"),
        ([*STORY[:4], StopRequested(at=1, signal="declined", forced=False)], "ending"),
        (STORY[:5], "running"),
    ],
)
def test_a_run_that_was_not_confirmed_does_not_run(events: list[Event], state: str) -> None:
    """Until its first wave it starts, and says when it waits for a person's yes."""
    found = read_after(*events)["bulk_restore_run_state"]

    assert {dict(labels)["state"] for labels, on in found.samples.items() if on} == {state}


def test_the_end_is_told() -> None:
    """State and exit code of a run that halted, and no clock that goes on."""
    found = read_after(*STORY, RunHalted(at=21, reason="budget", detail="x"), finished(22, 5))

    assert found["bulk_restore_run_exit_code"].samples == {(): 5}
    assert found["bulk_restore_run_state"].samples[(("state", "finished"),)] == 1
    assert found["bulk_restore_run_elapsed_seconds"].samples == {(): 22}
    assert "bulk_restore_oldest_phase_seconds" not in found


def test_verdicts_of_held_mounts_are_no_results_yet() -> None:
    """An alert for failed targets need not wait for the end of the hold."""
    *until_verdict, _unmount, _released, _concluded = verified("a", 1)
    held = MountKept(at=6, key=key("a"), reason="--hold", until=3600.0)
    found = read_after(STARTED, planned("a"), wave(0), *until_verdict, held)

    verdicts = found["bulk_restore_targets_held"].samples
    assert {dict(labels)["verdict"]: n for labels, n in verdicts.items() if n} == {"verified": 1}
    assert not any(found["bulk_restore_targets_concluded"].samples.values())


def test_before_the_run_there_is_something_to_read() -> None:
    """A scrape before the first event is no error."""
    assert read(metrics(Board()))["bulk_restore_targets"].samples == {(): 0}


@pytest.mark.parametrize("words", PAYLOADS)
def test_hostile_names_are_labels_and_nothing_else(words: str) -> None:
    """A strict reader finds exactly the printable name again, and no other metric."""
    found = read_after(started(words, "plain", plan=words), planned("a", words), wave(0))
    usual = read_after(started("hq", "plain"), planned("a"), wave(0))

    assert found.keys() == usual.keys()
    names = [dict(labels)["server"] for labels in found["bulk_restore_server_targets"].samples]
    assert names == [printable(words, 200), "plain"]
    (info,) = found["bulk_restore_run_info"].samples
    assert dict(info)["plan"] == printable(words, 200)


def test_names_that_look_the_same_are_one_sample() -> None:
    """Two servers whose shown names are equal never make a sample that stands there twice."""
    found = read_after(started("\x1bx", "\\x1bx"), planned("a", "\x1bx"), planned("b", "\\x1bx"))

    assert found["bulk_restore_server_targets"].samples == {(("server", "\\x1bx"),): 2}


@pytest.mark.anyio
async def test_prometheus_reads_them_over_http() -> None:
    """With the token as Bearer, under the format's own content type."""
    board = Board()
    tell(board, *STORY)
    async with visited(board) as site:
        answer = await ask(site, "/metrics")

    assert answer.headers["content-type"] == CONTENT_TYPE
    found = read(answer.body.decode())
    assert found["bulk_restore_web_connections"].samples == {(): 1}


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    """Others may read it, nothing else is left beside it, and a failure leaves the old one."""
    path = tmp_path / "run.prom"
    write_whole(path, "old\n")
    before = path.stat().st_ino
    write_whole(path, "new\n")

    assert path.read_text() == "new\n"
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["run.prom"]
    with pytest.raises(OSError, match=r"."):
        write_whole(tmp_path / "missing" / "run.prom", "x")


@pytest.mark.anyio
async def test_the_file_is_written_now_and_then_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the last state, after the run's end."""
    monkeypatch.setattr(showing, "METRICS_EVERY_S", 0.1)
    path = tmp_path / "run.prom"
    beside = Showing(page=None, metrics_file=path, tell=pytest.fail)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beside.accompany, lambda: 3.0)
        await anyio.sleep(0.15)
        first = path.stat().st_mtime_ns
        await anyio.sleep(0.3)
        assert path.stat().st_mtime_ns != first
        tell(beside, *STORY, finished(22))
        tasks.cancel_scope.cancel()

    assert read(path.read_text())["bulk_restore_run_exit_code"].samples == {(): 0}


@pytest.mark.anyio
async def test_a_file_that_cannot_be_written_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on, and a person is not told every 15 seconds."""
    monkeypatch.setattr(showing, "METRICS_EVERY_S", 0.02)
    told: list[str] = []
    beside = Showing(page=None, metrics_file=tmp_path / "none" / "x.prom", tell=told.append)
    with anyio.move_on_after(0.3):
        await beside.accompany(lambda: 0.0)

    (line,) = told
    assert "cannot be written" in line
    assert "the run goes on" in line
