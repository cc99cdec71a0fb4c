"""Which restore point a policy means: pure choices out of a machine's list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.core.model import NO_SEARCH, Cause, Order, RestorePoint, RestorePointId, Search
from orchestrator.plan.choose import selection
from orchestrator.plan.choose.fitting import rfc3339
from orchestrator.plan.choose.selection import Lots, NoChoice, PointChoice
from orchestrator.plan.file.settings import Fallback, PointPolicy, PolicyName
from tests.plan.builders import NOW, point

LATEST = PointPolicy()
POINTS = [point("dc01", hours=hours) for hours in (5, 1, 30, 3)]


def before(hours: float, *, max_age: float | None = None) -> PointPolicy:
    """Return the policy for the newest point that is `hours` old or older."""
    return PointPolicy(policy=PolicyName.BEFORE, time=NOW - timedelta(hours=hours), max_age=max_age)


def choose_all(
    points: Sequence[RestorePoint],
    policy: PointPolicy,
    *,
    now: datetime,
    lots: Lots | None = None,
) -> tuple[PointChoice, ...] | NoChoice:
    """Return all choices; without `lots`, a point's id is its lot."""
    lots = lots or (lambda _seed, point: point.encode())
    return selection.choose(points, policy, now=now, lots=lots)


def choose(
    points: Sequence[RestorePoint],
    policy: PointPolicy,
    *,
    now: datetime,
    lots: Lots | None = None,
) -> PointChoice | NoChoice:
    """Return the only choice; of `every` point, the newest."""
    found = choose_all(points, policy, now=now, lots=lots)
    return found if isinstance(found, NoChoice) else found[0]


def hours_of(chosen: PointChoice | NoChoice) -> float | None:
    """Return how old the chosen point is, or None where there is none."""
    if isinstance(chosen, NoChoice):
        return None
    return (NOW - chosen.point.created_at).total_seconds() / 3600


@pytest.mark.parametrize(
    ("policy", "hours", "why"),
    [
        (LATEST, 1, "newest of 4 points"),
        (PointPolicy(max_age=3600), 1, "newest of 4 points"),
        (before(2), 3, "newest of 3 points from 2026-11-23 10:00:00 UTC or before, 1 newer passed"),
        (before(3), 3, "newest of 3 points"),
        (before(3.001), 5, "newest of 2 points"),
        (before(0), 1, "newest of 4 points from 2026-11-23 12:00:00 UTC or before"),
        (before(30), 30, "newest of 1 point from"),
    ],
    ids=["latest", "just young enough", "before", "at the very time", "just before", "all", "one"],
)
def test_a_policy_takes_the_newest_point_that_fits(
    policy: PointPolicy, hours: float, why: str
) -> None:
    """`latest` is the newest of all, `before` the newest not later than its time."""
    chosen = choose(POINTS, policy, now=NOW)

    assert isinstance(chosen, PointChoice)
    assert hours_of(chosen) == hours
    assert chosen.why.startswith(why)


def test_nothing_is_said_of_newer_points_where_none_was_passed_over() -> None:
    """The reason holds no empty phrase."""
    assert "passed over" not in getattr(choose(POINTS, before(0), now=NOW), "why", "passed over")


@pytest.mark.parametrize(
    ("points", "policy", "why"),
    [
        ([], LATEST, "the server lists no restore point"),
        (
            POINTS,
            before(31),
            "none of 4 points is from 2026-11-22 05:00:00 UTC or before; "
            "the oldest is from 2026-11-22 06:00:00 UTC",
        ),
        (
            POINTS,
            PointPolicy(max_age=3599),
            "the newest point that fits is 1 h old (from 2026-11-23 11:00:00 UTC), "
            "max_age is 59 min 59 s",
        ),
        (
            POINTS,
            before(2, max_age=7200),
            "the newest point that fits is 3 h old (from 2026-11-23 09:00:00 UTC), max_age is 2 h",
        ),
        (
            POINTS[:1],
            PointPolicy(policy=PolicyName.ID, point=RestorePointId("other")),
            "none of 1 point has the id other",
        ),
    ],
    ids=["no points", "all too new", "too old", "before and too old", "no such id"],
)
def test_where_nothing_fits_the_reason_says_what_there_is(
    points: list[RestorePoint], policy: PointPolicy, why: str
) -> None:
    """A person can tell from the sentence whether the plan or the replication is at fault."""
    assert choose(points, policy, now=NOW) == NoChoice(why=why)


