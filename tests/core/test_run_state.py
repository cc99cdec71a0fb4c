"""The fold of a run: live, replayed and rebuilt states cannot disagree."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from orchestrator.core.errors import IllegalTransition, JournalDamaged
from orchestrator.core.events import (
    Event,
    RunFinished,
    RunHalted,
    RunNoted,
    RunResumed,
    RunStarted,
    ServerFacts,
    ServerGivenUp,
    ServerMeasured,
    ServerParked,
    ServerResumed,
    SessionEnded,
    SessionOpened,
    StopRequested,
    SubmissionRefused,
    SubmissionStarted,
    TargetConcluded,
    TargetEvent,
    TargetPlanned,
    TaskAccepted,
    TaskFailed,
    WaveFinished,
    WaveStarted,
    from_json,
    to_json,
)
from orchestrator.core.lifecycle import apply
from orchestrator.core.model import (
    MountKey,
    MountState,
    OsKind,
    RestorePointId,
    Result,
    RunId,
    ServerName,
    SessionId,
    TaskId,
    WaveFacts,
    WaveName,
)
from orchestrator.core.run_state import RunState, fold

KEY, HQ, WAVE = MountKey("w/hq/dc01"), ServerName("hq"), WaveName("w")
BEGAN = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
STARTED = RunStarted(
    at=0.0,
    run=RunId("r"),
    started_at=BEGAN,
    plan="drill",
    plan_path="drill.yaml",
    plan_sha256="ab",
    version="1.0.0",
    servers=(
        ServerFacts(name=HQ, url="u", tls="t", api_version="v", backup_server_limits={}),
        ServerFacts(
            name=ServerName("dr"), url="u", tls="t", api_version="v", backup_server_limits={}
        ),
    ),
    waves=(WaveFacts(name=WAVE),),
)
PLANNED = TargetPlanned(at=1.0, key=KEY, wave=WAVE, server=HQ, label="dc01", os_kind=OsKind.LINUX)
OPENED = SessionOpened(at=2.0, server=HQ, session=SessionId("s"), user="u", api_version="v")
ENDED = SessionEnded(at=8.0, server=HQ, session=SessionId("s"), lost=False, reason="logoff")
PARKED = ServerParked(at=2.0, server=HQ, reason="silent")
RUN: Sequence[Event] = (
    STARTED,
    PLANNED,
    WaveStarted(at=1.5, wave=WAVE),
    OPENED,
    SubmissionStarted(
        at=3.0, key=KEY, attempt=1, session=SessionId("s"), point=RestorePointId("p")
    ),
    TaskAccepted(at=4.0, key=KEY, task=TaskId("task-1")),
    RunNoted(at=4.5, message="first"),
    PARKED,
    StopRequested(at=5.0, signal="SIGINT", forced=False),
    RunHalted(at=5.0, reason="failures", detail="too many"),
    ServerResumed(at=5.0, server=HQ, waited_s=3.0),
    TaskFailed(at=6.0, key=KEY, task=TaskId("task-1"), message="no"),
    TargetConcluded(at=7.0, key=KEY, result=Result.FAILED, mount=MountState.NONE),
    WaveFinished(at=7.5, wave=WAVE),
    ENDED,
    ServerGivenUp(at=8.0, server=HQ, reason="gone", refused=False),
    ServerMeasured(at=8.0, server=HQ, requests=9, retries=1, peak_mounts=1, sessions=1),
    RunFinished(at=9.0, exit_code=1, finished_at=BEGAN + timedelta(seconds=9)),
    RunNoted(at=8.5, message="second"),
)


@pytest.mark.parametrize("length", range(1, len(RUN) + 1))
def test_the_fold_equals_taking_one_event_after_another(length: int) -> None:
    """At every instant a replay shows what the live run knew, also with records made elsewhere."""
    alone, ledgered = RunState(STARTED), RunState(STARTED)

    for event in RUN[1:length]:
        after = alone.fold(event)
        known = ledgered.records.get(KEY)
        if isinstance(event, TargetEvent) and known is not None:
            assert ledgered.fold(event, apply(known, event)) == after
        else:
            ledgered.fold(event)

    assert fold(RUN[:length]) == alone == ledgered


def test_the_fold_survives_the_journal() -> None:
    """A state rebuilt from JSON is the same state."""
    rebuilt = fold(from_json(type(event).__name__, to_json(event)) for event in RUN)

    assert rebuilt == fold(RUN)


def test_every_event_of_a_run_has_its_place_in_the_state() -> None:
    """What happened to the run, its servers and waves can be read from the fold."""
    state = fold(RUN)
    hq, wave = state.servers[HQ], state.waves[WAVE]

    assert (hq.sessions, hq.ended, hq.parked) == ([OPENED], [ENDED], None)
    assert hq.given_up is not None
    assert hq.measured is not None
    assert hq.measured.requests == 9
    assert (wave.started_at, wave.finished_at) == (1.5, 7.5)
    assert state.halted is not None
    assert [stop.signal for stop in state.stops] == ["SIGINT"]
    assert [note.message for note in state.notes] == ["first", "second"]
    assert state.finished is not None
    assert state.records[KEY].result is Result.FAILED
    assert state.servers[ServerName("dr")].sessions == []


def test_a_parked_server_is_parked_until_it_answers() -> None:
    """The state says for how long a server's targets wait."""
    state = RunState(STARTED)

    state.fold(PARKED)

    assert state.servers[HQ].parked == PARKED


