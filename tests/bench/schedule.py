"""Perfect schedules to compare with: the same order rule, the true durations, no overhead.

`greedy_makespan` lets the product's own admission decide while a heap of finish times
stands in for servers, network and client. With `answer_s` it knows what truth asks of every
mount: one unanswered POST per server at a time, and after the task three answers one after
another, of the mount point, the unmount and the list that shows it gone. `lower_bound` is what
no schedule can beat: the fullest resource at its limit, or the longest single mount.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from orchestrator.core.model import (
    BackupServerName,
    MountKey,
    MountRequest,
    OsKind,
    RestorePoint,
    RestorePointId,
    ServerName,
    WaveName,
)
from orchestrator.engine.limits import Limits
from orchestrator.engine.scheduler import Scheduler
from orchestrator.engine.slot import Slot

Truth = Callable[[MountRequest], float]


def greedy_makespan(
    requests: Sequence[MountRequest],
    limits: Limits,
    truth: Truth,
    expected: Truth,
    answer_s: float = 0.0,
) -> float:
    """Return the seconds until the last mount ends when admission never waits for anything.

    Every answer takes `answer_s`.
    """
    running: list[tuple[float, int, Slot]] = []
    accepted_at: defaultdict[ServerName, float] = defaultdict(float)
    clock = 0.0
    started = 0

    def start(request: MountRequest, slot: Slot | None) -> None:
        nonlocal started
        assert slot is not None
        started += 1
        began = max(clock, accepted_at[request.server]) + answer_s
        accepted_at[request.server] = began
        heapq.heappush(running, (began + truth(request) + 3 * answer_s, started, slot))

    waves = list(dict.fromkeys(request.wave for request in requests))
    Scheduler(limits, waves, expected).offer(requests, start)
    while running:
        clock, _, slot = heapq.heappop(running)
        slot.release()
    assert started == len(requests)
    return clock


def lower_bound(requests: Iterable[MountRequest], limits: Limits, truth: Truth) -> float:
    """Return the seconds that the fullest resource needs even if it is never idle."""
    work: defaultdict[object, float] = defaultdict(float)
    longest = 0.0
    for request in requests:
        seconds = truth(request)
        longest = max(longest, seconds)
        backup = (request.server, request.backup_server)
        resources: tuple[object, ...] = ("run", request.server, backup, (*backup, request.vm))
        for resource in resources:
            work[resource] += seconds
    bound = longest
    for resource, seconds in work.items():
        limit = _limit(resource, limits)
        if limit is not None:
            bound = max(bound, seconds / limit)
    return bound


def _limit(resource: object, limits: Limits) -> int | None:
    if resource == "run":
        return limits.run
    if isinstance(resource, tuple) and len(resource) == 2:
        return limits.backup_servers.get(resource, limits.backup_server_default)
    if isinstance(resource, tuple):
        return limits.per_vm
    return limits.servers.get(ServerName(str(resource)))


def request(
    number: int, server: str, backup_server: str, *, vm: str | None = None, wave: str = "w"
) -> MountRequest:
    """Return a request for one VM of its own on the given servers."""
    name = vm or f"vm{number:05}"
    return MountRequest(
        key=MountKey(f"{wave}/{server}/{number}"),
        wave=WaveName(wave),
        server=ServerName(server),
        label=name,
        point=RestorePoint(
            id=RestorePointId(f"{number:032x}"),
            name=f"{name}@2026-11-23 02:00:00",
            vm=name,
            created_at=datetime(2026, 11, 23, 2, tzinfo=UTC),
            backup_server=BackupServerName(backup_server),
        ),
        os_kind=OsKind.WINDOWS,
    )


def heavy_tailed(rng: random.Random, count: int, *, sigma: float = 0.8) -> list[float]:
    """Return mount durations in seconds: lognormal around three minutes, at most 40."""
    return [min(2400.0, 180.0 * rng.lognormvariate(0.0, sigma)) for _ in range(count)]