def test_an_id_is_taken_however_old_it_is() -> None:
    """A point that the plan names is not judged by its age, unless the plan asks for that."""
    policy = PointPolicy(policy=PolicyName.ID, point=POINTS[2].id)

    assert choose(POINTS, policy, now=NOW) == PointChoice(point=POINTS[2], why="named by its id")
    assert isinstance(choose(POINTS, replace(policy, max_age=1), now=NOW), NoChoice)


# --- what bounds every policy ----------------------------------------------------------------

INCIDENT = NOW - timedelta(hours=4)
ANY = [
    PointPolicy(),
    PointPolicy(policy=PolicyName.BEFORE, time=NOW),
    PointPolicy(policy=PolicyName.NEWEST_PASSING),
    PointPolicy(policy=PolicyName.EVERY),
    PointPolicy(policy=PolicyName.RANDOM),
    PointPolicy(fallback=Fallback(count=9)),
]


def ages(points: Iterable[RestorePoint]) -> list[float]:
    """Return how many hours old points are."""
    return [(NOW - each.created_at).total_seconds() / 3600 for each in points]


def touched(policy: PointPolicy, points: Sequence[RestorePoint] = POINTS) -> set[RestorePoint]:
    """Return every point that a policy may mount, first or later."""
    found = choose_all(points, policy, now=NOW)
    if isinstance(found, NoChoice):
        return set()
    return {p for choice in found for p in (choice.point, *choice.search.candidates)}


@pytest.mark.parametrize("policy", ANY, ids=lambda policy: policy.policy.value)
def test_nothing_made_after_the_incident_is_ever_mounted(policy: PointPolicy) -> None:
    """Not as the first choice and not as a fallback; the moment of the incident itself counts."""
    assert touched(replace(policy, incident_time=INCIDENT)) <= {POINTS[0], POINTS[2]}
    assert touched(replace(policy, incident_time=POINTS[0].created_at)) & {POINTS[0], POINTS[2]}
    assert touched(replace(policy, incident_time=NOW - timedelta(hours=31))) == set()


@pytest.mark.parametrize("policy", ANY, ids=lambda policy: policy.policy.value)
def test_nothing_excluded_is_ever_mounted(policy: PointPolicy) -> None:
    """By id in any case, by the server's own form of it, or by a glob over the name."""
    shut = (POINTS[1].id.upper(), f"urn:veeam:VmReplicaPoint:{POINTS[3].id}", "dc01@2026-11-22*")

    assert touched(replace(policy, exclude_points=shut)) == {POINTS[0]}
    assert touched(replace(policy, exclude_points=("*",))) == set()


@pytest.mark.parametrize("policy", ANY, ids=lambda policy: policy.policy.value)
def test_ages_count_back_from_the_incident_where_there_was_one(policy: PointPolicy) -> None:
    """A point an hour older than the incident is one hour old, however long ago that was."""
    late = replace(policy, incident_time=INCIDENT, max_age=3600)

    assert touched(late) == {POINTS[0]}
    assert touched(replace(late, max_age=3599)) == set()
    assert touched(replace(policy, max_age=3 * 3600)) <= {POINTS[1], POINTS[3]}


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (
            PointPolicy(incident_time=INCIDENT, max_age=60),
            "the newest point that fits is 1 h older than the incident "
            "(from 2026-11-23 07:00:00 UTC), "
            "max_age is 1 min",
        ),
        (PointPolicy(exclude_points=("*",)), "exclude_points leaves none of 4 points"),
        (
            PointPolicy(incident_time=INCIDENT, exclude_points=("dc01@2026-11-2[23] 0[67]*",)),
            "none of 4 points is from 2026-11-23 08:00:00 UTC or before and not excluded (2 are); "
            "the oldest is from 2026-11-22 06:00:00 UTC",
        ),
        (
            PointPolicy(policy=PolicyName.ID, point=POINTS[1].id, incident_time=INCIDENT),
            f"the point {POINTS[1].id} does not fit: made after the incident",
        ),
    ],
    ids=["too old at the incident", "all excluded", "too new or excluded", "id too new"],
)
def test_a_bound_that_leaves_nothing_is_named(policy: PointPolicy, why: str) -> None:
    """The reason names the bound, and what there was."""
    assert choose(POINTS, policy, now=NOW) == NoChoice(why=why)


