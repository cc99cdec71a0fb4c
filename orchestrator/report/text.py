"""The plain-text summary: what needs a person first, then the totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

from orchestrator.core.causes import FailureCause
from orchestrator.core.controls import LOOKS
from orchestrator.core.left_open import out_of_reach_words
from orchestrator.core.model import ASSUMED_OS, MountState, OsSource, Result
from orchestrator.core.policy import SESSION_IDLE_LIMIT
from orchestrator.core.proof import Fate
from orchestrator.core.text import counted, duration, moment, printable
from orchestrator.report.exit_codes import end_in_a_line
from orchestrator.report.foreseen import forecast_in_words
from orchestrator.report.gates import gate_words
from orchestrator.report.objective_values import Objective
from orchestrator.report.part_values import MergedPart
from orchestrator.report.server_values import StrayReport, UnreadReport
from orchestrator.report.shards import served_by, shard_name
from orchestrator.report.stopped_tasks import stopped_tasks
from orchestrator.report.under_way import (
    WITHOUT,
    concluded,
    shown_totals,
    state_words,
    under_way,
)
from orchestrator.report.values import ControlReport, CopyReport, Report, ShardReport, TargetReport

T = TypeVar("T")

SHOWN = 20
"""Targets named per section; the rest is counted; all are in report.json."""


def text(report: Report) -> str:
    """Return the summary as lines for a terminal or a mail."""
    lines = [_headline(report), ""]
    lines += _part("LEFT MOUNTED by no target, remove by hand:", report.strays, _stray)
    lines += _part("MAY BE MOUNTED by no target, check there:", report.unread, _unread)
    for title, targets in (
        ("LEFT MOUNTED, remove by hand:", _with(report, MountState.LEFT)),
        ("MAY BE MOUNTED, check there:", _with(report, MountState.UNKNOWN)),
        ("HELD OPEN, as requested:", _with(report, MountState.KEPT)),
    ):
        lines += _part(title, targets, _target)
    lines += _part(f"{WITHOUT.capitalize()}:", under_way(report), _target)
    lines += _part("Written into guests:", list(written(report)), _written)
    lines += _part("Unknown:", _with(report, Result.UNKNOWN), _target)
    lines += _failed(report)
    unchecked = [each for each in concluded(report) if each.unchecked]
    lines += _part("Mounted, not checked:", unchecked, _target)
    lines += _by_reason("Skipped:", _with(report, Result.SKIPPED))
    lines += _by_reason("Cancelled:", _with(report, Result.CANCELLED))
    lines += _part("Waits for people:", report.run.waits_for, gate_words)
    lines += _part("Asked by people:", asked_by_people(report, SHOWN), _control)
    lines += _part("Asked to stop:", list(stopped_tasks(report)), _stopped)
    lines += _objectives(report)
    lines += [each for line in removed_lines(report) for each in (printable(line), "")]
    if report.warnings:
        lines += ["Warnings:", *(f"  {printable(line)}" for line in report.warnings), ""]
    lines += [each for line in systems_lines(report) for each in (line, "")]
    lines += _part("Served by:", report.run.shards, _shard)
    lines += _part("Shards:", report.run.merged, merged_words)
    if report.run.forecast is not None:
        lines += [f"Forecast: {forecast_in_words(report.run.forecast)}", ""]
    lines += [_totals(report)]
    lines += [_end(report)]
    lines += ["Not proven:", *(f"  {line}" for line in report.not_proven)]
    lines += _release(report)
    return "\n".join(lines) + "\n"


def _release(report: Report) -> list[str]:
    """Return how mounts that are open unintentionally can still be released; the last lines."""
    totals = shown_totals(report)
    left, unsure = totals["left"], totals["may_be_mounted"]
    if not (left + unsure or report.unread):
        return []
    counts = [f"{left} left mounted"] * bool(left) + [f"{unsure} may be mounted"] * bool(unsure)
    counts += [f"{counted(len(report.unread), 'server')} not known"] * bool(report.unread)
    ended = report.run.finished_at
    until = (
        "Within 15 minutes of the last request"
        if ended is None
        else f"Until about {moment(ended + timedelta(seconds=SESSION_IDLE_LIMIT))}"
    )
    gone = report.run.out_of_reach
    them = "what is open" if report.unread else "them"
    if 0 < gone < left + unsure:
        them = f"{left + unsure - gone} of them"
    lines = ["", f"{' and '.join(counts)}, see above."]
    if report.run.merged:
        return [*lines, *releasing_lines(report)]
    if gone < left + unsure or report.unread:
        lines[-1] += f" {until} this may still release {them}:"
        lines.append(f"  bulk-restore unmount {report.run.id}")
    return [*lines, out_of_reach_words(gone)] if gone else lines


def releasing_lines(report: Report) -> list[str]:
    """Return the commands that may still release what the runs of a merged report have left."""
    return [
        f"  bulk-restore unmount {printable(each.run)} (on {printable(each.host)})"
        for each in report.run.merged
        if each.may_be_open
    ]


def merged_words(part: MergedPart) -> str:
    """Return what became of a part of the plan."""
    code = "none yet" if part.exit_code is None else str(part.exit_code)
    return (
        f"{part.number}: run {printable(part.run)} on {printable(part.host)}, exit code {code}, "
        f"{counted(part.targets, 'target')}, evidence: {part.evidence}"
        + "".join(f", {gate_words(each)}" for each in part.waits_for)
    )


def words(name: str) -> str:
    """Return the name of a total in words."""
    return name.replace("_", " ")


def _headline(report: Report) -> str:
    run = report.run
    reason = f", {printable(run.reason)}" if run.reason else ""
    return (
        f"Run {run.id} of {printable(run.plan)}{reason}: {duration(run.duration_s)}"
        + (f"; NARROWED {printable(run.narrowed)}" if run.narrowed else "")
        + (f"; HALTED: {printable(run.halted)}" if run.halted else "")
        + (f"; {state_words(run)}" if state_words(run) else "")
    )


def _with(report: Report, what: Result | MountState) -> list[TargetReport]:
    return [each for each in concluded(report) if each.result is what or each.mount is what]


def _part(title: str, items: Sequence[T], line: Callable[[T], str]) -> list[str]:
    """Return a title and a line for each of the first `SHOWN`; nothing where there is none."""
    return [title, *_rows(items, line), ""] if items else []


def _rows(items: Sequence[T], line: Callable[[T], str]) -> list[str]:
    """Return a line for each of the first `SHOWN`, and how many more there are."""
    more = [f"  and {len(items) - SHOWN} more, see report.json"] if len(items) > SHOWN else []
    return [*(f"  {line(each)}" for each in items[:SHOWN]), *more]


def failures(report: Report) -> Iterator[tuple[str, str, list[TargetReport]]]:
    """Yield the failed targets by cause: its name, what to do about it ("" if unsaid), and they."""
    failed = _with(report, Result.FAILED)
    for cause in (*FailureCause, None):
        if of_cause := [each for each in failed if each.cause is cause]:
            hint = next((each.hint for each in of_cause if each.hint), "")
            yield "cause not known" if cause is None else words(cause.value), hint, of_cause


def _failed(report: Report) -> list[str]:
    lines: list[str] = []
    for name, hint, targets in failures(report):
        title = f"{name}, {len(targets)}: {hint}".removesuffix(": ")
        lines.append(f"  {printable(title, 400)}")
        lines += _rows(targets, lambda each: f"  {_target(each)}")
    return ["Failed:", *lines, ""] if lines else []


def _by_reason(title: str, targets: Sequence[TargetReport]) -> list[str]:
    """Return a title and the targets; a reason that several of them share stands there once."""
    if not targets:
        return []
    alike: dict[str, list[TargetReport]] = {}
    for each in targets:
        alike.setdefault(_why(each), []).append(each)
    shared = [(why, same) for why, same in alike.items() if len(same) > 1][:SHOWN]
    lines = [title]
    for why, same in shared:
        lines.append(f"  {counted(len(same), 'target')}: {printable(why)}")
        lines += _rows(same, lambda each: f"  {_name(each)}")
    named = {why for why, _ in shared}
    return [*lines, *_rows([each for each in targets if _why(each) not in named], _target), ""]


def ran_there(target: TargetReport) -> str:
    """Return what ran on the machine of a failure, as far as the server showed; "" if nothing."""
    if target.sessions is None or not target.sessions.shown:
        return ""
    return f"as of {moment(target.sessions.seen_at)}: {'; '.join(target.sessions.shown)}"


def _target(target: TargetReport) -> str:
    return f"{_name(target)}: {printable(_why(target))}"


def _name(target: TargetReport) -> str:
    where = f" on {target.backup_server}" if target.backup_server else ""
    return f"{printable(target.key)}{printable(where)}"


def _why(target: TargetReport) -> str:
    why = "; ".join(filter(None, (target.message or "no reason was given", ran_there(target))))
    if target.mount in {MountState.LEFT, MountState.UNKNOWN} and target.point is not None:
        why = f"{why} (restore point {target.point.name})"
    return why


def _shard(shard: ShardReport) -> str:
    return f"{printable(shard_name(shard))}: {printable(served_by(shard), 600)}"


def _unread(unread: UnreadReport) -> str:
    return printable(unread.message)


def _control(control: ControlReport) -> str:
    return printable(control_line(control), 600)


def asked_by_people(report: Report, first: int) -> list[ControlReport]:
    """Return what people asked of the living run, in order of time.

    Of more than `first`, what steered it comes before who only looked, so that it is among those.
    """
    steering_first = sorted(report.controls, key=lambda each: each.verb in LOOKS)
    shown, more = steering_first[:first], steering_first[first:]
    return [each for part in (shown, more) for each in sorted(part, key=lambda one: one.at)]


def control_line(control: ControlReport) -> str:
    """Return who asked what of the living run, and when."""
    return f"{moment(control.at)}: {control.user} on {control.host}: {control.words}"


def _stopped(stopped: tuple[TargetReport, str]) -> str:
    return f"{printable(stopped[0].key)}: {printable(stopped[1])}"


def _stray(stray: StrayReport) -> str:
    return printable(stray_words(stray))


def systems_lines(report: Report) -> list[str]:
    """Return one line about the guests whose system the plan leaves open, unless all are Windows.

    None either where none of them was mounted.
    """
    is_open = [each for each in report.targets if each.os_known != OsSource.PLAN and each.volumes]
    wrong = sum(len({try_.os for try_ in each.attempts}) > 1 for each in is_open)
    counts = Counter(each.os for each in is_open)
    if not wrong and counts.keys() <= {ASSUMED_OS.value.lower()}:
        return []
    earlier = sum(each.os_known == OsSource.EARLIER_RUN for each in is_open)
    shown = " and ".join(f"{count} {os.capitalize()}" for os, count in sorted(counts.items()))
    how = [f"{earlier} known from earlier runs"] * bool(earlier)
    how += [f"{wrong} mounted as both systems to find out"] * bool(wrong)
    return [
        f"Systems that the plan leaves open: {shown}{' (' if how else ''}{', '.join(how)}"
        f"{')' if how else ''}"
    ]


def removed_lines(report: Report) -> list[str]:
    """Return one line about the mounts of no target that were removed; none without any."""
    mounts = [
        f"{stray.server}: {stray.mount_href or stray.task_id}" for stray in report.strays_removed
    ]
    if not mounts:
        return []
    were = "was" if len(mounts) == 1 else "were"
    more = f", and {len(mounts) - SHOWN} more" if len(mounts) > SHOWN else ""
    how_many = f"{counted(len(mounts), 'mount')} of no target {were} found and removed"
    return [f"{how_many}: {', '.join(mounts[:SHOWN])}{more}"]


def stray_words(stray: StrayReport) -> str:
    """Return where a mount of no target is, and why it was left."""
    point = f", restore point {stray.point_id}" if stray.point_id else ""
    return f"{stray.server}: {stray.mount_href or stray.task_id}{point}: {stray.message}"


def written(report: Report) -> Iterator[tuple[TargetReport, CopyReport]]:
    """Yield which files were, or may have been, written into which guests: their originals."""
    return ((target, each) for target in report.targets for each in target.written)


def _written(file: tuple[TargetReport, CopyReport]) -> str:
    return f"{printable(file[0].key)}: {printable(written_words(file[1]))}"


def written_words(outcome: CopyReport) -> str:
    """Return what became of a file that was to be written into a guest."""
    said = {Fate.RESTORED: "written", Fate.UNKNOWN: "UNKNOWN, it may have been written"}
    what = said.get(outcome.fate, f"not written ({outcome.fate.value})")
    return f"{outcome.path}: {what}" + (f": {outcome.message}" if outcome.message else "")


def _objectives(report: Report) -> list[str]:
    lines = [
        f"  {printable(each.scope)} {each.kind.upper()}: {reached_of_wanted(each)}, "
        f"{'met' if each.met else 'MISSED'}"
        for each in report.objectives
    ]
    of_targets = (each for target in report.targets for each in target.scoped_objectives())
    missed = sum(not each.met for each in of_targets)
    if missed:
        lines.append(f"  {counted(missed, 'objective')} of single targets MISSED, see report.json")
    return ["Objectives:", *lines, ""] if lines else []


def reached_of_wanted(objective: Objective) -> str:
    """Return what was reached and what was wanted, in words: `2 d 15 h of 4 h`."""
    actual = objective.actual_s
    reached = "not measured" if actual is None else duration(actual)
    words = f"{reached} of {duration(objective.target_s)}"
    if isinstance(objective.median_s, float) and isinstance(objective.runs, int):
        usual = duration(objective.median_s)
        words += f" (median of {counted(objective.runs, 'earlier run')}: {usual})"
    return words


def _totals(report: Report) -> str:
    counts = ", ".join(
        f"{count} {words(name)}"
        for name, count in shown_totals(report).items()
        if name != "targets" and (count or name in {"verified", "mounted", "failed", "left"})
    )
    return f"{counted(report.totals['targets'], 'target')}: {counts}"


def _end(report: Report) -> str:
    code = report.run.exit_code
    if code is None:
        why = "the run is still running" if report.run.goes_on else "the run has not ended"
        return f"Exit code: none yet, {why}{'' if report.run.goes_on else ' (or was killed)'}"
    words, why = end_in_a_line(code, report.run.reasons)
    return f"Exit code: {code} ({words})" + (f": {printable(why, 2000)}" if why else "")
