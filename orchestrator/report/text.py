"""The plain-text summary: what needs a person first, then the totals."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from orchestrator.model import MountState, Result, counted, printable
from orchestrator.policy import SESSION_IDLE_LIMIT
from orchestrator.report.exit_codes import ExitCode
from orchestrator.report.objectives import Objective
from orchestrator.report.summary import Report, TargetReport

SHOWN = 20
"""Targets named per section; the rest is counted and stands in report.json."""


def text(report: Report) -> str:
    """Return the summary as lines for a terminal or a mail."""
    lines = [_headline(report), ""]
    lines += _section("LEFT MOUNTED, remove by hand:", _with_mount(report, MountState.LEFT))
    lines += _section("MAY BE MOUNTED, look there:", _with_mount(report, MountState.UNKNOWN))
    lines += _section("HELD OPEN, as asked for:", _with_mount(report, MountState.KEPT))
    lines += _section("Unknown:", _with_result(report, Result.UNKNOWN))
    lines += _section("Failed:", _with_result(report, Result.FAILED))
    lines += _section("Skipped:", _with_result(report, Result.SKIPPED))
    lines += _section("Cancelled:", _with_result(report, Result.CANCELLED))
    lines += _objectives(report)
    if report.warnings:
        lines += ["Warnings:", *(f"  {printable(line)}" for line in report.warnings), ""]
    lines += [_totals(report)]
    lines += [_end(report)]
    lines += ["Not proven:", *(f"  {line}" for line in report.not_proven)]
    lines += _release(report)
    return "\n".join(lines) + "\n"


def _release(report: Report) -> list[str]:
    """Say, as the last word, what may still be done about mounts that nobody wanted to keep."""
    left, unsure = report.totals["left"], report.totals["may_be_mounted"]
    if not left + unsure:
        return []
    counts = [f"{left} left mounted"] * bool(left) + [f"{unsure} may be mounted"] * bool(unsure)
    ended = report.run.finished_at
    until = (
        "Within 15 minutes of the last request"
        if ended is None
        else f"Until about {ended + timedelta(seconds=SESSION_IDLE_LIMIT):%Y-%m-%d %H:%M} UTC"
    )
    return [
        "",
        f"{' and '.join(counts)}, see above. {until} this may still release them:",
        f"  bulk-restore unmount {report.run.id}",
    ]


def words(name: str) -> str:
    """Return the name of a total as people say it."""
    return name.replace("_", " ")


def _headline(report: Report) -> str:
    run = report.run
    reason = f", {printable(run.reason)}" if run.reason else ""
    return (
        f"Run {run.id} of {printable(run.plan)}{reason}: {duration(run.duration_s)}"
        + (f"; HALTED: {printable(run.halted)}" if run.halted else "")
        + ("; interrupted" if run.interrupted else "")
    )


def _with_result(report: Report, result: Result) -> list[TargetReport]:
    return [target for target in report.targets if target.result is result]


def _with_mount(report: Report, mount: MountState) -> list[TargetReport]:
    return [target for target in report.targets if target.mount is mount]


def _section(title: str, targets: Iterable[TargetReport]) -> list[str]:
    found = list(targets)
    if not found:
        return []
    lines = [title]
    for target in found[:SHOWN]:
        where = f" on {target.backup_server}" if target.backup_server else ""
        lines.append(f"  {printable(target.key)}{printable(where)}: {printable(_why(target))}")
    if len(found) > SHOWN:
        lines.append(f"  and {len(found) - SHOWN} more, see report.json")
    return [*lines, ""]


def _why(target: TargetReport) -> str:
    why = target.message or "no reason was given"
    if target.mount in {MountState.LEFT, MountState.UNKNOWN} and target.point is not None:
        return f"{why} (restore point {target.point.name})"
    return why


def _objectives(report: Report) -> list[str]:
    lines = []
    for each in report.objectives:
        verdict = "met" if each.met else "MISSED"
        lines.append(
            f"  {printable(each.scope)} {each.kind.upper()}: {reached_of_wanted(each)}, {verdict}"
        )
    missed = sum(1 for target in report.targets for each in target.objectives if not each.met)
    if missed:
        lines.append(f"  {counted(missed, 'objective')} of single targets MISSED, see report.json")
    return ["Objectives:", *lines, ""] if lines else []


def reached_of_wanted(objective: Objective) -> str:
    """Return what was reached and what was wanted, in words: `2 d 15 h of 4 h`."""
    actual = objective.actual_s
    reached = "not measured" if actual is None else duration(actual)
    return f"{reached} of {duration(objective.target_s)}"


def _totals(report: Report) -> str:
    counts = ", ".join(
        f"{count} {words(name)}"
        for name, count in report.totals.items()
        if name != "targets" and (count or name in {"verified", "mounted", "failed", "left"})
    )
    return f"{counted(report.totals['targets'], 'target')}: {counts}"


def _end(report: Report) -> str:
    code = report.run.exit_code
    if code is None:
        return "Exit code: none yet, the run has not ended (or was killed)"
    known = {member.value: member.about for member in ExitCode}
    return f"Exit code: {code} ({known.get(code, 'not a documented one')})"


def duration(seconds: float) -> str:
    """Return seconds as people say them: `42 s`, `12 min 5 s`, `3 h 2 min`, `2 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    for size, name, small, small_name in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{whole} s"
