"""Whole drills as an engineer meets them at night: for looking at their reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

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
    RunHalted,
    RunNoted,
    RunStarted,
    ServerGivenUp,
    ServerMeasured,
    SessionEnded,
    SessionOpened,
    SubmissionRefused,
    SubmissionStarted,
    TargetConcluded,
    TargetPlanned,
    TaskAccepted,
    TaskFailed,
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
    WaveName,
)
from orchestrator.core.proof import CheckOutcome, DownloadOutcome, Fate
from orchestrator.report.summary import summarize
from orchestrator.report.values import Report
from tests.report.builders import STARTED_AT, finished, run_of, started

WAVES = ("directory", "databases", "apps")
SESSION = SessionId("6fc27d4e-1f0e-4c1b-8b2a-0d6a5b1f9c11")
HEAD = "9d2c" * 16
WORDS = (
    "Failed to mount the restore point: the mount server vbr-dr-01 ran out of free memory "
    "(1.2 GB of 16 GB). Agent: failed to process method {Mount.GenericMount}."
)


@dataclass(frozen=True, slots=True)
class Machine:
    """One target: where it stands in the plan, and who it is."""

    name: str
    wave: str
    server: str

    @property
    def key(self) -> MountKey:
        """Return its key."""
        return MountKey(f"{self.wave}/{self.server}/{self.name}")

    @property
    def point(self) -> RestorePoint:
        """Return its newest restore point, some hours old."""
        created_at = STARTED_AT - timedelta(seconds=10_800 + 60 * (len(self.name) % 7))
        return RestorePoint(
            id=RestorePointId(f"5f0e9a51-7d3c-4b1a-9c1e-{sum(self.key.encode()):012x}"),
            name=f"{self.name}@{created_at:%Y-%m-%d %H:%M:%S}",
            vm=f"{self.name}.corp.example",
            created_at=created_at,
            backup_server=BackupServerName(f"vbr-{self.server}-01.corp.example"),
        )


def good() -> Report:
    """Return a drill of 24 targets that are all verified."""
    machines = _machines(24, ("hq", "dr"))
    return _report(machines, [_verified(each, 2 + 9.5 * n) for n, each in enumerate(machines)])


def troubled() -> Report:
    """Return a drill in which every way to fail has happened, and the run halted itself."""
    machines = _machines(30, ("hq", "dr", "branch-office-frankfurt"))
    kinds = (
        *(_verified, _verified, _failed, _refuted, _lost, _left, _kept, _skipped),
        *(_verified, _refused, _verified, _late),
    )
    lives = [kinds[n % len(kinds)](each, 2 + 14.0 * n) for n, each in enumerate(machines)]
    run: list[Event] = [
        SessionEnded(
            at=300, server=ServerName("dr"), session=SESSION, lost=True, reason="401 Unauthorized"
        ),
        ServerGivenUp(
            at=301, server=ServerName("dr"), refused=False, reason="no answer for 10 minutes"
        ),
        RunNoted(at=302, message="the inventory of dr is 9 hours old"),
        RunHalted(at=420, reason="budget", detail="7 of 30 targets failed, allowed are 5"),
    ]
    return _report(machines, lives, run, exit_code=3, tls="insecure", limit=4)


def large(count: int = 5000) -> Report:
    """Return a drill of very many targets, of which one in a hundred is not good."""
    machines = _machines(count, ("hq", "dr", "branch"))
    kinds = {17: _failed, 42: _left, 77: _lost}
    lives = [
        kinds.get(n % 300, _verified)(each, 2 + n * 0.9 + (n % 3) * 4)
        for n, each in enumerate(machines)
    ]
    return _report(machines, lives, exit_code=3, limit=40)


def _machines(count: int, servers: Sequence[str]) -> list[Machine]:
    named = ("dc", "sql", "app")
    return [
        Machine(f"{named[n * 3 // count]}{n:02}", WAVES[n * 3 // count], servers[n % len(servers)])
        for n in range(count)
    ]


def _report(
    machines: Sequence[Machine],
    lives: Sequence[Sequence[Event]],
    run: Sequence[Event] = (),
    *,
    exit_code: int = 0,
    **facts: Any,
) -> Report:
    first = _started(machines, **facts)
    told = sorted((event for life in lives for event in life), key=lambda event: event.at)
    end = max([event.at for event in [*told, *run]]) + 3
    servers = [facts.name for facts in first.servers]
    fold_log = [*_sessions(servers), *_waves(machines, lives), *run]
    events = sorted([*fold_log, *told], key=lambda event: event.at)
    measured = [
        ServerMeasured(at=end, server=name, requests=4211, retries=3, peak_mounts=4, sessions=1)
        for name in servers
    ]
    state = run_of(
        [_planned(each) for each in machines],
        events,
        [*measured, finished(end, exit_code)],
        first=first,
    )
    return summarize(state, chain_head=HEAD)


def _started(machines: Sequence[Machine], *, tls: str = "ca_file", limit: int = 12) -> RunStarted:
    first = started(
        waves=WAVES,
        servers=sorted({each.server for each in machines}),
        tls=tls,
        wave_objectives=Objectives(rto=400),
        objectives=Objectives(rto=2700, rpo=14_400),
        plan="Tier 1: payments and identity",
        description="Quarterly drill of everything that takes part in a payment.",
        reason="CHG-20481, quarterly restore drill",
        user="svc-restore",
        host="drill-runner-01.corp.example",
        locked_sha256="cd" * 32,
        utc_offset_s=3600.0,
    )
    servers = tuple(replace(facts, mounts_limit=limit) for facts in first.servers)
    return replace(first, servers=servers)


def _sessions(servers: Sequence[ServerName]) -> Iterator[Event]:
    for name in servers:
        yield SessionOpened(
            at=1.0,
            server=name,
            session=SESSION,
            user=r"CORP\svc-restore",
            api_version="v1_7",
            clock_offset_s=-0.4,
            certificate_sha256="3f" * 32,
        )


def _waves(machines: Sequence[Machine], lives: Sequence[Sequence[Event]]) -> Iterator[Event]:
    for name in WAVES:
        own = [
            life for each, life in zip(machines, lives, strict=True) if each.wave == name and life
        ]
        yield WaveStarted(at=min(life[0].at for life in own) - 0.5, wave=WaveName(name))
        yield WaveFinished(at=max(life[-1].at for life in own), wave=WaveName(name))


def _planned(machine: Machine) -> Event:
    return TargetPlanned(
        at=0.5,
        key=machine.key,
        wave=WaveName(machine.wave),
        server=ServerName(machine.server),
        label=machine.name,
        os_kind=OsKind.WINDOWS,
        point=machine.point,
        policy="the newest point, not older than 26 h",
        critical=machine.wave == "directory",
        objectives=Objectives(rto=600, rpo=14_400),
        checks=("boot", "data"),
    )


def _submitted(machine: Machine, at: float) -> list[Event]:
    return [
        SubmissionStarted(
            at=at, key=machine.key, attempt=1, session=SESSION, point=machine.point.id
        ),
        TaskAccepted(at=at + 0.4, key=machine.key, task=_task(machine)),
    ]


def _task(machine: Machine) -> TaskId:
    return TaskId(f"task-{sum(machine.key.encode())}")


def _mounted(machine: Machine, at: float) -> list[Event]:
    mount = _href(machine)
    return [
        *_submitted(machine, at),
        TaskSucceeded(at=at + 38, key=machine.key, task=_task(machine), message="Ok", mount=mount),
        MountFound(at=at + 40, key=machine.key, mount=mount, roots=("C:", "D:")),
    ]


def _href(machine: Machine) -> Href:
    return Href(f"/api/mounts/{sum(machine.key.encode())}")


def _outcomes(*, passed: bool) -> list[CheckOutcome]:
    observed = "5.2 GiB" if passed else "0 B"
    return [
        CheckOutcome(
            name="boot",
            path="C:\\Windows\\System32\\config\\SYSTEM",
            expected="exists",
            observed="a file of 18.2 MiB",
            passed=True,
        ),
        CheckOutcome(
            name="data",
            path="D:\\Data\\payments\\current\\ledger-2026-11.mdf",
            expected="min_size 5GiB, modified within 26 h",
            observed=f"{observed}, modified 2026-11-22 23:58:11Z",
            passed=passed,
        ),
        CheckOutcome(
            name="data",
            path="D:\\Data\\payments",
            expected="as many files as in the last verified run, ±10 %",
            observed="no earlier verified run to compare with",
            passed=True,
            warning=True,
        ),
    ]


def _judged(machine: Machine, at: float, *, passed: bool) -> list[Event]:
    copied = DownloadOutcome(
        path="D:\\Data\\payments\\current\\manifest.json",
        to=f"/var/drills/2026-11/{machine.name}/manifest.json",
        fate=Fate.SAVED,
        size=18_231,
        sha256="7c" * 32,
    )
    message = None if passed else "1 of 3 checks failed: data: ledger-2026-11.mdf: 0 B"
    result = Result.VERIFIED if passed else Result.FAILED
    return [
        *_mounted(machine, at),
        *(
            CheckMade(at=at + 43, key=machine.key, outcome=outcome)
            for outcome in _outcomes(passed=passed)
        ),
        FileCopied(at=at + 45, key=machine.key, outcome=copied),
        VerdictReached(at=at + 45, key=machine.key, result=result, message=message),
    ]


def _released(machine: Machine, at: float, result: Result, words: str | None) -> list[Event]:
    return [
        UnmountStarted(at=at, key=machine.key, mount=_href(machine)),
        MountReleased(at=at + 2, key=machine.key),
        _concluded(machine, at + 2, result, MountState.RELEASED, words),
    ]


def _concluded(
    machine: Machine, at: float, result: Result, mount: MountState, words: str | None = None
) -> Event:
    return TargetConcluded(at=at, key=machine.key, result=result, mount=mount, message=words)


def _verified(machine: Machine, at: float) -> list[Event]:
    good = _judged(machine, at, passed=True)
    return [*good, *_released(machine, at + 45, Result.VERIFIED, None)]


def _refuted(machine: Machine, at: float) -> list[Event]:
    words = "1 of 3 checks failed: data: ledger-2026-11.mdf: 0 B"
    bad = _judged(machine, at, passed=False)
    return [*bad, *_released(machine, at + 45, Result.FAILED, words)]


def _failed(machine: Machine, at: float) -> list[Event]:
    return [
        *_submitted(machine, at),
        TaskFailed(at=at + 61, key=machine.key, task=_task(machine), message=WORDS),
        _concluded(machine, at + 61, Result.FAILED, MountState.NONE, WORDS),
    ]


def _refused(machine: Machine, at: float) -> list[Event]:
    words = "HTTP 403: the role of CORP\\svc-restore does not include this machine"
    return [
        _submitted(machine, at)[0],
        SubmissionRefused(at=at + 0.3, key=machine.key, reason=words),
        _concluded(machine, at + 0.3, Result.FAILED, MountState.NONE, words),
    ]


def _late(machine: Machine, at: float) -> list[Event]:
    words = "not mounted within 2m 00s; its task ended later without success"
    return [
        *_submitted(machine, at),
        DeadlinePassed(at=at + 120, key=machine.key, phase="mount", allowed_s=120),
        TaskFailed(at=at + 150, key=machine.key, task=_task(machine), message="Cancelled"),
        _concluded(machine, at + 150, Result.FAILED, MountState.NONE, words),
    ]


def _lost(machine: Machine, at: float) -> list[Event]:
    words = "its session was lost while the task ran: 401 Unauthorized"
    return [
        *_submitted(machine, at),
        OutOfReach(at=at + 55, key=machine.key, reason=words),
        _concluded(machine, at + 55, Result.UNKNOWN, MountState.UNKNOWN, words),
    ]


def _left(machine: Machine, at: float) -> list[Event]:
    words = "the unmount was refused 5 times: HTTP 500: Internal Server Error"
    mount = _href(machine)
    return [
        *_judged(machine, at, passed=True),
        UnmountStarted(at=at + 45, key=machine.key, mount=mount),
        MountLeft(at=at + 90, key=machine.key, mount=mount, reason=words),
        _concluded(machine, at + 90, Result.VERIFIED, MountState.LEFT, words),
    ]


def _kept(machine: Machine, at: float) -> list[Event]:
    return [
        *_judged(machine, at, passed=False),
        MountKept(at=at + 45, key=machine.key, reason="its checks failed", until=at + 7200),
    ]


def _skipped(machine: Machine, at: float) -> list[Event]:
    words = "wave directory is critical and dc03 failed"
    return [_concluded(machine, at, Result.SKIPPED, MountState.NONE, words)]
