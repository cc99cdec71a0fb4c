"""`match`, `query`, `sample` and `every`: many machines and points from one entry of the plan."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.model import BackupServerName, RestorePoint, ServerName, Source
from orchestrator.plan.choose.expansion import Expansion, expand, placeholders
from orchestrator.plan.choose.inventory import Inventory, Listing, Question, inventory_needs
from orchestrator.plan.choose.sampling import Draw
from orchestrator.plan.file.naming import names_left_out, names_like
from orchestrator.plan.file.selectors import SelectorKind
from tests.plan.builders import DR, HQ, NOW, expanded, load, point

TEXT = 'BackupServerName=="vbr-01"'
QUERY = Question(SelectorKind.QUERY, Source.REPLICA, TEXT)


def keys(expansion: Expansion) -> list[str]:
    """Return the keys of the requests, in order."""
    return [str(request.key) for request in expansion.requests]


def drawn(body: str, points: Sequence[RestorePoint], draw: Draw, base: Path = Path()) -> Expansion:
    """Return the expansion of a plan on server hq, drawn by `draw`."""
    return expand(load(body, base=base).plan, {HQ: Inventory(points)}, now=NOW, draw=draw)


@dataclass(frozen=True)
class Proven:
    """A history in which machines were proven so many hours ago."""

    hours: dict[str, float] = field(default_factory=dict)

    def last(
        self, server: ServerName, vm: str, backup_server: BackupServerName | None
    ) -> datetime | None:
        """Return when a machine was last proven."""
        _ = server
        ago = self.hours.get(f"{vm}@{backup_server}", self.hours.get(vm))
        return None if ago is None else NOW - timedelta(hours=ago)


# --- match -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("glob", "names", "found"),
    [
        ("api-*", ["api-1", "API-2", "web"], {"api-1"}),
        ("api-*", ["API-1", "Api-2", "web"], {"API-1", "Api-2"}),
        ("*", ["a", "B"], {"a", "B"}),
        ("api-[12]", ["api-1", "api-3"], {"api-1"}),
        ("api-?", ["api-10"], set()),
        ("STRASSE*", ["straße-1"], {"straße-1"}),
    ],
)
def test_a_glob_follows_the_spelling_and_only_without_any_match_the_letters(
    glob: str, names: list[str], found: set[str]
) -> None:
    """The same case rule as for names that are written out."""
    assert names_like(glob, names) == found


def test_an_exclusion_in_another_case_still_holds() -> None:
    """Nobody wants a machine mounted that they excluded as they are used to spell it."""
    assert names_left_out(["API-TEST*", "web"], ["api-test1", "api-1", "web"]) == {
        "api-test1",
        "web",
    }


def test_match_is_one_target_for_each_machine_that_the_glob_means() -> None:
    """In the order of names; what is excluded or behind another backup server is no target."""
    points = [point(vm, hours=h) for vm in ("api-2", "api-1", "api-test", "web") for h in (1, 2)]
    points.append(point("api-3", behind="vbr-02"))
    body = "targets:\n  - {match: 'api-*', exclude: ['*-TEST']%s}\n"

    assert keys(expanded(body % "", *points)) == [f"default/hq/api-{n}" for n in (1, 2, 3)]
    assert keys(expanded(body % ", backup_server: vbr-02", *points)) == ["default/hq/api-3"]


def test_match_asks_for_everything_once_however_many_globs_there_are() -> None:
    """A listing of all makes a listing of one backup server needless."""
    one = "{match: 'b*', backup_server: vbr-02}"

    alone = inventory_needs(load(f"targets:\n  - {one}\n").plan, HQ)
    both = inventory_needs(load(f"targets:\n  - {one}\n  - match: 'a*'\n").plan, HQ)

    assert alone.listings == {Source.REPLICA: ("vbr-02",)}
    assert both.listings == {Source.REPLICA: ("",)}
    assert both.machines == {}


def test_one_machine_name_on_two_backup_servers_is_two_targets_of_a_match() -> None:
    """A glob means every machine that it fits; keys tell them apart."""
    expansion = expanded("targets:\n  - match: 'd*'\n", point("dc", behind="a"), point("dc"))

    assert keys(expansion) == ["default/hq/dc@a", "default/hq/dc@vbr-01"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("{match: 'x*'}", "the server lists no restore point for match 'x*'"),
        ("{match: 'a*', exclude: ['*']}", "for match 'a*' after 'exclude'"),
        (f"{{query: '{TEXT}'}}", f"the server lists no restore point for query '{TEXT}'"),
    ],
)
def test_a_selector_that_matches_nothing_is_a_target_that_says_so(target: str, reason: str) -> None:
    """It keeps one target, named after the selector, unless an empty match is fine."""
    (found,) = expanded(f"targets:\n  - {target}\n", point("api")).unresolved
    fine = target.replace("}", ", expect: {min: 0}}")

    assert reason in found.reason
    assert found.label in target.replace("{", "").replace(": '", ":")
    assert expanded(f"targets:\n  - {fine}\n", point("api")).unresolved == ()


def test_guards_count_the_machines_of_a_match_before_a_sample_is_taken() -> None:
    """`expect` judges the selector, not the sample."""
    points = [point(f"api-{n}") for n in range(5)]
    body = "targets:\n  - {match: 'api-*', sample: {count: 2}, expect: {min: %d, max: 5}}\n"

    assert expanded(body % 5, *points).broken == ()
    assert len(expanded(body % 5, *points).requests) == 2
    (broken,) = expanded("targets:\n  - {match: 'api-*', expect: {max: 4}}\n", *points).broken
    assert broken == "6:5: match 'api-*' matches 5 machines, expected at most 4"


# --- query -------------------------------------------------------------------------------


def queried(body: str, returned: list[RestorePoint], *others: RestorePoint) -> Expansion:
    """Return the expansion where the query returned some of the points that are known."""
    listing = Listing(points=[*others, *returned], returned={QUERY: [each.id for each in returned]})
    return expand(load(body).plan, {HQ: Inventory(listing=listing)}, now=NOW)


def test_a_query_is_one_target_for_each_machine_by_the_policy_among_what_it_returned() -> None:
    """A newer point that the query did not return is not chosen, though it is known."""
    a, b = [[point(vm, hours=h) for h in (5, 3)] for vm in "ab"]
    body = f"targets:\n  - query: '{TEXT}'\n"

    expansion = queried(body, [b[0], a[0], a[1], a[1]], point("a", hours=1), b[1])

    assert [(str(r.key), r.point) for r in expansion.requests] == [
        ("default/hq/a", a[1]),
        ("default/hq/b", b[0]),
    ]
    assert expansion.queried == {r.key for r in expansion.requests}
    passed = expansion.passed[expansion.requests[0].key]
    assert [each.point for each in passed] == [a[0]]


def test_a_refused_query_fails_its_own_targets_with_the_servers_words() -> None:
    """The others of the server are chosen all the same, and no guard is called broken."""
    body = f"targets:\n  - {{query: '{TEXT}', expect: {{min: 3}}}}\n  - vm: dc01\n"
    listing = Listing(points=[point("dc01")], refused={QUERY: "the server refused: 'no field x'"})

    expansion = expand(load(body).plan, {HQ: Inventory(listing=listing)}, now=NOW)

    assert keys(expansion) == ["default/hq/dc01"]
    (target,) = expansion.unresolved
    assert (target.label, target.reason) == (f"query:{TEXT}", "the server refused: 'no field x'")
    assert expansion.broken == ()


def test_a_refusal_is_not_an_empty_match() -> None:
    """`expect: {min: 0}` says that nothing may be there, not that nobody may look."""
    body = "targets:\n  - {match: 'a*', source: agent, expect: {min: 0}}\n"
    asked = Question(SelectorKind.MATCH, Source.AGENT, "")

    listing = Listing(refused={asked: "not visible to this role"})
    expansion = expand(load(body).plan, {HQ: Inventory(listing=listing)}, now=NOW)

    assert [target.reason for target in expansion.unresolved] == ["not visible to this role"]


# --- samples -----------------------------------------------------------------------------

FLEET = [point(f"vm{n:02}", hours=h) for n in range(20) for h in (1, 2)]
SAMPLE = "targets:\n  - {match: '*', sample: {count: %s}}\n"


def test_a_sample_is_repeated_by_its_seed_and_by_nothing_else() -> None:
    """The same seed draws the same machines; other seeds draw others, and all get their turn."""
    draws = [keys(drawn(SAMPLE % 5, FLEET, Draw(seed=seed))) for seed in range(40)]

    assert draws == [keys(drawn(SAMPLE % 5, FLEET[::-1], Draw(seed=seed))) for seed in range(40)]
    assert {len(each) for each in draws} == {5}
    assert len({tuple(each) for each in draws}) > 30
    assert len({key for each in draws for key in each}) == 20


def test_a_seed_in_the_plan_wins_over_the_runs() -> None:
    """A plan may fix its sample for good."""
    body = SAMPLE % "5, seed: 7"

    assert drawn(body, FLEET, Draw(seed=1)) == drawn(body, FLEET, Draw(seed=2))
    assert keys(drawn(body, FLEET, Draw(seed=1))) == keys(drawn(SAMPLE % 5, FLEET, Draw(seed=7)))
    assert not load(body).plan.draws
    assert load(SAMPLE % 5).plan.draws


@given(st.integers(0, 10**9), st.integers(0, 19))
def test_a_machine_that_disappears_changes_no_other_draw(seed: int, gone: int) -> None:
    """Whoever was drawn stays drawn; only the place of the one that went is filled."""
    before = set(keys(drawn(SAMPLE % 5, FLEET, Draw(seed=seed))))
    left = [each for each in FLEET if each.vm != f"vm{gone:02}"]

    after = set(keys(drawn(SAMPLE % 5, left, Draw(seed=seed))))

    assert len(after) == 5
    assert before - after <= {f"default/hq/vm{gone:02}"}


def test_a_comment_in_the_plan_changes_no_draw() -> None:
    """Lots follow from what an entry says, not from the line it stands in."""
    moved = SAMPLE.replace("targets:\n", "targets:\n  # drawn anew each week\n\n") % 5

    assert keys(drawn(moved, FLEET, Draw(seed=3))) == keys(drawn(SAMPLE % 5, FLEET, Draw(seed=3)))


def test_the_stalest_machines_are_those_never_proven_and_then_the_oldest_proofs() -> None:
    """Ties are broken by name, so that the choice needs no seed."""
    history = Proven({f"vm{n:02}": 24 * n for n in range(2, 19)})
    body = SAMPLE % "5, order: stalest"

    expansion = drawn(body, FLEET, Draw(seed=1, proofs=history))

    assert keys(expansion) == [f"default/hq/vm{n:02}" for n in (0, 1, 17, 18, 19)]
    assert expansion.notes == ("6:5: match '*': a sample of 5 of 20 machines (stalest first)",)
    assert expansion.requests[0].policy.endswith("in a sample of 5 of 20 machines (stalest first)")
    assert not load(body).plan.draws
    assert load(body).plan.samples_stalest


def test_two_machines_of_one_name_go_stale_apart() -> None:
    """A proof behind one backup server proves nothing of the namesake behind another."""
    body = "targets:\n  - {vm: dc, all: true, sample: {count: 1, order: stalest}}\n"
    points = [point("dc", behind=behind) for behind in ("a", "b")]

    expansion = drawn(body, points, Draw(proofs=Proven({"dc@a": 1, "dc@b": 90})))

    assert keys(expansion) == ["default/hq/dc@b"]


def test_a_sample_larger_than_what_there_is_takes_everything() -> None:
    """`count` is an upper bound; `expect` is there for lower ones."""
    assert len(drawn(SAMPLE % 99, FLEET, Draw()).requests) == 20


def test_targets_known_by_their_keys_are_not_sampled_again() -> None:
    """A retry takes up what failed, though a new sample would not have drawn it."""
    assert len(drawn(SAMPLE % 3, FLEET, Draw(sampling=False)).requests) == 20


@pytest.mark.parametrize("guard", ["", ", expect: {min: 20}"])
def test_a_sample_of_a_file_is_drawn_from_its_rows_over_all_servers(
    tmp_path: Path, guard: str
) -> None:
    """It needs no inventory: a server that answers late, or never, changes no other's share."""
    rows = "".join(f"vm{n:02},{'hq' if n % 2 else 'dr'}\n" for n in range(20))
    (tmp_path / "list.csv").write_text("vm,server\n" + rows)
    body = f"targets:\n  - {{from_file: list.csv, sample: {{count: 6}}{guard}}}\n"
    plan = load(body, two_servers=True, base=tmp_path).plan
    draw = Draw(seed=5)
    both = expand(plan, {HQ: Inventory(FLEET), DR: Inventory(FLEET)}, now=NOW, draw=draw)

    alone = expand(plan, {HQ: Inventory(FLEET)}, now=NOW, draw=draw)
    waiting = placeholders(plan, DR, reason="late", draw=draw)

    assert len(both.requests) == 6
    assert both.broken == ()
    assert [k for k in keys(both) if "/hq/" in k] == keys(alone)
    assert [k for k in keys(both) if "/dr/" in k] == [target.key for target in waiting]
    assert len(alone.pending) == len(waiting)
    asked = inventory_needs(plan, HQ, draw).machines[Source.REPLICA]
    assert set(asked) == {f"vm{n:02}" for n in range(1, 20, 2)} if guard else len(asked) < 6


