"""The order rule alone, against what no schedule can beat: any arrangement of a plan."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from orchestrator.engine.admission import Limits
from orchestrator.model import MountKey, MountRequest, ServerName
from tests.bench.figures import Figure
from tests.bench.schedule import greedy_makespan, heavy_tailed, lower_bound, request

SERVERS = ("a", "b", "c")
LIMITS = Limits(run=30, servers={ServerName(s): 12 for s in SERVERS}, backup_server_default=4)
ARRANGEMENTS = ("by server", "in turn", "shuffled", "by backup server", "one backup server full")
SEEDS = range(5)
TARGETS = 600


def arranged(kind: str, rng: random.Random) -> list[MountRequest]:
    """Return requests in the order of a plan file."""
    found = []
    for number in range(TARGETS):
        server = SERVERS[number % 3]
        if kind == "by server":
            server = SERVERS[number * 3 // TARGETS]
        elif kind == "shuffled":
            server = rng.choice(SERVERS)
        behind = number // 3 % 4
        if kind == "by backup server":
            behind = number * 4 // TARGETS
        elif kind == "one backup server full" and rng.random() < 0.5:
            behind = 0
        found.append(request(number, server, f"{server}{behind}"))
    return found


def _ratio(
    requests: Sequence[MountRequest], seconds: dict[MountKey, float], known: dict[MountKey, float]
) -> float:
    def truth(request: MountRequest) -> float:
        return seconds[request.key]

    took = greedy_makespan(requests, LIMITS, truth, lambda each: known.get(each.key, 180.0))
    return took / lower_bound(requests, LIMITS, truth)


def plan_order(requests: Sequence[MountRequest], seconds: dict[MountKey, float]) -> float:
    """Return makespan / bound of strict plan order: the head waits, and everybody behind it."""
    ends: list[tuple[float, MountRequest]] = []
    clock = 0.0
    for wanted in requests:
        while not _fits(wanted, [each for end, each in ends if end > clock]):
            clock = min(end for end, _ in ends if end > clock)
        ends.append((clock + seconds[wanted.key], wanted))
    bound = lower_bound(requests, LIMITS, lambda each: seconds[each.key])
    return max(end for end, _ in ends) / bound


def _fits(wanted: MountRequest, running: Sequence[MountRequest]) -> bool:
    same = [each for each in running if each.server == wanted.server]
    behind = [each for each in same if each.backup_server == wanted.backup_server]
    return len(running) < (LIMITS.run or 0) and len(same) < 12 and len(behind) < 4


def figures() -> Iterator[Figure]:
    """Measure the worst of all arrangements and seeds."""
    mild: list[float] = []
    informed: list[float] = []
    strict: list[float] = []
    for kind in ARRANGEMENTS:
        for seed in SEEDS:
            rng = random.Random(seed)
            requests = arranged(kind, rng)
            keys = [each.key for each in requests]
            even = dict(zip(keys, heavy_tailed(rng, TARGETS, sigma=0.3), strict=True))
            tailed = dict(zip(keys, heavy_tailed(rng, TARGETS), strict=True))
            noisy = {key: value * rng.lognormvariate(0.0, 0.25) for key, value in tailed.items()}
            mild.append(_ratio(requests, even, {}))
            informed.append(_ratio(requests, tailed, noisy))
            strict.append(plan_order(requests, tailed))
    yield Figure(
        what="makespan / resource lower bound, worst of 5 arrangements × 5 seeds, no history",
        value=max(mild),
        limit=1.08,
        digits=3,
    )
    yield Figure(
        what="… with a duration history (25 % off), heavy-tailed durations",
        value=max(informed),
        limit=1.06,
        digits=3,
    )
    yield Figure(
        what="… the same in strict plan order, for comparison", value=max(strict), digits=2
    )
