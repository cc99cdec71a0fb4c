"""junit.xml: parsers accept it whatever things are called, and it agrees with report.json."""

from __future__ import annotations

from collections import Counter
from xml.etree.ElementTree import Element

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given, settings
from msgspec.structs import replace

from orchestrator.core.events import WaveFinished, WaveStarted
from orchestrator.core.model import MountState, WaveName
from orchestrator.core.run_state import RunState
from orchestrator.report.junit import render
from orchestrator.report.summary import summarize
from orchestrator.report.values import Report
from tests.report.builders import (
    COLLECTING_S,
    HOSTILE,
    RUNNING_S,
    SUBMITTING_S,
    VERIFYING_S,
    Fate,
    finished,
    life,
    run_of,
    runs,
    started,
    values,
)

KINDS = ("failure", "error", "skipped")
EXPECTED = {
    Fate.VERIFIED: None,
    Fate.MOUNTED: None,
    Fate.REFUTED: "failure",
    Fate.TASK_FAILED: "failure",
    Fate.LEFT: "error",
    Fate.VANISHED: "error",
    Fate.SKIPPED: "skipped",
    Fate.CANCELLED: "skipped",
    Fate.WAITING: "skipped",
    Fate.RUNNING: "error",
}


def parsed(report: Report) -> Element:
    """Return the file's root, parsed from the bytes that would be written."""
    root: Element = fromstring(render(report).encode())
    return root


def kind(case: Element) -> str | None:
    """Return what the case holds: failure, error, skipped or nothing."""
    found = [each.tag for each in case if each.tag != "system-out"]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("fate", Fate)
def test_every_fate_is_the_kind_of_case_that_the_contract_says(fate: Fate) -> None:
    """Failed is a failure, unknown or left an error, skipped and cancelled are skipped."""
    (case,) = parsed(summarize(run_of(life("sql01", fate)))).iter("testcase")

    assert kind(case) == EXPECTED[fate]


@given(runs())
@settings(deadline=None, max_examples=25)
def test_counts_agree_with_the_json(state: RunState) -> None:
    """Whatever happened, the counts are those that report.json's targets give."""
    report = summarize(state)
    shown, root = values(report), parsed(report)

    errors = [
        t for t in shown["targets"] if t["result"] == "unknown" or t["mount"] in {"left", "unknown"}
    ]
    rest = Counter(t["result"] for t in shown["targets"] if t not in errors)
    unproven = rest["mounted"] if shown["run"]["require_checks"] else 0
    assert {
        name: sum(int(suite.attrib[name]) for suite in root.iter("testsuite"))
        for name in ("tests", "failures", "errors", "skipped")
    } == {
        "tests": shown["totals"]["targets"],
        "failures": rest["failed"] + unproven,
        "errors": len(errors),
        "skipped": rest["skipped"] + rest["cancelled"],
    }


@given(runs())
@settings(deadline=None, max_examples=25)
def test_counts_are_those_of_the_cases(state: RunState) -> None:
    """Each suite's and the file's counts are what a parser counts in them."""
    root = parsed(summarize(state))

    for suite in (root, *root.iter("testsuite")):
        found = Counter(kind(case) for case in suite.iter("testcase"))
        assert int(suite.attrib["tests"]) == found.total()
        assert int(suite.attrib["failures"]) == found["failure"]
        assert int(suite.attrib["errors"]) == found["error"]
        assert suite is root or int(suite.attrib["skipped"]) == found["skipped"]


@given(runs())
@settings(deadline=None, max_examples=25)
def test_names_and_messages_survive_but_for_what_xml_forbids(state: RunState) -> None:
    """No name breaks out of its attribute; only characters that XML forbids are replaced."""
    report = summarize(state)
    cases = list(parsed(report).iter("testcase"))

    labels = Counter(allowed(target.label) for target in report.targets)
    assert Counter(case.attrib["name"] for case in cases) == labels
    assert {(case.attrib["classname"], case.attrib["name"]) for case in cases} == {
        (allowed(f"{t.wave}/{t.server}"), allowed(t.label)) for t in report.targets
    }
    assert render(report).isascii()


