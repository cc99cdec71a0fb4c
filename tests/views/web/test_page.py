"""The page in a real browser: what a person sees, and that no server's words are more than text."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from orchestrator.core.events import (
    DeadlinePassed,
    Event,
    MountKept,
    MountLeft,
    ServerParked,
    StopRequested,
    TargetReopened,
)
from orchestrator.core.exit_codes import exit_words
from orchestrator.core.model import Href, MountState, Result, ServerName
from orchestrator.core.text import printable
from orchestrator.views.stalled import Away
from orchestrator.views.web import server as server_module
from orchestrator.views.web.page_state import PageState
from tests.browser import Tab, chromium, needs_chromium
from tests.report.payloads import PAYLOADS
from tests.views.story import (
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
    told,
    verified,
    wave,
)
from tests.views.web.test_stream import STORY
from tests.views.web.visits import listening, visited

pytestmark = [pytest.mark.anyio, pytest.mark.process, needs_chromium]

TOGETHER = 5
"""Payloads on one page: as many failures as it names."""
TEXT = "document.body.innerText.replace(/\\s+/g, ' ')"


DRAWN = (
    "[...document.querySelectorAll('#timeline path[class^=p-]')]"
    ".map((each) => (each.getAttribute('d') ?? '').split('M').length - 1).reduce((a, b) => a + b)"
)
"""Bars of the timeline."""

ENDS = (
    "[...document.querySelectorAll('.lanes .end')]"
    ".map((each) => (each.getAttribute('d') ?? '').split('M').length - 1)"
    ".reduce((a, b) => a + b, 0)"
)
"""Targets whose bad end is marked."""

OFFLINE = "(document.getElementById('offline')?.innerText ?? '')"
"""What the page says of its connection; nothing while it has one."""


@pytest.fixture
def anyio_backend() -> str:
    """A real browser, real time."""
    return "asyncio"


async def test_a_person_sees_the_run_and_its_end(tmp_path: Path) -> None:
    """The link opens the page, the token leaves the address, and the page follows to the end."""
    page_state = PageState()
    tell(page_state, *STORY)
    async with visited(page_state) as site, chromium(tmp_path) as tab:
        await tab.open(site.link)
        await tab.until("document.querySelectorAll('.lanes text title').length === 3")
        text = await tab.value(TEXT)
        address = await tab.value("location.href")
        cookie = await tab.value("document.cookie")
        bars = await tab.until("document.querySelectorAll('#timeline path.p-running').length")
        lanes = await tab.value(
            "[...document.querySelectorAll('.lanes text title')].map((each) => each.textContent)"
        )
        tell(page_state, planned("late"), *verified("late", 20), finished(30, 3))
        await site.close(1)
        ending = await tab.until("document.getElementById('state').textContent.includes('3') && 1")
        last = await tab.value(TEXT)

    for words in (
        "night-drill running",
        "2/4 done",
        "1 check",
        "1 verified",
        "1 failed",
        "0 of 4 slots",
        "1 of 4 slots",
        "in reach",
        "waiting for it",
        "waiting: no answer",
        "w/hq/b failed",
        "w/lab/d running",
    ):
        assert words in text
    assert address == f"http://{site.address.authority}/"
    assert cookie == ""
    assert bars
    assert sorted(lanes) == [key("a"), key("b"), key("d", "lab")]
    assert ending
    assert "finished, exit code 3" in last
    assert "3/5 done" in last
    assert [each for each in tab.complaints if "ERR_" not in each] == []
    assert all(each.startswith(f"http://{site.address.authority}/") for each in tab.requested)


async def test_a_run_without_a_worker_waits_and_is_not_dead(tmp_path: Path) -> None:
    """Over several machines: the page says what it waits for, in no colour of a fault."""
    page_state = PageState()
    page_state.stats.is_shared = True
    tell(page_state, *STORY)
    page_state.abandon(gone=True)
    async with visited(page_state) as site, chromium(tmp_path) as tab:
        await tab.open(site.link)
        await tab.until("document.getElementById('ending')?.innerText")
        page_state.stats.what_waits = ("2 shards wait: no worker serves site <b>moon</b>",)
        site.tick(0.0)
        await tab.until("document.getElementById('standstills').innerText")
        badge = await tab.value("document.getElementById('state').className")
        text = await tab.value(TEXT)
        page_state.stats.away = Away(since=datetime.now(UTC), why="connection refused")
        site.tick(0.0)
        await tab.until("document.getElementById('state').innerText.includes('database is away')")
        away = await tab.value(TEXT)

    assert "connection refused" in away
    assert "the next worker goes on" not in away
    assert badge == "badge doubt"
    assert "no worker serves it" in text
    assert "2 shards wait: no worker serves site <b>moon</b>" in text
    assert "the next worker goes on with it: bulk-restore work" in text
    assert "dead" not in text


@pytest.mark.parametrize(("code", "kind"), [(0, "good"), (3, "doubt"), (1, "bad")])
async def test_the_end_has_the_colour_of_its_exit_code(
    code: int, kind: str, tmp_path: Path
) -> None:
    """A good end is green, beside its words as in its badge."""
    page_state = PageState()
    tell(page_state, planned("a"), *verified("a", 20), finished(30, code))
    colour = "getComputedStyle(document.getElementById('{}')).borderLeftColor"
    async with visited(page_state) as site, chromium(tmp_path) as tab:
        await tab.open(site.link)
        await tab.until("document.getElementById('outcome')?.innerText")
        badge = await tab.value("document.getElementById('state').className")
        bar = await tab.value(colour.format("outcome"))
        wanted = await tab.value(colour.format("state"))

    assert badge == f"badge {kind}"
    assert bar == wanted


async def test_the_link_works_where_another_site_shows_it(tmp_path: Path) -> None:
    """A link in a chat or a CI system's log opens the page too, and leaves no token behind."""
    page_state = PageState()
    tell(page_state, *STORY)
    async with (
        visited(page_state) as site,
        elsewhere(f'<a href="{site.link}">the run</a>') as port,
        chromium(tmp_path, ["--host-resolver-rules=MAP chat.example 127.0.0.1"]) as tab,
    ):
        await tab.open(f"http://chat.example:{port}/")
        await tab.until("document.links.length")
        await tab.value("document.links[0].click()")
        await tab.until("document.querySelectorAll('#servers li').length === 2")
        address = await tab.value("location.href")
        found = await tab.call("Page.getNavigationHistory")

    assert address == f"http://{site.address.authority}/"
    assert not any("token" in entry["url"] for entry in found["entries"])


