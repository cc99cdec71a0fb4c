"""The renderings beside one another: they agree, and no text of a server is markup in any."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from msgspec import convert
from msgspec.structs import replace

from orchestrator.core.events import (
    Event,
    MountReleased,
    RunHalted,
    SessionEnded,
    StopRequested,
    StrayFound,
    StrayReleased,
    TargetPlanned,
)
from orchestrator.core.exit_codes import short_words
from orchestrator.core.lifecycle import Phase
from orchestrator.core.model import Href, MountKey, RunId, ServerName, TaskId
from orchestrator.core.proof import DownloadOutcome
from orchestrator.core.proof import Fate as Copied
from orchestrator.core.text import escape_markdown, printable
from orchestrator.report import as_csv, as_html, as_json, as_markdown, ci, junit
from orchestrator.report.as_html.concurrency import open_over_time
from orchestrator.report.as_html.style import PHASES, SHEET
from orchestrator.report.as_html.timeline import NAMED, gantt
from orchestrator.report.summary import summarize
from orchestrator.report.text import text
from orchestrator.report.values import CheckReport, CopyReport, Report
from tests.report import drills
from tests.report.builders import SESSION, Fate, finished, life, run_of, started
from tests.report.payloads import PAYLOADS

ALLOWED_TAGS = frozenset(
    """
    html head meta title style body main nav a section h1 h2 h3 p div b br ul li code span
    table thead tbody tr th td svg g path rect text
    """.split()  # noqa: SIM905 - a list of words reads best as words
)
ALLOWED_ATTRIBUTES = frozenset(
    """
    lang charset http-equiv content name class id href data-of viewbox role x y d width height
    stroke-width scope tabindex aria-label aria-hidden
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


@pytest.mark.parametrize(
    "name",
    [
        *("007", "1e5", "3E-4", "12.5%", "2024-01-02", "1/2", "10:30", "10:30 am", "mar-01"),
        *("SEPT2", "5 May 2024", "Jan 5", "TRUE", "false", "$5", "(5)", "\u0663", "#N/A"),
        *("'quoted", "=1+1", "-5"),
    ],
)
def test_a_name_that_looks_like_a_value_stays_text(name: str) -> None:
    """A spreadsheet keeps it, and whoever takes the apostrophe away has the name again."""
    assert as_csv.cell(name) == f"'{name}"


@pytest.mark.parametrize(
    "name",
    ["sql01", "dc-01", "10.0.0.5", "5d", "web 1", "march-hare-1", "0x1F", "1e5db", "inf", "a"],
)
def test_an_ordinary_name_is_left_alone(name: str) -> None:
    """Readers of the file find it as it is."""
    assert as_csv.cell(name) == name


