"""The targets: those that are not good in full, all of them in one table, the good ones in full."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from orchestrator.lifecycle import FIRM_RESULTS
from orchestrator.model import MountState, Result
from orchestrator.proof import CheckOutcome, DownloadOutcome
from orchestrator.report.as_html.markup import ABSENT, cards, row, section, shown, table, utc
from orchestrator.report.as_html.order import groups
from orchestrator.report.as_html.sections import KINDS
from orchestrator.report.summary import AttemptReport, Report, TargetReport
from orchestrator.report.text import duration

UNTRIED = 200
"""Targets that were never mounted and are named with the reason; the others are counted."""

TOGETHER = 100
"""Rows of one table: a browser need not lay out those that nobody looks at yet."""

ORDER = (
    Result.UNKNOWN,
    Result.FAILED,
    Result.SKIPPED,
    Result.CANCELLED,
    Result.VERIFIED,
    Result.MOUNTED,
)


def not_good(report: Report, room: int) -> str:
    """Return every target that is not good, with all that is known of it, in `room` characters."""
    found = [
        target
        for result in ORDER
        for target in report.targets
        if target.result is result and not _is_good(target)
    ]
    tried = [target for target in found if target.attempts]
    untried = [target for target in found if not target.attempts]
    parts = [_all_in_full(tried, room)]
    rows = (
        row((f"<b>{shown(each.key)}</b>", each.result.value, shown(each.message)))
        for each in untried[:UNTRIED]
    )
    if untried:
        parts.append(table(("Never mounted", "Result", "Why"), rows))
    if len(untried) > UNTRIED:
        parts.append(f"<p>and {len(untried) - UNTRIED} more, see report.json</p>")
    return section("Not good", *parts)


def _all_in_full(targets: Sequence[TargetReport], room: int) -> str:
    """Return as many targets with all that is known of them as there is room for."""
    parts: list[str] = []
    for target in targets:
        part = _in_full(target)
        room -= len(part)
        if room < 0:
            parts.append(f"<p>and {len(targets) - len(parts)} more in full, see report.json</p>")
            break
        parts.append(part)
    return "".join(parts)


def _is_good(target: TargetReport) -> bool:
    return target.result in FIRM_RESULTS and not _is_open(target)


def _is_open(target: TargetReport) -> bool:
    return target.mount not in {MountState.NONE, MountState.RELEASED}


def everything(report: Report) -> str:
    """Return one row for every target."""
    tables = "".join(
        f"<h3>{shown(wave)} · {shown(server)}: {len(found)}</h3>{''.join(_tables(found))}"
        for wave, server, found in groups(report, report.targets)
    )
    return section("All targets", tables)


def _tables(targets: Sequence[TargetReport]) -> Iterator[str]:
    head = ("Target", "Result", "Mount", "Restore point", "Age", "Verdict after", "Checks")
    for start in range(0, len(targets), TOGETHER):
        some = targets[start : start + TOGETHER]
        around = "part" if len(some) == TOGETHER else ""
        yield table(head, map(_row, some), kind="all", around=around)


def good(report: Report, room: int) -> str:
    """Return every good target with all that is known of it, in `room` characters.

    Those with checks, files or several attempts come first: of the others there is less to say.
    """
    found = sorted(filter(_is_good, report.targets), key=lambda each: not _has_detail(each))
    return section("Good, in full", _all_in_full(found, room))


def _has_detail(target: TargetReport) -> bool:
    return bool(target.checks or target.downloads or len(target.attempts) > 1)


def _row(target: TargetReport) -> str:
    point, passed = target.point, sum(check.passed for check in target.checks)
    verdict = ABSENT if target.verdict_s is None else duration(target.verdict_s)
    kind = KINDS[target.result]
    named = f' class="{kind}"' if kind else ""
    return (
        f"<tr><td>{shown(target.key)}<td{named}>{target.result.value}<td>{target.mount.value}"
        f"<td>{shown(point.name if point else None)}"
        f"<td>{duration(point.age_s) if point else ABSENT}<td>{verdict}"
        f"<td>{f'{passed}/{len(target.checks)}' if target.checks else ABSENT}"
    )


def _in_full(target: TargetReport) -> str:
    point = target.point
    head = (
        f"<h3>{shown(target.key)}</h3>"
        f'<p><b class="{KINDS[target.result]}">{target.result.value}</b>, {_mount(target)}'
        f"{', critical' if target.critical else ''}"
        f"{': ' + shown(target.message, 1000) if target.message else ''}</p>"
        f'<p class="soft">{shown(target.vm)} ({target.os}, {target.source}) on '
        f"{shown(target.backup_server)} behind {shown(target.server)}</p>"
    )
    if point is not None:
        older = f", {point.fallback_depth} newer passed over" if point.fallback_depth else ""
        head += (
            f"<p>Restore point {shown(point.name)}, {duration(point.age_s)} old at the start"
            f"{older}: {shown(point.policy)}</p>"
        )
    return (
        f'<div class="target">{head}{_attempts(target.attempts)}{_checks(target.checks)}'
        f"{_files(target.downloads)}</div>"
    )


def _mount(target: TargetReport) -> str:
    said = f"mount {target.mount.value}"
    return f'<b class="doubt">{said}</b>' if _is_open(target) else said


def _attempts(attempts: Iterable[AttemptReport]) -> str:
    rows = []
    for each in attempts:
        failed = "; ".join(
            f"{check.name}: {check.path}: {check.observed}" for check in each.failed_checks
        )
        rows.append(
            (
                f"<code>{shown(each.point_id)}</code>",
                f"{shown(each.task_id)}<br>session {shown(each.session)}",
                utc(each.submitted_at),
                utc(each.finished_at),
                f"{shown(each.outcome)}{' (found again)' if each.adopted else ''}",
                shown(each.verdict.value if each.verdict else None),
                shown("; ".join(filter(None, (each.message, failed))), 500),
            )
        )
    head = ("Attempt at point", "Task", "Asked", "Finished", "Task ended", "Verdict", "Words")
    return cards(head, rows) if rows else ""


def _checks(checks: Iterable[CheckOutcome]) -> str:
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
    return cards(("Check", "Path", "Expected", "Observed", ""), rows) if rows else ""


def _passed(check: CheckOutcome) -> str:
    if not check.passed:
        return '<b class="bad">FAILED</b>'
    return '<b class="doubt">warning</b>' if check.warning else '<b class="good">passed</b>'


def _files(files: Iterable[DownloadOutcome]) -> str:
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
    return cards(("File", "To", "Fate", "Size", "SHA-256", "Words"), rows) if rows else ""