@asynccontextmanager
async def elsewhere(body: str) -> AsyncIterator[int]:
    """Serve another site's page on a free port."""

    async def answer(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
            await stream.send((head + body).encode())

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, answer)
        yield listener.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


async def test_a_run_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    """Where the connection ends before the run does, the page says that it may be old."""
    page_state = PageState()
    tell(page_state, *STORY)
    async with chromium(tmp_path) as tab:
        async with visited(page_state) as site:
            await tab.open(site.link)
            await tab.until("document.querySelectorAll('#servers li').length === 2")
        assert await tab.until("!document.getElementById('offline').hidden")


async def test_what_ended_badly_is_marked(tmp_path: Path) -> None:
    """However thin the bars are, each such target's end is seen; one that is taken up again not."""
    page_state = PageState()
    vms = [f"m{number}" for number in range(1500)]
    bad = [event for vm in vms[::3] for event in failed(vm, 5)]
    again = TargetReopened(at=50, key=key(vms[0]), was=Result.FAILED)
    whole = [started("hq"), *map(planned, vms), wave(0), *bad, *verified(vms[1], 9), again]
    *before, last = told(whole)
    for event, record in before:
        see(page_state, event, record)
    async with visited(page_state) as site, chromium(tmp_path) as tab:
        await tab.open(site.link)
        assert await tab.until(f"{ENDS} === 500")
        see(page_state, *last)
        site.tick(51)
        assert await tab.until(f"{ENDS} === 499")
        path = "getComputedStyle(document.querySelector('.end.bad'))"
        style = await tab.value(f"[{path}.vectorEffect, {path}.strokeWidth, {path}.stroke].join()")

    assert style.startswith("non-scaling-stroke,4px,rgb(179, 38, 30)")


async def test_a_hold_ends_at_a_time_of_the_day(tmp_path: Path) -> None:
    """Nobody who looks at the page has the run's clock on the wall."""
    page_state = PageState()
    *until_verdict, _unmount, _released, _concluded = verified("a", 1)
    held = MountKept(at=6, key=key("a"), reason="--hold", until=5400.0)
    tell(page_state, started("hq"), planned("a"), wave(0), *until_verdict, held)
    async with visited(page_state) as site, chromium(tmp_path) as tab:
        await tab.call("Emulation.setTimezoneOverride", timezoneId="Europe/Berlin")
        await tab.call("Emulation.setLocaleOverride", locale="en-GB")
        await tab.open(site.link)
        text = await tab.until("document.getElementById('held')?.innerText")

    assert text == ("1 held open until 2 Mar, 00:30: 1 verified; end it: bulk-restore unmount r-1")


