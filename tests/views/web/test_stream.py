"""What a listener hears, and that nobody waits for one."""

from __future__ import annotations

import inspect
import json
import socket
from pathlib import Path

import anyio
import anyio.abc
import pytest

from orchestrator.core.events import MountKept, MountLeft, RunHalted, ServerPaced, ServerParked
from orchestrator.core.model import Href, MountState, Result, ServerName
from orchestrator.views.statistics import RunStatistics
from orchestrator.views.web import connection_limits as limits_module
from orchestrator.views.web import server as server_module
from orchestrator.views.web.metrics import metrics
from orchestrator.views.web.page_state import PageState
from orchestrator.views.web.subscribers import Full, Subscribers
from orchestrator.views.web.timeline import PART, PHASES
from tests.report.payloads import PAYLOADS
from tests.views.story import (
    HOSTILE,
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
from tests.views.web.visits import ask, connected, everything, listening, request, visited

pytestmark = pytest.mark.anyio

STORY = [
    started("hq", "lab"),
    *[planned(vm) for vm in ("a", "b", "c")],
    planned("d", "lab"),
    wave(0),
    *verified("a", 1),
    *failed("b", 8, HOSTILE),
    submitted("d", 12, "lab"),
    accepted("d", 13, "lab"),
    ServerParked(at=14, server=ServerName("lab"), reason="no answer"),
]


@pytest.fixture
def anyio_backend() -> str:
    """Real sockets, real time."""
    return "asyncio"


async def test_a_listener_sees_where_the_run_stands() -> None:
    """The picture and the timeline say what the terminal's view says."""
    page_state = PageState()
    tell(page_state, *STORY)

    async with visited(page_state) as site, listening(site) as reader:
        phases = await reader.until("begin")
        snapshot = await reader.until("picture")
        changes = await reader.until("changes")

    assert phases == [phase.value for phase in PHASES]
    assert (snapshot["state"], snapshot["plan"]) == ("running", "night-drill")
    assert (snapshot["done"], snapshot["targets"]) == (2, 4)
    assert (snapshot["open"], snapshot["waiting"]) == (1, 1)
    assert snapshot["waves"] == [{"name": "w", "done": 2, "targets": 4}]
    assert (snapshot["waves_ended"], snapshot["waves_all"]) == (0, 1)
    assert snapshot["proofs"] == ["1 check"]
    assert snapshot["results"]["verified"] == snapshot["results"]["failed"] == 1
    hq, lab = snapshot["servers"]
    assert (hq["used"], hq["allowed"], hq["done"], hq["targets"], hq["gate"]) == (
        0,
        4,
        2,
        3,
        "open",
    )
    assert (lab["used"], lab["gate"], lab["why"]) == (1, "waiting", "waiting: no answer")
    assert [each["key"] for each in snapshot["slowest"]] == [key("d", "lab")]
    assert [each["key"] for each in snapshot["failures"]] == [key("b")]
    lives: dict[int, list[str]] = {}
    for lane, phase, *_time_left_gauges in changes:
        lives.setdefault(lane, []).append(phases[phase])
    assert lives[0][0] == "submitting"
    assert lives[0][-1] == "done"
    assert lives[2] == ["submitting", "running"]
    assert changes[0][3:] == [key("a"), "hq"]


def test_held_mounts_are_counted() -> None:
    """How many are held, and until when, unless only a person can say."""
    page_state = PageState()
    *until_verdict, _unmount, _released, _concluded = verified("a", 1)
    tell(
        page_state,
        *(started("hq"), planned("a"), *until_verdict),
        MountKept(at=6, key=key("a"), reason="--hold", until=60.0),
    )

    assert json.loads(page_state.snapshot())["held"] == {
        "count": 1,
        "until": 60.0,
        "verdicts": "1 verified",
    }


def test_the_page_says_what_is_allowed_now() -> None:
    """A server that is slowed down has fewer slots than the plan allows, and that is shown."""
    page_state = PageState()
    tell(page_state, *STORY, ServerPaced(at=15, server=ServerName("hq"), allowed=2))
    hq, lab = json.loads(page_state.snapshot())["servers"]
    see(page_state, ServerPaced(at=16, server=ServerName("hq"), allowed=None), None)
    again, _lab = json.loads(page_state.snapshot())["servers"]

    assert (hq["allowed"], hq["limit"]) == (2, 4)
    assert (lab["allowed"], lab["limit"]) == (4, 4)
    assert again["allowed"] == 4


def test_the_page_counts_what_may_be_mounted() -> None:
    """A person sees it, and an alarm can be set on it."""
    page_state = PageState()
    *until_unmount, _released, _concluded = verified("a", 1)
    tell(
        page_state,
        *(started("hq"), planned("a"), *until_unmount),
        MountLeft(at=7, key=key("a"), mount=Href("/m/a"), reason="refused"),
        concluded("a", 7, Result.VERIFIED, MountState.LEFT),
    )

    assert json.loads(page_state.snapshot())["left_open"] == 1
    assert 'bulk_restore_mounts_left{plan="night-drill"} 1\n' in metrics(page_state)


def test_a_held_mount_is_not_slow() -> None:
    """It waits for a person: neither the page nor an alarm calls it the slowest."""
    page_state = PageState()
    *until_verdict, _unmount, _released, _concluded = verified("a", 1)
    tell(
        page_state,
        *(started("hq"), planned("a"), *until_verdict),
        MountKept(at=6, key=key("a"), reason="--hold", until=600.0),
    )
    page_state.advance(500)

    assert json.loads(page_state.snapshot())["slowest"] == []
    assert "oldest_phase_seconds" not in metrics(page_state)


def test_the_page_is_as_sure_of_the_end_as_the_terminal() -> None:
    """A range where there is one, by the same history, and why nobody can know where so."""
    page_state = PageState()
    page_state.stats = RunStatistics(lambda _server, vm: {"a": 10.0, "b": 300.0}.get(vm))
    tell(page_state, started("hq", limit=1), planned("a"), planned("b"), wave(0), submitted("a", 1))
    page_state.advance(2)
    known = json.loads(page_state.snapshot())["left"]
    time_left = page_state.stats.time_left()
    see(page_state, ServerParked(at=3, server=ServerName("hq"), reason="no answer"), None)
    parked = json.loads(page_state.snapshot())["left"]

    assert known == time_left.words
    assert " to " in known
    assert parked.startswith("at least")
    assert "out of reach" in parked
    assert 'run_remaining_seconds_range{plan="night-drill",bound="low"}' in metrics(page_state)
    assert 'bound="high"' not in metrics(page_state)


async def test_a_listener_follows_the_run_to_its_end() -> None:
    """What happens later arrives; after the end the stream ends, with the last picture."""
    page_state = PageState()
    async with visited(page_state) as site, listening(site) as reader:
        assert (await reader.until("picture"))["state"] == "starting"
        tell(page_state, *STORY)
        site.tick(14)
        assert (await reader.until("picture"))["state"] == "running"
        see(page_state, RunHalted(at=15, reason="budget", detail="too much"), None)
        site.tick(15)
        assert (await reader.until("picture"))["ending"] == "halted: too much"
        see(page_state, finished(16, 5), None)
        await site.close(1)
        last = await reader.until("picture")
        with pytest.raises(anyio.EndOfStream):
            await reader.until("picture")

    assert (last["state"], last["exit_code"], last["now"]) == ("finished", 5, 16)


async def test_a_quiet_run_sends_nothing() -> None:
    """Without news no picture is made; clocks are set again every few seconds."""
    page_state = PageState()
    tell(page_state, *STORY)
    async with visited(page_state) as site, listening(site) as reader:
        await reader.until("changes")
        (listener,) = site.subscribers
        site.tick(20)
        await reader.until("picture")
        site.tick(21)
        site.tick(22)
        assert listener.waiting_bytes == 0
        site.tick(20 + server_module.REFRESH_S)
        assert listener.waiting_bytes > 0


@pytest.mark.parametrize("words", PAYLOADS)
def test_hostile_text_stays_one_line_of_data(words: str) -> None:
    """Nothing a server says can begin another event of the stream or a second line."""
    page_state = PageState()
    tell(
        page_state,
        started(words, plan=words),
        planned(words, words),
        *failed(words, 1, words, words),
    )

    part, place = page_state.timeline.part(0)
    for line in (page_state.snapshot(), part):
        assert line.isascii()
        assert not any(byte < 0x20 for byte in line)
    assert place == len(page_state.timeline)


def test_telling_waits_for_nobody() -> None:
    """Neither the run nor the ticker has anything to await; a listener keeps one picture."""
    subscribers = Subscribers(3)
    for method in (subscribers.publish, server_module.WebServer.tick, PageState.observe):
        assert not inspect.iscoroutinefunction(method)
    with subscribers.subscribe() as listener, subscribers.subscribe():
        for number in range(10_000):
            subscribers.publish(b"picture %d" % number)

        assert listener.missed == 9_999
        assert listener.waiting_bytes == len(b"picture 9999")
        assert listener.take() == b"picture 9999"
        assert listener.take() is None


def test_seats_are_counted() -> None:
    """One more than there are is refused, and a seat that was left is free."""
    subscribers = Subscribers(1)
    with subscribers.subscribe(), pytest.raises(Full), subscribers.subscribe():
        pass
    with subscribers.subscribe():
        assert len(subscribers) == 1


async def test_slow_listeners_cost_a_number_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 that never read: each keeps one picture at most, and in the end its connection."""
    monkeypatch.setattr(server_module, "STALLED_S", 0.5)
    page_state = PageState()
    tell(page_state, started("hq"), wave(0))
    async with visited(page_state) as site:
        streams = []
        for _ in range(200):
            stream = await connected(site)
            raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await stream.send(request(site, "/events"))
            streams.append(stream)
        with anyio.fail_after(60):
            while len(site.subscribers) < 200:
                await anyio.sleep(0.02)
        most = 0
        with anyio.fail_after(60):
            number = 0
            while len(site.subscribers):
                for vm in range(number, number + 300):
                    tell(
                        page_state,
                        planned(f"vm-{vm}" + "x" * 80),
                        *failed(f"vm-{vm}" + "x" * 80, 1),
                    )
                number += 300
                site.tick(float(number))
                for listener in site.subscribers:
                    assert listener.waiting_bytes <= len(page_state.snapshot()) + 100
                for door in site.connections:
                    assert door.transport is not None
                    most = max(most, door.transport.get_write_buffer_size())
                await anyio.sleep(0.05)
        for stream in streams:
            await stream.aclose()

    longest = PART * 150 + 20_000  # one part of the timeline with such names, and one picture
    assert 0 < most <= longest


async def test_a_listener_that_stops_in_a_long_message_loses_its_seat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the message is longer than all buffers, so that writing it waits."""
    monkeypatch.setattr(server_module, "STALLED_S", 0.3)
    page_state, server = PageState(), "\u4e2d" * 100
    tell(page_state, started(server), wave(0))
    for number in range(PART):
        vm = f"{number}" + "\u4e2d" * 80
        tell(page_state, planned(vm, server), *failed(vm, 1, server=server))
    async with visited(page_state) as site, await connected(site) as stream:
        raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await stream.send(request(site, "/events"))
        with anyio.fail_after(60):
            while not len(site.subscribers):
                await anyio.sleep(0.02)
            while len(site.subscribers):
                await anyio.sleep(0.02)


async def test_connections_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the limit is ended at once; those that are open go on."""
    monkeypatch.setattr(server_module, "most_connections", lambda: 3)
    monkeypatch.setattr(server_module, "RESERVED", 1)
    async with visited() as site:
        silent = [await connected(site) for _ in range(3)]
        with anyio.fail_after(60):
            while len(site.connections) < 3:
                await anyio.sleep(0.01)
        async with await connected(site) as stream:
            assert await everything(stream) == b""
        assert site.connections.refused == 1
        for stream in silent:
            await stream.aclose()
        with anyio.fail_after(60):
            while len(site.connections):
                await anyio.sleep(0.01)
        async with listening(site) as one, listening(site) as other:
            await one.until("begin")
            await other.until("begin")
            full = await ask(site, "/events")

    assert (full.status, full.headers["retry-after"]) == (503, "30")


async def test_who_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an unfinished request nor an answer that nobody reads keeps a connection."""
    monkeypatch.setattr(limits_module, "REQUEST_S", 0.1)
    async with visited() as site:
        async with await connected(site) as silent, await connected(site) as slow:
            await slow.send(b"GET / HTTP/1.1\r\nHo")
            with anyio.fail_after(60):
                while len(site.connections) < 2:
                    await anyio.sleep(0.01)
            await anyio.sleep(0.2)
            site.tick(1)
            assert await everything(silent) == b""
            assert await everything(slow) == b""
        with anyio.fail_after(60):
            while len(site.connections):
                await anyio.sleep(0.01)


async def test_an_endless_request_is_cut_off() -> None:
    """A connection says one request, and no more bytes than one can have."""
    async with visited() as site, await connected(site) as stream:
        await stream.send(request(site, "/events"))
        with pytest.raises(anyio.BrokenResourceError):  # noqa: PT012 - whichever write notices
            for _ in range(100):
                await stream.send(b"x" * 10_000)
                await anyio.sleep(0.01)


def test_a_result_has_its_place_on_the_page() -> None:
    """Every result and phase of the program is known to the page's script and style sheet."""
    folder = Path(server_module.__file__).parent / "page"
    script, style = (folder / "page.js").read_text(), (folder / "page.css").read_text()

    assert all(f"{result.value}:" in script for result in Result)
    drawn = {phase.value for phase in PHASES} - {"queued", "done"}
    assert all(f".p-{phase}" in style for phase in drawn)
