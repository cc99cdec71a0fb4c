"""`make simulate-seeds SEEDS=1-5000`: a long hunt; every failing seed is named."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.hits import assert_enough, table
from tests.simulation.nemesis import Violation, played, scratch
from tests.simulation.troubles import ALL, PLAYED

ENOUGH = 2000
"""From this many seeds on, every kind of fault must have struck often enough."""


def tried(seed: int, more: frozenset[str]) -> tuple[str, Counter[str]]:
    """Play one seed; return what was wrong, if anything, and what struck."""
    with scratch() as directory:
        try:
            return "", played(seed, directory, more).hits
        except Violation as exc:
            return str(exc), Counter()


def spare_the_collector() -> None:
    """Let it pass over what was imported: that stays until the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def main() -> int:
    """Play all seeds of the range; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="make simulate-seeds")
    parser.add_argument("seeds", help="FIRST-LAST, or one seed")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument(
        "--more", help="kinds of hits of `troubles`, with commas, or all; by default those played"
    )
    chosen = parser.parse_args()
    more = PLAYED if chosen.more is None else frozenset(chosen.more.split(","))
    more = ALL if chosen.more == "all" else more
    first, _, last = chosen.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    failed = 0
    hits: Counter[str] = Counter()
    began = time.monotonic()
    workers = min(chosen.workers or 1, len(seeds))
    with ProcessPoolExecutor(workers, initializer=spare_the_collector) as pool:
        for wrong, struck in pool.map(partial(tried, more=more), seeds, chunksize=8):
            hits.update(struck)
            if wrong:
                failed += 1
                print(wrong, flush=True)
    took = time.monotonic() - began
    print(table(hits))
    print(f"{len(seeds)} seeds, {failed} failed, {len(seeds) / took:.1f} a second")
    if not failed and len(seeds) >= ENOUGH:
        assert_enough(hits, more)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
