"""What the end of a user's own program says: 0 is good, 1 is bad, 2 is a warning."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from orchestrator.checks.outcomes import SHOWN_TEXT, About, made
from orchestrator.model import printable
from orchestrator.proof import CheckOutcome, ExecCheck

EXPECTED = "exit code 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended. `code` is None where it did not end by itself; `why` says then why.

    `message` is the last that it told; `complaint` the last line of its standard error.
    """

    code: int | None = None
    why: str = ""
    message: str = ""
    complaint: str = ""


def program_name(check: ExecCheck) -> str:
    """Return what stands for the program where other checks have a path."""
    return printable(shlex.join(check.argv), SHOWN_TEXT)


def judge_program(check: ExecCheck, ended: Ended, about: About) -> CheckOutcome:
    """Return the outcome of a program; any end but 0, 1 and 2 is a check that was not made."""
    words = ended.message or ended.complaint
    if ended.code is None:
        shown = ended.why + (f": {words}" if words else "")
    elif ended.code in {0, 1, 2}:
        shown = words or f"exit code {ended.code}"
    else:
        how = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
        shown = f"ended with {how}" + (f": {words}" if words else "")
    good = ended.code in {0, 2}
    path = program_name(check)
    return made(about, path, EXPECTED, shown, passed=good, warning=ended.code == 2)
