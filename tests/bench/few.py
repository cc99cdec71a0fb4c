"""Few slots: what one mount costs in requests and connections where 50, 12 or 4 are open."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.bench import real, virtual
from tests.bench.drills import Shape
from tests.bench.figures import Figure, percentile

SECONDS = (9.0, 14.0)
MOST_REQUESTS = {50: 4.15, 12: 4.6, 4: 6.0}
"""Requests per mount, logon to logoff, by the mounts that are open at a time on a server."""


def shape_of(slots: int, *, rounds: int = 10) -> Shape:
    """Return a drill on one server in which every slot is used `rounds` times."""
    return Shape(
        servers=1,
        machines=slots * rounds,
        server=slots,
        backup_server=slots,
        seconds=SECONDS,
    )


def figures() -> Iterator[Figure]:
    """Measure over HTTPS, all three at once, and how late the end of a task is noticed."""
    with ThreadPoolExecutor(len(MOST_REQUESTS)) as pool:
        runs = dict(
            zip(MOST_REQUESTS, pool.map(real.ours, map(shape_of, MOST_REQUESTS)), strict=True)
        )
    for slots, run in runs.items():
        yield Figure(
            what=f"HTTP requests per mount, {slots} slots, mounts of 9 to 14 s",
            value=run.requests,
            limit=MOST_REQUESTS[slots],
        )
        made = sum(run.truth.connections.values())
        yield Figure(
            what=f"… TLS connections, {run.targets} mounts",
            value=made,
            limit=8 + 0.05 * run.targets,
            digits=0,
        )
    for slots in MOST_REQUESTS:
        ran = virtual.drill(shape_of(slots))
        yield Figure(
            what=f"… makespan / perfect greedy, virtual time, {slots} slots",
            value=ran.over_greedy(),
            digits=3,
        )
        yield Figure(what="… detection delay: median", value=percentile(ran.delays, 0.5), unit="s")
        yield Figure(what="… 99th percentile", value=percentile(ran.delays, 0.99), unit="s")
