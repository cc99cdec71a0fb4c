"""Recovery objectives: measured against what happened, and nothing invented."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.core.events import (
    ControlApplied,
    Event,
    RunResumed,
    RunStarted,
    SessionOpened,
    StopRequested,
    WaveFinished,
    WaveStarted,
)
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.makespan import PastMakespans
from orchestrator.core.model import Objectives, ServerName, SessionId
from orchestrator.core.parts import Part
from orchestrator.core.run_state import RunState
from orchestrator.report.exit_codes import exit_code
from orchestrator.report.objective_values import Objective
from orchestrator.report.summary import summarize
from orchestrator.report.text import reached_of_wanted
from tests.report.builders import ENDS, STARTED_AT, Fate, life, run_of, started, values

VERDICT_S = 47.0
"""When `life` reaches its verdict, in seconds from the start of the run."""


def by_scope(state: RunState) -> dict[tuple[str, str], Objective]:
    """Return the objectives of waves and run by scope and kind."""
    return {(each.scope, each.kind): each for each in summarize(state).objectives}


@pytest.mark.parametrize(("target_s", "met"), [(46.9, False), (47.0, True), (1200.0, True)])
def test_a_target_s_rto_is_the_time_to_its_verdict(target_s: float, met: bool) -> None:
    """From the start of the run to the verdict; exactly in time is in time."""
    wanted = Objectives(rto=target_s)

    ((objective,),) = (
        t.scoped_objectives() for t in summarize(run_of(life("a", objectives=wanted))).targets
    )

    assert (objective.kind, objective.actual_s, objective.met) == ("rto", VERDICT_S, met)


@pytest.mark.parametrize(("age_s", "met"), [(3600.0, True), (3600.5, False)])
def test_a_target_s_rpo_is_the_age_of_its_point(age_s: float, met: bool) -> None:
    """From the point's creation to the start of the run."""
    state = run_of(life("a", age_s=age_s, objectives=Objectives(rpo=3600.0)))

    ((objective,),) = (target.scoped_objectives() for target in summarize(state).targets)

    assert (objective.kind, objective.actual_s, objective.met) == ("rpo", age_s, met)


def logged_on(offset_s: float | None) -> SessionOpened:
    """Return the first logon, with the clock that the server showed."""
    return SessionOpened(
        at=0.5,
        server=ServerName("hq"),
        session=SessionId("s-0"),
        user="u",
        api_version="v1_7",
        clock_offset_s=offset_s,
    )


@pytest.mark.parametrize(
    ("age_s", "offset_s", "actual_s", "met"),
    [
        (3500.0, 200.0, 3700.0, False),
        (3700.0, -200.0, 3500.0, True),
        (3599.0, 1.5, 3599.0, True),
        (3599.0, None, 3599.0, True),
        (-2510.0, None, None, False),
        (-2510.0, 0.4, None, False),
        (-2510.0, 2600.0, 90.0, True),
        (500.0, -600.0, None, False),
        (-2.0, None, 0.0, True),
    ],
)
def test_an_rpo_is_measured_on_the_server_s_clock_and_never_from_the_future(
    age_s: float, offset_s: float | None, actual_s: float | None, met: bool
) -> None:
    """A wrong clock is corrected by its offset; what is then later than now is not known."""
    planned = life("a", age_s=age_s, objectives=Objectives(rpo=3600.0))
    state = run_of([logged_on(offset_s), *planned])

    report = summarize(state)
    ((objective,),) = (target.scoped_objectives() for target in report.targets)
    point = report.targets[0].point

    assert (objective.actual_s, objective.met) == (actual_s, met)
    assert point is not None
    assert point.age_s == age_s + (offset_s or 0.0) * (abs(offset_s or 0.0) > 2.0)
    assert (exit_code(state) is ExitCode.GOOD) is met


@pytest.mark.parametrize("fate", Fate)
def test_only_a_good_verdict_meets_an_objective(fate: Fate) -> None:
    """A target that nobody could read has no actual time and has missed its objectives."""
    good = ENDS[fate][0] in {"verified", "mounted"}

    state = run_of(life("a", fate, objectives=Objectives(rto=9e9, rpo=9e9)))

    for objective in summarize(state).targets[0].scoped_objectives():
        assert objective.met is good
        assert (objective.actual_s is not None) is good


def test_without_an_objective_nothing_is_said() -> None:
    """A plan that names no objectives gets none in its report."""
    report = values(summarize(run_of(life("a"))))

    assert report["objectives"] == []
    assert report["targets"][0]["objectives"] == {}


def test_the_json_has_target_actual_and_met() -> None:
    """Each objective of a target stands under its kind, as the contract shows it."""
    state = run_of(life("a", age_s=3112.0, objectives=Objectives(rto=1200.0, rpo=3600.0)))

    assert values(summarize(state))["targets"][0]["objectives"] == {
        "rto": {"target_s": 1200.0, "actual_s": VERDICT_S, "met": True},
        "rpo": {"target_s": 3600.0, "actual_s": 3112.0, "met": True},
    }


def test_a_wave_and_the_run_are_as_slow_as_their_slowest() -> None:
    """The worst target decides, in its own wave and in the run but in no other wave."""
    everywhere = Objectives(rpo=1000.0)
    first = started(objectives=everywhere, wave_objectives=everywhere)
    lives = [
        life("a", wave="directory", age_s=900.0),
        life("b", wave="databases", age_s=100.0),
        life("c", wave="databases", age_s=2000.0),
    ]

    found = by_scope(run_of(*lives, first=first))

    assert {scope: (o.actual_s, o.met) for (scope, _), o in found.items()} == {
        "run": (2000.0, False),
        "wave directory": (900.0, True),
        "wave databases": (2000.0, False),
    }