# --- points ------------------------------------------------------------------------------


def test_every_point_has_a_key_of_its_own_that_other_points_do_not_change() -> None:
    """The key names the machine and the point's time, in UTC and to the second."""
    body = "targets:\n  - {vm: dc, point: {policy: every}}\n"
    few, more = [[point("dc", hours=h) for h in range(1, n)] for n in (3, 6)]

    assert keys(expanded(body, *few)) == [
        "default/hq/dc@2026-11-23T11:00:00Z",
        "default/hq/dc@2026-11-23T10:00:00Z",
    ]
    assert keys(expanded(body, *more))[:2] == keys(expanded(body, *few))
    assert expanded(body, *few).requests[0].label == "dc@2026-11-23T11:00:00Z"
    assert expanded(body, *more).broken == ()


def test_points_of_one_second_and_machines_of_one_name_keep_keys_apart() -> None:
    """Backup server, time and, within one second, the id: no two targets share a key."""
    body = "targets:\n  - {vm: dc, all: true, point: {policy: every}}\n"
    points = [point("dc", number=n) for n in (1, 2)] + [point("dc", behind="b", number=3)]

    assert keys(expanded(body, *points)) == [
        "default/hq/dc@b@2026-11-23T11:00:00Z",
        "default/hq/dc@vbr-01@2026-11-23T11:00:00Z-00000002",
        "default/hq/dc@vbr-01@2026-11-23T11:00:00Z-00000001",
    ]


