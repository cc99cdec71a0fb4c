"""The metrics are what a strict reader takes, say what the board says, and are never half."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.core.events import (
    Event,
    MountKept,
    MountLeft,
    RunHalted,
    ServerGivenUp,
    ServerParked,
    StopRequested,
)
from orchestrator.core.model import Href, MountState, Result, ServerName
from orchestrator.core.text import printable
from orchestrator.views.web import web_view as module
from orchestrator.views.web.metrics import CONTENT_TYPE, metrics
from orchestrator.views.web.page_state import PageState
from orchestrator.views.web.web_view import WebView, write_whole
from tests.report.payloads import PAYLOADS
from tests.views.story import (
    STARTED_AT,
    accepted,
    concluded,
    failed,
    finished,
    key,
    planned,
    see,
    started,
    submitted,
    tell,
    verified,
    wave,
)
from tests.views.web.exposition import Metric, read
from tests.views.web.visits import ask, visited

PLAN = ("plan", "night-drill")
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
    page_state = PageState()
    tell(page_state, *events)
    return read(metrics(page_state))


def test_the_metrics_say_where_the_run_stands() -> None:
    """Results, phases, slots, gates and the slowest, each with help and type."""
    found = read_after(
        *STORY, ServerGivenUp(at=20, server=ServerName("lab"), reason="no", refused=False)
    )

    def value(name: str, **labels: str) -> float:
        return found[f"bulk_restore_{name}"].samples[(PLAN, *labels.items())]

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


def test_a_mount_that_was_left_is_still_open() -> None:
    """Also once its target has a result, and the run has ended: an alert must not end by itself."""
    left = [
        *(STARTED, planned("a"), wave(0), *verified("a", 1)[:-2]),
        MountLeft(at=7, key=key("a"), mount=Href("/m/a"), reason="HTTP 500"),
        concluded("a", 7, Result.VERIFIED, MountState.LEFT),
        finished(9, 3),
    ]

    assert sum(read_after(*left)["bulk_restore_server_mounts_open"].samples.values()) == 1


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

    assert found["bulk_restore_run_exit_code"].samples == {(PLAN,): 5}
    assert found["bulk_restore_run_state"].samples[(PLAN, ("state", "finished"))] == 1
    assert found["bulk_restore_run_elapsed_seconds"].samples == {(PLAN,): 22}
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
    assert read(metrics(PageState()))["bulk_restore_targets"].samples == {(): 0}


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

    assert found["bulk_restore_server_targets"].samples == {(PLAN, ("server", "\\x1bx")): 2}


@pytest.mark.anyio
async def test_prometheus_reads_them_over_http() -> None:
    """With the token as Bearer, under the format's own content type."""
    page_state = PageState()
    tell(page_state, *STORY)
    async with visited(page_state) as site:
        answer = await ask(site, "/metrics")

    assert answer.headers["content-type"] == CONTENT_TYPE
    found = read(answer.body.decode())
    assert found["bulk_restore_web_connections"].samples == {(PLAN,): 1}


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
    monkeypatch.setattr(module, "METRICS_EVERY_S", 0.1)
    path = tmp_path / "run.prom"
    web_view = WebView(page=None, metrics_file=path, show_line=pytest.fail)
    tell(web_view, *STORY[:4])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(web_view.serve, lambda: 3.0)
        with anyio.fail_after(60):
            while not path.exists():
                await anyio.sleep(0.01)
            first = path.stat().st_mtime_ns
            while path.stat().st_mtime_ns == first:
                await anyio.sleep(0.01)
        see(web_view, finished(22), None)
        tasks.cancel_scope.cancel()

    assert read(path.read_text())["bulk_restore_run_exit_code"].samples == {(PLAN,): 0}


