"""The targets: those that are not good in full, all of them in one table, the good ones in full."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from orchestrator.core.model import OsSource, Result
from orchestrator.core.text import duration
from orchestrator.report.as_html.markup import (
    ABSENT,
    cards,
    more,
    only_on_paper,
    scrolled,
    section,
    shown,
    table,
    utc,
)
from orchestrator.report.as_html.sections import kind_of
from orchestrator.report.stopped_tasks import stop_words
from orchestrator.report.text import ran_there, words
from orchestrator.report.values import AttemptReport, CheckReport, CopyReport, Report, TargetReport

UNTRIED = 200
"""Targets that were never mounted and are named with the reason; the others are counted."""

BAD_ON_PAPER, GOOD_ON_PAPER = 40, 60
"""Targets in full on paper: the first that are not good, and all good ones if they are few."""

TOGETHER = 100
"""Rows of one table: a browser lays out only tables that are on the screen."""

ORDER = (
    Result.UNKNOWN,
    Result.FAILED,
    Result.SKIPPED,
    Result.CANCELLED,
    Result.VERIFIED,
    Result.MOUNTED,
)


def not_good(report: Report, budget: int) -> str:
    """Return every target that is not good in full, in at most `budget` characters."""
    targets = [
        target
        for result in ORDER
        for target in sorted(report.targets, key=_cause)
        if target.result is result and not _is_good(target)
    ]
    tried = [target for target in targets if target.attempts]
    untried = [target for target in targets if not target.attempts]
    parts = [_all_in_full(tried, budget, BAD_ON_PAPER)]
    rows = (
        (f"<b>{shown(each.key)}</b>", each.result.value, shown(each.message))
        for each in untried[:UNTRIED]
    )
    parts.append(cards(("Never mounted", "Result", "Why"), rows, kind="untried"))
    return section("Not good", *parts, more(len(untried) - UNTRIED))


def _all_in_full(targets: Sequence[TargetReport], budget: int, on_paper: int) -> str:
    """Return as many targets in full as `budget` characters allow.

    Paper shows the first `on_paper`.
    """
    parts: list[str] = []
    if len(targets) > on_paper:
        words = (
            f"Paper shows {on_paper} of {len(targets)} in full; the page on a screen shows more."
        )
        parts.append(only_on_paper(words))
    before = ""
    for place, target in enumerate(targets):
        part = _in_full(target, kind="target" if place < on_paper else "target screen")
        if (title := _kind_of_failure(target, targets)) not in {"", before}:
            part, before = f"<p><b>{shown(title)}</b></p>{part}", title
        budget -= len(part)
        if budget < 0:
            parts.append(more(len(targets) - len(parts), " in full, see report.json"))
            break
        parts.append(part)
    return "".join(parts)


def _cause(target: TargetReport) -> str:
    return "" if target.cause is None else target.cause.value


def _kind_of_failure(target: TargetReport, targets: Sequence[TargetReport]) -> str:
    """Return the title of the failures of one cause, with their number; "" for anything else."""
    if target.result is not Result.FAILED or not _cause(target):
        return ""
    alike = sum(each.result is Result.FAILED and each.cause is target.cause for each in targets)
    return f"Failed, {words(_cause(target))}: {alike}"


def _is_good(target: TargetReport) -> bool:
    if target.phase is not None:
        return True  # it may still be: what is under way is not what the run has to show
    return target.is_good and not target.may_be_open


def groups(
    report: Report, targets: Iterable[TargetReport]
) -> Iterator[tuple[str, str, list[TargetReport]]]:
    """Yield wave, server and the targets that have both: by wave as they ran, then by server."""
    order = {wave.name: place for place, wave in enumerate(report.waves)}
    ordered = sorted(targets, key=lambda each: (order.get(each.wave, 0), each.wave, each.server))
    for (wave, server), group in groupby(ordered, key=lambda each: (each.wave, each.server)):
        yield wave, server, list(group)


def everything(report: Report) -> str:
    """Return one row for every target."""
    tables = "".join(
        f"<h3>{shown(wave)} · {shown(server)}: {len(group)}</h3>"
        f"{''.join(_tables(group, f'{shown(wave)} · {shown(server)}'))}"
        for wave, server, group in groups(report, report.targets)
    )
    return section("All targets", tables)


def _tables(targets: Sequence[TargetReport], where: str) -> Iterator[str]:
    head = ("Target", "Result", "Mount", "Restore point", "Age", "Verdict after", "Checks")
    for start in range(0, len(targets), TOGETHER):
        some = targets[start : start + TOGETHER]
        label = f"{where}, {start + 1} to {start + len(some)}"
        kind = "part" if len(some) == TOGETHER else ""
        yield scrolled(table(head, map(_row, some), kind="all"), label, kind=kind)


def good(report: Report, budget: int) -> str:
    """Return every good target with all that is known of it, in `budget` characters.

    Those with checks, files or several attempts come first: of the others there is less to say.
    """
    targets = sorted(
        filter(_is_good, report.targets),
        key=lambda each: not (each.checks or each.downloads or len(each.attempts) > 1),
    )
    on_paper = len(targets) if len(targets) <= GOOD_ON_PAPER else 0
    return section("Good, in full", _all_in_full(targets, budget, on_paper))


def _row(target: TargetReport) -> str:
    point, passed = target.point, sum(check.passed for check in target.checks)
    verdict = ABSENT if target.verdict_s is None else duration(target.verdict_s)
    kind = kind_of(target)
    named = f' class="{kind}"' if kind else ""
    return (
        f"<tr><td>{shown(target.key)}</td><td{named}>{target.result.value}</td>"
        f"<td>{target.mount.value}</td><td>{shown(point.name if point else None)}</td>"
        f"<td>{duration(point.age_s) if point else ABSENT}</td><td>{verdict}</td>"
        f"<td>{f'{passed}/{len(target.checks)}' if target.checks else ABSENT}</td></tr>"
    )


def _in_full(target: TargetReport, kind: str) -> str:
    point = target.point
    head = (
        f"<h3>{shown(target.key)}</h3>"
        f'<p><b class="{kind_of(target)}">{target.result.value}</b>, {_mount(target)}'
        f"{', critical' if target.critical else ''}"
        f"{': ' + shown(target.message, 1000) if target.message else ''}</p>"
        f'<p class="soft">{shown(target.vm)} ({_os(target)}, {target.source}) on '
        f"{shown(target.backup_server)} behind {shown(target.server)}</p>"
    )
    if target.hint is not None:
        ran = ran_there(target)
        head += f"<p>{shown(target.hint, 1000)}{'<br>' + shown(ran, 1000) if ran else ''}</p>"
    for wait in target.waits:
        end = "the end of the run" if wait.end is None else utc(wait.end)
        head += (
            f"<p>Waited from {utc(wait.start)} to {end} for {shown(wait.activity)}, as the server "
            f"showed it at {utc(wait.seen_at)}</p>"
        )
    if point is not None:
        older = f", {point.fallback_depth} newer passed over" if point.fallback_depth else ""
        head += (
            f"<p>Restore point {shown(point.name)}, {duration(point.age_s)} old at the start"
            f"{older}: {shown(point.policy)}</p>"
        )
    return (
        f'<div class="{kind}">{head}{_attempts(target.attempts)}{_checks(target.checks)}'
        f"{_files(target.downloads)}</div>"
    )


def _mount(target: TargetReport) -> str:
    text = f"mount {target.mount.value}"
    return f'<b class="doubt">{text}</b>' if target.may_be_open else text


def _attempts(attempts: Iterable[AttemptReport]) -> str:
    rows = []
    for each in attempts:
        failed = "; ".join(
            ": ".join(filter(None, (check.name, check.path, check.observed)))
            for check in each.failed_checks
        )
        rows.append(
            (
                f"<code>{shown(each.point_id)}</code>",
                f"{shown(each.task_id)}<br>session {shown(each.session)}",
                utc(each.submitted_at),
                utc(each.finished_at),
                f"{shown(each.outcome)}{' (found again)' if each.adopted else ''}",
                shown(each.verdict.value if each.verdict else None),
                shown("; ".join(filter(None, (each.message, stop_words(each), failed))), 500),
            )
        )
    head = ("Attempt at point", "Task", "Asked", "Finished", "Task ended", "Verdict", "Words")
    return cards(head, rows, kind="attempts")


def _checks(checks: Iterable[CheckReport]) -> str:
    rows = [
        (
            shown(each.name),
            f"<code>{shown(each.path)}</code>",
            shown(each.expected),
            shown(each.observed),
            _passed(each),
        )
        for each in checks
    ]
    return cards(("Check", "Path", "Expected", "Observed", "Verdict"), rows, kind="checks")


def _os(target: TargetReport) -> str:
    """Return the guest's system, and how it is known where the plan does not say it."""
    how = {
        OsSource.EARLIER_RUN: ", known from an earlier run",
        OsSource.ASSUMED: ", assumed",
        OsSource.FOUND_OUT: ", found out",
    }
    return f"{target.os}{how.get(OsSource(target.os_known), '')}"


def _passed(check: CheckReport) -> str:
    if check.undecided:
        return '<b class="doubt">not judged</b>'
    if not check.passed:
        return '<b class="bad">FAILED</b>'
    return '<b class="doubt">warning</b>' if check.warning else '<b class="good">passed</b>'


def _files(files: Iterable[CopyReport]) -> str:
    rows = [
        (
            f"<code>{shown(each.path)}</code>",
            f"<code>{shown(each.to)}</code>" if each.to else "the original guest",
            each.fate.value,
            ABSENT if each.size is None else f"{each.size:,}\N{NO-BREAK SPACE}B",
            f"<code>{shown(each.sha256)}</code>",
            shown(each.message),
        )
        for each in files
    ]
    return cards(("File", "To", "Fate", "Size", "SHA-256", "Words"), rows, kind="files")