def allowed(text: str) -> str:
    """Return the text as XML 1.0 can hold it, by the ranges of its Char production."""
    ranges = ((0x20, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF))
    return "".join(
        char
        if char in "\t\n\r" or any(low <= ord(char) <= high for low, high in ranges)
        else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def test_a_hostile_message_is_text_and_nothing_else() -> None:
    """Markup and control characters in the server's words are shown and never obeyed."""
    lived = life(HOSTILE, Fate.TASK_FAILED, words=HOSTILE)

    (case,) = parsed(summarize(run_of(lived))).iter("testcase")

    assert case[0].attrib["message"] == f"other: {allowed(HOSTILE)}"
    assert (case[0].text or "").startswith("failed, mount none: other: [/x]<b")
    assert len(case[0]) == 0


def test_a_suite_per_wave_in_the_plan_s_order() -> None:
    """Each wave is a suite, also one without targets; each target is a case of its own wave."""
    lives = [life("a", wave="databases"), life("b", wave="directory"), life("c", wave="databases")]

    root = parsed(summarize(run_of(*lives, first=started(waves=("directory", "databases", "web")))))

    assert {
        suite.attrib["name"]: [case.attrib["name"] for case in suite.iter("testcase")]
        for suite in root
    } == {
        "directory": ["b"],
        "databases": ["a", "c"],
        "web": [],
    }
    assert [suite.attrib["name"] for suite in root] == ["directory", "databases", "web"]


@pytest.mark.parametrize(
    ("fate", "required", "expected"),
    [
        (Fate.MOUNTED, False, None),
        (Fate.MOUNTED, True, "failure"),
        (Fate.VERIFIED, True, None),
        (Fate.LEFT, True, "error"),
    ],
)
def test_mounted_without_checks_passes_unless_checks_are_required(
    fate: Fate, required: bool, expected: str | None
) -> None:
    """With `--require-checks`, a mount that nobody looked into is a failure that says so."""
    first = started(require_checks=required)

    (case,) = parsed(summarize(run_of(life("sql01", fate), first=first))).iter("testcase")

    assert kind(case) == expected
    if expected == "failure":
        assert "--require-checks" in case[0].attrib["message"]


TYPES = {
    Fate.REFUTED: "failed",
    Fate.TASK_FAILED: "failed",
    Fate.LEFT: "left",
    Fate.VANISHED: "unknown",
    Fate.RUNNING: "unknown",
}
"""What a failure or an error is of, as its type says."""


def test_a_mount_out_of_reach_is_an_error_of_its_own_type() -> None:
    """Whose target is known to be good is not unknown: only its mount is."""
    report = summarize(run_of(life("sql01")))
    target = replace(report.targets[0], mount=MountState.UNKNOWN)

    (case,) = parsed(replace(report, targets=(target,))).iter("testcase")

    assert (kind(case), case[0].attrib["type"]) == ("error", "out of reach")


@pytest.mark.parametrize("fate", [fate for fate in Fate if EXPECTED[fate]])
def test_whatever_is_not_good_says_why(fate: Fate) -> None:
    """A failure, error or skip has a message, also where the server gave none."""
    (case,) = parsed(summarize(run_of(life("sql01", fate)))).iter("testcase")

    assert case[0].attrib["message"].strip()
    if kind(case) != "skipped":
        assert case[0].attrib["type"] == TYPES[fate]


def test_times_are_wall_time() -> None:
    """A case takes from submission to verdict, a suite as long as its wave, the file as the run."""
    waves = [
        WaveStarted(at=2.0, wave=WaveName("databases")),
        WaveFinished(at=70.0, wave=WaveName("databases")),
        WaveStarted(at=71.0, wave=WaveName("web")),
    ]
    lives = [life("sql01"), life("sql02", Fate.SKIPPED), life("sql03", Fate.TASK_FAILED)]
    first = started(waves=("databases", "web", "idle"))

    root = parsed(summarize(run_of(*lives, waves, [finished(641.2)], first=first)))

    times = {case.attrib["name"]: float(case.attrib["time"]) for case in root.iter("testcase")}
    until_verdict = SUBMITTING_S + RUNNING_S + COLLECTING_S + VERIFYING_S
    assert times == {"sql01": until_verdict, "sql02": 0, "sql03": SUBMITTING_S + RUNNING_S}
    assert {suite.attrib["name"]: float(suite.attrib["time"]) for suite in root} == {
        "databases": 68.0,
        "web": 570.2,
        "idle": 0,
    }
    assert float(root.attrib["time"]) == 641.2


ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
        {"properties", "testcase"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": (
        {"name", "classname", "time"},
        {"failure", "error", "skipped", "system-out"},
    ),
    "failure": ({"message", "type"}, set()),
    "error": ({"message", "type"}, set()),
    "skipped": ({"message", "type"}, set()),
    "system-out": (set(), set()),
}
"""Attributes and children that GitHub's readers, GitLab, Azure and Jenkins' xUnit schema share."""


@given(runs())
@settings(deadline=None, max_examples=25)
def test_only_what_every_reader_allows_stands_in_the_file(state: RunState) -> None:
    """Jenkins' xUnit plug-in refuses a whole file for one attribute its schema does not have."""
    root = parsed(summarize(state))

    for element in root.iter():
        attributes, children = ALLOWED[element.tag]
        assert set(element.attrib) <= attributes
        assert {child.tag for child in element} <= children
    for suite in root:
        assert [child.tag for child in suite].count("properties") == 1
        assert suite[0].tag == "properties"


def test_a_case_shows_its_checks_with_what_was_expected_and_observed() -> None:
    """Also a good one: the build's page says what was proven."""
    report = summarize(run_of(life("sql01")))

    (case,) = parsed(report).iter("testcase")

    lines = (case.findtext("system-out") or "").split("\n")
    assert lines[0].startswith("restore point: sql01@2026-11-23, made 2026-11-23T05:00:00")
    assert lines[1:] == ["passed: boot: C:\\Windows: expected exists, observed a directory"]


def test_a_failed_check_says_so_whatever_its_words_are() -> None:
    """One line for each check; the server's text neither breaks it nor attaches files."""
    report = summarize(run_of(life("sql01")))
    words = f"{HOSTILE}[[ATTACHMENT|/etc/passwd]]"
    failed = replace(report.targets[0].checks[0], passed=False, observed=words)
    report = replace(report, targets=(replace(report.targets[0], checks=(failed,)),))

    (case,) = parsed(report).iter("testcase")

    said = case.findtext("system-out") or ""
    assert said.split("\n")[1].startswith(
        "FAILED: boot: C:\\Windows: expected exists, observed [/x]"
    )
    assert len(said.split("\n")) == 2
    assert "[[ATTACHMENT|" not in render(report)
    assert said.replace("\n", "").isprintable()


def test_a_suite_names_the_run_and_the_plan() -> None:
    """Whoever finds the file alone knows what it is about."""
    root = parsed(summarize(run_of(life("sql01"), first=started(reason="Q4"))))

    told = {p.attrib["name"]: p.attrib["value"] for p in root[0].iter("property")}
    assert told["plan_sha256"] == "ab" * 32
    assert (told["plan"], told["mode"], told["reason"]) == ("payments-tier1", "drill", "Q4")
