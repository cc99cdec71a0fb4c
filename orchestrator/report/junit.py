"""junit.xml: a suite per wave, a case per target; read by GitHub, GitLab, Jenkins and Azure.

failed -> failure, unknown -> error, skipped and cancelled -> skipped; a mount left behind is
an error whatever the result, and an error's type says which of them. A case takes from its
submission to its verdict, a suite as long as its wave; each wave has a class per server.
Each case's output holds its restore point and its checks, with what was expected and observed;
each suite's properties name run and plan. Only elements and attributes stand here that the
strictest reader allows (Jenkins' xUnit plug-in checks a schema: no `skipped` on the root, no
properties in a case). Characters that XML forbids are replaced, and whatever is not ASCII stands
as a reference: some readers end at a raw U+FFFD.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from orchestrator.core.model import MountState, Result
from orchestrator.core.text import escape_xml, printable, timestamp, xml_attribute, xml_in_ascii
from orchestrator.report.stopped_tasks import stop_words
from orchestrator.report.text import ran_there, reached_of_wanted, stray_words, written_words
from orchestrator.report.values import CheckReport, Report, TargetReport, WaveReport

_ATTACHMENT = re.compile(r"\[(?=\[ATTACHMENT\|)", re.IGNORECASE)
"""How GitLab and Jenkins are asked, in a case's text, to attach a file of the job."""


def render(report: Report) -> str:
    """Return the whole file."""
    suites = []
    for wave in report.waves:
        targets = [target for target in report.targets if target.wave == wave.name]
        suites.append(_suite(wave, targets, report))
    suites += _strays(report)
    counts = _counts(report.targets, _of_no_target(report)).rpartition(" skipped=")[0]
    inner = "".join(suites)
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<testsuites name={_quoted(report.run.plan)} {counts}"
        f' time="{report.run.duration_s:.3f}">\n{inner}</testsuites>\n'
    )
    return xml_in_ascii(document)


def _suite(wave: WaveReport, targets: Sequence[TargetReport], report: Report) -> str:
    cases = "".join(map(_case, targets))
    started = wave.started_at
    at = f' timestamp="{timestamp(started).removesuffix("Z")}"' if started else ""
    return (
        f"<testsuite name={_quoted(wave.name)} {_counts(targets)}"
        f' time="{_wall_s(wave, report):.3f}"{at}>\n{_properties(report)}{cases}</testsuite>\n'
    )


def _wall_s(wave: WaveReport, report: Report) -> float:
    """Return how long a wave ran; to the end of the run if it never ended, 0 if it never began."""
    if wave.started_at is None:
        return 0.0
    end = wave.finished_at or report.run.started_at + timedelta(seconds=report.run.duration_s)
    return max(0.0, (end - wave.started_at).total_seconds())


def _properties(report: Report) -> str:
    run = report.run
    facts = {
        "run": run.id,
        "plan": run.plan,
        "plan_sha256": run.plan_sha256,
        "mode": run.mode,
        "reason": run.reason,
        "narrowed": run.narrowed,
        "only": " ".join(run.only),
        "retry_of": run.retry_of,
        "version": run.version,
        "objectives_missed": "; ".join(
            f"{each.scope} {each.kind.upper()}: {reached_of_wanted(each)}"
            for each in report.objectives
            if not each.met
        ),
    }
    rows = [
        f"<property name={_quoted(name)} value={_quoted(value)} />"
        for name, value in facts.items()
        if value
    ]
    return f"<properties>{''.join(rows)}</properties>\n"


def _strays(report: Report) -> list[str]:
    """Return a suite of the mounts that belong to no target, or may be there: an error each."""
    cases = "".join(
        f"<testcase name={_quoted(name)}"
        f' classname={_quoted(f"mounts of no target/{server}")} time="0.000">'
        f'<error message={_quoted(message)} type="{kind}">'
        f"{escape_xml(_clean(words))}</error></testcase>\n"
        for name, server, kind, message, words in _of_no_target(report)
    )
    head = (
        f'<testsuite name="mounts of no target" {_counts((), _of_no_target(report))} time="0.000">'
    )
    return [f"{head}\n{_properties(report)}{cases}</testsuite>\n"] if cases else []


