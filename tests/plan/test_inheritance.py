"""Defaults: plan, wave, target, each overriding the one before."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.core.errors import PlanError
from orchestrator.core.model import (
    AttemptPolicy,
    Objectives,
    OsKind,
    OsSource,
    PhaseTimeouts,
    Source,
)
from orchestrator.plan.file.loading import load_plan_text
from orchestrator.plan.file.settings import Entry, PointPolicy, PolicyName
from tests.plan.builders import expanded, load, point

CUTOFF = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)


def entry(plan: str = "", wave: str = "", target: str = "") -> Entry:
    """Return the one entry of a plan with two servers whose three levels say these pairs."""
    plan = plan if "server:" in plan else f"server: hq, {plan}"
    body = (
        f"defaults: {{{plan}}}\n"
        f"waves:\n  - {{name: w, {wave}{',' if wave else ''} "
        f"targets: [{{vm: dc01{',' if target else ''} {target}}}]}}\n"
    )
    (only,) = load(body, two_servers=True).plan.entries()
    return only


def test_without_a_word_the_documented_defaults_hold() -> None:
    """The values of the contract are those of the program."""
    plan = load("targets:\n  - vm: dc01\n").plan

    (only,) = plan.entries()
    assert (only.wave, only.server, only.critical) == ("default", "hq", False)
    assert (only.os_kind, only.os_source) == (OsKind.WINDOWS, OsSource.ASSUMED)
    assert (only.source, only.volumes) == (Source.REPLICA, ())
    assert only.point == PointPolicy(policy=PolicyName.LATEST)
    assert only.timeouts == PhaseTimeouts(mount=1200, checks=600, unmount=300)
    assert only.retries.attempts == 2
    assert (plan.mode, plan.limits.outage, plan.limits.mounts_per_vm) == ("drill", 1800, 1)
    assert (plan.limits.mounts, plan.limits.failures, plan.limits.deadline) == (None, None, None)


@pytest.mark.parametrize(
    ("key", "field", "first", "second"),
    [
        ("server", "server", "hq", "dr"),
        ("os", "os_kind", "windows", "linux"),
        ("os", "os_source", "auto", "windows"),
        ("volumes", "volumes", "{C: 'Volume$1:'}", "{c: vol_3f9a17c2}"),
        ("source", "source", "backup", "agent"),
        ("point", "point", "{max_age: 1h}", "{max_age: 2h}"),
        ("timeouts", "timeouts", "{mount: 7s}", "{mount: 8s}"),
        ("retries", "retries", "{attempts: 7}", "{attempts: 8}"),
    ],
)
def test_the_nearest_level_that_speaks_decides(
    key: str, field: str, first: str, second: str
) -> None:
    """A target overrides its wave, a wave the plan, whatever the levels before have said."""
    values = {said: getattr(entry(plan=f"{key}: {said}"), field) for said in (first, second)} | {
        "": getattr(entry(), field)
    }
    assert values[first] != values[second]

    for levels in product(["", first, second], repeat=3):
        found = entry(*(f"{key}: {said}" if said else "" for said in levels))

        spoken = next((said for said in reversed(levels) if said), "")
        assert getattr(found, field) == values[spoken], levels


def test_timeouts_and_retries_are_merged_key_by_key() -> None:
    """A level that names one duration keeps the others of the level above."""
    found = entry(
        plan="timeouts: {mount: 10m, checks: 1m}, retries: {attempts: 5, delay: 1s}",
        wave="timeouts: {checks: 2m}, retries: {max_delay: 9s}",
        target="timeouts: {unmount: 3m}, retries: {delay: 9s}",
    )

    assert found.timeouts == PhaseTimeouts(mount=600, checks=120, unmount=180)
    assert found.retries == AttemptPolicy(attempts=5, delay=9, max_delay=9)


def test_a_point_replaces_the_inherited_one_as_a_whole() -> None:
    """No `max_age` of the defaults slips into a target's own choice."""
    found = entry(
        plan="point: {max_age: 24h}", target="point: {policy: before, time: 2026-11-20T02:00:00Z}"
    )

    assert found.point == PointPolicy(policy=PolicyName.BEFORE, time=CUTOFF)


def test_retries_that_only_the_merge_contradicts_are_refused() -> None:
    """A delay longer than an inherited longest delay is a problem of the target that says it."""
    with pytest.raises(PlanError, match=r"delay \(1m\) is longer than max_delay \(9s\)"):
        entry(plan="retries: {delay: 1s, max_delay: 9s}", target="retries: {delay: 60s}")


@pytest.mark.parametrize(
    ("wave", "target", "critical"),
    [
        ("", "", False),
        ("critical: true", "", True),
        ("", "critical: true", True),
        ("critical: true", "critical: false", True),
        ("critical: false", "critical: true", True),
    ],
)
def test_a_critical_wave_has_only_critical_targets(wave: str, target: str, critical: bool) -> None:
    """Any failure in a critical wave halts the run, whatever the target says of itself."""
    assert entry(wave=wave, target=target).critical is critical


