"""Who works on a run over several machines, and what nobody does and why, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from msgspec import Struct

from orchestrator.core.model import ServerName
from orchestrator.core.sites import (
    CONDUCTOR,
    LEASE_LIFE_S,
    Holder,
    RunRow,
    ShardRow,
    ShardState,
    WorkerId,
)
from orchestrator.core.text import counted


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