def _of_no_target(report: Report) -> list[tuple[str, str, str, str, str]]:
    """Return name, server, kind, message and text of each case that belongs to no target."""
    rows = [
        (each.mount_href or each.task_id, each.server, "left", each.message, stray_words(each))
        for each in report.strays
    ]
    rows += [
        ("sessions not read to their end", each.server, "unknown", each.message, each.message)
        for each in report.unread
    ]
    return rows


def _counts(targets: Sequence[TargetReport], more_errors: Sequence[object] = ()) -> str:
    kinds = [_kind(target) for target in targets] + ["error"] * len(more_errors)
    return (
        f'tests="{len(kinds)}" failures="{kinds.count("failure")}" '
        f'errors="{kinds.count("error")}" skipped="{kinds.count("skipped")}"'
    )


def _kind(target: TargetReport) -> str | None:
    if _error(target) is not None:
        return "error"
    if target.result is Result.FAILED:
        return "failure"
    if target.result in {Result.SKIPPED, Result.CANCELLED}:
        return "skipped"
    return "failure" if target.unchecked else None


def _error(target: TargetReport) -> str | None:
    """Return what a person must look after: an open mount, else an outcome, else what may be."""
    if target.mount is MountState.LEFT:
        return "left"
    if target.result is Result.UNKNOWN:
        return "unknown"
    return "out of reach" if target.mount is MountState.UNKNOWN else None


def _case(target: TargetReport) -> str:
    kind = _kind(target)
    group = f"{target.wave}/{target.server}"
    start = (
        f"<testcase name={_quoted(target.key.removeprefix(f'{group}/'))}"
        f' classname={_quoted(group)} time="{target.took_s:.3f}"'
    )
    output = _output(target)
    if kind is None:
        return f"{start}>{output}</testcase>\n" if output else f"{start} />\n"
    why = target.message or f"{target.result.value}, mount {target.mount.value}"
    if target.cause is not None:
        why = "; ".join(filter(None, (f"{target.cause.value}: {why}", ran_there(target))))
    if kind == "skipped":
        return f"{start}><skipped message={_quoted(why)} />{output}</testcase>\n"
    cause = _error(target) or ("unchecked" if target.unchecked else target.result.value)
    detail = escape_xml(_clean(f"{target.result.value}, mount {target.mount.value}: {why}"))
    return (
        f"{start}><{kind} message={_quoted(why)} type={_quoted(cause)}>"
        f"{detail}</{kind}>{output}</testcase>\n"
    )


def _output(target: TargetReport) -> str:
    """Return the output of a case: restore point, checks, written files, tasks asked to stop."""
    lines = [_check(outcome) for outcome in target.checks]
    stops = [words for words in map(stop_words, target.attempts) if words is not None]
    lines += [printable(words, 2000) for words in stops]
    lines += [
        printable(f"file in the guest: {written_words(each)}", 2000) for each in target.written
    ]
    if target.point is not None:
        point = f"{target.point.name}, made {timestamp(target.point.created_at)}"
        lines.insert(0, f"restore point: {printable(point)}")
    if not lines:
        return ""
    return f"<system-out>{escape_xml(_clean(chr(10).join(lines)))}</system-out>"


def _check(outcome: CheckReport) -> str:
    verdict = ("WARNING" if outcome.warning else "passed") if outcome.passed else "FAILED"
    if outcome.undecided:
        verdict = "NOT JUDGED"
    detail = f"expected {outcome.expected}, observed {outcome.observed}"
    return printable(": ".join(filter(None, (verdict, outcome.name, outcome.path, detail))), 2000)


def _quoted(text: str) -> str:
    return xml_attribute(_clean(text))


def _clean(text: str) -> str:
    return _ATTACHMENT.sub("[ ", text)
