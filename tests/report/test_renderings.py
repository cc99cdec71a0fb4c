"""The renderings beside one another: they agree, and no text of a server is markup in any."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from orchestrator.events import Event, TargetPlanned
from orchestrator.proof import CheckOutcome
from orchestrator.report import as_csv, as_html, as_json, as_markdown, junit, summarize, text
from orchestrator.report.as_html.concurrency import open_over_time
from orchestrator.report.as_html.style import SHEET
from orchestrator.report.as_html.timeline import NAMED, gantt
from orchestrator.report.summary import Report
from tests.report.builders import Fate, finished, life, run_of
from tests.report.payloads import PAYLOADS

ALLOWED_TAGS = frozenset(
    """
    html head meta title style body nav a section h1 h2 h3 p div b br ul li code span
    table thead tbody tr th td svg g path rect text
    """.split()  # noqa: SIM905 - a list of words reads best as words
)
ALLOWED_ATTRIBUTES = frozenset(
    """
    lang charset http-equiv content name class id href data-of viewbox role x y d width height
    stroke-width
    """.split()  # noqa: SIM905 - the same
)


class Page(HTMLParser):
    """What a browser makes of the page: its elements, and the text between them."""

    def __init__(self, document: str) -> None:
        """Read the whole document."""
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.cells: list[list[str]] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count an element."""
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        if tag == "tr":
            self.cells.append([])
        elif tag in {"td", "th"} and self.cells:
            self.cells[-1].append("")

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        self.texts.append(data)
        if self.cells and self.cells[-1]:
            self.cells[-1][-1] += data

    def handle_comment(self, data: str) -> None:
        """Refuse: the page has none of its own."""
        raise AssertionError(f"a comment: {data}")

    def handle_pi(self, data: str) -> None:
        """Refuse: the page has none of its own."""
        raise AssertionError(f"a processing instruction: {data}")


def rendered(report: Report) -> dict[str, str]:
    """Return every rendering by the name of its module."""
    return {
        "json": as_json.render(report),
        "html": as_html.render(report),
        "junit": junit.render(report),
        "markdown": as_markdown.render(report),
        "csv": as_csv.render(report),
        "text": text(report),
    }


def hostile(payload: str) -> Report:
    """Return a report that has the payload in every text that a server or a plan may give."""
    lives: list[list[Event]] = []
    for number, fate in enumerate(Fate):
        events = life(f"{payload} {number}", fate, words=payload)
        planned = events[0]
        assert isinstance(planned, TargetPlanned)
        assert planned.point is not None
        point = replace(planned.point, name=payload, vm=payload)
        events[0] = replace(planned, point=point, policy=payload)
        lives.append(events)
    first = run_of([finished()]).started
    first = replace(first, plan=payload, reason=payload, description=payload, user=payload)
    report = summarize(run_of(*lives, [finished()], first=first))
    return replace(report, warnings=(payload,))


# --- they agree --------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(Fate), min_size=1, max_size=25), st.sampled_from([0, 1, 3]))
@settings(max_examples=60, deadline=None)
def test_all_renderings_count_and_judge_alike(fates: list[Fate], code: int) -> None:
    """Whatever happened: the same totals, the same result and mount for every target."""
    lives = [life(f"vm{number}", fate) for number, fate in enumerate(fates)]
    report = summarize(run_of(*lives, [finished(exit_code=code)]))
    shown = rendered(report)
    values = json.loads(shown["json"])
    wanted = {each["key"]: (each["result"], each["mount"]) for each in values["targets"]}

    rows = list(csv.DictReader(io.StringIO(shown["csv"].removeprefix("\ufeff"))))
    assert {row["key"]: (row["result"], row["mount"]) for row in rows} == wanted
    page = Page(shown["html"])
    table = [cells for cells in page.cells if len(cells) == 7 and cells[0] in wanted]
    assert {cells[0]: (cells[1], cells[2]) for cells in table} == wanted
    suites = ET.fromstring(shown["junit"].encode())
    kinds = Counter(child.tag for case in suites.iter("testcase") for child in case)
    assert suites.get("tests") == str(len(fates))
    skipped = str(sum(int(suite.attrib["skipped"]) for suite in suites))
    assert (suites.get("failures"), suites.get("errors"), skipped) == (
        str(kinds["failure"]),
        str(kinds["error"]),
        str(kinds["skipped"]),
    )
    assert kinds["failure"] == sum(
        result == "failed" and mount not in {"left", "unknown"} for result, mount in wanted.values()
    )
    totals = [cell.strip() for cell in shown["markdown"].split("\n")[8].strip("|").split("|")]
    assert totals == [str(count) for count in values["totals"].values()]
    assert f"**Exit code {code}**" in shown["markdown"]
    assert f"exit code {code}:" in "".join(page.texts)
    assert f"Exit code: {code} " in shown["text"]


