"""The page in a real browser: it fits, is legible, asks for nothing, and obeys nobody's words."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.report import as_html
from orchestrator.report.as_html.timeline import NAMED
from orchestrator.report.values import Report
from tests.browser import Tab, chromium, needs_chromium
from tests.report import drills
from tests.report.hostile_run import everywhere
from tests.report.payloads import PAYLOADS

pytestmark = [pytest.mark.anyio, pytest.mark.process, needs_chromium]

DESKTOP, PHONE, A4 = (1440, 900), (390, 844), (688, 971)
"""Pixels of a screen; of A4 at 96 to the inch what its margins of 14 mm leave."""
LONG = "machine-without-a-place-to-break" * 8
LEGIBLE = 4.5
"""Contrast of text to its ground. Source: WCAG 2.2, success criterion 1.4.3."""
MAKERS = "script,iframe,object,embed,link,base,form,img,video,audio,source,input,button"
"""Elements that do or load something: a report has none."""


@pytest.fixture
def anyio_backend() -> str:
    """A real browser, real time."""
    return "asyncio"


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[Tab]:
    """Yield a browser that must not have complained of anything at the end."""
    async with chromium(tmp_path / "profile") as tab:
        yield tab
        await tab.value("1")  # whatever came late has arrived before the answer
        assert tab.complaints == []


async def show(tab: Tab, report: Report, path: Path) -> None:
    """Write a report as a run does, open it, and check that nothing but it was asked for."""
    path.write_text(as_html.render(report), encoding="utf-8")
    tab.requested.clear()
    await tab.open(path.as_uri())
    await tab.until(f"document.readyState === 'complete' && location.href === '{path.as_uri()}'")
    assert tab.requested == [path.as_uri()]
    assert await tab.value(f"document.querySelectorAll('{MAKERS}').length") == 0


# --- it fits, and can be read --------------------------------------------------------------------


OVERFLOWS = """
(() => {
  const wide = document.documentElement.clientWidth + 0.5
  const outside = (each) => each.getBoundingClientRect().right > wide
  return [...document.querySelectorAll('body :not(svg *)')]
    .filter((each) => outside(each) && (%s || !each.closest('.wide')))
    .map((each) => `${each.tagName}.${each.className}: ${each.textContent.slice(0, 60)}`)
})()
"""
"""Elements that stand out at the right; on a screen what scrolls in its own box may."""


@pytest.mark.parametrize("name", ["good", "troubled", "with long words"])
async def test_it_fits_desktop_phone_and_paper(tmp_path: Path, name: str) -> None:
    """The page never scrolls sideways; only wide tables do, and on paper not even these."""
    report = {"good": drills.good, "troubled": drills.troubled}.get(name, _long)()
    async with opened(tmp_path) as tab:
        for size, media in ((DESKTOP, "screen"), (PHONE, "screen"), (A4, "print")):
            await tab.size(*size, media=media)
            await show(tab, report, tmp_path / "report.html")
            on_paper = media == "print"
            assert await tab.value(OVERFLOWS % ("true" if on_paper else "false")) == [], size
            wide = await tab.value("document.documentElement.scrollWidth")
            assert wide <= size[0], size


def _long() -> Report:
    return everywhere(LONG)


SPLIT = """
(() => {
  const found = []
  for (const cell of document.querySelectorAll('td, th')) {
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT)
    for (let text = walker.nextNode(); text; text = walker.nextNode()) {
      if (text.parentElement.closest('code') || !text.parentElement.checkVisibility()) continue
      for (const word of text.data.matchAll(/[^\\s\\-\\/]+/g)) {
        if (word[0].includes('\\\\')) continue
        const range = document.createRange()
        range.setStart(text, word.index)
        range.setEnd(text, word.index + word[0].length)
        const tops = new Set([...range.getClientRects()].map((each) => Math.round(each.top)))
        if (tops.size > 1) found.push(word[0])
      }
    }
  }
  return found
})()
"""
"""Words that stand on two lines of a cell; paths and hashes may."""


@pytest.mark.parametrize("name", ["good", "troubled"])
async def test_no_word_of_a_cell_is_split(tmp_path: Path, name: str) -> None:
    """Neither on paper nor on screens: columns are as wide as what stands in them."""
    report = {"good": drills.good, "troubled": drills.troubled}[name]()
    async with opened(tmp_path) as tab:
        for size, media in ((A4, "print"), (DESKTOP, "screen"), (PHONE, "screen")):
            await tab.size(*size, media=media)
            await show(tab, report, tmp_path / "report.html")
            assert await tab.value(SPLIT) == [], size


async def test_two_thousand_targets_are_few_pages(tmp_path: Path) -> None:
    """60 sheets of A4 at most."""
    async with opened(tmp_path) as tab:
        await show(tab, drills.large(2000), tmp_path / "report.html")
        found = await tab.call("Page.printToPDF", preferCSSPageSize=True)
    pages = re.findall(rb"/Type\s*/Page\b", base64.b64decode(found["data"]))

    assert 20 <= len(pages) <= 60


async def test_what_scrolls_is_reached_by_the_keyboard_and_says_so(tmp_path: Path) -> None:
    """On a phone the pictures have a hint above them, and all that scrolls can be focused."""
    async with opened(tmp_path) as tab:
        await tab.size(*DESKTOP)
        await show(tab, drills.troubled(), tmp_path / "report.html")
        hints = "[...document.querySelectorAll('.hint')].filter((e) => e.checkVisibility()).length"
        assert await tab.value(hints) == 0
        await tab.size(*PHONE)
        assert await tab.until(hints) == 2
        scrolling = await tab.value(
            "[...document.querySelectorAll('*')].filter((each) => each.scrollWidth > "
            "each.clientWidth && getComputedStyle(each).overflowX === 'auto')"
            ".map((each) => each.tabIndex === 0 && Boolean(each.ariaLabel))"
        )
    assert len(scrolling) > 3
    assert all(scrolling)


CONTRASTS = """
(() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number)
  const light = (text) => numbers(text).slice(0, 3).map((each) => each / 255)
    .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0)
  const ground = (each) => {
    for (; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor
      if ((numbers(colour)[3] ?? 1) > 0) return colour
    }
    return 'rgb(0, 255, 0)'
  }
  const found = {}
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const each = text.parentElement
    if (!text.data.trim() || each.closest('title')) continue
    const style = getComputedStyle(each)
    const ink = each.namespaceURI.endsWith('svg') ? style.fill : style.color
    const [a, b] = [light(ink), light(ground(each))].sort((x, y) => y - x)
    found[`${ink} on ${ground(each)}`] = (a + 0.05) / (b + 0.05)
  }
  return found
})()
"""
"""The contrast of every pair of a text's colour and what is behind it."""

