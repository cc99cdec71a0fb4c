"""A run in which a server, a guest, a plan say the same words wherever they may say any."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from msgspec.structs import replace

from orchestrator.core.events import (
    CheckMade,
    DeadlinePassed,
    Event,
    FileCopied,
    MountFound,
    MountKept,
    MountLeft,
    MountReleased,
    OutOfReach,
    PointChosen,
    RunHalted,
    RunNoted,
    RunStarted,
    ServerFacts,
    ServerGivenUp,
    ServerMeasured,
    ServerParked,
    ServerResumed,
    SessionEnded,
    SessionOpened,
    SubmissionInDoubt,
    SubmissionNotSent,
    SubmissionRefused,
    SubmissionStarted,
    TargetConcluded,
    TargetPlanned,
    TaskAccepted,
    TaskFailed,
    TaskObserved,
    TaskSucceeded,
    UnmountStarted,
    VerdictReached,
    WaveFinished,
    WaveStarted,
)
from orchestrator.core.model import (
    BackupServerName,
    Href,
    MountKey,
    MountState,
    Objectives,
    OsKind,
    RestorePoint,
    RestorePointId,
    Result,
    ServerName,
    SessionId,
    TaskId,
    TaskState,
    WaveFacts,
    WaveName,
)
from orchestrator.core.proof import CheckOutcome, DownloadOutcome, Fate
from orchestrator.core.run_state import fold
from orchestrator.report.summary import summarize
from orchestrator.report.values import Report
from tests.report.builders import STARTED_AT, finished, started

SESSION = SessionId("6fc27d4e-1f0e-4c1b-8b2a-0d6a5b1f9c11")
TARGETS = 7
"""How many targets such a run has: one for each way to end."""


def everywhere(words: str) -> Report:
    """Return the report of such a run."""
    return summarize(fold(hostile_run(words)), chain_head="9d2c" * 16)


def hostile_run(words: str) -> list[Event]:
    """Return every event of such a run, as a journal would hold them."""
    server, wave = ServerName(words), WaveName(words)
    return [
        _first(words),
        *(_planned(number, words) for number in range(TARGETS)),
        SessionOpened(
            at=1,
            server=server,
            session=SESSION,
            user=words,
            api_version=words,
            certificate_sha256=words,
        ),
        WaveStarted(at=1, wave=wave),
        ServerParked(at=1, server=server, reason=words),
        ServerResumed(at=2, server=server, waited_s=1),
        *_refused(0, words),
        *_task_failed(1, words),
        *_released(2, words),
        *_left(3, words),
        *_lost(4, words),
        *_tried_again(5, words),
        *_kept(6, words),
        SessionEnded(at=50, server=server, session=SESSION, lost=True, reason=words),
        ServerGivenUp(at=51, server=server, reason=words, refused=True),
        RunNoted(at=52, message=words),
        RunHalted(at=53, reason="budget", detail=words),
        WaveFinished(at=54, wave=wave),
        ServerMeasured(at=55, server=server, requests=9, retries=1, peak_mounts=2, sessions=1),
        finished(56, 3),
    ]


def _first(words: str) -> RunStarted:
    facts = ServerFacts(
        name=ServerName(words),
        url=words,
        tls=words,
        api_version=words,
        mounts_limit=4,
        backup_server_limits={words: 2},
    )
    wave = WaveFacts(name=WaveName(words), objectives=Objectives(rto=1, rpo=1))
    first = started(
        plan=words,
        plan_path=words,
        plan_sha256=words,
        locked_sha256=words,
        description=words,
        reason=words,
        user=words,
        host=words,
        report_dir=words,
        objectives=Objectives(rto=1, rpo=1),
    )
    insecure = replace(facts, name=ServerName(f"{words} insecure"), tls="insecure")
    return replace(first, servers=(facts, insecure), waves=(wave,))


def key_of(number: int, words: str) -> MountKey:
    """Return the key of one of the targets."""
    return MountKey(f"{words}/{words}/{words}{number}")


def _point(number: int, words: str) -> RestorePoint:
    return RestorePoint(
        id=RestorePointId(f"{words}{number}"),
        name=words,
        vm=words,
        created_at=STARTED_AT - timedelta(hours=1),
        backup_server=BackupServerName(words),
    )


def _planned(number: int, words: str) -> Event:
    return TargetPlanned(
        at=0.5,
        key=key_of(number, words),
        wave=WaveName(words),
        server=ServerName(words),
        label=f"{words}{number}",
        os_kind=OsKind.WINDOWS,
        point=_point(number, words),
        policy=words,
        objectives=Objectives(rto=1, rpo=1),
        place=words,
        checks=(words,),
    )


def _begun(number: int, words: str, *, attempt: int = 1, at: float = 3) -> list[Event]:
    key = key_of(number, words)
    point = RestorePointId(f"{words}{number}")
    return [
        SubmissionStarted(at=at, key=key, attempt=attempt, session=SESSION, point=point),
        TaskAccepted(at=at + 1, key=key, task=TaskId(f"{words}{number}")),
    ]


def _concluded(
    number: int, words: str, result: Result, mount: MountState = MountState.NONE
) -> Event:
    return TargetConcluded(
        at=40, key=key_of(number, words), result=result, mount=mount, message=words
    )


def _refused(number: int, words: str) -> Iterator[Event]:
    yield _begun(number, words)[0]
    yield SubmissionNotSent(at=4, key=key_of(number, words), reason=words)
    yield _begun(number, words, at=5)[0]
    yield SubmissionInDoubt(at=6, key=key_of(number, words), reason=words)
    yield SubmissionRefused(at=7, key=key_of(number, words), reason=words)
    yield _concluded(number, words, Result.FAILED)


def _task_failed(number: int, words: str) -> Iterator[Event]:
    key, task = key_of(number, words), TaskId(f"{words}{number}")
    yield from _begun(number, words)
    yield TaskObserved(at=6, key=key, task=task, state=TaskState.RUNNING, words=words)
    yield DeadlinePassed(at=7, key=key, phase="mount", allowed_s=1)
    yield TaskFailed(at=8, key=key, task=task, message=words)
    yield _concluded(number, words, Result.FAILED)


def _judged(number: int, words: str) -> Iterator[Event]:
    key, at = key_of(number, words), 6.0
    mount = Href(words)
    yield from _begun(number, words)
    yield TaskSucceeded(at=at, key=key, task=TaskId(f"{words}{number}"), message=words, mount=mount)
    yield MountFound(at=at + 1, key=key, mount=mount, roots=(words,))
    for passed, warning in ((True, True), (True, False), (False, False)):
        outcome = CheckOutcome(
            name=words,
            path=words,
            expected=words,
            observed=words,
            passed=passed,
            warning=warning,
        )
        yield CheckMade(at=at + 2, key=key, outcome=outcome)
    for fate in (Fate.SAVED, Fate.FAILED):
        copied = DownloadOutcome(
            path=words, to=words, fate=fate, size=1, sha256=words, message=words
        )
        yield FileCopied(at=at + 3, key=key, outcome=copied)
    yield VerdictReached(at=at + 4, key=key, result=Result.FAILED, message=words)


def _released(number: int, words: str) -> Iterator[Event]:
    yield from _judged(number, words)
    yield UnmountStarted(at=11, key=key_of(number, words), mount=Href(words))
    yield MountReleased(at=12, key=key_of(number, words))
    yield _concluded(number, words, Result.FAILED, MountState.RELEASED)


def _left(number: int, words: str) -> Iterator[Event]:
    key = key_of(number, words)
    yield from _judged(number, words)
    yield UnmountStarted(at=11, key=key, mount=Href(words))
    yield MountLeft(at=12, key=key, mount=Href(words), reason=words)
    yield _concluded(number, words, Result.FAILED, MountState.LEFT)


def _lost(number: int, words: str) -> Iterator[Event]:
    yield from _begun(number, words)
    yield OutOfReach(at=8, key=key_of(number, words), reason=words)
    yield _concluded(number, words, Result.UNKNOWN, MountState.UNKNOWN)


def _tried_again(number: int, words: str) -> Iterator[Event]:
    key, task = key_of(number, words), TaskId(f"{words}{number}")
    yield from _begun(number, words)
    yield TaskFailed(at=8, key=key, task=task, message=words)
    yield PointChosen(at=9, key=key, point=_point(number, words), why=words)
    yield from _begun(number, words, attempt=2, at=10)
    yield TaskFailed(at=12, key=key, task=task, message=words)
    yield _concluded(number, words, Result.FAILED)


def _kept(number: int, words: str) -> Iterator[Event]:
    yield from _judged(number, words)
    yield MountKept(at=11, key=key_of(number, words), reason=words, until=7200)
