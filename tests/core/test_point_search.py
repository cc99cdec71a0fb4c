"""The search for a good restore point: laws over all histories of a machine's points.

A history says of each point, newest first, whether its mount is good, its checks fail, its
mount fails, or its fate is unknown. The search is played on real records, event by event.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.core import point_search
from orchestrator.core.events import (
    CheckMade,
    DeadlinePassed,
    FileCopied,
    MountFound,
    MountReleased,
    OutOfReach,
    PointChosen,
    SubmissionRefused,
    SubmissionStarted,
    TargetConcluded,
    TargetPlanned,
    TargetReopened,
    TaskAccepted,
    TaskFailed,
    TaskSucceeded,
    UnmountStarted,
    VerdictReached,
)
from orchestrator.core.lifecycle import MountRecord, Phase, apply, begin
from orchestrator.core.model import (
    AttemptPolicy,
    Cause,
    Href,
    MountKey,
    MountState,
    Order,
    OsKind,
    RestorePoint,
    RestorePointId,
    Result,
    Search,
    ServerName,
    SessionId,
    TaskId,
    WaveName,
)
from orchestrator.core.proof import CheckOutcome, Download, DownloadOutcome, Fate

KEY, SESSION, TASK, MOUNT = MountKey("w/hq/vm"), SessionId("s"), TaskId("task-1"), Href("/m/1")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
GOOD, CHECKS_FAIL, MOUNT_FAILS, REFUSED, UNKNOWN = "good", "checks", "mount", "refused", "unknown"
BAD = (CHECKS_FAIL, MOUNT_FAILS, REFUSED)


def points(count: int) -> tuple[RestorePoint, ...]:
    """Return so many points of one machine, newest first."""
    return tuple(
        RestorePoint(
            id=RestorePointId(f"p{n:02}"), name=f"p{n}", vm="vm", created_at=NOON - n * timedelta(1)
        )
        for n in range(count)
    )


def planned(
    count: int,
    order: Order = Order.LINEAR,
    *,
    attempts: int = 2,
    on: tuple[Cause, ...] = tuple(Cause),
    downloads: tuple[Download, ...] = (),
) -> MountRecord:
    """Return a target that was just planned, with so many points to choose from."""
    candidates = points(count)
    return begin(
        TargetPlanned(
            at=0.0,
            key=KEY,
            wave=WaveName("w"),
            server=ServerName("hq"),
            label="vm",
            os_kind=OsKind.WINDOWS,
            point=candidates[0],
            checks=("files",),
            downloads=downloads,
            retries=AttemptPolicy(attempts=attempts),
            search=Search(candidates=candidates, on=on, order=order),
        )
    )


def place_of(record: MountRecord) -> int:
    """Return the place of the present point among the candidates."""
    assert record.point is not None
    return [each.id for each in record.planned.search.candidates].index(record.point.id)


def _begun(record: MountRecord) -> MountRecord:
    assert record.point is not None
    number = len(record.attempts) + 1
    return apply(
        record,
        SubmissionStarted(at=0.0, key=KEY, attempt=number, session=SESSION, point=record.point.id),
    )


def attempted(record: MountRecord, fate: str) -> MountRecord:
    """Return the record after one attempt with this fate."""
    record = _begun(record)
    if fate == REFUSED:
        return apply(record, SubmissionRefused(at=0.0, key=KEY, reason="no"))
    record = apply(record, TaskAccepted(at=0.0, key=KEY, task=TASK))
    if fate == UNKNOWN:
        return apply(record, OutOfReach(at=0.0, key=KEY, reason="gone"))
    if fate == MOUNT_FAILS:
        return apply(record, TaskFailed(at=0.0, key=KEY, task=TASK, message="no"))
    return released(judged(mounted(record), good=fate == GOOD))


def mounted(record: MountRecord) -> MountRecord:
    """Return the record of a running attempt after its mount was found."""
    record = apply(record, TaskSucceeded(at=0.0, key=KEY, task=TASK, mount=MOUNT))
    return apply(record, MountFound(at=0.0, key=KEY, mount=MOUNT, roots=("C:",)))


def judged(record: MountRecord, *, good: bool) -> MountRecord:
    """Return the record of a mounted attempt after its one check and its verdict."""
    made = CheckOutcome(name="files", path="C:/x", expected="it", observed="it", passed=good)
    record = apply(record, CheckMade(at=0.0, key=KEY, outcome=made))
    result = Result.VERIFIED if good else Result.FAILED
    return apply(record, VerdictReached(at=0.0, key=KEY, result=result))


def released(record: MountRecord) -> MountRecord:
    """Return the record of a judged attempt after its unmount."""
    record = apply(record, UnmountStarted(at=0.0, key=KEY, mount=MOUNT))
    return apply(record, MountReleased(at=0.0, key=KEY))


def chosen(record: MountRecord, following: point_search.NextPoint) -> MountRecord:
    """Return the record after the choice of another point."""
    return apply(record, PointChosen(at=0.0, key=KEY, point=following.point, why=following.why))


@dataclass(slots=True)
class Played:
    """How a search went: the places of the points tried, in order, and the record at its end."""

    tried: list[int]
    record: MountRecord
    attempts: int

    @property
    def winner(self) -> int | None:
        """The place of the point that was proven."""
        proven = self.record.proven
        if proven is None:
            return None
        return [each.id for each in self.record.planned.search.candidates].index(proven.point)


def played(record: MountRecord, history: list[str]) -> Played:
    """Search through a history to the end, the way `mounting.drive` does."""
    tried, attempts = [place_of(record)], 0
    while record.phase is Phase.QUEUED:
        record = attempted(record, history[tried[-1]])
        attempts += 1
        assert attempts <= 3 * len(history), "it does not end"
        if record.phase is Phase.QUEUED and point_search.is_settled(record):
            following = point_search.next_point(record)
            if following is None:
                break
            assert following.point in record.planned.search.candidates
            record = chosen(record, following)
            tried.append(place_of(record))
    return Played(tried, record, attempts)


def bound(count: int) -> int:
    """Return the most points that bisection tries among so many."""
    return 1 + math.ceil(math.log2(count))


FATES = st.sampled_from([GOOD, *BAD, UNKNOWN])
CERTAIN = st.sampled_from([GOOD, *BAD])


@given(st.integers(1, 64), st.data())
@settings(max_examples=300)
def test_linear_and_bisect_agree_on_monotone_histories(count: int, data: st.DataObject) -> None:
    """Where every point before a good one is good, both find the newest good one, or none."""
    bad = data.draw(st.lists(st.sampled_from(BAD), max_size=count))
    history = [*bad, *[GOOD] * (count - len(bad))]

    linear = played(planned(count), history)
    halves = played(planned(count, Order.BISECT), history)

    assert linear.winner == halves.winner == (len(bad) if len(bad) < count else None)
    assert len(halves.tried) <= bound(count)


@pytest.mark.parametrize("order", Order)
@given(st.lists(FATES, min_size=1, max_size=80), st.integers(1, 3))
@settings(max_examples=300)
def test_every_search_ends_and_tries_no_point_twice(
    order: Order, history: list[str], attempts: int
) -> None:
    """Whatever the history, the newest good one of those tried wins, and stands."""
    done = played(planned(len(history), order, attempts=attempts), history)

    assert len(set(done.tried)) == len(done.tried)
    assert point_search.points_tried(done.record) == len(done.tried)
    good = [place for place in done.tried if history[place] == GOOD]
    assert done.winner == min(good, default=None)
    faults = sum(attempts for place in done.tried if history[place] == MOUNT_FAILS)
    others = sum(history[place] != MOUNT_FAILS for place in done.tried)
    assert done.attempts == faults + others
    if order is Order.BISECT:
        assert len(done.tried) <= bound(len(history))


@given(st.lists(FATES, min_size=1, max_size=80))
def test_linear_tries_from_the_newest_back(history: list[str]) -> None:
    """It stops at the first good one, and where nobody can know any more; it leaves none out."""
    done = played(planned(len(history)), history)

    assert done.tried == list(range(len(done.tried)))
    last = history[done.tried[-1]]
    assert last in {GOOD, UNKNOWN} or len(done.tried) == len(history)
    assert all(history[place] in BAD for place in done.tried[:-1])


def test_among_64_points_bisect_tries_7_at_most_and_sometimes_does() -> None:
    """The bound is reached, and it is 7, over every monotone history of 64 points."""
    counts = {
        len(played(planned(64, Order.BISECT), [CHECKS_FAIL] * bad + [GOOD] * (64 - bad)).tried)
        for bad in range(65)
    }

    assert max(counts) == bound(64) == 7
    assert min(counts) == 1, "the newest is good: nothing else is looked at"


@pytest.mark.parametrize("count", range(1, 40))
def test_the_bound_of_bisect_is_the_true_one(count: int) -> None:
    """One for the newest, and the binary logarithm of the number of points, rounded up."""
    most = max(
        len(
            played(planned(count, Order.BISECT), [MOUNT_FAILS] * bad + [GOOD] * (count - bad)).tried
        )
        for bad in range(count + 1)
    )

    assert most == bound(count)


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize(
    ("on", "fate"),
    [
        (Cause.MOUNT_FAILED, CHECKS_FAIL),
        (Cause.CHECK_FAILED, MOUNT_FAILS),
        (Cause.CHECK_FAILED, REFUSED),
    ],
)
def test_a_cause_that_the_plan_does_not_name_ends_the_search(
    order: Order, on: Cause, fate: str
) -> None:
    """No other point is tried for it."""
    done = played(planned(5, order, on=(on,)), [fate, GOOD, GOOD, GOOD, GOOD])

    assert done.tried == [0]
    assert not point_search.is_unfinished(done.record)


def test_an_unknown_fate_ends_the_search_and_what_was_proven_stands() -> None:
    """Nothing newer is tried after it; the good point found before is the answer."""
    history = [CHECKS_FAIL, CHECKS_FAIL, UNKNOWN, CHECKS_FAIL, GOOD, GOOD, GOOD, GOOD]

    done = played(planned(8, Order.BISECT), history)

    assert done.tried == [0, 4, 2]
    assert (done.winner, done.record.phase) == (4, Phase.OUT_OF_REACH)
    assert point_search.about(done.record) == "p04"
    assert "not finished" in point_search.found_how(done.record)


def test_attempts_count_per_point() -> None:
    """Each point may fail as often as the plan allows before the next one is tried."""
    record = attempted(planned(2, attempts=2), MOUNT_FAILS)
    assert not point_search.is_settled(record)
    assert point_search.next_point(record) is None

    record = attempted(record, MOUNT_FAILS)
    following = point_search.next_point(record)
    assert following is not None
    record = attempted(chosen(record, following), MOUNT_FAILS)

    assert point_search.faults_of_point(record) == 1
    assert not point_search.is_settled(record)


@pytest.mark.parametrize("refusal", [{"busy": True}, {"proved_absent": True}])
def test_the_servers_trouble_settles_no_point(refusal: dict[str, bool]) -> None:
    """A server that is busy, or a POST that never began, says nothing about the point."""
    record = planned(2, attempts=1)
    for _ in range(5):
        record = apply(
            _begun(record), SubmissionRefused(at=0.0, key=KEY, reason="later", **refusal)
        )

    assert not point_search.is_settled(record)
    assert point_search.next_point(record) is None


def test_a_mount_that_took_too_long_is_a_failure_of_its_point() -> None:
    """Whether it failed in the end or came too late: no further attempt, another point."""
    for comes in (False, True):
        record = apply(_begun(planned(2, attempts=3)), TaskAccepted(at=0.0, key=KEY, task=TASK))
        record = apply(record, DeadlinePassed(at=0.0, key=KEY, phase="mount", allowed_s=1.0))
        if comes:
            record = mounted(record)
            record = released(apply(record, VerdictReached(at=0.0, key=KEY, result=Result.FAILED)))
        else:
            record = apply(record, TaskFailed(at=0.0, key=KEY, task=TASK))

        assert point_search.is_settled(record)
        assert point_search.next_point(record) is not None
        only_checks = replace(
            record,
            planned=replace(
                record.planned, search=replace(record.planned.search, on=(Cause.CHECK_FAILED,))
            ),
        )
        assert point_search.next_point(only_checks) is None


def test_checks_that_took_too_long_are_failed_checks() -> None:
    """They were not all made, so they have failed."""
    record = apply(_begun(planned(2)), TaskAccepted(at=0.0, key=KEY, task=TASK))
    record = apply(mounted(record), DeadlinePassed(at=0.0, key=KEY, phase="checks", allowed_s=1.0))
    record = released(apply(record, VerdictReached(at=0.0, key=KEY, result=Result.FAILED)))

    assert point_search.next_point(record) is not None
    only_mounts = replace(record.planned.search, on=(Cause.MOUNT_FAILED,))
    record = replace(record, planned=replace(record.planned, search=only_mounts))
    assert point_search.next_point(record) is None


@pytest.mark.parametrize("fate", [Fate.FAILED, Fate.UNKNOWN])
@pytest.mark.parametrize("order", Order)
def test_a_file_that_was_not_copied_leads_to_no_other_point(order: Order, fate: Fate) -> None:
    """It says nothing about the point, and nothing is written into a guest a second time."""
    ask = Download(path="C:/x", to=None)
    record = apply(
        _begun(planned(3, order, downloads=(ask,))), TaskAccepted(at=0.0, key=KEY, task=TASK)
    )
    made = CheckOutcome(name="files", path="C:/x", expected="it", observed="it", passed=True)
    record = apply(mounted(record), CheckMade(at=0.0, key=KEY, outcome=made))
    copied = DownloadOutcome(path="C:/x", to=None, fate=fate)
    record = apply(record, FileCopied(at=0.0, key=KEY, outcome=copied))
    record = released(apply(record, VerdictReached(at=0.0, key=KEY, result=Result.FAILED)))

    assert point_search.is_settled(record)
    assert point_search.next_point(record) is None


def test_where_files_are_copied_the_order_is_linear() -> None:
    """Bisection would copy them from every good point that it comes across."""
    ask = Download(path="C:/x", to="/tmp/x")

    done = played(planned(9, Order.BISECT, downloads=(ask,)), [CHECKS_FAIL] * 3 + [GOOD] * 6)

    assert done.tried == [0, 1, 2, 3]
    assert "assuming" not in point_search.found_how(done.record)


def test_the_words_say_what_was_assumed_and_how_many_were_tried() -> None:
    """A reader of the report can tell a proof from an inference."""
    done = played(planned(64, Order.BISECT), [CHECKS_FAIL] * 20 + [GOOD] * 44)

    assert point_search.found_how(done.record) == (
        "newest passing of 64 points (7 tried) by bisection, "
        "assuming that every point before a good one is good"
    )
    one = played(planned(64, Order.BISECT), [GOOD] * 64)
    assert point_search.found_how(one.record) == "latest"
    older = played(planned(3), [CHECKS_FAIL, REFUSED, GOOD])
    assert (
        point_search.found_how(older.record)
        == "latest, fallback: 2 newer points tried and not good"
    )


def test_nothing_follows_a_mount_that_may_be_open() -> None:
    """A failed check whose mount cannot be removed: no other point is mounted beside it."""
    record = apply(_begun(planned(3)), TaskAccepted(at=0.0, key=KEY, task=TASK))
    record = apply(
        judged(mounted(record), good=False), UnmountStarted(at=0.0, key=KEY, mount=MOUNT)
    )
    record = apply(record, OutOfReach(at=0.0, key=KEY, reason="lost"))

    assert point_search.next_point(record) is None
    assert point_search.is_unfinished(record)


def test_a_target_taken_up_again_is_searched_anew() -> None:
    """Attempts and points of before do not count; the first choice is tried first."""
    done = played(planned(3, attempts=1), [MOUNT_FAILS] * 3)
    record = apply(
        done.record,
        TargetConcluded(at=0.0, key=KEY, result=Result.FAILED, mount=MountState.NONE),
    )
    record = apply(record, TargetReopened(at=0.0, key=KEY, was=Result.FAILED))

    again = played(record, [CHECKS_FAIL, GOOD, GOOD])

    assert (again.tried, again.winner) == ([0, 1], 1)
    assert point_search.points_tried(again.record) == 2
    assert len(again.record.attempts) == 5


def test_the_points_ahead_are_few_until_one_was_bad() -> None:
    """A first point is mostly good. After bad ones bisection goes on, the line as far again."""
    for order, ahead in ((Order.BISECT, [1, 6, 5]), (Order.LINEAR, [1, 1, 2])):
        record = planned(64, order)
        seen = [point_search.points_ahead(record)]
        while len(seen) < len(ahead):
            record = attempted(record, CHECKS_FAIL)
            following = point_search.next_point(record)
            assert following is not None
            record = chosen(record, following)
            seen.append(point_search.points_ahead(record))

        assert seen == ahead
