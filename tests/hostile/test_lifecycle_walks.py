"""Long random walks over the transition table, judged by a second opinion of what they prove."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

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

KEY, TASK, MOUNT = MountKey("w/hq/dc01"), TaskId("task-1"), Href("/api/x/mounts/1")
GOOD = {Result.VERIFIED, Result.MOUNTED}
UNTOUCHED = {Result.SKIPPED, Result.CANCELLED}
GONE = {MountState.NONE, MountState.RELEASED}
POINTS = tuple(
    RestorePoint(
        id=RestorePointId(name), name=name, vm="dc01", created_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    for name in ("p", "q")
)
WORKING = Activity(
    id="g",
    kind=ActivityKind.REPLICATION,
    name="dc01@x",
    vm="dc01",
    backup_server=BackupServerName("vbr"),
    began_at=datetime(2026, 1, 1, tzinfo=UTC),
)
PLANNED = TargetPlanned(
    at=0.0,
    key=KEY,
    wave=WaveName("w"),
    server=ServerName("hq"),
    label="dc01",
    os_kind=OsKind.WINDOWS,
    point=POINTS[0],
    search=Search(candidates=POINTS),
)
CHECKED = replace(PLANNED, checks=("boot",))
FIRST = (
    PLANNED,
    CHECKED,
    replace(PLANNED, os_source=OsSource.ASSUMED),
    replace(CHECKED, os_source=OsSource.EARLIER_RUN),
)
Chosen = Callable[[random.Random], dict[str, Any]]
WHY: dict[str, Any] = {"reason": "so"}

FIELDS: Mapping[type[TargetEvent], Chosen] = {
    SubmissionStarted: lambda rng: {
        "attempt": rng.randint(1, 3),
        "session": SessionId("s"),
        "point": rng.choice(POINTS).id,
    },
    MachineBusy: lambda rng: {"activity": WORKING, "seen_at": 0.5, "excused": rng.random() < 0.5},
    MachineFree: lambda rng: {"seen_at": rng.choice([None, 0.5])},
    OrphanEnded: lambda _: {"seen_at": 0.5},
    SubmissionNotSent: lambda _: WHY,
    SubmissionRefused: lambda rng: WHY | {"proved_absent": rng.random() < 0.5},
    SubmissionInDoubt: lambda _: WHY,
    TaskAccepted: lambda rng: {"task": TASK, "adopted": rng.random() < 0.5},
    TaskObserved: lambda rng: {"task": TASK, "state": rng.choice(list(TaskState))},
    DeadlinePassed: lambda _: {"phase": "mount", "allowed_s": 1.0},
    TaskStopAsked: lambda _: {"task": TASK},
    TaskStopSeen: lambda rng: {"task": TASK, "seen": rng.choice(list(StopSeen))},
    TaskSucceeded: lambda rng: {"task": TASK, "mount": rng.choice([MOUNT, None])},
    TaskFailed: lambda _: {"task": TASK},
    MountFound: lambda rng: {"mount": MOUNT, "roots": rng.choice([(), ("C:",), ("/", "/v")])},
    CheckMade: lambda rng: {"outcome": outcome(rng)},
    FileCopied: lambda rng: {"outcome": copied(rng)},
    MountKept: lambda rng: WHY | {"until": rng.choice([None, 60.0])},
    NothingReadable: lambda rng: {"os_kind": rng.choice(list(OsKind))},
    SystemFound: lambda rng: {"os_kind": rng.choice(list(OsKind)), "server": "hq", "vm": "dc01"},
    PointChosen: lambda rng: {"point": rng.choice(POINTS), "why": "older"},
    VerdictReached: lambda rng: {"result": rng.choice(list(Result))},
    UnmountStarted: lambda _: {"mount": MOUNT},
    MountReleased: lambda _: {"by_hand": False},
    MountLeft: lambda _: {"mount": MOUNT, "reason": "in use"},
    OutOfReach: lambda rng: WHY | {"lost": rng.random() < 0.5},
    TargetConcluded: lambda rng: {
        "result": rng.choice(list(Result)),
        "mount": rng.choice(list(MountState)),
        "point": rng.choice([None, *(point.id for point in POINTS)]),
    },
    TargetReopened: lambda rng: {"was": rng.choice(list(Result))},
}


def outcome(rng: random.Random) -> CheckOutcome:
    """Return an assertion that mostly holds."""
    good = rng.random() < 0.8
    return CheckOutcome(name="boot", path="C:", expected="exists", observed="so", passed=good)


def copied(rng: random.Random) -> DownloadOutcome:
    """Return a file's fate, mostly a good one."""
    fate = rng.choice([Fate.SAVED, Fate.SAVED, Fate.RESTORED, Fate.FAILED, Fate.UNKNOWN])
    return DownloadOutcome(path="C:/a", to="/a", fate=fate)


