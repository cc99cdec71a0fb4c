"""The chains of a run as its conductor reads them: again and again, whatever a failover loses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from orchestrator.app.sites.chain import KEPT_S
from orchestrator.app.sites.serving import new_events
from orchestrator.core.errors import JournalDamaged
from orchestrator.core.events import Event, ShardDamaged, from_json
from orchestrator.core.model import RunId, ServerName
from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.records import genesis, merged
from orchestrator.core.sites import CONDUCTOR, ChainHead


class Asked(Protocol):
    """Returns the database's answer, however long it is away; raises Fenced."""

    async def __call__(self, ask: Callable[[], Awaitable[Any]], /) -> Any:
        """Ask."""


class ChainReplaced(Exception):
    """Records were read that a failover has lost, and others stand there, or nobody writes them
    again: who read them begins anew."""


class ChainReader:
    """Reads what the chains of a run have that was not read yet."""

    def __init__(
        self, database: SitesDatabase, run: RunId, asked: Asked, clock: Callable[[], float]
    ) -> None:
        """Nothing was read yet. `clock` is this machine's, in seconds."""
        self._database, self._run, self._asked, self._clock = database, run, asked, clock
        self._read_to: dict[ServerName, ChainHead] = {}
        """Where each chain was read to."""
        self.heads: dict[ServerName, ChainHead] = {}
        """The same, without those of which the database has lost something since: what is written
        in its place may be another worker's, and something else."""
        self._missing_since: dict[ServerName, float] = {}
        self.unreadable: dict[ServerName, str] = {}
        """Chains of servers that are not what was written, and why."""
        self.is_readable = True
        """Whether the run's own chain is what was written."""

    @property
    def misses_some(self) -> bool:
        """Whether the database has lost something that was read, and has it not again yet."""
        return len(self.heads) < len(self._read_to)

    async def new_events(self, *, own: bool) -> Sequence[Event]:
        """Return what was not read; what is recorded from now on is later.

        `own`: also of the run's own chain. One that ends in ShardDamaged has only that.

        Raises:
            Fenced: another worker conducts.
            JournalDamaged: the run's own chain is not what was written.
            ChainReplaced: a server's is whole, and not what was read before, or stays shorter.
        """
        known: Mapping[ServerName, ChainHead] = await self._asked(
            partial(self._database.heads, self._run)
        )
        behind: dict[ServerName, ChainHead] = {}
        found: dict[ServerName, Sequence[Event]] = {}
        for chain in self._read_to:
            if chain not in known:
                self.heads.pop(chain, None)
        for chain, head in known.items():
            before = self._read_to.get(chain) or ChainHead(0, genesis(chain))
            if before == head and head.seq:
                self._note(chain, head)
            if before == head or (chain == CONDUCTOR and not own):
                continue
            if before.seq < head.seq:
                behind[chain] = before
                continue
            found[chain] = await self._last_words(chain, head) if head.seq else ()
            if found[chain]:
                self._note(chain, head)
            else:
                self._miss(chain)
        if not (behind or found):
            return []
        try:
            found.update(await self._read(behind))
        except JournalDamaged:
            for chain, before in behind.items():
                found[chain] = await self._read_alone(chain, before, known[chain])
        return list(merged({str(chain): events for chain, events in found.items()}))

    async def _read(
        self, behind: Mapping[ServerName, ChainHead]
    ) -> Mapping[ServerName, Sequence[Event]]:
        """Return the events of chains behind a place in each.

        Raises:
            JournalDamaged: one of them is not what was written.
        """
        read: Mapping[ServerName, tuple[Sequence[Event], ChainHead]] = await self._asked(
            partial(new_events, self._database, self._run, behind)
        )
        for chain, (_, end) in read.items():
            self._note(chain, end)
        return {chain: events for chain, (events, _) in read.items()}

    async def _read_alone(
        self, chain: ServerName, before: ChainHead, head: ChainHead
    ) -> Sequence[Event]:
        """Return the events of a chain that may be damaged; `head` is its end, or was."""
        try:
            return (await self._read({chain: before}))[chain]
        except JournalDamaged as exc:
            if chain == CONDUCTOR:
                self.is_readable = False
                raise
            if before.seq and await self._is_whole(chain):
                raise ChainReplaced(str(exc)) from exc
            self._note(chain, head)
            words = await self._last_words(chain, head)
            if not words:
                self.unreadable[chain] = str(exc)
            return words

    async def _is_whole(self, chain: ServerName) -> bool:
        """Return whether all of a chain is what was written, though not what was read of it."""
        start = {chain: ChainHead(0, genesis(chain))}
        try:
            await self._asked(partial(new_events, self._database, self._run, start))
        except JournalDamaged:
            return False
        return True

    def _note(self, chain: ServerName, head: ChainHead) -> None:
        self._read_to[chain] = self.heads[chain] = head
        self._missing_since.pop(chain, None)

    def _miss(self, chain: ServerName) -> None:
        """Wait until what the database has lost is written again, while its writer may know it.

        Raises:
            ChainReplaced: it knows it no more: another one has gone on from what was left.
        """
        self.heads.pop(chain, None)
        now = self._clock()
        if now - self._missing_since.setdefault(chain, now) > KEPT_S:
            raise ChainReplaced(f"nobody has written again what was lost of {chain}")

    async def _last_words(self, chain: ServerName, head: ChainHead) -> Sequence[Event]:
        """Return how a chain ends that nobody goes on with; nothing if it does not end so."""
        read = partial(self._database.records, self._run, {chain: head.seq - 1})
        last, kind = await self._asked(read), ShardDamaged.__name__
        return [from_json(kind, each.body) for each in last.get(chain, ()) if each.kind == kind]
