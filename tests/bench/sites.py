"""A run over several machines beside the same run on one: CPU, makespan, commits, the start.

`python -m tests.bench.sites` measures all of it, `… one`, `… hundred`, `… lasting`, `… latency` or
`… long` one figure, in `--rounds` pairs, each of one run here and one there. CPU is that of all
processes of the product: of `run` here, of `submit` and every `work` there, from start to end. That
of the simulated servers and of PostgreSQL is not counted. Over a database `run` would write the
reports, too; who does so there is `report` or `submit --wait`, so what counts it in is shown as
well.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from statistics import median

import anyio
import psycopg
from msgspec import Struct

from orchestrator.database.address import read_address
from orchestrator.database.installation import init
from orchestrator.database.private_server import private_server
from orchestrator.database.token_key import make_key
from orchestrator.simulator.truth import GroundTruth
from tests.bench import real
from tests.bench.distance import far_away
from tests.bench.drills import Shape, plan_text
from tests.bench.figures import Figure
from tests.bench.real import Cost, cost_of, launched
from tests.bench.start import COMMAND

SECONDS = (1.0, 3.0)
FEW = Shape(servers=1, machines=20, server=20, backup_server=20, seconds=SECONDS)
ONE = Shape(servers=1, machines=400, server=20, backup_server=20, seconds=SECONDS)
SLOW = Shape(servers=1, machines=120, server=20, backup_server=20, seconds=(9.0, 14.0))
LONG = Shape(servers=1, machines=2000, server=20, backup_server=20, seconds=SECONDS)
HUNDRED = Shape(servers=100, machines=10, server=5, backup_server=5, seconds=SECONDS)
MORE = Shape(servers=100, machines=20, server=5, backup_server=5, seconds=SECONDS)
LASTING = Shape(servers=100, machines=20, server=5, backup_server=5, seconds=(9.0, 14.0))
ROUNDS = 3
FAR_S = 0.1
"""Seconds of a round trip to a database that is far away."""

COMMITS = """
SELECT sum(most) FROM (
    SELECT max(attempt) AS most
    FROM bulk_restore.head JOIN (
        SELECT chain, max(convert_from(body, 'UTF8')::json ->> 'worker') AS worker
        FROM bulk_restore.event WHERE kind = 'ShardTaken' GROUP BY chain
    ) served USING (chain) GROUP BY worker
) each_worker
"""
"""Each worker counts its commits; the highest number is in the chain it wrote last."""

RECORDS = "SELECT count(*) FROM bulk_restore.event"
SPREAD = "SELECT max(at) - min(at) FROM bulk_restore.event WHERE kind = 'ShardTaken'"


class Done(Struct, frozen=True, kw_only=True):
    """What a run took; CPU over all processes of the product."""

    cpu_s: float
    makespan_s: float
    mounts: int
    reported_s: float = 0.0
    """CPU seconds of `report`, where the run itself writes none."""
    commits: int = 0
    records: int = 0
    last_begun_s: float = 0.0
    """Seconds from the first shard that was begun to the last one."""


class Pair(Struct, frozen=True, kw_only=True):
    """The same job on one machine and over a database, one after the other."""

    here: Done
    there: Done


def embedded(shape: Shape) -> Done:
    """Do the job in one process, with a journal in a directory."""
    with real.job(shape, apart=shape.servers < 10) as (running, servers, directory):
        plan = directory / "plan.yaml"
        plan.write_text(plan_text(shape, servers))
        places = ["--state", str(directory / "state"), "--report", str(directory / "report")]
        cost = cost_of([*COMMAND, "run", str(plan), *places, "--yes", "--quiet"])
        return _done([cost], running.truth())


def over_database(shape: Shape, workers: int, *, far_s: float = 0.0) -> Done:
    """Do the job with so many workers over a PostgreSQL whose round trip takes `far_s` more."""
    with ExitStack() as stack:
        postgresql = stack.enter_context(private_server())
        running, servers, directory = stack.enter_context(real.job(shape, apart=shape.servers < 10))
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="bulk-restore-bench-"))
        postgresql.make_database("bench")
        near, key = postgresql.url("bench"), Path(temporary) / "key"
        anyio.run(init, read_address(near))
        make_key(key)
        way = far_away(postgresql, "bench", far_s / 2) if far_s else nullcontext(near)
        url = stack.enter_context(way)
        plan = directory / "plan.yaml"
        plan.write_text(plan_text(shape, servers))
        submitted = cost_of([*COMMAND, "submit", str(plan), "--state", url])
        done = _done([submitted, *_worked(url, key, workers)], running.truth())
        places = ["--state", url, "--report", str(directory / "report")]
        reported = cost_of([*COMMAND, "report", "last", *places])
        with psycopg.connect(near) as connection:
            commits, records, spread = [
                float(connection.execute(query).fetchall()[0][0])
                for query in (COMMITS, RECORDS, SPREAD)
            ]
        return Done(
            cpu_s=done.cpu_s,
            makespan_s=done.makespan_s,
            mounts=done.mounts,
            reported_s=reported.cpu_s,
            commits=int(commits),
            records=int(records),
            last_begun_s=spread,
        )


def _worked(url: str, key: Path, workers: int) -> list[Cost]:
    """Let workers carry out all that is submitted, and return what each took."""
    work = [*COMMAND, "work", "--site", "default", "--token-key", str(key), "--state", url]
    argv = [*work, "--shards", "51", "--until-idle", "--quiet"]
    processes = [launched(argv) for _ in range(workers)]
    outputs = [process.communicate()[0] for process in processes]
    assert not any(process.returncode for process in processes)
    return [Cost(**json.loads(output)) for output in outputs]


def _done(costs: Sequence[Cost], truth: GroundTruth) -> Done:
    assert not truth.still_open()
    ends = [mount.closed_at for mount in truth.mounts if mount.closed_at is not None]
    return Done(
        cpu_s=sum(cost.cpu_s for cost in costs),
        makespan_s=max(ends) - min(mount.requested_at for mount in truth.mounts),
        mounts=len(truth.mounts),
    )


def pairs(shape: Shape, workers: int, rounds: int, *, far_s: float = 0.0) -> list[Pair]:
    """Do a job here and there in turn; what each took is shown on stderr."""
    measured = []
    for _ in range(rounds):
        pair = Pair(here=embedded(shape), there=over_database(shape, workers, far_s=far_s))
        print(pair, file=sys.stderr, flush=True)
        measured.append(pair)
    return measured


def ratio(measured: Sequence[Pair], of: Callable[[Done], float]) -> float:
    """Return the median of paired ratios, there to here."""
    return median([of(pair.there) / of(pair.here) for pair in measured])


# --- the figures ----------------------------------------------------------------------------------


def whole(measured: Sequence[Pair], what: str) -> Iterator[Figure]:
    """Say what a job costs from the start of its first process to the end of its last one."""
    yield Figure(
        what=f"over PostgreSQL / on one machine: CPU per mount, {what}",
        value=ratio(measured, lambda done: done.cpu_s / done.mounts),
        limit=1.25,
    )
    yield Figure(
        what="… with `report`, which writes what `run` writes by itself",
        value=ratio(measured, lambda done: done.cpu_s + done.reported_s),
    )
    yield Figure(
        what="… makespan",
        value=ratio(measured, lambda done: done.makespan_s),
        limit=1.03,
    )


def slopes(few: Sequence[Pair], many: Sequence[Pair]) -> Iterator[Figure]:
    """Say what a further mount costs, and what is spent however few there are."""
    here = slope([pair.here for pair in few], [pair.here for pair in many])
    there = slope([pair.there for pair in few], [pair.there for pair in many])
    sizes = f"{few[0].here.mounts} to {many[0].here.mounts} mounts"
    yield Figure(what=f"… a further mount alone, from {sizes}", value=there[0] / here[0])
    for name, (each_s, start_s) in (("on one machine", here), ("over PostgreSQL", there)):
        yield Figure(what=f"… CPU of one, {name}", value=1000 * each_s, unit="ms")
        yield Figure(what="… CPU of start and end alone", value=start_s, unit="s")


def slope(few: Sequence[Done], many: Sequence[Done]) -> tuple[float, float]:
    """Return the CPU seconds of a further mount, and those of a run without any."""
    least, most = (median([done.cpu_s for done in each]) for each in (few, many))
    each_s = (most - least) / (many[0].mounts - few[0].mounts)
    return each_s, least - each_s * few[0].mounts


def commits(measured: Sequence[Pair], limit: float | None) -> Figure:
    """Say how many commits a record takes."""
    return Figure(
        what="… commits per record",
        value=max(pair.there.commits / pair.there.records for pair in measured),
        limit=limit,
        digits=3,
    )


def one(rounds: int = ROUNDS) -> Iterator[Figure]:
    """Measure one server, and what of it is start."""
    few, many = pairs(FEW, 1, rounds), pairs(ONE, 1, rounds)
    yield from whole(many, "1 server × 400 mounts, limit 20, one worker")
    yield from slopes(few, many)
    yield commits(many, None)


def long(rounds: int = 1) -> Iterator[Figure]:
    """Measure one server and five times as many mounts, which takes some minutes."""
    few, many = pairs(ONE, 1, rounds), pairs(LONG, 1, rounds)
    yield from whole(many, "1 server × 2,000 mounts, limit 20, one worker")
    yield from slopes(few, many)
    yield commits(many, None)


def hundred(rounds: int = ROUNDS) -> Iterator[Figure]:
    """Measure a hundred servers and two workers."""
    few, measured = pairs(HUNDRED, 2, rounds), pairs(MORE, 2, rounds)
    yield from whole(few, "100 servers × 10 mounts, limit 5, two workers")
    yield from whole(measured, "100 servers × 20 mounts, limit 5, two workers")
    yield from slopes(few, measured)
    yield commits(few + measured, 0.05)
    yield Figure(
        what="… the last server is begun after the first",
        value=max(pair.there.last_begun_s for pair in few + measured),
        limit=10,
        unit="s",
        digits=1,
    )


def lasting(rounds: int = ROUNDS) -> Iterator[Figure]:
    """Measure a hundred servers whose mounts last as long as real ones: no CPU is short then."""
    measured = pairs(LASTING, 2, rounds)
    yield from whole(measured, "100 servers × 20 mounts of 9 to 14 s, limit 5, two workers")
    yield commits(measured, 0.05)
    yield Figure(
        what="… the last server is begun after the first",
        value=max(pair.there.last_begun_s for pair in measured),
        limit=10,
        unit="s",
        digits=1,
    )


def latency(rounds: int = ROUNDS) -> Iterator[Figure]:
    """Measure a database that is far away.

    Intents of one session follow one another, each with its answer. So mounts of two seconds are
    the hard case: at limit 20 one is to begin every 115 ms, and each intent alone takes 100.
    """
    for shape, what in ((SLOW, "120 mounts of 9 to 14 s"), (ONE, "400 mounts of 1 to 3 s")):
        measured = pairs(shape, 1, rounds, far_s=FAR_S)
        yield Figure(
            what=f"over PostgreSQL, {1000 * FAR_S:.0f} ms away / on one machine: makespan, "
            f"1 server × {what}, limit 20, one worker",
            value=ratio(measured, lambda done: done.makespan_s),
            limit=1.10,
        )
        yield commits(measured, None)


SOURCES = {
    "one": one,
    "hundred": hundred,
    "lasting": lasting,
    "latency": latency,
    "long": long,
}


def figures() -> Iterator[Figure]:
    """Measure both in turn: on one server, on a hundred, and with a database far away."""
    embedded(FEW), over_database(FEW, 1)  # so that all modules are compiled
    yield from one()
    yield from hundred()
    yield from lasting()
    yield from latency()


def main() -> None:
    """Measure what was asked for, and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sites")
    parser.add_argument("what", nargs="?", choices=SOURCES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = parser.parse_args()
    if chosen.what is None:
        found = figures()
    else:
        embedded(FEW), over_database(FEW, 1)
        found = SOURCES[chosen.what](chosen.rounds)
    for figure in found:
        print(figure.row, flush=True)


if __name__ == "__main__":
    main()
