"""Which restore point a policy means: pure choices out of a machine's list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model import RestorePoint, RestorePointId
from orchestrator.plan.selection import Choice, NoChoice, choose, moment, span
from orchestrator.plan.settings import PointPolicy, PolicyName
from tests.plan.builders import NOW, point

LATEST = PointPolicy()
POINTS = [point("dc01", hours=hours) for hours in (5, 1, 30, 3)]


def before(hours: float, *, max_age: float | None = None) -> PointPolicy:
    """Return the policy for the newest point that is `hours` old or older."""
    return PointPolicy(policy=PolicyName.BEFORE, time=NOW - timedelta(hours=hours), max_age=max_age)


def hours_of(chosen: Choice | NoChoice) -> float | None:
    """Return how old the chosen point is, or None where there is none."""
    if isinstance(chosen, NoChoice):
        return None
    return (NOW - chosen.point.created_at).total_seconds() / 3600


@pytest.mark.parametrize(
    ("policy", "hours", "why"),
    [
        (LATEST, 1, "newest of 4 points"),
        (PointPolicy(max_age=3600), 1, "newest of 4 points"),
        (before(2), 3, "newest of 3 points from 2026-11-23T10:00:00Z or before, 1 newer passed"),
        (before(3), 3, "newest of 3 points"),
        (before(3.001), 5, "newest of 2 points"),
        (before(0), 1, "newest of 4 points from 2026-11-23T12:00:00Z or before"),
        (before(30), 30, "newest of 1 point from"),
    ],
    ids=["latest", "just young enough", "before", "at the very time", "just before", "all", "one"],
)
def test_a_policy_takes_the_newest_point_that_fits(
    policy: PointPolicy, hours: float, why: str
) -> None:
    """`latest` is the newest of all, `before` the newest not later than its time."""
    chosen = choose(POINTS, policy, now=NOW)

    assert isinstance(chosen, Choice)
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
            "none of 4 points is from 2026-11-22T05:00:00Z or before; "
            "the oldest is from 2026-11-22T06:00:00Z",
        ),
        (
            POINTS,
            PointPolicy(max_age=3599),
            "the newest point that fits is 1h old (from 2026-11-23T11:00:00Z), max_age is 59m 59s",
        ),
        (
            POINTS,
            before(2, max_age=7200),
            "the newest point that fits is 3h old (from 2026-11-23T09:00:00Z), max_age is 2h",
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
    """A point that the plan names is not judged by its age."""
    policy = PointPolicy(policy=PolicyName.ID, point=POINTS[2].id, max_age=1)

    assert choose(POINTS, policy, now=NOW) == Choice(point=POINTS[2], why="named by its id")


@given(st.permutations(range(6)), st.sampled_from([LATEST, before(1), before(2)]))
def test_the_order_of_the_list_never_matters(order: list[int], policy: PointPolicy) -> None:
    """Points of one moment are told apart by their ids, so that every page order agrees."""
    listed = [point("dc01", hours=1 + n // 2, number=n) for n in range(6)]

    chosen = choose([listed[n] for n in order], policy, now=NOW)

    assert chosen == choose(listed, policy, now=NOW)
    assert isinstance(chosen, Choice)
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


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"),
        (-5, "0s"),
        (59.4, "59s"),
        (3600, "1h"),
        (3661, "1h 1m"),
        (86400 * 3 + 7200 + 59, "3d 2h"),
        (86460, "1d 1m"),
    ],
)
def test_a_span_is_told_in_its_two_greatest_units(seconds: float, words: str) -> None:
    """Nobody needs the seconds of a point that is days old."""
    assert span(seconds) == words


def test_a_moment_is_told_in_utc() -> None:
    """Sites in several time zones read one report."""
    assert moment(datetime.fromisoformat("2026-11-23T01:30:00+02:00")) == "2026-11-22T23:30:00Z"
    assert moment(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00Z"