BRIGHTNESS = (
    "[document.body, document.querySelector('h1')].map((each, place) => "
    "getComputedStyle(each)[place ? 'color' : 'backgroundColor'].match(/\\d+/g).map(Number)"
    ".reduce((a, b) => a + b) / 3)"
)


@pytest.mark.parametrize("scheme", ["light", "dark", "paper"])
async def test_every_text_is_legible(tmp_path: Path, scheme: str) -> None:
    """Dark ink on light ground or the other way round, also every coloured word; paper is light."""
    async with opened(tmp_path) as tab:
        media = "print" if scheme == "paper" else "screen"
        await tab.size(*DESKTOP, dark=scheme != "light", media=media)
        await show(tab, drills.troubled(), tmp_path / "report.html")
        ground, ink = await tab.value(BRIGHTNESS)
        contrasts = await tab.value(CONTRASTS)

    assert (ground < 50 and ink > 200) if scheme == "dark" else (ground > 250 and ink < 60)
    assert len(contrasts) >= 6  # plain, soft, good, bad, doubt; on the page and on panels
    assert {pair: found for pair, found in contrasts.items() if found < LEGIBLE} == {}


@pytest.mark.parametrize("media", ["screen", "print"])
async def test_what_went_wrong_is_there_without_a_click(tmp_path: Path, media: str) -> None:
    """Each target that is not good is shown in full, on paper too; nothing is folded away."""
    report = drills.troubled()
    bad = [each for each in report.targets if each.result in {"failed", "unknown"}]
    async with opened(tmp_path) as tab:
        await tab.size(*A4, media=media)
        await show(tab, report, tmp_path / "report.html")
        shown = await tab.value("document.getElementById('not-good').innerText")
        hidden = await tab.value(
            "[...document.querySelectorAll('section, section *:not(title)')]"
            ".filter((each) => !each.checkVisibility())"
            ".filter((each) => !each.matches('.hint, .cards thead, .cards thead *'))"
            ".map((each) => each.tagName)"
        )

    assert len(bad) == 15
    for target in bad:
        assert f"{target.key}\n" in shown
        assert str(target.message) in shown
    assert hidden == []


