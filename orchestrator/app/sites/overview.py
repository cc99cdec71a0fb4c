"""Who works on a run over several machines, and what nobody does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from orchestrator.core.errors import RunNotFound
from orchestrator.core.model import RunId
from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.served_run import ServedRun, Work
from orchestrator.core.sites import LEASE_LIFE_S, Holder, ShardRow
from orchestrator.core.text import counted, duration, printable, time_of_day, timestamp

__all__ = ["ServedRun", "Work", "as_values", "lines", "overview"]


async def overview(database: SitesDatabase, run: RunId) -> ServedRun:
    """Return who works on a run.

    Raises:
        RunNotFound: there is no such run.
    """
    row = next((each for each in await database.runs() if each.run == run), None)
    if row is None:
        raise RunNotFound(f"there is no run {run}")
    shards = tuple(await database.shards(run))
    workers = {each.worker: each for each in await database.workers()}
    return ServedRun(row=row, shards=shards, workers=workers)


def as_values(served: ServedRun) -> dict[str, object]:
    """Return `conductor` and `shards`, as `status --json` shows them."""
    return {
        "conductor": _values(served, served.conductor),
        "shards": [
            {"server": each.server, "site": each.site, **_values(served, each)}
            for each in served.servers
        ],
    }


def _values(served: ServedRun, shard: ShardRow) -> dict[str, object]:
    worker = served.workers.get(shard.worker) if shard.is_served and shard.worker else None
    return {
        "state": served.work_on(shard).value,
        "worker": None if worker is None else _worker(worker, shard.since),
        "epoch": shard.epoch,
        "taken_over": shard.takeovers,
        "waits_for": shard.waits_for,
    }


def _worker(worker: Holder, since: datetime | None) -> dict[str, object]:
    return {
        "id": worker.worker,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "since": timestamp(since, "auto"),
    }


def lines(served: ServedRun) -> Iterator[str]:
    """Return a line per shard: server, site, state, worker, and since when."""
    rows = [
        (each.server or "(conductor)", each.site or "-", served.work_on(each).value)
        for each in served.shards
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells, shard in zip(rows, served.shards, strict=True):
        padded = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        yield f"{padded}{_by_whom(served, shard)}".rstrip()


def _by_whom(served: ServedRun, shard: ShardRow) -> str:
    worker = served.workers.get(shard.worker) if shard.worker else None
    work = served.work_on(shard)
    if worker is None or work is Work.DONE:
        return ""
    if work is Work.STALLED:
        silent = duration(LEASE_LIFE_S - (shard.lease_s or 0.0))
        who = f"{printable(worker.host, 80)} (process {worker.pid})"
        return f"  {who} has not renewed its lease for {silent}"
    since = "" if shard.since is None else f" since {time_of_day(shard.since)}"
    again = f", taken over {counted(shard.takeovers, 'time')}" if shard.takeovers else ""
    return f"  {printable(worker.host, 80)} (process {worker.pid}){since}{again}"
