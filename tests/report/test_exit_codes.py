"""The exit code: every code for its reason, and the documented order when several apply."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from orchestrator.core.events import (
    Event,
    MountReleased,
    RunHalted,
    ServerGivenUp,
    StopRequested,
    SubmissionNotSent,
    SubmissionStarted,
    TargetConcluded,
)
from orchestrator.core.exit_codes import DECLINED, NOTHING_MOUNTED, ExitCode
from orchestrator.core.model import Objectives, Result, ServerName
from orchestrator.core.run_state import RunState
from orchestrator.report.exit_codes import PRECEDENCE, end_in_a_line, end_words, exit_code, reasons
from orchestrator.report.summary import summarize
from tests.report.builders import ENDS, Fate, finished, life, run_of, runs, started

DOCUMENTED = (70, 74, 3, 130, 143, 4, 5, 1)
"""Several at once, as the specification orders them."""

SIGINT = StopRequested(at=5.0, signal="SIGINT", forced=False)
SIGTERM = StopRequested(at=6.0, signal="SIGTERM", forced=False)
HALT = RunHalted(at=7.0, reason="budget", detail="6 of 20 failed")


def given_up(server: str = "hq", *, refused: bool = True) -> ServerGivenUp:
    """Return that a server cannot be used."""
    return ServerGivenUp(at=2.0, server=ServerName(server), reason="no", refused=refused)


def unsubmitted(result: Result) -> list[Event]:
    """Return a target that got its result without one submission."""
    planned, end = life(f"never-{result}", Fate.SKIPPED)
    assert isinstance(end, TargetConcluded)
    return [planned, replace(end, result=result)]


REASONS: dict[ExitCode, Sequence[Event]] = {
    ExitCode.IN_DOUBT: unsubmitted(Result.UNKNOWN),
    ExitCode.SIGINT: [SIGINT],
    ExitCode.SIGTERM: [SIGTERM],
    ExitCode.UNUSABLE: [given_up()],
    ExitCode.HALTED: [HALT],
    ExitCode.NOT_GOOD: unsubmitted(Result.FAILED),
}
"""One reason each; they exclude one another as little as real ones do."""


def test_a_run_that_was_declined_says_so_and_names_no_signal() -> None:
    """The code is that of a stop; the words are those of the answer, and of what waited."""
    declined = StopRequested(at=5.0, signal=DECLINED, forced=False)
    state = run_of([declined, *unsubmitted(Result.CANCELLED)])

    why = reasons(state)

    assert exit_code(state) == ExitCode.SIGINT
    assert why[0] == end_words(130, why) == NOTHING_MOUNTED
    assert end_in_a_line(130, why) == (NOTHING_MOUNTED, "1 target cancelled")
    assert summarize(state).run.stops[0].why == "declined"


def test_a_line_says_nothing_twice() -> None:
    """Of what the code means, only what its reasons do not say."""
    why = ["halted: deadline: the run took longer than 4 min", "8 targets skipped"]

    assert end_in_a_line(5, why) == (
        "resumable", "halted (deadline): the run took longer than 4 min; 8 targets skipped",
    )  # fmt: skip
    assert end_in_a_line(0, ()) == (ExitCode.GOOD.about, "")


def test_the_table_is_the_documented_one() -> None:
    """No code is missing, none is undocumented, and each can explain itself."""
    assert {code.value for code in ExitCode} == {0, 1, 2, 3, 4, 5, 6, 70, 74, 130, 143}
    assert all(code.about for code in ExitCode)
    assert tuple(code.value for code in PRECEDENCE) == DOCUMENTED


@pytest.mark.parametrize("code", REASONS, ids=lambda code: code.name)
def test_each_reason_alone_gives_its_code(code: ExitCode) -> None:
    """Every code that a run's events can give is given for its reason."""
    assert exit_code(run_of(REASONS[code])) is code
    assert reasons(run_of(REASONS[code]))


@pytest.mark.parametrize(
    "codes",
    [several for size in (2, 3, 4, 5, 6) for several in combinations(REASONS, size)],
    ids=lambda codes: "+".join(str(code.value) for code in codes),
)
def test_of_several_reasons_the_documented_one_counts(codes: tuple[ExitCode, ...]) -> None:
    """Whatever comes together, the first in the documented order is the exit code."""
    state = run_of(*(REASONS[code] for code in codes))

    expected = next(code for code in DOCUMENTED if code in codes)
    assert exit_code(state) == expected


@pytest.mark.parametrize("fate", Fate)
def test_a_single_target_decides_the_code(fate: Fate) -> None:
    """A mount that may be open is in doubt, whatever its result; else good is 0 and bad is 1."""
    result, mount = ENDS[fate]
    code = ExitCode.GOOD if result in {Result.VERIFIED, Result.MOUNTED} else ExitCode.NOT_GOOD
    if mount in {"left", "unknown"}:
        code = ExitCode.IN_DOUBT

    assert exit_code(run_of(life("good"), life("sql01", fate))) is code


@pytest.mark.parametrize(
    ("fate", "code"), [(Fate.MOUNTED, ExitCode.NOT_GOOD), (Fate.VERIFIED, ExitCode.GOOD)]
)
def test_with_required_checks_mounted_is_not_enough(fate: Fate, code: ExitCode) -> None:
    """`--require-checks` turns a mount that nobody looked into into a no."""
    first = started(require_checks=True)

    assert exit_code(run_of(life("a", fate), first=first)) is code