def test_a_machine_followed_through_time_is_still_selected_only_once() -> None:
    """Another entry that selects the machine too is named once, not once for each point."""
    body = "targets:\n  - {vm: dc, point: {policy: every}}\n  - match: 'd*'\n"

    (broken,) = expanded(body, *(point("dc", hours=h) for h in (1, 2, 3))).broken

    assert "is selected twice: by vm 'dc' (6:5) and by match 'd*' (7:5)" in broken


def test_random_points_follow_the_seed_and_are_drawn_for_each_machine() -> None:
    """Not the same age everywhere, and the reason holds the seed."""
    body = "targets:\n  - {match: '*', point: {policy: random}}\n"
    fleet = [point(f"vm{n}", hours=h) for n in range(10) for h in range(1, 11)]

    draws = [drawn(body, fleet, Draw(seed=seed)) for seed in (1, 1, 2)]

    chosen = [[request.point for request in each.requests] for each in draws]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len({each.created_at for each in chosen[0]}) > 3
    assert draws[0].requests[0].policy == "drawn from 10 points; seed 1"
    fixed = body.replace("random}", "random, seed: 2}")
    assert [r.point for r in drawn(fixed, fleet, Draw(seed=1)).requests] != chosen[0]


def test_the_incident_goes_with_the_request() -> None:
    """The recovery point objective counts back from it."""
    body = "targets:\n  - {vm: dc, point: {incident_time: 2026-11-23T10:30:00Z}}\n"

    (request,) = expanded(body, *(point("dc", hours=h) for h in (1, 2))).requests

    assert request.incident_at == datetime.fromisoformat("2026-11-23T10:30:00Z")
    assert request.point == point("dc", hours=2)


