"""`make strikes-sites`: strike runs over several machines at hundreds of random instants."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.strikes.sites.blows import BLOWS
from tests.strikes.sites.judge import TAKEN_OVER
from tests.strikes.sites.story import Struck, database_server, story

TAKEOVER_S = 10.0
NEXT_MOUNT_S = 15.0
"""How long after a strike each may come at most: what the project promises."""


def main() -> int:
    """Make strikes of all kinds in turn, or of one; return 1 if something was wrong."""
    chosen = _arguments()
    kinds = [chosen.kind] if chosen.kind else list(BLOWS)
    numbers = range(chosen.seed, chosen.seed + chosen.count)
    made: list[Struck] = []
    with database_server() as server, ProcessPoolExecutor(chosen.at_once) as pool:
        waiting = [
            pool.submit(story, kinds[number % len(kinds)], number, server, chosen.keep)
            for number in numbers
        ]
        for each in as_completed(waiting):
            made.append(each.result())
            _tell(made[-1], verbose=chosen.verbose)
    print(f"{len(made)} strikes, {sum(bool(wrong(each)) for each in made)} of them with violations")
    for kind in kinds:
        _sum_up(kind, [each for each in made if each.kind == kind])
    return 1 if any(map(wrong, made)) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.strikes.sites")
    parser.add_argument("count", type=int, help="how many strikes to make")
    parser.add_argument("--at-once", type=int, default=3, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="number of the first one")
    parser.add_argument("--kind", choices=list(BLOWS), help="default: all of them in turn")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the files of each")
    parser.add_argument(
        "--verbose", action="store_true", help="a line for each, also if it is good"
    )
    return parser.parse_args()


def wrong(struck: Struck) -> list[str]:
    """Return what was wrong, the lateness of a takeover included."""
    verdict = struck.verdict
    found = [*verdict.wrong, *verdict.untimely]
    if struck.kind in TAKEN_OVER | {"conductor"}:
        for what, seconds, most in (
            ("taken over", verdict.takeover_s, TAKEOVER_S),
            ("next mount", verdict.next_mount_s, NEXT_MOUNT_S),
        ):
            if seconds is not None and seconds > most:
                found.append(f"{what} after {seconds:.1f} s")
    return found


def _tell(struck: Struck, *, verbose: bool) -> None:
    """Print what was wrong, and how to try it again."""
    found, verdict = wrong(struck), struck.verdict
    if verbose or found:
        times = [
            f"{each:.1f} s" if each else "-" for each in (verdict.takeover_s, verdict.next_mount_s)
        ]
        print(
            f"{struck.kind} {struck.number}: taken over {times[0]}, next mount {times[1]}, exit "
            f"{struck.code}, {struck.unknown} unknown, {struck.left} left",
            flush=True,
        )
    for each in found:
        print(f"  WRONG: {each}\n  {struck.again}", flush=True)


def _sum_up(kind: str, made: Sequence[Struck]) -> None:
    if not made:
        return
    codes = Counter(str(each.code) for each in made)
    bad = sum(bool(wrong(each)) for each in made)
    unknown, left = sum(each.unknown for each in made), sum(each.left for each in made)
    takeovers = [t for each in made if (t := each.verdict.takeover_s) is not None]
    mounts = [t for each in made if (t := each.verdict.next_mount_s) is not None]
    print(
        f"{kind:9} {len(made):3} made, {bad} wrong; taken over {_spread(takeovers)}; next mount "
        f"{_spread(mounts)}; exit codes {dict(sorted(codes.items()))}; {unknown} unknown, "
        f"{left} left"
    )


def _spread(seconds: Sequence[float]) -> str:
    """Return median, 99th percentile and maximum."""
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return f"{statistics.median(ordered):.1f}/{p99:.1f}/{ordered[-1]:.1f} s of {len(ordered)}"


if __name__ == "__main__":
    sys.exit(main())
