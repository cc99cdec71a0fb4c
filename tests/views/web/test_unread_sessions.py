"""What may be open of a run looks open: on the page, in the metrics, also of a killed process."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.app.follow import RunFollower, follow
from orchestrator.core.events import Event, RunResumed, SessionEnded, StrayFound
from orchestrator.core.left_open import DIED, out_of_reach_words
from orchestrator.core.model import MountState, ServerName, SessionId, TaskId
from orchestrator.core.policy import SESSION_IDLE_LIMIT
from orchestrator.journal import State
from orchestrator.views.stalled import Away
from orchestrator.views.web import server as server_module
from orchestrator.views.web import web_view as module
from orchestrator.views.web.metrics import metrics
from orchestrator.views.web.page_state import PageState
from orchestrator.views.web.web_view import PageOptions, WebView
from tests.browser import chromium, needs_chromium
from tests.report.builders import SESSION, Fate, life
from tests.report.history.runs import beginning, called, keep
from tests.views.story import (
    HOSTILE,
    STALL,
    STARTED_AT,
    accepted,
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
from tests.views.web.exposition import read
from tests.views.web.visits import visited

HQ, S = ServerName("hq"), SessionId("s")
PLAN = ("plan", "night-drill")
RELEASED: list[Event] = [started("hq", "lab"), planned("a"), wave(0), *verified("a", 1)]
"""A run whose only mount was removed, and whose session goes on."""
UNREAD = f"whether a mount of no target is open on hq is not known ({DIED})"
RESUMED = RunResumed(at=20, resumed_at=STARTED_AT, version="1.0")
STRAY = StrayFound(at=9, server=HQ, session=S, task=TaskId("task-13"), reason="sent twice")


def ended(unaudited: str | None = None, at: float = 10) -> SessionEnded:
    """Return the end of the session."""
    return SessionEnded(
        at=at,
        server=HQ,
        session=S,
        lost=False,
        reason="logged off" if unaudited is None else "left open",
        unaudited=unaudited,
        left_open=unaudited is not None,
    )


def shown(*events: Event, gone: bool = False) -> PageState:
    """Return the page of a story whose process is gone afterwards, or not."""
    page_state = PageState()
    tell(page_state, *events)
    page_state.abandon(gone=gone)
    return page_state


def snapshot(page_state: PageState) -> dict[str, Any]:
    """Return what the page is sent."""
    found: dict[str, Any] = json.loads(page_state.snapshot())
    return found


def unaudited(page_state: PageState) -> dict[str, float]:
    """Return which servers the metrics call unaudited."""
    samples = read(metrics(page_state))["bulk_restore_server_unaudited"].samples
    return {dict(labels)["server"]: value for labels, value in samples.items()}


@pytest.mark.parametrize(
    ("events", "gone", "words"),
    [
        (RELEASED, True, UNREAD),
        (
            [*RELEASED, ended("no answer"), finished(12, 3)],
            False,
            UNREAD.replace(DIED, "no answer"),
        ),
        ([*RELEASED, ended("no answer")], False, UNREAD.replace(DIED, "no answer")),
    ],
    ids=["killed", "ended", "lost while the run goes on"],
)
def test_a_session_that_nobody_has_read_is_named(
    events: Sequence[Event], gone: bool, words: str
) -> None:
    """On the page, at its server and in the metrics: no number there says that nothing is open."""
    page_state = shown(*events, gone=gone)
    seen = snapshot(page_state)
    hq, lab = seen["servers"]

    assert (seen["unread"], seen["left_open"]) == ([words], 0)
    assert (hq["unread"], lab["unread"]) == (words, "")
    assert unaudited(page_state) == {"hq": 1, "lab": 0}


@pytest.mark.parametrize(
    ("events", "gone"),
    [
        (RELEASED, False),
        ([*RELEASED, ended()], True),
        ([*RELEASED, ended("no answer"), ended(at=11)], True),
        (RELEASED[:3], True),
        ([*RELEASED, finished(12)], False),
    ],
    ids=[
        "living",
        "logged off",
        "answered again",
        "nothing asked for",
        "without the end of its session",
    ],
)
def test_what_is_known_to_be_gone_is_no_trouble(events: Sequence[Event], gone: bool) -> None:
    """A living process will read its session; one that was read to the end needs nobody."""
    page_state = shown(*events, gone=gone)
    seen = snapshot(page_state)

    assert (seen["unread"], seen["left_open"]) == ([], 0)
    assert unaudited(page_state) == {"hq": 0, "lab": 0}


def test_a_resume_takes_the_session_up() -> None:
    """It reads it; if it dies before, the session is unread again, until it has ended."""
    page_state = shown(*RELEASED, gone=True)
    see(page_state, RESUMED)
    going_on = snapshot(page_state)["unread"]
    page_state.abandon(gone=True)
    killed_again = snapshot(page_state)["unread"]
    see(page_state, ended(at=30))

    assert (going_on, killed_again) == ([], [UNREAD])
    assert snapshot(page_state)["unread"] == []


def test_mounts_under_way_need_a_person_once_their_process_is_gone() -> None:
    """They are named with their phase, as `status` does, and counted as left."""
    events = [*RELEASED, planned("b"), submitted("b", 10), accepted("b", 11), STRAY]
    living, killed = shown(*events), shown(*events, gone=True)
    left = "bulk_restore_mounts_left"

    assert snapshot(living)["left_open"] == read(metrics(living))[left].samples[(PLAN,)] == 1
    assert snapshot(killed)["left_open"] == read(metrics(killed))[left].samples[(PLAN,)] == 2
    stray, under_way = snapshot(killed)["left_named"]
    assert stray["key"].startswith("a mount of no target")
    assert (under_way["key"], under_way["message"]) == (key("b"), "running")
    assert under_way["mount"] == MountState.UNKNOWN.value
    assert snapshot(killed)["servers"][0]["used"] == 2


@pytest.mark.parametrize(
    ("how", "at", "beyond"),
    [
        (ended("no answer"), 1000, 0),
        (replace(ended(), lost=True, reason="401"), 1000, 1),
        (replace(ended(), lost=True, reason="401"), 12, 0),
    ],
    ids=["left open", "lost", "denied a while ago"],
)
def test_what_a_lost_session_mounted_is_promised_to_no_command(
    how: SessionEnded, at: float, beyond: int
) -> None:
    """As in the report: a person must remove it in the console, and `unmount` at most the rest."""
    seen = snapshot(shown(*RELEASED, STRAY, how, finished(at, 3)))

    assert (seen["left_open"], seen["out_of_reach"]) == (1, beyond)
    assert seen["out_of_reach_words"] == (out_of_reach_words(1) if beyond else "")


@pytest.mark.anyio
async def test_a_killed_run_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alarm does not wait for the next turn to learn that the process is gone."""
    monkeypatch.setattr(module, "METRICS_EVERY_S", 3600.0)
    path = tmp_path / "run.prom"
    web_view = WebView(page=None, metrics_file=path, show_line=pytest.fail)
    tell(web_view, *RELEASED)

    async def until(text: str) -> None:
        with anyio.fail_after(60):
            while not path.exists() or text not in path.read_text():
                await anyio.sleep(0.01)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(web_view.serve, lambda: 20.0)
        await until('server_unaudited{plan="night-drill",server="hq"} 0\n')
        web_view.abandon(gone=True)
        await until('server_unaudited{plan="night-drill",server="hq"} 1\n')
        assert 'run_state{plan="night-drill",state="interrupted"} 1\n' in path.read_text()
        see(web_view, RESUMED)
        await until('server_unaudited{plan="night-drill",server="hq"} 0\n')
        see(web_view, ended("no answer", at=30))
        await until('server_unaudited{plan="night-drill",server="hq"} 1\n')
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_run_that_stalls_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a state, and since when; both end with it, and the page says the same."""
    monkeypatch.setattr(module, "METRICS_EVERY_S", 3600.0)
    path = tmp_path / "run.prom"
    web_view = WebView(page=None, metrics_file=path, show_line=pytest.fail)
    tell(web_view, *RELEASED)
    name, second = "run_stalled_since_timestamp_seconds", int(STALL.since.timestamp())
    since = f'{name}{{plan="night-drill"}} {second}\n'

    async def until(text: str) -> None:
        with anyio.fail_after(60):
            while not path.exists() or text not in path.read_text():
                await anyio.sleep(0.01)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(web_view.serve, lambda: 20.0)
        await until('run_state{plan="night-drill",state="running"} 1\n')
        before = web_view.page_state.version
        web_view.stall(STALL)
        await until('run_state{plan="night-drill",state="stalled"} 1\n')
        assert since in path.read_text()
        assert "run_remaining" not in path.read_text()
        assert web_view.page_state.version > before
        seen = snapshot(web_view.page_state)
        web_view.stall(None)
        await until('run_state{plan="night-drill",state="running"} 1\n')
        assert "stalled_since" not in path.read_text()
        tasks.cancel_scope.cancel()

    assert seen["state"] == "stalled"
    assert seen["stalled"].startswith("stalled since 2026-11-29 10:03:12 UTC: process 7 on host")
    assert seen["continuing"].startswith("it may go on")
    assert snapshot(web_view.page_state)["stalled"] == ""


def test_a_run_over_several_machines_waits_for_a_worker() -> None:
    """Nothing is dead: the page and the metrics say whom it waits for, in the words of `watch`."""
    web_view = WebView(page=None, metrics_file=None, show_line=pytest.fail)
    tell(web_view, *RELEASED)
    web_view.stats.is_shared = True
    before = snapshot(web_view.page_state)

    web_view.abandon(gone=True)
    seen = snapshot(web_view.page_state)
    versions = [web_view.page_state.version]
    for waits in ((), ("2 shards wait: no worker serves site moon",), (), ()):
        web_view.stats.what_waits = waits
        web_view.page_state.advance(0.0)
        versions.append(web_view.page_state.version)

    assert [after - one for one, after in pairwise(versions)] == [0, 1, 1, 0]
    assert (before["state"], before["abandoned"]) == ("running", "")
    assert (seen["state"], seen["abandoned"]) == ("waiting", "no worker serves it")
    assert seen["continuing"] == "the next worker goes on with it: bulk-restore work"


@pytest.mark.parametrize("ends", [[], [finished(30, 0)]], ids=["goes on", "has ended"])
def test_a_database_that_is_away_hides_no_end(ends: Sequence[Event]) -> None:
    """How a run ended is known, whatever became of its database afterwards."""
    page_state = shown(*RELEASED, *ends)
    page_state.stats.away = Away(since=STALL.since, why="connection refused")

    assert snapshot(page_state)["is_away"] is not bool(ends)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fates", "has_ended"),
    [([Fate.MOUNTED], False), ([Fate.MOUNTED, Fate.RUNNING], False), ([Fate.LEFT], True)],
    ids=["killed before its last look", "killed with a mount open", "ended with a mount left"],
)
async def test_serve_says_what_status_says(
    fates: Sequence[Fate], has_ended: bool, tmp_path: Path
) -> None:
    """From the journal alone: the same targets, and the same words of what is not known."""
    lives = [life(f"vm{number}", fate) for number, fate in enumerate(fates)]
    end = [ended_in_journal()] if has_ended else []
    await anyio.to_thread.run_sync(
        lambda: keep(tmp_path, beginning(1), [*lives, end], ended=has_ended, exit_code=3)
    )
    state = State(tmp_path)
    web_view = WebView(page=PageOptions(), metrics_file=None, show_line=lambda _line: None)
    looked = anyio.Event()

    def note(follower: RunFollower) -> None:
        web_view.abandon(gone=not follower.has_ended and not follower.is_running)
        looked.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow, RunFollower(state, state.summary("last")), web_view, note)
        await looked.wait()
        tasks.cancel_scope.cancel()
    seen = snapshot(web_view.page_state)
    told = await anyio.to_thread.run_sync(lambda: called(tmp_path, "status", "last").output)
    title = "LEFT MOUNTED, remove by hand:\n" if has_ended else "May still be mounted; "
    _, _, lines = told.partition(title)
    lines = lines.partition("\n\n")[0] if has_ended else lines.partition("\n")[2]
    open_now = [line.strip() for line in lines.splitlines() if line.startswith("  ")]

    assert len(open_now) == len(seen["left_named"]) + len(seen["unread"]) > 0
    assert set(seen["unread"]) <= set(open_now)
    assert all(
        any(line.startswith((f"{each['key']}: ", f"{each['key']} on ")) for line in open_now)
        for each in seen["left_named"]
    )
    assert seen["state"] == ("finished" if has_ended else "interrupted")


def ended_in_journal() -> SessionEnded:
    """Return the end of the only session of the report's runs, which was read before."""
    return SessionEnded(
        at=50, server=HQ, session=SESSION, lost=False, reason="left open", left_open=True
    )


