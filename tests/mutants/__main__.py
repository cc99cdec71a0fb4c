"""`make mutants`: plant every bug and see that the tests it names catch it."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.mutants import Mutant, copied, mutants, plant, tested

CAUGHT, SURVIVED, BROKEN = "caught", "SURVIVED", "BROKEN"


def main() -> int:
    """Try all mutants, or those named; return 1 unless every one was caught."""
    parser = argparse.ArgumentParser(prog="make mutants")
    parser.add_argument("names", nargs="*", help="of mutants; all by default")
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args()
    found = [each for each in mutants() if not chosen.names or each.name in chosen.names]
    tests = sorted({test for each in found for test in each.caught_by})
    with copied() as directory:
        sound = tested(directory, tests)
    if sound.returncode != 0:
        print(sound.stdout + sound.stderr)
        print("without any mutant these tests must pass")
        return 1
    with ThreadPoolExecutor(chosen.workers) as pool:
        outcomes = list(pool.map(_tried, found))
    caught = outcomes.count(CAUGHT)
    print(f"{len(found)} mutants, {caught} caught, {len(found) - caught} not")
    return 0 if found and caught == len(found) else 1


def _tried(mutant: Mutant) -> str:
    """Plant a mutant, run its tests, and print and return what became of it."""
    began = time.monotonic()
    with copied() as directory:
        why = plant(mutant, directory)
        done = None if why else tested(directory, mutant.caught_by)
    if done is not None:
        outcome = {0: SURVIVED, 1: CAUGHT}.get(done.returncode, BROKEN)
        why = done.stdout + done.stderr if outcome is BROKEN else ""
    else:
        outcome = BROKEN
    took = time.monotonic() - began
    print(f"{outcome:<8} {mutant.name:<30} {took:5.1f} s  {mutant.about}", flush=True)
    if why:
        print(why, flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