def test_one_unmeasured_target_leaves_its_wave_unmeasured() -> None:
    """The times of the others say nothing about a wave that is not whole."""
    first = started(wave_objectives=Objectives(rto=1200.0))
    lives = [life("a"), life("b", Fate.TASK_FAILED), life("c", wave="directory")]

    found = by_scope(run_of(*lives, first=first))

    missed, met = found["wave databases", "rto"], found["wave directory", "rto"]
    assert (missed.actual_s, missed.met) == (None, False)
    assert (met.actual_s, met.met) == (VERDICT_S, True)


def test_a_wave_without_targets_in_this_run_has_no_objectives() -> None:
    """`--only` may leave a wave empty: it has missed nothing, and the run can still be good."""
    first = started(wave_objectives=Objectives(rto=1200.0, rpo=7200.0))

    state = run_of(life("a", wave="databases"), first=first)

    assert {scope for scope, _ in by_scope(state)} == {"wave databases"}
    assert exit_code(state) is ExitCode.GOOD


@given(st.lists(st.sampled_from(list(Fate)), min_size=1, max_size=6), st.floats(1, 100))
@settings(deadline=None, max_examples=60)
def test_a_missed_objective_is_never_a_good_exit(fates: list[Fate], rto: float) -> None:
    """Report and exit code agree: 0 means that every objective in the report is met."""
    wanted = Objectives(rto=rto)
    lives = [life(f"vm{n}", fate, objectives=wanted) for n, fate in enumerate(fates)]
    state = run_of(*lives, first=started(objectives=wanted, wave_objectives=wanted))
    report = summarize(state)

    everything = [*report.objectives, *(o for t in report.targets for o in t.scoped_objectives())]

    if exit_code(state) is ExitCode.GOOD:
        assert all(objective.met for objective in everything)
    if all(objective.met for objective in everything):
        assert exit_code(state) in {ExitCode.GOOD, ExitCode.IN_DOUBT}


def took(seconds: float, *more: Event, first: RunStarted) -> RunState:
    """Return a run whose waves took so many seconds, after 10 seconds of waiting for a person."""
    waves = [facts.name for facts in first.waves]
    return run_of(
        [WaveStarted(at=10.0, wave=wave) for wave in waves],
        life("a"),
        [WaveFinished(at=10.0 + seconds, wave=wave) for wave in waves],
        more,
        first=first,
    )


def compared(*real: float, simulated: tuple[float, ...] = ()) -> RunStarted:
    """Return the beginning of a run that may take half as long again as its predecessors."""
    return started(regression=0.5, makespans=PastMakespans(real=real, simulated=simulated))


@pytest.mark.parametrize(("seconds", "met"), [(150.0, True), (150.5, False), (20.0, True)])
def test_a_run_is_compared_with_the_median_of_earlier_ones(seconds: float, met: bool) -> None:
    """Not with their mean: one that took very long changes little."""
    state = took(seconds, first=compared(100.0, 90.0, 9000.0))

    (objective,) = summarize(state).objectives

    assert (objective.scope, objective.kind, objective.met) == ("run", "regression", met)
    assert (objective.target_s, objective.actual_s) == (150.0, seconds)
    assert (objective.median_s, objective.runs) == (100.0, 3)
    assert (exit_code(state) is ExitCode.GOOD) is met
    assert "(median of 3 earlier runs: 1 min 40 s)" in reached_of_wanted(objective)


@pytest.mark.parametrize(
    "first",
    [
        compared(1.0, 1.0),
        compared(),
        compared(simulated=(1.0, 1.0, 1.0)),
        replace(compared(1.0, 1.0, 1.0), only=("sql*",)),
        replace(compared(1.0, 1.0, 1.0), part=Part(number=1, of=2)),
        replace(compared(1.0, 1.0, 1.0), regression=None),
    ],
    ids=["too few", "the first run", "simulated ones", "narrowed", "a shard", "not asked"],
)
def test_what_cannot_be_compared_has_missed_nothing(first: RunStarted) -> None:
    """It is not judged, and the report says why; a real run is none of the simulated ones."""
    state = took(500.0, first=first)
    report = summarize(state)

    assert report.objectives == ()
    assert exit_code(state) is ExitCode.GOOD
    said = any("longer than usual was not judged" in line for line in report.not_proven)
    assert said is (first.regression is not None)


def test_a_run_that_people_held_up_is_not_compared() -> None:
    """How long they took says nothing of its machines."""
    state = took(500.0, ControlApplied(at=20.0, control="c", verb="pause"), first=compared(1, 1, 1))

    assert summarize(state).objectives == ()
    assert exit_code(state) is ExitCode.GOOD


def test_a_simulated_run_is_compared_with_simulated_ones() -> None:
    """Its servers say so at the logon."""
    first = compared(1.0, 1.0, 1.0, simulated=(400.0, 400.0, 400.0))

    (objective,) = summarize(
        took(500.0, replace(logged_on(None), simulated=True), first=first)
    ).objectives

    assert (objective.median_s, objective.met) == (400.0, True)


def test_a_run_that_was_stopped_has_not_been_quick() -> None:
    """It is compared, and nothing was measured."""
    stop = StopRequested(at=30.0, signal="SIGINT", forced=False)

    (objective,) = summarize(took(20.0, stop, first=compared(100.0, 100.0, 100.0))).objectives

    assert (objective.actual_s, objective.met) == (None, False)


def test_a_resumed_run_is_not_compared() -> None:
    """Nobody knows for how long it waited for that."""
    resumed = RunResumed(at=900.0, resumed_at=STARTED_AT, version="1.0.0")

    report = summarize(took(800.0, resumed, first=compared(1.0, 1.0, 1.0)))

    assert report.objectives == ()
    assert any("was resumed" in line for line in report.not_proven)