def test_the_clock_never_goes_back() -> None:
    """An event that was recorded a little late does not make the run shorter."""
    state = fold(RUN)

    assert state.last_at == 9.0
    assert state.moment(state.last_at) == BEGAN + timedelta(seconds=9)


@pytest.mark.parametrize("events", [(), RUN[1:], RUN[3:4]])
def test_a_run_without_its_beginning_is_damage(events: Sequence[Event]) -> None:
    """Nothing is made up about a run whose first record is missing."""
    with pytest.raises(JournalDamaged):
        fold(events)


@pytest.mark.parametrize(
    "event",
    [
        RUN[5],
        replace(PLANNED, label="again"),
        replace(STARTED, plan="another"),
        TaskAccepted(at=1.0, key=MountKey("w/hq/unplanned"), task=TaskId("task-1")),
        WaveStarted(at=1.0, wave=WaveName("unplanned")),
        replace(OPENED, server=ServerName("unplanned")),
    ],
)
def test_what_no_run_can_have_recorded_is_refused(event: Event) -> None:
    """A replay stops at an event that the table or the plan does not allow."""
    with pytest.raises(IllegalTransition):
        fold([STARTED, PLANNED, event])


def _asked(at: float, number: int, session: str) -> list[Event]:
    key = MountKey(f"{WAVE}/hq/vm{number}")
    return [
        replace(PLANNED, key=key, label=f"vm{number}"),
        SubmissionStarted(
            at=at, key=key, attempt=1, session=SessionId(session), point=RestorePointId("p")
        ),
    ]


def test_the_peak_is_of_mounts_that_may_be_open() -> None:
    """Over all processes, also killed ones; those of a session that is denied count for a while."""
    killed = [*_asked(2.0, 1, "a"), *_asked(2.0, 2, "a")]
    soon = [RunResumed(at=60.0, resumed_at=BEGAN, version="1"), *_asked(61.0, 3, "b")]
    resumed_late = RunResumed(at=2000.0, resumed_at=BEGAN, version="1")
    late = [resumed_late, *_asked(2001.0, 3, "b")]
    used = [replace(resumed_late, used_until=1200.0), *_asked(2001.0, 3, "b")]
    refused = SubmissionRefused(at=3.0, key=MountKey(f"{WAVE}/hq/vm1"), reason="403")
    lost = replace(ENDED, session=SessionId("a"), lost=True, at=4.0)

    def peak(*events: Event) -> int:
        return fold([STARTED, *events]).servers[HQ].peak_mounts

    assert peak() == 0
    assert peak(*killed) == 2
    assert peak(*killed, *soon) == 3
    assert peak(*killed, *late) == 2
    assert peak(*killed, *used) == 3
    assert peak(*killed, refused, *_asked(5.0, 3, "a")) == 2
    assert peak(*killed, lost, *_asked(5.0, 3, "b")) == 3
    assert peak(*killed, lost, *_asked(905.0, 3, "b")) == 2
    assert peak(*killed, replace(lost, lost=False), *_asked(5.0, 3, "b")) == 3


def test_who_goes_on_knows_when_a_forgotten_session_was_used_last() -> None:
    """Else each process would take its slot anew, for as long as if it had been used just now."""
    first = [*_asked(2.0, 1, "a"), RunResumed(at=60.0, resumed_at=BEGAN, version="1")]
    later = [RunResumed(at=1100.0, resumed_at=BEGAN, version="1", used_until=1099.0)]

    state = fold([STARTED, *first, *_asked(1000.0, 2, "b"), *later])

    left = fold([STARTED, *first]).servers[HQ].unattended
    assert list(left) == ["a"]
    assert state.servers[HQ].unattended == {**left, SessionId("b"): 1099.0}
