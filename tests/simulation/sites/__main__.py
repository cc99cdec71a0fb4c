"""`python -m tests.simulation.sites 1-5000`: a long hunt; every failing seed is named."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.__main__ import spare_the_collector
from tests.simulation.sites.play import Violation, played


def tried(seed: int, *, briefly: bool) -> tuple[str, Counter[str]]:
    """Play one seed; return what was wrong, if anything, and what struck."""
    try:
        return "", played(seed, briefly=briefly).hits
    except Violation as exc:
        return str(exc), Counter()


def main() -> int:
    """Play all seeds of the range; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.sites")
    parser.add_argument("seeds", help="FIRST-LAST, or one seed")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--briefly", action="store_true", help="with mounts of seconds")
    chosen = parser.parse_args()
    first, _, last = chosen.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    if len(seeds) == 1:
        return alone(seeds[0], briefly=chosen.briefly)
    play = partial(tried, briefly=chosen.briefly)
    failed, hits, began = 0, Counter[str](), time.monotonic()
    with ProcessPoolExecutor(chosen.workers, initializer=spare_the_collector) as pool:
        for wrong, struck in pool.map(play, seeds, chunksize=4):
            hits.update(struck)
            if wrong:
                failed += 1
                print(wrong, flush=True)
    took = time.monotonic() - began
    for kind, count in sorted(hits.items()):
        print(f"{count:>7}  {kind}")
    print(f"{len(seeds)} seeds, {failed} failed, {len(seeds) / took:.1f} a second")
    return 1 if failed else 0


def alone(seed: int, *, briefly: bool) -> int:
    """Play one seed, and show where it broke."""
    try:
        done = played(seed, briefly=briefly)
    except Violation as exc:
        traceback.print_exception(exc.__cause__)
        print(exc)
        return 1
    print(f"{done.took_s:.1f} s, {dict(done.hits)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
