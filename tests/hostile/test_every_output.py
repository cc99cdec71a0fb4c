"""Each payload in every field that a server may fill, in every output that a person may see."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import anyio
import pytest
import structlog
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt
from msgspec.structs import replace

from orchestrator.app import logs
from orchestrator.app.preview import Preview
from orchestrator.app.readiness.as_json import readiness_json
from orchestrator.app.readiness.findings import Finding, Readiness, Scope, Status
from orchestrator.app.readiness.text import text as readiness_text
from orchestrator.cli.showing import shown_plan
from orchestrator.core.events import RunStarted
from orchestrator.core.model import (
    BackupServerName,
    MountKey,
    MountRequest,
    OsKind,
    RestorePoint,
    RestorePointId,
    RunId,
    Search,
    ServerName,
    UnresolvedTarget,
    WaveName,
)
from orchestrator.core.text import printable
from orchestrator.journal import State
from orchestrator.log import Log, prepare
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.selection import PointPassedOver
from orchestrator.report import as_csv, as_json, as_markdown, junit
from orchestrator.report.text import text
from orchestrator.views.json_events import JsonEvents, events_json_schema
from orchestrator.views.lines import LineView
from orchestrator.views.live import LiveView
from tests.journal.sample import written
from tests.report.builders import STARTED_AT
from tests.report.ci_systems import azure, github, gitlab
from tests.report.history.runs import called
from tests.report.hostile_run import TARGETS, everywhere, hostile_run
from tests.report.payloads import PAYLOADS
from tests.report.terminal import obeyed
from tests.views.screen import Screen
from tests.views.story import see, tell, told

MORE = (
    "\x7f\x08\x85\u2028\u2029 deleted",
    "\x90q\x1b\\ \x9fstring\x9c \x1b_x\x1b\\",
    "\u200b\u200e\u2067\u061c\ufeff\U000e0001 unseen",
    "  ::error::x",
    "x ##[error]y",
    "####vso[task.complete result=Succeeded]",
    "<!channel> <@U1> <http://evil.example|here>",
)
ALL = (*PAYLOADS, *MORE)


def check_inert(shown: str) -> None:
    """Check that no terminal and no CI system does anything but show it."""
    assert obeyed(shown) == []
    assert github(shown) == azure(shown) == gitlab(shown) == []


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


# --- while it runs -----------------------------------------------------------------------------


def frames(words: str) -> str:
    """Return what the live view writes during such a run, a frame after every event."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm-256color")
        patch.setenv("COLUMNS", "160")
        patch.setenv("LINES", "50")
        terminal = Terminal()
        view = LiveView(terminal)
        for event, record in told(hostile_run(words)):
            see(view, event, record)
            view.draw(event.at)
        view.close()
    return terminal.getvalue()


def styles(written_text: str) -> set[str]:
    """Return the sequences that colour."""
    return set(re.findall(r"\x1b\[[0-9;]*m", written_text))


@cache
def usual_styles() -> set[str]:
    """Return those of a run with harmless words."""
    return styles(frames("harmless"))


@pytest.mark.parametrize("words", ALL)
def test_the_live_view_is_drawn_by_us_alone(words: str) -> None:
    """A terminal finds the sequences of frames and our own colours, and the words as text."""
    found = frames(words)

    screen = Screen(rows=50, columns=160)
    screen.feed(found.replace("\n", "\r\n"))  # fails for whatever frames are not made of
    shown = [line.rstrip() for line in (*screen.scrolled, *screen.lines)]
    assert styles(found) <= usual_styles()
    check_inert("\n".join(shown))
    assert printable(words)[:20].strip() in "\n".join(shown)
    assert len(shown) <= 50


@pytest.mark.parametrize("words", ALL)
def test_lines_are_ours(words: str) -> None:
    """As many lines as for harmless words, and nothing in them steers anything."""
    usual, found = io.StringIO(), io.StringIO()
    tell(LineView(usual, verbose=True), *hostile_run("harmless"))
    tell(LineView(found, verbose=True), *hostile_run(words))

    check_inert(found.getvalue())
    assert found.getvalue().count("\n") == usual.getvalue().count("\n") > TARGETS
    assert found.getvalue().count(printable(words, 60)[:20]) >= 20