def test_every_point_that_was_passed_over_has_its_reason() -> None:
    """`--explain` accounts for all points of the machine: chosen, or passed over and why."""
    policy = PointPolicy(incident_time=NOW - timedelta(hours=2), exclude_points=(POINTS[0].id,))

    chosen = choose(POINTS, replace(policy, max_age=20 * 3600), now=NOW)

    assert isinstance(chosen, PointChoice)
    assert chosen.why == (
        "newest of 2 points from 2026-11-23 10:00:00 UTC or before, 1 newer passed over, 1 excluded"
    )
    assert [(age, each.why) for age, each in zip((1, 5, 30), chosen.passed, strict=True)] == [
        (1, "made after the incident"),
        (5, f"excluded by '{POINTS[0].id}'"),
        (30, "older than max_age 20 h"),
    ]


# --- other points ----------------------------------------------------------------------------

MANY = [point("dc01", hours=hours) for hours in (1, 2, 3, 4, 5, 50)]


@pytest.mark.parametrize("order", list(Order))
def test_newest_passing_may_try_every_point_that_fits(order: Order) -> None:
    """The first choice is the newest; the rest are candidates, newest first."""
    policy = PointPolicy(policy=PolicyName.NEWEST_PASSING, search=order, max_age=86400)

    chosen = choose(MANY[::-1], policy, now=NOW)

    assert isinstance(chosen, PointChoice)
    assert chosen.search == Search(candidates=tuple(MANY[:5]), order=order)
    assert chosen.point == MANY[0]
    assert "1 too old; older ones are tried" in chosen.why
    assert {each.why for each in chosen.passed} == {
        "tried if a newer one fails",
        "older than max_age 1 d",
    }


@pytest.mark.parametrize(
    ("fallback", "hours"),
    [
        (Fallback(count=2), [1, 2, 3]),
        (Fallback(count=9), [1, 2, 3, 4, 5]),
        (Fallback(count=9, max_age=72 * 3600), [1, 2, 3, 4, 5, 50]),
        (Fallback(count=9, max_age=7200, on=(Cause.CHECK_FAILED,)), [1, 2]),
    ],
    ids=["count", "the point's own age limit", "a longer one", "a shorter one"],
)
def test_a_fallback_is_the_next_older_points(fallback: Fallback, hours: list[float]) -> None:
    """Never newer, never excluded, no more than `count`, none older than it allows."""
    chosen = choose(MANY, PointPolicy(max_age=86400, fallback=fallback), now=NOW)

    assert isinstance(chosen, PointChoice)
    assert ages(chosen.search.candidates) == hours
    assert ages(each.point for each in chosen.passed if each.in_reserve) == hours[1:]
    assert chosen.search.on == fallback.on
    assert chosen.why.endswith(f"; {len(hours) - 1} older as fallback")


def test_a_fallback_without_any_older_point_is_no_search() -> None:
    """The reason says that nothing is left to fall back to."""
    chosen = choose(MANY[:1], PointPolicy(fallback=Fallback(count=3)), now=NOW)

    assert isinstance(chosen, PointChoice)
    assert chosen.search == NO_SEARCH
    assert chosen.why == "newest of 1 point; no older one fits as fallback"