@pytest.mark.anyio
async def test_a_file_that_cannot_be_written_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on, and a person is not told every 15 seconds."""
    monkeypatch.setattr(module, "METRICS_EVERY_S", 0.02)
    told: list[str] = []
    tries = 0
    with anyio.CancelScope() as scope:

        def now() -> float:
            nonlocal tries
            tries += 1
            if tries == 5:
                scope.cancel()
            return 0.0

        path = tmp_path / "none" / "x.prom"
        web_view = WebView(page=None, metrics_file=path, show_line=told.append)
        tell(web_view, STARTED)
        await web_view.serve(now)

    (line,) = told
    assert "cannot be written" in line
    assert "the run goes on" in line


@pytest.mark.anyio
async def test_a_change_of_state_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not up to 15 seconds late: the start, the first wave, a server in trouble, the end."""
    monkeypatch.setattr(module, "METRICS_EVERY_S", 3600.0)
    path = tmp_path / "run.prom"
    web_view = WebView(page=None, metrics_file=path, show_line=pytest.fail)

    async def until(name: str, **labels: str) -> None:
        with anyio.fail_after(60):
            while True:
                found = read(path.read_text()) if path.exists() else {}
                if name in found and found[name].samples.get((PLAN, *labels.items())) == 1:
                    return
                await anyio.sleep(0.01)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(web_view.serve, lambda: 3.0)
        await anyio.sleep(0.05)
        assert not path.exists()  # without a plan's name it could be anybody's
        tell(web_view, replace(STARTED, confirmed=True))
        await until("bulk_restore_run_state", state="starting")
        see(web_view, wave(1), None)
        await until("bulk_restore_run_state", state="running")
        see(web_view, ServerParked(at=2, server=ServerName("lab"), reason="x"), None)
        with anyio.fail_after(60):
            while read(path.read_text())["bulk_restore_server_usable"].samples[
                PLAN, ("server", "lab")
            ]:
                await anyio.sleep(0.01)
        see(web_view, finished(22), None)
        await until("bulk_restore_run_state", state="finished")
        tasks.cancel_scope.cancel()


def test_two_plans_share_no_series() -> None:
    """Node exporter drops the second of two equal series without a word."""
    one, other = (
        read_after(started("hq", plan=plan), planned("a"), wave(0), finished(9))
        for plan in ("nightly", "weekly")
    )

    series = [
        {(name, labels) for name, metric in found.items() for labels in metric.samples}
        for found in (one, other)
    ]
    assert series[0]
    assert not series[0] & series[1]
    assert len(series[0]) == len(series[1])


@pytest.mark.anyio
async def test_the_last_success_outlives_a_run_that_is_over_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was slow at its start: it is read at the end."""
    path, over, is_slow = tmp_path / "run.prom", threading.Event(), iter([True])

    def slow(*_: object) -> float:
        if next(is_slow, False):
            over.wait(10)
        return 1_700_000_000.5

    monkeypatch.setattr(module, "_last_success", slow)
    web_view = WebView(page=None, metrics_file=path, show_line=pytest.fail)
    tell(web_view, STARTED, finished(9, 1))
    with anyio.move_on_after(0.05):
        await web_view.serve(lambda: 9.0)
    over.set()
    found = read(path.read_text())["bulk_restore_run_last_success_timestamp_seconds"]

    assert list(found.samples.values()) == [1_700_000_000.5]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("changes", "code", "success"),
    [
        ({}, 0, STARTED_AT.timestamp()),
        ({}, 1, 1_700_000_000.5),
        ({"only": ("a*",)}, 0, 1_700_000_000.5),
        ({"plan": "other"}, 1, None),
    ],
)
async def test_the_last_success_outlives_the_runs_after_it(
    tmp_path: Path, changes: dict[str, Any], code: int, success: float | None
) -> None:
    """An alert asks when the whole plan last went well, and not how its last run ended."""
    path = tmp_path / "run.prom"
    path.write_text(
        'bulk_restore_run_last_success_timestamp_seconds{plan="night-drill"} 1700000000.5\n'
    )
    web_view = WebView(page=None, metrics_file=path, show_line=pytest.fail)
    tell(web_view, replace(STARTED, **changes), finished(9, code))
    with anyio.move_on_after(0.2):
        await web_view.serve(lambda: 9.0)

    found = read(path.read_text()).get("bulk_restore_run_last_success_timestamp_seconds")
    assert (list(found.samples.values()) if found else [None]) == [success]