def test_the_same_journal_gives_the_same_bytes() -> None:
    """Nothing but the events decides what is written: no clock, no chance, no locale."""
    lives = [life(f"vm{number}", fate) for number, fate in enumerate(Fate)]

    assert rendered(summarize(run_of(*lives, [finished()]))) == rendered(
        summarize(run_of(*lives, [finished()]))
    )


# --- hostile texts -----------------------------------------------------------------------------


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_is_markup_in_the_page(payload: str) -> None:
    """A browser's parser finds our own elements and attributes only, and the text as text."""
    document = as_html.render(hostile(payload))

    page = Page(document)

    assert set(page.tags) <= ALLOWED_TAGS
    assert page.attributes <= ALLOWED_ATTRIBUTES
    assert page.tags["style"] == 1
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066]", document)
    assert document.count(SHEET) == 1


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_cell_is_a_formula(payload: str) -> None:
    """A spreadsheet finds as many rows and columns as there are, and no formula in any."""
    report = hostile(payload)

    rows = list(csv.reader(io.StringIO(as_csv.render(report).removeprefix("\ufeff"))))

    assert len(rows) == 1 + len(report.targets)
    for row in rows[1:]:
        assert len(row) == len(as_csv.COLUMNS)
        for cell in row:
            assert not re.match(r"\s*[=+\-@|%]", cell), cell
            assert cell.isprintable()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_is_markup_in_the_summary_of_a_ci_step(payload: str) -> None:
    """A Markdown parser finds tables, headings and our own emphasis; no link, image, HTML, code."""
    document = as_markdown.render(hostile(payload))

    tokens = MarkdownIt("commonmark").enable("table").parse(document)

    kinds: Counter[str] = Counter()
    for token in tokens:
        kinds[token.type] += 1
        kinds.update(child.type for child in token.children or ())
    forbidden = {"link_open", "image", "html_inline", "html_block", "code_inline", "fence"}
    assert not forbidden & set(kinds), kinds
    assert kinds["heading_open"] == document.count("\n## ") + 1
    assert "@everyone" not in document
    assert "http://" not in document
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", document)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_breaks_the_other_renderings(payload: str) -> None:
    """JUnit stays well-formed XML, JSON stays JSON, and no line of the text is the server's own."""
    report = hostile(payload)

    suites = ET.fromstring(junit.render(report).encode())
    values: dict[str, Any] = json.loads(as_json.render(report))
    lines = text(report).splitlines()

    assert len(list(suites.iter("testcase"))) == len(report.targets) == len(values["targets"])
    assert all(line.isprintable() for line in lines)
    assert not any(re.match(r"(::|##)", line) for line in lines)


# --- the page ----------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_outside() -> None:
    """No script, no address to load from, and a policy that allows the one style sheet only."""
    document = as_html.render(summarize(run_of(life("sql01"), [finished()])))

    assert "default-src 'none'; style-src 'sha256-" in document
    assert not re.search(
        r"<script|src=|href=(?!\"#[a-z-]+\">)|url\(|@import|style=|\son\w+=", document
    )
    assert "unsafe-inline" not in document


