"""The transition table: what random sequences of events may claim, and what they may not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.core import events
from orchestrator.core.activity import Activity, ActivityKind
from orchestrator.core.errors import IllegalTransition
from orchestrator.core.events import (
    CheckMade,
    DeadlinePassed,
    FileCopied,
    MachineBusy,
    MachineFree,
    MountFound,
    MountKept,
    MountLeft,
    MountReleased,
    NothingReadable,
    OrphanEnded,
    OutOfReach,
    PointChosen,
    SubmissionInDoubt,
    SubmissionNotSent,
    SubmissionRefused,
    SubmissionStarted,
    SystemFound,
    TargetConcluded,
    TargetEvent,
    TargetPlanned,
    TargetReopened,
    TaskAccepted,
    TaskFailed,
    TaskObserved,
    TaskStopAsked,
    TaskStopSeen,
    TaskSucceeded,
    UnmountStarted,
    VerdictReached,
)
from orchestrator.core.lifecycle import (
    FIRM_RESULTS,
    HOLDING_PHASES,
    TRANSITIONS,
    MountRecord,
    Phase,
    apply,
    begin,
)
from orchestrator.core.model import (
    BackupServerName,
    Href,
    MountKey,
    MountState,
    OsKind,
    OsSource,
    RestorePoint,
    RestorePointId,
    Result,
    Search,
    ServerName,
    SessionId,
    TaskId,
    TaskState,
    WaveName,
)
from orchestrator.core.proof import CheckOutcome, DownloadOutcome, Fate
from orchestrator.core.stops import StopSeen

KEY, TASK, MOUNT = MountKey("w/hq/dc01"), TaskId("task-1"), Href("/mounts/1")
FIRM = sorted(FIRM_RESULTS)
CLOSED = {MountState.NONE, MountState.RELEASED}
POINTS = tuple(
    RestorePoint(
        id=RestorePointId(name), name=name, vm="dc01", created_at=datetime(2026, 1, day, tzinfo=UTC)
    )
    for name, day in (("p", 2), ("q", 1))
)
WORKING = Activity(
    id="g",
    kind=ActivityKind.REPLICATION,
    name="dc01@x",
    vm="dc01",
    backup_server=BackupServerName("vbr"),
    began_at=datetime(2026, 1, 3, tzinfo=UTC),
)
GOOD_CHECK = CheckOutcome(name="boot", path="C:", expected="exists", observed="so", passed=True)
PLANNED = TargetPlanned(
    at=1.0,
    key=KEY,
    wave=WaveName("w"),
    server=ServerName("hq"),
    label="dc01",
    os_kind=OsKind.WINDOWS,
    point=POINTS[0],
    search=Search(candidates=POINTS),
)
CHECKED = replace(PLANNED, checks=("boot",))
OPEN = replace(PLANNED, os_source=OsSource.ASSUMED)

SMOOTH = (
    SubmissionStarted,
    TaskAccepted,
    TaskSucceeded,
    MountFound,
    VerdictReached,
    UnmountStarted,
    MountReleased,
)
SMOOTH_CHECKED = (*SMOOTH[:4], CheckMade, *SMOOTH[4:])
EXTRA: dict[type[TargetEvent], dict[str, st.SearchStrategy[Any]]] = {
    SubmissionStarted: {
        "attempt": st.integers(1, 9),
        "session": st.just(SessionId("s")),
        "point": st.sampled_from([point.id for point in POINTS]),
    },
    MachineBusy: {
        "activity": st.just(WORKING),
        "seen_at": st.just(1.0),
        "excused": st.booleans(),
    },
    MachineFree: {"seen_at": st.sampled_from([None, 2.0])},
    OrphanEnded: {"seen_at": st.just(2.0)},
    SubmissionNotSent: {"reason": st.just("no route")},
    SubmissionRefused: {"reason": st.just("busy"), "proved_absent": st.booleans()},
    SubmissionInDoubt: {"reason": st.just("reset")},
    TaskAccepted: {"task": st.just(TASK), "adopted": st.booleans()},
    TaskObserved: {"task": st.just(TASK), "state": st.sampled_from(TaskState)},
    DeadlinePassed: {"phase": st.just("mount"), "allowed_s": st.just(60.0)},
    TaskStopAsked: {"task": st.just(TASK)},
    TaskStopSeen: {"task": st.just(TASK), "seen": st.sampled_from(StopSeen)},
    TaskSucceeded: {"task": st.just(TASK), "mount": st.sampled_from([MOUNT, None])},
    TaskFailed: {"task": st.just(TASK)},
    MountFound: {"mount": st.just(MOUNT), "roots": st.sampled_from([("C:",), ("/", "/v"), ()])},
    NothingReadable: {"os_kind": st.sampled_from(OsKind)},
    SystemFound: {
        "os_kind": st.sampled_from(OsKind),
        "server": st.just(ServerName("hq")),
        "vm": st.just("dc01"),
    },
    CheckMade: {"outcome": st.sampled_from([GOOD_CHECK, replace(GOOD_CHECK, passed=False)])},
    FileCopied: {
        "outcome": st.sampled_from(Fate).map(
            lambda fate: DownloadOutcome(path="C:/a", to="/a", fate=fate)
        )
    },
    VerdictReached: {"result": st.sampled_from(FIRM) | st.sampled_from(Result)},
    MountKept: {"reason": st.just("asked"), "until": st.sampled_from([None, 60.0])},
    UnmountStarted: {"mount": st.just(MOUNT)},
    MountReleased: {"by_hand": st.booleans()},
    MountLeft: {"mount": st.just(MOUNT), "reason": st.just("in use")},
    OutOfReach: {"reason": st.just("session lost")},
    PointChosen: {"point": st.sampled_from(POINTS), "why": st.just("older")},
    TargetConcluded: {
        "result": st.sampled_from(Result),
        "mount": st.sampled_from(MountState),
        "point": st.sampled_from([None, *(point.id for point in POINTS)]),
    },
    TargetReopened: {"was": st.sampled_from(Result)},
}


BEGINNINGS = st.sampled_from([(PLANNED, SMOOTH), (CHECKED, SMOOTH_CHECKED), (OPEN, SMOOTH)])
PAUSES = st.sampled_from([0.0, 1.0, 2.5])
KINDS = {
    phase: st.sampled_from(list(likely)) | st.sampled_from(list(EXTRA))
    for phase, likely in TRANSITIONS.items()
}
"""What may happen next, half of it what the table names; made once, for that is slow."""


def drawn(draw: Callable[[st.SearchStrategy[Any]], Any], kind: type[TargetEvent], at: float) -> Any:
    """Return any event of the class."""
    return kind(at=at, key=KEY, **{name: draw(value) for name, value in EXTRA[kind].items()})


def true_to(record: MountRecord, event: TargetEvent) -> TargetEvent:
    """Return the event, or if it names a result, with the one that the record bears out."""
    if isinstance(event, SubmissionStarted) and record.point is not None:
        return replace(event, point=record.point.id)
    if isinstance(event, VerdictReached) and record.planned.checks:
        return replace(event, result=Result.VERIFIED)
    if isinstance(event, TargetConcluded) and record.verdict is not None:
        return replace(event, result=record.verdict, mount=record.mount_state, point=None)
    if isinstance(event, TargetReopened) and record.result is not None:
        return replace(event, was=record.result)
    return event


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[TargetEvent, MountRecord]]:
    """Draw a sequence of events that the table allowed, each with the record after it.

    Each begins like a smooth mount, for a while. What the table forbids is tried as
    well, and must be refused.
    """
    planned, way = draw(BEGINNINGS)
    record, lived = begin(planned), list[tuple[TargetEvent, MountRecord]]()
    at = PLANNED.at
    smooth = list(way[: draw(st.integers(0, len(way)))])
    for _step in range(draw(st.integers(1, 30))):
        at += draw(PAUSES)
        likely = TRANSITIONS[record.phase]
        kind = smooth.pop(0) if smooth else draw(KINDS[record.phase])
        event = drawn(draw, kind, at)
        if draw(st.booleans()):
            event = true_to(record, event)
        try:
            record = apply(record, event)
        except IllegalTransition:
            continue
        assert kind in likely, f"{kind.__name__} was taken in a phase that does not name it"
        lived.append((event, record))
    return lived


def on_the_server(happened: Sequence[TargetEvent]) -> str:
    """Tell from first principles what may be mounted after these events: no, maybe, or yes."""
    mounted = "no"
    for event in happened:
        match event:
            case SubmissionStarted() | OutOfReach():
                mounted = "maybe"
            case SubmissionNotSent() | SubmissionRefused() | TaskFailed() | MountReleased():
                mounted = "no"
            case OrphanEnded():
                mounted = "no"
            case TaskSucceeded() | MountFound() | MountLeft():
                mounted = "yes"
            case _:
                pass
    return mounted


@given(lives())
@settings(max_examples=200, deadline=None)
def test_whatever_may_be_mounted_is_said_to_be_open_and_holds_its_slot(
    lived: list[tuple[TargetEvent, MountRecord]],
) -> None:
    """No silent leftovers: while a mount may exist, the record says so and the slot is not free."""
    happened: list[TargetEvent] = []
    for event, record in lived:
        happened.append(event)
        mounted = on_the_server(happened)
        if mounted != "no":
            known = MountState.LEFT if mounted == "yes" else MountState.UNKNOWN
            if any(isinstance(each, MountKept) for each in happened[_last_start(happened) :]):
                known = record.mount_state
            assert record.may_be_open
            assert record.is_final or record.mount_state is known
            assert record.phase is not Phase.QUEUED
        else:
            assert record.phase not in HOLDING_PHASES
            assert record.is_final or not record.may_be_open


def _last_start(happened: Sequence[TargetEvent]) -> int:
    """Return where the newest attempt begins."""
    starts = [n for n, event in enumerate(happened) if isinstance(event, SubmissionStarted)]
    return max(starts, default=0)


@given(lives())
@settings(max_examples=200, deadline=None)
def test_success_is_said_only_of_what_was_proved(
    lived: list[tuple[TargetEvent, MountRecord]],
) -> None:
    """Verified and mounted need, in the last attempt at the point that the conclusion names: the
    mount, a readable volume, the verdict.
    """
    happened = [event for event, _record in lived]
    concluded = [event for event in happened if isinstance(event, TargetConcluded)]
    for conclusion in concluded:
        if conclusion.result not in FIRM_RESULTS:
            continue
        attempt = _last_attempt(happened[: happened.index(conclusion)], conclusion.point)
        found = next(n for n, event in enumerate(attempt) if isinstance(event, MountFound))
        assert not any(isinstance(event, NothingReadable) for event in attempt)
        verdicts = [n for n, event in enumerate(attempt) if isinstance(event, VerdictReached)]
        proof, verdict = attempt[found], attempt[verdicts[-1]]
        assert isinstance(proof, MountFound)
        assert proof.roots
        assert isinstance(verdict, VerdictReached)
        assert verdict.result is conclusion.result
        assert found < verdicts[-1]
        assert not any(isinstance(event, TaskFailed | SubmissionRefused) for event in attempt)


def _last_attempt(
    happened: Sequence[TargetEvent], point: RestorePointId | None
) -> Sequence[TargetEvent]:
    """Return the events of the last attempt, or of the last one at `point`."""
    starts = [(n, e) for n, e in enumerate(happened) if isinstance(e, SubmissionStarted)]
    begin_at = [n for n, event in starts if point is None or event.point == point][-1]
    after = [n for n, _event in starts if n > begin_at]
    return happened[begin_at : after[0] if after else len(happened)]


LEARNT: Mapping[type[TargetEvent], MountState] = {
    MountReleased: MountState.RELEASED,
    MountLeft: MountState.LEFT,
    OutOfReach: MountState.UNKNOWN,
}
"""What may become known of a mount after the conclusion."""


@given(lives())
@settings(max_examples=100, deadline=None)
def test_a_conclusion_is_the_last_word(lived: list[tuple[TargetEvent, MountRecord]]) -> None:
    """A result stays; of the mount more may be learnt; only a resume takes up what is not good."""
    for (_before, earlier), (event, later) in pairwise(lived):
        assert earlier.is_final == (earlier.phase is Phase.DONE)
        if isinstance(event, TargetReopened):
            assert earlier.result not in FIRM_RESULTS
            assert not earlier.may_be_open
            assert (later.result, later.verdict, later.concluded_at) == (None, None, None)
        elif earlier.is_final:
            assert later.mount_state is LEARNT[type(event)]
            assert (later.phase, later.result, later.verdict, later.concluded_at) == (
                earlier.phase,
                earlier.result,
                earlier.verdict,
                earlier.concluded_at,
            )
    concluded = sum(isinstance(event, TargetConcluded) for event, _record in lived)
    assert concluded <= 1 + sum(isinstance(event, TargetReopened) for event, _record in lived)


@given(lives())
@settings(max_examples=100, deadline=None)
def test_attempts_and_times_add_up(lived: list[tuple[TargetEvent, MountRecord]]) -> None:
    """Each submission is one attempt, none follows an open doubt, and no second is lost."""
    started, reopened = 0, False
    for event, record in lived:
        started += isinstance(event, SubmissionStarted)
        reopened = reopened or isinstance(event, TargetReopened)
        assert len(record.attempts) == started
        assert reopened or all(a.outcome != "unknown" for a in record.attempts[:-1])
        assert record.ever_submitted == any(a.outcome != "not_sent" for a in record.attempts)
        assert sum(record.phases_s.values()) == pytest.approx(record.since - PLANNED.at)
        assert record.since <= event.at


@given(lives(), st.data())
@settings(max_examples=100, deadline=None)
def test_no_target_can_get_stuck(
    lived: list[tuple[TargetEvent, MountRecord]], data: st.DataObject
) -> None:
    """From wherever a life stands, the honest way to its conclusion is open."""
    record = lived[-1][1] if lived else begin(PLANNED)
    if record.is_final:
        return
    at = 1e6
    if record.phase is Phase.SUBMITTING:
        record = apply(record, drawn(data.draw, SubmissionInDoubt, at))
    if record.phase in HOLDING_PHASES:
        record = apply(record, drawn(data.draw, OutOfReach, at))

    result = record.verdict or (Result.UNKNOWN if record.may_be_open else Result.FAILED)
    if record.may_be_open and result in {Result.SKIPPED, Result.CANCELLED}:
        result = Result.UNKNOWN
    end = TargetConcluded(at=at, key=KEY, result=result, mount=record.mount_state)

    assert apply(record, end).is_final


# --- the table itself -----------------------------------------------------------------------


def test_every_event_about_a_target_has_its_place() -> None:
    """A new kind of event must be allowed somewhere, and drawn in these tests."""
    kinds = {
        found
        for found in vars(events).values()
        if isinstance(found, type)
        and issubclass(found, TargetEvent)
        and found not in {TargetEvent, TargetPlanned}
    }

    assert kinds == {kind for allowed in TRANSITIONS.values() for kind in allowed}
    assert kinds == set(EXTRA)


def test_every_phase_can_be_reached_and_left() -> None:
    """The table has no dead rows: all phases lie on a way from queued to done."""
    reached, ends = {Phase.QUEUED}, {Phase.DONE}
    for _round in Phase:
        reached |= {after for phase in reached for after in TRANSITIONS[phase].values()}
        ends |= {phase for phase in Phase if ends & set(TRANSITIONS[phase].values())}

    assert set(TRANSITIONS) == set(Phase) == reached == ends


def test_a_holding_phase_is_left_only_by_certainty_or_by_giving_up() -> None:
    """Nothing ends the hold on a slot but a proof that nothing is mounted, or out of reach."""
    leaving = {
        (phase, kind, after)
        for phase in HOLDING_PHASES
        for kind, after in TRANSITIONS[phase].items()
        if after not in HOLDING_PHASES and kind is not OutOfReach
    }

    assert leaving == {
        (Phase.SUBMITTING, SubmissionNotSent, Phase.QUEUED),
        (Phase.SUBMITTING, SubmissionRefused, Phase.QUEUED),
        (Phase.IN_DOUBT, SubmissionRefused, Phase.QUEUED),
        (Phase.RUNNING, TaskFailed, Phase.QUEUED),
        (Phase.UNMOUNTING, MountReleased, Phase.QUEUED),
        (Phase.UNMOUNTING, MountLeft, Phase.OUT_OF_REACH),
    }


@pytest.mark.parametrize("result", FIRM)
def test_what_is_good_is_never_mounted_again(result: Result) -> None:
    """A resume cannot take a proven result away."""
    record = lived_through(*SMOOTH, result=result)
    record = concluded(record, result, MountState.RELEASED)

    with pytest.raises(IllegalTransition, match="reopened"):
        apply(record, TargetReopened(at=4.0, key=KEY, was=result))


def test_what_may_be_mounted_is_never_mounted_again() -> None:
    """Only a release makes a target of unknown outcome free to be tried once more."""
    record = lived_through(SubmissionStarted, SubmissionInDoubt, OutOfReach)
    record = concluded(record, Result.UNKNOWN, MountState.UNKNOWN)
    again = TargetReopened(at=4.0, key=KEY, was=Result.UNKNOWN)

    with pytest.raises(IllegalTransition, match="may be open"):
        apply(record, again)
    record = apply(record, MountReleased(at=4.0, key=KEY))

    assert apply(record, again).phase is Phase.QUEUED


# --- claims ---------------------------------------------------------------------------------


def checked(kinds: Sequence[type[TargetEvent]]) -> list[type[TargetEvent]]:
    """Return the classes with a check made before each verdict."""
    return [
        each
        for kind in kinds
        for each in ((CheckMade, kind) if kind is VerdictReached else (kind,))
    ]


def lived_through(*kinds: type[TargetEvent], **fields: Any) -> MountRecord:
    """Return the record after events of these classes; `fields` go to those that have them."""
    record = begin(CHECKED if fields.get("result") is Result.VERIFIED else PLANNED)
    for kind in checked(kinds) if record.planned.checks else kinds:
        record = apply(record, kind(at=2.0, key=KEY, **usual(kind, **fields)))
    return record


def usual(kind: type[TargetEvent], **fields: Any) -> dict[str, Any]:
    """Return what an event of this class says, with `fields` where it has them."""
    everything: dict[str, Any] = {
        "attempt": 1, "session": "s", "point": "p", "reason": "r", "task": TASK, "mount": MOUNT,
        "roots": ("/",), "result": Result.MOUNTED, "outcome": GOOD_CHECK,
        "phase": "mount", "allowed_s": 1.0,
    }  # fmt: skip
    said = everything | fields
    return {name: value for name, value in said.items() if name in EXTRA[kind]}


TO_A_MOUNT = SMOOTH[:4]


def concluded(record: MountRecord, result: Result, mount: MountState) -> MountRecord:
    """Return the record after such a conclusion."""
    return apply(record, TargetConcluded(at=3.0, key=KEY, result=result, mount=mount))


@pytest.mark.parametrize("result", FIRM)
def test_no_verdict_of_success_without_a_readable_volume(result: Result) -> None:
    """A mount that shows nothing proves nothing."""
    with pytest.raises(IllegalTransition, match="without one readable volume"):
        lived_through(*TO_A_MOUNT, VerdictReached, roots=(), result=result)


@pytest.mark.parametrize("claimed", sorted(CLOSED))
@pytest.mark.parametrize("way", [OutOfReach, MountLeft])
def test_a_mount_that_may_be_open_is_not_concluded_as_closed(
    way: type[TargetEvent], claimed: MountState
) -> None:
    """Only a confirmed release lets a conclusion say that nothing is left."""
    record = lived_through(*TO_A_MOUNT, VerdictReached, UnmountStarted, way)

    with pytest.raises(IllegalTransition, match="may be open"):
        concluded(record, Result.MOUNTED, claimed)
    honest = concluded(record, Result.MOUNTED, record.mount_state)

    assert (honest.result, honest.may_be_open) == (Result.MOUNTED, True)


@pytest.mark.parametrize("result", [Result.SKIPPED, Result.CANCELLED])
def test_what_is_in_doubt_is_not_called_never_submitted(result: Result) -> None:
    """Skipped and cancelled mean that nothing was begun."""
    record = lived_through(SubmissionStarted, SubmissionInDoubt, OutOfReach)

    with pytest.raises(IllegalTransition, match="in doubt"):
        concluded(record, result, MountState.UNKNOWN)


@pytest.mark.parametrize("result", FIRM)
def test_an_earlier_attempt_proves_nothing_for_a_later_one(result: Result) -> None:
    """A verdict is forgotten as soon as the machine is mounted anew."""
    once = (*TO_A_MOUNT, VerdictReached, UnmountStarted, MountReleased)
    again = lived_through(*once, SubmissionStarted, TaskAccepted, TaskFailed, result=result)

    with pytest.raises(IllegalTransition, match="the verdict is None"):
        concluded(again, result, MountState.RELEASED)
    assert (again.mount_state, again.roots) == (MountState.RELEASED, ())


# --- checks and other points ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planned", "extra", "result", "why"),
    [
        (CHECKED, (), Result.VERIFIED, "before every check was made"),
        (CHECKED, (GOOD_CHECK,), Result.MOUNTED, "with checks that were asked for"),
        (CHECKED, (replace(GOOD_CHECK, passed=False),), Result.VERIFIED, "a check that failed"),
        (CHECKED, (replace(GOOD_CHECK, name="other"),), Result.VERIFIED, "before every check"),
        (PLANNED, (), Result.VERIFIED, "without a check"),
        (PLANNED, (DownloadOutcome(path="a", to="/a", fate=Fate.FAILED),), Result.MOUNTED, "file"),
        (PLANNED, (DownloadOutcome(path="a", to=None, fate=Fate.UNKNOWN),), Result.MOUNTED, "file"),
    ],
)
def test_no_verdict_claims_more_than_its_checks_and_files(
    planned: TargetPlanned,
    extra: Sequence[CheckOutcome | DownloadOutcome],
    result: Result,
    why: str,
) -> None:
    """Verified is every check that was asked for, made and passed; a missing file is not good."""
    record = begin(planned)
    for kind in TO_A_MOUNT:
        record = apply(record, kind(at=2.0, key=KEY, **usual(kind)))
    for each in extra:
        if isinstance(each, CheckOutcome):
            record = apply(record, CheckMade(at=2.0, key=KEY, outcome=each))
        else:
            record = apply(record, FileCopied(at=2.0, key=KEY, outcome=each))

    with pytest.raises(IllegalTransition, match=why):
        apply(record, VerdictReached(at=2.0, key=KEY, result=result))


def test_only_the_chosen_point_is_mounted_and_only_a_tried_one_is_concluded() -> None:
    """What is asked for is what was chosen, and a result names the point that it is about."""
    good = lived_through(*SMOOTH, result=Result.MOUNTED)
    chosen = apply(good, PointChosen(at=3.0, key=KEY, point=POINTS[1], why="by halves"))
    p, q = (point.id for point in POINTS)
    wrong = SubmissionStarted(at=3.0, key=KEY, attempt=2, session=SessionId("s"), point=p)

    with pytest.raises(IllegalTransition, match="not chosen"):
        apply(chosen, wrong)
    untried = TargetConcluded(
        at=3.0, key=KEY, result=Result.MOUNTED, mount=MountState.RELEASED, point=q
    )
    with pytest.raises(IllegalTransition, match="the verdict is None"):
        apply(chosen, untried)
    after = apply(chosen, replace(untried, point=p))

    assert (after.result, after.point) == (Result.MOUNTED, POINTS[0])


def running(*more: TargetEvent, adopted: bool = False) -> MountRecord:
    """Return the record of a target whose task runs, after these events."""
    record = begin(PLANNED)
    begun: tuple[TargetEvent, ...] = (
        SubmissionStarted(at=2.0, key=KEY, attempt=1, session=SessionId("s"), point=POINTS[0].id),
        TaskAccepted(at=3.0, key=KEY, task=TASK, adopted=adopted),
    )
    for event in (*begun, *more):
        record = apply(record, event)
    return record


ASKED = TaskStopAsked(at=4.0, key=KEY, task=TASK)


def test_a_task_is_asked_to_stop_once() -> None:
    """Whoever goes on with a target cannot even record a second request."""
    with pytest.raises(IllegalTransition, match="asked to stop before"):
        running(ASKED, ASKED)


def test_a_task_that_may_be_another_target_s_is_never_asked_to_stop() -> None:
    """One that was found after a lost answer names no restore point while it runs."""
    with pytest.raises(IllegalTransition, match="another target's"):
        running(ASKED, adopted=True)
    with pytest.raises(IllegalTransition, match="another target's"):
        running(replace(ASKED, task=TaskId("task-2")))


def test_what_is_seen_of_a_stop_changes_nothing_but_what_is_known_of_it() -> None:
    """No answer, and no task that is gone, says that nothing is mounted: the slot is held on."""
    seen = (StopSeen.ACCEPTED, StopSeen.GOES_ON, StopSeen.VANISHED)
    events = [
        TaskStopSeen(at=5.0 + n, key=KEY, task=TASK, seen=each) for n, each in enumerate(seen)
    ]
    after = running(ASKED, *events)

    stop = after.attempts[-1].stop
    assert stop is not None
    assert (stop.answer, stop.answered_at, stop.seen) == (StopSeen.ACCEPTED, 5.0, StopSeen.VANISHED)
    assert (after.phase, after.mount_state) == (Phase.RUNNING, MountState.UNKNOWN)
    with pytest.raises(IllegalTransition, match="was not asked to stop"):
        running(*events)