WEIGHTS: Mapping[type[TargetEvent], int] = {
    MachineBusy: 1,
    OrphanEnded: 1,
    PointChosen: 2,
    FileCopied: 1,
    MountKept: 3,
    DeadlinePassed: 1,
    TaskStopAsked: 2,
    TaskStopSeen: 14,
    VerdictReached: 8,
}
"""How likely an event is where it is allowed; 4 where nothing is said."""


@dataclass(slots=True)
class Opinion:
    """What the accepted events prove, kept apart from the record that they make."""

    may_be_open: bool = False
    unmounting: bool = False
    readable: bool = False
    made: list[bool] = field(default_factory=list)
    """What this attempt's checks and copies said."""
    verdict: Result | None = None
    verdicts: dict[str, Result | None] = field(default_factory=dict)
    """What the last attempt at each restore point proved."""
    point: str = ""
    asked: bool = False
    result: Result | None = None
    late: bool = False
    """Whether it was said after its result that something may be open: requests may act late."""

    def hear(self, event: TargetEvent) -> None:
        """Take an accepted event for what it says about the server, whatever the phase."""
        if isinstance(event, MountReleased) and not (event.by_hand or self.unmounting):
            raise AssertionError("released, and nobody had asked for it")
        match event:
            case SubmissionStarted(point=point):
                self.may_be_open, self.readable, self.verdict = True, False, None
                self.unmounting, self.made, self.point = False, [], point
                self.verdicts[point] = None
            case UnmountStarted():
                self.unmounting = True
            case SubmissionNotSent() | SubmissionRefused() | TaskFailed() | MountReleased():
                self.may_be_open = False
            case OrphanEnded():
                self.may_be_open = False
            case MountFound(roots=roots):
                self.may_be_open, self.readable = True, bool(roots)
            case TaskSucceeded() | MountLeft() | OutOfReach():
                self.may_be_open = True
                self.late = self.result is not None
            case CheckMade(outcome=made):
                self.made.append(made.passed)
            case FileCopied(outcome=file):
                self.made.append(file.fate in {Fate.SAVED, Fate.RESTORED})
            case VerdictReached(result=result):
                self.verdict = result
                self.verdicts[self.point] = result
                if result in GOOD:
                    assert self.readable, "good without a readable volume"
                    assert all(self.made), "good with a check that failed"
                    assert (result is Result.VERIFIED) == self.asked
            case TargetConcluded(result=result, point=point):
                self.result = result
                if result in GOOD:
                    about = self.verdicts[point or self.point]
                    assert result is about, "good without a verdict"
            case TargetReopened():
                self.result = self.verdict = None
                self.late = False
            case _:
                pass

    def check(self, record: MountRecord) -> None:
        """Compare what the record claims with what was proved."""
        assert record.is_final == (record.result is not None) == (record.phase is Phase.DONE)
        assert record.result is self.result
        if self.may_be_open:
            assert record.is_final or record.mount_state not in GONE, "a silent leftover"
            assert not record.is_final or record.may_be_open, "a silent leftover"
            assert record.phase is not Phase.QUEUED, "its slot would be free"
            untouched = record.result in UNTOUCHED and not self.late
            assert not untouched, "called untouched while it may be open"
        if record.result in GOOD and record.point is not None:
            assert record.result is self.verdicts[record.point.id], "good of another point"


def step(rng: random.Random, record: MountRecord, at: float) -> TargetEvent:
    """Return an event: mostly one that the table names here, sometimes any at all."""
    likely = [kind for kind in TRANSITIONS[record.phase] for _ in range(WEIGHTS.get(kind, 4))]
    kind = rng.choice(likely if rng.random() < 0.8 else list(FIELDS))
    fields = FIELDS[kind](rng)
    if kind is SubmissionStarted and record.point is not None and rng.random() < 0.9:
        fields["point"] = record.point.id
    if kind is NothingReadable and rng.random() < 0.8:
        fields["os_kind"] = record.os_kind
    if kind is VerdictReached and record.planned.checks and rng.random() < 0.5:
        fields["result"] = Result.VERIFIED
    if kind is TargetConcluded and rng.random() < 0.6:
        fields["mount"] = record.mount_state
        fields["result"] = record.verdict or fields["result"]
    if kind is MountReleased and record.phase in {Phase.OUT_OF_REACH, Phase.DONE}:
        fields["by_hand"] = True
    if kind is TargetReopened and record.result is not None and rng.random() < 0.5:
        fields["was"] = record.result
    return kind(at=at, key=KEY, **fields)


def check_the_step(before: MountRecord, event: TargetEvent, after: MountRecord) -> None:
    """Check one accepted event against the table, and what may happen after the end."""
    assert after.phase is TRANSITIONS[before.phase][type(event)]
    assert after.may_be_open or after.phase not in HOLDING_PHASES
    if isinstance(event, SubmissionStarted):
        assert before.point is not None
        assert event.point == before.point.id, "mounted another point than the chosen one"
        assert not before.may_be_open, "mounted a second time over one that may be open"
    if not before.is_final:
        return
    if isinstance(event, TargetReopened):
        assert not before.may_be_open, "reopened, and something may be open"
        assert before.result not in GOOD
        assert before.result is event.was
        assert (after.result, after.verdict, after.concluded_at) == (None, None, None)
        assert after.attempts == before.attempts
    else:
        late = MountReleased | MountLeft | OutOfReach
        assert isinstance(event, late), "the last word was changed"
        assert (after.phase, after.result) == (Phase.DONE, before.result)


