"""A plan of some of a run's targets: nothing of them is lost on the way."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import fields, replace

from orchestrator.core.events import Event, MountKept, RunStarted, TargetPlanned, UnmountStarted
from orchestrator.core.model import AttemptPolicy, MountRequest, Objectives, Result, Search
from orchestrator.core.proof import Download
from orchestrator.plan.choose.locked import load_locked
from orchestrator.plan.file.loading import load_plan_text
from orchestrator.report.history.subset import chosen, locked_plan_of
from orchestrator.report.summary import summarize
from tests.report.builders import STARTED_AT, Fate, life, run_of, started

PLAN = b"""
version: 1
name: payments-tier1
servers:
  hq: {url: "https://hq.example:9398", username: u, password: {env: NOT_SET}}
checks: {boot: [{path: 'C:/Windows'}]}
waves:
  - {name: directory, targets: [{vm: dc01}]}
  - {name: databases, after: [directory], targets: [{vm: sql01}, {vm: gone}]}
"""
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def rich(event: Event) -> Event:
    """Return a plan of a target that differs from every default."""
    if not isinstance(event, TargetPlanned) or event.point is None:
        return event
    return replace(
        event,
        critical=True,
        checks=("boot",),
        downloads=(Download(path="C:\\x", to="/tmp/x"),),
        search=Search(candidates=(event.point,)),
        objectives=Objectives(rto=1.0),
        retries=AttemptPolicy(attempts=5),
        incident_at=STARTED_AT,
        place="8:50",
        policy="before noon",
    )


def first() -> RunStarted:
    """Return the beginning of a run of that plan."""
    return started(waves=("directory", "databases"))


def test_every_field_of_a_target_is_carried_over() -> None:
    """What the run was told of a target, the new plan says too; the waves stay in their order."""
    loaded = load_plan_text(PLAN, Path("plan.yaml"))
    state = run_of([rich(event) for event in life("sql01", Fate.TASK_FAILED)], first=first())

    data = locked_plan_of(loaded, chosen(state, {Result.FAILED}), pointless=(), seed=7, now=NOW)

    locked = load_locked(data, Path("again.json"))
    (request,) = locked.requests
    (record,) = state.records.values()
    for field in fields(MountRequest):
        assert getattr(request, field.name) == getattr(record.planned, field.name), field.name
    assert (locked.seed, locked.source_sha256) == (7, loaded.sha256)
    assert [(wave.name, wave.after) for wave in locked.plan.waves] == [
        ("directory", ()),
        ("databases", ("directory",)),
    ]


def test_a_target_that_had_no_restore_point_stays_without_one() -> None:
    """The run knows neither its checks nor its limits, so it is not mounted without them."""
    loaded = load_plan_text(PLAN, Path("plan.yaml"))
    planned, *_ = life("gone", Fate.SKIPPED)
    assert isinstance(planned, TargetPlanned)
    state = run_of([planned], first=first())

    data = locked_plan_of(loaded, chosen(state, None), pointless={planned.key}, seed=0, now=NOW)

    locked = load_locked(data, Path("again.json"))
    assert not locked.requests
    assert [each.key for each in locked.unresolved] == [planned.key]
    assert "expand the plan itself again" in locked.unresolved[0].reason


@pytest.mark.parametrize("fate", Fate)
def test_targets_are_chosen_as_the_report_counts_them(fate: Fate) -> None:
    """Also where a killed run concluded nothing."""
    from orchestrator.report.summary import summarize

    state = run_of(life("sql01", fate), first=first())
    state.process_gone = True
    (target,) = summarize(state).targets

    assert len(chosen(state, {target.result})) == 1
    assert not chosen(state, set(Result) - {target.result})


@pytest.mark.parametrize("fate", [Fate.WAITING, Fate.RUNNING])
def test_a_living_run_has_no_result_of_a_target_that_goes_on(fate: Fate) -> None:
    """It may still have every result, so none of them chooses it."""
    state = run_of(life("sql01", fate), first=first())

    assert chosen(state, set(Result)) == []
    assert len(chosen(state, None)) == 1


def test_a_target_that_is_held_open_counts_by_its_verdict() -> None:
    """As the report that is written while only holds remain says it."""
    lived = life("sql01", Fate.MOUNTED)
    place = next(n for n, event in enumerate(lived) if isinstance(event, UnmountStarted))
    held = MountKept(at=lived[place].at, key=lived[place].key, reason="--hold")  # type: ignore[attr-defined]
    state = run_of([*lived[:place], held], first=first())

    (record,) = chosen(state, {Result.MOUNTED})

    assert record.is_final is False
    assert summarize(state).targets[0].result is Result.MOUNTED
    assert chosen(state, {Result.UNKNOWN}) == []
