"""The parts of a verdict: the mount it is about, what could not be read, one outcome."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from orchestrator.core.model import OsKind
from orchestrator.core.proof import CheckOutcome, Measured
from orchestrator.core.text import printable


class CheckSetSubject(Struct, frozen=True, kw_only=True):
    """What a check set is judged for: its name, and the facts of the mount that matter."""

    name: str
    created_at: datetime
    """When the restore point was made."""
    os_kind: OsKind = OsKind.WINDOWS


class Unreadable(Struct, frozen=True):
    """Something of the guest that was asked for and not read, and why, in words to show.

    `absent`: the server says that there is no such thing. `undecided`: what is meant cannot be
    named on this mount, so nothing is known of the guest. `refused`: the service itself answered
    that it cannot be read.
    """

    why: str
    absent: bool = False
    undecided: bool = False
    refused: bool = False


ABSENT = Unreadable("there is no such file or directory", absent=True)
UNDECIDED = "cannot be judged"
"""How the outcome of an undecided check begins."""
SHOWN_TEXT = 120
"""Characters of a pattern or path of the plan that an outcome shows."""


def made(
    about: CheckSetSubject,
    path: str,
    expected: str,
    observed: str,
    *,
    passed: bool,
    warning: bool = False,
    undecided: bool = False,
    measured: Measured | None = None,
) -> CheckOutcome:
    """Return the outcome of one assertion, safe to show."""
    return CheckOutcome(
        name=about.name,
        path=printable(path),
        expected=printable(expected),
        observed=printable(observed),
        passed=passed,
        warning=warning,
        undecided=undecided,
        measured=measured,
    )


def not_judged(about: CheckSetSubject, path: str, expected: str, why: str) -> CheckOutcome:
    """Return the outcome of an assertion that could not be judged: it has failed."""
    return made(about, path, expected, why, passed=False)


def unread(about: CheckSetSubject, path: str, expected: str, found: Unreadable) -> CheckOutcome:
    """Return the outcome of an assertion about what was not read: failed, or undecided."""
    return made(about, path, expected, found.why, passed=False, undecided=found.undecided)