def test_the_page_shows_all_that_it_is_sent() -> None:
    """Every field of the picture, of a server and of what is left is read by the page's script."""
    folder = Path(server_module.__file__).parent / "page"
    script = (folder / "page.js").read_text()
    seen = snapshot(shown(*RELEASED, STRAY, gone=True))

    places = set(re.findall(r'id="([\w-]+)"', (folder / "index.html").read_text()))

    assert set(re.findall(r'\bat\("([\w-]+)"\)', script)) <= places
    assert seen.keys() == set(re.findall(r"\bpicture\??\.(\w+)", script))
    assert seen["servers"][0].keys() <= set(re.findall(r"\bfacts\.(\w+)", script))
    assert seen["left_named"][0].keys() <= set(re.findall(r"\brecord\.(\w+)", script))


@pytest.mark.anyio
@pytest.mark.process
@needs_chromium
async def test_an_unread_session_stands_first_with_the_next_command(tmp_path: Path) -> None:
    """Of a killed run and of one that ended; as text, whatever the server's words are."""
    page_state = shown(*RELEASED, gone=True)
    async with visited(page_state) as site, chromium(tmp_path) as tab:
        await tab.open(site.link)
        await tab.until("document.querySelectorAll('#left li').length === 1")
        first = await tab.value("document.querySelector('main section').innerText")
        servers = await tab.value("document.querySelector('#servers').innerText")
        see(page_state, RESUMED)
        site.tick(20)
        await tab.until("document.getElementById('open-mounts').hidden")
        see(page_state, ended(HOSTILE, at=30))
        see(page_state, finished(31, 3))
        site.tick(31)
        await tab.until("document.querySelectorAll('#left li').length === 1")
        release = await tab.value("document.getElementById('release').innerText")

    assert first.startswith("May be mounted\n\nThis looks for them and goes on: ")
    assert "bulk-restore resume r-1" in first
    assert UNREAD in first
    assert UNREAD in servers
    assert "at least 0 of 4 slots" in servers
    assert release.endswith("this may still release them: bulk-restore unmount r-1")
    assert [each for each in tab.complaints if "ERR_" not in each] == []


@pytest.mark.anyio
@pytest.mark.process
@needs_chromium
async def test_a_mount_beyond_every_command_is_left_to_a_person(tmp_path: Path) -> None:
    """The page names the console, and no command that cannot help."""
    lost = replace(ended(), lost=True, reason="401")
    async with visited(shown(*RELEASED, STRAY, lost)) as site, chromium(tmp_path) as tab:
        await tab.open(site.link)
        await tab.until("document.querySelectorAll('#left li').length === 1")
        site.tick(lost.at + SESSION_IDLE_LIMIT + 1)  # by then the server has forgotten it
        await tab.until("!document.querySelector('main section').innerText.includes('unmount')")
        first = await tab.value("document.querySelector('main section').innerText")

    assert out_of_reach_words(1) in first
    assert "bulk-restore" not in first


@pytest.fixture
def anyio_backend() -> str:
    """Real files, real time."""
    return "asyncio"
