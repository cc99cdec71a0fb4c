"""`--shard K/N`: parts are disjoint, together whole, and stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from orchestrator.core.errors import PlanError
from orchestrator.core.model import MountKey, RestorePoint
from orchestrator.core.parts import Part, read_part
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.inventory import Listing
from orchestrator.plan.choose.locked import load_locked, lock
from orchestrator.plan.choose.parts import require_same_choice
from orchestrator.plan.choose.targets import LockedSelection, Narrowing, PlanSelection
from tests.plan.builders import DR, HQ, NOW, load, point

MACHINES = [f"app{number:04d}" for number in range(1000)]
BY_GLOB = "targets:\n  - match: 'app*'\n"
BY_NAME = "targets:\n" + "".join(f"  - vm: {name}\n" for name in MACHINES)


def part(number: int, of: int) -> Part:
    """Return a part."""
    return Part(number=number, of=of)


def selected(
    body: str, points: Iterable[RestorePoint], which: Part | None, only: tuple[str, ...] = ()
) -> Expansion:
    """Return what a run of one part takes when server hq lists `points`."""
    selection = PlanSelection(load(body).plan, Narrowing(only=only, part=which), NOW)
    return selection.expand({HQ: Listing(points=tuple(points))})


def keys(expansion: Expansion) -> list[MountKey]:
    """Return the keys of everything that is a target."""
    return [each.key for each in expansion.requests] + [each.key for each in expansion.unresolved]


def parts_of(body: str, points: Sequence[RestorePoint], of: int) -> list[list[MountKey]]:
    """Return the keys of each part."""
    return [keys(selected(body, points, part(number, of))) for number in range(1, of + 1)]


@pytest.mark.parametrize("body", [BY_GLOB, BY_NAME], ids=["by glob", "by name"])
@pytest.mark.parametrize("of", range(1, 8))
def test_parts_are_together_whole_and_do_not_overlap(body: str, of: int) -> None:
    """Each of 1,000 machines is in exactly one part, and no part is empty or far too large."""
    points = [point(name) for name in MACHINES]

    parts = parts_of(body, points, of)

    together = [key for each in parts for key in each]
    assert sorted(together) == sorted(keys(selected(body, points, None)))
    assert len(together) == len(set(together)) == 1000
    assert all(1000 / of / 2 < len(each) < 1000 / of * 1.5 for each in parts)


@pytest.mark.parametrize("of", range(1, 8))
def test_a_machine_more_moves_no_other(of: int) -> None:
    """Whatever the new one is called, every other machine stays in its part."""
    points = [point(name) for name in MACHINES]
    before = parts_of(BY_GLOB, points, of)

    for more in ("app", "app0500a", "appz"):
        after = parts_of(BY_GLOB, [point(more), *points], of)

        assert [sorted(set(b) - {f"default/hq/{more}"}) for b in after] == [
            sorted(each) for each in before
        ]


def test_order_waves_and_selectors_move_no_machine() -> None:
    """A part follows from server and machine alone."""
    points = [point(name) for name in MACHINES[:50]]
    halves = (
        "waves:\n  - name: one\n    targets: [{match: 'app*'}]\n"
        "  - name: two\n    targets: [{vm: APP9999}]\n"
    )
    names = [
        {key.rpartition("/")[2] for key in each} & set(MACHINES[:50])
        for body in (BY_GLOB, BY_NAME, halves)
        for each in parts_of(body, points[::-1], 3)
    ]

    assert names[:3] == names[3:6] == names[6:]


def test_all_restore_points_of_a_machine_are_in_one_part() -> None:
    """Two jobs never mount the same machine at once."""
    body = "targets:\n  - {match: 'app*', point: {policy: every}}\n"
    points = [point(name, hours=hours) for name in MACHINES[:40] for hours in (1, 2, 3)]

    for each in parts_of(body, points, 4):
        machines = [key.partition("@")[0] for key in each]
        assert all(machines.count(machine) == 3 for machine in machines)


def test_a_name_of_several_backup_servers_stays_in_one_part() -> None:
    """Its key changes when a second machine has the same name; its part does not."""
    body = "targets:\n  - {match: 'app*'}\n"
    one = [point(name) for name in MACHINES[:20]]
    two = [*one, point("app0003", behind="vbr-02")]

    for number in range(1, 4):
        before = {each.vm for each in selected(body, one, part(number, 3)).requests}
        after = {each.vm for each in selected(body, two, part(number, 3)).requests}
        assert before == after


def test_a_target_without_a_point_is_in_one_part_too() -> None:
    """The part does not change when retention takes the points away."""
    stale = "targets:\n  - {match: 'app*', point: {max_age: 1d}}\n  - vm: app9999\n"
    fresh = [point(name) for name in MACHINES[:30]]
    old = [point(name, hours=100) for name in MACHINES[:30]]

    assert parts_of(stale, fresh, 3) == parts_of(stale, old, 3)
    assert sum(len(each) for each in parts_of(stale, old, 3)) == 31


def test_what_a_silent_server_has_is_in_the_part_it_would_be_in() -> None:
    """Named machines, in any spelling, are in one part; what only the server knows is in all."""
    body = (
        "targets:\n  - vm: APP0001\n  - vm: App0002\n  - {vm: app0003, label: db}\n"
        "  - match: 'x*'\n"
    )
    plan = load(body).plan
    listed = [point(name) for name in MACHINES[:5]]

    for number in range(1, 4):
        selection = PlanSelection(plan, Narrowing(part=part(number, 3)), NOW)
        silent = {each.key.casefold() for each in selection.placeholders(HQ)}
        answered = {key.casefold() for key in keys(selected(body, listed, part(number, 3)))}

        assert silent == answered
        assert "default/hq/match:x*" in silent


def test_guards_judge_the_whole_plan_in_every_part() -> None:
    """100 machines are no fewer because a part takes 33 of them."""
    body = "targets:\n  - {match: 'app*', expect: {min: 100}}\n"
    enough = [point(name) for name in MACHINES[:100]]

    for number in range(1, 4):
        assert not selected(body, enough, part(number, 3)).broken
        assert selected(body, enough[:99], part(number, 3)).broken


def test_a_server_whose_machines_a_guard_counts_is_asked_by_every_part() -> None:
    """Others are asked only by parts that have something there."""
    body = (
        "targets:\n  - {server: hq, vm: app0001}\n"
        "  - {server: dr, match: 'app*', expect: {min: 1}}\n"
    )
    plan = load(body, two_servers=True).plan

    asked = [
        {name for name in plan.servers if PlanSelection(plan, which, NOW).wants(name)}
        for which in (Narrowing(part=part(number, 5)) for number in range(1, 6))
    ]

    assert all(DR in each for each in asked)
    assert sum(HQ in each for each in asked) == 1


def test_a_part_knows_that_others_have_targets() -> None:
    """An empty part of a plan with targets is no mistake; a plan without any is one."""
    plan = load("targets:\n  - vm: app0001\n").plan
    empty = next(
        selection
        for selection in (
            PlanSelection(plan, Narrowing(part=part(number, 2)), NOW) for number in (1, 2)
        )
        if not selection.wants(HQ)
    )
    assert empty.is_elsewhere(empty.expand({}))

    nothing = "targets:\n  - {match: 'app*', expect: {min: 0}}\n"
    selection = PlanSelection(load(nothing).plan, Narrowing(part=part(1, 2)), NOW)
    assert not selection.is_elsewhere(selection.expand({HQ: Listing(points=())}))


def test_only_and_a_part_narrow_together() -> None:
    """--only is applied first: the rest of the plan is nowhere."""
    points = [point(name) for name in MACHINES[:50]]
    globs = ("app000*",)

    both = [selected(BY_GLOB, points, part(number, 2), globs) for number in (1, 2)]

    assert sum(len(each.requests) for each in both) == 10
    assert [len(each.requests) + each.elsewhere for each in both] == [10, 10]


def test_the_parts_of_a_locked_plan_are_whole_and_do_not_overlap() -> None:
    """Also where a point has gone since."""
    loaded = load(BY_GLOB)
    listing = Listing(points=tuple(point(name) for name in MACHINES[:60]))
    everything = PlanSelection(loaded.plan, Narrowing(), NOW).expand({HQ: listing})
    locked = load_locked(lock(loaded, everything, created_at=NOW, version="9"), Path("x"))
    less = Listing(points=listing.points[1:])

    found: list[MountKey] = []
    for number in range(1, 5):
        selection = LockedSelection(locked, Narrowing(part=part(number, 4)), NOW)
        expansion = selection.expand({HQ: less})
        assert len(keys(expansion)) + expansion.elsewhere == 60
        assert selection.is_elsewhere(expansion)
        found += keys(expansion)

    assert sorted(found) == sorted(keys(everything))


@pytest.mark.parametrize(
    "text",
    ["6/5", "0/5", "1/0", "5", "", "/", "1/", "a/b", "-1/2", "1/2/3", "１/２", "1/1001", "1 /2"],
)
def test_what_is_no_part_is_refused_with_the_right_form(text: str) -> None:
    """The message says how to write it."""
    with pytest.raises(ValueError, match="write K/N with K from 1 to N, such as 2/5"):
        read_part(text)


def test_a_part_is_written_as_it_is_read() -> None:
    """In reports and messages it is what the command line said."""
    assert str(read_part("02/5")) == "2/5"
    assert all(str(read_part(f"{n}/1000")) == f"{n}/1000" for n in (1, 1000))


@pytest.mark.parametrize(
    ("body", "seed", "words"),
    [
        ("targets:\n  - {match: 'app*', sample: {count: 3}}\n", None, "same --seed"),
        ("targets:\n  - {match: 'app*', point: {policy: random}}\n", None, "same --seed"),
        ("targets:\n  - {match: 'app*', sample: {count: 3, order: stalest}}\n", 7, "lock the plan"),
        ("targets:\n  - {match: 'app*', sample: {count: 3}}\n", 7, None),
        (BY_GLOB, None, None),
    ],
)
def test_parts_that_would_choose_differently_are_refused(
    body: str, seed: int | None, words: str | None
) -> None:
    """A sample that each job draws for itself is neither whole nor disjoint."""
    loaded = load(body)
    require_same_choice(loaded, None, seed)
    if words is None:
        require_same_choice(loaded, part(1, 2), seed)
    else:
        with pytest.raises(PlanError, match=words):
            require_same_choice(loaded, part(1, 2), seed)