async def test_what_needs_a_person_comes_first(tmp_path: Path) -> None:
    """Above everything but the answer and the counts, and reached from there by links."""
    report = drills.troubled()
    async with opened(tmp_path) as tab:
        await tab.size(*DESKTOP)
        await show(tab, report, tmp_path / "report.html")
        first = await tab.value("document.querySelector('section').innerText")
        links = await tab.value(
            "[...document.querySelectorAll('a')].map((each) => "
            "[each.textContent, document.querySelector(each.getAttribute('href'))"
            "?.querySelector('h2').textContent])"
        )
        top = await tab.value("document.querySelector('section h2').getBoundingClientRect().top")

    assert first.startswith("Needs a person")
    for target in report.targets:
        stands_there = re.search(rf"^{re.escape(target.key)}\t", first, re.MULTILINE) is not None
        open_or_unknown = target.result == "unknown" or target.mount in {"left", "kept", "unknown"}
        assert stands_there is open_or_unknown, target.key
    assert len(links) == 9
    assert all(words == heading for words, heading in links)
    assert top < 450  # without scrolling


# --- the timeline --------------------------------------------------------------------------------


async def test_the_timeline_has_a_titled_lane_for_each_target(tmp_path: Path) -> None:
    """Under its wave and server, in the order of the waves, each with what it went through."""
    report = drills.troubled()
    async with opened(tmp_path) as tab:
        await tab.size(*DESKTOP)
        await show(tab, report, tmp_path / "report.html")
        lanes = await tab.value(
            "[...document.querySelectorAll('#timeline div > svg > text.name, #timeline g')]"
            ".map((each) => (each.querySelector('title') ?? each).textContent)"
        )
        untitled = await tab.value(
            "[...document.querySelectorAll('#timeline div path[class*=p-]')]"
            ".filter((each) => !(each.closest('g') ?? each).querySelector('title')).length"
        )
        order = await tab.value(
            "[...document.querySelectorAll('#timeline div > svg > text.name, #timeline g')]"
            ".map((each) => each.getBoundingClientRect().top)"
        )

    place, seen, under = "", 0, []
    for lane in lanes:
        if " · " in lane:
            place = lane.replace(" · ", "/")
            under.append(place.split("/")[0])
        else:
            seen += 1
            assert lane.startswith(f"{place}/")
            assert re.search(r"mount \w+\. .*(queued|running) ", lane)
    assert seen == len(report.targets)
    assert under == sorted(under, key=drills.WAVES.index)
    assert untitled == 0
    assert order == sorted(order)


async def test_five_thousand_targets_open(tmp_path: Path) -> None:
    """The page is loaded whole, below its 2 MB, and fits desktop and phone."""
    report = drills.large()
    async with opened(tmp_path) as tab:
        for size in (DESKTOP, PHONE):
            await tab.size(*size)
            await show(tab, report, tmp_path / "report.html")
            loaded = await tab.until(
                "(({domContentLoadedEventEnd: parsed, loadEventEnd: loaded}) => "
                "parsed > 0 && loaded >= parsed)(performance.getEntriesByType('navigation')[0])"
            )
            wide = await tab.value("document.documentElement.scrollWidth")
            rows = await tab.value("document.querySelectorAll('table.all tbody tr').length")
            titles = await tab.value("document.querySelectorAll('#timeline path title').length")
            assert loaded
            assert (wide <= size[0], rows) == (True, len(report.targets))
            assert titles == await tab.value("document.querySelectorAll('path.thin').length") > 5

    assert (tmp_path / "report.html").stat().st_size <= 2_000_000
    assert len(report.targets) > NAMED


# --- hostile words -------------------------------------------------------------------------------


ANATOMY = """
(() => {
  const found = {}
  for (const each of document.querySelectorAll('*')) {
    const names = [...each.attributes].map((one) => one.name).sort()
    const key = `${each.namespaceURI} ${each.localName} ${names}`
    found[key] = (found[key] ?? 0) + 1
  }
  return found
})()
"""
"""How many elements there are of each name with each set of attributes."""

OTHER_NODES = """
(() => {
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_COMMENT
    | NodeFilter.SHOW_PROCESSING_INSTRUCTION | NodeFilter.SHOW_CDATA_SECTION)
  const found = []
  while (walker.nextNode()) found.push(walker.currentNode.data)
  return found
})()
"""


async def test_hostile_words_are_text(tmp_path: Path) -> None:
    """With each payload in every field the page has the very elements of a harmless one."""
    async with opened(tmp_path) as tab:
        await tab.size(*DESKTOP)
        await tab.call(
            "Page.addScriptToEvaluateOnNewDocument",
            source="for (const each of ['alert', 'confirm', 'prompt']) window[each] = () => "
            "{ throw new Error('a script of a server ran') }",
        )
        await show(tab, everywhere("harmless"), tmp_path / "report.html")
        wanted = await tab.value(ANATOMY)
        title = await tab.value("document.title")
        assert "harmless" in title
        for number, payload in enumerate(PAYLOADS):
            report = everywhere(payload)
            await show(tab, report, tmp_path / f"{number}.html")
            assert await tab.value(ANATOMY) == wanted, payload
            assert await tab.value(OTHER_NODES) == [], payload