def test_what_needs_a_person_stands_first() -> None:
    """Before the facts of the run: unknown outcomes and mounts that are or may be open."""
    lives = [life("good"), life("left", Fate.LEFT), life("lost", Fate.VANISHED)]

    document = as_html.render(summarize(run_of(*lives, [finished(exit_code=3)])))

    first = document[document.index("Needs a person") : document.index("The run</h2>")]
    assert "databases/hq/left" in first
    assert "databases/hq/lost" in first
    assert "databases/hq/good" not in first
    assert "bulk-restore unmount" in first


@pytest.mark.parametrize("number", [NAMED, NAMED + 1])
def test_every_target_is_in_the_timeline(number: int) -> None:
    """With names while they are few; thin and in one path for each phase when they are many."""
    report = summarize(run_of(*(life(f"vm{n}") for n in range(number)), [finished()]))

    picture = Page(gantt(report))

    bars = sum(
        len(re.findall("[Mm]", d))
        for d in re.findall(r'class="(?:thin )?p-\w+"[^>]* d="([^"]*)"', gantt(report))
    )
    assert bars == number * len(report.targets[0].spans)
    assert picture.tags["g"] == (number if number <= NAMED else 0)


@pytest.mark.parametrize("fate", [Fate.VERIFIED, Fate.MOUNTED, Fate.REFUTED, Fate.LEFT])
def test_every_target_is_shown_with_its_attempts(fate: Fate) -> None:
    """Good or not, checked or not: each with its point's choice and its task's state and words."""
    report = summarize(run_of(*(life(f"vm{n}", fate) for n in range(300)), [finished()]))

    document = as_html.render(report)

    assert document.count("task-12<br>session ") == 300
    assert all(f"<h3>databases/hq/vm{n}</h3>" in document for n in range(300))
    assert "more in full" not in document


def test_an_attempt_says_why_it_failed_although_its_task_ended_well() -> None:
    """Of an older attempt too, whose checks stand nowhere else on the page."""
    report = summarize(run_of(life("sql01", Fate.REFUTED), [finished()]))
    (target,) = report.targets
    (attempt,) = target.attempts
    wrong = CheckOutcome(name="boot", path="C:", expected="x", observed="it is gone", passed=False)
    attempt = replace(attempt, message="Ok", failed_checks=(wrong,))
    report = replace(report, targets=(replace(target, attempts=(attempt,)),))

    assert ">Ok; boot: C:: it is gone</td>" in as_html.render(report)


@pytest.mark.parametrize("fates", [(Fate.VERIFIED,), (Fate.MOUNTED,), tuple(Fate)])
def test_the_page_of_5000_targets_is_small(fates: tuple[Fate, ...]) -> None:
    """2 MB at most, whatever became of them; what is left out is counted."""
    lives = [life(f"hq-app{n:05}", fates[n % len(fates)]) for n in range(5000)]

    document = as_html.render(summarize(run_of(*lives, [finished()])))

    assert len(document.encode()) <= 2_000_000
    assert "more in full, see report.json" in document


def test_open_mounts_over_time_count_what_holds_a_slot() -> None:
    """From the submission to the release, and nothing of the time in the queue."""
    report = summarize(run_of(life("a"), life("b"), [finished()]))

    assert open_over_time(report.targets) == [(0.0, 0), (3.0, 2), *_between(report), (48.0, 0)]


def _between(report: Report) -> list[tuple[float, int]]:
    steps = open_over_time(report.targets)[2:-1]
    assert {level for _at, level in steps} == {2}
    return steps


def test_the_page_of_a_run_that_never_ended_says_so() -> None:
    """A killed run has no exit code, and its page claims none."""
    document = as_html.render(summarize(run_of(life("vm", Fate.RUNNING))))

    assert "Not ended" in document
    assert "has not ended, or was killed" in document