def test_no_walk_claims_what_was_not_proved() -> None:
    """Whatever is tried in whatever order: no illegal phase, a last word that lasts, nothing
    good without its proof, nothing gone that may be there; and what is refused changes nothing.
    """
    seen: Counter[Phase] = Counter()
    met: Counter[str] = Counter()
    for seed in range(4000):
        rng = random.Random(f"walk-{seed}")
        first = FIRST[seed % len(FIRST)]
        record, opinion = begin(first), Opinion(asked=bool(first.checks))
        accepted = list[TargetEvent]()
        for at in range(1, 40):
            event = step(rng, record, float(at))
            try:
                after = apply(record, event)
            except IllegalTransition:
                met["refused"] += 1
                continue
            check_the_step(record, event, after)
            opinion.hear(event)
            opinion.check(after)
            record = after
            accepted.append(event)
            seen[record.phase] += 1
            met[type(event).__name__] += 1
            met[f"result {record.result}"] += 1
        again = begin(first)
        for event in accepted:
            again = apply(again, event)
        assert again == record, "a replay tells another story"
    assert set(seen) == set(Phase)
    assert all(met[kind.__name__] > 50 for kind in FIELDS), met
    assert met["result verified"] > 20
    assert met["refused"] > 1000


WAYS: Mapping[Phase, tuple[type[TargetEvent], ...]] = {
    Phase.QUEUED: (),
    Phase.BUSY: (MachineBusy,),
    Phase.SUBMITTING: (SubmissionStarted,),
    Phase.IN_DOUBT: (SubmissionStarted, SubmissionInDoubt),
    Phase.RUNNING: (SubmissionStarted, TaskAccepted),
    Phase.COLLECTING: (SubmissionStarted, TaskAccepted, TaskSucceeded),
    Phase.VERIFYING: (SubmissionStarted, TaskAccepted, TaskSucceeded, MountFound),
    Phase.HELD: (SubmissionStarted, TaskAccepted, MountFound, VerdictReached, MountKept),
    Phase.UNMOUNTING: (SubmissionStarted, TaskAccepted, MountFound, UnmountStarted),
    Phase.OUT_OF_REACH: (SubmissionStarted, TaskAccepted, OutOfReach),
    Phase.DONE: (TargetConcluded,),
}


WITHOUT_CHANCE: Mapping[type[TargetEvent], dict[str, Any]] = {
    SubmissionStarted: {"point": POINTS[0].id},
    MachineBusy: {"excused": False},
    VerdictReached: {"result": Result.FAILED},
    TargetConcluded: {"result": Result.FAILED, "mount": MountState.NONE, "point": None},
}


@pytest.mark.parametrize("phase", Phase)
def test_what_the_table_does_not_name_is_refused_in_every_phase(phase: Phase) -> None:
    """Phase by phase, each kind of event: the table's own, or IllegalTransition and no other."""
    rng = random.Random(str(phase))
    record = begin(PLANNED)
    for kind in WAYS[phase]:
        fields = FIELDS[kind](rng) | WITHOUT_CHANCE.get(kind, {})
        record = apply(record, kind(at=1.0, key=KEY, **fields))
    assert record.phase is phase

    for kind in FIELDS:
        if kind not in TRANSITIONS[phase]:
            with pytest.raises(IllegalTransition, match="not allowed"):
                apply(record, kind(at=2.0, key=KEY, **FIELDS[kind](rng)))


@pytest.mark.parametrize("way", [OutOfReach, MountLeft])
@pytest.mark.parametrize("result", sorted(set(Result) - GOOD - UNTOUCHED))
def test_a_target_with_something_open_is_never_reopened(
    way: type[TargetEvent], result: Result
) -> None:
    """Until its mount is released, nobody may mount it again; then they may."""
    rng = random.Random(0)
    record = begin(PLANNED)
    kinds = (SubmissionStarted, TaskAccepted, MountFound, UnmountStarted, way)
    for kind in kinds:
        fields = FIELDS[kind](rng) | WITHOUT_CHANCE.get(kind, {})
        record = apply(record, kind(at=1.0, key=KEY, **fields))
    end = TargetConcluded(at=2.0, key=KEY, result=result, mount=record.mount_state)
    record = apply(record, end)
    again = TargetReopened(at=4.0, key=KEY, was=result)

    with pytest.raises(IllegalTransition, match="may be open"):
        apply(record, again)
    released = apply(record, MountReleased(at=3.0, key=KEY, by_hand=True))

    assert apply(released, again).phase is Phase.QUEUED
