# mypy: implicit-reexport
# ruff: noqa: F401 - the events are imported from here
"""Events: one frozen class each, to and from JSON.

Everything that happens in a run is one of these. The journal keeps them in order, the
lifecycle table says which may follow which, and every report is a fold over them. `at` is
seconds on the run's own clock, which reads 0 at RunStarted; `key` names the mount request.

Reading old journals: fields may be added with a default, never removed or renamed.
"""

from __future__ import annotations

from functools import cache

from msgspec import DecodeError
from msgspec.json import Decoder, encode
from msgspec.structs import replace

from orchestrator.core.errors import JournalDamaged
from orchestrator.core.events import run, server, target
from orchestrator.core.events.base import Event, ServerEvent, SessionEvent, TargetEvent
from orchestrator.core.events.run import (
    ApprovalAwaited,
    ChainPinned,
    ControlApplied,
    PlaceholderReplaced,
    RunFinished,
    RunForecast,
    RunHalted,
    RunNoted,
    RunResumed,
    RunStarted,
    ServerFacts,
    StopRequested,
    WaveFinished,
    WaveSkipped,
    WaveStarted,
)
from orchestrator.core.events.server import (
    LOGGED_OFF,
    ActivitySeen,
    HaltAsked,
    LimitsShared,
    MountForgotten,
    ServerGivenUp,
    ServerMeasured,
    ServerPaced,
    ServerParked,
    ServerResumed,
    SessionEnded,
    SessionOpened,
    SessionTakenUp,
    ShardDamaged,
    ShardFinished,
    ShardHolding,
    ShardPlanned,
    ShardTaken,
    StrayFound,
    StrayReleased,
    TasksAttributed,
)
from orchestrator.core.events.target import (
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
from orchestrator.core.kept import brief, read
from orchestrator.core.model import session_id

EVENT_TYPES: dict[str, type[Event]] = {
    name: kind
    for module in (run, server, target)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and kind.__module__ == module.__name__ and issubclass(kind, Event)
}


@cache
def _decoder(kind: str) -> Decoder[Event]:
    return Decoder(EVENT_TYPES[kind], dec_hook=read)


def to_json(event: Event) -> bytes:
    """Return the event's fields as compact JSON; the type's name is kept beside it."""
    return encode(brief(event))


def from_json(kind: str, text: bytes | str) -> Event:
    """Return the event that `to_json` wrote.

    Raises:
        JournalDamaged: the type is unknown or the fields do not fit it.
    """
    if kind not in EVENT_TYPES:
        raise JournalDamaged(f"unknown event type {kind!r}")
    try:
        event = _decoder(kind).decode(text)
    except (DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise JournalDamaged(f"the record is not a {kind} event") from exc
    if isinstance(event, SessionEvent | SubmissionStarted):  # the GUID, in old journals
        return replace(event, session=session_id(event.session))
    return event