def test_every_point_is_a_choice_newest_first_or_only_so_many() -> None:
    """`every` follows one machine through time."""
    policy = PointPolicy(policy=PolicyName.EVERY)

    everything = choose_all(MANY[::-1], policy, now=NOW)
    newest = choose_all(MANY, replace(policy, count=2), now=NOW)

    assert not isinstance(everything, NoChoice)
    assert not isinstance(newest, NoChoice)
    assert [choice.point for choice in everything] == MANY
    assert {choice.why for choice in everything} == {"every one of 6 points"}
    assert [choice.point for choice in newest] == MANY[:2]
    assert {choice.why for choice in newest} == {"the newest 2 of 6 points"}
    assert [len(choice.passed) for choice in newest] == [4, 0]
    assert all(choice.search == NO_SEARCH for choice in everything)


def test_random_takes_the_smallest_lot_among_the_points_that_fit() -> None:
    """Chance is in the lots alone, so whoever draws the same lots chooses the same point."""
    policy = PointPolicy(policy=PolicyName.RANDOM, max_age=86400, seed=5)
    asked: list[int | None] = []

    def lots(seed: int | None, id_: RestorePointId) -> bytes:
        asked.append(seed)
        return b"0" if id_ in (MANY[3].id, MANY[5].id) else b"1"

    chosen = choose(MANY, policy, now=NOW, lots=lots)

    assert isinstance(chosen, PointChoice)
    assert chosen.point == MANY[3]
    assert chosen.why == "drawn from 5 points, 1 too old"
    assert set(asked) == {5}


@given(st.permutations(range(6)), st.sampled_from(ANY), st.integers(0, 60))
def test_no_policy_depends_on_the_order_of_the_list(
    order: list[int], policy: PointPolicy, max_age: int
) -> None:
    """Pages may come in any order: choices, candidates, reasons and explanations agree."""
    bounded = replace(policy, max_age=max_age * 3600.0)
    listed = choose_all(MANY, bounded, now=NOW)
    shuffled = choose_all([MANY[n] for n in order], bounded, now=NOW)

    assert shuffled == listed
    both = [(one,) if isinstance(one, NoChoice) else one for one in (shuffled, listed)]
    assert [c.passed for c in both[0]] == [c.passed for c in both[1]]
    if not isinstance(listed, NoChoice):
        shown = {p.id for c in listed for p in (c.point, *(each.point for each in c.passed))}
        assert shown == {each.id for each in MANY}


@given(st.permutations(range(6)), st.sampled_from([LATEST, before(1), before(2)]))
def test_the_order_of_the_list_never_matters(order: list[int], policy: PointPolicy) -> None:
    """Points of one moment are told apart by their ids, so that every page order agrees."""
    listed = [point("dc01", hours=1 + n // 2, number=n) for n in range(6)]

    chosen = choose([listed[n] for n in order], policy, now=NOW)

    assert chosen == choose(listed, policy, now=NOW)
    assert isinstance(chosen, PointChoice)
    assert chosen.point.id.startswith("00000001" if policy != before(2) else "00000003")


@given(
    st.lists(st.integers(0, 100), unique=True, max_size=12),
    st.none() | st.integers(0, 100),
    st.none() | st.integers(0, 100),
)
def test_a_choice_is_the_best_of_those_that_fit(
    ages: list[int], limit: int | None, max_age: int | None
) -> None:
    """No fitting point is newer than the chosen one, and a point is refused only if none fits.

    `max_age` is asked of the newest point that `before` allows: an older one is older still.
    """
    age_limit = None if max_age is None else max_age * 3600.0
    policy = PointPolicy(max_age=age_limit) if limit is None else before(limit, max_age=age_limit)
    fitting = [
        age
        for age in ages
        if (limit is None or age >= limit) and (max_age is None or age <= max_age)
    ]

    chosen = choose([point("dc01", hours=age) for age in ages], policy, now=NOW)

    assert hours_of(chosen) == (min(fitting) if fitting else None)


def test_keys_have_moments_in_utc() -> None:
    """Sites in several time zones read one report."""
    assert rfc3339(datetime.fromisoformat("2026-11-23T01:30:00+02:00")) == "2026-11-22T23:30:00Z"
    assert rfc3339(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00Z"
