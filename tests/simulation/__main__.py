"""`make simulate-seeds SEEDS=1-5000`: a long hunt; every failing seed is named."""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from orchestrator import logs
from tests.simulation.nemesis import played


def tried(seed: int) -> tuple[int, str, Counter[str]]:
    """Play one seed; return it with what was wrong, if anything, and how its targets ended."""
    logs.configure(verbosity=-1, stream=io.StringIO())
    with tempfile.TemporaryDirectory(prefix="bulk-restore-seed-") as temporary:
        try:
            done = played(seed, Path(temporary))
        except Exception as exc:
            return seed, f"{type(exc).__name__}: {exc}"[:400], Counter()
        return seed, "", Counter(done.results().values())


def main() -> int:
    """Play all seeds of the range; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="make simulate-seeds")
    parser.add_argument("seeds", help="FIRST-LAST")
    parser.add_argument("--workers", type=int, default=None)
    chosen = parser.parse_args()
    first, _, last = chosen.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    failed = 0
    results: Counter[str] = Counter()
    with ProcessPoolExecutor(chosen.workers) as pool:
        for seed, wrong, ended in pool.map(tried, seeds, chunksize=4):
            results += ended
            if wrong:
                failed += 1
                print(f"seed {seed}: {wrong}\n  make simulate-seeds SEEDS={seed}", flush=True)
    print(f"{len(seeds)} seeds, {failed} failed; targets: {dict(results)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