def test_our_own_numbers_stay_numbers() -> None:
    """Counts, seconds and truth values are for reckoning with."""
    assert [as_csv.cell(each) for each in (7, 1.5, True, None)] == ["7", "1.5", "true", ""]


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

    drawn = gantt(report).partition('<p class="legend')[0]
    picture = Page(drawn)

    bars = sum(
        len(re.findall("[Mm]", d))
        for d in re.findall(r'class="(?:thin |bar )p-\w+"[^>]* d="([^"]*)"', drawn)
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
    wrong = CheckReport(name="boot", path="C:", expected="x", observed="it is gone", passed=False)
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


@pytest.mark.parametrize(
    ("fate", "more"),
    [
        (Fate.LEFT, [finished(60.0, 3)]),
        (Fate.VANISHED, [finished(60.0, 3)]),
        (Fate.RUNNING, []),
    ],
)
def test_a_mount_that_may_be_open_never_ends_in_the_picture(fate: Fate, more: list[Event]) -> None:
    """Nothing that was left, or that nobody can know of, looks released at the end of the run."""
    report = summarize(run_of(life("a", fate), life("b"), more))

    steps = open_over_time(report.targets)

    assert steps[-1][1] == 1
    assert report.targets[0].spans[-1].end == report.run.duration_s
    assert min(level for at, level in steps if at >= 3.0) == 1


def test_a_mount_that_was_released_by_hand_ends_there() -> None:
    """It was open after its target's result, and not for ever."""
    left = life("a", Fate.LEFT)
    by_hand = MountReleased(at=55.0, key=MountKey("databases/hq/a"), by_hand=True)

    report = summarize(run_of(left, [finished(70.0), by_hand]))

    assert open_over_time(report.targets)[-1] == (55.0, 0)


def test_a_stop_is_drawn_where_it_came() -> None:
    """In the timeline and among the open mounts, with its reason; in JSON in seconds."""
    stop = StopRequested(at=20.0, signal="SIGTERM", forced=False)
    halt = RunHalted(at=30.0, reason="deadline", detail="the run may take 30 s")

    report = summarize(run_of(life("a"), [stop, halt, finished(60.0, 5)]))
    document = as_html.render(report)

    assert json.loads(as_json.render(report))["run"]["stops"] == [
        {"at_s": 20.0, "why": "stop (SIGTERM)"},
        {"at_s": 30.0, "why": "halt: the run may take 30 s"},
    ]
    assert document.count('<path class="stop"') == 4
    assert "stop (SIGTERM) after 20 s; halt: the run may take 30 s after 30 s" in document


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"only": ("sql*",)}, "by --only sql*: only 2 targets, of 1 of the plan's 9 entries"),
        (
            {"keys": ("databases/hq/sql01",), "retry_of": RunId("20261122T060000Z-11aa")},
            "by --retry-failed 20261122T060000Z-11aa: only 2 targets, of 1 of the plan's 9 entries",
        ),
    ],
)
def test_a_narrowed_run_says_so_in_every_rendering(changes: dict[str, Any], words: str) -> None:
    """Two of two verified is no proof of a plan of forty machines."""
    first = started(entries=9, **changes)
    lives = [life("sql01"), life("sql02")]
    narrowed = summarize(run_of(*lives, [finished()], first=first))
    whole = summarize(run_of(*lives, [finished()], first=started(entries=9)))

    for name, document in rendered(narrowed).items():
        shown = html.unescape(document).replace("\\*", "*")
        assert words in shown, name
        assert words not in html.unescape(rendered(whole)[name]), name
    values = json.loads(as_json.render(narrowed))
    run = values["run"]
    assert (run["only"], run["retry_of"]) == (
        list(first.only),
        first.retry_of,
    )
    assert (
        f"The run was narrowed {words}; nothing is said about the rest of the plan."
        in (values["not_proven"])
    )
    findings = "\n".join(ci.ci_commands(ci.Ci.AZURE, narrowed, None))
    assert f"narrowed {words}" in findings


def test_a_run_that_was_narrowed_to_nothing_says_so() -> None:
    """Without counts of nothing."""
    report = summarize(run_of([finished(1.0, 1)], first=started(entries=12, only=("nothing*",))))

    assert report.run.narrowed == "by --only nothing*: no target of the plan's 12 entries"


def test_required_checks_that_were_not_made_are_a_reason_in_every_rendering() -> None:
    """A run whose only fault is --require-checks says so: there is no failed target to find."""
    first = started(require_checks=True)
    lives = [life("sql01"), life("sql02", Fate.MOUNTED)]
    report = summarize(run_of(*lives, [finished(60.0, 1)], first=first))

    for name, document in rendered(report).items():
        assert "nothing was checked (--require-checks)" in html.unescape(document), name
    assert "Mounted, not checked:\n  databases/hq/sql02" in text(report)
    document = as_html.render(report)
    not_good = document[document.index("<h2>Not good</h2>") : document.index("<h2>All targets")]
    assert "databases/hq/sql02" in not_good
    assert "databases/hq/sql01" not in not_good
    assert "sql02" in "\n".join(ci.ci_commands(ci.Ci.GITHUB, report, None))


@pytest.mark.parametrize(
    ("fate", "words"),
    [
        (Copied.RESTORED, r"D:\ledger.mdf: written"),
        (Copied.UNKNOWN, r"D:\ledger.mdf: UNKNOWN, it may have been written: no answer"),
        (Copied.FAILED, r"D:\ledger.mdf: not written (failed): no answer"),
    ],
)
def test_a_file_written_into_a_guest_is_named(fate: Copied, words: str) -> None:
    """Text, Markdown and JUnit name it, written or perhaps written, with the target; not copies."""
    message = None if fate is Copied.RESTORED else "no answer"
    written = DownloadOutcome(path="D:\\ledger.mdf", to=None, fate=fate, message=message)
    saved = DownloadOutcome(path="D:\\copy.txt", to="/tmp/copy.txt", fate=Copied.SAVED)
    report = summarize(run_of(life("sql01"), [finished()]))
    into, out = (convert(each, CopyReport, from_attributes=True) for each in (written, saved))
    target = replace(report.targets[0], downloads=(out, into), written=(into,))
    shown = rendered(replace(report, targets=(target,)))

    assert f"Written into guests:\n  databases/hq/sql01: {words}\n" in shown["text"]
    assert "## Written into guests: 1\n" in shown["markdown"]
    assert "<h2>Written into guests</h2>" in shown["html"]
    for name in ("text", "markdown", "junit", "html"):
        assert words in html.unescape(shown[name]), name
        assert name == "html" or "copy.txt" not in shown[name], name