def test_a_regression_is_an_objective_of_the_run_alone() -> None:
    """Its waves and targets take what they take."""
    plan = load(
        "objectives: {rto: 45m, regression: 50%}\nwaves:\n  - {name: a, targets: [{vm: a}]}\n"
    ).plan

    assert plan.regression == 0.5
    assert [entry.objectives for entry in plan.entries()] == [Objectives(rto=2700)]


def test_objectives_of_a_wave_are_merged_with_those_of_the_run() -> None:
    """A wave that names its own RTO keeps the run's RPO; the others keep both."""
    plan = load(
        "objectives: {rto: 45m, rpo: 4h}\n"
        "waves:\n"
        "  - {name: a, objectives: {rto: 20m}, targets: [{vm: a}]}\n"
        "  - {name: b, targets: [{vm: b}]}\n"
    ).plan

    assert [entry.objectives for entry in plan.entries()] == [
        Objectives(rto=1200, rpo=14400),
        Objectives(rto=2700, rpo=14400),
    ]
    assert [wave.objectives for wave in plan.waves] == [Objectives(rto=1200), Objectives()]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("waves: [{name: a, targets: [{vm: x}]}, "
         "{name: b, after: [a, a], targets: [{vm: y}]}]", "wave 'a' is named twice here: keep one"),
        ("targets: [{match: '[a-'}]", "'[a-' has a '[' without a ']'"),
        ("targets: [{match: '*', exclude: ['x[1']}]", "'x[1' has a '[' without a ']'"),
        ("targets: [{match: '[!]a]*[]]', exclude: ['[a-c]']}]", None),
    ],
)  # fmt: skip
def test_what_is_hardly_meant_is_a_warning(plan: str, words: str | None) -> None:
    """A plan that was valid stays valid."""
    head = "version: 1\nname: n\nservers: {hq: {url: 'https://em.example.net:9398', "
    loaded = load_plan_text(
        f"{head}username: u, password: {{env: P}}}}}}\n{plan}\n".encode(), Path("plan.yaml")
    )

    doubts = [str(doubt) for doubt in loaded.doubts]
    assert [words in doubt for doubt in doubts if words] == [True] * bool(words)


def test_waves_keep_the_order_of_the_file_and_what_they_wait_for() -> None:
    """`after` may name a later wave, several, or one twice; the file's order stays."""
    plan = load(
        "waves:\n"
        "  - {name: web, after: [db, dir, db], targets: [{vm: w}]}\n"
        "  - {name: db, after: [dir], limits: {mounts: 3}, targets: [{vm: d}]}\n"
        "  - {name: dir, critical: true, targets: [{vm: x}]}\n"
    ).plan

    assert [(wave.name, wave.after) for wave in plan.waves] == [
        ("web", ("db", "dir")),
        ("db", ("dir",)),
        ("dir", ()),
    ]
    assert [wave.mounts_limit for wave in plan.waves] == [None, 3, None]
    assert [wave.critical for wave in plan.waves] == [False, False, True]


def test_a_request_carries_everything_that_was_inherited() -> None:
    """What the plan says of a target arrives at the engine, and nothing is made up there."""
    expansion = expanded(
        "objectives: {rpo: 1h}\n"
        "defaults: {os: linux, timeouts: {mount: 7s}, retries: {attempts: 4}}\n"
        "waves:\n  - {name: w, critical: true, targets: [{vm: dc01, label: first}]}\n",
        point("dc01"),
    )

    (request,) = expansion.requests
    assert (request.key, request.label, request.vm) == ("w/hq/first", "first", "dc01")
    assert (request.os_kind, request.critical) == (OsKind.LINUX, True)
    assert request.timeouts == PhaseTimeouts(mount=7)
    assert request.retries == AttemptPolicy(attempts=4)
    assert request.objectives == Objectives(rpo=3600)
    assert request.place == "8:41"


def test_targets_of_one_shape_take_over_all_they_have_in_common() -> None:
    """The short way for many alike targets gives what reading each in full would give."""
    shape = "{{vm: {0}, os: linux, server: dr, critical: true, backup_server: x}}"
    targets = "".join(f"  - {shape.format(f'vm{n}')}\n" for n in range(3))

    many = load("targets:\n" + targets, two_servers=True).plan.entries()

    assert [found.place for found in many] == ["7:5", "8:5", "9:5"]
    for n, found in enumerate(many):
        (alone,) = load(
            f"targets:\n  - {shape.format(f'vm{n}')}\n", two_servers=True
        ).plan.entries()
        assert replace(found, place=alone.place) == alone


def test_drive_letters_are_merged_letter_by_letter() -> None:
    """A wave or a target names only what is otherwise there; letters are the same in any case."""
    only = entry(
        plan="volumes: {C: vol_1, E: vol_2}",
        wave="volumes: {e: vol_3}",
        target="volumes: {F: vol_4}",
    )

    assert only.volumes == (("C", "vol_1"), ("E", "vol_3"), ("F", "vol_4"))
