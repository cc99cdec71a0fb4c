"""Who works on a run over several machines, and what nobody does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from orchestrator.core.errors import RunNotFound
from orchestrator.core.model import RunId, ServerName
from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.sites import (
    CONDUCTOR,
    LEASE_LIFE_S,
    Holder,
    RunRow,
    ShardRow,
    ShardState,
    WorkerId,
)
from orchestrator.core.text import counted, duration, printable, time_of_day, timestamp


class Work(StrEnum):
    """What happens to a shard."""

    WAITING = "waiting"
    """It is offered, and nobody serves it."""
    STALLED = "stalled"
    """Its worker has not renewed its lease in time, and nobody has taken that yet."""
    SERVED = "served"
    HELD = "held"
    """It is served, and only keeps mounts open."""
    DONE = "done"


class ServedRun(Struct, frozen=True, kw_only=True):
    """A run as the database has it at one moment, and the workers that live."""

    row: RunRow
    shards: tuple[ShardRow, ...]
    workers: Mapping[WorkerId, Holder]

    @property
    def conductor(self) -> ShardRow:
        """The shard that is no server's."""
        return next(each for each in self.shards if each.server == CONDUCTOR)

    @property
    def servers(self) -> tuple[ShardRow, ...]:
        """The shards of the servers."""
        return tuple(each for each in self.shards if each.server != CONDUCTOR)

    def work_on(self, shard: ShardRow) -> Work:
        """Return what happens to a shard."""
        if shard.is_served:
            return Work.HELD if shard.state is ShardState.HOLDING else Work.SERVED
        if shard.state is ShardState.DONE:
            return Work.DONE
        return Work.WAITING if shard.worker is None else Work.STALLED

    @property
    def served(self) -> frozenset[ServerName]:
        """The servers, and the conductor, on which a worker with a lease that lives works."""
        return frozenset(each.server for each in self.shards if each.is_served)

    def has_worker(self, site: str | None) -> bool:
        """Tell whether a worker lives that serves a site; of the conductor, any."""
        return any(
            each.seen_s < LEASE_LIFE_S and (site is None or site in each.sites)
            for each in self.workers.values()
        )

    def what_waits(self) -> Iterator[str]:
        """Say, for a person, what nobody does, and why."""
        unserved = {Work.WAITING, Work.STALLED}
        waiting = [each for each in self.shards if self.work_on(each) in unserved]
        if not self.row.is_open and not self.row.unmount:
            waiting = []
        by_reason: dict[str, list[ShardRow]] = {}
        for each in waiting:
            by_reason.setdefault(self._why_waiting(each), []).append(each)
        for why, shards in by_reason.items():
            servers = [each for each in shards if each.server != CONDUCTOR]
            if servers:
                verb = "waits" if len(servers) == 1 else "wait"
                yield f"{counted(len(servers), 'shard')} {verb}: {why}"
            if len(servers) < len(shards):
                yield f"the conductor waits: {why}"

    def _why_waiting(self, shard: ShardRow) -> str:
        if shard.waits_for is not None:
            return f"run {shard.waits_for} mounts on the same server"
        if not self.has_worker(shard.site):
            return f"no worker serves site {shard.site}" if shard.site else "no worker lives"
        return "the workers that live have not taken it yet, or have no room: it gets its turn"


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
