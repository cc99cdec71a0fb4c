"""The verdict of a user's own program: exit code 0 is good, 1 is bad, 2 is a warning."""

from __future__ import annotations

import shlex

from orchestrator.checks.outcomes import SHOWN_TEXT, CheckSetSubject, made
from orchestrator.core.proof import CheckOutcome, Ended, ExecCheck
from orchestrator.core.text import printable

EXPECTED = "exit code 0"


def program_name(check: ExecCheck) -> str:
    """Return what is shown of the program where other checks show a path."""
    return printable(shlex.join(check.argv), SHOWN_TEXT)


def judge_program(
    check: ExecCheck, ended: Ended, about: CheckSetSubject, undecided: str = ""
) -> CheckOutcome:
    """Return the outcome of a program; any end but 0, 1 and 2 is a check that was not made.

    One that is not good is `undecided` if it asked for what cannot be named on this mount.
    """
    words = ended.message or ended.complaint
    if ended.code is None:
        shown = ended.why + (f": {words}" if words else "")
    elif ended.code in {0, 1, 2}:
        shown = words or f"exit code {ended.code}"
    else:
        how = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
        shown = f"ended with {how}" + (f": {words}" if words else "")
    good = ended.code in {0, 2}
    if undecided and not good:
        shown = f"{undecided}; it says: {shown}"
    return made(
        about,
        program_name(check),
        EXPECTED,
        shown,
        passed=good,
        warning=ended.code == 2,
        undecided=bool(undecided) and not good,
    )
