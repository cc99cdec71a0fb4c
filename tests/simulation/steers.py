"""What people want of a story: a gentle start, a deadline, a gate, and requests of `ctl`.

Drawn from dice of its own, so that every older seed keeps what it had. About a third of the
stories have something of it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SHARE = 0.36
"""Of all stories, those in which people want something."""

USERS = ("anna", "ben", "carla")
WAVES_OF_A_GATE = ("first", "second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of `ctl`. Times in virtual seconds."""

    at: float
    verb: str
    words: tuple[str, ...] = ()
    """Those of `skip` and `retry` are chosen when it is made, by `dice`."""
    beyond_plan: bool = False
    dice: float = 0.0
    pause_s: float = 0.0
    """After a pause: when somebody lets the run go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek:
    """Somebody looks into a held mount, with `browse`; without a path the volumes are listed."""

    at: float
    path: str | None
    dice: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerer:
    """What one person says once the wave behind the gate waits, and how long after."""

    user: str
    after_s: float
    reject: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """The gate before the second wave."""

    approvals: int
    timeout_s: float
    on_timeout: str
    people: Sequence[Answerer] = ()


@dataclass(slots=True, kw_only=True)
class Steers:
    """What people want of one story."""

    ramp: tuple[int, float] | None = None
    """So many mounts, and the seconds after which as many more are given."""
    interval_s: float = 0.0
    deadline_s: float | None = None
    gate: Gated | None = None
    requests: list[Request] = field(default_factory=list)
    peeks: Sequence[Peek] = ()

    @property
    def limits(self) -> str:
        """What the plan's `limits` say of it, each followed by a comma."""
        said = ""
        if self.ramp is not None:
            said += f"ramp: {{from: {self.ramp[0]}, every: {self.ramp[1]:g}s}}, "
        if self.interval_s:
            said += f"start_interval: {self.interval_s:g}s, "
        if self.deadline_s is not None:
            said += f"deadline: {self.deadline_s:g}s, "
        return said

    @property
    def gates(self) -> str:
        """The plan's `gates`; empty if it has none."""
        if self.gate is None:
            return ""
        gate = self.gate
        return (
            f"gates: [{{before: second, approvals: {gate.approvals}, "
            f"timeout: {gate.timeout_s:g}s, on_timeout: {gate.on_timeout}}}]\n"
        )

    def rounds(self, machines: int, planned: int) -> int:
        """Return how many mounts may have to follow one another, where limits go down to one."""
        retried = sum(request.verb == "retry" for request in self.requests)
        lowers = any(request.verb == "limits" for request in self.requests)
        return (machines if lowers or self.ramp is not None else planned) + retried

    def later_s(self, machines: int) -> float:
        """Return how much later everything may be over, beside more rounds."""
        raised = 1100.0 if any(request.verb == "limits" for request in self.requests) else 0.0
        paused = sum(request.pause_s + 100.0 for request in self.requests if request.pause_s)
        gate = self.gate.timeout_s if self.gate is not None else 0.0
        attempts = 4 * machines * self.interval_s
        return (
            raised + paused + gate + attempts + (self.ramp[1] * 4 if self.ramp is not None else 0.0)
        )


def steers(
    rng: random.Random,
    servers: Mapping[str, int],
    *,
    has_waves: bool,
    backups: Mapping[str, str] | None = None,
    share: float = SHARE,
) -> Steers | None:
    """Draw what people want of a story, if anything.

    `servers` are the plan's limits by server; `backups` names one backup server of each. A gate
    needs two waves, called first and second.
    """
    if rng.random() >= share:
        return None
    drawn = Steers(
        ramp=(rng.choice([1, 1, 2, 3]), rng.choice([20.0, 60.0])) if rng.random() < 0.3 else None,
        interval_s=rng.choice([3.0, 10.0, 25.0]) if rng.random() < 0.3 else 0.0,
        deadline_s=rng.choice([200.0, 400.0, 700.0, 1500.0]) if rng.random() < 0.35 else None,
        gate=_gate(rng) if has_waves else None,
    )
    for _ in range(rng.choice([0, 1, 2, 3, 5, 7])):
        drawn.requests.append(_request(rng, servers, backups or {}))
    drawn.requests.sort(key=lambda request: request.at)
    return drawn


def peeks(rng: random.Random) -> Sequence[Peek]:
    """Draw when people look into what is held; some paths are not in every guest."""
    paths = [None, None, "C:/Windows", "/etc", "C:/nowhere", "E:/Data"]
    times = [rng.uniform(20.0, 500.0) for _ in range(rng.choice([1, 2, 4]))]
    return [Peek(at=at, path=rng.choice(paths), dice=rng.random()) for at in sorted(times)]


def _gate(rng: random.Random) -> Gated:
    people = [
        Answerer(
            user=user,
            after_s=rng.choice([1.0, 30.0, 100.0, 400.0]),
            reject=rng.random() < 0.18,
        )
        for user in rng.choices(USERS, k=rng.choice([0, 1, 2, 3, 3]))
    ]
    return Gated(
        approvals=rng.choice([1, 1, 2]),
        timeout_s=rng.choice([60.0, 300.0, 600.0]),
        on_timeout=rng.choice(["halt", "skip", "skip"]),
        people=people,
    )


def _request(rng: random.Random, servers: Mapping[str, int], backups: Mapping[str, str]) -> Request:
    verb = rng.choice(["pause", "pause", "limits", "limits", "limits", "skip", "retry", "retry"])
    if rng.random() < 0.06:
        verb = rng.choice(["approve", "continue", "stop"])
    at = rng.choice([rng.uniform(1.0, 60.0), rng.uniform(1.0, 300.0), rng.uniform(60.0, 800.0)])
    beyond, dice = rng.random() < 0.4, rng.random()
    pause_s, words = rng.choice([5.0, 60.0, 400.0]), _limit_words(rng, servers, backups)
    return Request(
        at=at,
        verb=verb,
        words=words if verb == "limits" else ("second",) if verb == "approve" else (),
        beyond_plan=beyond and verb == "limits",
        dice=dice,
        pause_s=pause_s if verb == "pause" else 0.0,
    )


def _limit_words(
    rng: random.Random, servers: Mapping[str, int], backups: Mapping[str, str]
) -> tuple[str, ...]:
    """Return one to three new limits: mostly lower ones, some above the plan, few in error."""
    words = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        server = rng.choice(sorted(servers))
        scope = rng.choice(["run", server, server, f"{server}/{backups.get(server, 'nothing')}"])
        if rng.random() < 0.03:
            scope = "elsewhere"
        words.append(f"{scope}.mounts={rng.choice([1, 1, 2, 3, servers[server], 9])}")
    return tuple(words)
