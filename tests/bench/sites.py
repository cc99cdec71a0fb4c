"""A run over several machines beside the same run on one: CPU, makespan, commits, the start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import psycopg

from orchestrator.database.address import read_address
from orchestrator.database.installation import init
from orchestrator.database.private_server import private_server
from orchestrator.database.token_key import make_key
from orchestrator.simulator.process import PASSWORD_VARIABLE
from orchestrator.simulator.truth import GroundTruth
from tests.bench import real
from tests.bench.drills import Shape, plan_text
from tests.bench.figures import Figure
from tests.bench.real import Cost, cost_of
from tests.processes import PASSWORD

ONE = Shape(servers=1, machines=400, server=20, backup_server=20, seconds=(1.0, 3.0))
MANY = Shape(servers=100, machines=10, server=5, backup_server=5, seconds=(1.0, 3.0))
COMMAND = (sys.executable, "-m", "orchestrator")
ROUNDS = 3

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a run took; CPU over all processes of the product."""

    cpu_s: float
    makespan_s: float
    mounts: int
    commits: int = 0
    records: int = 0
    last_begun_s: float = 0.0
    """Seconds from the first shard that was begun to the last one."""

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds per mount."""
        return 1000 * self.cpu_s / self.mounts


def embedded(shape: Shape) -> Done:
    """Do the job in one process, with a journal in a directory."""
    with real.job(shape, apart=shape.servers < 10) as (running, servers, directory):
        plan = directory / "plan.yaml"
        plan.write_text(plan_text(shape, servers))
        places = ["--state", str(directory / "state"), "--report", str(directory / "report")]
        cost = cost_of([*COMMAND, "run", str(plan), *places, "--yes", "--quiet"])
        return _done([cost], running.truth())


def over_database(shape: Shape, workers: int) -> Done:
    """Do the job with so many workers over a PostgreSQL."""
    with (
        private_server() as postgresql,
        real.job(shape, apart=shape.servers < 10) as (running, servers, directory),
        tempfile.TemporaryDirectory(prefix="bulk-restore-bench-") as temporary,
    ):
        postgresql.make_database("bench")
        url, key = postgresql.url("bench"), Path(temporary) / "key"
        anyio.run(init, read_address(url))
        make_key(key)
        plan = directory / "plan.yaml"
        plan.write_text(plan_text(shape, servers))
        submitted = cost_of([*COMMAND, "submit", str(plan), "--state", url])
        costs = _worked(url, key, workers)
        done = _done([submitted, *costs], running.truth())
        with psycopg.connect(url) as connection:
            commits, records, spread = [
                float(connection.execute(query).fetchall()[0][0])
                for query in (COMMITS, RECORDS, SPREAD)
            ]
        return Done(
            cpu_s=done.cpu_s,
            makespan_s=done.makespan_s,
            mounts=done.mounts,
            commits=int(commits),
            records=int(records),
            last_begun_s=spread,
        )


def _worked(url: str, key: Path, workers: int) -> list[Cost]:
    """Let workers carry out all that is submitted, and return what each took."""
    work = [*COMMAND, "work", "--site", "default", "--token-key", str(key), "--state", url]
    room = ["--shards", "51", "--until-idle", "--quiet"]
    launched = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.bench.launcher", *work, *room],
            env={**os.environ, PASSWORD_VARIABLE: PASSWORD},
            stdout=subprocess.PIPE,
        )
        for _ in range(workers)
    ]
    outputs = [process.communicate()[0] for process in launched]
    assert not any(process.returncode for process in launched)
    return [Cost(**json.loads(output)) for output in outputs]


def _done(costs: Sequence[Cost], truth: GroundTruth) -> Done:
    assert not truth.still_open()
    ends = [mount.closed_at for mount in truth.mounts if mount.closed_at is not None]
    return Done(
        cpu_s=sum(cost.cpu_s for cost in costs),
        makespan_s=max(ends) - min(mount.requested_at for mount in truth.mounts),
        mounts=len(truth.mounts),
    )


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of paired ratios."""
    return sorted(a / b for a, b in zip(ours, theirs, strict=True))[len(ours) // 2]


def figures() -> Iterator[Figure]:
    """Measure both in turn, on one server and on a hundred."""
    for shape, workers, what in (
        (ONE, 1, "1 server × 400 mounts, limit 20, one worker"),
        (MANY, 2, "100 servers × 10 mounts, limit 5, two workers"),
    ):
        pairs = [(embedded(shape), over_database(shape, workers)) for _ in range(ROUNDS)]
        here, there = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        yield Figure(
            what=f"over PostgreSQL / on one machine: CPU per mount, {what}",
            value=_ratio([each.cpu_ms for each in there], [each.cpu_ms for each in here]),
            limit=1.25,
        )
        yield Figure(
            what="… makespan",
            value=_ratio([each.makespan_s for each in there], [each.makespan_s for each in here]),
            limit=1.03,
        )
        yield Figure(
            what="… commits per record",
            value=max(each.commits / each.records for each in there),
            limit=0.05 if workers > 1 else None,
            digits=3,
        )
        yield Figure(
            what="… the last server is begun after the first",
            value=max(each.last_begun_s for each in there),
            limit=10,
            unit="s",
            digits=1,
        )


if __name__ == "__main__":
    for figure in figures():
        print(figure.row, flush=True)
