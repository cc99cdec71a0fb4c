"""report.md: fits the step summary of a CI job, which takes one MiB at most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from orchestrator.core.model import MountState, Result
from orchestrator.core.text import duration, escape_markdown
from orchestrator.report.exit_codes import end_in_a_line
from orchestrator.report.foreseen import forecast_in_words
from orchestrator.report.gates import gate_words
from orchestrator.report.part_values import MergedPart
from orchestrator.report.shards import served_by, shard_name
from orchestrator.report.stopped_tasks import stopped_tasks
from orchestrator.report.text import (
    asked_by_people,
    control_line,
    failures,
    merged_words,
    ran_there,
    removed_lines,
    stray_words,
    systems_lines,
    words,
    written,
    written_words,
)
from orchestrator.report.under_way import (
    WITHOUT,
    concluded,
    shown_totals,
    state_words,
    under_way,
)
from orchestrator.report.values import ControlReport, CopyReport, Report, ShardReport, TargetReport

T = TypeVar("T")

SHOWN = 50
"""Targets named for each result that is not good; the rest is counted."""


def render(report: Report) -> str:
    """Return the summary: answer, totals, objectives, and the first targets that are not good."""
    run, lines = report.run, _head(report)
    lines += _objectives(report)
    if report.strays:
        rows = [[escape_markdown(stray_words(stray))] for stray in report.strays[:SHOWN]]
        heading = f"## Left mounted by no target: {len(report.strays)}"
        lines += [heading, "", *_table(["mount"], rows)]
    if report.unread:
        rows = [[escape_markdown(unread.message)] for unread in report.unread]
        lines += ["## May be mounted by no target", "", *_table(["server"], rows)]
    held = [each for each in report.targets if each.mount is MountState.KEPT]
    is_left = (each for each in report.targets if each.may_be_open and each not in held)
    lines += _section("Left or maybe mounted", is_left)
    lines += _section("Held open, as requested", held)
    lines += _section(WITHOUT.capitalize(), under_way(report))
    lines += _part("Written into guests", list(written(report)), ["target", "file"], _written)
    unchecked = (target for target in concluded(report) if target.unchecked)
    lines += _section("Mounted, not checked", unchecked)
    unknown = (target for target in concluded(report) if target.result is Result.UNKNOWN)
    lines += _section("Unknown", unknown)
    for name, hint, failed in failures(report):
        lines += _section(f"Failed, {escape_markdown(name)}", failed)
        lines += [escape_markdown(f"What to do: {hint}"), ""] if hint else []
    for result in (Result.SKIPPED, Result.CANCELLED):
        items = (target for target in concluded(report) if target.result is result)
        lines += _section(result.value.capitalize(), items)
    lines += _part("Asked by people", asked_by_people(report, SHOWN), ["what was asked"], _control)
    lines += _part("Asked to stop", list(stopped_tasks(report)), ["target", "task"], _stopped)
    lines += [each for line in removed_lines(report) for each in (escape_markdown(line), "")]
    if report.warnings:
        lines += [
            "## Warnings",
            "",
            *(f"- {escape_markdown(line)}" for line in report.warnings[:SHOWN]),
            "",
        ]
    lines += [each for line in systems_lines(report) for each in (line, "")]
    lines += _part("Served by", report.run.shards, ["server", "workers"], _shard)
    lines += _part("Shards", report.run.merged, ["shard"], _merged)
    if run.forecast is not None:
        lines += [f"Forecast: {escape_markdown(forecast_in_words(run.forecast))}", ""]
    lines += ["## Not proven", "", *(f"- {escape_markdown(line)}" for line in report.not_proven)]
    return "\n".join(lines) + "\n"


def _head(report: Report) -> list[str]:
    """Return the answer, what the run was, and the totals."""
    run, totals = report.run, shown_totals(report)
    name, took = escape_markdown(run.id), escape_markdown(duration(run.duration_s))
    code = "none yet" if run.exit_code is None else str(run.exit_code)
    meaning, why = "", "; ".join(run.reasons)
    if run.exit_code is not None:
        meaning, why = end_in_a_line(run.exit_code, run.reasons)
    return [
        f"# {escape_markdown(run.plan)}",
        "",
        f"**Exit code {code}**"
        + (f" ({escape_markdown(meaning)})" if meaning else "")
        + (f": {escape_markdown(why)}" if why else ""),
        "",
        f"Run {name}, {took}, mode {escape_markdown(run.mode)}"
        + (f", reason: {escape_markdown(run.reason)}" if run.reason else "")
        + (f", **NARROWED** {escape_markdown(run.narrowed)}" if run.narrowed else "")
        + (f", **HALTED**: {escape_markdown(run.halted)}" if run.halted else "")
        + (f", {state_words(run)}" if state_words(run) else ""),
        "",
        *(f"{escape_markdown(gate_words(each))}\n" for each in run.waits_for),
        *_table(
            [words(name) for name in totals],
            [[str(count) for count in totals.values()]],
        ),
    ]


def _section(title: str, targets: Iterable[TargetReport]) -> list[str]:
    return _part(title, list(targets), ["target", "mount", "why"], _row)


def _row(target: TargetReport) -> list[str]:
    said = (target.message or "no reason was given", ran_there(target))
    why = escape_markdown("; ".join(filter(None, said)))
    return [escape_markdown(target.key), target.mount.value, why]


def _written(file: tuple[TargetReport, CopyReport]) -> list[str]:
    return [escape_markdown(file[0].key), escape_markdown(written_words(file[1]))]


def _control(control: ControlReport) -> list[str]:
    return [escape_markdown(control_line(control))]


def _stopped(stopped: tuple[TargetReport, str]) -> list[str]:
    return [escape_markdown(stopped[0].key), escape_markdown(stopped[1])]


def _shard(shard: ShardReport) -> list[str]:
    return [escape_markdown(shard_name(shard)), escape_markdown(served_by(shard))]


def _merged(part: MergedPart) -> list[str]:
    return [escape_markdown(merged_words(part))]


def _part(
    title: str, items: Sequence[T], head: list[str], row: Callable[[T], list[str]]
) -> list[str]:
    """Return a heading and a table of the first `SHOWN`; nothing where there is none."""
    if not items:
        return []
    more = [f"and {len(items) - SHOWN} more", ""] if len(items) > SHOWN else []
    return [f"## {title}: {len(items)}", "", *_table(head, [*map(row, items[:SHOWN])]), *more]


def _objectives(report: Report) -> list[str]:
    if not report.objectives:
        return []
    rows = [
        [
            escape_markdown(each.scope),
            each.kind.upper(),
            escape_markdown(duration(each.target_s)),
            "not measured" if each.actual_s is None else escape_markdown(duration(each.actual_s)),
            "met" if each.met else "**MISSED**",
        ]
        for each in report.objectives
    ]
    return ["## Objectives", "", *_table(["of", "objective", "wanted", "reached", ""], rows)]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), ""]
