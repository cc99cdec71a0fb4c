"""The check as JUnit: a suite per server, one for the run and one for the targets."""

from __future__ import annotations

from orchestrator.app.readiness.findings import Finding, Readiness, Scope, Status
from orchestrator.core.text import escape_xml, printable, xml_attribute, xml_in_ascii


def junit(readiness: Readiness) -> str:
    """Return the whole file: a case per answer.

    A problem is a failure; so is a warning with `--strict`, which is output of a passed case
    otherwise. What cannot be seen is skipped: nobody should read it as "passed".
    """
    suites: dict[str, list[Finding]] = {}
    for each in readiness.findings:
        name = f"server {each.name}" if each.scope is Scope.SERVER else f"{each.scope.value}s"
        suites.setdefault(name, []).append(each)
    inner = "".join(_suite(name, rows, strict=readiness.strict) for name, rows in suites.items())
    head = f"<testsuites name={xml_attribute(readiness.plan)} {_counts(readiness)}>"
    return xml_in_ascii(f'<?xml version="1.0" encoding="UTF-8"?>\n{head}\n{inner}</testsuites>\n')


def _counts(readiness: Readiness) -> str:
    rows = [_kind(each, strict=readiness.strict) for each in readiness.findings]
    return f'tests="{len(rows)}" failures="{rows.count("failure")}" errors="0"'


def _suite(name: str, findings: list[Finding], *, strict: bool) -> str:
    kinds = [_kind(each, strict=strict) for each in findings]
    counts = (
        f'tests="{len(kinds)}" failures="{kinds.count("failure")}" errors="0" '
        f'skipped="{kinds.count("skipped")}" time="0.000"'
    )
    cases = "".join(_case(each, kind) for each, kind in zip(findings, kinds, strict=True))
    return f"<testsuite name={xml_attribute(name)} {counts}>\n{cases}</testsuite>\n"


def _kind(finding: Finding, *, strict: bool) -> str:
    fails = finding.status is Status.PROBLEM or (strict and finding.status is Status.WARNING)
    if fails:
        return "failure"
    return "skipped" if finding.status is Status.NOT_VISIBLE else ""


def _case(finding: Finding, kind: str) -> str:
    start = (
        f"<testcase name={xml_attribute(finding.item)} "
        f'classname={xml_attribute(f"{finding.scope.value}/{finding.name}")} time="0.000"'
    )
    detail = printable(finding.detail, 2000)
    if kind == "failure":
        words = xml_attribute(f"{finding.item}: {detail}")
        return f"{start}><failure message={words} type={xml_attribute(finding.status.value)} />" + (
            "</testcase>\n"
        )
    if kind == "skipped":
        return f"{start}><skipped message={xml_attribute(detail)} /></testcase>\n"
    warned = "WARNING: " if finding.status is Status.WARNING else ""
    return f"{start}><system-out>{escape_xml(warned + detail)}</system-out></testcase>\n"