# --- what checkers of HTML and of accessibility ask for ------------------------------------------

VOID = {"meta", "br"}


class Nesting(HTMLParser):
    """Every element is closed where it was opened; SVG's empty ones close themselves."""

    def __init__(self, document: str) -> None:
        """Read the whole document."""
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element, and that it is open."""
        self.found.append((tag, dict(attrs)))
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that closes itself."""
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Refuse to close anything but what was opened last."""
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "made",
    [drills.good, drills.troubled, lambda: drills.large(300)],
    ids=["good", "troubled", "large"],
)
def test_the_page_is_what_checkers_ask_for(made: Callable[[], Report]) -> None:
    """The Nu checker, html-validate and axe: closed elements, one main, ids, heads, regions."""
    report = made()
    page = Nesting(as_html.render(report))

    assert page.open == []
    assert [tag for tag, _ in page.found].count("main") == 1
    assert len(page.ids) == len(set(page.ids))
    assert all(re.fullmatch("[a-z][a-z0-9-]*", each) for each in page.ids)
    assert all(a["scope"] in {"col", "row"} for tag, a in page.found if tag == "th")
    scrolled = [a for tag, a in page.found if (a.get("class") or "").startswith("wide")]
    assert scrolled
    assert all(a["tabindex"] == "0" and a["role"] == "group" for a in scrolled)
    names = [a["aria-label"] for a in scrolled]
    assert len(names) == len(set(names))
    for tag, a in page.found:
        assert tag != "svg" or a.get("aria-label") or a.get("aria-hidden") == "true"
    assert '<th scope="col"></th>' not in as_html.render(report)
    assert "<thead><tr></tr></thead>" not in as_html.render(report)


def _contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(a * b for a, b in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_phases_are_told_apart_without_colour() -> None:
    """Each is 3:1 to light and dark ground (WCAG 1.4.11), and has a shape that no other has."""
    assert set(PHASES) == {each.value for each in Phase} - {"done"}
    for light, dark, *_ in PHASES.values():
        assert _contrast(light, "#ffffff") >= 3
        assert _contrast(dark, "#14181d") >= 3
    assert len({each[2:] for each in PHASES.values()}) == len(PHASES)


@pytest.mark.parametrize(("offset", "times"), [(0.0, 1), (3600.0, 2)])
def test_times_stand_there_once_where_local_time_is_utc(offset: float, times: int) -> None:
    """In the facts of the run and on the axes; twice where the machine has another time."""
    first = started(utc_offset_s=offset)
    document = as_html.render(summarize(run_of(life("sql01"), [finished()], first=first)))

    began = document[document.index("Began</th>") : document.index("Ended</th>")]
    assert began.count("2026-11-23") == times
    assert ("local time" in document) is (times == 2)


def test_every_page_on_paper_names_the_run() -> None:
    """At its foot, with the page's number; hostile or not, the name is nothing but a name."""
    first = replace(started(), run=RunId('x";}</style><script>'))
    document = as_html.render(summarize(run_of(life("sql01"), [finished()], first=first)))

    assert 'content:"bulk-restore, run x_____style__script_"' in document
    assert "counter(page)" in document
    assert "</style><script>" not in document


def test_the_summary_of_a_ci_step_reads_as_text() -> None:
    """Without a parser too: our own sentences and ordinary names hold no escapes."""
    report = summarize(run_of(life("sql_01", Fate.LEFT), life("b"), [finished(4.8, 3)]))

    document = as_markdown.render(report)

    assert ", 4.8 s," in document
    assert "&#" not in document
    assert "\\" not in document
    assert "| databases/hq/sql_01 | left | the server refuses |" in document
    assert f"**Exit code 3** ({short_words(3)}): 1 mount left open" in document
    assert "- The VMs were not booted, and their applications were not started." in document


