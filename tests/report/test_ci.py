"""What CI systems make of our output: their own commands from us, and never one of a server's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import command
from orchestrator.core.model import Objectives
from orchestrator.core.text import inert, printable, printable_json
from orchestrator.report.as_markdown import render
from orchestrator.report.ci import (
    SHOWN,
    SUMMARY_LIMIT,
    Ci,
    append_summary,
    ci_commands,
    detect,
    fold_log,
)
from orchestrator.report.summary import summarize
from orchestrator.report.text import text
from orchestrator.report.values import Report
from tests.report.builders import Fate, finished, life, run_of, started
from tests.report.ci_systems import azure, github, gitlab
from tests.report.payloads import PAYLOADS

TOKEN = "0123456789abcdef"
MORE = (
    "::stop-commands::x",
    f"::{TOKEN}::",
    "  ::error::x",
    "\t::error::x",
    "\u3000::error::x",
    "x ##[error]y",
    "###[group]x",
    "##[add-mask]x",
    "x##vso[task.setvariable variable=a]b",
    "####vso[task.complete result=Succeeded]",
    "##VSO[x]y",
    "%0A::error::x",
    "%250A::error::x",
    "%25",
    "%AZP25",
    "%AZP250A##vso[a]b",
    ";]x",
    "title=a,file=b::c",
    "\x1b[0Ksection_start:1:x\r\x1b[0K",
    "section_end:1:bulk_restore\r",
)


def report_of(words: str) -> Report:
    """Return a report in which a server says `words` wherever it can."""
    fates = (Fate.TASK_FAILED, Fate.LEFT, Fate.VANISHED, Fate.SKIPPED, Fate.MOUNTED)
    lives = [life(f"{words}{fate.name}", fate, wave=words or "x", words=words) for fate in fates]
    first = started(plan=words or "x", reason=words, waves=(words or "x",))
    return summarize(run_of(*lives, [finished(exit_code=3)], first=first))


def output(ci: Ci, report: Report) -> str:
    """Return what a run writes to stdout at its end."""
    lines = ci_commands(ci, report, Path("/reports/a;b]%0A"))
    return fold_log(ci, text(report), report, token=TOKEN) + "\n".join(lines) + "\n"


@pytest.mark.parametrize("payload", [*PAYLOADS, *MORE])
def test_no_text_of_a_server_becomes_a_command(payload: str) -> None:
    """Each system obeys what we wrote for it, as often as we wrote it, and nothing else."""
    report = report_of(payload)

    on_github = Counter(each.name for each in github(output(Ci.GITHUB, report)))
    on_azure = Counter(each.name for each in azure(output(Ci.AZURE, report)))
    on_gitlab = [(each.name, each.data) for each in gitlab(output(Ci.GITLAB, report))]

    assert on_github == {"error": 3, "warning": 1}
    assert on_azure == {"task.logissue": 4, "task.uploadsummary": 1}
    assert on_gitlab == [("start", "bulk_restore"), ("end", "bulk_restore")]
    for ci in (Ci.GITLAB, Ci.JENKINS):  # a log may be read by another system than we think
        assert github(output(ci, report)) == azure(output(ci, report)) == []


@pytest.mark.parametrize("payload", [*PAYLOADS, *MORE])
def test_a_message_arrives_as_it_was_shown(payload: str) -> None:
    """What the system decodes is the text that every other view shows."""
    report = report_of(payload)
    wanted = sorted(
        printable(f"{t.key}: {t.message or 'no reason was given'}", 1000)
        for t in report.targets
        if t.result != "mounted" or t.mount == "left"
    )

    on_github = [c for c in github(output(Ci.GITHUB, report)) if c.name in {"error", "warning"}]
    on_azure = [c for c in azure(output(Ci.AZURE, report)) if c.name == "task.logissue"]

    assert sorted(command.data for command in on_github) == wanted
    assert all(c.properties["title"].startswith("bulk-restore: ") for c in on_github)
    assert sorted(command.data.partition(": ")[2] for command in on_azure) == wanted
    assert {c.properties["type"] for c in on_azure} == {"error", "warning"}
    (summary,) = [c for c in azure(output(Ci.AZURE, report)) if c.name == "task.uploadsummary"]
    assert summary.data == "/reports/a;b]%0A/report.md"


@pytest.mark.parametrize("payload", [*PAYLOADS, *MORE])
def test_a_text_that_is_safe_to_show_is_safe_in_any_ci_log(payload: str) -> None:
    """Progress lines, logs and events too: at the start of a line, and behind other text."""
    for shown in (printable(payload), inert(payload), f"x {printable(payload)}"):
        assert github(shown) == azure(shown) == []
    document = printable_json(f'{{"a": "{printable(payload)}"}}')
    assert github(document) == azure(document) == []
    assert printable(printable(payload)) == printable(payload)


def test_many_failures_are_a_few_annotations() -> None:
    """What is not shown is counted; what may be open comes first."""
    lives = [life(f"a{n}", Fate.TASK_FAILED, words="no") for n in range(40)]
    report = summarize(run_of(*lives, life("z", Fate.LEFT), [finished(exit_code=3)]))

    found = github(output(Ci.GITHUB, report))

    assert len(found) == SHOWN + 1
    assert found[0].data.startswith("databases/hq/z")
    assert found[-1].data == f"and {41 - SHOWN} more targets, see the report"


@pytest.mark.parametrize(
    ("fate", "says"),
    [
        (Fate.MOUNTED, "run RPO: 2 d 15 h of 4 h"),
        (Fate.TASK_FAILED, "run RPO: not measured of 4 h"),
    ],
)
def test_a_missed_objective_says_what_was_wanted_and_reached(fate: Fate, says: str) -> None:
    """In the words of the text report."""
    first = started(objectives=Objectives(rpo=4 * 3600.0))
    report = summarize(run_of(life("a", fate, age_s=229_148.0), [finished()], first=first))

    on_github = [each.data for each in github(output(Ci.GITHUB, report)) if "RPO" in each.data]
    on_azure = [each.data for each in azure(output(Ci.AZURE, report)) if "RPO" in each.data]

    assert on_github == [says]
    assert on_azure == [f"objective missed: {says}"]
    assert f"  {says}, MISSED" in text(report)


def test_a_good_run_has_nothing_to_annotate() -> None:
    """And a report that was not written is not named."""
    report = summarize(run_of(life("a"), [finished()]))

    assert ci_commands(Ci.GITHUB, report, Path("/r")) == []
    assert ci_commands(Ci.AZURE, report, None) == []
    assert ci_commands(Ci.JENKINS, report, None) == []
    assert ci_commands(Ci.JENKINS, report, Path("/r")) == [
        "JUnit: the junit step takes /r/junit.xml"
    ]
    assert "/r/junit.xml" in ci_commands(Ci.GITLAB, report, Path("/r"))[0]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"GITHUB_ACTIONS": "true"}, Ci.GITHUB),
        ({"GITLAB_CI": "true"}, Ci.GITLAB),
        ({"TF_BUILD": "True"}, Ci.AZURE),
        ({"JENKINS_URL": "https://ci.example.net/"}, Ci.JENKINS),
        ({"CI": "true", "GITHUB_ACTIONS": ""}, None),
    ],
)
def test_the_system_is_found_by_the_variable_it_sets(
    environment: dict[str, str], expected: Ci | None
) -> None:
    """Nothing is guessed from CI alone."""
    assert detect(environment) is expected


@pytest.mark.parametrize("before", [0, SUMMARY_LIMIT - 3000, SUMMARY_LIMIT - 10, SUMMARY_LIMIT])
def test_a_step_summary_keeps_within_its_limit(tmp_path: Path, before: int) -> None:
    """Beyond 1 MiB GitHub would show none of it; what is cut says so."""
    path = tmp_path / "summary.md"
    path.write_bytes(b"x" * before)
    lives = [life(f"a{n}", Fate.TASK_FAILED, words="no" * 100) for n in range(200)]
    content = render(summarize(run_of(*lives, [finished(exit_code=1)])))

    append_summary(path, content)

    written = path.read_bytes()
    assert before <= len(written) <= SUMMARY_LIMIT
    if before == 0:
        assert written.decode() == content
    elif before == SUMMARY_LIMIT - 3000:
        assert b"Cut here" in written[-100:]
        assert len(written) > before + 1000
    else:
        assert len(written) == before


def test_a_broken_plan_shows_no_command_either(tmp_path: Path) -> None:
    """The lines of a plan that a pull request brings are only shown."""
    plan = tmp_path / "plan.yaml"
    lines = ["::error::from the plan", "##vso[task.complete]x", "a ##[error]b: c"]
    plan.write_text("version: 1\n" + "\n".join(f"'{line}': 1" for line in lines) + "\n  ::x::y\n")

    done = CliRunner().invoke(command, ["validate", str(plan)])

    assert done.exit_code == 2
    assert "plan.yaml" in done.output
    assert github(done.output) == azure(done.output) == []
