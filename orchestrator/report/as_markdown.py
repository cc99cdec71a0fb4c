"""report.md: fits the step summary of a CI job, which takes one MiB at most.

Text that came from a plan or a server is shown as text: what Markdown would read as markup,
links or mentions is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.model import MountState, Result, printable
from orchestrator.report.exit_codes import ExitCode
from orchestrator.report.summary import Report, TargetReport
from orchestrator.report.text import duration, words

SHOWN = 50
"""Targets named for each result that is not good; the rest is counted."""

_MARKUP = re.compile(r"[\\`*_{}\[\]<>()#+\-.!|~&@:$=\"'/]")
"""All of ASCII punctuation that any Markdown or its extensions give a meaning."""


def render(report: Report) -> str:
    """Return the summary: answer, totals, objectives, and the first targets that are not good."""
    run = report.run
    about = {member.value: member.about for member in ExitCode}
    code = "none yet" if run.exit_code is None else str(run.exit_code)
    why = "" if run.exit_code is None else f": {plain(about.get(run.exit_code, ''))}"
    lines = [
        f"# {plain(run.plan)}",
        "",
        f"**Exit code {code}**{why}",
        "",
        f"Run {plain(run.id)}, {plain(duration(run.duration_s))}, mode {plain(run.mode)}"
        + (f", reason: {plain(run.reason)}" if run.reason else "")
        + (f", **HALTED**: {plain(run.halted)}" if run.halted else "")
        + (", interrupted" if run.interrupted else ""),
        "",
        *_table(
            [words(name) for name in report.totals],
            [[str(count) for count in report.totals.values()]],
        ),
    ]
    lines += _objectives(report)
    lines += _section("Left or maybe mounted", (t for t in report.targets if _is_open(t)))
    for result in (Result.UNKNOWN, Result.FAILED, Result.SKIPPED, Result.CANCELLED):
        found = (target for target in report.targets if target.result is result)
        lines += _section(result.value.capitalize(), found)
    if report.warnings:
        lines += ["## Warnings", "", *(f"- {plain(line)}" for line in report.warnings[:SHOWN]), ""]
    lines += ["## Not proven", "", *(f"- {plain(line)}" for line in report.not_proven)]
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", printable(text))


def _is_open(target: TargetReport) -> bool:
    return target.mount in {MountState.LEFT, MountState.UNKNOWN, MountState.KEPT}


def _section(title: str, targets: Iterable[TargetReport]) -> list[str]:
    found = list(targets)
    if not found:
        return []
    rows = [
        [plain(target.key), target.mount.value, plain(target.message or "no reason was given")]
        for target in found[:SHOWN]
    ]
    more = [f"and {len(found) - SHOWN} more", ""] if len(found) > SHOWN else []
    heading = [f"## {title}: {len(found)}", ""]
    return [*heading, *_table(["target", "mount", "why"], rows), *more]


def _objectives(report: Report) -> list[str]:
    if not report.objectives:
        return []
    rows = [
        [
            plain(each.scope),
            each.kind.upper(),
            plain(duration(each.target_s)),
            "not measured" if each.actual_s is None else plain(duration(each.actual_s)),
            "met" if each.met else "**MISSED**",
        ]
        for each in report.objectives
    ]
    return ["## Objectives", "", *_table(["of", "objective", "wanted", "reached", ""], rows)]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), ""]