@pytest.mark.parametrize("words", ALL)
def test_events_mean_what_the_server_said(words: str) -> None:
    """Every line is one valid object, printable as it is; parsed, it holds the very words."""
    stream = io.StringIO()
    view = JsonEvents(stream)
    tell(view, *hostile_run(words))
    view.error(words)
    view.sum_up(3)

    check_inert(stream.getvalue())
    rows = [json.loads(line) for line in stream.getvalue().removesuffix("\n").split("\n")]
    validator = Draft202012Validator(events_json_schema())
    for row in rows:
        validator.validate(row)
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    said = [value for row in rows for value in row.values() if isinstance(value, str)]
    assert said.count(words) >= 20


def logged(style: str, words: str) -> str:
    """Return what a log of that style says of the words in every kind of value."""
    kept = structlog.get_config()
    stream = io.StringIO()
    try:
        logs.configure(style=style, stream=stream)
        Log(__name__).warning(
            words, why=words, names=[words, {"deep": (words,)}], error=OSError(words)
        )
        Log(__name__).error("with.bytes", body=words.encode(errors="replace"))
    finally:
        structlog.configure(**kept)
        prepare(logging.NOTSET, lambda: None)
    return stream.getvalue()


@pytest.mark.parametrize("words", ALL)
def test_a_log_in_json_parses_back(words: str) -> None:
    """One record is one line, and holds the very words."""
    shown = logged("json", words)

    check_inert(shown)
    first, second = [json.loads(line) for line in shown.removesuffix("\n").split("\n")]
    assert (first["event"], first["why"], first["error"]) == (words, words, words)
    assert first["names"] == [words, {"deep": [words]}]
    assert second["event"] == "with.bytes"


@pytest.mark.parametrize("words", ALL)
def test_a_log_on_a_console_is_a_line_for_a_record(words: str) -> None:
    """Two records are two lines, in lists and mappings as well."""
    shown = logged("console", words)

    check_inert(shown)
    assert shown.count("\n") == 2


# --- afterwards --------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ALL)
def test_every_report_takes_the_words_for_text(words: str) -> None:
    """Summary, Markdown, CSV, JUnit, JSON of a run with the words in every field there is."""
    report = everywhere(words)

    for shown in (text(report), as_markdown.render(report), as_json.render(report)):
        check_inert(shown)
    tokens = MarkdownIt("commonmark").enable("table").parse(as_markdown.render(report))
    kinds = {each.type for token in tokens for each in (token, *(token.children or ()))}
    assert not kinds & {"link_open", "image", "html_inline", "html_block", "code_inline", "fence"}
    assert "code_block" not in kinds
    table = as_csv.render(report).removeprefix("\ufeff")
    check_inert(table.replace("\r\n", "\n"))
    rows = list(csv.reader(io.StringIO(table)))
    assert {len(row) for row in rows} == {len(as_csv.COLUMNS)}
    assert len(rows) == 1 + TARGETS
    assert not [cell for row in rows for cell in row if re.match(r"\s*[=+@|%]|\s*-\D", cell)]
    cases = list(ET.fromstring(junit.render(report).encode()).iter("testcase"))
    assert len(cases) == TARGETS
    values = json.loads(as_json.render(report))
    assert {each["vm"] for each in values["targets"]} == {words}


