"""`make strikes`: kill and stop runs at hundreds of random instants."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.strikes.strike import Struck, strike


def main() -> int:
    """Make all strikes, or one; return 1 if one of them broke an invariant."""
    parser = argparse.ArgumentParser(prog="make strikes")
    parser.add_argument("at", nargs="?", help="kill:NUMBER or stop:NUMBER; all by default")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stops", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1))
    chosen = parser.parse_args()
    wanted: dict[str, Sequence[int]]
    if chosen.at:
        kind, _, number = chosen.at.partition(":")
        wanted = {kind: [int(number)]}
    else:
        wanted = {"kill": range(1, chosen.kills + 1), "stop": range(1, chosen.stops + 1)}
    violations = 0
    with ProcessPoolExecutor(chosen.workers) as pool:
        for kind, numbers in wanted.items():
            tried = pool.map(_tried, [kind] * len(numbers), numbers)
            violations += _summed_up(kind, list(tried))
    return 1 if violations else 0


def _tried(kind: str, number: int) -> Struck | str:
    """Return what came of a strike, or what was wrong."""
    try:
        return strike(kind, number)
    except AssertionError as exc:
        print(exc, flush=True)
        return str(exc)


def _summed_up(kind: str, tried: Sequence[Struck | str]) -> int:
    """Print what came of all strikes of a kind; return how many broke an invariant."""
    good = [struck for struck in tried if isinstance(struck, Struck)]
    codes = Counter(struck.code for struck in good if struck.began)
    before = sum(not struck.began for struck in good)
    print(
        f"{len(tried)} x {kind}: {sum(struck.hit > 0 for struck in good)} struck a process at "
        f"work, {sum(struck.hit > 1 for struck in good)} two of them, {before} before the run "
        f"began; {sum(struck.targets for struck in good)} targets, "
        f"{sum(struck.unknown for struck in good)} unknown, "
        f"{sum(struck.left for struck in good)} left and removed afterwards; exit codes "
        f"{dict(sorted(codes.items()))}; {len(tried) - len(good)} violations",
        flush=True,
    )
    return len(tried) - len(good)


if __name__ == "__main__":
    sys.exit(main())
