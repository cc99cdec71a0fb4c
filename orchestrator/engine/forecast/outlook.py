"""Several plays of a run, and what they say of its end, its waves and its objectives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import StrEnum

from msgspec import Struct

from orchestrator.core.model import (
    MountRequest,
    Objectives,
    ServerName,
    UnresolvedTarget,
    WaveFacts,
    WaveName,
)
from orchestrator.core.ports.journal import Durations
from orchestrator.engine.forecast.binding import BindingLimit, binding_limits
from orchestrator.engine.forecast.history import HALF_OR_TWICE, WITHOUT_HISTORY, MountHistory
from orchestrator.engine.forecast.play import Bounds, Played, play
from orchestrator.engine.limits import Limits

ENOUGH = 3
"""Mounts of a machine from which on their spread says something."""

MARGIN = 0.1
"""The range goes at least this far around its middle, as a fraction: nothing repeats exactly."""

WIDE_MARGIN = 0.25
"""The same where fewer than `ENOUGH` mounts are known."""


class Range(Struct, frozen=True, kw_only=True):
    """Seconds: `about`, and between which two the value is expected."""

    low_s: float
    about_s: float
    high_s: float


class Met(StrEnum):
    """Whether an objective will be met."""

    MET = "met"
    MISSED = "missed"
    UNKNOWN = "unknown"


class Job(Struct, frozen=True, kw_only=True):
    """What is forecast. `begins` and `per_mount` are seconds that no mount's history includes:

    until the first submission, and from each slot to its accepted task.
    """

    requests: Sequence[MountRequest]
    waves: Sequence[WaveFacts]
    limits: Limits
    objectives: Objectives = Objectives()
    without_point: Sequence[UnresolvedTarget] = ()
    unasked: Sequence[ServerName] = ()
    """Servers of which no target is known yet."""
    begins: float = 0.0
    per_mount: float = 0.0
    hold: float = 0.0


class WaveForecast(Struct, frozen=True, kw_only=True):
    """One wave: `targets` with a restore point; it starts after the waves that it waits for."""

    name: WaveName
    targets: int
    start: Range
    end: Range


class RtoForecast(Struct, frozen=True, kw_only=True):
    """One RTO: of the run, of a wave, or of a target. `why` where that is not the time alone."""

    scope: str
    target_s: float
    expected: Range | None
    status: Met
    why: str = ""
    is_of_target: bool = False


class Forecast(Struct, frozen=True, kw_only=True):
    """How a run may go; seconds since its start. `plays` is how many histories were played."""

    makespan: Range
    waves: tuple[WaveForecast, ...]
    objectives: tuple[RtoForecast, ...]
    limits: tuple[BindingLimit, ...]
    targets: int
    without_history: int
    plays: int
    begins_s: float
    per_mount_s: float
    open_mounts: tuple[tuple[float, int], ...]
    """How many mounts are open from which second on, in the middle play."""


def forecast(job: Job, durations: Durations) -> Forecast:
    """Return how a run goes if each machine takes as long as in its last runs.

    Nothing fails, no server slows down, and no other run is there.
    """
    history = MountHistory(job.requests, durations, job.per_mount)
    unknown = sum(not history.knows(each.key) for each in job.requests)
    plays = _plays(job, history, unknown)
    middle = plays[len(plays) // 2]
    margin = MARGIN if history.depth >= ENOUGH else WIDE_MARGIN
    spread = _Spread(plays, margin)
    targets = Counter(each.wave for each in job.requests)
    return Forecast(
        makespan=spread.of(lambda played: played.end),
        waves=tuple(
            WaveForecast(
                name=name,
                targets=targets[name],
                start=spread.of(lambda played, name=name: played.waves[name].start),  # type: ignore[misc]
                end=spread.of(lambda played, name=name: played.waves[name].end),  # type: ignore[misc]
            )
            for name in middle.waves
        ),
        objectives=tuple(_objectives(job, history, spread)),
        limits=binding_limits(middle, job.limits),
        targets=len(job.requests),
        without_history=unknown,
        plays=max(1, history.depth),
        begins_s=job.begins,
        per_mount_s=job.per_mount,
        open_mounts=tuple(_open_over_time(middle)),
    )


def _plays(job: Job, history: MountHistory, unknown: int) -> list[Played]:
    """Return the plays, the shortest first; the ends of the range last what is not known, too."""

    bounds = Bounds(job.limits)

    def one(runs_ago: int, each_unknown: float = WITHOUT_HISTORY) -> Played:
        takes = history.as_before(runs_ago, each_unknown)
        return play(
            job.requests,
            job.waves,
            job.limits,
            takes,
            expected=history.expected,
            begins=job.begins,
            answer=job.per_mount,
            hold=job.hold,
            bounds=bounds,
        )

    found = sorted(
        ((one(ago), ago) for ago in range(max(1, history.depth))), key=lambda each: each[0].end
    )
    plays = [played for played, _ in found]
    if unknown:
        quick, slow = found[0][1], found[-1][1]
        shortest = one(quick, WITHOUT_HISTORY / HALF_OR_TWICE)
        plays = [shortest, *plays, one(slow, WITHOUT_HISTORY * HALF_OR_TWICE)]
    return plays


class _Spread:
    """Reads a value from each play: the middle one, and how far apart they are."""

    def __init__(self, plays: Sequence[Played], margin: float) -> None:
        """`plays` in order of their ends."""
        self._plays, self._margin = plays, margin
        self._done: list[dict[str, float]] = []

    def of(self, read: Callable[[Played], float]) -> Range:
        """Return the range of one value."""
        return self._range([read(played) for played in self._plays])

    def of_target(self, key: str) -> Range:
        """Return when a target is decided."""
        if not self._done:
            self._done = [{m.request.key: m.done for m in each.mounts} for each in self._plays]
        return self._range([done[key] for done in self._done])

    def _range(self, values: Sequence[float]) -> Range:
        about = values[len(values) // 2]
        low = min(*values, about * (1 - self._margin))
        high = max(*values, about * (1 + self._margin))
        return Range(low_s=low, about_s=about, high_s=high)


def _objectives(job: Job, history: MountHistory, spread: _Spread) -> Iterable[RtoForecast]:
    """Yield the RTO of the run, of its waves and of its targets, where the plan has one."""
    judge = _Judge(job, history)
    if job.objectives.rto is not None:
        last = spread.of(lambda played: max((w.end for w in played.waves.values()), default=0.0))
        yield judge.rto("run", job.objectives.rto, last, job.requests, job.without_point)
    for wave in job.waves:
        own = [each for each in job.requests if each.wave == wave.name]
        without = [each for each in job.without_point if each.wave == wave.name]
        if wave.objectives.rto is not None and (own or without):
            end = spread.of(lambda played, name=wave.name: played.waves[name].end)  # type: ignore[misc]
            yield judge.rto(f"wave {wave.name}", wave.objectives.rto, end, own, without)
    for request in job.requests:
        if request.objectives.rto is not None:
            done = spread.of_target(request.key)
            rto = request.objectives.rto
            yield judge.rto(request.key, rto, done, [request], (), is_of_target=True)


class _Judge:
    """Says whether an objective is met, and why nobody can know."""

    def __init__(self, job: Job, history: MountHistory) -> None:
        self._job, self._history = job, history

    def rto(
        self,
        scope: str,
        target: float,
        expected: Range,
        requests: Collection[MountRequest],
        without: Collection[UnresolvedTarget],
        *,
        is_of_target: bool = False,
    ) -> RtoForecast:
        """Judge one RTO by the range of its time, and by the targets of its scope."""
        unknown = sum(not self._history.knows(each.key) for each in requests)
        status, why = Met.UNKNOWN, ""
        if without:
            verb = "has" if len(without) == 1 else "have"
            status, why = Met.MISSED, f"{len(without)} of its targets {verb} no restore point"
        elif expected.low_s > target:
            status = Met.MISSED
        elif 2 * unknown > len(requests):
            why = f"no history for {unknown} of {len(requests)}"
        elif self._job.unasked and not is_of_target:
            why = f"not asked: {', '.join(self._job.unasked)}"
        elif expected.high_s <= target:
            status = Met.MET
        return RtoForecast(
            scope=scope,
            target_s=target,
            expected=expected if requests else None,
            status=status,
            why=why,
            is_of_target=is_of_target,
        )


def _open_over_time(played: Played) -> Iterable[tuple[float, int]]:
    changes: Counter[float] = Counter({0.0: 0})
    for mount in played.mounts:
        changes[mount.start] += 1
        changes[mount.end] -= 1
    level = 0
    for at in sorted(changes):
        level += changes[at]
        yield at, level