def run_number(number: int) -> RunId:
    """Return the id of one of the runs below."""
    return RunId(f"20261123T060000Z-{number:04x}")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep a run with each payload."""
    directory = tmp_path_factory.mktemp("state")
    for number, words in enumerate(ALL):
        first, *events = hostile_run(words)
        assert isinstance(first, RunStarted)
        first = replace(first, run=run_number(number))
        anyio.run(written, State(directory), events, first)
    return directory


COMMANDS = (
    "status RUN",
    "status RUN --json",
    "list RUN",
    "list RUN --json",
    "list RUN --status failed",
    "report RUN --compare BEFORE",
    "report RUN --compare BEFORE --json",
    "trend --target *",
    "trend --target * --json",
    "status",
    "status --json",
    "watch RUN",
)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_about_earlier_runs_say_it_safely(state: Path, line: str) -> None:
    """Tables, lines, comparisons, and the same as JSON, of every one of these runs."""
    for number in range(1, len(ALL)) if "RUN" in line else [1]:
        places = {"RUN": run_number(number), "BEFORE": run_number(number - 1)}
        done = called(state, *(places.get(word, word) for word in line.split()))

        assert done.exception is None or isinstance(done.exception, SystemExit)
        assert done.exit_code in {0, 3}, done.output
        assert done.stdout.strip()
        check_inert(done.stdout)
        check_inert(done.stderr)
        if "--json" in line:
            assert json.loads(done.stdout)


@pytest.mark.parametrize("command", ["status", "list"])
def test_json_of_an_earlier_run_means_what_the_server_said(state: Path, command: str) -> None:
    """The very words come back, however they were escaped."""
    for number, words in enumerate(ALL):
        values = json.loads(called(state, command, run_number(number), "--json").stdout)

        targets = values["targets"] if isinstance(values, dict) else values
        assert len(targets) == TARGETS
        assert sum(each["message"] == words for each in targets) >= TARGETS - 1


# --- before ------------------------------------------------------------------------------------


def readiness(words: str) -> Readiness:
    """Return the answers of a check that says the words of everything."""
    findings = [
        Finding(scope=scope, name=words, item=item, status=status, detail=words, critical=critical)
        for scope in Scope
        for status in Status
        for item, critical in (("certificate", False), ("inventory", True), ("duration", False))
    ]
    return Readiness(
        plan=words,
        plan_sha256="ab" * 32,
        checked_at=datetime(2026, 11, 23, tzinfo=UTC),
        servers=1,
        targets=1,
        findings=tuple(findings),
    )


@pytest.mark.parametrize("words", ALL)
def test_a_check_says_it_safely(words: str) -> None:
    """Certificates, inventories, points: as lines and as JSON that means the same."""
    found = readiness(words)

    check_inert(readiness_text(found, verbose=True))
    check_inert(readiness_text(found))
    check_inert(readiness_json(found))
    values = json.loads(readiness_json(found))
    assert {each["detail"] for each in values["items"]} == {words}
    assert len(readiness_text(found).splitlines()) == len(
        readiness_text(readiness("harmless")).splitlines()
    )


def looked(words: str) -> Preview:
    """Return an expanded plan in which everything is called so, and every reason says so."""
    point = RestorePoint(
        id=RestorePointId(words),
        name=words,
        vm=words,
        created_at=STARTED_AT,
        backup_server=BackupServerName(words),
    )
    key = MountKey(words)
    request = MountRequest(
        key=key,
        wave=WaveName(words),
        server=ServerName(words),
        label=words,
        point=point,
        os_kind=OsKind.WINDOWS,
        policy=words,
        search=Search(candidates=(point,)),
    )
    nowhere = UnresolvedTarget(
        key=MountKey(f"{words} nowhere"),
        wave=WaveName(words),
        server=ServerName(words),
        label=words,
        reason=words,
    )
    expansion = Expansion(
        requests=(request,),
        unresolved=(nowhere,),
        broken=(words,),
        passed={key: (PointPassedOver(point=point, why=words),)},
        notes=(words,),
    )
    return Preview(expansion=expansion, now=STARTED_AT, seed=7)


@pytest.mark.parametrize("words", ALL)
def test_a_plan_is_shown_safely(words: str) -> None:
    """The table and the reasons: each in lines of our own, however long the words are."""
    lines = list(shown_plan(looked(words), explain=True))

    check_inert("\n".join(lines))
    assert all(line.isprintable() for line in lines)
    assert len(lines) < 20
