"""junit.xml: a suite per wave, a case per target; read by GitHub, GitLab, Jenkins and Azure.

failed -> failure, unknown -> error, skipped and cancelled -> skipped; a mount left behind is
an error whatever the result. Each case's output holds its restore point and its checks, with
what was expected and observed; each suite's properties name run and plan. Only elements and
attributes stand here that the strictest reader allows (Jenkins' xUnit plug-in checks a schema:
no `skipped` on the root, no properties in a case). Characters that XML forbids are replaced;
those that could steer a terminal stand as references.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from orchestrator.model import MountState, Result, printable
from orchestrator.proof import CheckOutcome
from orchestrator.report.as_json import moment
from orchestrator.report.summary import Report, TargetReport

_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_UNUSUAL = re.compile(r"[^\n\x20-\x7e]")

_ATTACHMENT = re.compile(r"\[(?=\[ATTACHMENT\|)", re.IGNORECASE)
"""How GitLab and Jenkins are asked, in a case's text, to attach a file of the job."""


def render(report: Report) -> str:
    """Return the whole file."""
    suites = []
    for wave in report.waves:
        targets = [target for target in report.targets if target.wave == wave.name]
        suites.append(_suite(wave.name, moment(wave.started_at), targets, report))
    counts = _counts(report.targets, report).rpartition(" skipped=")[0]
    inner = "".join(suites)
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<testsuites name={_quoted(report.run.plan)} {counts}"
        f' time="{report.run.duration_s:.3f}">\n{inner}</testsuites>\n'
    )
    return _UNUSUAL.sub(
        lambda found: found[0] if found[0].isprintable() else f"&#x{ord(found[0]):x};", document
    )


def _suite(name: str, started: str | None, targets: Sequence[TargetReport], report: Report) -> str:
    cases = "".join(_case(target, report) for target in targets)
    at = f' timestamp="{started.removesuffix("Z")}"' if started else ""
    seconds = sum(sum(target.phases_s.values()) for target in targets)
    return (
        f"<testsuite name={_quoted(name)} {_counts(targets, report)}"
        f' time="{seconds:.3f}"{at}>\n{_properties(report)}{cases}</testsuite>\n'
    )


def _properties(report: Report) -> str:
    run = report.run
    facts = {
        "run": run.id,
        "plan": run.plan,
        "plan_sha256": run.plan_sha256,
        "mode": run.mode,
        "reason": run.reason,
        "version": run.version,
    }
    rows = [
        f"<property name={_quoted(name)} value={_quoted(value)} />"
        for name, value in facts.items()
        if value
    ]
    return f"<properties>{''.join(rows)}</properties>\n"


def _counts(targets: Sequence[TargetReport], report: Report) -> str:
    kinds = [_kind(target, report) for target in targets]
    return (
        f'tests="{len(kinds)}" failures="{kinds.count("failure")}" '
        f'errors="{kinds.count("error")}" skipped="{kinds.count("skipped")}"'
    )


def _kind(target: TargetReport, report: Report) -> str | None:
    if target.result is Result.UNKNOWN or target.mount in {MountState.LEFT, MountState.UNKNOWN}:
        return "error"
    if target.result is Result.FAILED:
        return "failure"
    if target.result in {Result.SKIPPED, Result.CANCELLED}:
        return "skipped"
    needs_checks = target.result is Result.MOUNTED and report.run.require_checks
    return "failure" if needs_checks else None


def _case(target: TargetReport, report: Report) -> str:
    kind = _kind(target, report)
    seconds = sum(target.phases_s.values())
    start = (
        f"<testcase name={_quoted(target.label)} classname={_quoted(target.key)}"
        f' time="{seconds:.3f}"'
    )
    output = _output(target)
    if kind is None:
        return f"{start}>{output}</testcase>\n" if output else f"{start} />\n"
    why = target.message or f"{target.result.value}, mount {target.mount.value}"
    if kind == "failure" and target.result is Result.MOUNTED:
        why = "mounted, but nothing was checked (--require-checks)"
    if kind == "skipped":
        return f"{start}><skipped message={_quoted(why)} />{output}</testcase>\n"
    detail = escape(_clean(f"{target.result.value}, mount {target.mount.value}: {why}"))
    return (
        f"{start}><{kind} message={_quoted(why)} type={_quoted(target.result.value)}>"
        f"{detail}</{kind}>{output}</testcase>\n"
    )


def _output(target: TargetReport) -> str:
    """Return what a case says beside its verdict: its restore point, and what was checked."""
    lines = [_check(outcome) for outcome in target.checks]
    if target.point is not None:
        point = f"{target.point.name}, made {moment(target.point.created_at)}"
        lines.insert(0, f"restore point: {printable(point)}")
    if not lines:
        return ""
    return f"<system-out>{escape(_clean(chr(10).join(lines)))}</system-out>"


def _check(outcome: CheckOutcome) -> str:
    verdict = ("WARNING" if outcome.warning else "passed") if outcome.passed else "FAILED"
    said = f"expected {outcome.expected}, observed {outcome.observed}"
    return printable(f"{verdict}: {outcome.name}: {outcome.path}: {said}", 2000)


def _quoted(text: str) -> str:
    return quoteattr(_clean(text))


def _clean(text: str) -> str:
    return _ATTACHMENT.sub("[ ", _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text))
