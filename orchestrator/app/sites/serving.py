"""What one worker serves with: its database, its commits, its machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import anyio
from msgspec import Struct

from orchestrator.app.sites.commit_stream import CommitStream
from orchestrator.app.sites.stored_plan import loaded_plan
from orchestrator.app.wiring import Plan, World, in_a_thread
from orchestrator.core.earlier_runs.durations import past_durations
from orchestrator.core.earlier_runs.naming import NO_NAMING, Naming, urls_of
from orchestrator.core.earlier_runs.systems import NO_SYSTEMS
from orchestrator.core.errors import JournalDamaged
from orchestrator.core.events import Event, RunStarted, from_json
from orchestrator.core.model import RunId, ServerName
from orchestrator.core.ports.journal import Baselines, Durations, Proofs, Systems
from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.ports.store import Store
from orchestrator.core.records import Record, chain_hash, genesis
from orchestrator.core.sites import ChainHead, Submission, WorkerFacts

if TYPE_CHECKING:
    from orchestrator.database.sealing import Sealer

READ_AT_ONCE = 5000
"""Records that one question returns, over all chains."""

READ_AT_LEAST = 100
"""Records of each chain that it returns, however many they are."""


class EarlierRuns(Struct, frozen=True, kw_only=True):
    """What earlier runs say of the machines of one run."""

    durations: Durations = past_durations((), NO_NAMING)
    baselines: Baselines | None = None
    proofs: Proofs | None = None
    systems: Systems = NO_SYSTEMS


class Serving(Struct, frozen=True, kw_only=True):
    """The parts that everything a worker serves has in common."""

    worker: WorkerFacts
    database: SitesDatabase
    stream: CommitStream
    world: World
    clock: Callable[[], float]
    """This machine's, in seconds; it goes on while the machine sleeps."""
    sealer: Sealer | None = None
    """What seals tokens of sessions; None: they are not kept, and nobody can take a shard over."""
    history: Store | None = None
    """Where earlier runs are read; None: nothing is known of any."""

    async def earlier_runs(self, run: SubmittedRun) -> EarlierRuns:
        """Return what earlier runs say that matters to one, as of its beginning.

        It is read once for all shards of the run: that takes long where there are many runs.

        Raises:
            DatabaseAway: try again.
        """
        async with run.reading:
            if run.earlier is None:
                run.earlier = await self._earlier_runs(run)
        return run.earlier

    async def _earlier_runs(self, run: SubmittedRun) -> EarlierRuns:
        history = self.history
        if history is None:
            return EarlierRuns()

        def read() -> EarlierRuns:
            naming, started = run.naming, run.started
            proofs = None
            if run.source.plan.samples_stalest:
                proofs = history.proofs(before=started.started_at, naming=naming)
            return EarlierRuns(
                durations=history.durations(naming),
                baselines=history.baselines(before=started.run, naming=naming)
                if started.compares_with_earlier
                else None,
                proofs=proofs,
                systems=history.systems(naming),
            )

        return read() if self.world.inline else await in_a_thread(read)


class SubmittedRun:
    """A run as it was submitted, read once for all of its shards."""

    def __init__(self, submission: Submission) -> None:
        """The plan is loaded when it is first asked for."""
        self.submission = submission
        self.reading = anyio.Lock()
        """Held by who reads what earlier runs say."""
        self.earlier: EarlierRuns | None = None
        """That, once it is read."""

    @property
    def started(self) -> RunStarted:
        """The run's first record."""
        return self.submission.started

    @cached_property
    def source(self) -> Plan:
        """The plan, from the bytes that were submitted."""
        return loaded_plan(self.submission)

    @property
    def naming(self) -> Naming:
        """How the run calls its servers."""
        return Naming(urls=urls_of(self.started.servers))

    @property
    def options(self) -> Mapping[str, object]:
        """The options of the command that submitted it."""
        return self.submission.options


async def chain_events(
    database: SitesDatabase, run: RunId, chain: ServerName
) -> tuple[Sequence[Event], ChainHead]:
    """Return the events of a chain, and its end.

    Raises:
        JournalDamaged: names the first record that is not what was written.
    """
    found = await new_events(database, run, {chain: ChainHead(0, genesis(chain))})
    return found[chain]


async def new_events(
    database: SitesDatabase, run: RunId, behind: Mapping[ServerName, ChainHead]
) -> Mapping[ServerName, tuple[Sequence[Event], ChainHead]]:
    """Return the events of chains behind a place in each, and where each of them ends.

    One question for all of them, as long as they are short: the database may be far away.

    Raises:
        JournalDamaged: names the first record that is not what was written.
    """
    events: dict[ServerName, list[Event]] = {chain: [] for chain in behind}
    ends = dict(behind)
    left = set(behind)
    while left:
        most = max(READ_AT_ONCE // len(left), READ_AT_LEAST)
        found = await database.records(run, {chain: ends[chain].seq for chain in left}, most=most)
        for chain, records in found.items():
            for record in records:
                ends[chain] = _checked(record, chain, ends[chain])
                events[chain].append(from_json(record.kind, record.body))
        left = {chain for chain, records in found.items() if len(records) == most}
    return {chain: (events[chain], ends[chain]) for chain in behind}


def _checked(record: Record, chain: ServerName, before: ChainHead) -> ChainHead:
    """Return the place behind a record.

    Raises:
        JournalDamaged: it is not what was written there.
    """
    head = chain_hash(before.hash, record.run, record.seq, record.kind, record.body)
    if record.seq != before.seq + 1 or record.hash != head:
        named = f"record {record.seq} of {chain or 'the run'}"
        raise JournalDamaged(f"{named} in run {record.run} is not what was written")
    return ChainHead(record.seq, head)
