"""The documented exit codes, and the counts that reports and messages share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import IntEnum
from typing import Self

from orchestrator.core.model import MountState, Result


class ExitCode(IntEnum):
    """The documented exit codes. Treat any other code as a failure."""

    about: str

    def __new__(cls, value: int, about: str) -> Self:
        """Attach the sentence that help and README show."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.about = about
        return member

    GOOD = (
        0,
        "every required target is verified (or mounted, where the plan asks for no check), "
        "objectives met, nothing left mounted",
    )
    NOT_GOOD = (
        1,
        "the run ended with a target failed or skipped, with no target selected, or with an "
        "objective missed",
    )
    USAGE = (2, "usage or plan error; nothing was sent")
    IN_DOUBT = (
        3,
        "in doubt: an outcome is unknown or a mount may still be open; check this by hand",
    )
    UNUSABLE = (
        4,
        "no server could be used (unreachable, certificate, logon, role), or the readiness "
        "check failed; nothing was mounted",
    )
    HALTED = (
        5,
        "halted before the end by the failure budget, the deadline, an outage or a critical "
        "target; resumable",
    )
    LOCKED = (6, "another process is working on this plan")
    INTERNAL = (70, "internal error")
    LOCAL_IO = (
        74,
        "local I/O fault (journal or report not writable, database not usable)",
    )
    SIGINT = (130, "stopped by SIGINT, everything unmounted, resumable")
    SIGTERM = (143, "stopped by SIGTERM, everything unmounted, resumable")


DECLINED = "declined"
"""Recorded in place of a signal where nobody agreed to what a run was about to mount."""
NOTHING_MOUNTED = "declined at the question, nothing was mounted"


def exit_words(code: int, stops: Iterable[tuple[float, str]] = ()) -> str:
    """Return the sentence that says what an exit code means.

    `stops` are the requests to stop the run: when, and in words (`stop_words`).
    """
    if code == ExitCode.SIGINT and DECLINED in {words for _at, words in stops}:
        return NOTHING_MOUNTED
    return next((each.about for each in ExitCode if each == code), "not a documented exit code")


_SHORT = {
    ExitCode.NOT_GOOD: "not good",
    ExitCode.IN_DOUBT: "in doubt, check this by hand",
    ExitCode.UNUSABLE: "nothing was mounted",
    ExitCode.HALTED: "resumable",
    ExitCode.SIGINT: "everything unmounted, resumable",
    ExitCode.SIGTERM: "everything unmounted, resumable",
}
"""What the reasons beside a code do not say."""


def short_words(code: int) -> str:
    """Return what an exit code means, as far as the reasons beside it do not say that."""
    return next((words for each, words in _SHORT.items() if each == code), exit_words(code))


def stopping_words(signal: str, *, forced: bool) -> str:
    """Return what happens now that a run is asked to stop."""
    how = "what is mounted is unmounted" if forced else "running mounts end first"
    return NOTHING_MOUNTED if signal == DECLINED else f"stopping ({signal}): {how}"


def stop_words(signal: str) -> str:
    """Return what a timeline says of a request to stop."""
    return DECLINED if signal == DECLINED else f"stop ({signal})"


def totals(
    targets: int,
    results: Iterable[Result | None],
    mounts: Iterable[MountState | None],
    *,
    strays: int,
) -> dict[str, int]:
    """Return the counts that reports, messages and `--json` share; `strays` are of no target."""
    by_result, by_mount = Counter(results), Counter(mounts)
    return {
        "targets": targets,
        **{result.value: by_result[result] for result in Result},
        "left": by_mount[MountState.LEFT] + strays,
        "may_be_mounted": by_mount[MountState.UNKNOWN],
    }
