"""The order rule alone, against what no schedule can beat: any arrangement of a plan."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence

from orchestrator.core.model import MountKey, MountRequest, ServerName
from orchestrator.engine.limits import Limits
from orchestrator.engine.scheduler import Scheduler
from orchestrator.engine.slot import Slot
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
    yield Figure(
        what="… 12 machines × 20 points beside 240 machines with one, worst of 3 orders",
        value=max(map(_chains, range(3))),
        limit=1.05,
        digits=3,
    )
    yield Figure(
        what="… two waves without `after`, the tail of the later one on one backup server",
        value=max(map(_tail, SEEDS)),
        limit=1.05,
        digits=3,
    )
    few, many = _release_s(lanes=16), _release_s(lanes=10_000)
    yield Figure(
        what="a slot given back at 10,000 backup servers / at 16, CPU", value=many / few, limit=3
    )


def _chains(seed: int) -> float:
    """Return makespan / bound with machines of which 20 restore points are mounted each."""
    plain = [request(n, "a", f"a{n % 4}") for n in range(240)]
    chains = [request(n, "a", f"a{n % 4}", vm=f"db{n % 12}") for n in range(240, 480)]
    requests = [*plain, *chains]
    random.Random(seed).shuffle(requests)
    limits = Limits(servers={ServerName("a"): 24}, backup_server_default=8)
    took = greedy_makespan(requests, limits, _three_minutes, _three_minutes)
    return took / lower_bound(requests, limits, _three_minutes)


def _tail(seed: int) -> float:
    """Return makespan / bound of two waves, the second one with all its targets on one backup."""
    requests = [request(n, "a", f"a{n % 4}", wave="first") for n in range(300)]
    requests += [request(n, "a", "a0", wave="second") for n in range(300, 380)]
    keys = [each.key for each in requests]
    seconds = dict(zip(keys, heavy_tailed(random.Random(seed), 380, sigma=0.3), strict=True))
    return _ratio(requests, seconds, {})


def _three_minutes(_request: MountRequest) -> float:
    return 180.0


def _release_s(*, lanes: int, releases: int = 1000) -> float:
    """Return the CPU seconds of a slot that is given back while so many lanes have work."""
    count = 2 * max(lanes, releases)
    requests = [request(n, f"em{n % 4}", f"b{n // 4 % (lanes // 4)}") for n in range(count)]
    slots: list[Slot] = []

    def take(_request: MountRequest, slot: Slot | None) -> None:
        assert slot is not None
        slots.append(slot)

    Scheduler(Limits(run=8), [requests[0].wave], _three_minutes).offer(requests, take)
    began = time.process_time()
    for place in range(releases):
        slots[place].release()
    return (time.process_time() - began) / releases
