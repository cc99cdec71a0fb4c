"""A report in the words of the CI system that runs us: what its log and its pages show of it.

Everything here is text for standard output. A text of a server's never becomes a command: it
is made inert first (`text.printable`), then escaped as the CI system wants it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path

from orchestrator.core.model import MountState, Result
from orchestrator.core.text import counted, escape_azure, escape_github, printable
from orchestrator.report.text import reached_of_wanted, stray_words
from orchestrator.report.values import Report, TargetReport

SHOWN = 9
"""Targets that become annotations: GitHub shows ten of a kind for each step."""

SUMMARY_LIMIT = 1024 * 1024
"""Bytes of a step's summary. Source: GitHub, workflow commands, job summaries."""

_CUT = b"\n\n**Cut here: report.md has the whole text.**\n"


class Ci(StrEnum):
    """A CI system whose log or pages can show more than lines."""

    GITHUB = "github"
    GITLAB = "gitlab"
    AZURE = "azure"
    JENKINS = "jenkins"


_SIGNS = {
    "GITHUB_ACTIONS": Ci.GITHUB,
    "GITLAB_CI": Ci.GITLAB,
    "TF_BUILD": Ci.AZURE,
    "JENKINS_URL": Ci.JENKINS,
}
"""The environment variable that each of them sets for its jobs."""


def detect(environment: Mapping[str, str]) -> Ci | None:
    """Return the CI system that started this process, if one of those did."""
    return next((ci for name, ci in _SIGNS.items() if environment.get(name)), None)


def fold_log(ci: Ci, lines: str, report: Report, *, token: str) -> str:
    """Return lines that hold texts of servers, so that the CI system only shows them.

    `token` is a secret of this process: only who knows it can make GitHub obey again.
    """
    if ci is Ci.GITHUB:
        return f"::stop-commands::{token}\n{lines.rstrip()}\n::{token}::\n"
    if ci is Ci.GITLAB:
        return _gitlab_section(lines, report)
    return lines


def ci_commands(ci: Ci, report: Report, directory: Path | None) -> list[str]:
    """Return the lines that the CI system itself is to read, or that help to set it up.

    `directory` is where the reports were written, None if they were not.
    """
    if ci is Ci.GITHUB:
        return [_github(level, title, message) for level, title, message in _findings(report)]
    if ci is Ci.AZURE:
        lines = [_azure(level, title, message) for level, title, message in _findings(report)]
        if directory is not None:
            lines.append(f"##vso[task.uploadsummary]{escape_azure(str(directory / 'report.md'))}")
        return lines
    if directory is None:
        return []
    path = printable(str(directory / "junit.xml"), 1000)
    how = {Ci.GITLAB: "artifacts:reports:junit takes", Ci.JENKINS: "the junit step takes"}
    return [f"JUnit: {how[ci]} {path}"]


def append_summary(path: Path, markdown: str) -> None:
    """Add a report to a step's summary, cut at the size that the step allows.

    Raises:
        OSError: the file cannot be written.
    """
    content = markdown.encode(errors="backslashreplace")
    with path.open("ab") as file:
        room = SUMMARY_LIMIT - file.tell()
        if len(content) > room:
            whole_lines = content[: max(0, room - len(_CUT))].rpartition(b"\n")[0]
            content = whole_lines + _CUT if room > 2 * len(_CUT) else b""
        file.write(content)


# --- what is worth an annotation -----------------------------------------------------------


def _findings(report: Report) -> Iterator[tuple[str, str, str]]:
    """Yield level, title and message: what may be open first, then by result."""
    if report.run.narrowed:
        yield "warning", "narrowed run", f"narrowed {report.run.narrowed}"
    for stray in report.strays[:SHOWN]:
        yield "error", "left mounted by no target", stray_words(stray)
    for unread in report.unread:
        yield "error", "may be mounted by no target", unread.message
    worst = sorted((t for t in report.targets if _rank(t) < 4), key=_rank)
    for target in worst[:SHOWN]:
        why = target.message or "no reason was given"
        title = f"{target.result.value}, mount {target.mount.value}"
        yield ("error" if _rank(target) < 3 else "warning"), title, f"{target.key}: {why}"
    if len(worst) > SHOWN:
        yield "error", "more", f"and {counted(len(worst) - SHOWN, 'more target')}, see the report"
    for missed in [each for each in report.objectives if not each.met][:SHOWN]:
        told = f"{missed.scope} {missed.kind.upper()}: {reached_of_wanted(missed)}"
        yield "error", "objective missed", told
    for warning in report.warnings[:SHOWN]:
        yield "warning", "warning", warning


def _rank(target: TargetReport) -> int:
    if target.mount in {MountState.LEFT, MountState.UNKNOWN}:
        return 0
    if target.unchecked:
        return 2
    ranks = {Result.UNKNOWN: 1, Result.FAILED: 2, Result.SKIPPED: 3, Result.CANCELLED: 3}
    return ranks.get(target.result, 4)


# --- the forms ---------------------------------------------------------------------------------


def _github(level: str, title: str, message: str) -> str:
    """Return a workflow command. Source: GitHub, workflow commands."""
    shown = escape_github(f"bulk-restore: {printable(title)}", in_property=True)
    return f"::{level} title={shown}::{escape_github(printable(message, 1000))}"


def _azure(level: str, title: str, message: str) -> str:
    """Return a logging command. Source: Azure Pipelines, logging commands."""
    shown = f"{printable(title)}: {printable(message, 1000)}"
    return f"##vso[task.logissue type={level}]{escape_azure(shown)}"


def _gitlab_section(lines: str, report: Report) -> str:
    """Return lines in a section that can be folded; it is as long as the run was.

    Source: GitLab, custom collapsible sections.
    """
    began = int(report.run.started_at.timestamp())
    ended = began + round(report.run.duration_s)
    start = f"\x1b[0Ksection_start:{began}:bulk_restore\r\x1b[0K"
    end = f"\x1b[0Ksection_end:{ended}:bulk_restore\r\x1b[0K"
    return f"{start}bulk-restore: {printable(report.run.plan)}\n{lines.rstrip()}\n{end}\n"