POLICIES = [
    *("latest", "newest_passing", "every", "random"),
    "latest, fallback: {count: 2}",
    "every, count: 2",
]


@given(
    st.lists(
        st.builds(
            point,
            st.sampled_from(["a1", "a2", "A3", "b1"]),
            hours=st.integers(1, 6),
            behind=st.sampled_from(["x", "y"]),
        ),
        max_size=25,
    ),
    st.sampled_from(POLICIES),
    st.sampled_from(["", ", sample: {count: 2}", ", sample: {count: 1, order: stalest}"]),
    st.integers(0, 99),
)
def test_expansion_is_the_same_whatever_the_order_and_no_key_stands_twice(
    points: list[RestorePoint], policy: str, sample: str, seed: int
) -> None:
    """Determinism: the inventory's order, and how often it is asked, change nothing."""
    body = f"targets:\n  - {{match: 'a*', point: {{policy: {policy}}}{sample}}}\n"
    shuffled = random.Random(seed).sample(points, len(points))

    expansion = drawn(body, points, Draw(seed=seed))

    assert drawn(body, shuffled, Draw(seed=seed)) == expansion
    assert drawn(body, shuffled, Draw(seed=seed)).passed == expansion.passed
    found = keys(expansion) + [str(target.key) for target in expansion.unresolved]
    assert len(set(found)) == len(found)
    assert expansion.broken == ()
    machines = {(r.vm, r.backup_server) for r in expansion.requests}
    assert all(vm.startswith("a") for vm, _ in machines if any(p.vm[0] == "a" for p in points))
    if sample:
        assert len(machines) <= 2