async def test_a_run_that_asks_is_not_said_to_run(tmp_path: Path) -> None:
    """Until somebody has said yes, that is what the page says."""
    page_state = PageState()
    tell(page_state, *STORY[:5])
    async with visited(page_state) as site, chromium(tmp_path) as tab:
        await tab.open(site.link)
        await tab.until("document.querySelectorAll('#servers li').length === 2")
        assert await tab.value(f"{TEXT}.startsWith('night-drill waiting for confirmation')")


async def test_a_stopping_run_says_what_stops_it_at_once(tmp_path: Path) -> None:
    """As long as that would do more."""
    page_state = PageState()
    tell(page_state, *STORY, StopRequested(at=30, signal="SIGINT", forced=False))
    async with visited(page_state) as site, chromium(tmp_path) as tab:
        await tab.open(site.link)
        text = await tab.until("document.getElementById('ending')?.innerText")
        tell(page_state, StopRequested(at=31, signal="SIGINT", forced=True))
        site.tick(31)
        await tab.until("!document.getElementById('ending').innerText.includes('Ctrl-C')")

    assert text == (
        "stopping (SIGINT): running mounts end first; "
        "a second Ctrl-C to the run unmounts what is known now and names the rest"
    )


async def test_a_page_without_a_place_waits_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says why it shows nothing, and begins by itself once somebody has left."""
    monkeypatch.setattr(server_module, "most_connections", lambda: server_module.RESERVED + 1)
    page_state = PageState()
    tell(page_state, *STORY)
    async with visited(page_state) as site, chromium(tmp_path) as tab:
        async with listening(site) as reader:
            await reader.until("picture")
            await tab.open(site.link)
            await tab.until(f"{OFFLINE}.includes('Too many pages are open')")
            assert "0/0" not in await tab.value(TEXT)
            assert "Nothing was submitted" not in await tab.value(TEXT)
        await tab.until("document.querySelectorAll('#servers li').length === 2")
        assert await tab.value("document.getElementById('offline').hidden")
        assert "2/4 done" in await tab.value(TEXT)


async def test_an_old_link_is_said_to_be_old(tmp_path: Path) -> None:
    """A page whose token is no longer known says so, and goes on once the browser has a new one."""
    page_state = PageState()
    tell(page_state, *STORY)
    async with chromium(tmp_path) as tab:
        async with visited(page_state) as site:
            await tab.open(site.link)
            await tab.until("document.querySelectorAll('#servers li').length === 2")
        async with visited(page_state, site.address) as anew:
            await tab.until(f"{OFFLINE}.includes('This link is no longer valid')")
            await tab.value(f"void fetch('{anew.link}')")  # as another tab with the new link does
            await tab.until("document.getElementById('offline').hidden")


async def test_hostile_words_are_text(tmp_path: Path) -> None:
    """Each payload in every field stands in the page as text, and makes no element of its own."""
    plain = PageState()
    tell(plain, *hostile([f"plain{number}" for number in range(TOGETHER)]))
    async with chromium(tmp_path) as tab:
        async with visited(plain, grace_s=0) as site:
            wanted = await elements(tab, site.link)
        for start in range(0, len(PAYLOADS), TOGETHER):
            some = PAYLOADS[-TOGETHER:] if start + TOGETHER > len(PAYLOADS) else PAYLOADS[start:]
            page_state = PageState()
            tell(page_state, *hostile(some[:TOGETHER]))
            async with visited(page_state, grace_s=0) as site:
                found = await elements(tab, site.link)
                text = await tab.value("document.documentElement.textContent")
            assert found == wanted, start
            for words in some[:TOGETHER]:
                forms = {printable(words, 120), printable(f"/{words}", 121)[1:]}  # alone; in a key
                assert sum(text.count(form) for form in forms) >= 8, words
            assert await tab.value("typeof owned === 'undefined'")
    assert [each for each in tab.complaints if "ERR_" not in each] == []
    assert not [each for each in tab.requested if "127.0.0.1" not in each]


def hostile(some: Sequence[str]) -> list[Event]:
    """Return a run in which every text that may be foreign is one of some words."""
    events: list[Event] = [started(*some, plan=some[0]), wave(0)]
    for words in some:
        events += [
            planned(words, words),
            planned("other" + words, words),
            *failed(words, 1, words, words),
            submitted("other" + words, 5, words),
            accepted("other" + words, 6, words),
            DeadlinePassed(at=7, key=key("other" + words, words), phase="mount", allowed_s=1),
            ServerParked(at=8, server=ServerName(words), reason=words),
        ]
    return events


async def elements(tab: Tab, link: str) -> dict[str, int]:
    """Open the page and return how many elements of each kind it has, once all is drawn."""
    await tab.open(link)
    await tab.until("document.querySelectorAll('.lanes text title').length === 10")
    await tab.until("document.querySelectorAll('#slowest li').length === 5")
    await tab.until("document.querySelectorAll('#timeline path.p-running').length === 10")
    counted = await tab.value(
        "JSON.parse(JSON.stringify([...document.querySelectorAll('*')]"
        ".filter((each) => !each.closest('.lanes > g:first-child'))"  # the axis grows
        ".reduce((all, each) => ({...all, [each.tagName]: (all[each.tagName] ?? 0) + 1}), {})))"
    )
    found: dict[str, int] = counted
    return found


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
async def test_it_fits_the_screen(tmp_path: Path, width: int, height: int) -> None:
    """Neither desktop nor phone scrolls sideways, with long names; 900 targets are all drawn."""
    page_state = PageState()
    tell(page_state, started("hq", "x" * 100), wave(0))
    for number in range(900):
        vm = f"machine-with-a-long-name-{number}"
        tell(page_state, planned(vm), *failed(vm, number, "no disk " * 30))
    async with visited(page_state) as site, chromium(tmp_path) as tab:
        await tab.size(width, height)
        await tab.open(site.link)
        await tab.until("document.querySelectorAll('#timeline path').length > 1")
        await tab.until("document.querySelector('.lanes').getBoundingClientRect().height > 300")
        wide = await tab.value("document.documentElement.scrollWidth")
        drawn = await tab.until(f"{DRAWN} === {900 * 2} && {DRAWN}")  # comes in parts
        tall = await tab.value("document.querySelector('.lanes').getBoundingClientRect().height")

    assert wide <= width
    assert 300 < tall < 900
    assert drawn == 900 * 2  # being submitted, and running


LEFT = [
    *(planned("left"), *verified("left", 1)[:-2]),
    MountLeft(at=7, key=key("left"), mount=Href("/m/left"), reason="HTTP 500: no"),
    concluded("left", 7, Result.VERIFIED, MountState.LEFT),
]


async def test_what_may_be_mounted_stands_first_with_the_next_command(tmp_path: Path) -> None:
    """As in the report: names, where, why, and how to release them; it uses its slot for ever."""
    page_state = PageState()
    tell(
        page_state,
        started("hq"),
        wave(0),
        *LEFT,
        StopRequested(at=8, signal="SIGTERM", forced=False),
    )
    async with visited(page_state) as site, chromium(tmp_path) as tab:
        await tab.call("Emulation.setTimezoneOverride", timezoneId="UTC")
        await tab.call("Emulation.setLocaleOverride", locale="en-GB")
        await tab.open(site.link)
        await tab.until("document.querySelectorAll('#left li').length === 1")
        first = await tab.value("document.querySelector('main section').innerText")
        slots = await tab.value("document.querySelector('#servers').innerText")
        stop = await tab.until("document.querySelector('.lanes .stop title')?.textContent")
        bars = await tab.value("document.querySelectorAll('.lanes .p-out_of_reach').length")
        see(site.page_state, finished(30, 3), None)
        site.tick(31)
        await tab.until("document.getElementById('state').innerText.startsWith('finished')")
        outcome = await tab.value("document.getElementById('outcome').innerText")
        release = await tab.value("document.getElementById('release').innerText")
        ending = await tab.value("document.getElementById('ending').innerText")

    assert first.startswith("May be mounted\n\nOnce the run has ended, this may release them: ")
    assert "bulk-restore unmount r-1" in first
    for words in ("w/hq/left", "left mounted", "on hq", "HTTP 500: no"):
        assert words in first
    assert "1 of 4 slots" in slots
    assert stop == "stop (SIGTERM) at 00:08"
    assert bars == 1
    assert ending == "stop (SIGTERM) at 00:08"
    assert outcome == f"Exit code 3: {exit_words(3)}"
    assert release == (
        "Until about 1 Mar, 22:15 this may still release them: bulk-restore unmount r-1"
    )