@pytest.mark.parametrize(
    "words",
    [
        *PAYLOADS,
        *("D:\\a_b\\*", "end\\", "a\\_b_c"),
        *(
            "- a",
            "+ a",
            "1. a",
            "12) a",
            "# a",
            "> a",
            "===",
            "---",
            "    code",
            "~~~",
            "a_b_",
            "_a_b",
        ),
        *(
            "!12",
            "%3",
            "{+a+}",
            "$x$",
            ":smile:",
            "www.example.com",
            "a~~b~~",
            "|",
            "a|b",
            "\\|",
            "&amp;",
        ),
    ],
)
def test_every_text_of_a_server_is_read_as_that_text(words: str) -> None:
    """In a table and in a list, whatever stands at its beginning."""
    table = f"| a |\n| --- |\n| {escape_markdown(words)} |\n"
    listed = f"- {escape_markdown(words)}\n"
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])

    for document in (table, listed):
        inline = [token for token in parser.parse(document) if token.type == "inline"]
        assert len(inline) == (2 if document is table else 1)
        children = inline[-1].children or []
        assert {child.type for child in children} <= {"text", "text_special"}
        assert "".join(child.content for child in children) == printable(words).strip()


def test_a_mount_of_no_target_is_named_in_every_rendering() -> None:
    """It is open and ours, and no target's row would tell of it."""
    stray = StrayFound(
        at=50.0,
        server=ServerName("hq"),
        session=SESSION,
        task=TaskId("task-77"),
        reason="a proxy sent the request twice",
        mount=Href("/mounts/9"),
    )
    report = summarize(run_of(life("sql01"), [stray, finished(60.0, 3)]))
    gone = StrayReleased(at=55.0, server=ServerName("hq"), session=SESSION, task=TaskId("task-77"))
    released = summarize(run_of(life("sql01"), [stray, gone, finished(60.0)]))

    for name, document in rendered(report).items():
        shown = html.unescape(document)
        assert "/mounts/9" in shown, name
        assert "a proxy sent the request twice" in shown, name
    assert text(report).index("LEFT MOUNTED by no target") < text(report).index("1 target:")
    assert report.run.reasons == ("1 mount of no target left open",)
    suites = ET.fromstring(junit.render(report).encode())
    assert (suites.get("tests"), suites.get("errors")) == ("2", "1")
    assert [each.get("type") for each in suites.iter("error")] == ["left"]
    assert "/mounts/9" in "\n".join(ci.ci_commands(ci.Ci.AZURE, report, None))
    first = as_html.render(report).partition("<h2>The run</h2>")[0]
    assert "a mount of no target" in first
    assert "bulk-restore unmount" in first
    assert (released.totals["left"], released.run.reasons) == (0, ())
    line = "1 mount of no target was found and removed: hq: /mounts/9"
    assert line in text(released).splitlines()
    assert line in as_markdown.render(released).splitlines()
    assert "found and removed" not in text(report) + as_markdown.render(report)
    assert len(list(ET.fromstring(junit.render(released).encode()).iter("testcase"))) == 1


def test_a_session_that_nobody_has_read_is_named_in_every_rendering() -> None:
    """A mount of no target may be open there: no rendering is good, and each says what to do."""
    why = "the server denied the session before its tasks were read a last time"
    end = SessionEnded(
        at=55.0,
        server=ServerName("hq"),
        session=SESSION,
        lost=False,
        reason="left open",
        unaudited=why,
        left_open=True,
    )
    report = summarize(run_of(life("sql01"), [end, finished(60.0, 3)]))
    clean = summarize(run_of(life("sql01"), [finished(60.0)]))

    sentence = f"whether a mount of no target is open on hq is not known ({why})"
    for name, document in rendered(report).items():
        assert sentence in html.unescape(document).replace("\\", ""), name
    lines = text(report).splitlines()
    assert lines.index("MAY BE MOUNTED by no target, check there:") < lines.index(f"  {sentence}")
    assert lines[-1].strip() == f"bulk-restore unmount {report.run.id}"
    assert "1 server not known, see above." in lines[-2]
    suites = ET.fromstring(junit.render(report).encode())
    assert (suites.get("tests"), suites.get("errors")) == ("2", "1")
    assert [each.get("type") for each in suites.iter("error")] == ["unknown"]
    assert sentence in "\n".join(ci.ci_commands(ci.Ci.AZURE, report, None))
    first = as_html.render(report).partition("<h2>The run</h2>")[0]
    assert "mounts of no target" in first
    assert "bulk-restore unmount" in first
    assert all("of no target" not in document for document in rendered(clean).values())