@pytest.mark.parametrize(
    ("stops", "code"),
    [
        ([SIGINT, SIGTERM], ExitCode.SIGINT),
        ([SIGTERM, SIGINT], ExitCode.SIGTERM),
    ],
)
def test_the_first_signal_names_the_code(stops: list[StopRequested], code: ExitCode) -> None:
    """A second signal of another kind changes how the run stops, not why."""
    assert exit_code(run_of(stops)) is code


def test_one_usable_server_is_enough() -> None:
    """Code 4 means that no server at all could be used, whatever was submitted to the others."""
    first = started(servers=("hq", "dr"))
    idle = run_of(unsubmitted(Result.FAILED), [given_up()], first=first)
    both = run_of(unsubmitted(Result.FAILED), [given_up(), given_up("dr")], first=first)
    skipped = life("a", Fate.SKIPPED)
    other = life("b", server="dr")

    assert exit_code(idle) is ExitCode.NOT_GOOD
    assert exit_code(both) is ExitCode.UNUSABLE
    assert exit_code(run_of(skipped, other, [given_up()], first=first)) is ExitCode.NOT_GOOD
    assert exit_code(run_of(other, [given_up()], first=first)) is ExitCode.GOOD


def test_nothing_is_unusable_once_something_was_mounted() -> None:
    """Code 4 promises that nothing was mounted."""
    state = run_of(life("a"), life("b", Fate.SKIPPED), [given_up()])

    assert exit_code(state) is ExitCode.NOT_GOOD


def test_targets_skipped_for_an_outage_are_a_halt() -> None:
    """A server that fell silent for good ends the run early: resumable, unlike a refusal."""
    lives = [*life("a"), *life("b", Fate.SKIPPED)]

    silent, refused = (run_of(lives, [given_up(refused=no)]) for no in (False, True))

    assert (exit_code(silent), exit_code(refused)) == (ExitCode.HALTED, ExitCode.NOT_GOOD)


def test_an_expectation_that_fails_is_a_failed_readiness() -> None:
    """A run that its own `expect` stopped before the first mount gives 4, not 5."""
    halt = RunHalted(at=1.0, reason="expect", detail="2 machines, at least 5 expected")

    assert exit_code(run_of([halt])) is ExitCode.UNUSABLE


@pytest.mark.parametrize("scope", ["run", "wave", "target"])
@pytest.mark.parametrize(("rto", "code"), [(60.0, ExitCode.GOOD), (40.0, ExitCode.NOT_GOOD)])
def test_an_objective_that_was_missed_is_a_no(scope: str, rto: float, code: ExitCode) -> None:
    """Everything verified, but too late for the run, its wave or the target itself: 1."""
    run, wave, target = (
        Objectives(rto=rto) if scope == name else Objectives() for name in ("run", "wave", "target")
    )
    first = started(objectives=run, wave_objectives=wave)

    assert exit_code(run_of(life("a", objectives=target), first=first)) is code


def test_a_run_without_targets_is_good() -> None:
    """Nothing was asked for, nothing was missed."""
    assert exit_code(run_of()) is ExitCode.GOOD


def test_an_intent_without_an_answer_is_in_doubt() -> None:
    """A submission that was never answered may be a mount, so the code is never 0 or 1."""
    planned, submitted, *_ = life("sql01")
    assert isinstance(submitted, SubmissionStarted)
    not_sent = SubmissionNotSent(at=4.0, key=submitted.key, reason="no connection")

    assert exit_code(run_of([planned, submitted])) is ExitCode.IN_DOUBT
    assert exit_code(run_of([planned, submitted, not_sent])) is ExitCode.NOT_GOOD


def test_a_halt_always_names_why() -> None:
    """Also where no server's silence was a decision of the run: it is named, with what it cost."""
    lives = [*life("a"), *life("b", Fate.SKIPPED), *life("c", Fate.SKIPPED)]
    silent = replace(given_up(refused=False), reason="hq: no answer for 10 minutes")

    state = run_of(lives, [silent])
    budget = run_of(lives, [RunHalted(at=1.0, reason="budget", detail="3 of 9 failed")])

    assert exit_code(state) is ExitCode.HALTED
    assert summarize(state).run.halted == (
        "outage: hq: no answer for 10 minutes; 2 targets skipped"
    )
    assert summarize(budget).run.halted == "budget: 3 of 9 failed"
    assert summarize(run_of(lives)).run.halted is None


@given(runs())
@settings(deadline=None, max_examples=50)
def test_whatever_is_not_good_has_a_reason(state: RunState) -> None:
    """An exit code that is not 0 is never the only thing said, and 0 has nothing to explain."""
    assert (exit_code(state) is ExitCode.GOOD) is (reasons(state) == ())


def test_the_reasons_name_everything_that_applies() -> None:
    """Counts of what is open and what went wrong, and the objectives that were missed."""
    first = started(require_checks=True, objectives=Objectives(rto=10.0))
    lives = [life("a", Fate.LEFT), life("b", Fate.TASK_FAILED), life("c", Fate.MOUNTED)]

    assert reasons(run_of(*lives, [SIGTERM], first=first)) == (
        "stopped by SIGTERM",
        "1 mount left open",
        "1 target failed",
        "2 targets mounted, and nothing was checked (--require-checks)",
        "1 objective missed",
    )


def test_a_code_whose_cause_was_removed_since_has_a_reason() -> None:
    """`unmount` has released what the run left; the run ended with 3 all the same."""
    left = life("sql01", Fate.LEFT)
    (key,) = run_of(left).records
    ended = run_of(left, [finished(600.0, 3)])
    later = run_of(left, [finished(600.0, 3), MountReleased(at=700.0, key=key)])

    assert "1 mount left open" in reasons(ended)
    (why,) = reasons(later)
    assert why == "what was or might be open when the run ended has been released since"
