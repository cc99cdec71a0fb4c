"""A small run, told event by event: what the views' tests show to the views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Protocol

from orchestrator.core.events import (
    CheckMade,
    Event,
    MountFound,
    MountReleased,
    RunFinished,
    RunStarted,
    ServerFacts,
    SubmissionStarted,
    TargetConcluded,
    TargetEvent,
    TargetPlanned,
    TaskAccepted,
    TaskFailed,
    TaskSucceeded,
    UnmountStarted,
    VerdictReached,
    WaveFinished,
    WaveStarted,
)
from orchestrator.core.lifecycle import MountRecord, apply, begin
from orchestrator.core.model import (
    Href,
    MountKey,
    MountState,
    OsKind,
    RestorePointId,
    Result,
    RunId,
    ServerName,
    SessionId,
    TaskId,
    WaveName,
)
from orchestrator.core.ports.journal import Observer
from orchestrator.core.proof import CheckOutcome
from orchestrator.core.records import Stall
from orchestrator.views.statistics import RunStatistics
from orchestrator.views.view import View

HOSTILE = "[/x][bold]no\x1b[2J\x1b]0;owned\x07 disk\r\nfake line\u202e\x9b31m end"
"""What a bad server may say: markup, escape sequences, line ends, reversed text."""

STARTED_AT = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)

BOOTS = CheckOutcome(
    name="boot", path="C:\\Windows", expected="exists", observed="a directory", passed=True
)


def told(events: Iterable[Event]) -> Iterator[tuple[Event, MountRecord | None]]:
    """Yield each event with the record it made, as the ledger tells its observers."""
    records: dict[MountKey, MountRecord] = {}
    for event in events:
        if not isinstance(event, TargetEvent):
            yield event, None
            continue
        known = records.get(event.key)
        if isinstance(event, TargetPlanned):
            records[event.key] = begin(event)
        else:
            assert known is not None
            records[event.key] = apply(known, event)
        yield event, records[event.key]


class Shown(Protocol):
    """A view, whose statistics count every event before it is told of it."""

    @property
    def stats(self) -> RunStatistics:
        """What is counted for it."""
        ...

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Take note of an event."""
        ...


def see(view: Shown, event: Event, record: MountRecord | None = None) -> None:
    """Count an event and tell a view of it."""
    view.stats.observe(event, record)
    view.observe(event, record)


def tell(view: Shown, *events: Event) -> None:
    """Tell a view of a whole story."""
    for event, record in told(events):
        see(view, event, record)


def fed(*views: View) -> list[Observer]:
    """Return observers of a run: what counts for the views, and the views."""
    stats = RunStatistics()
    for view in views:
        view.begin(stats)
    return [stats, *views]


def started(*servers: str, limit: int | None = 4, plan: str = "night-drill") -> RunStarted:
    """Return the first event of a run."""
    return RunStarted(
        at=0,
        run=RunId("r-1"),
        started_at=STARTED_AT,
        plan=plan,
        plan_path="plan.yaml",
        plan_sha256="00",
        version="1.0",
        servers=tuple(
            ServerFacts(
                name=ServerName(name),
                url=f"https://{name}.example:9398",
                tls="system",
                api_version="v1_7",
                mounts_limit=limit,
                backup_server_limits={},
            )
            for name in servers or ("hq",)
        ),
    )


def finished(at: float, exit_code: int = 0) -> RunFinished:
    """Return the last event of a run."""
    return RunFinished(at=at, exit_code=exit_code, finished_at=STARTED_AT)


def wave(at: float, *, over: bool = False, name: str = "w") -> Event:
    """Return the begin or the end of a wave."""
    kind = WaveFinished if over else WaveStarted
    return kind(at=at, wave=WaveName(name))


def key(vm: str, server: str = "hq") -> MountKey:
    """Return the key of a machine in wave `w`."""
    return MountKey(f"w/{server}/{vm}")


def planned(vm: str, server: str = "hq") -> TargetPlanned:
    """Return the first event of a target, which asks for one check."""
    return TargetPlanned(
        at=0,
        key=key(vm, server),
        wave=WaveName("w"),
        server=ServerName(server),
        label=vm,
        os_kind=OsKind.WINDOWS,
        checks=("boot",),
    )


def submitted(vm: str, at: float, server: str = "hq", attempt: int = 1) -> SubmissionStarted:
    """Return the intent to mount."""
    return SubmissionStarted(
        at=at,
        key=key(vm, server),
        attempt=attempt,
        session=SessionId("s"),
        point=RestorePointId(f"p-{vm}"),
    )


def accepted(vm: str, at: float, server: str = "hq") -> TaskAccepted:
    """Return the server's yes."""
    return TaskAccepted(at=at, key=key(vm, server), task=TaskId(f"task-{vm}"))


def concluded(
    vm: str,
    at: float,
    result: Result,
    mount: MountState = MountState.NONE,
    *,
    server: str = "hq",
    message: str | None = None,
) -> TargetConcluded:
    """Return a target's final answer."""
    return TargetConcluded(at=at, key=key(vm, server), result=result, mount=mount, message=message)


def verified(vm: str, at: float, server: str = "hq") -> list[Event]:
    """Return a target's life after it was planned, up to verified and released."""
    name, mount = key(vm, server), Href(f"/m/{vm}")
    return [
        submitted(vm, at, server),
        accepted(vm, at + 1, server),
        TaskSucceeded(at=at + 2, key=name, task=TaskId(f"task-{vm}"), mount=mount),
        MountFound(at=at + 3, key=name, mount=mount, roots=("C:",)),
        CheckMade(at=at + 4, key=name, outcome=BOOTS),
        VerdictReached(at=at + 4, key=name, result=Result.VERIFIED),
        UnmountStarted(at=at + 5, key=name, mount=mount),
        MountReleased(at=at + 6, key=name),
        concluded(vm, at + 6, Result.VERIFIED, MountState.RELEASED, server=server),
    ]


def failed(vm: str, at: float, words: str = "no disk", server: str = "hq") -> list[Event]:
    """Return a target's life after it was planned, up to failed in the server's words."""
    return [
        submitted(vm, at, server),
        accepted(vm, at + 1, server),
        TaskFailed(at=at + 2, key=key(vm, server), task=TaskId(f"task-{vm}"), message=words),
        concluded(vm, at + 2, Result.FAILED, server=server, message=words),
    ]


STALL = Stall(since=datetime(2026, 11, 29, 10, 3, 12, tzinfo=UTC), who="process 7 on host")
"""A process that does not move."""
